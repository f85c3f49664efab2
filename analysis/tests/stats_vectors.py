#!/usr/bin/env python3
"""Makes stats_vectors.json, the values that src/stats.rs is tested against.

    python3 -m venv venv && venv/bin/pip install numpy scipy
    venv/bin/python stats_vectors.py > stats_vectors.json

Quantiles come from numpy (method "linear" is type 7). The exact bootstrap interval runs the same
resampling (SplitMix64, multiply-shift) here; scipy's own bootstrap bounds it independently.
"""
import json

import numpy as np
import scipy
from scipy import stats

SEED = 0x4C494D4F5341
RESAMPLES = 10_000
MASK = (1 << 64) - 1


def splitmix64(state):
    while True:
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        yield z ^ (z >> 31)


def means(values, draws):
    n = len(values)
    return [float(np.mean([values[(next(draws) * n) >> 64] for _ in range(n)])) for _ in range(RESAMPLES)]


def case(name, values):
    v = np.array(values)
    resampled = means(values, splitmix64(SEED))
    ci = np.quantile(resampled, [0.025, 0.975])
    wide = np.quantile(resampled, [0.005, 0.995])
    other = stats.bootstrap((v,), np.mean, n_resamples=RESAMPLES, method="percentile",
                            random_state=np.random.default_rng(1)).confidence_interval
    return {
        "name": name, "values": values,
        "mean": float(v.mean()), "median": float(np.median(v)),
        **{f"p{p:02}": float(np.quantile(v, p / 100)) for p in (5, 25, 75, 95)},
        "ci95": [float(x) for x in ci], "ci99": [float(x) for x in wide], "scipy_ci95": [float(other.low), float(other.high)],
        "standard_error": float(stats.sem(v)),
    }


rng = np.random.default_rng(2025)
cases = [
    ("two", [1.0, 2.0]),
    ("five", [3.0, 1.0, 4.0, 1.0, 5.0]),
    ("quic-migrate", [round(float(x), 3) for x in rng.normal(109.28, 2.1, 20)]),
    ("skewed", [round(float(x), 6) for x in rng.lognormal(0, 1.2, 31)]),
]
a, b = cases[2][1], [round(float(x), 3) for x in rng.normal(64.82, 2.2, 17)]
draws = splitmix64(SEED)
difference = []
for _ in range(RESAMPLES):
    x = np.mean([a[(next(draws) * len(a)) >> 64] for _ in a])
    y = np.mean([b[(next(draws) * len(b)) >> 64] for _ in b])
    difference.append(float(x - y))
first = splitmix64(1234567)
print(json.dumps({
    "made_with": f"numpy {np.__version__}, scipy {scipy.__version__}",
    "splitmix64_1234567": [str(next(first)) for _ in range(5)],
    "cases": [case(*c) for c in cases],
    "difference": {"a": a, "b": b, "ci95": [float(x) for x in np.quantile(difference, [0.025, 0.975])]},
}, indent=1))
