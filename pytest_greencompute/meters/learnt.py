"""What is known of how ticking counters behave: found out in this process, told by another one, or remembered from an earlier session."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pytest_greencompute.meters.base import Counter
from pytest_greencompute.values.behaviour import Behaviour
from pytest_greencompute.values.readings import Source


class Learnt:
    """``probed``: by domain, the sources with their ticks as seen. ``told``: what others have seen, to be looked at again before it counts.

    ``sources``: those of all counters of the session.
    """

    def __init__(self, sources: Iterable[Source]) -> None:
        self.probed: dict[str, Source] = {}
        self.told: dict[str, Behaviour] = {}
        self.idle_w: dict[str, float] = {}  # of those that have been at rest
        self._lag_known = {source.domain for source in sources if source.lag_s > 0}
        self._lag_sought: set[str] = set()
        self._whole: dict[str, bool] = {}  # whether it sees all of the time, where that was looked at
        self._whole_before: set[str] = set()  # those that saw all of it in an earlier session

    def source(self, counter: Counter) -> Source:
        """Its source, with the tick as probed where that has happened."""
        return self.probed.get(counter.source.domain, counter.source)

    def knows_lag(self, domain: str) -> bool:
        """Whether work has shown what lag it has, here or where its behaviour was told."""
        return domain in self._lag_known

    def is_faint(self, domain: str) -> bool:
        """Whether a lag was looked for in vain, since no work drew enough to show one."""
        return domain in self._lag_sought and domain not in self._lag_known

    def is_known(self, domain: str) -> bool:
        """Whether its tick was probed, or told."""
        return domain in self.probed or domain in self.told

    def expect(self, counters: Iterable[Counter], told: Iterable[Behaviour], *, remembered: bool) -> None:
        """What others have seen of these devices. ``remembered``: in an earlier session, so whether they see all of the time is to be seen
        again, too.
        """
        devices = {(each.source.domain, each.source.uuid) for each in counters if each.source.domain not in self.probed}
        for each in told:
            if (each.domain, each.uuid) in devices:
                self.told[each.domain] = each
                self._lag_sought.add(each.domain)
                if each.lag_shown or each.lag_s > 0:
                    self._lag_known.add(each.domain)
                if each.idle_w is not None:
                    self.idle_w[each.domain] = each.idle_w
                if remembered and each.whole:
                    self._whole_before.add(each.domain)
                elif each.whole is not None and not remembered:
                    self._whole[each.domain] = each.whole

    def forget(self) -> None:
        """What others have told is not so."""
        for domain in self.told:
            self._lag_known.discard(domain)
            self._lag_sought.discard(domain)
            self._whole.pop(domain, None)
            self.probed.pop(domain, None)
        self.told, self._whole_before = {}, set()

    def sees_all(self, domain: str) -> bool | None:
        """Whether a counter sees all of the time; None where that was not looked at yet."""
        return self._whole.get(domain)

    def whole(self, counters: Iterable[Counter]) -> bool | None:
        """Whether all of these see all of the time; None where that was not looked at yet."""
        seen = [self._whole.get(each.source.domain) for each in counters]
        return False if False in seen else None if None in seen else bool(seen)

    def whole_before(self, counters: Iterable[Counter]) -> bool:
        """Whether all of these saw all of the time in an earlier session."""
        domains = {each.source.domain for each in counters}
        return bool(domains) and domains <= self._whole_before

    def doubt(self, counters: Iterable[Counter]) -> None:
        """None of these is taken to see all of the time any more."""
        self._whole = {counter.source.domain: False for counter in counters}

    def learn(self, sources: Sequence[Source], lags: frozenset[str], *, whole: bool | None) -> None:
        """Keep the lags that a run has found, which ``lags`` have shown; and whether counters see all of the time, where it has looked."""
        for source in sources:
            self.probed[source.domain] = source
            self._lag_sought.add(source.domain)
            if whole is not None:
                self._whole[source.domain] = whole
        self._lag_known |= lags
