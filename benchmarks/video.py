"""What clips of different lengths cost the video net: time and peak memory of a training step, beside clips of one length and padding.

python benchmarks/video.py [DATA_FOLDER] [--backbone torchvision:alexnet] [--size 128] [--repeats 3]

The mixed batch and the one of equal lengths hold the same number of real frames; `padded` runs the mixed batch as the paper does, every
clip at the length of the longest. Memory is the peak of the process above what it holds before the step (Linux; on a GPU, of the device).
With a data folder, how many frames a pass over its clips makes for each real one, by the way its batches are put together.
"""

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from lus_lightning.data.index import build_index
from lus_lightning.data.samplers import GroupBatches, LengthBatches
from lus_lightning.nets.sord import sord
from lus_lightning.nets.video import ClipNetwork

MIXED = (60, 150, 300, 600)
BATCH = len(MIXED)


def batch(lengths: list[int], size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random clips of these lengths, padded to the longest."""
    frames = torch.randint(0, 256, (len(lengths), max(lengths), 1, size, size), dtype=torch.uint8)
    return frames, torch.tensor(lengths)


def step(net: ClipNetwork, frames: torch.Tensor, length: torch.Tensor, device: torch.device) -> Callable[[], None]:
    """A training step without its update."""
    target = torch.arange(len(length), device=device) % 4

    def run() -> None:
        net.zero_grad()
        sord(net(frames.to(device), length), target).backward()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return run


def seconds(work: Callable[[], None]) -> float:
    """How long it takes once."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def peak_mib(how: tuple[str, int, bool, str], lengths: list[int], padded: bool, training: bool) -> float:
    """Peak memory of a step above that before, in MiB, in a process of its own: what is freed is not always given back.

    Args:
        how: backbone, pictures' size, whether to checkpoint, and the device.
        lengths, padded: of the clips, and whether each is run at the length of the longest.
        training: forward and backward, or forward alone.
    """
    net, device = network(*how)
    frames, length = batch(lengths, how[1])
    length = torch.full_like(length, max(lengths)) if padded else length
    warm = step(net, *batch([1], how[1]), device)
    warm()
    run = step(net, frames, length, device) if training else partial(torch.no_grad()(net), frames.to(device), length)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark becomes what is held now
    before = _status("VmRSS")
    run()
    return (_status("VmHWM") - before) / 2**10


def network(backbone: str, size: int, checkpointing: bool, device: str) -> tuple[ClipNetwork, torch.device]:
    """The net in chunks of 64, of seed 0; `size` is not the network's."""
    torch.manual_seed(0)
    return ClipNetwork(backbone, chunk=64, checkpointing=checkpointing).to(device), torch.device(device)


def _status(name: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])


def compare(how: tuple[str, int, bool, str], repeats: int, pool: ProcessPoolExecutor) -> None:
    """Mixed, equal and padded batches, alternating."""
    net, device = network(*how)
    even = [int(n) for n in np.diff(np.linspace(0, sum(MIXED), BATCH + 1).round())]
    ways = {"equal lengths": (even, False), f"mixed {MIXED}": (list(MIXED), False), "padded, as the paper": (list(MIXED), True)}
    work = {}
    for name, (lengths, padded) in ways.items():
        frames, length = batch(lengths, how[1])
        work[name] = step(net, frames, torch.full_like(length, max(lengths)) if padded else length, device)
        work[name]()
    times = {name: [] for name in ways}
    for _ in range(repeats):
        for name in ways:
            times[name].append(seconds(work[name]))
    memory = {name: pool.submit(peak_mib, how, *way, True).result() for name, way in ways.items()}
    first = next(iter(ways))
    print(f"{how[0]}, {how[1]} px, {sum(MIXED)} real frames, chunks of 64, checkpointing {how[2]}, {device}")
    for name in ways:
        ratio = np.median(np.array(times[name]) / np.array(times[first]))
        print(f"  {name:<28}{np.median(times[name]):7.2f} s {ratio:6.2f}x {memory[name]:8.0f} MiB {memory[name] / memory[first]:6.2f}x")


def long_clips(how: tuple[str, int, bool, str], pool: ProcessPoolExecutor) -> None:
    """Clips of 1, 7 and 2,000 frames, training with checkpointing, and predicting."""
    how = (how[0], how[1], True, how[3])
    for n in (1, 7, 2000):
        train, predict = (pool.submit(peak_mib, how, [n], False, training).result() for training in (True, False))
        print(f"  a clip of {n:>5} frames, checkpointing: training {train:.0f}, predicting {predict:.0f} MiB above idle")


def padding(root: str) -> None:
    """Frames made for each real one, over 20 passes."""
    lengths = build_index(root).table["frames"].to_numpy(int)
    all_clips, passes = np.arange(len(lengths)), 20
    per_pass = -(-len(lengths) // BATCH)
    ways = {
        "shuffled": GroupBatches([all_clips], BATCH, passes * per_pass, 0),
        "by length": LengthBatches(all_clips, lengths, BATCH, passes * per_pass, 0),
    }
    print(f"{root}: {len(lengths)} clips of {lengths.min()} to {lengths.max()} frames, batches of {BATCH}")
    for name, batches in ways.items():
        each = [lengths[[position for position, _ in drawn]] for drawn in batches]
        print(f"  {name:<12}{sum(len(b) * b.max() for b in each) / sum(b.sum() for b in each):.3f} frames for each real one, if padded")
    longest = len(lengths) * lengths.max() / lengths.sum()
    print(f"  {'to longest':<12}{longest:.3f} (the paper pads every clip to the longest of all)")


def main() -> None:
    """Print all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?")
    parser.add_argument("--backbone", default="torchvision:alexnet")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--checkpointing", action="store_true")
    args = parser.parse_args()
    how = (args.backbone, args.size, args.checkpointing, "cuda" if torch.cuda.is_available() else "cpu")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        compare(how, args.repeats, pool)
        long_clips(how, pool)
    if args.data:
        padding(args.data)


if __name__ == "__main__":
    main()
