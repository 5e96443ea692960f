"""Made-up models whose levers' savings do not add up: what a search finds there, beside a grid over all of their settings."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Literal

import numpy as np

from pytest_greencompute.advising.levers import Configuration, Lever, LeverKind, Setting
from pytest_greencompute.advising.search import KNOWN, Heat, Searched, Trial, search
from pytest_greencompute.stats.distributions import paired_difference_interval
from pytest_greencompute.stats.looks import looks, share
from pytest_greencompute.stats.ratios import Ratio, pairs_ratio

VALUES = (4, 2, 2, 2, 1, 1)  # of each lever, beside today's: a grid of 540 points
QUERIES, SAMPLE = 512, 64
PASS_TURNS = 8.0  # what a pass over all queries takes, in turns; a sample takes its share
WARM_TURNS = 2.0  # what a configuration is warmed up for, however few the queries
TURNS = 40
ERROR = 0.005
FLOOR = -0.01  # of accuracy, beside today's
STAGES = 4
Surface = Literal["pairs", "stages"]


def lever(name: str, kind: LeverKind = "runtime") -> Lever:
    return Lever(name, kind, "nothing", f"{name}({{value}})")


class Landscape:
    """True energies and accuracies of all configurations, and turns with noise that are counted in seconds.

    A turn takes as long as its configuration costs energy; today's takes one second. ``surface``: the savings are multiplied, more or less
    so for each pair of settings; or the model has stages, each setting makes one of them cheaper, and what is left of the others stays. The
    first lever sets how many queries are asked together: all its values make the same stage cheaper.
    """

    def __init__(self, seed: int, noise: float, *, surface: Surface = "pairs", sampled: bool = True, together: float = 0.06) -> None:
        self.luck = np.random.default_rng([seed, round(noise * 1e4)])
        self.noise, self.seconds, self.sampled = noise, 0.0, sampled
        levers = [lever(f"lever_{number}", "runtime" if number else "batching") for number in range(len(VALUES))]
        self.settings = [Setting(each, value + 1) for each, count in zip(levers, VALUES, strict=True) for value in range(count)]
        names = [each.name for each in self.settings]
        self._alone = {name: float(self.luck.normal(-0.12, 0.25)) for name in names}
        self._together = {frozenset(pair): float(self.luck.normal(0.0, together)) for pair in itertools.combinations(names, 2)}
        lost = {name: float(self.luck.exponential(0.004)) * (self.luck.random() < 0.4) for name in names}
        self._wrong = {name: frozenset(np.flatnonzero(self.luck.random(QUERIES) < share).tolist()) for name, share in lost.items()}
        self._sample = frozenset(self.luck.permutation(QUERIES)[:SAMPLE].tolist())
        self._weights = self.luck.dirichlet(np.ones(STAGES))
        stages = {each.name: int(self.luck.integers(STAGES)) for each in self.settings}
        self._stage = stages | {each.name: stages[names[0]] for each in self.settings[: VALUES[0]]}
        self.log_energy = cache(self._pairs if surface == "pairs" else self._stages)

    def _pairs(self, configuration: Configuration) -> float:
        names = [each.name for each in configuration.settings]
        pairs = (self._together[frozenset(pair)] for pair in itertools.combinations(names, 2))
        return math.fsum(self._alone[name] for name in names) + math.fsum(pairs)

    def _stages(self, configuration: Configuration) -> float:
        left = self._weights.copy()
        for each in configuration.settings:
            left[self._stage[each.name]] *= math.exp(3 * self._alone[each.name])
        return math.log(left.sum())

    def wrong(self, configuration: Configuration) -> frozenset[int]:
        """The queries that it answers otherwise than today, and wrong."""
        return frozenset().union(*(self._wrong[each.name] for each in configuration.settings))

    def missed(self, configuration: Configuration) -> str:
        return "scores less than the floor" if -len(self.wrong(configuration)) / QUERIES < FLOOR else ""

    def _on_sample(self, configuration: Configuration) -> tuple[str, bool]:
        """Whether the sample is enough to tell that it misses the floor, and whether all of it is answered as well as today."""
        wrong = len(self.wrong(configuration) & self._sample)
        high = paired_difference_interval(0, wrong, SAMPLE, 0.9)[1]
        return ("scores less than the floor" if high < FLOOR else "", not wrong)

    def judge(self, configurations: Sequence[Configuration]) -> list[Trial]:
        """All of their answers, and nothing else."""
        self.seconds += PASS_TURNS * math.fsum(math.exp(self.log_energy(each)) for each in configurations[1:])
        return [Trial(each, missed=self.missed(each)) for each in configurations[1:]]

    def heat(
        self, configurations: Sequence[Configuration], over: Callable[[dict[str, Trial]], object], *, on_sample: bool = False
    ) -> list[Trial]:
        """Turns of all of them, until ``over`` names all or the turns have run out."""
        first, *others = configurations
        plan = looks(TURNS, first=3)
        changes: dict[str, list[float]] = {each.name: [] for each in others}
        running = {each.name: each for each in configurations}
        begun = WARM_TURNS + PASS_TURNS * (SAMPLE / QUERIES if on_sample else 1)
        self.seconds += begun * math.fsum(math.exp(self.log_energy(each)) for each in configurations)
        trials: dict[str, Trial] = {}
        for turn in range(1, TURNS + 1):
            base = self._turn(first)
            for each in others:
                if each.name in running:
                    changes[each.name].append(self._turn(each) - base)
            if turn in plan:
                trials = {each.name: self._trial(each, changes[each.name], len(plan), on_sample=on_sample) for each in others}
                running = {name: each for name, each in running.items() if name not in set(over(trials))}  # type: ignore[call-overload]
                if not running:
                    break
        return [trials[each.name] for each in others]

    def _trial(self, configuration: Configuration, changes: Sequence[float], planned: int, *, on_sample: bool) -> Trial:
        each = share(ERROR, planned)
        ratio: Ratio = pairs_ratio(changes, low_error=each, high_error=each)
        missed, as_good = self._on_sample(configuration) if on_sample else (self.missed(configuration), not self.wrong(configuration))
        return Trial(configuration, ratio, missed, as_good=as_good)

    def _turn(self, configuration: Configuration) -> float:
        log = self.log_energy(configuration)
        self.seconds += math.exp(log)
        return log + self.noise * float(self.luck.standard_normal())

    def searched(self) -> Searched:
        steps, told = search(self.settings, sampled=self.sampled), None
        while True:
            try:
                asked: Heat = steps.send(told) if told is not None else next(steps)
            except StopIteration as done:
                found: Searched = done.value
                return found
            judging, on_sample = asked.purpose == "judge", self.sampled and asked.on_sample
            told = self.judge(asked.configurations) if judging else self.heat(asked.configurations, asked.over, on_sample=on_sample)

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
