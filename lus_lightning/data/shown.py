"""What the frames of a clip show: black ones and repeated ones are no samples, and colours that move are no B-mode."""

from collections.abc import Iterable
from typing import Final

import cv2
import numpy as np

BLACK_BELOW: Final = 16
"""A frame whose brightest pixel is darker is black. The black frames that open real clips hold nothing but 0; the dimmest picture, 130."""
BLOCK: Final = 8
"""Codecs code a picture that stands still anew now and then: its pixels change, the mean of 8 x 8 of them hardly does."""
_MOVED: Final = 1.5
_STILL: Final = 0.01


LOOKED_AT: Final = 128
"""Pixels of the longer side at which colours are looked for."""
_COLOURED: Final = 32
"""Chroma (of 128) by which a pixel departs from the grey map's: sepia and its like tint all pixels of one brightness alike."""
_SHARE: Final = 0.0005
"""Share of the picture in the middle of patches whose colours move. No lines: one real clip has a green one at its border."""


class Colours:
    """Whether colours come and go in a clip, as a Doppler box's do; a tint of all greys is none, nor is a logo that stands still."""

    def __init__(self) -> None:
        self._ever: np.ndarray | None = None
        self._always: np.ndarray | None = None

    def look(self, rgb: np.ndarray) -> None:
        """A frame, (h, w, 3) uint8, about `LOOKED_AT` pixels a side."""
        values = cv2.cvtColor(rgb, cv2.COLOR_RGB2YCrCb).astype(np.int16)
        level, chroma = values[..., 0] // 16, values[..., 1:]
        coloured = np.zeros(level.shape, bool)
        if (np.ptp(chroma, axis=(0, 1)) > _COLOURED).any():  # most frames are grey all over, and need no medians
            for each in np.unique(level):
                alike = level == each
                coloured[alike] = (np.abs(chroma[alike] - np.median(chroma[alike], axis=0)) > _COLOURED).any(axis=1)
        if self._ever is None or self._always is None or self._ever.shape != coloured.shape:
            self._ever = self._always = coloured
        self._ever, self._always = self._ever | coloured, self._always & coloured

    @property
    def moving(self) -> bool:
        """Whether patches of the picture, three pixels wide at least, are coloured in some of the frames looked at and not in others."""
        if self._ever is None or self._always is None:
            return False
        changing = (self._ever & ~self._always).astype(np.uint8)
        patches = cv2.erode(changing, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
        return bool(patches.mean() > _SHARE)


class Watch:
    """Looks at the frames of a clip one by one, holding one of them as blocks.

    After the last: `count`, `shape` (H, W), and the numbers of the frames that are `black` and of those that are `frozen`, which repeat the
    last frame before them that is neither.
    """

    def __init__(self) -> None:
        self.count, self.shape = 0, (0, 0)
        self.black: list[int] = []
        self.frozen: list[int] = []
        self._shown: np.ndarray | None = None

    def look(self, frame: np.ndarray) -> None:
        """The next frame, (H, W) uint8."""
        self.shape = frame.shape[0], frame.shape[1]
        if frame.max() < BLACK_BELOW:
            self.black.append(self.count)
        elif _same(blocks := _blocks(frame), self._shown):
            self.frozen.append(self.count)
        else:
            self._shown = blocks
        self.count += 1


def _blocks(frame: np.ndarray) -> np.ndarray:
    """The mean of each block, float32."""
    size = [max(1, -(-side // BLOCK)) for side in frame.shape[::-1]]
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA).astype(np.float32)


def _same(blocks: np.ndarray, before: np.ndarray | None) -> bool:
    """Whether at most one in a hundred of the blocks that are lit has changed."""
    if before is None:
        return False
    lit = np.count_nonzero(np.maximum(blocks, before) >= BLACK_BELOW / 2)
    return bool(np.count_nonzero(np.abs(blocks - before) > _MOVED) <= _STILL * lit)


def ranges(numbers: Iterable[int]) -> str | None:
    """Frame numbers in order as text, `0-2 13 20-25`; none if there are none."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return " ".join("-".join(map(str, run)) for run in runs) or None


def numbers_of(text: str | None) -> np.ndarray:
    """The frame numbers, int64, that `ranges` has written."""
    runs = [[int(end) for end in run.split("-")] for run in text.split()] if isinstance(text, str) else []
    return np.array([number for run in runs for number in range(run[0], run[-1] + 1)], np.int64)
