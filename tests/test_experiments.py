"""Every shipped recipe, alone and with its quick overlay, through the real command line: fit, test, predict."""

import json

import pandas as pd
import pytest
import torch
import yaml
from command_lines import EXPERIMENTS, words
from torch.utils._python_dispatch import TorchDispatchMode

from lus_lightning.cli import main
from lus_lightning.runs import flat

RECIPES = sorted(EXPERIMENTS.glob("*.yaml"))
RUNS = [(r, o) for r in RECIPES for o in (None, EXPERIMENTS / "with" / f"quick-{r.stem}.yaml")] + [
    (EXPERIMENTS / f"{v.parent.name}.yaml", v) for v in sorted(EXPERIMENTS.glob("beside/*/*.yaml"))
]
RUNS.append((EXPERIMENTS / "four-signs.yaml", EXPERIMENTS / "with" / "multilabel.yaml"))


@pytest.fixture
def study(recipe, tiny_study, tiny_signs):
    """What a recipe is run on: clips that have the labels it needs."""
    return tiny_signs if recipe.stem == "four-signs" else tiny_study


class NoFloat64(TorchDispatchMode):
    """Fails on any operation that makes a float64 tensor: MPS has none."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for leaf in torch.utils._pytree.tree_leaves(out):
            if isinstance(leaf, torch.Tensor) and leaf.dtype == torch.float64:
                raise AssertionError(f"{function} made a float64 tensor")
        return out


@pytest.mark.parametrize(("recipe", "overlay"), RUNS, ids=[f"{r.stem}{'+' + o.stem if o else ''}" for r, o in RUNS])
def test_every_recipe_fits_tests_and_predicts_without_any_float64(recipe, overlay, study, tmp_path):
    run = tmp_path / "run"
    with NoFloat64():
        main(["fit", *words(recipe, overlay, study, run)])
        again = ["--config", str(run / "config.yaml"), "--ckpt_path", str(run / "checkpoints" / "last.ckpt")]
        main(["test", *again])
        main(["predict", *again])
    split, table = pd.read_csv(run / "split.csv"), pd.read_parquet(run / "predictions.parquet")
    test_patients = set(split.loc[split["split"] == "test", "patient"])
    assert set(table.loc[table["split"] == "test", "patient"]) <= test_patients
    assert not test_patients & set(split.loc[split["split"] != "test", "patient"])
    predicted = pd.read_csv(run / "predict" / "clips.csv")
    assert set(predicted["clip"]) == set(pd.read_csv(study / "index.csv")["clip"])
    confidence = predicted.filter(like="confidence_")
    if recipe.stem == "munoz":  # a rule has no probability
        assert confidence.isna().all().all()
        assert predicted["score_segmenter"].isin([-1, 0, 1, 2, 3]).all()
        assert len(pd.read_parquet(run / "segmentation.parquet"))
        assert (pd.read_parquet(run / "measures.parquet")["true_visible_lines"] > 0).any()
    else:
        assert confidence.max().between(0, 1).all()
    state = json.loads((run / "run.json").read_text())
    assert state["finished"]
    assert state["recipe"] == recipe.stem
    assert state["data"]["simulated"]


@pytest.mark.parametrize(
    ("recipe", "overlay"), [(r, EXPERIMENTS / "with" / f"quick-{r.stem}.yaml") for r in RECIPES], ids=[r.stem for r in RECIPES]
)
def test_a_quick_run_lists_every_key_that_its_overlay_changes(recipe, overlay, study, tmp_path):
    main(["fit", *words(recipe, overlay, study, tmp_path / "run")])
    listed = {c["key"]: c for c in json.loads((tmp_path / "run" / "run.json").read_text())["changes"]}
    here = ("data.init_args.num_workers",)  # where it runs, not what it does
    assert {k for k in flat(yaml.safe_load(overlay.read_text())) if not k.endswith("class_path")} - {*here} <= set(listed)
    assert all(c["paper"] != c["here"] for c in listed.values())
