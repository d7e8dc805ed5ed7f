"""A run folder of Xing's cascade with random but plausible predictions, and a page read back into tables."""

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd

from lus_lightning.scoring.voting import vote

NETWORKS = ["resnet10t", "vgg11_bn", "googlenet"]
ZONES = ["L1", "L2", "R1", "R2"]


def images(rng, patients, n_zones, frames):
    """One row per image: patients have a severity of their own, zones scatter around it."""
    rows = []
    for patient in patients:
        level = rng.uniform(0, 3)
        for zone in ZONES[:n_zones]:
            score = int(np.clip(round(level + rng.normal(0, 0.9)), 0, 3))
            rows += [(patient, zone, f"{patient}-{zone}", 10 * f, score, level) for f in range(frames)]
    return pd.DataFrame(rows, columns=["patient", "zone", "clip", "frame", "truth_score", "level"])


def opinions(rng, table, skill):
    """(N, 4) float32 probabilities: right with some patient-wise error, so that images of a patient err together."""
    bias = table["patient"].map({p: rng.normal(0, 0.3) for p in table["patient"].unique()}).to_numpy()
    seen = table["truth_score"].to_numpy() + bias + rng.normal(0, 0.4, len(table))
    logits = -skill * (seen[:, None] - np.arange(4)) ** 2
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return probs.astype(np.float32)


def member_rows(table, member, probs, split, pred=None):
    """Rows of the predictions table."""
    rows = table.assign(exam=table["patient"], protocol="6", split=split, member=member, sign=None, standard="soldati")
    rows = rows.assign(**{f"p_{c}": probs[:, c] for c in range(4)}, pred=probs.argmax(1) if pred is None else pred)
    return rows.drop(columns=["truth_score", "level"])


def of_data(table, data):
    """The predictions as a pass on the data of `run.json` leaves them."""
    return table.assign(data=data["name"], fingerprint=data["fingerprint"], simulated=data["simulated"])


def write_run(folder: Path, seed=0, n_test=12, n_train=25, select=True, simulated=True, unit="patient", changes=None):
    """Write a run folder; the images are those of `seed`, the networks' opinions differ with `select`."""
    rng = np.random.default_rng(seed)
    train, test = (images(rng, [f"{kind}{i:02d}" for i in range(n)], 3, 6) for kind, n in (("T", n_train), ("P", n_test)))
    for table in (train, test):
        wrong = rng.random(len(table)) < 0.15
        table["target"] = np.where(wrong, np.clip(table["truth_score"] + rng.choice([-1, 1], len(table)), 0, 3), table["truth_score"])
    train["fold"] = train["patient"].str[1:].astype(int) % 5
    test["fold"] = -1
    clips = pd.Index(pd.concat([train["clip"], test["clip"]]).unique())
    for table in (train, test):
        table["row"] = clips.get_indexer(table["clip"])
    rng = np.random.default_rng([seed, int(select)])
    each = [opinions(rng, test, skill) for skill in ((1.6, 2.0, 1.4) if select else (1.1, 1.3, 1.0))]
    parts = [member_rows(test, name, probs, "test") for name, probs in zip(NETWORKS, each, strict=True)]
    parts.append(member_rows(test, "vote", np.mean(each, axis=0), "test", vote(np.stack(each))))
    folder.mkdir(parents=True, exist_ok=True)
    if select:
        parts += [member_rows(test, f"fold{i}", opinions(rng, test, 1.0), "test") for i in range(5)]
        oof = member_rows(train, "stage1", opinions(rng, train, 1.2), "oof")
        parts.append(oof)
        own = oof[[f"p_{c}" for c in range(4)]].to_numpy()[np.arange(len(oof)), oof["target"]]
        chosen = oof[["row", "frame", "clip", "patient", "zone", "fold", "target"]]
        chosen.assign(p_own=own, pred=oof["pred"], kept=oof["pred"] == oof["target"]).to_csv(folder / "selection.csv", index=False)
    both = pd.concat([train.assign(split="train"), test.assign(split="test")]).drop_duplicates("clip")
    both.assign(unit=unit)[["clip", "patient", "unit", "split", "fold"]].to_csv(folder / "split.csv", index=False)
    if simulated:
        pd.concat([train, test])[["clip", "frame", "truth_score"]].to_parquet(folder / "truth.parquet", index=False)
    data = {"name": "xing-study" if simulated else "covid-blues", "fingerprint": "3f9a1c2b", "simulated": simulated, "split_unit": unit,
            "left_out": 0}  # fmt: skip
    of_data(pd.concat(parts, ignore_index=True), data).to_parquet(folder / "predictions.parquet", index=False)
    quick = [
        {"key": "data.init_args.batch_size", "paper": 4, "here": 16},
        {"key": "data.init_args.iterations", "paper": 2000, "here": 500},
        {"key": "model.init_args.networks", "paper": ["resnet50", "vgg19", "torchvision:googlenet"], "here": NETWORKS},
    ]
    info = {"recipe": "xing", "overlays": ["quick-xing"], "changes": quick if changes is None else changes, "data": data, "seed": seed,
            "networks": NETWORKS, "seconds": 812.4, "device": "cpu", "command": "python -m lus_lightning fit --config recipe.yaml",
            "versions": {"torch": "2.15.0", "pytorch-lightning": "2.6.6"}}  # fmt: skip
    (folder / "run.json").write_text(json.dumps(info))
    return folder


class _Cells(HTMLParser):
    """Tables by id: lists of rows, each a list of cell texts (parts of a cell joined by " | ")."""

    def __init__(self):
        super().__init__()
        self.tables, self._rows, self._cell = {}, None, None

    def handle_starttag(self, tag, attrs):
        if tag == "table":
            self._rows = self.tables.setdefault(dict(attrs).get("id"), [])
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._cell = []

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._rows[-1].append(" | ".join(self._cell))
            self._cell = None

    def handle_data(self, data):
        if self._cell is not None and data.strip():
            self._cell.append(data.strip())


def tables_of(page):
    """The page's tables as a reader sees them."""
    parser = _Cells()
    parser.feed(page)
    return parser.tables
