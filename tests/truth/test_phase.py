"""The model of the phase: its intervals cover as often as they promise, with and without a signal in the phase."""

from __future__ import annotations

import statistics

import numpy as np
import pytest

from pytest_greencompute.stats.phases import PHASES, half_width

TRIALS = 4000


def misses(signal: float, noise: float, sets: int, confidence: float, harmonic: int = 1) -> float:
    """How often the interval of the mean fails to hold the true mean 1.0."""
    rng = np.random.default_rng(7)
    phases = (np.arange(PHASES) + rng.random((TRIALS, sets, 1))) / PHASES
    # A triangle wave: continuous, with harmonics that fall as 1 / h**2, as the energy seen by a sampling sensor does.
    wave = 2 * np.abs(2 * ((phases * harmonic) % 1) - 1) - 1
    values = 1 + signal * wave + noise * rng.standard_normal(phases.shape)
    off = np.abs(values.mean(axis=(1, 2)) - 1)
    return statistics.fmean(far > half_width(trial, confidence) for far, trial in zip(off.tolist(), values.tolist(), strict=True))


@pytest.mark.parametrize("sets", [1, 2, 4])
@pytest.mark.parametrize(("signal", "noise"), [(0.0, 0.01), (0.5, 0.0), (0.5, 0.01), (0.1, 0.05)])
def test_a_99_percent_interval_misses_in_at_most_one_and_a_half_percent(signal: float, noise: float, sets: int) -> None:
    assert misses(signal, noise, sets, 0.99) <= 0.015


@pytest.mark.parametrize("harmonic", [1, 2, 4, 5])
def test_a_load_that_repeats_several_times_a_tick_is_covered_too(harmonic: int) -> None:
    assert misses(0.5, 0.002, 1, 0.99, harmonic) <= 0.015


def test_a_95_percent_interval_of_pure_noise_misses_in_at_most_six_percent_and_is_not_idle_either() -> None:
    assert 0.01 <= misses(0.0, 0.01, 1, 0.95) <= 0.06
