"""Each reader of foreign text with its seeds, with what fuzzing has kept, and with both torn, doubled and mixed."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, Target


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_what_is_known_is_read_or_refused(target: Target) -> None:
    for data in target.corpus:
        target(data)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_nobody_wrote_is_read_or_refused(target: Target, data: st.DataObject) -> None:
    seeds = [seed for seed in target.seeds if len(seed) < 1000]
    one, other = (data.draw(st.sampled_from(seeds)) for _ in range(2))
    start, end = sorted(data.draw(st.integers(0, len(one))) for _ in range(2))
    target(one[:start] + data.draw(st.one_of(st.binary(max_size=12), st.just(other), st.just(b"9" * 400), st.just(b"-"))) + one[end:])


def test_a_fault_is_found() -> None:
    """A reader that raises anything else, or gives a figure that is none, is told."""

    def careless(data: bytes) -> float:
        return float(data)

    with pytest.raises(ValueError, match="could not convert"):
        Target("careless", careless, ())(b"x")
