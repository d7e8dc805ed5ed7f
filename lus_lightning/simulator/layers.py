"""Echo strengths and masks of a scene in beam space. Everything is an array (frames, 128 scan lines, 256 depth samples)."""

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from lus_lightning.labels import MASK_CLASSES
from lus_lightning.simulator.profile import Profile
from lus_lightning.simulator.scanner import Look
from lus_lightning.simulator.scene import Scene

REVERBERATIONS = 6
"""A-lines are drawn up to this multiple of the pleura's depth."""
STRIPES = 64


@dataclass(frozen=True)
class Backdrop:
    """What stays the same during a clip: the chest wall's echo amplitude (128, 256), the unevenness (4096,) of the lung along it."""

    wall: np.ndarray
    streaks: np.ndarray
    seed: int

    @property
    def stripes(self) -> np.ndarray:
        """Echoes of the chest wall's layers, (128, 640): `STRIPES` columns for each way to the pleura and back."""
        return self._apart[0]

    @property
    def clouds(self) -> np.ndarray:
        """Unevenness of clutter, (128, 256)."""
        return self._apart[1]

    @cached_property
    def _apart(self) -> tuple[np.ndarray, np.ndarray]:
        # By a generator of their own, and only for a machine that shows them: all else is the same with them and without.
        rng, (lines, samples) = np.random.default_rng([self.seed, 1]), self.wall.shape
        stripes, clouds = smooth_noise(rng, (lines, 10 * STRIPES), (3, 0.8)), smooth_noise(rng, (lines, samples), (8, 16))
        return np.exp(1.2 * stripes - 0.7), np.exp(0.7 * clouds - 0.25)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: tuple[float, float]) -> np.ndarray:
    """Gaussian noise of unit variance, (rows, columns) float32, smooth over `sigma` (rows, columns)."""
    field = cv2.GaussianBlur(rng.standard_normal(shape, np.float32), (0, 0), sigmaX=max(sigma[1], 0.01), sigmaY=max(sigma[0], 0.01))
    return (field - field.mean()) / (field.std() + 1e-6)


def backdrop(rng: np.random.Generator, scene: Scene, wall_mm: np.ndarray) -> Backdrop:
    """Draw the chest wall (skin, fat, muscle, fasciae between them) above a pleura at `wall_mm` (128,), and the lung's streaks."""
    lines, samples = len(wall_mm), 256
    share = scene.geometry.sample_depths_mm()[None] / wall_mm[:, None]
    share = share + 0.04 * smooth_noise(rng, (lines, 1), (14, 1)) * np.minimum(share, 1)
    edges = np.sort(rng.uniform(0.08, 0.92, rng.integers(2, 5)))
    levels_db = scene.wall_db + rng.normal(0, 6, len(edges) + 1)
    level = np.take(levels_db, np.searchsorted(edges, share)).astype(np.float32) + 3 * smooth_noise(rng, (lines, samples), (6, 1.0))
    wall = 10 ** (level / 20)
    for edge in np.append(edges, rng.uniform(0.1, 0.95, rng.integers(2, 10))):
        bright = 10 ** (rng.uniform(-18, -4) / 20) * np.clip(0.6 + 0.5 * smooth_noise(rng, (lines, 1), (8, 1)), 0, 2)
        wall += bright * np.exp(-(((share - edge) * wall_mm[:, None] / 0.5) ** 2))
    wall += 0.7 * np.exp(-scene.geometry.sample_depths_mm() / 1.2)[None]
    streaks = smooth_noise(rng, (4096, 1), (rng.uniform(8, 25), 1))[:, 0]
    return Backdrop(wall.astype(np.float32), streaks, scene.seed)


def _below(depths_mm: np.ndarray, surface_mm: np.ndarray) -> np.ndarray:
    return depths_mm[None, None] > surface_mm[..., None]


