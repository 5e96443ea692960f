"""The error of a mean over stratified phases, from one set or a few: a model of how energy depends on the phase.

A sensor that sees part of the time makes a block's energy a periodic function of its phase. The mean over K evenly spaced phases
cancels every harmonic of that function but the K-th and its multiples (the trapezoidal rule on a periodic function). Two errors are left:

* noise, the same at every harmonic. It is estimated from the two quietest harmonics, since the signal sits in a few;
* what aliases from the K-th harmonic. The function is the integral of bounded power, so its harmonics fall at least as 1 / h**2
  (Zygmund, Trigonometric Series, II.4), which bounds the K-th one by those that are seen.

Checked by simulation in tests/truth/test_phase.py: coverage with and without such a signal.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_greencompute.stats.distributions import student_t_quantile

PHASES = 9
_HARMONICS = (PHASES - 1) // 2
LEAST_TO_SHOW = 6
SHOWN, SHOWN_ERROR = 0.01, 0.0005
_TURNS = [[cmath.exp(-2j * math.pi * h * k / PHASES) for k in range(PHASES)] for h in range(1, _HARMONICS + 1)]  # by harmonic
# Mean of the two smallest of four independent exponentials of mean one: (1/4 + (1/4 + 1/3)) / 2. The estimate behaves as one with four
# degrees of freedom (quantiles of the studentised mean agree with Student's t from 90 % to 99.9 % in simulation).
_TWO_SMALLEST = (2 / _HARMONICS + 1 / (_HARMONICS - 1)) / 2
_DEGREES = 4


@dataclass(frozen=True, slots=True)
class Errors:
    """What is left in the mean of one set: the standard error from noise, and the largest aliased amplitude."""

    noise: float
    aliased: float


def errors(sets: Sequence[Sequence[float]]) -> Errors:
    """The errors of the mean of one of ``sets``, each PHASES values in order of phase.

    More sets average the harmonics' powers; that they also sharpen the noise estimate is not used, which errs on the wide side.
    """
    powers = [0.0] * _HARMONICS
    for values in sets:
        for h, turn in enumerate(_TURNS):
            amplitude = 2 * abs(sum(value * each for value, each in zip(values, turn, strict=True))) / PHASES
            powers[h] += amplitude**2 / len(sets)
    quietest = sorted(powers)[:2]
    variance = sum(quietest) / 2 / _TWO_SMALLEST * PHASES / 4
    aliased = max(math.sqrt(power) * (h / PHASES) ** 2 for h, power in enumerate(powers, 1))
    return Errors(math.sqrt(variance / PHASES), aliased)


def shows(phases: Sequence[float], values: Sequence[float]) -> bool:
    """Whether single values at random phases (in [0, 1)) follow the phase: by the F test of its first two harmonics, one by one.

    ``SHOWN_ERROR`` is how often it seems so by chance for one of the two; what is smaller than ``SHOWN`` of the value does no harm.
    """
    n = len(values)
    if n < LEAST_TO_SHOW:
        return False
    import numpy as np

    seen = np.asarray(values, dtype=float) / math.fsum(values) * n
    whole = float(((seen - 1) ** 2).sum())
    for harmonic in (1, 2):
        turns = 2 * math.pi * harmonic * np.asarray(phases, dtype=float)
        columns = np.stack([np.ones(n), np.cos(turns), np.sin(turns)], axis=1)
        found = np.linalg.lstsq(columns, seen, rcond=None)[0]
        left = float(((seen - columns @ found) ** 2).sum())
        amplitude = math.hypot(float(found[1]), float(found[2]))
        # An F with two degrees above has a distribution in closed form: P(F > f) = (left / whole) ** (degrees / 2).
        if amplitude > SHOWN and (left / whole) ** ((n - 3) / 2) < SHOWN_ERROR:
            return True
    return False


def weights(phases: Sequence[float]) -> list[float]:
    """What share of a tick each of ``phases`` (in [0, 1), in order) stands for: half the way to its neighbours, round the circle.

    Blocks start a little late on a busy machine; with these weights the mean is still the integral over the phase (trapezoidal rule).
    """
    last = len(phases) - 1
    before = [phases[last] - 1, *phases[:last]]
    after = [*phases[1:], phases[0] + 1]
    return [(b - a) / 2 for a, b in zip(before, after, strict=True)]


def half_width(sets: Sequence[Sequence[float]], confidence: float) -> float:
    """Half-width of the interval of the mean of ``sets``, where nothing but noise and phase makes them differ."""
    left = errors(sets)
    return student_t_quantile((1 + confidence) / 2, _DEGREES) * left.noise / math.sqrt(len(sets)) + left.aliased
