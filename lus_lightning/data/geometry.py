"""Where a scan line's samples lie in the picture: beam space (scan lines x depth) and the scan-converted image."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

LINES = 128
SAMPLES = 256
"""Beam space as in Muñoz et al., section 2: raw B-scan data of 128 x 256."""


@dataclass(frozen=True)
class Geometry:
    """A probe's field of view and the picture it is drawn into.

    `probe` is convex, phased or linear. `aperture` is half the opening angle in radians (convex, phased) or half the width in mm (linear).
    `radius_mm` is the curvature of the probe's face (0 for linear). The picture has `height` x `width` pixels of `mm_per_px`; its first row
    lies `top_mm` below the centre of curvature (below the probe's face for linear), its middle column `left_mm` right of the probe's axis.
    Where the scale is not known, `scaled` is false, `mm_per_px` is 1, and all lengths are pixels.
    """

    probe: str
    aperture: float
    radius_mm: float
    depth_mm: float
    height: int
    width: int
    mm_per_px: float
    top_mm: float
    left_mm: float = 0.0
    scaled: bool = True

    @property
    def sample_mm(self) -> float:
        """Distance of two depth samples."""
        return self.depth_mm / SAMPLES

    def sample_depths_mm(self) -> np.ndarray:
        """Depth of each sample's centre: (256,) float32, mm below the probe's face."""
        return ((np.arange(SAMPLES) + 0.5) * self.sample_mm).astype(np.float32)

    def arc_half_mm(self, depth_mm: float) -> float:
        """Half the length of the arc (or line) that the field of view covers at a depth."""
        return self.aperture if self.probe == "linear" else self.aperture * (self.radius_mm + depth_mm)

    def line_positions_mm(self, depth_mm: float) -> np.ndarray:
        """Where the scan lines cut the arc at a depth: (128,) float32, mm from the probe's axis along the arc."""
        half = self.arc_half_mm(depth_mm)
        return np.linspace(-half, half, LINES, dtype=np.float32)

    def apex_px(self) -> tuple[float, float]:
        """Column and row of the centre of curvature (linear: of the middle of the probe's face); may lie outside the picture."""
        return (self.width - 1) / 2 - self.left_mm / self.mm_per_px, -self.top_mm / self.mm_per_px

    def to_pixel(self, line: np.ndarray, sample: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Column and row (float) of points given by scan line 0..127 and depth sample 0..255 (both may be fractional)."""
        depth = (sample + 0.5) * self.sample_mm
        across = (line / (LINES - 1) * 2 - 1) * self.aperture
        column, row = self.apex_px()
        if self.probe == "linear":
            return column + across / self.mm_per_px, row + depth / self.mm_per_px
        r = self.radius_mm + depth
        return column + r * np.sin(across) / self.mm_per_px, row + r * np.cos(across) / self.mm_per_px


@lru_cache(maxsize=4)
def scan_maps(geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """For each pixel its depth sample and its scan line: two (H, W) float32 maps, -10000 where nothing was seen."""
    column, row = geometry.apex_px()
    x = (np.arange(geometry.width) - column) * geometry.mm_per_px
    y = (np.arange(geometry.height) - row) * geometry.mm_per_px
    x, y = np.meshgrid(x, y)
    if geometry.probe == "linear":
        across, depth = x, y
    else:
        across, depth = np.arctan2(x, y), np.hypot(x, y) - geometry.radius_mm
    line = (across / geometry.aperture + 1) / 2 * (LINES - 1)
    sample = depth / geometry.sample_mm - 0.5
    outside = (np.abs(across) > geometry.aperture) | (depth < 0) | (depth > geometry.depth_mm)
    line[outside] = sample[outside] = -1e4
    return sample.astype(np.float32), line.astype(np.float32)


def scan_convert(beam: np.ndarray, geometry: Geometry, nearest: bool = False) -> np.ndarray:
    """Beam space (T, 128, 256) uint8 to pictures (T, H, W) uint8, bilinear or (masks) nearest; black outside the field of view."""
    sample, line = scan_maps(geometry)
    mode = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
    border = cv2.BORDER_CONSTANT if nearest else cv2.BORDER_REPLICATE
    pictures = np.empty((len(beam), geometry.height, geometry.width), np.uint8)
    for frame, picture in zip(beam, pictures, strict=True):
        cv2.remap(frame, sample, line, mode, dst=picture, borderMode=border)
    if not nearest:
        pictures[:, sample < -1e3] = 0
    return pictures
