"""A scene at given moments: on the scan lines, for the renderer and its masks, and in exact intervals, for the standards."""

from dataclasses import dataclass

import numpy as np

from lus_lightning.simulator.scene import Scene

CONFLUENT_MM = 5.0
"""From this width on, a B-line is a confluent area: wider than any single one, and than two that are 3 mm apart."""


@dataclass(frozen=True)
class Profile:
    """What each scan line meets: arrays (T, 128), depths in mm below the probe's face.

    `b_on` (T, N) tells which B-lines are there at each moment. `wall_mm` is where the chest wall ends, `pleura_mm` the lung's surface
    (deeper by the effusion). `shadow_mm` is the depth from which a rib shades the line, infinite elsewhere.
    """

    x_mm: np.ndarray
    lung_x_mm: np.ndarray
    wall_mm: np.ndarray
    pleura_mm: np.ndarray
    shadow_mm: np.ndarray
    broken: np.ndarray
    b_line: np.ndarray
    b_on: np.ndarray
    consolidation_mm: np.ndarray

    @property
    def visible(self) -> np.ndarray:
        """Scan lines on which the pleura is not behind a rib."""
        return np.isinf(self.shadow_mm)


@dataclass(frozen=True)
class Facts:
    """What a perfect observer would measure at each moment: arrays (T,), from the continuous scene, of what no rib hides.

    Shares are of the visible pleura. `spacing_mm` is the least distance of two single B-lines (infinite below two).
    """

    b_lines: np.ndarray
    confluent: np.ndarray
    spacing_mm: np.ndarray
    b_share: np.ndarray
    broken_share: np.ndarray
    breaks: np.ndarray
    indents: np.ndarray
    consolidation_mm: np.ndarray
    consolidation_share: np.ndarray
    effusion_mm: np.ndarray
    a_lines: np.ndarray


def lung_shift_mm(scene: Scene, seconds: np.ndarray) -> np.ndarray:
    """How far the lung, and all that moves with it, has slid along the pleura at each moment: (T,) mm."""
    return hand_shift_mm(scene, seconds) + scene.motion.slide_mm * np.sin(scene.motion.angle(seconds))


def hand_shift_mm(scene: Scene, seconds: np.ndarray) -> np.ndarray:
    """How far the chest wall, ribs included, has moved under the probe at each moment: (T,) mm."""
    return scene.motion.drift_mm_per_s * seconds


def b_lines_on(scene: Scene, seconds: np.ndarray) -> np.ndarray:
    """Which B-lines are there at each moment: (T, N) bool."""
    return np.sin(scene.motion.angle(seconds)[:, None] + scene.b_lines.phase) > scene.b_lines.threshold


def profile(scene: Scene, seconds: np.ndarray) -> Profile:
    """The scene on the 128 scan lines at each of the T moments."""
    x = scene.geometry.line_positions_mm(scene.pleura.depth_mm)[None]
    lung_x = x - lung_shift_mm(scene, seconds)[:, None]
    breathing = np.sin(scene.motion.angle(seconds))[:, None]
    wall = _wall_depth_mm(scene, x, lung_x, breathing)
    fluid = scene.effusion_mm * (1 + 0.12 * breathing) * (0.8 + 0.2 * np.sin(2 * x / scene.half_view_mm + scene.motion.phase))
    shadow = np.full_like(wall, np.inf)
    for centre, half, height in scene.ribs:
        offset = x - hand_shift_mm(scene, seconds)[:, None] - centre
        surface = wall - height * np.sqrt(np.maximum(0, 1 - 0.6 * (offset / half) ** 2))
        shadow = np.where(np.abs(offset) <= half, np.minimum(surface, shadow), shadow)
    on = b_lines_on(scene, seconds)
    b_line = np.zeros(wall.shape, bool)
    for n, (centre, width) in enumerate(zip(scene.b_lines.x_mm, scene.b_lines.width_mm, strict=True)):
        b_line |= on[:, n, None] & (np.abs(lung_x - centre) <= width / 2)
    spots = _consolidation_depth_mm(scene, lung_x)
    broken = spots > 0
    for centre, width in scene.pleura.breaks:
        broken |= np.abs(lung_x - centre) <= width / 2
    return Profile(x, lung_x, wall, (wall + fluid).astype(np.float32), shadow.astype(np.float32), broken, b_line, on, spots)


