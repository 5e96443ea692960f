"""``greencompute noise TEST``: the same code against itself on this machine, and what a comparison can therefore show."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pytest_greencompute.commands import Arguments
from pytest_greencompute.commands.saying import say, tell, waiting
from pytest_greencompute.errors import NoMeterError, SettingsError
from pytest_greencompute.judging.budget import DEFAULT_SECONDS, Budget, parse_term
from pytest_greencompute.judging.noise import Noise, Price, noise_of, price_of
from pytest_greencompute.judging.prospect import Prospect
from pytest_greencompute.judging.rule import Rule
from pytest_greencompute.pairing.against_itself import Itself, measure
from pytest_greencompute.pairing.commits import Bases
from pytest_greencompute.pairing.process import Process
from pytest_greencompute.protocol.layout import Timing
from pytest_greencompute.report.escape import json_text
from pytest_greencompute.session.session import Session
from pytest_greencompute.session.tests import MeteredTest
from pytest_greencompute.settings.build import build
from pytest_greencompute.settings.finding import read_nearest
from pytest_greencompute.settings.parse import number_like
from pytest_greencompute.settings.settings import Settings
from pytest_greencompute.settings.sides import told_to_sides
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.units import show_share

ENERGY = METRICS["energy_per_query"]
MOST_LAUNCHES = 20


def run(given: Arguments, root: Path) -> int:
    """The command."""
    return noise(given["test"], root, given)


def noise(test: str, root: Path, given: Arguments) -> int:
    """Measure and print. Returns 0, or 3 where no tolerance up to 50 % is supported. Raises GreencomputeError."""
    import numpy as np

    launches = given["launches"]
    if not 2 <= launches <= MOST_LAUNCHES:
        raise SettingsError(f"--launches is {launches}.", remedy=f"Write a whole number from 2 to {MOST_LAUNCHES}.")
    options = {"meter": given["meter"]} if given.get("meter") is not None else {}
    settings = build({"budget": True, **options}, read_nearest(root, test), os.environ, root)
    itself, budget = _measured(test, root, settings, launches, given)
    rng, rule = np.random.default_rng(0), Rule(budget.tolerance(ENERGY), budget.confidence, floor=budget.floor(ENERGY))
    limit_s = budget.seconds(commits=max(1, len(settings.base_refs)))
    most = pairs_that_fit(itself, limit_s)
    found = Found(
        noise_of(itself.launches, most_pairs=most, confidence=budget.confidence, rng=rng),
        price_of(itself.launches, rule, most_pairs=most, agreeing=settings.launches, rng=rng),
        itself,
        limit_s,
    )
    if given.get("json"):
        print(json_text(found.to_json(), sys.stdout.encoding))
    else:
        for line in in_words(found):
            tell(line)
    return 0 if found.noise.tolerance is not None else 3


def pairs_that_fit(itself: Itself, most_s: float) -> int:
    """How many pairs a comparison of the test has time for in its first launch."""
    return max(itself.layout.sets, int((most_s - itself.ready_s) / itself.pair_s))


@dataclass(frozen=True, slots=True)
class Found:
    """What is told: what the pairs show, what verdicts take by the test's own budget, and ``most_s``, the time limit that it has."""

    noise: Noise
    price: Price
    itself: Itself
    most_s: float

    def seconds(self, prospect: Prospect | None) -> float | None:
        """What a verdict takes, loading included; None where it is not to be expected."""
        return None if prospect is None else self.itself.seconds(prospect)

    def to_json(self) -> dict[str, object]:
        """For scripts; seconds, and shares (0.05: 5 %)."""
        itself, price = self.itself, self.price
        return asdict(self.noise) | {
            "pair_s": itself.pair_s,
            "loading_s": itself.loading_s,
            "preparation_s": itself.ready_s,
            "preparation_again_s": itself.ready_again_s,
            "max_seconds": self.most_s,
            "judged_tolerance": price.rule.tolerance,
            "worse": price.worse,
            "pass_s": self.seconds(price.to_pass),
            "pass_pairs": None if price.to_pass is None else price.to_pass.pairs + price.to_pass.again,
            "fail_s": self.seconds(price.to_fail),
            "fail_pairs": None if price.to_fail is None else price.to_fail.pairs + price.to_fail.again,
            "fail_launches": None if price.to_fail is None else price.to_fail.launches,
        }


