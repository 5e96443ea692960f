"""What a verdict will still take, foretold from what has been measured so far. Pure.

A comparison in pairs is played through to its end by its own rules, a copy of its ``PairedTest``, with pairs drawn from what its pairs say
of their mean and spread: whatever decides is what foretells, too. The interval of a figure by itself narrows as Student's t does.
"""

from __future__ import annotations

import copy
import math
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_greencompute.judging.pairs import LAUNCHES_FOR_FAIL, UNANIMOUS, PairedTest
from pytest_greencompute.judging.rule import Rule
from pytest_greencompute.judging.verdict import Verdict, Word
from pytest_greencompute.stats.distributions import student_t_quantile
from pytest_greencompute.values.metrics import METRICS

if TYPE_CHECKING:
    import numpy as np

PLAYS = 15
LEAST_SEEN = 2
# Two or three pairs say little of their spread, so it is joined with what is common, as if so many degrees of freedom had shown it.
USUAL_SPREAD, USUAL_DEGREES = 0.01, 2.0
FARTHEST = 8  # times what was planned: what would take more than that is not foretold
SAID_PAIRS = 500  # nor is it played on beyond so many pairs, since each play costs time
MOST_SETS = 4096
NUMBERS = ("no", "one", "two", "three")


@dataclass(frozen=True, slots=True)
class Prospect:
    """The likely ``word``, and what it still takes: ``pairs`` in this launch, and then ``again`` of them in so many fresh ``launches``
    (medians of what was played). A word that is INCONCLUSIVE takes more than is foretold.
    """

    word: Word
    pairs: float = 0
    again: float = 0
    launches: int = 0

    def seconds(self, pair_s: float, launch_s: float) -> float:
        """How long that takes, where a pair takes ``pair_s`` and the preparation of a fresh launch ``launch_s``."""
        return (self.pairs + self.again) * pair_s + self.launches * launch_s


def prospect(test: PairedTest, rng: np.random.Generator, *, plays: int = PLAYS) -> Prospect | None:
    """What ``test``, which is not changed, will come to; None while it has too few pairs to say.

    What it cannot decide with the pairs that it may have, or could not, is played on, as if it were allowed ``FARTHEST`` times as many.
    """
    changes = [test.rule.change(base, head) for base, head in test.measured]
    undecided = test.verdict.word == "INCONCLUSIVE" and test.pairs == len(changes)
    if test.asks == "nothing" and not undecided:
        return Prospect(test.verdict.word)
    if len(changes) < LEAST_SEEN:
        return None
    n, mean = len(changes), statistics.fmean(changes)
    degrees = n - 1 + USUAL_DEGREES
    squares = math.fsum((each - mean) ** 2 for each in changes) + USUAL_DEGREES * USUAL_SPREAD**2

    def play(begun: PairedTest) -> Prospect:
        spread = math.sqrt(squares / float(rng.chisquare(degrees)))
        true = float(rng.normal(mean, spread / math.sqrt(n)))
        return played(begun, lambda _: float(rng.normal(true, spread)))

    if test.asks != "nothing":
        found = typical_of([play(copy.deepcopy(test)) for _ in range(plays)])
        if found.word != "INCONCLUSIVE" or test.pairs > n:
            return found
    return typical_of([play(_allowed_more(test)) for _ in range(plays)])


