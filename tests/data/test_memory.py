"""What reads clips holds a few frames of them, however long and however large they are."""

import subprocess
import sys

import numpy as np
import pytest
from container_writers import video

MEASURE = """
import resource, sys
from pathlib import Path
from lus_lightning.data.beams import _brightest
from lus_lightning.data.beamspace import clip_geometry
from lus_lightning.data.cache import cached_frames
from lus_lightning.data.geometry import Geometry
from lus_lightning.data.probe import Files, probe

peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
beam = Geometry("convex", 0.5, 50.0, 100.0, *map(int, sys.argv[2:4]), 1.0, 0.0)
for clip in (Path(sys.argv[4]), Path(sys.argv[5])):
    before, cache = peak(), Path(sys.argv[1]) / clip.stem
    count = probe(Files(clip), cache).frames
    cached_frames(clip, 64, cache)
    cached_frames(clip, 128, cache, beam)
    clip_geometry(clip, {}, cache)
    _brightest((clip, count))
print(count, peak() - before)
"""


@pytest.mark.parametrize(("count", "height", "width"), [(1000, 240, 320), (16, 2048, 2048)])
def test_memory_is_that_of_a_few_frames(tmp_path, count, height, width):
    def clip(name, frames):
        ramp = np.add.outer(np.linspace(20, 120, height), np.linspace(0, 100, width)).astype(np.uint8)
        moving = (np.roll(ramp, 3 * (t % 8), axis=1) for t in range(frames))
        return video(name, "mpeg4", frames=_Made(moving, frames, (height, width)))(tmp_path)

    short, long = clip("short.mp4", 10), clip("long.mp4", count)
    command = [sys.executable, "-c", MEASURE, str(tmp_path), str(height), str(width), str(short), str(long)]
    done = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    frame = height * width / 2**20
    assert int(done[0]) == count
    assert float(done[1]) < 10 + 4 * frame, f"{count} frames of {frame:.1f} MB took {done[1]} MB more than 10"


class _Made:
    """Frames that are made as they are asked for."""

    def __init__(self, frames, count, size):
        self.frames, self.shape = frames, (count, *size)

    def __len__(self):
        return self.shape[0]

    def __iter__(self):
        return self.frames
