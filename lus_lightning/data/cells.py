"""The rows of a table as people save it: Excel's `.xlsx`, or text of any usual separator and encoding."""

import codecs
import csv
import io
import re
import warnings
from pathlib import Path
from typing import Any, Final

from lus_lightning.errors import UserError

TABLE_SUFFIXES: Final = (".csv", ".tsv", ".xlsx", ".xlsm")
_SEPARATORS: Final = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_MARKS: Final = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32", codecs.BOM_UTF16_LE: "utf-16",
                 codecs.BOM_UTF16_BE: "utf-16"}  # fmt: skip
"""UTF-32's mark begins with that of UTF-16, so it comes first."""
_ZIP, _OLD_EXCEL = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"

Rows = list[list[str]]


def read_cells(path: Path) -> tuple[Rows, list[str]]:
    """The rows of a table, the heading first, and what is to be said of how they were read.

    Rows without content are gone, and so are empty cells at the end of a row. Of a workbook the first sheet with content is read.

    Raises:
        UserError: the file cannot be read, is empty, or is no table; its message begins with the path.
    """
    try:
        content = path.read_bytes()
        if content.startswith(_OLD_EXCEL):
            raise UserError("is a workbook of an old kind (.xls) or locked by a password; save it as .xlsx or CSV")
        rows, said = _workbook(content) if content.startswith(_ZIP) else _text(content)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read as a table ({error.strerror}); give a CSV file with a heading") from None
    trimmed = [_trimmed(row) for row in rows]
    filled = [row for row in trimmed if row]
    if not filled:
        raise UserError(f"{path}: cannot be read as a table (it is empty); give a CSV file with a heading")
    last = max(i for i, row in enumerate(trimmed) if row)
    blank = last + 1 - len(filled)
    return filled, said + ([f"without its {blank} blank row(s)"] if blank else [])


def _trimmed(row: list[str]) -> list[str]:
    """The row up to its last cell with content."""
    last = max((i for i, cell in enumerate(row) if cell.strip()), default=-1)
    return row[: last + 1]


def _text(content: bytes) -> tuple[Rows, list[str]]:
    text, said = _decoded(content)
    if "\0" in text:
        raise UserError("is not text, so it cannot be read as a table; save it as CSV or .xlsx")
    named = re.match(r'\s*"?sep=(.)"?[^\S\r\n]*(\r\n|\r|\n|$)', text, re.IGNORECASE)  # Excel's own line, and no data
    readings, wrong = {}, ""
    for separator in [named[1]] if named else list(_SEPARATORS):
        try:
            readings[separator] = _divided(text[named.end() :] if named else text, separator)
        except csv.Error as error:
            wrong = wrong or str(error)
    separator = max(readings, key=lambda s: _agreement(readings[s]), default="")
    if wrong and _agreement(readings.get(separator, [])) == (0, 0):
        raise UserError(f"cannot be read as a table ({wrong}); see whether each cell that begins with a quote ends with one")
    rows = readings[separator]
    return rows, said + ([f"separated by {_SEPARATORS.get(separator, repr(separator))}"] if separator != "," and rows else [])


def _decoded(content: bytes) -> tuple[str, list[str]]:
    """The text, and its encoding where that is not UTF-8.

    Raises:
        UserError: the encoding is not known.
    """
    marked = next((name for mark, name in _MARKS.items() if content.startswith(mark)), None)
    if marked is None and b"\0" in content[:4]:  # of a heading in UTF-16 every second byte is zero
        marked = "utf-16-be" if content[0] == 0 else "utf-16-le"
    for encoding in [marked] if marked else ["utf-8", "cp1252"]:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if encoding != "cp1252":
            return text, [] if encoding.startswith("utf-8") else [f"as {encoding.upper()}"]
        # Every byte has a letter in other encodings too, so a word of it is shown.
        word = next(w for w in re.split(r'[\s,;|"]+', text) if not w.isascii())
        return text, [f"as Windows-1252, not UTF-8 (is {word!r} right?)"]
    raise UserError("cannot be read as a table: it is neither UTF-8, UTF-16 nor Windows-1252; save it as UTF-8")


def _divided(text: str, separator: str) -> Rows:
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=separator != "\t", strict=True))


def _agreement(rows: Rows) -> tuple[int, int]:
    """How well a separator divides a table: rows with a cell for each heading, and headings; (0, 0) where it divides no heading."""
    filled = [row for row in rows if any(cell.strip() for cell in row)]
    headings = len(_trimmed(filled[0])) if filled else 0
    return (sum(len(row) >= headings for row in filled[1:]), headings) if headings > 1 else (0, 0)


def _workbook(content: bytes) -> tuple[Rows, list[str]]:
    import openpyxl  # a tenth of a second that other tables do not owe

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on styles and menus that it does not know
            values, formulas = (openpyxl.load_workbook(io.BytesIO(content), data_only=data_only) for data_only in (True, False))
    except Exception as error:  # whatever it meets in a damaged file
        raise UserError(f"cannot be read as a workbook ({error or type(error).__name__}); save it again as .xlsx or CSV") from None
    sheets = [sheet for sheet in values.worksheets if any(cell is not None for row in sheet.values for cell in row)]
    if not sheets:
        return [], []
    sheet = sheets[0]
    cells = list(sheet.iter_rows(min_row=1, min_col=1))
    for row in cells:
        for cell in row:
            if cell.value is None and str(formulas[sheet.title][cell.coordinate].value or "").startswith("="):
                raise UserError(
                    f"cell {cell.coordinate} holds a formula without its value; open it in Excel and save it, or save it as CSV"
                )
    rows = [[_cell(cell.value) for cell in row] for row in cells]
    for area in sheet.merged_cells.ranges:
        for number, column in area.cells:
            rows[number - 1][column - 1] = _cell(sheet.cell(area.min_row, area.min_col).value)
    said = ["as a workbook"] + (["with the value of merged cells in each of them"] if sheet.merged_cells.ranges else [])
    return rows, said + ([f"of its sheets only {sheet.title!r}"] if len(sheets) > 1 else [])


def _cell(value: Any) -> str:
    """A cell as one would write it in CSV: whole numbers without a point, true and false in lower case."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
