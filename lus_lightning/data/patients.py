"""Who is who: one patient written in two ways, two names that look alike, and one file under two patients or with two labels."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final

import pandas as pd

from lus_lightning.errors import UserError
from lus_lightning.labels import SIGNS

_INVISIBLE: Final = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad"))
_LATIN: Final = str.maketrans("АВЕКМНОРСТУХІЈЅавекмнорстухіјѕΑΒΕΖΗΙΚΜΝΟΡΤΥΧαοιν", "ABEKMHOPCTYXIJSabekmhopctyxijsABEZHIKMNOPTYXaoiv")
"""Cyrillic and Greek letters that look like Latin ones."""
_SHOWN: Final = 5


def one_spelling(names: Iterable[str | None]) -> list[str | None]:
    """Names as they are meant: full-width forms as plain ones, odd spaces as one, nothing invisible; 7.0 as 7 where no 7.5 is there."""
    plain = [None if n is None else " ".join(unicodedata.normalize("NFKC", n).translate(_INVISIBLE).split()) or None for n in names]
    if any(n is not None and re.fullmatch(r"\d+\.\d*[1-9]\d*", n) for n in plain):
        return plain
    return [None if n is None else re.sub(r"^(\d+)\.0+$", r"\1", n) for n in plain]


def look_alikes(names: Iterable[str]) -> list[list[str]]:
    """Groups of different names that differ by case, spaces, leading zeros or look-alike letters alone."""
    groups: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        key = re.sub(r"\s", "", name.translate(_LATIN).casefold())
        groups.setdefault(re.sub(r"0*(\d+)", r"\1", key), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def check_sides(split: pd.DataFrame, distinct: Sequence[str]) -> None:
    """Refuse a division that puts patients whose names look alike on two sides, or into two folds.

    Args:
        split: `patient`, `split`, `fold`.
        distinct: patients who are known to be different people.

    Raises:
        UserError: it does.
    """
    where = split.drop_duplicates(["patient", "split", "fold"]).set_index("patient")
    for group in look_alikes(set(split["patient"]) - set(distinct)):
        if len(where.loc[group].drop_duplicates()) > 1:
            told = " and ".join(map(repr, group))
            raise UserError(
                f"patients {told} look alike and would stand on two sides: if they are one person, write one name in the table; if not, say"
                f" --data.init_args.split.distinct='[{', '.join(group)}]'"
            )


def label_text(clips: pd.DataFrame) -> pd.Series:
    """What is known of each clip, in words: `score 2`, `a_lines 1, b_lines 0`, raters; empty where nothing is."""
    columns = [c for c in ("score", *SIGNS, *(c for c in clips if str(c).startswith("rater_"))) if c in clips]
    rows = ([f"{c} {int(v)}" for c, v in zip(columns, row, strict=True) if not pd.isna(v)] for row in clips[columns].to_numpy(object))
    return pd.Series([", ".join(row) for row in rows], clips.index, dtype=object)


def same_files(clips: pd.DataFrame, hashes: Sequence[str], source: str) -> list[str]:
    """Sentences on clips of one patient and label that hold the same file.

    Args:
        clips: an index.
        hashes: of each clip's file.
        source: what to name in messages.

    Raises:
        UserError: a file stands under two patients, or with two labels.
    """
    rows = clips[["clip", "path", "patient"]].assign(label=label_text(clips), content=list(hashes))
    notes = []
    for _, group in rows[rows["content"].duplicated(keep=False)].groupby("content", sort=False):
        first = group.iloc[0]
        for column, what in (("patient", "two patients"), ("label", "two labels")):
            if len(other := group[group[column] != first[column]]):
                second = other.iloc[0]
                raise UserError(
                    f"{source}: the clips {first['clip']} ({first['path']}) and {second['clip']} ({second['path']}) hold the same file"
                    f" under {what}: {first[column] or 'none'} and {second[column] or 'none'}; take one of the two rows out, or correct it"
                )
        notes.append(f"{len(group)} clips of patient {first['patient']} hold the same file: {listed(group['clip'])}")
    return notes


def listed(names: Iterable[object]) -> str:
    """The first few of many, in words."""
    every = list(map(str, names))
    return ", ".join(every[:_SHOWN]) + (f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else "")
