"""From the values that a file holds to the picture that is meant: 8 bits, square pixels, a size that is read at all."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import av
import numpy as np

from lus_lightning.data.shown import Colours
from lus_lightning.errors import UserError

MAX_PIXELS: Final = 2**26
"""Most pixels of a frame, 8192 x 8192: a header may claim any size, and what it claims is what decoding takes."""
REPLACE: Final = "export the clip again from the scanner, or take its row out of the table"
_SQUARE: Final = 0.005
"""Pixels whose sides differ by less are square: resolutions are rounded when they are written."""
_FORMATS: Final = {np.dtype(np.uint8): "gray", np.dtype(np.uint16): "gray16le"}


@dataclass
class Told:
    """What a file says beside its frames, complete once the last frame is read.

    Args:
        fps: frames per second as the container says (the average where the rate varies), none for stills and arrays.
        notes: what the user should know of how the file was read.
        colours: looks at the frames' colours, of which only grey is read; none where nobody asks.
    """

    fps: float | None = None
    notes: list[str] = field(default_factory=list)
    colours: Colours | None = None

    def note(self, text: str) -> None:
        """Add a note, once."""
        if text not in self.notes:
            self.notes.append(text)


def refuse_large(width: int, height: int) -> None:
    """Refuse frames that are larger than any scanner's, before they are decoded.

    Raises:
        UserError: more than `MAX_PIXELS`.
    """
    if width * height > MAX_PIXELS:
        raise UserError(
            f"claims frames of {width} x {height} pixels, and at most {MAX_PIXELS // 10**6} million pixels are read; write it smaller"
        )


def square(frame: np.ndarray, aspect: float, told: Told) -> np.ndarray:
    """A frame (H, W) whose pixels are `aspect` times as wide as high, made wider or narrower so that they are square.

    Raises:
        UserError: the frame would be larger than what is read, or has values that are not scaled.
    """
    if abs(aspect - 1) < _SQUARE:
        return frame
    if frame.dtype not in _FORMATS:
        raise UserError("has pixels that are not square, which is read of 8 and 16 bits only; save it with square pixels")
    width = max(1, round(frame.shape[1] * aspect))
    refuse_large(width, frame.shape[0])
    told.note(f"its pixels are {aspect:.4g} times as wide as high, so its width was made {width} for {frame.shape[1]}")
    stored = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format=_FORMATS[frame.dtype])
    wide = stored.reformat(width=width, interpolation="BICUBIC").to_ndarray()  # as FFmpeg's command scales
    return wide if frame.dtype == np.uint8 else wide.clip(0, frame.max())  # whose largest value says how many bits are in use


def on_black(grey: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Grey values (H, W) over black, `alpha` (H, W) uint8: 0 is transparent, 255 opaque."""
    return grey if alpha.min() == 255 else (grey * (alpha / 255)).round().astype(grey.dtype)


def eight_bits(read: Callable[[], Iterator[np.ndarray]], told: Told) -> Iterator[np.ndarray]:
    """The frames that `read` gives as uint8.

    Whole numbers beyond 255 are scaled by the bits in use over the clip, for which it is read twice. Other numbers are taken as 0-255.

    Raises:
        UserError: NaN or infinite pixels, or pixels outside 0-255 (whole numbers: 0-65535), or from 0 to 1.
    """
    frames = read()
    first = next(frames, None)
    if first is None:
        return
    if first.dtype == np.uint8:
        yield first
        yield from frames
        return
    whole, low, high = first.dtype.kind in "ui", np.inf, -np.inf
    for frame in read():
        if not np.isfinite(frame).all():
            raise UserError(f"has {np.count_nonzero(~np.isfinite(frame))} NaN or infinite pixels; write finite numbers in 0-255")
        low, high = min(low, float(frame.min())), max(high, float(frame.max()))
    if low < 0 or high > (65535 if whole else 255):
        raise UserError(f"has pixels from {low:g} to {high:g}; scale them to 0-255")
    if not whole and 0 < high <= 1:
        raise UserError("has pixels from 0 to 1, where 0-255 is read; multiply them by 255")
    top = _top(int(high)) if whole else 255
    if 255 < top < 65535:
        told.note(f"its values have {top.bit_length()} bits (the largest is {high:g}), so {top} is white")
    for frame in read():
        yield np.rint(frame * (255 / top)).astype(np.uint8)


def _top(largest: int) -> int:
    """The largest value that as many bits hold as are in use: 8, 10, 12, 14 or 16."""
    return int(2 ** max(8, 2 * ((largest.bit_length() + 1) // 2)) - 1)
