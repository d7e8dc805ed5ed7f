"""The sample index of a data folder: one row per clip, checked, with what the files themselves tell."""

import re
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from lus_lightning.data.adapters import choose
from lus_lightning.data.identity import content_hash, digest, write_table
from lus_lightning.data.parallel import cpu_count, in_processes
from lus_lightning.data.paths import as_they_are
from lus_lightning.data.patients import listed as names_of
from lus_lightning.data.patients import look_alikes, same_files
from lus_lightning.data.probe import Files, probe
from lus_lightning.data.roots import cache_folder, local_root, root_name
from lus_lightning.data.schema import LABELS, MASKED, NO_SAMPLES, check_index
from lus_lightning.data.shown import numbers_of
from lus_lightning.data.tables import left_out_table
from lus_lightning.data.unread import DICOM, unread
from lus_lightning.errors import UserError

__all__ = ["Index", "build_index", "check_index", "index_command"]


@dataclass(frozen=True)
class Index:
    """What a data folder holds.

    Args:
        table: one row per clip; columns of `lus_lightning.data.schema.COLUMNS`, then `rater_*` and `truth_*`.
        left_out: `path` and `reason` of what the folder lists or holds, but the table does not.
        name: of the data folder.
        fingerprint: 12 hex digits, of the table and the content of all its files.
        contents: hash of the files of each clip, in the table's order.
        clip_files: hash of the clip's own file, likewise.
        notes: what the reader should know: what was taken as what (table, headings, paths, values, patients), names that look alike,
            files that stand twice, how clips were read, and what of the folder is not read.
    """

    table: pd.DataFrame
    left_out: pd.DataFrame
    name: str
    fingerprint: str
    contents: tuple[str, ...]
    clip_files: tuple[str, ...]
    notes: tuple[str, ...]


def build_index(root: str | Path, adapter: str | None = None, strict: bool = False, cache_dir: str | Path | None = None) -> Index:
    """Read a data folder's layout, check its table, and decode every clip once (remembered by content, so a second call is quick).

    A clip whose files cannot be used is left out with its reason. `frames`, `height`, `width`, `fps`, `black_frames`,
    `frozen_frames` and `mask_frames` come from the files.
    Nothing is written into the folder.

    Args:
        root: a folder or any fsspec URL.
        adapter: name of the layout; none recognises it.
        strict: anything left out is an error.
        cache_dir: see `roots.cache_folder`.

    Raises:
        UserError: no such folder, an unknown layout, a table that breaks a rule, no usable clip, or (strict) anything left out.
    """
    cache = cache_folder(cache_dir)
    folder = local_root(root, cache)
    raw, absent = choose(folder, adapter).read(folder)
    raw, path_notes = as_they_are(raw, folder)
    listed = check_index(raw, str(folder / raw.attrs.get("source", "")))
    dicom, unread_notes = unread(folder, listed, {*raw.attrs.get("read", ()), *absent["path"]})
    absent = pd.concat([absent, left_out_table(dicom, DICOM)], ignore_index=True)
    found = in_processes(
        partial(probe, cache_dir=cache), [_files(folder, row) for row in listed.to_dict("records")], cpu_count(), "reading clips"
    )
    usable = [not isinstance(result, UserError) for result in found]
    bad = pd.DataFrame(
        {"path": listed["path"], "reason": [str(r).removeprefix(f"{folder / p}: ") for r, p in zip(found, listed["path"], strict=True)]}
    )
    left_out = pd.concat([bad[[not u for u in usable]], absent], ignore_index=True)
    if strict and len(left_out):
        raise UserError(
            f"{root}: {len(left_out)} left out, such as {left_out['path'][0]}: {left_out['reason'][0]}; mend them, or do without --strict"
        )
    if not any(usable):
        raise UserError(f"{root}: none of its {len(listed)} clips can be used; the first, {left_out['path'][0]}: {left_out['reason'][0]}")
    facts = pd.DataFrame([asdict(result) for result in found if not isinstance(result, UserError)])
    table = listed[usable].reset_index(drop=True)
    for column in ("frames", "height", "width"):
        table[column] = facts[column].astype("int64")
    for column in (*NO_SAMPLES, MASKED):
        table[column] = facts[column].astype(object).where(facts[column].notna(), None)
    table["fps"] = facts["fps"].astype(float)
    contents = facts["content"].tolist()
    files = tuple(content_hash(folder / path, cache) for path in table["path"])
    notes = (
        *raw.attrs.get("notes", ()), *path_notes, *_values_told(raw, listed), *_names_told(raw["patient"], listed["patient"]),
        *same_files(table, files), *_reading_told(table["clip"], facts["notes"]), *unread_notes,
    )  # fmt: skip
    return Index(table, left_out, root_name(root), digest(table.to_csv(index=False), contents)[:12], tuple(contents), files, notes)


