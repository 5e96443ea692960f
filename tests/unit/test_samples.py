"""Raw samples refuse what cannot be, once, at their constructor."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from making import block, run, source

from pytest_greencompute.errors import GreencomputeError, MeterError, SettingsError
from pytest_greencompute.values.readings import Block, Idle, Reading, Source, Span, sets_of
from pytest_greencompute.values.run import Latency


@pytest.mark.parametrize(
    "fields",
    [
        {"method": "guessed"},
        {"meter": ""},
        {"domain": ""},
        {"tick_s": -1.0},
        {"tick_s": math.nan},
        {"systematic": math.inf},
        {"lag_s": -0.1},
    ],
)
def test_a_source_must_say_what_it_is(fields: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        Source(**{"meter": "made", "domain": "cpu", "method": "counter", **fields})


@pytest.mark.parametrize(
    "made",
    [
        lambda: Reading(math.nan, 0),
        lambda: Reading(math.inf, 0),
        lambda: Span(math.nan, 0, 1),
        lambda: Span(-0.1, 0, 1),
        lambda: Span(1.0, 2, 1),
        lambda: Block(0, 0.0, 1, 5, 4, {}),
        lambda: Block(0, 0.0, 1, 5, 9, {"cpu": Span(1.0, 6, 9)}),
        lambda: Block(0, 0.0, 1, 5, 9, {"cpu": Span(1.0, 5, 8)}),
        lambda: Idle("cpu", 1.0, 0.0),
        lambda: Idle("cpu", -1.0, 1.0),
        lambda: Idle("cpu", math.nan, 1.0),
        lambda: Latency(0, 1.0),
        lambda: Latency(1, -1.0),
        lambda: Latency(1, math.nan),
        lambda: run([block({"cpu": 5.0})]),
    ],
)
def test_what_a_meter_cannot_have_read_is_a_meter_error(made: Any) -> None:
    with pytest.raises(MeterError):
        made()


@pytest.mark.parametrize(
    "made",
    [
        lambda: Block(0, 0.0, 0, 5, 9, {}),
        lambda: Block(0, 1.0, 1, 5, 9, {}),
        lambda: Block(0, math.nan, 1, 5, 9, {}),
        lambda: run(queries=0),
        lambda: run(batch_size=0),
        lambda: run(looks=0),
        lambda: run([block(1), block(1)], window=True),
        lambda: run(scores=(1.0,) * 101),
        lambda: run(scores=(1.0, math.nan)),
    ],
)
def test_what_a_caller_cannot_have_meant_is_a_settings_error(made: Any) -> None:
    with pytest.raises(SettingsError):
        made()


def test_a_score_that_is_not_finite_is_named_by_its_query() -> None:
    with pytest.raises(SettingsError, match="query 1 is nan"):
        run(scores=(1.0, math.nan))


def test_samples_are_frozen_and_their_spans_too() -> None:
    made = block(1.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.queries = 2  # type: ignore[misc]
    with pytest.raises(TypeError):
        made.spans["gpu:0"] = Span(1.0, 0, 1)  # type: ignore[index]


def test_a_run_knows_its_sources_by_domain() -> None:
    made = run(sources=(source("gpu:0"), source("cpu")))
    assert made.source("cpu").domain == "cpu"
    with pytest.raises(KeyError):
        made.source("dram")


def test_sets_come_in_order_of_measuring() -> None:
    blocks = [block(k, set_index=index) for k, index in enumerate([2, 0, 2, 1])]
    assert [[each.set_index for each in group] for group in sets_of(blocks)] == [[0], [1], [2, 2]]
    assert sets_of([]) == ()


def test_every_error_says_its_remedy_behind_its_message() -> None:
    error = GreencomputeError("No meter.", remedy="Install one.")
    assert (error.message, error.remedy, str(error)) == ("No meter.", "Install one.", "No meter. Install one.")
    assert str(GreencomputeError("No meter.")) == "No meter."
