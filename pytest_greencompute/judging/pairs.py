"""Base against head, measured for the comparison: side by side in pairs, or in several launches each.

Laws: the ratio is judged on the log scale and by its whole interval; what is within one launch of each is called that; a FAIL
stands only when fresh launches of both agree with it, because two launches of the same code may differ by more than any tolerance;
looking often buys no false alarm (``sequential``); what was not measured is UNMEASURED, never PASS.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.estimates.estimate import Estimate
from pytest_greencompute.judging.by_other_run import ENOUGH_RUNS, beside_limit, change, few_launches, sees, word_for_ratio
from pytest_greencompute.judging.rule import Rule, count_of, rule_of
from pytest_greencompute.judging.verdict import Verdict, Word
from pytest_greencompute.stats.distributions import student_t_quantile
from pytest_greencompute.stats.looks import EARLIEST, MIN_SAMPLES, early_and, lead, looks, shares
from pytest_greencompute.stats.ratios import LaunchLevel, Ratio, launches_ratio, pairs_ratio, without_spread
from pytest_greencompute.values.metrics import Better
from pytest_greencompute.values.units import RATIO

MAX_PAIRS = 64
LOOKS_GROW = 1.3
# Where launches fall into two modes, half in each, n launches a side agree on a difference that is not there once in 4**n: 0.4 %.
LAUNCHES_FOR_FAIL = 4
# A fresh launch is asked whether it shows the same, after the first has shown it at full confidence. It counts pairs, since a count
# decides within few pairs and no outlier moves it: the first four all on one side (a fair coin does that once in 16), or a lead later
# that a fair coin would have had by then in so many cases. All together err in 13 % of cases within 20 pairs, in 19 % within 60: that
# leaves code at the tolerance whose launches fall into two modes a FAIL in less than one of a hundred cases.
UNANIMOUS = 4
LEAD_ERROR = 0.07
# Two or three pairs are enough where they are so far beyond the limit, by the noise of all pairs so far, that one would be wrong in so
# many cases each time.
FAR_FROM, FAR_ERROR = 2, 0.005
Asks = Literal["pair", "relaunch", "nothing"]


def _numbers(what: str, samples: Sequence[float]) -> list[float]:
    try:
        values = [float(sample) for sample in samples]
    except (TypeError, ValueError) as error:
        raise SettingsError(f"A sample of {what} is not a number: {error}.", remedy="Pass a flat list of numbers.") from error
    if not all(map(math.isfinite, values)):
        raise SettingsError(
            f"A sample of {what} is not a finite number.", remedy="Leave out what was not measured, in base and head alike."
        )
    return values


def _unmeasured(metric: str, reason: str, rule: Rule, pairs: int | None = None) -> Verdict:
    return Verdict("UNMEASURED", metric, "base_ref", reason, limit=1 + rule.tolerance, pairs=pairs)


def _verdict(word: Word, metric: str, reason: str, ratio: Ratio, n: int, limit: float, rule: Rule, *, pairs: int | None = None) -> Verdict:
    """A verdict whose figure is the ratio: how many times worse, without a unit."""
    low, high = ratio.low or None, ratio.high if math.isfinite(ratio.high) else None
    figure = Estimate(ratio.value, low, high, RATIO, n, rule.confidence)
    finite = limit if math.isfinite(limit) else None  # a floor that no change can exceed
    return Verdict(word, metric, "base_ref", reason, figure, finite, sees(ratio, limit), pairs=pairs, ratio=ratio)


def judge_pairs(
    base: Sequence[float],
    head: Sequence[float],
    *,
    tolerance: float = 0.05,
    confidence: float = 0.99,
    better: Better = "lower",
    floor: float = 0.0,
    budgets: int = 1,
) -> Verdict:
    """Whether head got worse: ``base[i]`` and ``head[i]`` were measured side by side, in any one unit, all positive.

    ``estimate`` is how many times worse head is (1.10: 10 % worse), by ``ratios.pairs_ratio``; ``limit`` is the largest that is fine. The
    number of pairs must have been decided beforehand; ``judge_pairs_sequentially`` decides as they come. No pairs, or a sample that
    is zero or negative, is UNMEASURED; one pair is INCONCLUSIVE. Raises SettingsError for lists of different lengths, for what is
    not a finite number, and for settings that make no sense (``Rule``).
    """
    rule = rule_of(tolerance, confidence, better, floor, budgets)
    bases, heads = _numbers("base", base), _numbers("head", head)
    if len(bases) != len(heads):
        what = f"base has {len(bases)} samples and head {len(heads)}"
        raise SettingsError(f"{what}: they are no pairs.", remedy="Use judge_runs for samples that were not measured side by side.")
    n = len(bases)
    if not bases:
        return _unmeasured("pairs", "There are no pairs to judge.", rule, 0)
    if min(*bases, *heads) <= 0:
        return _unmeasured("pairs", "A sample is not above zero, so it has no ratio.", rule, n)
    changes = [rule.change(before, now) for before, now in zip(bases, heads, strict=True)]
    ratio = pairs_ratio(changes, low_error=rule.fail_error, high_error=rule.pass_error)
    limit = rule.limit(statistics.median(bases))
    word = word_for_ratio(ratio, limit)
    reason = f"{change(ratio)} over {_pairs(n)}, {beside_limit(word, tolerance, limit)}{_too_few(n)}."
    return _verdict(word, "pairs", reason, ratio, n, limit, rule, pairs=n)


def _pairs(n: int) -> str:
    return f"{n} pair{'' if n == 1 else 's'}"


def _too_few(n: int) -> str:
    return ": one pair has no interval" if n == 1 else ""


def judge_runs(
    base_runs: Sequence[Sequence[float]],
    head_runs: Sequence[Sequence[float]],
    *,
    tolerance: float = 0.05,
    confidence: float = 0.99,
    better: Better = "lower",
    floor: float = 0.0,
    budgets: int = 1,
) -> Verdict:
    """Whether head got worse: a list of positive samples for each launch of base and of head, measured at any time.

    The launches' spread enters the interval (``ratios.launches_ratio``), so more samples of one launch help little and more launches
    help much. ``estimate`` is how many times worse head is. No launch on a side, an empty launch, or a sample that is zero or
    negative is UNMEASURED. A launch of one sample does not show its own noise: INCONCLUSIVE, unless its side has three launches.
    Raises SettingsError for what is not a finite number and for settings that make no sense (``Rule``).
    """
    rule = rule_of(tolerance, confidence, better, floor, budgets)
    bases, heads = ([_numbers(what, run) for run in _listed(what, runs)] for what, runs in (("base", base_runs), ("head", head_runs)))
    if not bases or not heads or not all([*bases, *heads]):
        return _unmeasured("runs", "There is no launch of one side, or nothing was measured in one.", rule)
    if min(min(run) for run in (*bases, *heads)) <= 0:
        return _unmeasured("runs", "A sample is not above zero, so it has no ratio.", rule)
    sides = [_level(run) for run in bases], [_level(run) for run in heads]
    worse, by = sides if better == "lower" else sides[::-1]
    ratio = launches_ratio(worse, by, low_error=rule.fail_error, high_error=rule.pass_error)
    lone = any(len(side) < ENOUGH_RUNS and any(len(run) == 1 for run in side) for side in (bases, heads))
    if lone:
        ratio = without_spread(ratio.value)
    limit = rule.limit(math.exp(statistics.fmean(level.log for level in sides[0])))
    word = word_for_ratio(ratio, limit)
    unsure = ": one sample of a launch does not show its noise" if lone else ""
    reason = f"{change(ratio)} over {len(bases)} and {len(heads)} launches, {beside_limit(word, tolerance, limit)}{unsure}."
    assumed = few_launches(len(bases), len(heads))
    reason += f" With so few, {assumed}." if assumed else ""
    n = len(bases) + len(heads)
    return _verdict(word, "runs", reason, ratio, n, limit, rule)


def _listed(what: str, runs: Sequence[Sequence[float]]) -> list[Sequence[float]]:
    try:
        listed = list(runs)
        for run in listed:
            iter(run)
    except TypeError as error:
        remedy = "Pass a list of lists: the samples of each launch."
        raise SettingsError(f"The launches of {what} are not lists: {error}.", remedy=remedy) from error
    return listed


def _level(run: Sequence[float]) -> LaunchLevel:
    logs = [math.log(sample) for sample in run]
    return LaunchLevel(statistics.fmean(logs), statistics.stdev(logs) / math.sqrt(len(logs)) if len(logs) > 1 else 0.0)


@dataclass(frozen=True, slots=True)
class FirstLaunch:
    """What the pairs of the first launch of both said, and the largest ratio that was fine."""

    word: Word
    ratio: Ratio
    pairs: int
    limit: float


@dataclass(slots=True)
class FreshLaunch:
    """A fresh launch, asked whether its pairs lie on the same side of the limit too. It takes at most ``longest`` pairs.

    ``beyond`` is how far each of its ``pairs`` was on that side, ``first`` the earliest of the first launch (logarithms of ratios). When
    that decided plays no part, so that a head that is worse in every pair, which makes it decide sooner, is never judged better here.
    """

    longest: int
    first: Sequence[float] = ()
    beyond: list[float] = field(default_factory=list)
    pairs: list[tuple[float, float]] = field(default_factory=list)

    @property
    def same(self) -> int:
        """How many pairs lie on the same side."""
        return sum(each > 0 for each in self.beyond)

    @property
    def other(self) -> int:
        """How many do not."""
        return len(self.beyond) - self.same

    @property
    def agrees(self) -> bool | None:
        """True or False once that is clear; None before. It is not clear either (False) where no lead can come any more."""
        ahead, seen = self.same - self.other, self.same + self.other
        if abs(ahead) >= lead(seen, LEAD_ERROR) or (abs(ahead) == seen and (seen == UNANIMOUS or self._is_far)):
            return ahead > 0
        reachable = (seen < UNANIMOUS and not self.other) or ahead + self.longest - seen >= lead(self.longest, LEAD_ERROR)
        return None if reachable else False

    @property
    def _is_far(self) -> bool:
        """Whether the pairs are few and clearly on one side: by Student's t, from the noise within this launch and the first."""
        n = len(self.beyond)
        if not FAR_FROM <= n < UNANIMOUS or len(self.first) < FAR_FROM:
            return False
        squares = sum((each - statistics.fmean(launch)) ** 2 for launch in (self.beyond, self.first) for each in launch)
        degrees = n + len(self.first) - 2
        far = student_t_quantile(1 - FAR_ERROR, degrees) * math.sqrt(squares / degrees / n)
        return abs(statistics.fmean(self.beyond)) > far


