"""``--energy-max-seconds``: all that a comparison may cost, confirmation included, on the benchmark's simulated GPU."""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from pytest_greencompute.estimates.estimate import Aim
from pytest_greencompute.judging.rule import Rule
from pytest_greencompute.measuring.driver import run_metered
from pytest_greencompute.measuring.effort import Effort
from pytest_greencompute.measuring.time_limit import TimeLimit
from pytest_greencompute.pairing.outlook import Outlook
from pytest_greencompute.pairing.runs import BaseOfTest, Match, Pairing
from pytest_greencompute.protocol.messages import Tell
from tests.truth.benchmarks import load

seconds = load("verdicts", "seconds")


@dataclass
class Gated:
    """A comparison that has ended: its match, what it may have cost, what it took in all, and what the progress line said."""

    match: Match
    limit: TimeLimit
    took_s: float
    said: list[tuple[float, str]]

    @property
    def word(self) -> str:
        return self.match.tests["energy_per_query"].verdict.word

    @property
    def launches(self) -> int:
        return sum("again" in what for _, what in self.said) + 1


def gate(case: Any, limit_s: float, *, seed: int = 0, load_s: float = 0.0, rules: Mapping[str, Rule] | None = None) -> Gated:
    """Head against its base as a session does it, with a time limit."""
    world = seconds.World(case, seed, load_s)
    said: list[tuple[float, str]] = []
    began_ns = world.clock.now_ns()

    def start(side: str) -> Any:
        return seconds.Launch(world, 1.0 if side == "base" else 1 + case.worse, "preparation", limit_s / 2)

    base = BaseOfTest("base", "base", start("base"))  # type: ignore[arg-type]
    match = Match(base, rules or {"energy_per_query": Rule()}, Aim())
    limit = TimeLimit(world.clock, limit_s)
    instruments = world.instruments()

    def say(what: str) -> None:
        said.append(((world.clock.now_ns() - began_ns) / 1e9, what))

    pairing = Pairing([match], "head", start, Aim(), say=say, learnt=lambda: instruments.behaviours, outlook=Outlook(limit))  # type: ignore[arg-type]

    def outlook(run: Any) -> str:
        pairing.outlook.see(run)
        return pairing.outlook.words(pairing.matches)

    def tell(step: Tell) -> None:
        say(step.outlook)

    effort = Effort(
        limit_s / 2,
        timing="short",
        tell=tell,
        outlook=outlook,
        enough=lambda _: pairing.may_end(certain=True),
        keep_answers=True,
        agree=pairing.agree,
        turn=pairing.turn,
        in_pairs=True,
    )
    with limit.counting():
        run, _ = run_metered(world.task(1 + case.worse), instruments, effort)
        pairing.end(run)
    base.close()
    with limit.counting():
        pairing.confirm()
    return Gated(match, limit, (world.clock.now_ns() - began_ns) / 1e9, said)


def case(worse: float, *, wanders: float = 0.01, query_s: float = 0.01, sees: str = "all") -> Any:
    return seconds.Case(sees, query_s, worse, wanders=wanders)


@pytest.mark.parametrize("each", [each for each in seconds.CASES if each.budget is None and not each.later], ids=str)
def test_the_default_is_enough_for_what_the_docs_promise(each: Any) -> None:
    assert gate(each, 300.0).word == ("FAIL" if each.worse else "PASS")


@pytest.mark.parametrize("limit_s", [20.0, 40.0, 60.0, 100.0])
@pytest.mark.parametrize("worse", [0.0, 0.04, 0.07, 0.15])
@pytest.mark.parametrize("sees", ["all", "a quarter"])
def test_nothing_but_loading_and_getting_the_other_side_ready_is_beside_the_limit(sees: str, worse: float, limit_s: float) -> None:
    gated = gate(case(worse, wanders=0.03, sees=sees), limit_s, load_s=4.0)
    least_s = 10.0 + 3 * 2 * (1.0 if sees == "all" else 5.0)  # what says something at all: this side's own preparation, and three pairs
    assert gated.took_s <= max(limit_s, least_s) + gated.limit.apart_s + 0.1
    assert gated.limit.apart_s >= 4.0 * (1 + 2 * (gated.launches - 1))
    assert gated.took_s == pytest.approx(gated.limit.spent_s + gated.limit.apart_s)


def test_a_late_fail_that_cannot_be_confirmed_is_inconclusive_and_says_what_it_needs() -> None:
    gated = gate(case(0.15), 25.0)
    assert (gated.word, gated.launches) == ("INCONCLUSIVE", 1)
    assert gated.match.remark.startswith("seen once, confirmation did not fit into 25 s: needs about ")
    more_s = float(gated.match.remark.partition("about ")[2].partition(" s")[0])
    assert gate(case(0.15), 25.0 + 1.5 * more_s).word == "FAIL"
    assert more_s <= 1.5 * (gate(case(0.15), 300.0).limit.spent_s - 25.0)


def test_what_is_not_decided_in_time_says_what_it_would_have_taken() -> None:
    gated = gate(case(0.03, wanders=0.03), 40.0)
    assert gated.word == "INCONCLUSIVE"
    assert gated.match.needs["energy_per_query"].startswith("needs ")


def test_a_metric_that_waits_for_more_pairs_leaves_the_time_to_confirm_another() -> None:
    """Throughput at its own tolerance stays open, while energy FAILs at once."""
    rules = {"energy_per_query": Rule(), "throughput": Rule(0.15, better="higher")}
    gated = gate(case(0.15), 70.0, rules=rules)
    assert gated.word == "FAIL"
    assert 60.0 <= gated.limit.spent_s <= 70.0
    assert gated.match.tests["throughput"].verdict.word == "INCONCLUSIVE"


def test_what_cannot_be_decided_ends_at_half_of_the_limit_and_what_can_goes_on() -> None:
    hopeless = [gate(case(0.05, wanders=0.05), 120.0, seed=seed) for seed in range(3)]
    assert {each.word for each in hopeless} == {"INCONCLUSIVE"}
    assert statistics.median(each.limit.spent_s for each in hopeless) <= 0.75 * 120.0
    assert gate(case(0.0, wanders=0.05), 120.0, seed=1).word == "PASS"


def test_the_progress_line_says_what_comes_and_comes_nearer() -> None:
    factors = []
    for number, worse in enumerate((0.0, 0.15) * 8):
        gated = gate(
            case(worse, wanders=random.Random(number).uniform(0.005, 0.03), query_s=0.01 + 0.04 * (number % 2)), 300.0, seed=number
        )
        foretold = [(at, what) for at, what in gated.said if " likely in " in what]
        assert foretold
        assert all(what.partition(" likely")[0].rpartition(" ")[2] == gated.word for _, what in foretold[-1:])
        for at, what in foretold:
            left = float(what.partition(" likely in ")[2].partition(" s")[0])
            factors.append(max(left, 1.0) / max(gated.took_s - at, 1.0))
    assert statistics.median(max(each, 1 / each) for each in factors) <= 1.5