def comparison(rule: Rule, first: int, launches: int = 1) -> PairedTest:
    """A comparison that has ``first`` pairs at most for its first launch, and about as many again for all fresh ones together."""
    again = max(launches, LAUNCHES_FOR_FAIL) - 1
    return PairedTest(rule, first + again * max(UNANIMOUS, first // again), launches, first=first)


def played(test: PairedTest, worse: Callable[[int], float]) -> Prospect:
    """What ``test`` comes to with such pairs: ``worse`` gives the change of the next one (the logarithm of how many times worse head is),
    told how many fresh launches there have been. The test is used up.
    """
    level = statistics.median(base for base, _ in test.measured) if test.measured else 1.0
    sign = 1 if test.rule.better == "lower" else -1
    seen, launches, at_launch = test.pairs, 0, test.pairs
    first = True
    while test.asks != "nothing":
        if test.asks == "relaunch":
            test.relaunched()
            if first:
                first, at_launch = False, test.pairs
            launches += 1
        test.tell(level, level * math.exp(sign * worse(launches)))
    ended = test.pairs if first else at_launch
    return Prospect(test.verdict.word, ended - seen, test.pairs - ended, launches)


def _allowed_more(test: PairedTest) -> PairedTest:
    """The same comparison in its first launch, as if it could have far more pairs."""
    planned = test.first or test.max_pairs
    more = comparison(test.rule, max(planned, min(FARTHEST * planned, SAID_PAIRS)), test.launches)
    for pair in test.measured:
        more.tell(*pair)
    return more


def typical_of(ends: Sequence[Prospect]) -> Prospect:
    """The word that came most often, with the medians of what it took."""
    word = Counter(each.word for each in ends).most_common(1)[0][0]
    likely = [each for each in ends if each.word == word]
    pairs, again = (statistics.median(getattr(each, name) for each in likely) for name in ("pairs", "again"))
    return Prospect(word, pairs, again, round(statistics.median(each.launches for each in likely)))


def sets_to_clear(verdict: Verdict, done: int) -> float:
    """How many more sets an INCONCLUSIVE verdict on a figure's limit needs, after ``done`` of them; infinite where no number would do.

    The interval narrows as Student's t over the square root of the sets does, about the figure as it is.
    """
    found, limit = verdict.estimate, verdict.limit
    if verdict.word != "INCONCLUSIVE":
        return 0.0
    if found is None or limit is None or done < LEAST_SEEN or found.value == limit:
        return math.inf
    end = found.high if limit > found.value else found.low
    if end is None:
        return math.inf
    p = (1 + found.confidence) / 2
    width = abs(end - found.value) * math.sqrt(done) / student_t_quantile(p, done - 1)
    more = done + 1
    while more <= MOST_SETS and width * student_t_quantile(p, more - 1) / math.sqrt(more) > abs(limit - found.value):
        more = more + 1 if more < MOST_SETS // 64 else math.ceil(more * 1.1)
    return math.inf if more > MOST_SETS else float(more - done)


@dataclass(frozen=True, slots=True)
class Likely:
    """One verdict that is still open: the ``metric`` that it is on, its likely ``word``, and in how many ``seconds`` it stands, of which
    so many fresh ``launches`` are to come.
    """

    metric: str
    word: Word
    seconds: float
    launches: int = 0


def likely_words(verdicts: Sequence[Likely], left_s: float) -> str:
    """'PASS likely in 8 s', 'FAIL likely in 20 s, three more launches to confirm' or 'not decided within the limit: p95 needs about 40 s
    more'; empty where nothing is open. ``left_s`` is what is left of the time limit.
    """
    if not verdicts:
        return ""
    late = [each for each in verdicts if each.word == "INCONCLUSIVE" or each.seconds > left_s]
    failing = [each for each in verdicts if each.word == "FAIL" and each not in late]
    if failing:
        last = max(failing, key=lambda each: each.seconds)
        more = f"{_number(last.launches)} more {'launch' if last.launches == 1 else 'launches'} to confirm" if last.launches else ""
        return f"FAIL likely in {whole_seconds(last.seconds)}{', ' if more else ''}{more}"
    if late:
        worst = max(late, key=lambda each: each.seconds)
        metric = METRICS[worst.metric]
        return f"not decided within the limit: {metric.label if metric.fraction else metric.short} {late_words(worst, left_s)}"
    return f"PASS likely in {whole_seconds(max(each.seconds for each in verdicts))}"


def late_words(late: Likely, left_s: float) -> str:
    """'needs about 40 s more', of a verdict that is not decided in the time that is left; where that would have done, in the pairs."""
    lacking_s = late.seconds - left_s if late.seconds > left_s else late.seconds
    return "needs far more time" if late.word == "INCONCLUSIVE" else f"needs about {whole_seconds(lacking_s)} more"


def _number(count: int) -> str:
    return NUMBERS[count] if count < len(NUMBERS) else str(count)


def whole_seconds(seconds: float) -> str:
    """'8 s'; never none, since what is still to come takes some time."""
    return f"{max(1.0, math.ceil(seconds)):.0f} s"
