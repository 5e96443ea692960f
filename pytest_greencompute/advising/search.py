"""Which configurations to measure next, and when the best one is found: a generator that asks for heats and is told what they showed.

Laws: what is measured in a heat is dropped as soon as it cannot matter any more; savings do not add up, so that what is combined is
measured together; whatever is advised has been measured once more, from scratch, beside today's configuration.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pytest_greencompute.advising.levers import Configuration, Setting
from pytest_greencompute.stats.ratios import Ratio

LEAST = 0.02  # a smaller share of the energy is not looked for
KNOWN = 1.02  # what both sides of a ratio are within once more turns would change nothing that anybody reads
ROUGHLY = 1.06  # likewise of a lever that is only ranked among others
MAY_HELP = 1.2  # a lever that costs no more than that alone may still pay together with others
ADVISED = 3  # single settings that are named beside all of them together
MOST_HEATS = 8
WIDTH = 6  # settings that are tried beside the best so far, those first that save most alone
Purpose = Literal["screen", "combine", "confirm"]


@dataclass(frozen=True, slots=True)
class Trial:
    """What a heat showed of a configuration: how many times the energy of the heat's first it uses, None where there is no figure.

    ``missed`` says which demand it does not meet, ``problem`` why it could not be measured; both are empty where all is well.
    """

    configuration: Configuration
    ratio: Ratio | None = None
    missed: str = ""
    problem: str = ""

    @property
    def usable(self) -> bool:
        """Whether it could be chosen."""
        return self.ratio is not None and not self.missed and not self.problem


@dataclass(frozen=True, slots=True)
class Heat:
    """Configurations to be measured from scratch and by turns. The first is what the others are held against."""

    purpose: Purpose
    configurations: tuple[Configuration, ...]

    def over(self, trials: Mapping[str, Trial]) -> Collection[str]:
        """The names of those that need no more turns, given what is known so far of those but the first; its own when nobody needs it."""
        named = {each.name: each for each in self.configurations[1:]}
        done = {name for name in named if name in trials and self._is_over(trials[name], trials)}
        return {*done, self.configurations[0].name} if done == set(named) else done

    def _is_over(self, trial: Trial, trials: Mapping[str, Trial]) -> bool:
        ratio = trial.ratio
        if trial.missed or trial.problem:
            return True
        if ratio is None or ratio.low <= 0:
            return False
        if self.purpose == "confirm":
            return _known(ratio, KNOWN)
        rivals = (each for each in trials.values() if each is not trial and each.usable and self._excludes(each, trial))
        beaten = any(each.ratio is not None and each.ratio.high < ratio.low for each in rivals)
        return ratio.low > (MAY_HELP if self.purpose == "screen" else 1 - LEAST) or beaten or _known(ratio, ROUGHLY)

    def _excludes(self, one: Trial, other: Trial) -> bool:
        """Whether only the better of the two is of use: of two values of a lever; of all that are to be added to one configuration."""
        mine, theirs = ({each.lever.name for each in trial.configuration.settings} for trial in (one, other))
        return self.purpose == "combine" or mine == theirs


def _known(ratio: Ratio, within: float) -> bool:
    return max(ratio.value / ratio.low, ratio.high / ratio.value) <= within


@dataclass(frozen=True, slots=True)
class Searched:
    """What a search found: each setting alone against today's configuration, and what fresh turns confirmed, the best of it first."""

    alone: tuple[Trial, ...]
    confirmed: tuple[Trial, ...]
    heats: int

    @property
    def best(self) -> Trial | None:
        """What saves most; None where nothing is known to save."""
        return self.confirmed[0] if self.confirmed else None


Search = Generator[Heat, Sequence[Trial], Searched]


def search(settings: Sequence[Setting], most_heats: int = MOST_HEATS) -> Search:
    """Ask for heats, be told a trial for each configuration but the heat's first, and return what was found.

    Each setting is measured alone. The best of them is then joined by the next best, one more in each configuration, and the leanest of
    these by whatever makes it leaner still, values of other levers and other values of its own, until nothing does. In the end all of it
    together and its best parts are measured again, from scratch.
    """
    today = Configuration()
    if not settings:
        return Searched((), (), 0)
    alone = yield Heat("screen", (today, *(Configuration((each,)) for each in settings)))
    ranked = sorted((each for each in alone if each.usable and _times(each) <= MAY_HELP), key=_times)
    if not ranked or _times(ranked[0]) > 1 - LEAST:
        return Searched(tuple(alone), (), 1)
    parts = [each.configuration.settings[0] for each in ranked]
    best, heats, seen = Configuration((parts[0],)), 1, {each.configuration.key for each in alone}
    joined = _prefixes([part for part, each in zip(parts, ranked, strict=True) if _times(each) < 1 - LEAST]) or _beside(best, parts, seen)
    while joined and heats < most_heats:
        trials = yield Heat("combine", (best, *joined))
        heats += 1
        seen |= {each.key for each in joined}
        best = min((each for each in trials if each.usable and _times(each) <= 1 - LEAST), key=_times, default=Trial(best)).configuration
        joined = _beside(best, parts, seen)
    confirmed = yield Heat("confirm", (today, *_to_confirm(best, ranked)))
    saving = sorted((each for each in confirmed if each.usable and each.ratio is not None and each.ratio.high < 1), key=_times)
    return Searched(tuple(alone), tuple(saving), heats + 1)


def _times(trial: Trial) -> float:
    return float("inf") if trial.ratio is None else trial.ratio.value


def _prefixes(parts: Sequence[Setting]) -> tuple[Configuration, ...]:
    """The first of these settings with the next, with the next two, and so on; of each lever the first."""
    best = list({each.lever.name: each for each in reversed(parts)}.values())[::-1]
    return tuple(Configuration(tuple(best[:count])) for count in range(2, len(best) + 1))


def _beside(best: Configuration, parts: Sequence[Setting], seen: Collection[frozenset[str]]) -> tuple[Configuration, ...]:
    """One more setting beside the best, or in the place of one: those that no heat had yet."""
    return tuple(each for each in map(best.having, parts) if each.key not in seen)[:WIDTH]


def _to_confirm(best: Configuration, ranked: Sequence[Trial]) -> tuple[Configuration, ...]:
    """All of it together, and those of its parts that save most alone."""
    parts = [each.configuration for each in ranked if each.configuration.settings[0] in best.settings and _times(each) < 1 - LEAST]
    return (best, *(each for each in parts[:ADVISED] if each != best))