def _names_told(written: pd.Series, taken: pd.Series) -> list[str]:
    """What is said of patients' names: those taken as another spelling, and those that look alike."""
    other = {str(w): t for w, t in zip(written, taken, strict=True) if isinstance(w, str) and w.strip() != t}
    notes = [f"patient {old!r} is taken as {new!r}" for old, new in other.items()]
    return notes + [f"patients {' and '.join(map(repr, group))} look alike; are they one person?" for group in look_alikes(taken)]


def _values_told(written: pd.DataFrame, taken: pd.DataFrame) -> list[str]:
    """What is said of cells that were taken as another value: `yes` as 1, `r1` as R1; nothing of `3.0` and `3 `."""
    notes = []
    for column in [c for c in (*LABELS, "standard", "zone") if c in written]:
        pairs = {(w.strip(), str(t)) for w, t in zip(written[column], taken[column], strict=True) if isinstance(w, str) and w.strip()}
        other = sorted((w, t) for w, t in pairs if w != t and not re.fullmatch(rf"[+]?0*{re.escape(t)}\.?0*", w))
        if other:
            notes.append(f"in column `{column}` {names_of(f'{w!r} is taken as {t}' for w, t in other)}")
    return notes


def left_out_lines(left_out: pd.DataFrame) -> list[str]:
    """For the terminal: each reason with its number and files."""
    groups = left_out.groupby("reason", sort=False)["path"]
    return [f"left out, {len(paths)}: {reason}\n    {', '.join(paths)}" for reason, paths in groups]


def _reading_told(clips: pd.Series, notes: pd.Series) -> list[str]:
    """What is said of how clips were read: each thing once, with the clips that it is true of and how many they are."""
    told = pd.DataFrame({"clip": clips, "note": notes}).explode("note").dropna()
    each = told.groupby("note", sort=False)["clip"]
    return [f"{names_of(named)}{f' ({len(named)} clips)' if len(named) > 1 else ''}: {note}" for note, named in each]


def index_command(root: str, out: str | None = None, adapter: str | None = None, strict: bool = False) -> None:
    """Print what a data folder holds, what is left out and why, and write its sample index as CSV.

    Args:
        root: a folder or any fsspec URL.
        out: file to write; none writes into the cache folder, never into the data.
        adapter: name of the layout (covid-blues, pocus, san-matteo, simulated, table, clips); none recognises it.
        strict: end with an error if anything is left out.

    Raises:
        UserError: as `build_index`, or the file cannot be written.
    """
    index = build_index(root, adapter, strict)
    target = Path(out) if out else cache_folder(None) / "indices" / f"{index.name}-{index.fingerprint}.csv"
    if out and "://" not in root and target.resolve().is_relative_to(Path(root).resolve()):
        raise UserError(f"{target} lies in the data folder, which is never written to; give --out another place")
    write_table(target, index.table)
    console = Console(soft_wrap=True, markup=False, highlight=False)
    console.print(_summary(index))
    for line in left_out_lines(index.left_out):
        console.print(line)
    for note in index.notes:
        console.print(f"note: {note}")
    console.print(f"{len(index.left_out)} left out; the index is in {target}")


def _files(folder: Path, row: dict[Any, Any]) -> Files:
    return Files(folder / row["path"], *(folder / row[c] if row[c] is not None else None for c in ("mask", "frame_labels")))


def _summary(index: Index) -> Table:
    table = index.table
    summary = Table("what", "how many", title=f"{index.name} ({index.fingerprint})")
    rows = {
        "patients": table["patient"].nunique(),
        "exams": table["exam"].nunique(),
        "clips": len(table),
        "frames": int(table["frames"].sum()),
    }
    rows |= {f"of them {column.split('_')[0]}, no samples": sum(map(len, map(numbers_of, table[column]))) for column in NO_SAMPLES}
    rows |= {"clips with masks": int(table["mask"].notna().sum())}
    rows |= {"clips with frame labels": int(table["frame_labels"].notna().sum())}
    for name, number in rows.items():
        summary.add_row(name, str(number))
    for column in (*LABELS, "standard", "diagnosis", "protocol", "probe"):
        counts = table[column].value_counts().sort_index()
        if len(counts):
            missing = int(table[column].isna().sum())
            shown = [f"{value}: {count}" for value, count in counts.items()] + ([f"missing: {missing}"] if missing else [])
            summary.add_row(f"clips by {column}", "  ".join(shown))
    return summary
