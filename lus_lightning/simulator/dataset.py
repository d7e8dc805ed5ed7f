"""Writes a study: in processes, resumable, whole or not at all under its name, the same bytes for any number of processes."""

import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import pandas as pd
import yaml
from filelock import FileLock

from lus_lightning.console import Progress
from lus_lightning.data.identity import write_table, write_whole, writing
from lus_lightning.errors import UserError
from lus_lightning.simulator.clips import save_row, write_clip
from lus_lightning.simulator.studies import Study, study_facts


def write_study(study: Study, out: Path, workers: int | None = None) -> None:
    """Simulate a study into `out` (made by renaming `out`.partial at the end; a partial one of the same study goes on where it stopped).

    Layout: study.yaml, index.csv (the sample index, plus `truth_*` and `geometry_*`), clips/*.mp4, masks/*.npz, frames/*.csv; with the
    san-matteo layout `patient/exam/area/*.jpg` and Annotations.txt (CSV: patient,exam,area,score) instead of clips/.
    `workers` processes; none means one for each core. Nothing is done where `out` holds the very same study.
    UserError: `out` holds anything else, cannot be written, or the disk is full.
    """
    out = Path(out)
    with writing(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(out.with_name(out.name + ".lock")):
            if out.exists() and any(out.iterdir()):
                _same_study(study, out)
                return
            partial = out.with_name(out.name + ".partial")
            _begin(study, partial)
            _simulate(study, partial, workers or os.cpu_count() or 1)
            _finish(study, partial)
            if out.exists():
                out.rmdir()
            partial.rename(out)


def _same_study(study: Study, out: Path) -> None:
    found = out / "study.yaml"
    if not found.is_file():
        raise UserError(f"{out} is not empty and holds no simulated study: give an empty or new folder")
    if yaml.safe_load(found.read_text())["key"] != study.key:
        raise UserError(f"{out} holds another simulated study (see {found}): give another folder, or delete it")


def _begin(study: Study, partial: Path) -> None:
    facts = partial / "study.yaml"
    if facts.is_file() and yaml.safe_load(facts.read_text()).get("key") == study.key:
        return
    if partial.exists():
        if any(partial.iterdir()) and not facts.is_file():
            raise UserError(f"{partial} is in the way and is no unfinished simulation: move it")
        shutil.rmtree(partial)
    for folder in ("rows", "frames"):
        (partial / folder).mkdir(parents=True)
    write_whole(facts, [yaml.safe_dump(study_facts(study), sort_keys=False).encode()])


def _places(study: Study) -> Iterator[tuple[int, int, int]]:
    for number in range(study.patients):
        for zone in range(len(study.zones)):
            for loop in range(study.loops):
                yield number, zone, loop


def _row_path(partial: Path, place: tuple[int, int, int]) -> Path:
    return partial / "rows" / ("-".join(f"{n:04d}" for n in place) + ".json")


def _write_places(study: Study, partial: Path, places: list[tuple[int, int, int]]) -> int:
    cv2.setNumThreads(1)
    for place in places:
        save_row(_row_path(partial, place), write_clip(study, partial, *place))
    return len(places)


def _simulate(study: Study, partial: Path, workers: int) -> None:
    open_places = [place for place in _places(study) if not _row_path(partial, place).is_file()]
    chunks = [open_places[i : i + 6] for i in range(0, len(open_places), 6)]
    with Progress(f"simulating the clips of {study.name}", len(open_places)) as progress:
        if workers == 1 or len(chunks) <= 1:
            for chunk in chunks:
                progress.advance(_write_places(study, partial, chunk))
            return
        # Spawned, not forked: a parent that has imported torch has threads that a fork would leave locked.
        with ProcessPoolExecutor(min(workers, len(chunks)), mp_context=get_context("spawn")) as pool:
            try:
                for done in as_completed([pool.submit(_write_places, study, partial, chunk) for chunk in chunks]):
                    progress.advance(done.result())
            except BaseException:
                pool.shutdown(cancel_futures=True)  # or the rest would be simulated first
                raise


def _finish(study: Study, partial: Path) -> None:
    rows: list[dict[str, Any]] = [json.loads(_row_path(partial, place).read_text()) for place in _places(study)]
    table = pd.DataFrame(rows)
    table["score"] = table["score"].astype("Int64")
    write_table(partial / "index.csv", table)
    if study.layout == "san-matteo":
        notes = table.rename(columns={"zone": "area"})[["patient", "exam", "area", "score"]]
        write_table(partial / "Annotations.txt", notes.dropna())
    shutil.rmtree(partial / "rows")
