"""The two kinds of servers that show samples: a Prometheus server, which keeps them, and an exporter, which has those of this moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from pytest_greencompute.errors import MeterError
from pytest_greencompute.machine.clock import Clock
from pytest_greencompute.meters import promql
from pytest_greencompute.meters.exposition import exposed
from pytest_greencompute.meters.http_get import Get
from pytest_greencompute.meters.scraped import STEP_S, Look
from pytest_greencompute.meters.series import METRICS_OF_HOSTS, Labels, Matcher, Series, chosen, key_of
from pytest_greencompute.meters.tracks import Track

CLOCK_S = 300.0  # between two looks at a server's clock
CLOCK_TRIES = 3
BEHIND = 1.5  # of a period, by which the series that is followed may be behind another of the same device
PERIODS = 4.0  # of samples, that are asked for again and again
MORE_S = 5.0
PACE_S = 1.0  # between two scrapes of an exporter whose counters move whenever they are scraped
EARLY_S = 0.15
USUAL_PATH = "/metrics"  # of an exporter


class Server:
    """A Prometheus server. Its samples have the times of its own clock, which is held against this machine's every few minutes."""

    early_s = pace_s = 0.0

    def __init__(self, get: Get, where: str, wanted: Sequence[Matcher], clock: Clock) -> None:
        self.where = where
        self._get = get
        self._wanted = wanted
        self._clock = clock
        self._ahead_ns = self._compared_ns = 0  # by how much its clock is ahead, and when that was seen
        self._followed: dict[tuple[str, ...], Labels] = {}

    def listed(self, seconds: float) -> list[Series]:
        """The series that are meant, with their samples of the last ``seconds``."""
        return self._asked(promql.samples_within(METRICS_OF_HOSTS, seconds), whole=True)

    def look(self, tracks: Sequence[Track]) -> list[Look]:
        """The samples of the last few periods. A series that is not meant any more, since its labels have changed, shows none."""
        within_s = PERIODS * max(track.period_s for track in tracks) + MORE_S
        gpus = [track.device.uuid for track in tracks if track.device.uuid]
        others = [each for track in tracks if not track.device.uuid for each in track.device.instances]
        asked = [("UUID", gpus)] * bool(gpus) + [("instance", [*dict.fromkeys(others)])] * bool(others)
        names = dict.fromkeys(track.device.name for track in tracks)
        found = [each for label, values in asked for each in self._asked(promql.samples_within(names, within_s, label, values))]
        return self.seen(found, tracks)

    def seen(self, series: Sequence[Series], tracks: Sequence[Track]) -> list[Look]:
        """What those series show of the devices of the tracks."""
        by_device: dict[tuple[str, tuple[str, ...]], list[Series]] = {}
        for each in series:
            if each.samples:
                by_device.setdefault((each.name, key_of(each)), []).append(each)
        found = []
        for track in tracks:
            if several := by_device.get((track.device.name, track.device.key)):
                samples = self._of_one(several, track).samples
                found.append(Look(track, tuple((value, t_ns - self._ahead_ns) for value, t_ns in samples)))
        return found

    def _of_one(self, several: Sequence[Series], track: Track) -> Series:
        """Of the series of one device the one that is followed, until another has been newer for long: two jobs may scrape one exporter,
        and a pod that comes and goes is a label that changes. They are one counter, which is counted once.
        """
        key, newest = track.device.key, max(several, key=lambda each: each.samples[-1][1])
        for each in several:
            if each.labels == self._followed.get(key) and newest.samples[-1][1] - each.samples[-1][1] <= BEHIND * track.period_s * 1e9:
                return each
        self._followed[key] = newest.labels
        return newest

    def _asked(self, query: str, *, whole: bool = False) -> list[Series]:
        self._follow_clock()
        content = self._get(self.where + promql.PATH, {"query": query})
        return chosen(promql.series_of(content, self.where, whole=whole), self._wanted)

    def _follow_clock(self) -> None:
        """By how much the server's clock is ahead of this machine's, from the answer that came soonest."""
        if self._compared_ns and self._clock.now_ns() - self._compared_ns < CLOCK_S * 1e9:
            return
        tried = []
        for _ in range(CLOCK_TRIES):
            asked_ns = self._clock.now_ns()
            content = self._get(self.where + promql.PATH, {"query": promql.NOW})
            done_ns = self._clock.now_ns()
            tried.append((done_ns - asked_ns, round(promql.server_seconds(content, self.where) * 1e9) - (asked_ns + done_ns) // 2))
        self._ahead_ns, self._compared_ns = min(tried)[1], self._clock.now_ns()

    def close(self) -> None:
        """Give the connections back."""
        self._get.close()


class Exporter:
    """An exporter. It shows what it has read last, and not when: that is between two looks, one of which shows something new."""

    def __init__(self, get: Get, where: str, wanted: Sequence[Matcher], clock: Clock) -> None:
        self.where = where
        self.instance = _instance(where)
        self.early_s, self.pace_s = EARLY_S, 0.0
        self._get = get
        self._wanted = wanted
        self._clock = clock
        self._before_ns: int | None = None

    def watched(self) -> list[Series]:
        """What it shows, of which it is known after some looks whether it reads its devices anew whenever it is scraped.

        Raises MeterError where it shows no energy at all: its host would be missing from the sum, and never be missed.
        """
        listed, _ = self._listed()
        if not any(METRICS_OF_HOSTS[each.name].kind_of(each.labels) for each in listed):
            raise MeterError(f"{self.where} shows no energy of a GPU or a processor.", remedy="Look at its log, or leave its address out.")
        looks = [chosen(listed, self._wanted)]
        for _ in range(2):
            self._clock.sleep(STEP_S)
            looks.append(self._shown()[0])
        first, *more = [{key_of(each): each.samples[0][0] for each in series if not _is_power(each)} for series in looks]
        moved = [
            all(now[key] != value for key, value in before.items() if key in now) for before, now in zip([first, *more], more, strict=False)
        ]
        if all(moved):  # those of power alone, too: they have no counter that would show it
            self.early_s, self.pace_s = 0.0, PACE_S
        return looks[-1]

    def look(self, tracks: Sequence[Track]) -> list[Look]:
        """What it shows now. What it has shown since the look before came between the two."""
        series, at_ns = self._shown()
        before_ns, self._before_ns = self._before_ns, at_ns
        doubt_s = 0.0
        if not self.pace_s:
            doubt_s = (at_ns - before_ns) / 2e9 if before_ns is not None else float("inf")
            at_ns = (at_ns + (at_ns if before_ns is None else before_ns)) // 2
        found = {(each.name, key_of(each)): each.samples[0][0] for each in reversed(series)}
        shown = [(track, found.get((track.device.name, track.device.key))) for track in tracks]
        return [Look(track, ((value, at_ns),), doubt_s) for track, value in shown if value is not None]

    def _shown(self) -> tuple[list[Series], int]:
        """The series that are meant, and when they were shown (ns)."""
        listed, at_ns = self._listed()
        return chosen(listed, self._wanted), at_ns

    def _listed(self) -> tuple[list[Series], int]:
        """All series of energy, and when they were shown (ns). As a server would, it labels them with the address."""
        asked_ns = self._clock.now_ns()
        content = self._get(self.where, {})
        at_ns = (asked_ns + self._clock.now_ns()) // 2
        listed = exposed(content, METRICS_OF_HOSTS, self.where)
        return [replace(each, labels={**each.labels, "instance": self.instance}) for each in listed], at_ns

    def close(self) -> None:
        """Give the connections back."""
        self._get.close()


def _instance(where: str) -> str:
    """What tells an exporter from others: its host and port, and its path where it is not the usual one, as behind a proxy."""
    parts = urlsplit(where)
    return parts.netloc if parts.path == USUAL_PATH else parts.netloc + parts.path


def _is_power(series: Series) -> bool:
    return METRICS_OF_HOSTS[series.name].is_power
