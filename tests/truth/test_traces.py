"""The simulated sensor reproduces what real GPUs logged, and a real load period is measured right."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.truth.benchmarks import load

traces = load("truth", "traces")
FOLDER = traces.folder()
pytestmark = pytest.mark.skipif(FOLDER is None, reason="the public GPU power traces are not here (GREENCOMPUTE_TRACES names their folder)")


@pytest.mark.parametrize(("name", "channel", "at_most"), traces.FITS)
def test_each_channel_driven_by_the_truth_gives_the_logged_readings(name: str, channel: str, at_most: float) -> None:
    found = traces.fit(Path(FOLDER, name), channel)
    assert found.rms <= at_most
    assert found.updates > 80


def test_the_channels_of_one_card_cannot_be_taken_for_each_other() -> None:
    """Instant readings are no mean over a second: the agreement above is one of the windows, not of the fit."""
    trace = Path(FOLDER, "rtx3090-step")
    wrong = min(seen.error(traces.Sensor(0.1, 1.0, gain=0.95)) for seen in traces.updates(trace, "instant", 1.0).values())
    assert wrong > 5 * traces.fit(trace, "instant").rms


@pytest.mark.parametrize(("name", "sensor"), traces.QUERIES, ids=lambda value: value if isinstance(value, str) else f"{value.window_s:g}s")
def test_a_real_load_period_is_measured_within_two_percent(name: str, sensor: object) -> None:
    watts = traces.period_of(Path(FOLDER, name))
    assert 80 <= len(watts) <= 120
    for seed in range(3):
        assert abs(traces.played(watts, sensor, seed)[0]) <= 0.02