def beam_masks(scene: Scene, lines: Profile, seen: np.ndarray | None = None) -> np.ndarray:
    """Masks (T, 128, 256) uint8, bit i for `labels.MASK_CLASSES[i]`, from the same profile as the echoes.

    Where scan lines (T, 128) are not `seen` (none: all are), pleural line, A-lines and B-lines are left out.
    """
    depths = scene.geometry.sample_depths_mm()
    half = max(scene.pleura.thickness_mm, 1.5 * scene.geometry.sample_mm) / 2
    visible, surface = lines.visible, lines.pleura_mm
    lung = visible if seen is None else visible & seen
    bit = {name: np.uint8(1 << i) for i, name in enumerate(MASK_CLASSES)}
    mask = np.zeros((*surface.shape, len(depths)), np.uint8)

    def put(name: str, where: np.ndarray) -> None:
        np.bitwise_or(mask, where.view(np.uint8) * bit[name], out=mask)

    _mark(mask, bit["pleural_line"], surface, half, scene.geometry.sample_mm, lung & ~lines.broken)
    if scene.a_lines > -18:
        for k in range(2, REVERBERATIONS + 1):
            _mark(mask, bit["a_line"], k * surface, half, scene.geometry.sample_mm, a_line_lines(scene, lines) & lung)
    solid = lines.consolidation_mm
    put("b_line", _below(depths, surface + solid) & (lines.b_line & lung)[..., None])
    if len(scene.consolidations.x_mm):
        put("consolidation", _below(depths, surface) & ~_below(depths, surface + solid) & visible[..., None])
    if scene.effusion_mm:
        put("effusion", _below(depths, lines.wall_mm) & ~_below(depths, surface) & visible[..., None])
    put("rib_shadow", _below(depths, lines.shadow_mm))
    return mask


def _mark(mask: np.ndarray, bit: np.uint8, depth_mm: np.ndarray, half_mm: float, step_mm: float, where: np.ndarray) -> None:
    """Set a bit in `mask`, in place, at all samples within `half_mm` of `depth_mm` (T, 128) on the scan lines `where` (T, 128)."""
    t, s = np.nonzero(where)
    depth = depth_mm[t, s]
    nearest = np.round(depth / step_mm - 0.5).astype(int)
    reach = int(half_mm / step_mm) + 1
    for j in range(-reach, reach + 1):
        inside = (np.abs((nearest + j + 0.5) * step_mm - depth) <= half_mm) & (nearest + j >= 0) & (nearest + j < mask.shape[2])
        mask[t[inside], s[inside], nearest[inside] + j] |= bit


def a_line_lines(scene: Scene, lines: Profile) -> np.ndarray:
    """Scan lines that show A-lines, (T, 128) bool: visible pleura, unbroken, no fluid, erased where B-lines cross."""
    return lines.visible & ~lines.broken & ~lines.b_line & (scene.effusion_mm == 0)


def diffuse(scene: Scene, lines: Profile, back: Backdrop, look: Look) -> np.ndarray:
    """Amplitude of scatterers (T, 128, 256) float32: chest wall, fluid, consolidations, haze and B-lines under the pleura, rib shadows."""
    depths = scene.geometry.sample_depths_mm()
    surface = lines.pleura_mm + lines.consolidation_mm
    streak = np.exp(0.45 * back.streaks[np.clip(((lines.lung_x_mm + 200) * 10).astype(int), 0, len(back.streaks) - 1)])
    haze = 10 ** ((scene.haze_db + look.haze_db) / 20) * streak**0.2 * np.where(lines.consolidation_mm > 0, 3.0, 1.0)
    haze = haze * np.sqrt(facing(lines, look))
    amplitude = _decaying(haze, surface, depths, scene.haze_mm * look.haze_reach)
    b_lines = scene.b_lines
    if len(b_lines.x_mm):
        amplitude += _decaying(_b_amplitude(scene, lines, look) * streak, surface, depths, float(b_lines.decay_mm.mean()))
    for centre, width, length, level in scene.distractors:
        near = 10 ** (level / 20) * np.exp(-(((lines.lung_x_mm - centre) / width) ** 2))
        amplitude += _decaying(near, surface, depths, length / 2)
    if len(scene.consolidations.x_mm):
        solid = _below(depths, lines.pleura_mm) & ~_below(depths, surface)
        amplitude = np.where(solid, np.float32(10 ** ((scene.wall_db - 9) / 20)) * (1 + _bronchograms(scene, lines, depths)), amplitude)
    if scene.effusion_mm:
        amplitude[~_below(depths, lines.pleura_mm)] = 10 ** (-50 / 20)
    np.copyto(amplitude, back.wall[None], where=~_below(depths, lines.wall_mm))
    amplitude = _shade(scene, lines, depths, amplitude, look)
    clutter = (10 ** ((scene.clutter_db + look.clutter_db) / 20) * np.exp(-depths / 60)).astype(np.float32)
    return amplitude + (clutter * back.clouds if look.clutter_db else clutter)


