"""Made-up models whose levers' savings do not add up: what a search finds there, beside a grid over all of their settings."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

from pytest_greencompute.advising.levers import Configuration, Lever, Setting
from pytest_greencompute.advising.search import KNOWN, Heat, Searched, Trial, search
from pytest_greencompute.stats.looks import looks, share
from pytest_greencompute.stats.ratios import Ratio, pairs_ratio

VALUES = (4, 2, 2, 2, 1, 1)  # of each lever, beside today's: a grid of 540 points
SETUP_TURNS = 10.0  # what a configuration costs before its first turn: it is loaded, run once and warmed up
TURNS = 40
ERROR = 0.005
FLOOR = -0.01  # of accuracy, beside today's


def lever(name: str) -> Lever:
    return Lever(name, "runtime", "nothing", f"{name}({{value}})")


class Landscape:
    """True energies and accuracies of all configurations, and turns with noise that are counted in seconds.

    A turn takes as long as its configuration costs energy; today's takes one second.
    """

    def __init__(self, seed: int, noise: float, *, together: float = 0.06) -> None:
        self.luck = np.random.default_rng([seed, round(noise * 1e4)])
        self.noise, self.seconds = noise, 0.0
        levers = [lever(f"lever_{number}") for number in range(len(VALUES))]
        self.settings = [Setting(each, value + 1) for each, count in zip(levers, VALUES, strict=True) for value in range(count)]
        self._alone = {each.name: float(self.luck.normal(-0.12, 0.25)) for each in self.settings}
        pairs = itertools.combinations(self._alone, 2)
        self._together = {frozenset(pair): float(self.luck.normal(0.0, together)) for pair in pairs}
        self.lost = {name: float(self.luck.exponential(0.004)) * (self.luck.random() < 0.4) for name in self._alone}

    def log_energy(self, configuration: Configuration) -> float:
        names = [each.name for each in configuration.settings]
        pairs = (self._together[frozenset(pair)] for pair in itertools.combinations(names, 2))
        return math.fsum(self._alone[name] for name in names) + math.fsum(pairs)

    def missed(self, configuration: Configuration) -> str:
        lost = math.fsum(self.lost[each.name] for each in configuration.settings)
        return "scores less than the floor" if -lost < FLOOR else ""

    def heat(self, configurations: Sequence[Configuration], over: Callable[[dict[str, Trial]], object]) -> list[Trial]:
        """Turns of all of them, until ``over`` names all or the turns have run out."""
        first, *others = configurations
        plan = looks(TURNS, first=3)
        changes: dict[str, list[float]] = {each.name: [] for each in others}
        running = {each.name: each for each in configurations}
        self.seconds += sum(SETUP_TURNS * math.exp(self.log_energy(each)) for each in configurations)
        trials: dict[str, Trial] = {}
        for turn in range(1, TURNS + 1):
            base = self._turn(first)
            for each in others:
                if each.name in running:
                    changes[each.name].append(self._turn(each) - base)
            if turn in plan:
                trials = {each.name: self._trial(each, changes[each.name], len(plan)) for each in others}
                running = {name: each for name, each in running.items() if name not in set(over(trials))}  # type: ignore[call-overload]
                if not running:
                    break
        return [trials[each.name] for each in others]

    def _trial(self, configuration: Configuration, changes: Sequence[float], planned: int) -> Trial:
        each = share(ERROR, planned)
        ratio: Ratio = pairs_ratio(changes, low_error=each, high_error=each)
        return Trial(configuration, ratio, self.missed(configuration))

    def _turn(self, configuration: Configuration) -> float:
        log = self.log_energy(configuration)
        self.seconds += math.exp(log)
        return log + self.noise * float(self.luck.standard_normal())

    def searched(self) -> Searched:
        steps, told = search(self.settings), None
        while True:
            try:
                asked: Heat = steps.send(told) if told is not None else next(steps)
            except StopIteration as done:
                found: Searched = done.value
                return found
            told = self.heat(asked.configurations, asked.over)

    def grid(self) -> list[Configuration]:
        by_lever: dict[str, list[Setting | None]] = {}
        for each in self.settings:
            by_lever.setdefault(each.lever.name, [None]).append(each)
        return [Configuration(tuple(each for each in point if each)) for point in itertools.product(*by_lever.values())]

    def best_saving(self) -> float:
        """The share of today's energy that the leanest of all points saves which meets the floor."""
        return 1 - min(math.exp(self.log_energy(each)) for each in self.grid() if not self.missed(each))

    def saving(self, configuration: Configuration) -> float:
        return 1 - math.exp(self.log_energy(configuration))

    def grid_seconds(self) -> float:
        """What measuring all points by turns with today's takes, each until its ratio is known to two per cent."""
        before, self.seconds = self.seconds, 0.0
        self.heat(self.grid(), lambda trials: {name for name, each in trials.items() if each.ratio and _known(each.ratio)})
        found, self.seconds = self.seconds, before
        return found


def _known(ratio: Ratio) -> bool:
    return ratio.low > 0 and max(ratio.value / ratio.low, ratio.high / ratio.value) <= KNOWN
