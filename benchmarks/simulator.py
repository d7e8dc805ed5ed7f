"""How many simulated frames a second on one core, beside plain NumPy scatterer convolution one frame at a time.

python benchmarks/simulator.py [--frames 40] [--scenes 12]
"""

import argparse
import time
from collections.abc import Callable

import cv2
import numpy as np
from scipy.signal import fftconvolve

from lus_lightning.data.geometry import LINES, SAMPLES, scan_convert
from lus_lightning.simulator.patient import Burden, draw_patient
from lus_lightning.simulator.render import render_beam, render_clip
from lus_lightning.simulator.scanner import draw_settings
from lus_lightning.simulator.scene import draw_scene

CONVEX = ("sim-cart", "sim-chip", "sim-handheld")


def plain_numpy_frame(rng: np.random.Generator, settings) -> np.ndarray:
    """The textbook: random scatterers times echogenicity, 2-d convolution with a modulated pulse, Hilbert envelope, log, to the sector."""
    depth, _ = np.meshgrid(np.arange(4 * SAMPLES), np.arange(LINES))
    scatterers = rng.standard_normal(depth.shape) * np.exp(-depth / 400.0)
    axial = np.arange(-16, 17)
    pulse = np.exp(-((axial / (4 * settings.psf_samples)) ** 2) / 2) * np.cos(2 * np.pi * axial / 4)
    lateral = np.exp(-((np.arange(-6, 7) / settings.psf_lines) ** 2) / 2)
    rf = fftconvolve(scatterers, np.outer(lateral, pulse), mode="same")
    spectrum = np.fft.fft(rf, axis=1)
    spectrum[:, rf.shape[1] // 2 :] = 0
    envelope = np.abs(np.fft.ifft(2 * spectrum, axis=1))[:, ::4]
    grey = np.clip((20 * np.log10(envelope + 1e-9) / settings.dynamic_range_db + 1) * 255, 0, 255)
    g = settings.geometry
    column, row = np.meshgrid(np.arange(g.width), np.arange(g.height))
    x, y = (column - g.apex_px()[0]) * g.mm_per_px, (row - g.apex_px()[1]) * g.mm_per_px
    s = (np.arctan2(x, y) / g.aperture + 1) / 2 * (LINES - 1)
    d = (np.hypot(x, y) - g.radius_mm) / g.sample_mm
    inside = (s >= 0) & (s <= LINES - 1) & (d >= 0) & (d <= SAMPLES - 1)
    picture = np.zeros(x.shape, np.uint8)
    picture[inside] = grey[np.round(s[inside]).astype(int), np.round(d[inside]).astype(int)]
    return picture


def frames_per_second(work: Callable[[int], int], scenes: int) -> tuple[float, float]:
    """Median and worst rate over scenes, by CPU time; `work(i)` renders scene i and returns how many frames."""
    rates = []
    for i in range(scenes):
        start = time.process_time()
        frames = work(i)
        rates.append(frames / (time.process_time() - start))
    return float(np.median(rates)), float(min(rates))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--scenes", type=int, default=12)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    drawn = []
    for seed in range(args.scenes):
        rng = np.random.default_rng(seed)
        settings, ill = draw_settings(rng, CONVEX, 10, 224), (seed + 0.5) / args.scenes
        patient = draw_patient(rng, "p", ill, 0.1)
        drawn.append((draw_scene(rng, patient, Burden(ill, 0.1, 0.3, 0.7), settings.geometry, "longitudinal"), settings))
    seconds = np.arange(args.frames) / 10
    render_clip(*drawn[0], seconds[:2])

    def beam(i: int) -> int:
        return len(render_beam(*drawn[i], seconds)[0])

    def pictures(i: int) -> int:
        return len(scan_convert(render_beam(*drawn[i], seconds)[0], drawn[i][0].geometry))

    def everything(i: int) -> int:
        return len(render_clip(*drawn[i], seconds).frames)

    def plain(i: int) -> int:
        return len([plain_numpy_frame(np.random.default_rng(n), drawn[i][1]) for n in range(3)])

    print(f"one core (CPU time), {args.scenes} scenes of {args.frames} frames; frames a second: median (slowest scene)")
    for name, work, bar in (
        ("beam space 128 x 256 and all masks", beam, 200),
        ("and scan conversion to 224 x 224", pictures, 100),
        ("and scan conversion of the masks", everything, 100),
        ("plain NumPy, frame by frame, speckle alone, no masks", plain, None),
    ):
        median, worst = frames_per_second(work, args.scenes)
        print(f"{name:54s}{median:8.0f} ({worst:.0f})" + (f"   bar {bar}" if bar else ""))


if __name__ == "__main__":
    main()
