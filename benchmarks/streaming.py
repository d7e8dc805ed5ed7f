"""Frames a second of segmentation to score, one frame at a time: python benchmarks/streaming.py [--encoder resnet18] [--size 128]

A stream has no future: each frame is taken to beam space, segmented, measured and scored by itself, as it comes. Beside it the clip rate
that a bedside machine shows, 25 frames a second. Weights are as initialised: the time does not depend on them.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from lus_lightning.data.beamspace import geometry_from_row, to_beam
from lus_lightning.data.readers import read_clip
from lus_lightning.methods import SegmentationToScore
from lus_lightning.scoring.pleura import scale_of
from lus_lightning.simulator.studies import ensure_study

CLIP_RATE = 25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", help="not used: the pictures are simulated")
    parser.add_argument("--encoder", nargs="+", default=["resnet34", "resnet18", "tu-test_resnet"])
    parser.add_argument("--size", type=int, nargs="+", default=[256, 128], help="depths of a picture in beam space")
    parser.add_argument("--channels", type=int, nargs=5, default=[64, 48, 32, 24, 16], help="of the decoder")
    parser.add_argument("--frames", type=int, default=60)
    args = parser.parse_args()
    root = ensure_study("tiny", size=224)
    row = pd.read_csv(root / "index.csv").iloc[0]
    frames, geometry = read_clip(Path(root / row["path"])).frames, geometry_from_row(row)
    assert geometry is not None
    stream = [frames[n % len(frames)] for n in range(args.frames)]
    print(f"{args.frames} simulated frames of {frames.shape[1]} px, one at a time, {torch.get_num_threads()} threads")
    for encoder in args.encoder:
        model = SegmentationToScore(0.001, 0.0, "none", encoder, args.channels).eval()
        for size in args.size:
            model.read(stream[0], geometry, size)
            each = []
            for frame in stream:
                started = time.perf_counter()
                model.read(frame, geometry, size)
                each.append(time.perf_counter() - started)
            fps = 1 / np.median(each)
            slowest = 1 / max(each)
            told = f"{fps:8.1f} frames/s (slowest {slowest:6.1f})   {fps / CLIP_RATE:5.2f} x the {CLIP_RATE} of a clip"
            print(f"{encoder:16s} {size:4d} x {size // 2:<4d}{told}")
    started = time.perf_counter()
    masks = np.zeros((1, 128, 256), np.uint8)
    for frame in stream:
        to_beam(frame[None], geometry)
        model.measure(masks, [geometry])
        scale_of(masks, geometry)
    print(f"without the network {args.frames / (time.perf_counter() - started):8.1f} frames/s")


if __name__ == "__main__":
    main()
