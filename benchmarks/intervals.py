"""How often three bootstrap intervals over patients cover the exact truth of simulated tables: python benchmarks/intervals.py [TABLES]

The tables and their truth are those of tests/evaluation/test_intervals.py. `expanded` is what lus_lightning quotes.
"""

import sys
from pathlib import Path

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "evaluation"))

from test_intervals import simulated_table, truth

from lus_lightning.evaluation.intervals import interval, resample_weights
from lus_lightning.evaluation.metrics import score_statistic


def bca(values: np.ndarray, value: float, left_out: np.ndarray) -> tuple[float, float]:
    """Bias-corrected and accelerated (Efron 1987); `left_out`: the value without each patient in turn."""
    gap = left_out.mean() - left_out
    acceleration = (gap**3).sum() / (6 * (gap**2).sum() ** 1.5)
    bias = stats.norm.ppf((values < value).mean())
    z = bias + stats.norm.ppf([0.025, 0.975])
    return tuple(np.quantile(values, stats.norm.cdf(bias + z / (1 - acceleration * z))))


def main(tables: int) -> None:
    print(f"{'patients':>8} {'metric':>9} {'percentile':>11} {'expanded':>9} {'BCa':>6}   ({tables} tables, 1,000 resamples each)")
    for patients in (10, 20, 50):
        held = {name: [] for name in truth()}
        for seed in range(tables):
            table = simulated_table(seed, patients)
            statistic = score_statistic(table, table["patient"].to_numpy())
            drawn = statistic(resample_weights(patients, 1000, 10_000 + seed))
            plain, left_out = statistic(np.ones((1, patients))), statistic(1 - np.eye(patients))
            for name, true in truth().items():
                ends = np.quantile(drawn[name], [0.025, 0.975]), interval(drawn[name], patients)[:2]
                ends += (bca(drawn[name], plain[name][0], left_out[name]),)
                held[name].append([low <= true <= high for low, high in ends])
        for name, h in held.items():
            percentile, expanded, accelerated = np.mean(h, axis=0)
            print(f"{patients:8} {name:>9} {percentile:11.3f} {expanded:9.3f} {accelerated:6.3f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
