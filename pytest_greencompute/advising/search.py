"""Which configurations to measure next, and when the best one is found: a generator that asks for heats and is told what they showed.

Laws: what is measured in a heat is dropped as soon as it cannot matter any more; savings do not add up, so that what is combined is
measured together; what a sample of the queries lets through is judged on all of them before it is built on; whatever is advised has been
measured once more, from scratch, beside today's configuration.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from pytest_greencompute.advising.levers import Configuration, LeverKind, Setting
from pytest_greencompute.stats.ratios import Ratio

LEAST = 0.02  # a smaller share of the energy is not looked for
KNOWN = 1.02  # what both sides of a ratio are within once more turns would change nothing that anybody reads
ROUGHLY = 1.06  # likewise of a lever that is only ranked among others
MAY_HELP = 1.2  # a lever that costs no more than that alone may still pay together with others
ADVISED = 3  # single settings that are named beside all of them together
MOST_HEATS = 9
WIDTH = 6  # settings that are tried beside the best so far, those first that save most alone
Purpose = Literal["screen", "combine", "judge", "confirm"]
TOGETHER: LeverKind = "batching"  # levers that set how many queries are asked together
SAMPLED: tuple[Purpose, ...] = ("screen", "combine")  # a sample of the queries does for these


@dataclass(frozen=True, slots=True)
class Trial:
    """What a heat showed of a configuration: how many times the energy of the heat's first it uses, None where there is no figure.

    ``missed`` says which demand it does not meet, ``problem`` why it could not be measured; both are empty where all is well.
    ``as_good``: none of the heat's queries is known to be answered worse than by today's configuration.
    """

    configuration: Configuration
    ratio: Ratio | None = None
    missed: str = ""
    problem: str = ""
    as_good: bool = False

    @property
    def usable(self) -> bool:
        """Whether it could be chosen."""
        return self.ratio is not None and not self.missed and not self.problem


@dataclass(frozen=True, slots=True)
class Heat:
    """Configurations to be measured from scratch and by turns, or to be judged by their answers alone. The first is what the others are
    held against. ``on_sample``: a sample of the queries will do.
    """

    purpose: Purpose
    configurations: tuple[Configuration, ...]

    @property
    def on_sample(self) -> bool:
        return self.purpose in SAMPLED

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
        return self.purpose == "combine" or _places(one.configuration) == _places(other.configuration)


def _known(ratio: Ratio, within: float) -> bool:
    return max(ratio.value / ratio.low, ratio.high / ratio.value) <= within


@dataclass(frozen=True, slots=True)
class Screened:
    """A setting added to ``base``, today's configuration or the best way to ask several queries together: its ``trial`` against that."""

    setting: Setting
    base: Configuration
    trial: Trial


@dataclass(frozen=True, slots=True)
class Searched:
    """What a search found: each setting as it was screened, and what fresh turns confirmed against today's, the best of it first."""

    screened: tuple[Screened, ...]
    confirmed: tuple[Trial, ...]
    heats: int

    @property
    def best(self) -> Trial | None:
        """What saves most; None where nothing is known to save."""
        return self.confirmed[0] if self.confirmed else None


Search = Generator[Heat, Sequence[Trial], Searched]


def search(settings: Sequence[Setting], most_heats: int = MOST_HEATS, *, sampled: bool = False) -> Search:
    """Ask for heats, be told a trial for each configuration but the heat's first, and return what was found.

    How many queries are asked together comes first, since all else takes less time at the best of that and pays otherwise there. Each other
    setting is then measured beside it. The best of them is joined by the next best, one more in each configuration, and the leanest of
    these by whatever makes it leaner still, values of other levers and other values of its own, until nothing does. In the end all of it
    together and its best parts are measured again, from scratch. ``sampled``: up to then a sample of the queries was asked, so that
    whatever answers some of it worse, and the best in the end, are judged on all queries.
    """
    if not settings:
        return Searched((), (), 0)
    return (yield from _Searching(most_heats, sampled).all_of(settings))


