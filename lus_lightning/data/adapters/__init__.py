"""Known layouts of data folders, one module each.

An adapter is a module with `matches(root) -> bool`, which looks at names only, and `read(root) -> (table, left_out)`: the sample index
as far as the layout tells (see `lus_lightning.data.schema`), and what of it is left out (`path`, `reason`). `table.attrs` may hold
`source`, the file that a mistake is to be looked for in, `read`, the files that were read (all else that no row names is told as not read),
and `notes`, what the user should know of how they were read. A new layout is a new file here and a line in `ADAPTERS`.
"""

from pathlib import Path
from types import ModuleType
from typing import Final

from lus_lightning.data.adapters import clips, covid_blues, pocus, san_matteo, simulated, table
from lus_lightning.data.cells import TABLE_SUFFIXES
from lus_lightning.data.patients import listed
from lus_lightning.data.readers import visible
from lus_lightning.data.unread import dicom_files
from lus_lightning.errors import UserError

ADAPTERS: Final[dict[str, ModuleType]] = {
    "simulated": simulated,
    "covid-blues": covid_blues,
    "pocus": pocus,
    "san-matteo": san_matteo,
    "table": table,
    "clips": clips,
}
"""In the order in which they are tried: the most particular first."""


def choose(root: Path, name: str | None) -> ModuleType:
    """The adapter of that name, or the first whose layout lies in the folder.

    Raises:
        UserError: there is no such adapter, or no layout is recognised.
    """
    if name is not None and name not in ADAPTERS:
        raise UserError(f"there is no adapter {name!r}; choose one of {', '.join(ADAPTERS)}")
    if name is not None:
        return ADAPTERS[name]
    for adapter in ADAPTERS.values():
        if adapter.matches(root):
            return adapter
    tables = sorted(p.name for p in root.iterdir() if p.suffix.lower() in TABLE_SUFFIXES and visible(p.name))
    if len(tables) > 1:
        raise UserError(f"{root} holds several tables ({listed(tables)}); call the one with the columns clip, path, patient index.csv")
    if dicom := dicom_files(root):
        raise UserError(
            f"{root} holds {len(dicom)} DICOM file(s), such as {dicom[0]}, and no clip that is read: DICOM is not read"
            " yet; convert it to MP4 or PNG first"
        )
    raise UserError(
        f"{root} has no layout that is known ({', '.join(ADAPTERS)}); write an index.csv there with the columns clip, path, patient"
    )
