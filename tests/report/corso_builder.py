"""A run folder of Corso's video net, on one split or cross-validated, and of the per-frame baseline beside it."""

import json

import numpy as np
import pandas as pd
from run_builder import of_data

FRAMES = (7, 40)
"""Shortest and longest clip."""


def clips(rng, n_patients, folds):
    """One row per labelled clip: patients have a severity of their own, four clips each."""
    row = np.arange(4 * n_patients)
    patient = np.array([f"{1000 + r // 4}" for r in row])
    score = np.clip(np.round(np.repeat(rng.uniform(0, 3, n_patients), 4) + rng.normal(0, 0.6, len(row))), 0, 3).astype(int)
    score[-4:] = np.arange(4)
    fold = (row // 4) % folds if folds else np.full(len(row), -1)
    part = np.full(len(row), "test", dtype=object)
    if not folds:
        part[row // 4 < n_patients // 2], part[(row // 4) == 0] = "train", "val"
    table = {"row": row, "clip": [f"{p}/e/{r % 4}" for p, r in zip(patient, row, strict=True)], "patient": patient, "score": score}
    return pd.DataFrame(table | {"frames": rng.integers(*FRAMES, len(row), endpoint=True), "split": part, "fold": fold})


def opinions(rng, target, skill):
    """(N, 4) float32."""
    logits = skill * np.eye(4)[target] + rng.normal(0, 1, (len(target), 4))
    return (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)


def predictions(rng, table, member, skill):
    """The predictions table of the clips, of the baseline five frames each."""
    own = table[table["split"] != "train"]
    frames = [-1] if member == "video" else list(range(5))
    own = own.loc[own.index.repeat(len(frames))].assign(frame=np.tile(frames, len(own)))
    probs = opinions(rng, own["score"].to_numpy(), skill)
    named = own.drop(columns="frames").rename(columns={"score": "target"})
    named = named.assign(exam=own["patient"], zone=None, protocol=None, standard="soldati", orientation=None, sign=None, member=member)
    return named.assign(pred=probs.argmax(axis=1), **{f"p_{c}": probs[:, c] for c in range(4)}).reset_index(drop=True)


def curves(rng, epochs=5, fold=None):
    """A row per epoch, as logged."""
    fall = 1 / (1 + np.arange(epochs))
    table = pd.DataFrame({"epoch": range(epochs), "train/loss": 0.6 + fall, "val/loss": 0.8 + fall + rng.normal(0, 0.05, epochs)})
    table = table.assign(**{"val/accuracy": 0.5 - 0.3 * fall, "val/f1": 0.4 - 0.2 * fall, "val/qwk": 0.5 - 0.4 * fall})
    return table if fold is None else table.assign(fold=fold)


def write_attention(folder, rng, tested, with_masks, even):
    """`attention.parquet` of all tested clips and `attention/<row>.npz` of three."""
    (folder / "attention").mkdir(parents=True)
    inside = rng.uniform(0.6, 0.8, len(tested))
    table = tested[["row", "clip", "patient", "frames"]].assign(attention_mean=0.4, in_sector=inside, sector_share=0.55)
    masked = np.arange(len(tested)) % 2 == 0 if with_masks else np.zeros(len(tested), bool)
    table["in_b_lines"] = np.where(masked, rng.uniform(0.05, 0.15, len(tested)), np.nan)
    table["b_line_share"] = np.where(masked, 0.12, np.nan)
    table.to_parquet(folder / "attention.parquet", index=False)
    for i, clip in enumerate(tested.head(3).to_dict("records")):
        n = clip["frames"]
        y, x = np.indices((60, 81))
        sector = (np.abs(x - 40) < 6 + y // 2) & (y > 4)
        frames = (sector * rng.integers(40, 200, (n, 60, 81))).astype(np.uint8)
        attention = np.clip(np.linspace(0, 0.8, 4)[None, :, None] + rng.normal(0, 0.08, (n, 4, 5)), 0, 1).astype(np.float16)
        share = np.full(n, 1 / n) if even else rng.dirichlet(np.full(n, 3.0))
        kept = {"frames": frames, "attention": attention, "clip": clip["clip"], "target": clip["score"], "pred": 2}
        kept |= {"likely": rng.uniform(0.1, 0.9, n).astype(np.float32)}
        kept |= {} if i == 0 else {"share": share.astype(np.float32)}  # such as a pooling that tells none
        np.savez(folder / "attention" / f"{clip['row']}.npz", **kept)


def write_run(folder, folds=0, simulated=True, baseline=True, n_patients=24, maps=True, kept=True, even=False, seed=3):
    """Write the run, and the baseline's to `beside/frames`.

    Args:
        folder: where.
        folds: of a cross-validation, 0 for one split.
        simulated: whether the clips are, so that they have masks.
        baseline: whether it was run.
        n_patients: all of them, half tested (of folds: all).
        maps: whether attention was kept.
        kept: whether lengths and curves were.
        even: whether all frames have one share.
        seed: of all numbers.
    """
    rng = np.random.default_rng(seed)
    table = clips(rng, n_patients, folds)
    write(folder, predictions(rng, table, "video", 1.6), table, "corso", simulated, folds)
    if baseline:
        write(folder / "beside" / "frames", predictions(rng, table, "classifier", 0.8), table, "corso-frames", simulated, folds)
    if kept:
        table[["clip", "patient", "split", "score", "frames"]].to_csv(folder / "lengths.csv", index=False)
        parts = [curves(rng, fold=f) for f in range(folds)] or [curves(rng)]
        pd.concat(parts).to_csv(folder / "curves.csv", index=False)
    if maps:
        write_attention(folder, rng, table[table["split"] == "test"], simulated, even)
    return folder


def write(folder, predicted, table, recipe, simulated, folds):
    folder.mkdir(parents=True, exist_ok=True)
    table.assign(unit="patient")[["clip", "patient", "unit", "split", "fold"]].to_csv(folder / "split.csv", index=False)
    data = {"name": "corso-study" if simulated else "covid-blues", "fingerprint": "ab", "simulated": simulated, "split_unit": "patient"}
    of_data(predicted, data).to_parquet(folder / "predictions.parquet", index=False)
    info = {"recipe": recipe, "overlays": [], "changes": [], "data": data, "seed": 0, "networks": [], "task": "score"}
    if folds:
        # Of each fold, what is neither tested nor validated on: the next fold is validated on.
        info |= {"folds": folds, "train_scores": [[int(((table["score"] == c) & ~table["fold"].isin([f, (f + 1) % folds])).sum())
                                                   for c in range(4)] for f in range(folds)]}  # fmt: skip
    elif recipe == "corso":
        info |= {"best": {"monitor": "val/loss", "value": 0.97, "epoch": 3}}
    (folder / "run.json").write_text(json.dumps(info))
