"""One simulated clip: drawn, scored, rated, rendered and written."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pandas as pd

from lus_lightning.data.identity import whole_file, write_arrays, write_table, write_whole
from lus_lightning.labels import SIGNS
from lus_lightning.simulator.patient import Patient, draw_patient, sign_burden, zone_burden
from lus_lightning.simulator.profile import Facts, facts
from lus_lightning.simulator.raters import agreed, rate
from lus_lightning.simulator.render import Rendered, render_clip
from lus_lightning.simulator.scanner import Settings, draw_settings
from lus_lightning.simulator.scene import Scene, draw_scene
from lus_lightning.simulator.standards import clip_score, scores
from lus_lightning.simulator.studies import Study, patient_names, patient_ranks

BLACK_LEADS = 0.03
"""Share of clips that begin with two black frames, as some of COVID-BLUES do."""


# x264's lookahead gives other bytes from run to run on a few short clips (seen: 3 of 18, mbtree and B-frames on).
_NO_LOOKAHEAD = "mbtree=0:bframes=0:scenecut=0:rc-lookahead=0:sync-lookahead=0"
# The planes are made here, as swscale's conversion of the same grey picture differs in bytes from call to call.
_LIMITED = np.round(16 + np.arange(256) * 219 / 255).astype(np.uint8)


def stream(study: Study, *place: int) -> np.random.Generator:
    """The random numbers of one place in a study, whoever draws them and when."""
    return np.random.default_rng([study.seed, 1, *place])


def study_patient(study: Study, number: int) -> tuple[Patient, Settings]:
    """The patient of this number (from 0) and the machine's settings in his examination."""
    rng = stream(study, 2, number)
    patient = draw_patient(rng, patient_names(study)[number], patient_ranks(study)[number], study.healthy_share)
    return patient, draw_settings(rng, study.scanners, round(study.fps * rng.uniform(0.85, 1.15)), study.size)


def study_scene(study: Study, number: int, zone: int, loop: int) -> tuple[Scene, np.random.Generator]:
    """The scene of one clip, and the generator for what comes after it. Loops of a zone share its illness."""
    patient, settings = study_patient(study, number)
    illness = stream(study, 3, number, zone)
    burden = sign_burden(illness) if study.mix == "signs" else zone_burden(illness, patient, study.zones[zone], study.protocol)
    rng = stream(study, 4, number, zone, loop)
    orientation = study.orientations[rng.integers(len(study.orientations))]
    return draw_scene(rng, patient, burden, settings.geometry, orientation), rng


def clip_frames(study: Study, number: int, zone: int, loop: int) -> int:
    """Length of a clip. Some patients have short clips, as in Corso's Fig. 4; the score has no influence (Fig. 3)."""
    own, patients = stream(study, 5, number, zone, loop), stream(study, 5, number)
    log = study.length_spread * (0.8 * patients.standard_normal() + 0.6 * own.standard_normal())
    return max(1, round(study.frames * np.exp(log)))


