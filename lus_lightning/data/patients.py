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


def check_sides(split: pd.DataFrame, clips: pd.DataFrame, distinct: Sequence[str]) -> None:
    """Refuse a division that may put one person on two sides, or into two folds: names that look alike, or one file under two names.

    Args:
        split: `patient`, `split`, `fold`.
        clips: `patient` and `file` (hash) of each clip.
        distinct: patients who are known to be different people.

    Raises:
        UserError: it does.
    """
    where = split.drop_duplicates(["patient", "split", "fold"]).set_index("patient")[["split", "fold"]]
    here = clips[clips["patient"].isin(where.index) & ~clips["patient"].isin(list(distinct))]
    shared = here.groupby("file")["patient"].agg(lambda names: sorted(set(names)))
    groups = [(group, "look alike") for group in look_alikes(here["patient"])]
    groups += [(group, "have the same file") for group in shared[shared.map(len) > 1]]
    for group, what in groups:
        if len(where.loc[group].drop_duplicates()) > 1:
            raise UserError(
                f"patients {' and '.join(map(repr, group))} {what} and would stand on two sides: if they are one person, write one name in"
                f" the table; if not, say --data.init_args.split.distinct='[{', '.join(group)}]'"
            )


def label_text(clips: pd.DataFrame) -> pd.Series:
    """What is known of each clip, in words: `score 2`, `a_lines 1, b_lines 0`, raters; empty where nothing is."""
    columns = [c for c in ("score", *SIGNS, *(c for c in clips if str(c).startswith("rater_"))) if c in clips]
    rows = ([f"{c} {int(v)}" for c, v in zip(columns, row, strict=True) if not pd.isna(v)] for row in clips[columns].to_numpy(object))
    return pd.Series([", ".join(row) for row in rows], clips.index, dtype=object)


def same_files(clips: pd.DataFrame, hashes: Sequence[str]) -> list[str]:
    """Sentences on clips that hold the same file; `hashes`: of each clip's file."""
    rows = clips[["clip", "patient"]].assign(label=label_text(clips), content=list(hashes))
    notes = []
    for _, group in rows[rows["content"].duplicated(keep=False)].groupby("content", sort=False):
        patients, labels = group["patient"].unique(), group["label"].unique()
        told = f"{len(group)} clips hold the same file ({listed(group['clip'])})"
        told += f" under {len(patients)} patients ({listed(patients)})" if len(patients) > 1 else ""
        told += f" with {len(labels)} labels ({listed(label or 'none' for label in labels)})" if len(labels) > 1 else ""
        notes.append(f"{told}; correct the table if that is a mistake" if len(patients) > 1 or len(labels) > 1 else told)
    return notes


def listed(names: Iterable[object]) -> str:
    """The first few of many, in words."""
    every = list(map(str, names))
    return ", ".join(every[:_SHOWN]) + (f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else "")
