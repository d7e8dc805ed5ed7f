"""Where Corso's NaNs may have come from (section V.A): each suspect by itself, and all together, looked at by the tool that finds them.

python benchmarks/nans.py [--iterations 200] [--only NAME ...]

The report trained in batches of four on MPS, padded every clip to the longest without masking, and saw the gradients become NaN after 35
epochs, with deeper CNNs at once. Here the same network is trained on simulated clips in float32 on this machine, from nothing (ImageNet's
weights are not needed to ask this), until `FindNonFinite` stops it or the iterations are over. `provoked` cases learn two thousand times
faster, so that the logits grow: they ask what a suspect does when it is driven, not whether it was.
"""

import argparse
import json
import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from lus_lightning.callbacks.nonfinite import FindNonFinite
from lus_lightning.data.datamodules import ClipDataModule
from lus_lightning.data.splits import Split
from lus_lightning.errors import UserError
from lus_lightning.methods import SpatiotemporalClassifier
from lus_lightning.methods.base import Step
from lus_lightning.nets.sord import DISTANCES, soft_targets, sord
from lus_lightning.simulator.studies import ensure_study

DEEP = {"backbone": "resnet50", "statistics": "chunk", "checkpointing": True}
CASES: dict[str, dict[str, Any]] = {
    "as here": {},
    "unmasked padding": {"padded": True},
    "naive SORD": {"naive": True},
    "batch of one": {"batch_size": 1},
    "deeper net": DEEP,
    "deeper net, padded, naive": DEEP | {"padded": True, "naive": True},
    "provoked: as here": {"lr": 2.0},
    "provoked: clipped": {"lr": 2.0, "clip": 1.0},
    "provoked: unmasked padding": {"lr": 2.0, "padded": True},
    "provoked: naive SORD": {"lr": 2.0, "naive": True},
    "provoked: naive, clipped": {"lr": 2.0, "naive": True, "clip": 1.0},
}


class Suspect(SpatiotemporalClassifier):
    """The net with the report's way of padding and the loss written out plainly, where asked."""

    def __init__(self, padded: bool = False, naive: bool = False, **given: Any) -> None:
        super().__init__(momentum=0.7, weight_decay=0.001, weights="none", hidden=64, **given)
        self.padded, self.naive = padded, naive
        self.largest_logit, self.gradients = 0.0, [torch.inf, 0.0]

    def step(self, batch: dict[str, Tensor]) -> Step:
        """SORD of the clips; a Step as any."""
        length = torch.full_like(batch["length"], batch["frames"].shape[1]) if self.padded else batch["length"]
        logits = self.net(batch["frames"], length)
        self.largest_logit = max(self.largest_logit, float(logits.detach().abs().max()))
        plain = -(soft_targets(DISTANCES)[batch["target"]] * (logits.exp() / logits.exp().sum(1, keepdim=True)).log()).sum(1).mean()
        return Step(
            batch["target"], {"video": plain if self.naive else sord(logits, batch["target"])}, {"video": logits.detach().softmax(1)}
        )

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Follow the gradient of the CNN's first layer: the report suspects that it vanishes."""
        norm = float(next(self.net.backbone.parameters()).grad.norm())  # type: ignore[union-attr]
        self.gradients = [min(self.gradients[0], norm), max(self.gradients[1], norm)]


def run(name: str, root: Path, iterations: int) -> str:
    """Train one case; what came of it."""
    case = {"lr": 0.001, "batch_size": 4, "clip": None} | CASES[name]
    batch_size, clip = case.pop("batch_size"), case.pop("clip")
    pl.seed_everything(0, verbose=False)
    model = Suspect(**case)
    data = ClipDataModule(64, batch_size, "tiny", root=str(root), iterations=iterations, num_workers=0, split=Split(test_share=0.25))
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(default_root_dir=folder, max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
                             enable_progress_bar=False, enable_model_summary=False, gradient_clip_val=clip, callbacks=[FindNonFinite()],
                             use_distributed_sampler=False, limit_val_batches=0)  # fmt: skip
        try:
            trainer.fit(model, datamodule=data)
            came = f"none in {iterations} iterations"
        except UserError:
            found = json.loads((Path(folder) / "nonfinite.json").read_text())
            came = f"iteration {found['iteration']}: {found['kind']} in {found['module'] or 'its own code'} ({found['what']})"
    low, high = model.gradients
    return f"{name:<28}{came:<78}|logit| <= {model.largest_logit:9.3g}   first layer's gradient {low:.2g} to {high:.2g}"


def main() -> None:
    """Print a line a case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", help="not used: the clips are simulated")
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    args = parser.parse_args()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    root = ensure_study("tiny", layout="san-matteo", frames=6, length_spread=0.6, beam=False)
    for name in args.only:
        print(run(name, root, args.iterations), flush=True)


if __name__ == "__main__":
    main()
