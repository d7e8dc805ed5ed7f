"""Small clips and tables on disk, made of known frames."""

import hashlib
from fractions import Fraction

import av
import numpy as np
import pandas as pd
from PIL import Image

CONTAINERS = {".mp4": "libx264", ".mov": "libx264", ".avi": "mpeg4", ".mpeg": "mpeg2video", ".mkv": "libx264", ".gif": "gif"}


def smooth_frames(count=6, height=48, width=64):
    """(T, H, W) uint8: a gradient with a bright bar that moves, so that every codec keeps it and no two frames are alike."""
    frames = np.repeat(np.linspace(20, 120, width, dtype=np.uint8)[None], height, 0)[None].repeat(count, 0)
    for t, frame in enumerate(frames):
        frame[8 : height - 8, 8 + 2 * t : 20 + 2 * t] = 200
    return frames


def write_video(path, frames, fps=25, codec=None, **options):
    """Frames as a grey video in the container that the suffix names."""
    codec = codec or CONTAINERS[path.suffix]
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
        stream.height, stream.width = frames.shape[1:]
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        container.start_encoding()
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")))
        container.mux(stream.encode(None))
    return path


def write_stills(folder, frames, suffix=".png"):
    folder.mkdir(parents=True)
    for t, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"frame_{t}{suffix}")
    return folder


def state(root):
    """Everything that must not change in a data folder: names, sizes, times, content, link targets."""
    return {
        p.relative_to(root).as_posix(): (
            p.lstat().st_size,
            p.lstat().st_mtime_ns,
            p.readlink() if p.is_symlink() else None,
            hashlib.sha256(p.read_bytes()).hexdigest() if p.is_file() else None,
        )
        for p in sorted(root.rglob("*"))
    }


def write_index(root, table):
    table.to_csv(root / "index.csv", index=False)


def edit_index(root, row, column, value):
    table = pd.read_csv(root / "index.csv", dtype=object)
    table.loc[row, column] = value
    write_index(root, table)
