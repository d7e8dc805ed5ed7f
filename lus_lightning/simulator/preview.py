"""A contact sheet of simulated frames: scores down, zones and scanners across."""

from pathlib import Path

import cv2
import numpy as np

from lus_lightning.data.identity import write_whole
from lus_lightning.simulator.clips import study_patient, study_scene
from lus_lightning.simulator.profile import facts
from lus_lightning.simulator.render import render_clip
from lus_lightning.simulator.standards import scores
from lus_lightning.simulator.studies import Study

COLUMNS = 8


def write_preview(study: Study, path: Path, columns: int = COLUMNS) -> None:
    """Write a PNG with `columns` frames of each score, each from another patient or zone, named by zone, machine and view."""
    rows: dict[int, list[np.ndarray]] = {score: [] for score in range(4)}
    for zone in range(len(study.zones)):
        for number in range(study.patients):
            place = (number, (zone + number) % len(study.zones), 0)
            scene, _ = study_scene(study, *place)
            moment = np.zeros(1)
            score = int(scores(facts(scene, moment), study.standard)[0])
            if len(rows[score]) < columns:
                rows[score].append(_tile(study, place, score))
    width = study.size
    blank = np.zeros((width, width), np.uint8)
    sheet = np.vstack([np.hstack((tiles + [blank] * columns)[:columns]) for tiles in rows.values()])
    write_whole(path, [cv2.imencode(".png", sheet)[1].tobytes()])


def _tile(study: Study, place: tuple[int, int, int], score: int) -> np.ndarray:
    scene, _ = study_scene(study, *place)
    _, settings = study_patient(study, place[0])
    frame = render_clip(scene, settings, np.zeros(1)).frames[0]
    words = f"simulated  score {score}  {study.zones[place[1]]}  {settings.scanner}  {scene.orientation[:5]}."
    cv2.putText(frame, words, (2, 10), cv2.FONT_HERSHEY_SIMPLEX, 0.0013 * study.size, 230, 1)
    return frame