@dataclass(slots=True)
class PairedTest:
    """A comparison that is told pairs as they are measured and says what it needs next. It measures nothing and knows no clock.

    ``asks`` is "pair" (``tell`` it one), "relaunch" (start both afresh and call ``relaunched``) or "nothing" (``verdict`` is final).
    The first launch must decide at the rule's confidence, at one of the looks planned for it. A PASS then needs ``launches`` launches
    of both, a FAIL ``for_fail`` (if more), each of which must show the same by its own pairs; else it is INCONCLUSIVE. Never more than
    ``max_pairs`` pairs in all, and never more than ``first`` of them (if given) in the first launch.

    Several tests may be fed from the same pairs (one for each metric): what a test is told while it does not ask for a pair it
    leaves out, so relaunch when none asks for a pair any more. When time is up, call ``stop``; a relaunch that is asked for and does
    not come leaves it INCONCLUSIVE.
    """

    rule: Rule = field(default_factory=Rule)
    max_pairs: int = MAX_PAIRS
    launches: int = 1
    for_fail: int = LAUNCHES_FOR_FAIL
    first: int | None = None
    asks: Asks = field(default="pair", init=False)
    pairs: int = field(default=0, init=False)
    _changes: list[float] = field(default_factory=list, init=False)
    _bases: list[float] = field(default_factory=list, init=False)
    _plan: tuple[int, ...] = field(default=(), init=False)
    _first: FirstLaunch | None = field(default=None, init=False)
    _again: list[FreshLaunch] = field(default_factory=list, init=False)
    _problem: str = field(default="", init=False)

    def __post_init__(self) -> None:
        for name in ("max_pairs", "launches", "for_fail"):
            setattr(self, name, count_of(name, getattr(self, name)))
        kept = UNANIMOUS * (self.launches - 1)
        if kept >= self.max_pairs:
            raise SettingsError(f"max_pairs is {self.max_pairs}.", remedy=f"{self.launches} launches need at least {kept + 1}.")
        longest = self.max_pairs - kept
        if self.first is not None:
            self.first = count_of("first", self.first)
            longest = min(longest, self.first)
        self._plan = early_and(looks(longest, first=MIN_SAMPLES, growth=LOOKS_GROW))

    def tell(self, base: float, head: float) -> Asks:
        """One more pair, measured side by side, in any one unit. Returns ``asks``.

        A sample that is zero or negative ends the test: UNMEASURED. Raises SettingsError for what is not a finite number.
        """
        (before,), (now,) = _numbers("base", [base]), _numbers("head", [head])
        if self.asks != "pair":
            return self.asks
        self.pairs += 1
        if min(before, now) <= 0:
            self._problem, self.asks = "A sample is not above zero, so it has no ratio.", "nothing"
        elif self._first is None:
            self._changes.append(self.rule.change(before, now))
            self._bases.append(before)
            if self.pairs in self._plan:
                self._look(last=self.pairs == self._plan[-1])
        else:
            self._again[-1].pairs.append((before, now))
            self._count_pair(self._first, self.rule.change(before, now))
        return self.asks

    def relaunched(self) -> None:
        """Both were started afresh, as it asked; a test that asks for nothing any more takes no notice."""
        if self.asks == "pair":
            raise SettingsError("A relaunch in the middle of a launch.", remedy="Tell it pairs until asks is not 'pair' any more.")
        if self.asks == "relaunch":
            self.asks = "pair"
            self._again.append(FreshLaunch(self._pairs_for_next(), tuple(self._changes[:EARLIEST])))

    def stop(self) -> None:
        """No more pairs of this launch will come: judge it by those that did. Where a FAIL is to be seen again it asks for a relaunch.

        The looks that were planned and not taken leave this one its part of the error.
        """
        if self.asks == "pair":
            self.asks = "nothing"
            if self._first is None and self._changes:
                self._look(last=True)

    @property
    def measured(self) -> tuple[tuple[float, float], ...]:
        """The pairs (base, head) of the first launch, in the order in which they were measured."""
        sign = 1 if self.rule.better == "lower" else -1
        return tuple((base, base * math.exp(sign * worse)) for base, worse in zip(self._bases, self._changes, strict=True))

    @property
    def again(self) -> tuple[tuple[tuple[float, float], ...], ...]:
        """The pairs of each fresh launch, likewise."""
        return tuple(tuple(each.pairs) for each in self._again)

    @property
    def verdict(self) -> Verdict:
        """The verdict as it stands: final when ``asks`` is "nothing", before that INCONCLUSIVE (UNMEASURED without a pair)."""
        if self._problem or not self._changes:
            return _unmeasured("pairs", self._problem or "There are no pairs to judge.", self.rule, self.pairs)
        shown = self._first or self._seen()
        word = shown.word if self._first and self._settled(self._first) else "INCONCLUSIVE"
        where = beside_limit(shown.word, self.rule.tolerance, shown.limit)
        reason = f"{change(shown.ratio)} over {_pairs(shown.pairs)}, {where}{self._remark(shown)}."
        return _verdict(word, "pairs", reason, shown.ratio, shown.pairs, shown.limit, self.rule, pairs=self.pairs)

    def _look(self, *, last: bool) -> None:
        seen = self._seen()
        if seen.word != "INCONCLUSIVE" or last:
            self._first = seen
            self.asks = "nothing" if seen.word == "INCONCLUSIVE" else self._after_launch(seen)

    def _seen(self) -> FirstLaunch:
        """What the pairs of the first launch say so far, at the confidence of one of its looks."""
        # Fresh launches confirm a FAIL, each wrong in at most 16 % of cases for a ratio right at the tolerance: three of them divide the
        # error of all looks together by 240, so that looking often is paid for many times over.
        low = self.rule.fail_error * (1.0 if self.for_fail >= LAUNCHES_FOR_FAIL else self._look_share)
        high = self.rule.pass_error * self._look_share
        ratio = pairs_ratio(self._changes, low_error=low, high_error=high)
        limit = self.rule.limit(statistics.median(self._bases))
        return FirstLaunch(word_for_ratio(ratio, limit), ratio, len(self._changes), limit)

    @property
    def _look_share(self) -> float:
        """The part of an error that the coming or present look may use; a launch that ends between two looks uses that of the next."""
        now = len(self._changes)
        return next(share for count, share in zip(self._plan, shares(self._plan, 1.0), strict=True) if count >= now)

    def _count_pair(self, first: FirstLaunch, worse: float) -> None:
        again, worse = self._again[-1], worse - math.log(first.limit)
        again.beyond.append(worse if first.word == "FAIL" else -worse)
        if again.agrees is not None:
            self.asks = self._after_launch(first) if again.agrees else "nothing"

    def _after_launch(self, first: FirstLaunch) -> Asks:
        return "nothing" if self._launches_left(first) == 0 or self._pairs_for_next() < UNANIMOUS else "relaunch"

    def _launches_left(self, first: FirstLaunch) -> int:
        """How many more launches must show the same."""
        needed = self.launches if first.word == "PASS" else max(self.launches, self.for_fail)
        return needed - 1 - len(self._again)

    def _pairs_for_next(self) -> int:
        """The next launch's part of the pairs that are left (called only where a launch is to come)."""
        left = self._launches_left(self._first) if self._first else 0
        return (self.max_pairs - self.pairs) // max(1, left)

    def _settled(self, first: FirstLaunch) -> bool:
        return self._launches_left(first) == 0 and all(again.agrees for again in self._again)

    def _remark(self, first: FirstLaunch) -> str:
        """What the other launches said, and within what the figure holds."""
        if first.word == "INCONCLUSIVE" or (self._settled(first) and not self._again):
            return _too_few(first.pairs) or ", within one launch of each"
        if self._settled(first):
            return f", and the same in {len(self._again)} fresh launches of both ({_pairs(self.pairs)} in all)"
        odd = [f"{each.same} of {_pairs(each.same + each.other)}" for each in self._again if each.agrees is False]
        if odd:
            return f" in the first launch of each, but by only {odd[0]} in launch {len(self._again) + 1}"
        agreed = 1 + sum(1 for again in self._again if again.agrees)
        needed = 1 + len(self._again) + self._launches_left(first)
        return f" in {agreed} of the {needed} launches of each that must show it, when the pairs or the time ran out"


