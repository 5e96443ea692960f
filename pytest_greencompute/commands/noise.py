"""``greencompute noise TEST``: the same code against itself on this machine, and what a comparison can therefore show."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, replace
from pathlib import Path

from pytest_greencompute.commands import Arguments
from pytest_greencompute.errors import NoMeterError, SettingsError
from pytest_greencompute.judging.noise import Noise, noise_of
from pytest_greencompute.pairing.against_itself import Itself, measure
from pytest_greencompute.report.escape import json_text
from pytest_greencompute.session.session import Session
from pytest_greencompute.session.tests import MeteredTest
from pytest_greencompute.settings.build import build
from pytest_greencompute.settings.finding import read_nearest
from pytest_greencompute.settings.settings import Settings
from pytest_greencompute.settings.sides import told_to_sides
from pytest_greencompute.values.units import show_share

DEFAULT_SECONDS = 60.0
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
    options = {name: given[name] for name in ("max_seconds", "meter") if given.get(name) is not None}
    settings = build({"budget": True, **options}, read_nearest(root, test), os.environ, root)
    itself = _measured(test, root, settings, launches, given.get("run"))
    confidence = settings.terms.confidence or settings.file_terms.confidence or 0.99
    found = noise_of(itself.launches, most_pairs=itself.most_pairs, confidence=confidence, rng=np.random.default_rng(0))
    if given.get("json"):
        print(json_text(asdict(found) | {"pair_s": itself.pair_s, "loading_s": itself.loading_s}, sys.stdout.encoding))
    else:
        print("\n".join(in_words(found, itself)))
    return 0 if found.tolerance is not None else 3


def _measured(test: str, root: Path, settings: Settings, launches: int, name: str | None) -> Itself:
    session = Session(replace(settings, base_refs=(), baseline=None), root, os.environ, waiting=_waiting)
    try:
        session.open()
        if session.problem:
            raise NoMeterError(session.problem)
        budget = session.budget(MeteredTest(test, test, settings.lines_for(test)))
        told = replace(told_to_sides(session.settings, budget, root, session.home), count=())  # what is counted has no noise to be known
        aim = session.bench().aim.at(budget.confidence)
        with session.lock():
            return measure(root, os.environ, test, told, aim, session.clock, launches=launches, name=name, say=_say)
    finally:
        session.close()


def _waiting(device: str) -> None:
    _say(f"waiting for another measured run on {device} to end")


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def in_words(noise: Noise, itself: Itself) -> list[str]:
    """The lines for people."""
    drift = f"a side rises or falls by up to {show_share(noise.drift)} within a launch; pairs share it" if noise.drift else "none seen"
    lines = [
        f"noise of a pair: {show_share(noise.pair)} (standard deviation; {noise.pairs_seen} pairs in {noise.launches} launches)",
        f"launches differ by {show_share(noise.launch)} more" if noise.launch else "launches differ by no more than that explains",
        f"drift: {drift}",
        f"outliers: {show_share(noise.outliers)} of the sets" if noise.outliers else "outliers: none seen",
        f"modes: launches fall into groups {show_share(noise.modes)} apart" if noise.modes else "modes: none seen",
    ]
    if noise.tolerance is None or noise.pairs is None:
        most = itself.most_pairs
        return [*lines, f"No tolerance up to 50 % is supported with {most} pairs in a launch; --energy-max-seconds gives it more."]
    seconds = noise.pairs * itself.pair_s
    twice = show_share(2 * noise.tolerance)
    return [
        *lines,
        f"tolerance it supports: {show_share(noise.tolerance)} (95 times of 100 the same code passes, and {twice} more fails)",
        f"a PASS takes {noise.pairs} pairs, about {seconds:.0f} s after {itself.loading_s:.0f} s of loading; a FAIL three more launches",
    ]
