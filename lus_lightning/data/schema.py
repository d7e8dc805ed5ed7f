"""The door of the package: the columns of a sample index, and the check that every table passes."""

import unicodedata
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pandas as pd

from lus_lightning.data.patients import one_spelling
from lus_lightning.data.tables import SCORE_RULE, SIGN_RULE, need_columns, numbers
from lus_lightning.errors import UserError
from lus_lightning.labels import SCORES, SIGNS, STANDARDS, ZONES

NAMES: Final = ("clip", "patient", "exam", "zone", "protocol", "diagnosis", "standard", "orientation", "probe", "scanner", "site")
FILES: Final = ("path", "mask", "frame_labels")
LABELS: Final = ("score", *SIGNS)
MEASURES: Final = ("frames", "height", "width", "fps", "mm_per_px")
NO_SAMPLES: Final = ("black_frames", "frozen_frames")
"""Frame numbers as text, `0-2 13`: see `data.shown`."""
MASKED: Final = "mask_frames"
"""The frames that have masks, in the same way, where not all have."""
COLUMNS: Final = (
    "clip", "path", *NAMES[1:6], "score", "standard", *SIGNS, *NAMES[7:], *MEASURES, *NO_SAMPLES, "mask", MASKED, "frame_labels",
)  # fmt: skip
"""Columns of every sample index, in order; `rater_*`, `truth_*` and `geometry_*` may follow."""
GEOMETRY: Final = tuple(f"geometry_{c}" for c in ("aperture", "radius_mm", "depth_mm", "top_mm", "left_mm", "apex_column", "apex_row"))
"""Where the scan lines lie in the picture, see `data.geometry.Geometry`; lengths are pixels where `mm_per_px` is missing."""

PREFIXES: Final = ("rater_", "truth_")
"""What further columns begin with."""
_PROTOCOL_RULE: Final = f"a protocol is {', '.join(ZONES)}, or empty (zones may then have any name)"
_PLACE: Final = "must be relative to the data folder, written with /"


def check_index(table: pd.DataFrame, source: str = "the sample index") -> pd.DataFrame:
    """A checked copy: all columns there and of one type, names stripped and in one Unicode form, patients and exams in one spelling
    (`patients.one_spelling`), strange columns gone.

    Names and files are str or None, scores, signs and raters Int64, measures float (missing: NaN); `exam` defaults to the patient. Messages
    count data rows from 1.

    Args:
        table: at least `clip`, `path` and `patient`, as strings or typed.
        source: the file to name in messages.

    Raises:
        UserError: a needed column or value is missing, a value is outside its range, a clip or exam name is not unique, zones do not
            belong to their protocol, or two scoring standards are mixed.
    """
    need_columns(table, {"clip", "path", "patient"}, source)
    if table.empty:
        raise UserError(f"{source}: has no rows; give one row per clip")
    extra = sorted(c for c in map(str, table.columns) if c.startswith(PREFIXES) or c in GEOMETRY)
    checked = table.reset_index(drop=True).reindex(columns=[*COLUMNS, *extra])
    for column in [*COLUMNS, *extra]:
        if column in (*NAMES, *FILES, *NO_SAMPLES, MASKED):
            checked[column] = _strings(checked[column], tidy=column in NAMES)
        elif not column.startswith("truth_"):
            checked[column] = _numbers(checked, column, source)
        else:
            checked[column] = pd.to_numeric(checked[column], errors="coerce")
    places = zip(checked["zone"], checked["protocol"], strict=True)
    spelled = {"standard": [_spelled(name, STANDARDS) for name in checked["standard"]],
               "zone": [_spelled(zone, ZONES.get(protocol, ())) for zone, protocol in places]}  # fmt: skip
    for column, names in spelled.items():
        checked[column] = pd.Series(names, checked.index, dtype=object)
    for column in ("patient", "exam"):
        checked[column] = pd.Series(one_spelling(list(checked[column])), checked.index, dtype=object)
    checked["exam"] = checked["exam"].where(checked["exam"].notna(), checked["patient"])
    _validate(checked, source)
    whole = [c for c in [*COLUMNS, *extra] if c in LABELS or c.startswith("rater_") or c == "truth_score"]
    return checked.astype(dict.fromkeys(whole, "Int64"))


def _strings(values: pd.Series, tidy: bool) -> pd.Series:
    def text(value: Any) -> str | None:
        if pd.isna(value):
            return None
        # A float that stands for a number read from a table with gaps: patient 7.0 is patient 7.
        name = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
        return (unicodedata.normalize("NFC", name.strip()) if tidy else name) or None

    return pd.Series([text(v) for v in values], values.index, object)


def _spelled(name: str | None, known: tuple[str, ...]) -> str | None:
    """The known name that differs from this one by case alone, else this one."""
    return next((k for k in known if name is not None and k.casefold() == name.casefold()), name)


