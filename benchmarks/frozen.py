"""What running a frozen network once is worth: python benchmarks/frozen.py [--network resnet50] [--size 96] [--views 3]

The paper's way is a plain loop over folds and epochs that runs the frozen network for every batch and then predicts the fold that was left
out: 7 N forward passes for 3 folds and 3 epochs. Ours trains the heads of all folds on one pass: 4 N with fresh augmentation, n + 1 with
n kept views, none when only the head changes. Same simulated images, folds, epochs, batch per head and augmentation on both sides, in one
process, pictures decoded beforehand. Prints seconds and ratios.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

from lus_lightning.data.datamodules import FrameDataModule
from lus_lightning.data.datasets import FrameDataset
from lus_lightning.data.frames import FrameChoice
from lus_lightning.data.splits import Split
from lus_lightning.data.transforms import Augmentation
from lus_lightning.methods import FrozenFeatureClassifier
from lus_lightning.nets.frozen import FrozenBackbone
from lus_lightning.simulator.studies import ensure_study

FOLDS, EPOCHS, BATCH = 3, 3, 32
POLICY = Augmentation(rotate_degrees=10, shift=0.05, scale=0.1, flip=0.5)


def data_module(args: argparse.Namespace, root: Path, cache: Path) -> FrameDataModule:
    """The study's pictures, decoded, divided by patient."""
    return FrameDataModule(
        size=args.size, batch_size=BATCH, study="raillard", root=str(root), choice=FrameChoice(max_frames=args.frames),
        split=Split(test_share=0, stratify="diagnosis"), augmentation=POLICY, num_workers=0, cache_dir=str(cache),
    )  # fmt: skip


def ours(args: argparse.Namespace, data: FrameDataModule, folder: Path, views: int, lr: float = 0.001) -> None:
    """A fit, as the recipe does it."""
    torch.manual_seed(0)
    model = FrozenFeatureClassifier(lr=lr, weights="none", folds=FOLDS, networks=[args.network], views=views)
    trainer = pl.Trainer(
        max_epochs=EPOCHS, default_root_dir=folder, logger=False, enable_checkpointing=False, use_distributed_sampler=False,
        num_sanity_val_steps=0, reload_dataloaders_every_n_epochs=1, accelerator="cpu", enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(model, data)


def plain_loop(args: argparse.Namespace, data: FrameDataModule) -> None:
    """The paper's way: fold after fold, epoch after epoch, the frozen network runs on every image again."""
    torch.manual_seed(0)
    network, train = FrozenBackbone(args.network), data.part("train")
    fold = train["fold"].to_numpy()
    files = [Path(p) for p in data.sources.clips["path"]]
    frames = FrameDataset(train, files, args.size, "train", data.cache_dir, POLICY)
    for left_out in range(FOLDS):
        head = nn.Sequential(nn.Dropout(0.5), nn.Linear(network.width, 4))
        optimiser = torch.optim.Adam(head.parameters(), lr=0.001)
        inside, outside = np.flatnonzero(fold != left_out), np.flatnonzero(fold == left_out)
        for epoch in range(EPOCHS):
            order = np.random.default_rng([left_out, epoch]).permutation(inside)
            for batch in DataLoader(frames, BATCH, sampler=[(int(i), epoch + 1) for i in order]):  # type: ignore[arg-type]
                loss = nn.functional.cross_entropy(head(network(batch["image"].float() / 255)), batch["target"])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        with torch.no_grad():
            for batch in DataLoader(frames, 4 * BATCH, sampler=outside.tolist()):
                head.eval()(network(batch["image"].float() / 255))


def bare_pass(args: argparse.Namespace, data: FrameDataModule) -> None:
    """Every picture through the frozen network once, augmented, and nothing else."""
    torch.manual_seed(0)
    network, train = FrozenBackbone(args.network), data.part("train")
    frames = FrameDataset(train, [Path(p) for p in data.sources.clips["path"]], args.size, "train", data.cache_dir, POLICY)
    for batch in DataLoader(frames, BATCH, sampler=[(i, 1) for i in range(len(train))]):  # type: ignore[arg-type]
        network(batch["image"].float() / 255)


def seconds(run: Callable[[], None]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", help="not used: the pictures are simulated")
    parser.add_argument("--network", default="resnet50")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--frames", type=int, default=1, help="pictures per clip")
    parser.add_argument("--views", type=int, default=3)
    parser.add_argument("--patients", type=int, default=49)
    args = parser.parse_args()
    root = ensure_study("raillard", patients=args.patients)
    with tempfile.TemporaryDirectory() as folder:
        data = data_module(args, root, Path(folder))
        data.prepare_data()
        images = len(data.part("train"))

        def fit(views: int, lr: float = 0.001) -> Callable[[], None]:
            return lambda: ours(args, data_module(args, root, Path(folder)), Path(folder) / "run", views, lr)

        bare = seconds(lambda: bare_pass(args, data))
        paper = seconds(lambda: plain_loop(args, data))
        fresh, first, again = seconds(fit(0)), seconds(fit(args.views)), seconds(fit(args.views, lr=0.01))
        bare = (bare + seconds(lambda: bare_pass(args, data))) / 2
    print(f"{args.network}, {args.size} px, {images} simulated images, {FOLDS} folds, {EPOCHS} epochs, {torch.get_num_threads()} threads")
    print(f"one bare pass                 {bare:8.1f} s")
    print(f"the paper's way               {paper:8.1f} s   {paper / bare:5.2f} bare passes (7 without any other work)")
    print(f"ours, fresh augmentation      {fresh:8.1f} s   {paper / fresh:5.2f} times as fast (floor 7/4 = 1.75)")
    n = args.views
    print(f"ours, {n} kept views, first run {first:8.1f} s   {paper / first:5.2f} times as fast (7/{n + 1} = {7 / (n + 1):.2f}), "
          f"{first / (n + 1) / bare:.2f} of {n + 1} bare passes")  # fmt: skip
    print(f"ours, only the head changed   {again:8.1f} s   {paper / again:5.0f} times as fast")


if __name__ == "__main__":
    main()
