"""The four-sign network: what is known alone counts, its two tasks, and what a run leaves."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from command_lines import EXPERIMENTS, words
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score
from torchmetrics import MetricCollection

from lus_lightning.callbacks.pictures import told
from lus_lightning.callbacks.predictions import KEYS, step_table
from lus_lightning.cli import main
from lus_lightning.errors import UserError
from lus_lightning.labels import SIGNS
from lus_lightning.methods import FourSignClassifier
from lus_lightning.methods.base import Step, watched_metrics
from lus_lightning.methods.four_signs import known_binary_cross_entropy

RECIPE, QUICK, MULTILABEL = (EXPERIMENTS / name for name in ("four-signs.yaml", "with/quick-four-signs.yaml", "with/multilabel.yaml"))


def draw(seed, n=40):
    g = torch.Generator().manual_seed(seed)
    target = torch.randint(-1, 2, (n, 4), generator=g)
    target[:, seed % 4] = -1  # nobody ever looked for this sign
    return torch.randn(n, 4, generator=g), target


@pytest.mark.parametrize("seed", range(4))
def test_a_missing_label_has_no_gradient_and_the_others_weigh_as_if_it_were_not_there(seed):
    logits, target = draw(seed)
    logits.requires_grad_()
    known = target >= 0
    loss = known_binary_cross_entropy(logits, target)
    assert torch.equal(loss, known_binary_cross_entropy(logits.where(known, 1e6), target))
    assert loss.item() == pytest.approx(F.binary_cross_entropy_with_logits(logits[known], target[known].float()).item())
    loss.backward()
    assert (logits.grad[~known] == 0).all()
    assert (logits.grad[known] != 0).all()


def test_a_batch_without_any_label_costs_nothing():
    logits = torch.randn(3, 4, requires_grad=True)
    known_binary_cross_entropy(logits, torch.full((3, 4), -1)).backward()
    assert (logits.grad == 0).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_what_is_watched_equals_scikit_learn_on_the_known_labels(seed):
    logits, target = draw(seed)
    metrics = MetricCollection({**watched_metrics("signs")})
    for part in (slice(0, 13), slice(13, None)):
        metrics.update(logits[part].sigmoid(), target[part])
    known = target >= 0
    label, said = target[known], (logits > 0)[known].int()
    expected = {"accuracy": accuracy_score(label, said), "f1": f1_score(label, said), "kappa": cohen_kappa_score(label, said)}
    assert {name: value.item() for name, value in metrics.compute().items()} == pytest.approx(expected, abs=1e-5)


def test_signs_are_not_watched_by_a_weighted_kappa_and_scores_are():
    assert set(watched_metrics("sign")) == set(watched_metrics("signs")) == {"accuracy", "f1", "kappa"}
    assert set(watched_metrics("score")) == {"accuracy", "f1", "qwk"}


@pytest.mark.parametrize("change", [{"task": "severity"}, {"schedule": "steps"}, {"network": "resnet1000"}])
def test_a_network_that_cannot_be_built_says_why(change):
    with pytest.raises(UserError, match=next(iter(change.values()))):
        FourSignClassifier(**({"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0, "weights": "none", "network": "test_resnet"} | change))


def test_a_table_of_several_signs_has_a_row_for_each_known_sign_and_none_for_what_was_never_taught():
    probs = torch.rand(5, 4)
    probs[:, 2] = torch.nan
    target = torch.randint(-1, 2, (5, 4))
    numbers = {k: torch.arange(5) for k in ("row", "frame", "fold", "split")}
    table = step_table(Step(target, probs={"net": probs}, pred={"net": (probs >= 0.5).long()}), numbers | {"target": target})
    assert list(table["sign"].unique()) == ["a_lines", "b_lines", "consolidation"]
    assert not table.duplicated(list(KEYS)).any()
    assert len(pd.concat([table, table]).drop_duplicates(list(KEYS))) == 15
    for i, sign in ((0, "a_lines"), (1, "b_lines"), (3, "consolidation")):
        rows = table[table["sign"] == sign]
        assert rows["target"].tolist() == target[:, i].tolist()
        np.testing.assert_allclose(rows["p_1"], probs[:, i])
        assert ((rows["p_1"] >= 0.5) == rows["pred"]).all()
        np.testing.assert_allclose(rows["p_0"] + rows["p_1"], 1, atol=1e-6)


def test_a_caption_says_signs_in_words():
    assert told("signs", torch.tensor([1, 0, -1, 1])) == "a-lines, consolidation"
    assert told("signs", torch.tensor([0, -1, 0, 0])) == "no sign"
    assert [told("sign", torch.tensor(c)) for c in (2, -1)] == ["effusion", "none"]
    assert told("score", torch.tensor(2)) == "2"


def run_of(folder, root, *more, logger="csv"):
    main(["fit", *words(RECIPE, QUICK, root, folder, *more, logger=logger)])
    again = ["--config", str(folder / "config.yaml"), "--ckpt_path", str(folder / "checkpoints" / "last.ckpt")]
    main(["test", *again])
    main(["predict", *again])
    return folder, pd.read_parquet(folder / "predictions.parquet"), pd.read_csv(folder / "predict" / "clips.csv")


@pytest.fixture(scope="module")
def only(tiny_signs, tmp_path_factory):
    return run_of(tmp_path_factory.mktemp("only") / "run", tiny_signs)


@pytest.fixture(scope="module")
def several(tiny_signs, tmp_path_factory):
    """Quick and multilabel together, on clips in which nobody looked for effusion, nor for consolidation in some; logged to W&B."""
    root = tmp_path_factory.mktemp("signs") / "study"
    root.symlink_to(tiny_signs)
    table = pd.read_csv(root / "index.csv").assign(effusion=None)
    table.loc[::5, "consolidation"] = None
    table["path"] = [f"study/{p}" for p in table["path"]]
    table.drop(columns=["mask", "frame_labels"]).to_csv(root.parent / "index.csv", index=False)
    (root.parent / "study.yaml").write_text((tiny_signs / "study.yaml").read_text())
    return run_of(tmp_path_factory.mktemp("several") / "run", root.parent, "--config", str(MULTILABEL), logger="wandb")


def state_of(folder):
    return json.loads((folder / "run.json").read_text())


def test_a_run_on_the_only_sign_leaves_classes_and_says_its_task(only, tiny_signs):
    folder, table, clips = only
    shown = pd.read_csv(tiny_signs / "index.csv")[list(SIGNS)]
    state = state_of(folder)
    assert state["task"] == "sign"
    assert sum(state["data"]["unlabelled"].values()) == (shown.sum(axis=1) != 1).sum()
    assert {"val/accuracy", "val/f1", "val/kappa"} <= set(state["final"])
    assert table[["sign", "standard"]].isna().all(axis=None)
    np.testing.assert_allclose(table[[f"p_{c}" for c in range(4)]].sum(axis=1), 1, atol=1e-5)
    assert (shown.to_numpy()[table["row"]].argmax(axis=1) == table["target"]).all()
    assert set(clips["sign_network"]) <= set(SIGNS)
    assert len(clips) == len(shown)


def test_quick_and_multilabel_compose_and_leave_a_row_for_each_sign_that_was_taught(several):
    folder, table, clips = several
    state = state_of(folder)
    assert state["task"] == "signs"
    assert {c["key"] for c in state["changes"]} >= {"model.init_args.task", "model.init_args.network"}
    assert set(table["sign"]) == {"a_lines", "b_lines", "consolidation"}
    assert not table.duplicated(list(KEYS)).any()
    assert (table.groupby(["row", "frame", "split"]).size() == 3).all()
    assert set(table["target"]) == {-1, 0, 1}
    assert {c for c in clips if c.startswith("shows_")} == {f"shows_{s}_network" for s in ("a_lines", "b_lines", "consolidation")}
    assert clips.filter(like="confidence_").min().min() >= 0.5


def test_a_checkpoint_knows_what_it_was_taught_and_loads_with_weights_only(several):
    folder, _, _ = several
    loaded = FourSignClassifier.load_from_checkpoint(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert loaded.taught.tolist() == [True, True, False, True]
    assert loaded.labels == "signs"
