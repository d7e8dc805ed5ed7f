"""How near simulated pictures come to COVID-BLUES: grey levels, speckle, spectra, profiles; statistics only, no real picture is written.

python benchmarks/realism.py COVID_BLUES_FOLDER OUT [--frames-per-clip 2]

The simulator was tuned on every other patient (by number); the table compares with the others, and gives as a yardstick the distance
between the two halves of the real patients. OUT/realism.csv and OUT/realism.png.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

import av
import cv2
import matplotlib as mpl
import numpy as np
import pandas as pd
from scipy.stats import ks_2samp, wasserstein_distance

from lus_lightning.simulator.clips import study_patient, study_scene
from lus_lightning.simulator.render import render_clip
from lus_lightning.simulator.studies import Study, find_study

SIZE = 350
STUDY = {"patients": 48, "held_out": 0, "protocol": "6", "scanners": ("sim-handheld",), "size": SIZE, "standard": "soldati", "loops": 1}


def blues_study(**changes) -> Study:
    """A simulated study in the manner of COVID-BLUES: one hand-held convex machine, six zones, pictures of 350 pixels."""
    return find_study("xing", **(STUDY | changes))


def simulated_pictures(study: Study) -> Iterable[np.ndarray]:
    """The first picture of each clip, (H, W) uint8."""
    for number in range(study.patients):
        for zone in range(len(study.zones)):
            scene, _ = study_scene(study, number, zone, 0)
            yield render_clip(scene, study_patient(study, number)[1], np.zeros(1)).frames[0]


def real_clips(root: Path) -> pd.DataFrame:
    """Paths, patients and whose half: `tuned` for every other patient."""
    paths = sorted((root / "lus_videos").glob("*.mp4"))
    table = pd.DataFrame({"path": paths, "clip": [path.stem for path in paths]})
    table["patient"] = table["clip"].str.split("_").str[1]
    table["tuned"] = table["patient"].map({patient: n % 2 == 0 for n, patient in enumerate(sorted(table["patient"].unique()))})
    return table


def real_pictures(paths: Iterable[Path], per_clip: int) -> Iterable[np.ndarray]:
    """Evenly spaced pictures of each clip, black ones left out."""
    for path in paths:
        with av.open(str(path)) as video:
            frames = [frame.to_ndarray(format="gray") for frame in video.decode(video=0)]
        frames = [frame for frame in frames if frame.mean() > 1]
        for n in np.linspace(0, len(frames) - 1, per_clip + 2).round().astype(int)[1:-1]:
            yield cv2.resize(frames[n], (SIZE, SIZE), interpolation=cv2.INTER_AREA)


def describe(picture: np.ndarray) -> dict[str, float]:
    """Numbers of one picture: grey levels, depth profile and side profile, speckle's contrast, size and spectrum."""
    grey = picture.astype(np.float32)
    middle = grey[:, SIZE // 5 : -SIZE // 5]
    rows = middle.mean(axis=1)
    columns = cv2.GaussianBlur(grey[SIZE // 3 :].mean(axis=0)[None], (0, 0), 4)[0]
    found = {f"grey {q} %": float(np.percentile(middle, q)) for q in (10, 25, 50, 75, 90, 99)}
    found |= {f"depth {a}-{a + 20} %": float(rows[a * SIZE // 100 : (a + 20) * SIZE // 100].mean()) for a in range(0, 100, 20)}
    found["side to side"] = float(columns.std() / (columns.mean() + 1))
    return found | _speckle(grey)


def _speckle(grey: np.ndarray) -> dict[str, float]:
    """Of a bright 64 x 64 patch in the middle, slow changes removed: contrast, half widths, share of fine detail."""
    patches = [grey[r : r + 64, c : c + 64] for r in range(60, 250, 32) for c in range(90, 200, 32)]
    patch = sorted(patches, key=np.mean)[-4]
    flat = patch - cv2.GaussianBlur(patch, (0, 0), 8)
    power = np.abs(np.fft.fft2(flat * np.outer(np.hanning(64), np.hanning(64)))) ** 2
    auto = np.fft.ifft2(power).real
    auto /= auto[0, 0] + 1e-9
    frequency = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.fftfreq(64))
    return {
        "speckle contrast": float(flat.std() / (patch.mean() + 1)),
        "speckle height px": _half_width(auto[:32, 0]),
        "speckle width px": _half_width(auto[0, :32]),
        "fine detail share": float(power[frequency > 0.15].sum() / (power.sum() + 1e-9)),
    }


def _half_width(fall: np.ndarray) -> float:
    below = int(np.argmax(fall < 0.5)) or len(fall) - 1
    return 2 * (below - 1 + (fall[below - 1] - 0.5) / (fall[below - 1] - fall[below] + 1e-9))


def compare(simulated: pd.DataFrame, tuned: pd.DataFrame, held: pd.DataFrame) -> pd.DataFrame:
    """One row per number: medians, and distances (Kolmogorov-Smirnov; Wasserstein in standard deviations of the real)."""
    rows = []
    for name in held:
        scale = held[name].std()
        rows.append({
            "number": name, "real median": held[name].median(), "real 10 %": held[name].quantile(0.1),
            "real 90 %": held[name].quantile(0.9), "simulated median": simulated[name].median(),
            "simulated 10 %": simulated[name].quantile(0.1),
            "simulated 90 %": simulated[name].quantile(0.9), "KS": ks_2samp(simulated[name], held[name]).statistic,
            "KS real halves": ks_2samp(tuned[name], held[name]).statistic,
            "W / SD": wasserstein_distance(simulated[name], held[name]) / scale,
            "W / SD real halves": wasserstein_distance(tuned[name], held[name]) / scale,
        })  # fmt: skip
    return pd.DataFrame(rows)


def draw(simulated: pd.DataFrame, held: pd.DataFrame, path: Path) -> None:
    """Histograms of every number, simulated beside real."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(4, 4, figsize=(13, 10), layout="constrained")
    for axis, name in zip(axes.flat, held, strict=True):
        both = np.concatenate([simulated[name], held[name]])
        bins = np.linspace(*np.percentile(both, [0.5, 99.5]), 24)
        axis.hist([held[name], simulated[name]], bins, density=True, label=["COVID-BLUES, held-out patients", "simulated"])
        axis.set(title=name, yticks=[])
    axes.flat[0].legend(fontsize=7)
    figure.savefig(path, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--frames-per-clip", type=int, default=2)
    parser.add_argument("--tune", action="store_true", help="compare with the half that the simulator is tuned on")
    args = parser.parse_args()
    clips = real_clips(args.root)
    simulated = pd.DataFrame(map(describe, simulated_pictures(blues_study())))
    halves = [clips.loc[clips["tuned"] == tuned, "path"] for tuned in (True, False)]
    tuned, held = (pd.DataFrame(map(describe, real_pictures(paths, args.frames_per_clip))) for paths in halves)
    if args.tune:
        tuned, held = held, tuned
    args.out.mkdir(parents=True, exist_ok=True)
    table = compare(simulated, tuned, held)
    table.to_csv(args.out / "realism.csv", index=False)
    draw(simulated, held, args.out / "realism.png")
    with pd.option_context("display.width", 200, "display.max_columns", 20):
        print(table.round(2).to_string(index=False))


if __name__ == "__main__":
    main()
