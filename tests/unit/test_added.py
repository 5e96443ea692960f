"""A side tells what was added to its run, and the process that compares has the whole run all the same."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from making import block, idle, latencies, run

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.pairing.added import heard, told_of
from pytest_greencompute.values.run import Run, Serving


def grown(sets: int) -> Run:
    """A run of so many sets, with the samples of each."""
    blocks = [block(1.0 + index, set_index=index, at_s=2.0 * index + 1) for index in range(sets)]
    idles = tuple(idle(20.0 + index) for index in range(sets))
    return run(blocks, idles=idles, latencies=latencies(0.01 * (index + 1) for index in range(3 * sets)), warmup=(block(9.0),))


WHOLE = grown(6)


def after(sets: int) -> Run:
    """WHOLE as it was after so many sets: its samples are the same objects, as those of a run that is measured are."""
    return replace(WHOLE, blocks=WHOLE.blocks[:sets], idles=WHOLE.idles[:sets], latencies=WHOLE.latencies[: 3 * sets])


def sent(message: dict[str, Any]) -> dict[str, Any]:
    arrived: dict[str, Any] = json.loads(json.dumps(message, allow_nan=False))
    return arrived


def test_the_whole_run_arrives_in_messages_that_do_not_grow() -> None:
    told = known = None
    lengths = []
    for sets in range(1, 7):
        message = told_of(after(sets), told)
        lengths.append(len(json.dumps(message)))
        told, known = after(sets), heard(sent(message), known)
        assert known == after(sets)
    assert max(lengths[1:]) - min(lengths[1:]) <= 20  # digits


def test_samples_that_were_replaced_are_told_anew() -> None:
    other = replace(WHOLE, blocks=(*WHOLE.blocks[:2], *grown(6).blocks[2:4]), idles=(), notes=("a set was lost",))
    message = told_of(other, WHOLE)
    assert message["has"] == {"blocks": 2, "warmup": 1, "idles": 0, "latencies": 18}
    assert heard(sent(message), WHOLE) == other


def test_a_served_load_is_told_whole() -> None:
    served = replace(WHOLE, serving=Serving(1, 10, tokens=(5.0,) * 6))
    message = told_of(served, WHOLE)
    assert message["has"] == {}
    assert heard(sent(message), WHOLE) == served


def test_versions_that_tell_whole_runs_are_understood() -> None:
    assert heard({"run": sent(told_of(WHOLE, None))["run"]}, after(2)) == WHOLE


@pytest.mark.parametrize("before", [None, after(1)])
def test_a_run_that_goes_on_from_what_was_never_told_is_refused(before: Run | None) -> None:
    with pytest.raises(SettingsError, match="never told"):
        heard(sent(told_of(WHOLE, after(3))), before)
