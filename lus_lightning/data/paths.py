"""Which file of the data folder a table means: written on Windows, in another Unicode form or case, or without its suffix."""

import os
import re
import unicodedata
from pathlib import Path
from typing import Final

import pandas as pd

from lus_lightning.data.annotations import annotation_file
from lus_lightning.data.patients import listed
from lus_lightning.data.readers import CLIP_SUFFIXES, visible
from lus_lightning.data.schema import FILES

_DRIVE: Final = re.compile(r"^[A-Za-z]:(?=[\\/])")


def as_they_are(table: pd.DataFrame, folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """The table with its files named as they stand in the folder, and sentences on what was taken as what, or could mean two files.

    A path that is found as it is written stays, and so does one that is not found at all. Else `\\` is `/`, spaces around are dropped,
    Unicode form and case are free, a clip may lack its suffix, and of an absolute path (or one from Windows) the longest tail that is
    in the folder is taken; each only where it leaves one file, and a tail that two rows would share is not taken.
    """
    found, look = table.copy(), _Folder(folder)
    notes = []
    for column in [c for c in FILES if c in table]:
        written = [v if isinstance(v, str) and v.strip() else None for v in table[column]]
        meant = [None if text is None else look.named(text, suffix_free=column == "path") for text in written]
        meant = [old if new in look.tails and meant.count(new) > 1 else new for old, new in zip(written, meant, strict=True)]
        found[column] = pd.Series(meant, table.index, dtype=object)
        pairs = [(old, new) for old, new in zip(written, meant, strict=True) if old != new]
        if pairs:
            notes.append(f"in column `{column}` {len(pairs)} are taken as files that are here: "
                         f"{listed(_told(old, new) for old, new in pairs)}")  # fmt: skip
    found.attrs = dict(table.attrs)
    return found, notes + ([f"a path could mean several files; write the one that is meant: {listed(look.unsure)}"] if look.unsure else [])


class _Folder:
    """Looks files up, listing each folder once."""

    def __init__(self, root: Path) -> None:
        self.root, self.unsure, self.tails = root, list[str](), set[str]()
        self._lists: dict[str, dict[str, list[str]]] = {}

    def named(self, text: str, suffix_free: bool) -> str:
        """The path of the file that is meant, relative and with `/`; the text itself where there is none, or several."""
        file, part = (str(x) for x in annotation_file(Path(text)))
        absolute, windows = bool(_DRIVE.match(text)) or text.startswith(("/", "\\")), "\\" in text
        if not absolute and not windows and os.path.exists(self.root / file):
            return text
        if absolute and os.path.exists(file):  # in the folder, or elsewhere
            roots = (Path(os.path.abspath(self.root)), Path(os.path.realpath(self.root)))
            return next((str(Path(file).relative_to(root)) for root in roots if Path(file).is_relative_to(root)), text)
        parts = [p for p in re.split(r"[\\/]", _DRIVE.sub("", file.strip())) if p not in ("", ".")]
        if ".." in parts:
            return text
        for start in range(len(parts) if absolute or windows else 1):
            matches = self._matches("", parts[start:], suffix_free)
            if len(matches) > 1:
                self.unsure.append(f"'{text}' is {' or '.join(matches)}")
                return text
            if matches:
                name = matches[0] + (f"#{part}" if part else "")
                self.tails |= {name} if start else set()
                return name
        return text

    def _matches(self, place: str, parts: list[str], suffix_free: bool) -> list[str]:
        """Paths below `place` that the parts may mean: exactly, else in another form or case, else with a suffix of clips."""
        if not parts:
            return [place]
        here = f"{place}/" if place else ""
        if os.path.exists(self.root / here / parts[0]):
            names = [parts[0]]
        else:
            names = self._names(place).get(_plain(parts[0]), [])
            if not names and suffix_free and len(parts) == 1:
                every = [name for group in self._names(place).values() for name in group]
                names = [n for n in every if Path(n).suffix.lower() in CLIP_SUFFIXES and _plain(Path(n).stem) == _plain(parts[0])]
        return [match for name in sorted(names) for match in self._matches(here + name, parts[1:], suffix_free)]

    def _names(self, place: str) -> dict[str, list[str]]:
        if place not in self._lists:
            self._lists[place] = {}
            folder = self.root / place
            for name in os.listdir(folder) if folder.is_dir() else []:
                if visible(name):
                    self._lists[place].setdefault(_plain(name), []).append(name)
        return self._lists[place]


def _told(old: str | None, new: str | None) -> str:
    same = unicodedata.normalize("NFC", str(old)) == unicodedata.normalize("NFC", str(new))
    return f"'{old}' as {new}" + (" (the same letters in another Unicode form)" if same else "")


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