def judge_pairs_sequentially(
    next_pair: Callable[[], tuple[float, float]],
    *,
    tolerance: float = 0.05,
    confidence: float = 0.99,
    max_pairs: int = MAX_PAIRS,
    relaunch: Callable[[], object] | None = None,
    better: Better = "lower",
    floor: float = 0.0,
    budgets: int = 1,
    launches: int = 1,
) -> Verdict:
    """Measure pairs until the verdict is certain, at most ``max_pairs``: ``next_pair()`` gives (base, head), side by side.

    ``relaunch()`` starts both afresh. A FAIL is reported only when four launches of each say so, one after the other (up to three
    calls), else it is INCONCLUSIVE; without ``relaunch`` the verdict is one within one launch, and says so. ``launches`` is how many
    must agree on a PASS. Alternate which side of a pair goes first, so that a steady drift cancels. ``pairs`` says how many it took.
    ``budgets`` is how many verdicts share the error of a FAIL. Raises SettingsError as ``judge_pairs`` does, and lets through what
    ``next_pair`` and ``relaunch`` raise.
    """
    rule = rule_of(tolerance, confidence, better, floor, budgets)
    if relaunch is None and launches > 1:
        raise SettingsError(f"launches is {launches} without a relaunch.", remedy="Pass relaunch, which starts both afresh.")
    test = PairedTest(rule, max_pairs, launches, for_fail=1 if relaunch is None else LAUNCHES_FOR_FAIL)
    while test.asks != "nothing":
        if test.asks == "relaunch" and relaunch is not None:
            relaunch()
            test.relaunched()
        else:
            test.tell(*_pair(next_pair()))
    return test.verdict


def _pair(measured: Iterable[float]) -> tuple[float, float]:
    try:
        base, head = measured
    except (TypeError, ValueError) as error:
        raise SettingsError(f"next_pair returned {measured!r}.", remedy="It must return two numbers: (base, head).") from error
    return base, head
