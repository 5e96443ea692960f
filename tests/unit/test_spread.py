"""Candidates spread over equal cards: whose neighbours are on one, and ratios that no card's own error is in."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.estimates.estimate import Aim
from pytest_greencompute.judging.choice import ENERGY, Candidate, Choice, overlapping
from pytest_greencompute.judging.right_size import judge_right_size
from pytest_greencompute.measuring.by_turns import Entrant, check_some, measure_abreast
from pytest_greencompute.measuring.effort import Effort
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.models.devices import fixed_place
from pytest_greencompute.pairing.started import NotMeasuredError
from pytest_greencompute.session.spread import CardPart, SpreadOut
from pytest_greencompute.testing.sensor import Sensor
from pytest_greencompute.testing.simulated import SimulatedClock, SimulatedGpu
from pytest_greencompute.values.readings import Source

QUERIES = list(range(20))
SECONDS = {"a": 0.040, "b": 0.030, "c": 0.020, "d": 0.0194, "e": 0.0188}  # a query takes, at one power
GAINS = (1.0, 1.08, 0.95)  # what the sensors of three equal cards show of one watt


@given(st.integers(1, 30), st.integers(1, 9))
def test_all_neighbours_are_on_one_card_and_cards_are_joined_by_one_candidate(candidates: int, cards: int) -> None:
    names = [str(each) for each in range(candidates)]
    groups = overlapping(names, cards)
    assert len(groups) == max(1, min(cards, candidates - 1))
    assert [pair for group in groups for pair in pairwise(group)] == [*pairwise(names)]
    assert all(one[-1] == other[0] for one, other in pairwise(groups))
    assert max(map(len, groups)) - min(map(len, groups)) <= 1


@dataclass
class Part:
    """What one card has measured."""

    names: Sequence[str]
    candidates: tuple[Candidate, ...]


def on_card(names: Sequence[str], card: int, broken: str = "") -> Part:
    clock = SimulatedClock()
    gpu = SimulatedGpu(clock, sensor=Sensor(update_s=0.1, window_s=0.1, gain=GAINS[card]), domain=f"gpu:{card}", uuid=f"GPU-{card}")

    def entrant(name: str) -> Entrant:
        def run(batch: Sequence[int]) -> list[int]:
            if name == broken:
                raise MemoryError
            gpu.work(SECONDS[name] * len(batch), 300.0)
            return list(batch)

        return Entrant(name, lambda: Task(run, QUERIES, name=name, test="tests/test_x.py::test_y"), {})

    effort = Effort(30.0, keep_answers=True)
    meters = Instruments([gpu.energy_counter()], clock)
    found, _, _ = measure_abreast([*map(entrant, names)], meters, lambda _: effort, lambda *_: (), some=False)
    return Part(names, found)


def spread(cards: int, broken: str = "") -> Choice:
    nothing: Any = None
    plain = Choice(tuple(map(Candidate, SECONDS)), Aim())
    entrants = [Entrant(name, nothing, {}) for name in SECONDS]
    groups = overlapping([*SECONDS], cards)
    parts: Any = [on_card(group, card, broken) for card, group in enumerate(groups)]
    found = SpreadOut(entrants, plain, (), None, (), nothing).joined(parts)
    return replace(plain, candidates=found)


def test_ratios_between_cards_are_the_true_ones_whatever_each_card_shows() -> None:
    three = spread(3)
    assert [each.card for each in three.candidates] == [0, 0, 1, 2, 2]
    first, *_, last = three.candidates
    shown = (three.value(last, ENERGY) or 0.0) / (three.value(first, ENERGY) or 1.0)
    assert shown == pytest.approx(SECONDS["e"] / SECONDS["a"] * GAINS[2] / GAINS[0], rel=0.01)
    for one, to in itertools.product(three.candidates, repeat=2):
        ratio, truth = three.ratio(one, to), SECONDS[one.name] / SECONDS[to.name]
        assert ratio is not None
        assert ratio.low <= truth <= ratio.high
        assert ratio.value == pytest.approx(truth, rel=0.005)


def test_the_right_size_is_that_of_equal_cards_though_one_shows_more() -> None:
    two = spread(2)
    shown = {each.name: two.value(each, ENERGY) or 0.0 for each in two.candidates}
    assert min(shown, key=lambda name: shown[name]) == "c"  # by what the cards show
    assert two.right_sized == "e"
    verdict = judge_right_size(two, "c", 0.02)
    assert verdict.word == "FAIL"
    assert "c uses 1.06 times" in verdict.reason
    assert "on gpu:0 and gpu:1, compared by way of what both cards measured" in verdict.reason
    assert judge_right_size(two, "e", 0.02).word == "PASS"


def test_where_nothing_joins_the_cards_what_lies_behind_is_unmeasured() -> None:
    choice = spread(2, broken="c")
    assert choice.right_sized == "b"
    assert choice.candidate("c").problem == "out of memory"
    assert choice.candidate("d").problem == "not comparable, since c, which was to join the cards, has no figure on both"
    verdict = judge_right_size(choice, "b", 0.2)
    assert verdict.word == "UNMEASURED"
    assert "no figure of d (not comparable" in verdict.reason


def test_a_figure_that_the_link_lacks_joins_nothing() -> None:
    choice = spread(2)
    link = choice.candidate("c")
    assert link.linked is not None
    silent = replace(link, linked=replace(link.linked, blocks=()))
    choice = replace(choice, candidates=tuple(silent if each is link else each for each in choice.candidates))
    assert choice.ratio(choice.candidate("a"), choice.candidate("e")) is None
    assert choice.right_sized == "c"
    assert judge_right_size(choice, "c", 0.2).word == "UNMEASURED"


def test_a_module_that_cannot_move_to_another_card_is_known_by_its_place() -> None:
    torch = pytest.importorskip("torch")
    assert fixed_place(torch.nn.Linear(2, 2)) == "cpu"
    assert fixed_place(torch.nn.Linear(2, 2, device="meta")) == "meta"
    assert fixed_place(torch.nn.Identity()) == ""
    assert fixed_place(len) == ""


CARD = Source("nvml", "gpu:1", "counter", "NVIDIA H100", uuid="GPU-1")


def test_a_card_whose_process_ends_early_or_says_what_makes_no_sense_has_measured_nothing_and_says_why() -> None:
    def no_process() -> Any:
        raise NotMeasuredError("its process could not be started (No such file)")

    assert [each.problem for each in CardPart(("a", "b"), CARD, no_process).candidates] == [
        "not measured on gpu:1: its process could not be started (No such file)"
    ] * 2
    closed: list[bool] = []
    part = CardPart(("a", "b"), CARD, lambda: cast("Any", SimpleNamespace(close=lambda: closed.append(True))))

    def ends(*_: object) -> None:
        raise NotMeasuredError("its test failed (no room).")

    part.attempt(ends)
    part.attempt(lambda *_: pytest.fail("it has ended"))
    part.close()
    assert closed == [True]
    assert part.candidates[1].problem == "not measured on gpu:1: its test failed (no room)"
    with pytest.raises(SettingsError, match="other candidates"):
        part.understand({"looks": 1, "candidates": []})
    with pytest.raises(SettingsError, match=r"No candidate could be measured. a: not measured on gpu:1: its test failed"):
        check_some(part.candidates)
