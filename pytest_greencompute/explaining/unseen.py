"""Whether the passes that were looked at show the difference at all: where a side was launched again and its cause was not, nothing that
was seen there is to blame.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence

from pytest_greencompute.explaining.factors import SECONDS, changed
from pytest_greencompute.explaining.profile import Joules, Level, Profile
from pytest_greencompute.explaining.risen import Risen
from pytest_greencompute.stats.distributions import normal_reach

LAUNCH = 0.03  # by which the passes of two launches of the same code differ (standard deviation of the logarithm)
ALONE = 0.05  # the same of a lone pass, of whose scatter nobody knows
PART = 0.5  # of the least that the verdict says (logarithm): what shows more shows a part of it


def unseen(base: Profile, head: Profile, risen: Risen) -> str:
    """A sentence without its full stop where passes certainly differ by less than the verdict says, and by less than half of it, at every
    level that tells; empty else, and where none tells: time does where the meter pays for it, elsewhere only of work that is the same.
    """
    nearest = risen.low if risen.low > 0 else min(risen.high, 0.0)
    if not nearest or risen.base_j + nearest <= 0:
        return ""
    least = math.log1p(nearest / risen.base_j)
    shown = [*_shown(base, head)]
    reach = normal_reach(risen.confidence)
    grown = [(math.copysign(each, each * least), error) for each, error in shown]
    if not shown or any(each >= PART * abs(least) or each + reach * error >= abs(least) for each, error in grown):
        return ""
    times = math.exp(statistics.fmean(each for each, _ in shown))
    said = f"{1 + nearest / risen.base_j:.2f} times or {'more' if least > 0 else 'less'}"
    return f"both sides, launched again and looked at, differ by {times:.2f} times, not by {said}: what makes the difference was not there"


def _shown(base: Profile, head: Profile) -> Iterator[tuple[float, float]]:
    """The logarithm of how many times the base's joules a pass of the head took, and its standard error, by each level that tells it."""
    same_work = all(each.name == SECONDS for each in changed(base, head))
    for one in base.levels:
        other = head.level(one.kind)
        if other is None or other.clock != one.clock:
            continue
        if one.metered is not None and other.metered is not None:
            yield _of_joules(one.metered, other.metered)
        elif one.clock == "cpu" or same_work:
            yield _of_seconds(one, other)


def _of_joules(base: Joules, head: Joules) -> tuple[float, float]:
    return math.log(head.mean / base.mean), math.hypot(base.relative, head.relative, LAUNCH, LAUNCH)


def _of_seconds(base: Level, head: Level) -> tuple[float, float]:
    times = statistics.fmean(head.seconds) / statistics.fmean(base.seconds)
    return math.log(times), math.hypot(_error(base.seconds), _error(head.seconds), LAUNCH, LAUNCH)


def _error(seconds: Sequence[float]) -> float:
    if len(seconds) < 2:
        return ALONE
    return statistics.stdev(seconds) / statistics.fmean(seconds) / math.sqrt(len(seconds))