def _decaying(at_surface: np.ndarray, surface_mm: np.ndarray, depths_mm: np.ndarray, decay_mm: float) -> np.ndarray:
    """An amplitude that decays from the surface on: an outer product, so that no exponential is taken per pixel."""
    start = (at_surface * np.exp(surface_mm / decay_mm)).astype(np.float32)
    falling = np.exp(-depths_mm / decay_mm).astype(np.float32)
    return start[..., None] * falling


def _b_amplitude(scene: Scene, lines: Profile, look: Look) -> np.ndarray:
    """Amplitude of all B-lines at the pleura on each scan line: (T, 128)."""
    b = scene.b_lines
    total = np.zeros_like(lines.lung_x_mm)
    for n in range(len(b.x_mm)):
        edge = look.b_edge_mm + 0.02 * b.width_mm[n]
        inside = 1 / (1 + np.exp(np.clip((np.abs(lines.lung_x_mm - b.x_mm[n]) - b.width_mm[n] / 2) / edge, -30, 30)))
        total = np.maximum(total, 10 ** ((b.level_db[n] + look.haze_db / 2) / 20) * inside * lines.b_on[:, n, None])
    return total * np.sqrt(facing(lines, look))


def _bronchograms(scene: Scene, lines: Profile, depths_mm: np.ndarray) -> np.ndarray:
    """Extra amplitude of air in consolidations (T, 128, 256): bright spots that move with the lung."""
    rng = np.random.default_rng(scene.seed)
    extra = np.zeros((*lines.lung_x_mm.shape, len(depths_mm)), np.float32)
    spots = scene.consolidations
    for centre, width, deep, air in zip(spots.x_mm, spots.width_mm, spots.depth_mm, spots.air, strict=True):
        for _ in range(min(25, rng.poisson(air * width * deep / 100))):
            x, z = centre + rng.uniform(-0.4, 0.4) * width, rng.uniform(0.15, 0.8) * deep
            across = np.exp(-(((lines.lung_x_mm - x) / rng.uniform(0.6, 2.0)) ** 2)).astype(np.float32)
            j = np.round((lines.pleura_mm + z) / scene.geometry.sample_mm).astype(int)
            for o in (-1, 0, 1):
                t, s = np.nonzero((j + o >= 0) & (j + o < len(depths_mm)) & (across > 0.05))
                extra[t, s, (j + o)[t, s]] += 9 * across[t, s]
    return extra


def facing(lines: Profile, look: Look) -> np.ndarray:
    """How much of a mirror's echo comes back from the pleura at each scan line, 0-1, (T, 128): all where the beam meets it squarely."""
    course = np.pad(lines.wall_mm, ((0, 0), (15, 15)), mode="reflect", reflect_type="odd")
    slope = np.gradient(cv2.blur(course, (31, 1))[:, 15:-15], axis=1) / np.gradient(lines.x_mm, axis=1)
    return np.exp(-0.5 * (np.degrees(np.arctan(slope)) / look.facing_deg) ** 2).astype(np.float32)


def shade_strength(lines: Profile, look: Look) -> np.ndarray:
    """How much of each scan line's beam a rib takes away, 0-1, (T, 128): soft at a rib's edges, as a beam is wide."""
    hidden = np.isfinite(lines.shadow_mm).astype(np.float32)
    return cv2.GaussianBlur(hidden, (0, 0), sigmaX=look.rib_edge_lines, sigmaY=0.01, borderType=cv2.BORDER_REPLICATE)


def _shade(scene: Scene, lines: Profile, depths_mm: np.ndarray, amplitude: np.ndarray, look: Look) -> np.ndarray:
    if len(scene.ribs):
        start = np.where(lines.visible, lines.wall_mm, lines.shadow_mm)
        keep = 1 - np.float32(1 - 10 ** (scene.shadow_db / 20)) * shade_strength(lines, look)
        amplitude *= np.where(_below(depths_mm, start), keep[..., None], np.float32(1))
    return amplitude