def write_clip(study: Study, out: Path, number: int, zone: int, loop: int) -> dict[str, Any]:
    """Simulate one clip into the folder; returns its row of the sample index."""
    patient, settings = study_patient(study, number)
    scene, rng = study_scene(study, number, zone, loop)
    frames = clip_frames(study, number, zone, loop)
    seconds = np.arange(frames) / settings.fps
    measured = facts(scene, seconds)
    truth = scores(measured, study.standard)
    clip_truth = clip_score(truth)
    clip_ratings, frame_ratings = rate(rng, clip_truth, truth, study.noise)
    black = 2 if frames > 8 and rng.random() < BLACK_LEADS else 0
    name = f"{patient.name}_{study.zones[zone]}" + (f"_{loop + 1}" if study.loops > 1 else "")
    rendered = render_clip(scene, settings, seconds)
    for pictures in (rendered.frames, rendered.mask, rendered.beam, rendered.beam_mask):
        pictures[:black] = 0
    row: dict[str, Any] = {
        "clip": name,
        "patient": patient.name,
        "exam": f"{patient.name}-1",
        "zone": study.zones[zone],
        "protocol": study.protocol,
        "diagnosis": patient.diagnosis,
        "score": _or_none(agreed(clip_ratings)),
        "standard": study.standard,
        **_signs(rng, measured, study.noise.sign),
        "rater_1": int(clip_ratings[0]),
        "rater_2": int(clip_ratings[1]),
        "truth_score": clip_truth,
        "truth_b_share": round(float(measured.b_share.mean()), 4),
        "orientation": scene.orientation,
        "probe": scene.geometry.probe,
        "scanner": settings.scanner,
        "site": "simulated",
        "frames": frames,
        "height": study.size,
        "width": study.size,
        "fps": settings.fps,
        "mm_per_px": scene.geometry.mm_per_px,
        "path": f"clips/{name}.mp4" if study.layout == "folder" else f"{patient.name}/{patient.name}-1/{study.zones[zone]}",
        "mask": f"masks/{name}.npz" if study.masks else None,
        "frame_labels": f"frames/{name}.csv",
        **_geometry(scene),
    }
    if study.layout == "folder":
        write_video(out / row["path"], rendered.frames, settings.fps)
    else:
        write_stills(out / row["path"], rendered.frames)
    if study.masks:
        write_masks(out / row["mask"], rendered, study.beam)
    labels = pd.DataFrame({"frame": np.arange(frames), "score": agreed(frame_ratings), "rater_1": frame_ratings[0],
                           "rater_2": frame_ratings[1], "truth_score": truth})  # fmt: skip
    labels["score"] = labels["score"].astype("Int64").mask(labels["score"] < 0)
    write_table(out / row["frame_labels"], labels.iloc[black:])
    return row


def _or_none(score: np.ndarray) -> int | None:
    return int(score) if score >= 0 else None


def _signs(rng: np.random.Generator, measured: Facts, noise: float) -> dict[str, int]:
    """Signs as noted by a rater, and the truth: present if in a tenth of the frames."""
    there = {
        "a_lines": measured.a_lines,
        "b_lines": (measured.b_lines > 0) | measured.confluent,
        "effusion": measured.effusion_mm > 0,
        "consolidation": measured.consolidation_share > 0,
    }
    truth = {sign: int(np.mean(there[sign]) >= 0.1) for sign in SIGNS}
    noted = {sign: truth[sign] ^ int(rng.random() < noise) for sign in SIGNS}
    return {**noted, **{f"truth_{sign}": value for sign, value in truth.items()}}


def _geometry(scene: Scene) -> dict[str, float]:
    column, row = scene.geometry.apex_px()
    kept = {k: v for k, v in asdict(scene.geometry).items() if isinstance(v, float) and k != "mm_per_px"}
    return {f"geometry_{k}": round(v, 6) for k, v in {**kept, "apex_column": column, "apex_row": row}.items()}


def write_video(path: Path, frames: np.ndarray, fps: float) -> None:
    """H.264 in MP4, one thread, no time stamps: the same frames (T, H, W) uint8 give the same bytes."""
    with whole_file(path) as fresh, av.open(str(fresh), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        options = {"crf": "20", "preset": "veryfast", "flags": "+bitexact", "x264-params": _NO_LOOKAHEAD}
        track = container.add_stream("libx264", rate=round(fps), options=options)
        track.codec_context.thread_count = 1
        track.height, track.width, track.pix_fmt = *frames.shape[1:], "yuv420p"
        for picture in frames:
            luma = _LIMITED[picture]
            planes = np.concatenate([luma, np.full((luma.shape[0] // 2, luma.shape[1]), 128, np.uint8)])
            container.mux(track.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p")))
        container.mux(track.encode())


def write_masks(path: Path, rendered: Rendered, beam: bool) -> None:
    """Masks as npz: `mask` (T, H, W), `beam_mask` (T, 128, 256), and `beam` where asked for."""
    write_arrays(path, mask=rendered.mask, beam_mask=rendered.beam_mask, **({"beam": rendered.beam} if beam else {}))


def write_stills(folder: Path, frames: np.ndarray) -> None:
    """A folder of numbered JPEGs."""
    for n, picture in enumerate(frames):
        encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 92])[1]
        write_whole(folder / f"{n + 1:03d}.jpg", [encoded.tobytes()])


def save_row(path: Path, row: dict[str, Any]) -> None:
    """A clip's row as JSON, written last: where it lies, the clip is whole."""
    write_whole(path, [json.dumps(row).encode()])
