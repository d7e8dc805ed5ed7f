"""Frames a second: from the frame cache, from it read raw (the limit), and decoded each time (what others do). One run, one table.

    python benchmarks/decode.py [DATA_FOLDER] [--size 224] [--clips 60]

Without a folder the clips are simulated. Every way but the last runs in one thread and touches every pixel that it delivers. The cache
folder is fresh, and emptied at the end.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from lus_lightning.data import cache
from lus_lightning.data.cache import cached_frames, letterbox
from lus_lightning.data.index import build_index
from lus_lightning.data.readers import read_clip
from lus_lightning.data.roots import cache_folder, local_root
from lus_lightning.simulator.studies import ensure_study

Way = Callable[[list[Path], int, Path], int]


def decode(clips: list[Path], size: int, folder: Path) -> int:
    return sum(_touched(letterbox(read_clip(clip).frames, size)) for clip in clips)


def decode_only(clips: list[Path], size: int, folder: Path) -> int:
    return sum(_touched(read_clip(clip).frames) for clip in clips)


def first_epoch(clips: list[Path], size: int, folder: Path) -> int:
    return second_epoch(clips, size, folder)


def second_epoch(clips: list[Path], size: int, folder: Path) -> int:
    return sum(_touched(cached_frames(clip, size, folder)) for clip in clips)


def second_epoch_new_process(clips: list[Path], size: int, folder: Path) -> int:
    cache._opened.cache_clear()
    return second_epoch(clips, size, folder)


def second_epoch_by_frame(clips: list[Path], size: int, folder: Path) -> int:
    """Single frames in random order, as a frame data set asks for them."""
    frames = [(clip, t) for clip in clips for t in range(len(cached_frames(clip, size, folder)))]
    np.random.default_rng(0).shuffle(frames)
    return sum(_touched(cached_frames(clip, size, folder)[int(t) : int(t) + 1]) for clip, t in frames)


def raw_read(clips: list[Path], size: int, folder: Path) -> int:
    """Every byte of the cache files by plain file reads."""
    return sum(np.fromfile(file, np.uint8)[64:].reshape(-1, size, size).shape[0] for file in (folder / "frames").rglob("*.frames"))


def data_loader(clips: list[Path], size: int, folder: Path) -> int:
    """The frame data set behind two workers, in batches of 64; eight epochs, so that starting the workers weighs little."""
    from torch.utils.data import DataLoader

    from lus_lightning.data.datasets import FrameDataset

    counts = [len(cached_frames(clip, size, folder)) for clip in clips]
    frames = pd.DataFrame({"row": np.repeat(np.arange(len(clips)), counts), "frame": np.concatenate([np.arange(n) for n in counts])})
    dataset = FrameDataset(frames.assign(target=-1, fold=-1), clips, size, "predict", folder)
    order = np.random.default_rng(0).permutation(np.tile(np.arange(len(frames)), 8))
    return sum(len(batch["image"]) for batch in DataLoader(dataset, 64, sampler=order.tolist(), num_workers=2))


WAYS: dict[str, Way] = {
    "decoded each time, grey, letterboxed": decode,
    "decoded each time, grey, no resizing": decode_only,
    "first epoch: decoded into the cache": first_epoch,
    "second epoch from the cache": second_epoch,
    "second epoch, new process (checksums)": second_epoch_new_process,
    "second epoch, single frames at random": second_epoch_by_frame,
    "raw read of the cache files (limit)": raw_read,
    "frame data set, two workers": data_loader,
}


def _touched(frames: np.ndarray) -> int:
    # A copy, as a batch makes one: a memory map that nobody reads costs nothing.
    np.array(frames)
    return len(frames)


def measure(clips: list[Path], size: int, folder: Path, repeats: int = 3) -> dict[str, float]:
    """Frames per second of every way; the best of some repeats, but the first epoch once."""
    rates = {}
    for name, way in WAYS.items():
        seconds, count = [], 0
        for _ in range(1 if way is first_epoch else repeats):
            start = time.perf_counter()
            count = way(clips, size, folder)
            seconds.append(time.perf_counter() - start)
        rates[name] = count / min(seconds)
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", nargs="?", help="a data folder; none simulates clips")
    parser.add_argument("--size", type=int, default=224, help="side of the square frames in pixels")
    parser.add_argument("--clips", type=int, default=60, help="at most this many clips, spread evenly over the index")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    root = args.root or ensure_study("tiny")
    table = build_index(root).table
    chosen = table.iloc[np.unique(np.linspace(0, len(table) - 1, args.clips).round().astype(int))]
    clips = [local_root(root, cache_folder(None)) / path for path in chosen["path"]]
    with tempfile.TemporaryDirectory() as folder:
        rates = measure(clips, args.size, Path(folder))
    title = f"{Path(root).name}: {len(clips)} clips, {chosen['frames'].sum()} frames, {args.size} px"
    shown = Table("way", "frames/s", "times decoding", title=title)
    for name, rate in rates.items():
        shown.add_row(name, f"{rate:,.0f}", f"{rate / rates['decoded each time, grey, letterboxed']:.1f}")
    Console().print(shown)


if __name__ == "__main__":
    main()