def _wall_depth_mm(scene: Scene, x: np.ndarray, lung_x: np.ndarray, breathing: np.ndarray) -> np.ndarray:
    pleura = scene.pleura
    depth = pleura.depth_mm + pleura.tilt * x + scene.motion.lift_mm * breathing
    if scene.geometry.probe != "linear":
        depth = depth + pleura.flatness * x**2 / (2 * (scene.geometry.radius_mm + pleura.depth_mm))
    for amplitude, wavelength, phase in pleura.ripples:
        depth = depth + amplitude / len(pleura.ripples) * np.sin(2 * np.pi * lung_x / wavelength + phase)
    for centre, width, dent in pleura.indents:
        depth = depth + dent * np.exp(-(((lung_x - centre) / (width / 2)) ** 2))
    return np.maximum(depth, 2.0).astype(np.float32)


def _consolidation_depth_mm(scene: Scene, lung_x: np.ndarray) -> np.ndarray:
    spots = scene.consolidations
    depth = np.zeros_like(lung_x)
    for centre, width, deep in zip(spots.x_mm, spots.width_mm, spots.depth_mm, strict=True):
        bulge = np.sqrt(np.maximum(0, 1 - ((lung_x - centre) / (width / 2)) ** 2))
        shred = 0.8 + 0.12 * np.sin(lung_x * 2.1 + centre) + 0.08 * np.sin(lung_x * 5.3 + deep)
        depth = np.maximum(depth, deep * bulge * shred)
    return depth.astype(np.float32)


def facts(scene: Scene, seconds: np.ndarray) -> Facts:
    """Measure the continuous scene at each moment: interval arithmetic, no grid."""
    half, shift = scene.half_view_mm, lung_shift_mm(scene, seconds)
    hand = hand_shift_mm(scene, seconds)
    ribs = _intervals(scene.ribs[:, 0], 2 * scene.ribs[:, 1], hand, half)
    hidden = _length(ribs)
    visible = np.maximum(2 * half - hidden, 1e-6)

    def share(x: np.ndarray, width: np.ndarray, on: np.ndarray | bool = True) -> np.ndarray:
        there = np.where(np.broadcast_to(on, (len(seconds), len(x)))[..., None], _intervals(x, width, shift, half), -half)
        return (_length(np.concatenate([there, ribs], axis=1)) - hidden) / visible

    def seen(x: np.ndarray) -> np.ndarray:
        place = x[None] + shift[:, None]
        behind = (np.abs(place[:, :, None] - (scene.ribs[:, 0] + hand[:, None])[:, None]) <= scene.ribs[:, 1]).any(axis=2)
        return (np.abs(place) <= half) & ~behind

    b, spots, pleura = scene.b_lines, scene.consolidations, scene.pleura
    on = b_lines_on(scene, seconds)
    wide = b.width_mm >= CONFLUENT_MM
    single = seen(b.x_mm) & on & ~wide
    centres = np.sort(np.where(single, b.x_mm, np.inf), axis=1)
    with np.errstate(invalid="ignore"):
        gaps = np.nan_to_num(np.diff(centres, axis=1), nan=np.inf)
    b_share, spot_share = share(b.x_mm, b.width_mm, on), share(spots.x_mm, spots.width_mm)
    confluent = share(b.x_mm[wide], b.width_mm[wide], on[:, wide]) > 0
    return Facts(
        b_lines=single.sum(axis=1),
        confluent=confluent,
        spacing_mm=gaps.min(axis=1, initial=np.inf),
        b_share=b_share,
        broken_share=share(np.append(pleura.breaks[:, 0], spots.x_mm), np.append(pleura.breaks[:, 1], spots.width_mm)),
        breaks=seen(pleura.breaks[:, 0]).sum(axis=1),
        indents=seen(pleura.indents[:, 0]).sum(axis=1),
        consolidation_mm=(seen(spots.x_mm) * spots.depth_mm).max(axis=1, initial=0),
        consolidation_share=spot_share,
        effusion_mm=np.full(len(seconds), scene.effusion_mm),
        a_lines=(scene.a_lines > -18) & (scene.effusion_mm == 0) & (b_share + spot_share < 0.6),
    )


def _intervals(x: np.ndarray, width: np.ndarray, shift: np.ndarray, half: float) -> np.ndarray:
    """Ends of intervals carried along by a shift, cut at the field of view: (T, N, 2)."""
    centre = x[None] + shift[:, None]
    return np.clip(np.stack([centre - width / 2, centre + width / 2], axis=-1), -half, half)


def _length(intervals: np.ndarray) -> np.ndarray:
    """Length of the union of intervals (T, N, 2): (T,)."""
    order = np.argsort(intervals[..., 0], axis=1)
    ordered = np.take_along_axis(intervals, order[..., None], axis=1)
    start, end = ordered[..., 0], ordered[..., 1]
    reached = np.maximum.accumulate(end, axis=1)
    before = np.concatenate([np.full((len(end), 1), -np.inf), reached[:, :-1]], axis=1)
    return np.maximum(0, end - np.maximum(start, before)).sum(axis=1)