def specular(scene: Scene, lines: Profile, back: Backdrop, look: Look) -> np.ndarray:
    """Amplitude of mirror-like echoes (T, 128, 256) float32: pleural line, A-lines, ribs, the borders of fluid and consolidation."""
    echoes = np.zeros((*lines.pleura_mm.shape, 256), np.float32)
    sigma = scene.pleura.thickness_mm / 2.5
    level = 10 ** (scene.pleura.level_db / 20)
    wavers = back.streaks[np.clip(((lines.lung_x_mm + 200) * 4).astype(int), 0, len(back.streaks) - 1)]
    uneven = 1 + 0.2 * wavers
    seen, faces = 1 - shade_strength(lines, look), facing(lines, look)
    bright = np.maximum(uneven, 0.3) * 10 ** (look.uneven_db * np.minimum(wavers, 1) / 20)
    line = level * bright * seen * np.maximum(faces, 0.05) * np.where(lines.broken, 0.06, 1.0)
    _draw(echoes, scene, lines.pleura_mm, sigma, line)
    clear = cv2.blur(a_line_lines(scene, lines).astype(np.float32), (3, 1))
    for k in range(2, REVERBERATIONS + 1):
        _draw(echoes, scene, k * lines.pleura_mm, sigma * (1 + 0.15 * k), line * clear * faces * 10 ** ((k - 1) * scene.a_lines / 20))
    if np.isfinite(look.stripes_db):
        echoes += _stripes(scene, lines, back, look) * (clear * seen * faces)[..., None]
    if len(scene.ribs):
        _draw(echoes, scene, np.where(lines.visible, -9, lines.shadow_mm), 0.5, np.full_like(seen, look.rib_level))
    if scene.effusion_mm:
        _draw(echoes, scene, lines.wall_mm, sigma, 0.5 * level * seen)
    if len(scene.consolidations.x_mm):
        shred = np.where(lines.consolidation_mm > 0, lines.pleura_mm + lines.consolidation_mm, -9)
        _draw(echoes, scene, shred, 0.5, 0.35 * level * seen * np.maximum(uneven, 0) ** 2)
    return echoes


def _stripes(scene: Scene, lines: Profile, back: Backdrop, look: Look) -> np.ndarray:
    """Amplitude (T, 128, 256) of sound that goes to and fro in the chest wall: its layers again and again under an aerated lung."""
    depths = scene.geometry.sample_depths_mm()
    flat = 0.3 * lines.wall_mm + 0.7 * np.median(lines.wall_mm, axis=1, keepdims=True)
    column = (depths / np.maximum(flat, 4)[..., None] * STRIPES).astype(int) % back.stripes.shape[1]
    again = np.take_along_axis(np.broadcast_to(back.stripes, (len(column), *back.stripes.shape)), column, axis=2)
    level = np.full_like(lines.wall_mm, 10 ** (look.stripes_db / 20))
    return again * _decaying(level, lines.wall_mm, depths, look.stripes_mm) * _below(depths, lines.wall_mm)


def _draw(echoes: np.ndarray, scene: Scene, depth_mm: np.ndarray, sigma_mm: float, amplitude: np.ndarray) -> None:
    """Add a thin bright line at `depth_mm` (T, 128) to `echoes`, in place; what lies outside of the depths is left out."""
    step = scene.geometry.sample_mm
    sigma_mm = max(sigma_mm, 0.4 * step)
    nearest = np.round(depth_mm / step - 0.5).astype(int)
    reach = int(np.ceil(2.5 * sigma_mm / step))
    t, s = np.nonzero((nearest >= 0) & (nearest < echoes.shape[2]) & (amplitude > 1e-4))
    centre, depth, bright = nearest[t, s], depth_mm[t, s], amplitude[t, s]
    for offset in range(-reach, reach + 1):
        j = centre + offset
        inside = (j >= 0) & (j < echoes.shape[2])
        away = (j[inside] + 0.5) * step - depth[inside]
        echoes[t[inside], s[inside], j[inside]] += bright[inside] * np.exp(-0.5 * (away / sigma_mm) ** 2)
