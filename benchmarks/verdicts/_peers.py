"""Rules of other tools on the same streams, each written anew from its documentation, with a tolerance of 5 %. True: red.

All of them compare a stored run with a new one: here the first 20 samples of a launch of each.
"""

from __future__ import annotations

import numpy as np
from _noise import Factors
from numpy.typing import NDArray
from scipy import stats

TOLERANCE = 0.05
SAMPLES = 20
ASV_P = 0.002
CRITERION_P = 0.05
RESAMPLES = 500

Red = NDArray[np.bool_]


def pytest_benchmark(base: Factors, head: Factors) -> Red:
    """``--benchmark-compare-fail=mean:5%``: the new mean is more than 5 % above the stored one."""
    return head.mean(axis=1) > (1 + TOLERANCE) * base.mean(axis=1)


def asv(base: Factors, head: Factors) -> Red:
    """``asv continuous --factor 1.05``: the median is worse by more than the factor, and Mann and Whitney's test has p < 0.002."""
    worse = np.median(head, axis=1) > (1 + TOLERANCE) * np.median(base, axis=1)
    p = stats.mannwhitneyu(head, base, axis=1, method="asymptotic").pvalue
    return worse & (p < ASV_P)


def criterion(base: Factors, head: Factors) -> Red:
    """``noise_threshold(0.05)``: Student's t differs (p < 0.05, by resampling the joined runs) and the 95 % interval of the change of
    the mean, by bootstrap, is wholly beyond the threshold."""
    rng = np.random.default_rng(1)
    n = base.shape[1]
    means = [run[:, rng.integers(0, n, (RESAMPLES, n))].mean(axis=2) for run in (base, head)]
    low = np.quantile(means[1] / means[0] - 1, 0.025, axis=1)
    # The distribution of t under no change is that of Student's t, near enough for 20 samples of a side.
    different = stats.ttest_ind(head, base, axis=1, equal_var=False).pvalue < CRITERION_P
    return different & (low > TOLERANCE)


RULES = {"pytest-benchmark mean:5%": pytest_benchmark, "asv factor 1.05": asv, "criterion noise 5 %": criterion}