@dataclass
class _Searching:
    """A search on its way. ``lean`` is what each configuration uses that was measured, beside today's, ``good`` and ``bad`` are those that
    were judged on all queries.
    """

    most_heats: int
    sampled: bool
    today: Configuration = field(default_factory=Configuration)
    screened: list[Screened] = field(default_factory=list)
    lean: dict[Configuration, float] = field(default_factory=dict)
    good: set[frozenset[str]] = field(default_factory=set)
    bad: list[frozenset[str]] = field(default_factory=list)
    heats: int = 0

    def all_of(self, settings: Sequence[Setting]) -> Search:
        base = best = self.today
        for stage in ([each for each in settings if (each.lever.kind == TOGETHER) == first] for first in (True, False)):
            if stage:
                base = self._leanest()
                best = yield from self._screen(base, stage)
        joined = self._prefixes(base) or self._beside(best)
        while best.settings:
            if joined and self.heats < self.most_heats:
                best = yield from self._combined(best, joined)
            elif (yield from self._holds(best)):
                return self._found((yield self._heat("confirm", self.today, self._to_confirm(best))))
            else:
                if (less := self._with_less(best)) and self.heats < self.most_heats:
                    yield from self._combined(best, less)
                best = self._leanest()
            joined = self._beside(best)
        return (yield from self._in_vain())

    def _screen(self, base: Configuration, settings: Sequence[Setting]) -> Generator[Heat, Sequence[Trial], Configuration]:
        """Add each of the settings to ``base``: the leanest of all that was screened so far and may be good."""
        trials = yield self._heat("screen", base, [base.having(each) for each in settings])
        self.screened += [Screened(setting, base, trial) for setting, trial in zip(settings, trials, strict=True)]
        self._note(base, trials)
        while doubtful := [each.trial.configuration for each in self._firsts() if self._doubted(each.trial)]:
            yield from self._judge(doubtful)
        return self._leanest()

    def _note(self, base: Configuration, trials: Iterable[Trial]) -> None:
        """How much those that can be used take of today's energy."""
        self.lean |= {each.configuration: self.lean.get(base, 1.0) * _times(each) for each in trials if each.usable}

    def _leanest(self) -> Configuration:
        """Of all that was measured and may be good; today's where none of it saves."""
        saving = [each for each, lean in self.lean.items() if lean <= 1 - LEAST and self._may_be_good(each)]
        return min(saving, key=self.lean.__getitem__, default=self.today)

    def _in_vain(self) -> Search:
        """Nothing pays. Today's configuration has its figures on all queries, for which something must take turns with it."""
        if not self.sampled:
            return self._found(())
        nearest = min(self.screened, key=lambda each: (not each.trial.usable, _times(each.trial)))
        return self._found((yield self._heat("confirm", self.today, [nearest.trial.configuration])))

    def _found(self, confirmed: Sequence[Trial]) -> Searched:
        """What was asked for from scratch, and is certain to save."""
        saving = sorted((each for each in confirmed if each.usable and each.ratio is not None and each.ratio.high < 1), key=_times)
        return Searched(tuple(self.screened), tuple(saving), self.heats)

    def _heat(self, purpose: Purpose, first: Configuration, others: Sequence[Configuration]) -> Heat:
        self.heats += purpose != "judge"
        return Heat(purpose, (first, *others))

    def _saving(self) -> list[Screened]:
        """The settings that save, those first that save most."""
        saving = (each for each in self.screened if each.trial.usable and _times(each.trial) <= 1 - LEAST)
        return sorted(saving, key=lambda each: _times(each.trial))

    def _firsts(self) -> list[Screened]:
        """Of each lever what saves most."""
        return [*{each.setting.lever.place: each for each in reversed(self._saving())}.values()][::-1]

    def _prefixes(self, base: Configuration) -> tuple[Configuration, ...]:
        """``base`` with the first two of the settings that save most beside it, with the next, and so on; of each lever the first."""
        parts = [each.setting for each in self._firsts() if each.base == base and each.setting.lever.place not in _places(base)]
        return tuple(Configuration((*base.settings, *parts[:count])) for count in range(2, len(parts) + 1))

    def _doubted(self, trial: Trial) -> bool:
        """Whether what it does to the accuracy must be seen on all queries before anything is built on it."""
        return self.sampled and not trial.as_good and trial.configuration.key not in self.good

    def _may_be_good(self, configuration: Configuration) -> bool:
        """Whether it holds nothing that is known to miss a demand."""
        return not any(each <= configuration.key for each in self.bad)

    def _judge(self, configurations: Sequence[Configuration]) -> Generator[Heat, Sequence[Trial], None]:
        """See what they answer to all queries."""
        trials = yield self._heat("judge", self.today, configurations)
        missed = {each.configuration: each for each in trials if each.missed or each.problem}
        self.good |= {each.key for each in configurations if each not in missed}
        self.bad += [each.key for each in missed]
        self.screened = [replace(each, trial=missed.get(each.trial.configuration, each.trial)) for each in self.screened]

    def _holds(self, configuration: Configuration) -> Generator[Heat, Sequence[Trial], bool]:
        """Whether it meets what is asked on all queries; where it does not, its parts are judged, too."""
        if not self._may_be_good(configuration):
            return False
        if self.sampled and configuration.key not in self.good:
            yield from self._judge([configuration])
        if self._may_be_good(configuration):
            return True
        parts = [Configuration((each,)) for each in configuration.settings]
        if unknown := [each for each in parts if each.key not in self.good and self._may_be_good(each)]:
            yield from self._judge(unknown)
        return False

    def _combined(self, best: Configuration, joined: Sequence[Configuration]) -> Generator[Heat, Sequence[Trial], Configuration]:
        """The leanest of these that meets what is asked; ``best``, which they are measured beside, where none is leaner."""
        trials = yield self._heat("combine", best, joined)
        self.lean |= {each: float("inf") for each in joined}
        self._note(best, trials)
        for each in sorted((each for each in trials if each.usable and _times(each) <= 1 - LEAST), key=_times):
            if not self._doubted(each) or (yield from self._holds(each.configuration)):
                return each.configuration
        return best

    def _beside(self, best: Configuration) -> tuple[Configuration, ...]:
        """One more setting beside the best, or in the place of one: those first that use least of what they were screened beside, and of
        the ways to ask several queries together, of the best of these.
        """
        base = self.lean.get(self.screened[-1].base, 1.0)
        times = {each.setting: self.lean[each.trial.configuration] / base for each in self.screened if each.trial.usable}
        may_help = sorted((each for each in times if times[each] <= MAY_HELP), key=times.__getitem__)
        return self._unseen(map(best.having, may_help))

    def _with_less(self, bad: Configuration) -> tuple[Configuration, ...]:
        """All but one of what misses a demand together."""
        return self._unseen(bad.without(each.lever) for each in bad.settings if len(bad.settings) > 1)

    def _unseen(self, configurations: Iterable[Configuration]) -> tuple[Configuration, ...]:
        """Those that no heat had yet and that may be good, the first of them."""
        seen = {each.key for each in self.lean}
        return tuple(each for each in configurations if each.key not in seen and self._may_be_good(each))[:WIDTH]

    def _to_confirm(self, best: Configuration) -> tuple[Configuration, ...]:
        """All of it together, and those of its parts that save most, alone."""
        parts = [Configuration((each.setting,)) for each in self._saving() if each.setting in best.settings]
        return (best, *(each for each in parts[:ADVISED] if each != best))


def _times(trial: Trial) -> float:
    return float("inf") if trial.ratio is None else trial.ratio.value


def _places(configuration: Configuration) -> set[str]:
    return {each.lever.place for each in configuration.settings}
