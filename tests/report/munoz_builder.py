"""A run folder of Muñoz's segmenter, with masks and without, and of the classifier beside it."""

import json
from dataclasses import fields

import numpy as np
import pandas as pd
from run_builder import of_data

from lus_lightning.evaluation.segmentation import clip_counts
from lus_lightning.labels import MASK_CLASSES
from lus_lightning.scoring.pleura import Rule, counted_lines, measure, score

RULE = Rule(gap_mm=8.0)
ZONES = ["L-anterior-upper", "R-anterior-upper", "L-lateral-lower", "R-lateral-lower"]
FRAMES = 6


def masks(rng, share):
    """Masks (FRAMES, 128, 256): a pleural line over lines 20 to 110, B-lines on about `share` of them; the last frame is empty."""
    made = np.zeros((FRAMES, 128, 256), np.uint8)
    top = 60 + rng.integers(-3, 4)
    made[:, 20:110, top : top + 4] |= 1
    for frame in range(FRAMES):
        to = 20 + int(90 * np.clip(share + rng.normal(0, 0.06), 0, 1))
        made[frame, 20:to, top + 4 :] |= 4
    made[-1] = 0
    return made


def clips(n_patients, frames):
    """One row per frame."""
    clip = np.repeat(np.arange(4 * n_patients), frames)
    patient = [f"p{c // 4:02d}" for c in clip]
    table = {"row": clip, "frame": np.tile(np.arange(frames), 4 * n_patients), "fold": -1, "split": "test", "sign": None}
    table |= {"clip": [f"c{c:03d}" for c in clip], "patient": patient, "exam": patient, "zone": np.array(ZONES)[clip % 4]}
    ways = np.array(["longitudinal", "transversal"])[clip % 2]
    return pd.DataFrame(table).assign(protocol="12", standard="soldati", orientation=ways)


def write_run(folder, with_masks=True, classifier=True, simulated=True, n_patients=12, oriented=True, seed=3):
    """Write the run, and the classifier's to `beside/classifier`; the tables follow from the masks."""
    rng = np.random.default_rng(seed)
    (folder / "strips").mkdir(parents=True)
    table = clips(n_patients, FRAMES).assign(member="segmenter", **{f"p_{c}": np.float32(np.nan) for c in range(4)})
    shares = rng.choice([0, 0.3, 0.8], table["row"].nunique())
    measures, counts, pred, target = [], [], [], []
    for row, of in table.groupby("row"):
        true, found = (masks(rng, shares[row]) for _ in range(2))
        if row == 5:
            found[:] = 0  # a clip without any assessable frame
        seen, truth = measure(found, None, RULE), measure(true, None, RULE)
        pred.append(score(seen, RULE))
        target.append(np.full(FRAMES, score(truth, RULE)[0]))
        columns = {f.name: getattr(seen, f.name) for f in fields(seen)}
        columns |= {f"true_{f.name}": getattr(truth, f.name) for f in fields(truth)} if with_masks else {}
        measures.append(of[["row", "frame", "clip", "patient", "orientation"]].assign(**columns))
        counts.append(clip_counts(found, true, of["clip"].iloc[0], of["patient"].iloc[0], 0.4, MASK_CLASSES[:5]).assign(row=row))
        shown = np.array([0, 2, 5])
        kept = {"frame": shown, "image": rng.integers(0, 255, (3, 128, 256), np.uint8)}
        for name, prefix, own in (("mask", "", found), ("true", "true_", true))[: 1 + with_masks]:
            visible, affected = counted_lines(own[shown], None, RULE)
            kept |= {name: own[shown], f"{prefix}visible": visible, f"{prefix}affected": affected}
        np.savez(folder / "strips" / f"{row}.npz", **kept)
    table = table.assign(pred=np.concatenate(pred), target=np.concatenate(target))
    if not oriented:
        table, measures = table.assign(orientation=None), [part.assign(orientation=None) for part in measures]
    pd.concat(measures).to_parquet(folder / "measures.parquet", index=False)
    if with_masks:
        pd.concat(counts).to_parquet(folder / "segmentation.parquet", index=False)
    write(folder, table, "munoz", simulated)
    if classifier:
        logits = 1.5 * np.eye(4)[table["target"]] + rng.normal(0, 1, (len(table), 4))
        probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        own = table.assign(member="classifier", pred=probs.argmax(axis=1), **{f"p_{c}": probs[:, c].astype(np.float32) for c in range(4)})
        write(folder / "beside" / "classifier", own, "munoz-classifier", simulated)
    return folder


def write(folder, table, recipe, simulated):
    folder.mkdir(parents=True, exist_ok=True)
    each = table.drop_duplicates("clip")[["clip", "patient", "split", "fold"]]
    more = each.head(4).assign(clip=[f"t{i}" for i in range(4)], patient="q", split="train")
    pd.concat([each, more]).assign(unit="patient").to_csv(folder / "split.csv", index=False)
    data = {"name": "munoz-study" if simulated else "covid-blues", "fingerprint": "ab", "simulated": simulated, "split_unit": "patient"}
    of_data(table, data).to_parquet(folder / "predictions.parquet", index=False)
    info = {"recipe": recipe, "overlays": [], "changes": [], "data": data, "seed": 0, "networks": [], "task": "score"}
    (folder / "run.json").write_text(json.dumps(info))
