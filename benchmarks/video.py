"""What clips of different lengths cost the video net: time and peak memory of a training step, beside clips of one length and padding.

python benchmarks/video.py [DATA_FOLDER] [--backbone test_resnet] [--size 64] [--repeats 5]

The mixed batch and the one of equal lengths hold the same number of real frames; `padded` runs the mixed batch as the paper does, every
clip at the length of the longest. Memory is the peak of the process above what it holds before the step (Linux; on a GPU, of the device).
With a data folder, how many frames a pass over its clips makes for each real one, by the way its batches are put together.
"""

import argparse
import time
from collections.abc import Callable
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


def peak_mib(work: Callable[[], None], device: torch.device) -> float:
    """Peak memory above that before, in MiB."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark becomes what is held now
    before = _status("VmRSS")
    work()
    return (_status("VmHWM") - before) / 2**10


def _status(name: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])


def compare(args: argparse.Namespace, device: torch.device) -> None:
    """Mixed, equal and padded batches, alternating."""
    net = ClipNetwork(args.backbone, chunk=64, checkpointing=args.checkpointing).to(device)
    even = [int(n) for n in np.diff(np.linspace(0, sum(MIXED), BATCH + 1).round())]
    mixed, equal = batch(list(MIXED), args.size), batch(even, args.size)
    ways = {
        "equal lengths": step(net, *equal, device),
        f"mixed {MIXED}": step(net, *mixed, device),
        "padded, as the paper": step(net, mixed[0], torch.full((BATCH,), max(MIXED)), device),
    }
    for work in ways.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(args.repeats):
        for name, work in ways.items():
            times[name].append(seconds(work))
    memory = {name: peak_mib(work, device) for name, work in ways.items()}
    first = next(iter(ways))
    print(f"{args.backbone}, {args.size} px, {sum(MIXED)} real frames, chunks of 64, checkpointing {args.checkpointing}, {device}")
    for name in ways:
        ratio = np.median(np.array(times[name]) / np.array(times[first]))
        print(f"  {name:<28}{np.median(times[name]):7.2f} s {ratio:6.2f}x {memory[name]:8.0f} MiB {memory[name] / memory[first]:6.2f}x")


def lengths_of(args: argparse.Namespace, device: torch.device) -> None:
    """Clips of 1, 7 and 2,000 frames, training with checkpointing, and predicting."""
    net = ClipNetwork(args.backbone, chunk=64, checkpointing=True).to(device)
    for n in (1, 7, 2000):
        clip = batch([n], args.size)

        def predict(clip: tuple[torch.Tensor, torch.Tensor] = clip) -> None:
            with torch.no_grad():
                net(clip[0].to(device), clip[1])

        train = step(net, *clip, device)
        train()
        both = peak_mib(train, device), peak_mib(predict, device)
        print(f"  a clip of {n:>5} frames: training {both[0]:.0f}, predicting {both[1]:.0f} MiB above idle")


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
    parser.add_argument("--backbone", default="test_resnet")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--checkpointing", action="store_true")
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    compare(args, device)
    lengths_of(args, device)
    if args.data:
        padding(args.data)


if __name__ == "__main__":
    main()