def _measured(test: str, root: Path, settings: Settings, launches: int, given: Arguments) -> tuple[Itself, Budget]:
    """``max_seconds`` of what is ``given`` is for the blocks of one side in one launch."""
    session = Session(replace(settings, base_refs=(), baseline=None), root, os.environ, waiting=waiting)
    try:
        session.open()
        if session.problem:
            raise NoMeterError(session.problem)
        budget = session.budget(MeteredTest(test, test, settings.lines_for(test)))
        one_side_s = parse_term("max_seconds", number_like(given.get("max_seconds") or DEFAULT_SECONDS))
        told = told_to_sides(session.settings, budget, root, session.home)
        told = replace(told, max_seconds=one_side_s, count=())  # what is counted has no noise to be known
        side = Bases(root, os.environ, ()).head(test)
        aim = session.bench().aim.at(budget.confidence)
        name = given.get("run")
        timed = any(METRICS[each].kind == "latency" for each in {**budget.limits.get(None, {}), **budget.limits.get(name, {})})
        timing: Timing = "whole" if timed else "short"
        with session.lock():
            found = measure(lambda: Process(side, told), aim, session.clock, launches=launches, say=say, name=name, timing=timing)
        return found, budget
    finally:
        session.close()


def in_words(found: Found) -> list[str]:
    """The lines for people."""
    noise = found.noise
    drift = f"a side rises or falls by up to {show_share(noise.drift)} within a launch; pairs share it" if noise.drift else "none seen"
    lines = [
        f"noise of a pair: {show_share(noise.pair)} (standard deviation; {noise.pairs_seen} pairs in {noise.launches} launches)",
        f"launches differ by {show_share(noise.launch)} more" if noise.launch else "launches differ by no more than that explains",
        f"drift: {drift}",
        f"outliers: {show_share(noise.outliers)} of the sets" if noise.outliers else "outliers: none seen",
        f"modes: launches fall into groups {show_share(noise.modes)} apart" if noise.modes else "modes: none seen",
    ]
    if noise.tolerance is None:
        lines.append(f"No tolerance up to 50 % is supported in {found.most_s:.0f} s; --energy-max-seconds gives a comparison more.")
    else:
        twice = show_share(2 * noise.tolerance)
        lines.append(f"tolerance it supports: {show_share(noise.tolerance)} (95 times of 100 the same code passes, and {twice} more fails)")
    return [*lines, *_prices(found)]


def _prices(found: Found) -> list[str]:
    """What the verdicts take that this test asks for, a line each."""
    itself, price = found.itself, found.price
    at = f"at its tolerance of {show_share(price.rule.tolerance)}"
    dearer = f"+{100 * price.worse:.0f} %"
    if price.to_pass is None or price.to_fail is None:
        which = "unchanged code" if price.to_pass is None else dearer
        return [f"{at}, {which} is INCONCLUSIVE more often than not in {found.most_s:.0f} s"]
    again = price.to_fail.launches
    return [
        f"{at}, energy takes in the median:",
        f"  to PASS, unchanged: {itself.seconds(price.to_pass):.0f} s (loading {itself.loading_s:.0f} s, getting both sides ready"
        f" {itself.ready_s:.0f} s, {price.to_pass.pairs:.0f} pairs of {itself.pair_s:.1f} s)",
        f"  to a confirmed FAIL, {dearer}: {itself.seconds(price.to_fail):.0f} s (likewise, and {again} fresh launches of"
        f" {itself.loading_s + itself.ready_again_s:.0f} s each with {price.to_fail.again:.0f} pairs in all)",
    ]
