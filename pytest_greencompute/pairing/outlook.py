"""What comparisons in pairs will still take, in seconds, and whether that fits into the time limit of their test."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from pytest_greencompute.judging.pairs import PairedTest
from pytest_greencompute.judging.prospect import Likely, late_words, likely_words, prospect, whole_seconds
from pytest_greencompute.measuring.time_limit import TimeLimit, seconds_a_set, seconds_of_idle
from pytest_greencompute.protocol.layout import Layout
from pytest_greencompute.values.readings import sets_of
from pytest_greencompute.values.run import Run

if TYPE_CHECKING:
    import numpy as np

HALF = 0.5  # of the time limit; from then on it is asked whether the other half will do
RESERVE = 1.1  # what is foretold is so far from what comes
HOPELESS = 3.0  # times what is left of the time: what is foretold of noisy pairs may be off by as much
ENOUGH_PAIRS = 8  # fewer do not say that well enough to give up
LOOK_AGAIN = 1.25  # times as many sets


class Compared(Protocol):
    """One run against one base: a paired test for each metric, and what is to be said of those that are INCONCLUSIVE."""

    needs: dict[str, str]
    again: str
    layout: Layout | None

    @property
    def tests(self) -> Mapping[str, PairedTest]: ...


@dataclass
class Outlook:
    """``ready_s`` is how long a side took to get ready, loading aside, once the devices were known; ``pair_s`` how long a pair takes."""

    limit: TimeLimit = field(default_factory=TimeLimit)
    ready_s: float = 0.0
    pair_s: float = 0.0
    _sets: int = field(default=0, init=False)
    _idle_s: float = field(default=0.0, init=False)
    _again_at: float = field(default=0.0, init=False)
    _rng: np.random.Generator | None = field(default=None, init=False)

    @contextlib.contextmanager
    def getting_ready(self) -> Iterator[None]:
        """A side that has loaded gets ready in here."""
        clock = self.limit.clock
        start_ns = clock.now_ns()
        yield
        self.ready_s = (clock.now_ns() - start_ns) / 1e9

    def see(self, run: Run) -> None:
        """This side's run so far."""
        self._sets, self.pair_s, self._idle_s = len(sets_of(run.blocks)), seconds_a_set(run), seconds_of_idle(run)

    @property
    def launch_s(self) -> float:
        """What a fresh launch of both takes before its first pair, loading aside."""
        return 2 * (self.ready_s + self._idle_s)

    def likely(self, matches: Iterable[Compared]) -> list[Likely]:
        """The verdicts that are open, as far as there are pairs to say something of them."""
        wanting = [(match, name, test) for match in matches for name, test in match.tests.items() if test.asks != "nothing"]
        return [each for match, name, test in wanting if (each := self._likely(match, name, test)) is not None]

    def words(self, matches: Iterable[Compared]) -> str:
        """'PASS likely in 8 s', once fresh launches have begun."""
        return likely_words([replace(each, launches=0) for each in self.likely(matches)], self.limit.left_s)

    def is_over(self, matches: Iterable[Compared], run: Run, *, alone: bool) -> bool:
        """Whether this launch is to end: the time is up, or what is left is needed to confirm a FAIL, or will not do.

        Whether it will do is asked from half of the limit on, where nothing else is waited for (``alone``), and not after each set, since
        to play a comparison through takes time as well.
        """
        matches = [*matches]
        self.see(run)
        if self.limit.is_up(run):
            return True
        confirming_s = max(map(self._confirming_s, matches), default=0.0)
        if confirming_s and self.limit.left_s - self.pair_s < RESERVE * confirming_s:
            return True
        if not alone or self.limit.spent_s < HALF * self.limit.seconds or self._sets < self._again_at:
            return False
        self._again_at = LOOK_AGAIN * self._sets
        found = self.likely(matches)
        open_tests = [test for match in matches for test in match.tests.values() if test.asks == "pair"]
        few = any(len(test.measured) < ENOUGH_PAIRS for test in open_tests)
        return bool(found) and not few and all(each.word == "INCONCLUSIVE" or each.seconds > HOPELESS * self.limit.left_s for each in found)

    def tell_late(self, match: Compared) -> None:
        """Say of each test that is not decided, and has no more pairs to come, what it would have taken."""
        for name, test in match.tests.items():
            if test.asks != "relaunch" and (each := self._likely(match, name, test)) is not None and each.seconds > 0:
                match.needs[name] = late_words(each, self.limit.left_s)

    def lacks(self, match: Compared, launches: int) -> str:
        """Why what is to be confirmed cannot be, after so many launches; empty where the time that is left will do."""
        needed_s = max(self._confirming_s(match), self.launch_s + self.pair_s)
        if needed_s <= self.limit.left_s * (1.0 if launches == 1 else RESERVE):  # what has been begun is worth a try
            return ""
        seen = "once" if launches == 1 else f"in {launches} launches"
        what = "measuring it again" if match.again else f"seen {seen}, confirmation"
        return f"{what} did not fit into {self.limit.seconds:g} s: needs about {whole_seconds(needed_s - self.limit.left_s)} more"

    def _likely(self, match: Compared, name: str, test: PairedTest) -> Likely | None:
        if match.layout is None:
            return None
        found = prospect(test, self._luck())
        if found is None:
            return None
        pair_s = self.pair_s * match.layout.sets / (test.first or match.layout.sets)  # a percentile needs several sets for a pair
        return Likely(name, found.word, found.seconds(pair_s, self.launch_s), found.launches)

    def _confirming_s(self, match: Compared) -> float:
        """How long the fresh launches will take that a test of it is waiting for."""
        waiting = [self._likely(match, name, test) for name, test in match.tests.items() if test.asks == "relaunch"]
        return max((each.seconds for each in waiting if each is not None), default=0.0)

    def _luck(self) -> np.random.Generator:
        if self._rng is None:
            import numpy as np

            self._rng = np.random.default_rng(0)
        return self._rng
