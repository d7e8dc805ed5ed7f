"""From a scene to pictures: scatterers through the machine's point spread function, envelope, log compression, scan conversion."""

from dataclasses import dataclass

import cv2
import numpy as np

from lus_lightning.data.geometry import LINES, SAMPLES, scan_convert
from lus_lightning.simulator.layers import Backdrop, backdrop, beam_masks, diffuse, facing, smooth_noise, specular
from lus_lightning.simulator.profile import hand_shift_mm, lung_shift_mm, profile
from lus_lightning.simulator.scanner import Settings
from lus_lightning.simulator.scene import Scene

BLOCK = 8
"""Frames per array operation: what fits a core's cache is twice as fast as a whole clip at once."""
MARGIN = 48


@dataclass(frozen=True)
class Rendered:
    """A clip in both geometries: `beam`, `beam_mask` (T, 128, 256), `frames`, `mask` (T, H, W), uint8 (bits of `labels.MASK_CLASSES`)."""

    beam: np.ndarray
    beam_mask: np.ndarray
    frames: np.ndarray
    mask: np.ndarray


def render_clip(scene: Scene, settings: Settings, seconds: np.ndarray) -> Rendered:
    """Render a scene at the given moments, (T,) in seconds, through a machine's settings; a pure function (the scene carries its seed)."""
    beam, beam_mask = render_beam(scene, settings, seconds)
    frames = scan_convert(beam, scene.geometry)
    if settings.text:
        for frame in frames:
            cv2.putText(frame, settings.text, (3, frame.shape[0] - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.0016 * frame.shape[1], 190, 1)
    return Rendered(beam, beam_mask, frames, scan_convert(beam_mask, scene.geometry, nearest=True))


def render_beam(scene: Scene, settings: Settings, seconds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Beam-space frames and masks, each (T, 128, 256) uint8."""
    rng = np.random.default_rng(scene.seed)
    back = backdrop(rng, scene, profile(scene, seconds[:1]).wall_mm[0])
    speckle = _Speckle(rng, scene, seconds)
    compress = _Compression(rng, settings)
    beam = np.empty((len(seconds), LINES, SAMPLES), np.uint8)
    mask = np.empty_like(beam)
    for start in range(0, len(seconds), BLOCK):
        block = slice(start, start + BLOCK)
        power, mask[block] = _echo_power(scene, settings, seconds[block], back, speckle, compress.contact_db)
        beam[block] = compress(power)
    return beam, mask


def _echo_power(
    scene: Scene, settings: Settings, seconds: np.ndarray, back: Backdrop, speckle: "_Speckle", contact_db: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Power of the received echo (T, 128, 256) float32, pleural line about 1, and the masks."""
    lines = profile(scene, seconds)
    scatter, mirror = diffuse(scene, lines, back, settings.look), specular(scene, lines, back, settings.look)
    along = cv2.getGaussianKernel(_odd(settings.psf_samples), settings.psf_samples, cv2.CV_32F)
    across = cv2.getGaussianKernel(_odd(settings.psf_lines), settings.psf_lines, cv2.CV_32F)
    # Unit energy for speckle; a mirror adds up coherently along the line, so that only its depth is blurred in strength.
    norm = 1 / np.sqrt(float((along**2).sum() * (across**2).sum()))
    noise = np.float32(10 ** (settings.noise_db / 20))
    power = np.zeros_like(scatter)
    for i, second in enumerate(seconds):
        scatterers = speckle.at(second, scene, lines.wall_mm[i])
        amplitude = (scatter[i] + 0.5 * mirror[i]) * np.float32(norm) + noise
        for field in [scatterers, *(np.roll(scatterers, 23 * look, axis=0) for look in range(1, settings.look.looks))]:
            field *= amplitude[..., None]
            field[..., 0] += 0.9 * mirror[i]
            field = cv2.sepFilter2D(field, cv2.CV_32F, along, across, borderType=cv2.BORDER_REFLECT)
            power[i] += np.einsum("sdc,sdc->sd", field, field)
    if settings.look.looks > 1:
        power /= settings.look.looks
    seen = contact_db + 20 * np.log10(facing(lines, settings.look) + 1e-9) >= settings.look.unseen_db
    return power, beam_masks(scene, lines, seen)


def _odd(sigma: float) -> int:
    return 2 * int(np.ceil(2.5 * sigma)) + 1


class _Speckle:
    """Complex scatterers, (128, 256, 2) float32: still in the chest wall, sliding with the lung and losing coherence under the pleura."""

    def __init__(self, rng: np.random.Generator, scene: Scene, seconds: np.ndarray) -> None:
        shape = (LINES + 2 * MARGIN, SAMPLES + 2 * MARGIN, 2)
        self.field = rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(0.5))
        self.line_mm = 2 * scene.half_view_mm / (LINES - 1)
        self.decorrelation = float(rng.uniform(0.2, 0.6))
        self.offsets = rng.integers(0, 2 * MARGIN, (len(seconds), 2))
        self.first = seconds[0]
        self.step = seconds[1] - seconds[0] if len(seconds) > 1 else 1.0
        self.depths = scene.geometry.sample_depths_mm()

    def at(self, second: float, scene: Scene, wall_mm: np.ndarray) -> np.ndarray:
        """The scatterers of one moment; the caller may change the array."""
        moment = np.array([second])
        lung = self._slice(lung_shift_mm(scene, moment)[0])
        row, column = self.offsets[round((second - self.first) / self.step)]
        mixed = lung * np.float32(np.sqrt(1 - self.decorrelation**2))
        mixed += np.float32(self.decorrelation) * self.field[row : row + LINES, column : column + SAMPLES]
        wall = self._slice(hand_shift_mm(scene, moment)[0])
        np.copyto(mixed, wall[:, ::-1], where=(self.depths[None] < wall_mm[:, None])[..., None])
        return mixed

    def _slice(self, shift_mm: float) -> np.ndarray:
        start = int(np.clip(MARGIN - round(shift_mm / self.line_mm), 0, 2 * MARGIN))
        return self.field[start : start + LINES, MARGIN : MARGIN + SAMPLES]


class _Compression:
    """From echo power to grey: gain, TGC and contact of the probe in dB, log compression, persistence, the machine's grey curve."""

    def __init__(self, rng: np.random.Generator, settings: Settings) -> None:
        knots = np.linspace(0, SAMPLES - 1, len(settings.tgc_db))
        tgc = np.interp(np.arange(SAMPLES), knots, settings.tgc_db)
        self.contact_db = _contact_db(rng)
        self.offset_db = (settings.gain_db + tgc[None] + self.contact_db[:, None]).astype(np.float32)
        self.settings = settings
        self.rng = rng
        self.grain = np.float32(settings.grain_db) * rng.standard_normal((LINES + 64, SAMPLES + 64), np.float32)
        curve = np.linspace(0, 1, 1024) ** settings.gamma
        self.curve = (settings.black_level + (255 - settings.black_level) * curve).round().astype(np.uint8)
        self.last: np.ndarray | None = None
        self.auto_db: np.ndarray | None = None

    def __call__(self, power: np.ndarray) -> np.ndarray:
        keep = np.float32(self.settings.persistence)
        for frame in power:
            if self.last is not None:
                frame *= 1 - keep
                frame += keep * self.last
            self.last = frame.copy()
        level = np.log10(power + np.float32(1e-12))
        level *= 10
        if self.auto_db is None:
            self.auto_db = self._even_out(level)
        level += self.offset_db + self.auto_db
        for frame in level:
            smooth = cv2.GaussianBlur(frame, (5, 5), sigmaX=0.7, sigmaY=0.9)
            cv2.addWeighted(frame, 1 - self.settings.smoothing, smooth, self.settings.smoothing, 0, dst=frame)
            row, column = self.rng.integers(0, 64, 2)
            frame += self.grain[row : row + LINES, column : column + SAMPLES]
        scaled = (level / np.float32(self.settings.dynamic_range_db) + 1) * 1023
        return self.curve[np.clip(scaled, 0, 1023).astype(np.int16)]

    def _even_out(self, level: np.ndarray) -> np.ndarray:
        """Automatic TGC, set on the first frames and kept: (256,) dB that bring each depth's mean nearer to the usual fall with depth."""
        found = cv2.GaussianBlur(level.mean(axis=(0, 1))[None], (0, 0), sigmaX=20, sigmaY=0.01)[0]
        usual = -17 - np.linspace(0, self.settings.fall_db, SAMPLES, dtype=np.float32)
        return np.float32(self.settings.auto_tgc) * np.clip(usual - found, -20, 20)


def _contact_db(rng: np.random.Generator) -> np.ndarray:
    """Loss on each scan line (128,), dB <= 0 at most: uneven contact with the skin, in some examinations lost at an edge."""
    loss = 1.5 * smooth_noise(rng, (LINES, 1), (12, 1))[:, 0]
    across = np.linspace(-1, 1, LINES)
    for side in (-1, 1):
        if rng.random() < 0.3:
            reach = rng.uniform(0.4, 1.0)
            loss -= rng.uniform(8, 30) / (1 + np.exp(-(side * across - reach) / 0.08))
    return loss
