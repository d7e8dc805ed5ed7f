"""Videos through PyAV: the frames that a player shows, in order."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from av.sidedata.sidedata import Type
from av.video.reformatter import VideoReformatter

from lus_lightning.data.pixels import REPLACE, Told, on_black, refuse_large, square
from lus_lightning.data.shown import LOOKED_AT
from lus_lightning.errors import UserError

_GIF_END: Final = 4096
_EVERY: Final = 3
"""Colours are looked at in every third frame: what comes and goes is seen in these too, and in less time."""


def video_frames(path: Path, told: Told) -> Iterator[np.ndarray]:
    """The frames of a video, each (H, W): uint8 luma, or uint16 where a pixel has 16 bits.

    Those within the edit list, turned and mirrored as the display matrix says, with square pixels, transparent ground black. Interlaced
    frames keep their two fields woven; the luma of a video is its own, whatever its colour space.

    Raises:
        UserError, av.FFmpegError: no video, of an unknown codec, truncated, damaged, too large or turned by no right angle.
    """
    with av.open(str(path)) as container:
        stream = _stream(container, told)
        listed = sum(1 for entry in stream.index_entries if entry.size and not entry.is_discard)
        # An edit list shows fewer frames than there are, and an AVI counts the gaps between frames too; where it is cut so is its list.
        whole = stream.frames if not listed or (container.format.name == "avi" and _is_cut(path)) else listed
        aspect = float(stream.sample_aspect_ratio or 1)
        rate = stream.average_rate or stream.guessed_rate
        told.fps = float(rate) if rate else None
        grey = _grey(raw_avi=container.format.name == "avi" and stream.codec_context.name == "rawvideo")
        small = _small()
        turned: Callable[[np.ndarray], np.ndarray] | None = None
        count = 0
        for frame in _decoded(container, stream):
            turned = turned or _turn(frame)  # once: a frame whose side data were looked at stays in memory for long
            if frame.interlaced_frame:
                told.note("is interlaced: every other row of a frame is a moment later")
            if told.colours is not None and count % _EVERY == 0 and (len(frame.format.components) > 2 or frame.format.has_palette):
                told.colours.look(small(frame))
            yield turned(square(grey(frame), aspect, told))
            count += 1
    if count < whole:
        raise UserError(f"is truncated: {count} of {whole} frames are there; {REPLACE}")
    if path.suffix.lower() == ".gif" and not _tail(path).rstrip(b"\0").endswith(b";"):
        raise UserError(f"is truncated: the end of the GIF is missing; {REPLACE}")


def _stream(container: "av.container.InputContainer", told: Told) -> "av.VideoStream":
    streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not streams:
        raise UserError(f"holds no video stream: it is no video, or its end is missing; {REPLACE}")
    if any(s.codec_context is None for s in streams):
        raise UserError("is of a codec that FFmpeg does not know; convert it, for example to H.264 in MP4")
    stream = max(streams, key=lambda s: s.codec_context.width * s.codec_context.height)
    width, height = stream.codec_context.width, stream.codec_context.height
    refuse_large(width, height)
    if stream.metadata.get("alpha_mode") == "1":
        told.note("its transparency lies in a layer of its own, which is not read")
    if len(streams) > 1:
        told.note(f"of the {len(streams)} videos in it the one of {width} x {height} is read")
    return stream


def _decoded(container: "av.container.InputContainer", stream: "av.VideoStream") -> Iterator[av.VideoFrame]:
    count = 0
    try:
        for frame in container.decode(stream):
            if frame.is_corrupt:
                raise UserError(f"is truncated or damaged: frame {count} is corrupt; {REPLACE}")
            yield frame
            count += 1
    except av.FFmpegError:
        if count == 0:
            raise
        raise UserError(f"is truncated or damaged behind frame {count - 1}; {REPLACE}") from None


def _grey(raw_avi: bool) -> Callable[[av.VideoFrame], np.ndarray]:
    """What makes luma of a frame. One reformatter for all frames: setting it up costs as much as decoding a frame."""
    luma, colours = VideoReformatter(), VideoReformatter()

    def grey(frame: av.VideoFrame) -> np.ndarray:
        parts = frame.format.components
        values = luma.reformat(frame, format="gray16le" if parts[0].bits == 16 else "gray").to_ndarray()
        # In an AVI the fourth byte of raw pixels means nothing, and is often 0.
        if raw_avi or not (frame.format.has_palette or any(part.is_alpha for part in parts)):
            return values
        return on_black(values, colours.reformat(frame, format="rgba").to_ndarray()[..., 3])

    return grey


def _small() -> Callable[[av.VideoFrame], np.ndarray]:
    """What makes small colour pictures of a frame, (h, w, 3) uint8."""
    colours = VideoReformatter()

    def small(frame: av.VideoFrame) -> np.ndarray:
        shrink = max(1.0, max(frame.width, frame.height) / LOOKED_AT)
        width, height = (max(1, round(side / shrink)) for side in (frame.width, frame.height))
        return colours.reformat(frame, width, height, format="rgb24", interpolation="AREA").to_ndarray()

    return small


def _turn(frame: av.VideoFrame) -> Callable[[np.ndarray], np.ndarray]:
    """What turns and mirrors pictures as a frame's display matrix says.

    Raises:
        UserError: it is none of the eight ways to put a rectangle on a grid.
    """
    data: Mapping[Any, Any] = frame.side_data
    if Type.DISPLAYMATRIX not in data:
        return lambda picture: picture
    # A point (column, row) is shown at (a column + c row, b column + d row).
    (a, b, _), (c, d, _), _ = np.frombuffer(bytes(data[Type.DISPLAYMATRIX]), np.int32).reshape(3, 3) / 65536
    quarter = abs(b) > abs(a)
    to_columns, to_rows, *skewed = (c, b, a, d) if quarter else (a, d, b, c)
    if max(map(abs, skewed)) > 0.01 or not to_columns or not to_rows:
        angle = np.degrees(np.arctan2(c, a))
        raise UserError(f"is to be shown turned by {angle:.0f} degrees, and only quarter turns are read; write it upright")
    return partial(_placed, quarter=quarter, columns=int(np.sign(to_columns)), rows=int(np.sign(to_rows)))


def _placed(picture: np.ndarray, quarter: bool, columns: int, rows: int) -> np.ndarray:
    return (picture.T if quarter else picture)[::rows, ::columns]


def _is_cut(avi: Path) -> bool:
    """Whether an AVI is shorter than its own header says."""
    with avi.open("rb") as file:
        return 8 + int.from_bytes(file.read(8)[4:], "little") > avi.stat().st_size


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _GIF_END))
        return file.read()