def _numbers(table: pd.DataFrame, column: str, source: str) -> pd.Series:
    found, wrong = numbers(table[column], yes_no=column in SIGNS)
    if wrong.any():
        score = column == "score" or column.startswith("rater_")
        remedy = SCORE_RULE if score else SIGN_RULE if column in SIGNS else "give a finite number, or leave it empty"
        raise UserError(_sentence(table, source, column, int(np.flatnonzero(wrong)[0]), remedy))
    return found


def _validate(table: pd.DataFrame, source: str) -> None:
    import pandera.pandas as pa  # half a second that --help does not owe

    def rule(test: Callable[[pd.Series], Any], message: str) -> pa.Check:
        return pa.Check(test, error=message)

    def among(values: tuple[Any, ...], message: str) -> pa.Check:
        return rule(lambda column: column.isin(values), message)

    positive = rule(lambda column: column > 0, "give a positive number, or leave it empty")
    score = pa.Column(float, among(SCORES, SCORE_RULE), nullable=True)
    schema = pa.DataFrameSchema(
        {
            "clip": pa.Column(object, rule(lambda c: ~c.duplicated(), "another row has this clip name; give every clip its own")),
            "path": pa.Column(object, rule(lambda c: ~c.map(_strays), _PLACE)),
            "patient": pa.Column(object),
            **{c: pa.Column(object, rule(lambda c: ~c.map(_strays), _PLACE), nullable=True) for c in FILES[1:]},
            "protocol": pa.Column(object, among(tuple(ZONES), _PROTOCOL_RULE), nullable=True),
            "standard": pa.Column(object, among(STANDARDS, f"a standard is {', '.join(STANDARDS)}, or empty"), nullable=True),
            "score": score,
            r"rater_.*": pa.Column(float, among(SCORES, SCORE_RULE), nullable=True, regex=True, required=False),
            **{c: pa.Column(float, among((0, 1), SIGN_RULE), nullable=True) for c in SIGNS},
            "mm_per_px": pa.Column(float, positive, nullable=True),
            r"geometry_(aperture|depth_mm)": pa.Column(float, positive, nullable=True, regex=True, required=False),
            "geometry_radius_mm": pa.Column(float, rule(lambda c: c >= 0, "a radius is 0 or more"), nullable=True, required=False),
        }
    )
    try:
        schema.validate(table, lazy=True)
    except pa.errors.SchemaErrors as error:
        first = error.failure_cases.dropna(subset="index").sort_values(["index", "column"], kind="stable").iloc[0]
        remedy = "fill it in" if first["check"] == "not_nullable" else first["check"]
        raise UserError(_sentence(table, source, first["column"], int(first["index"]), remedy)) from None
    _validate_across(table, source)


def _validate_across(table: pd.DataFrame, source: str) -> None:
    """Rules between columns and between rows."""
    scored = table["score"].notna() | table["frame_labels"].notna()
    known = [
        (zone is None or protocol is None or zone in ZONES[protocol])
        for zone, protocol in zip(table["zone"], table["protocol"], strict=True)
    ]
    owners = table.groupby("exam")["patient"].transform("nunique")
    rules: list[tuple[str, pd.Series, str]] = [
        ("standard", scored & table["standard"].isna(), f"a score needs its standard; write one of {', '.join(STANDARDS)}"),
        ("standard", ~table["standard"].isin([None, *table["standard"].dropna()[:1]]), "rows above have another standard, and 0-3 means"
         " something else in each; make one table of each"),
        ("zone", ~pd.Series(known), "its protocol has no such zone{zones}; correct it, or leave the protocol empty"),
        ("exam", owners > 1, "two patients share this exam name; give every exam its own"),
    ]  # fmt: skip
    if "geometry_aperture" in table:
        wide = (table["geometry_aperture"] >= np.pi / 2) & (table["probe"] != "linear")
        rules.append(("geometry_aperture", wide, "it is half the opening angle in radians (half the width in mm for a linear probe)"))
    for column, wrong, remedy in rules:
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            zones = f" (its zones are {', '.join(ZONES[table['protocol'].iloc[row]])})" if column == "zone" else ""
            raise UserError(_sentence(table, source, column, row, remedy.format(zones=zones)))


def _sentence(table: pd.DataFrame, source: str, column: str, row: int, remedy: str) -> str:
    value = table[column].iloc[row]
    shown = "empty" if pd.isna(value) else f"{value:g}" if isinstance(value, float) else repr(value)
    return f"{source}, row {row + 1} (clip {table['clip'].iloc[row]}): column `{column}` is {shown}; {remedy}"


def _strays(path: str) -> bool:
    return path.startswith(("/", "~")) or "\\" in path or ".." in path.split("/") or path[1:2] == ":"
