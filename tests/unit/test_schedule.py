"""Which part of a fleet runs where and when, what is tried again, and what is missing: without an engine, a clock or a process."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from pytest_greencompute.fleet.driving import STOPPED, EngineLostError, PartEnd, drive
from pytest_greencompute.fleet.expected import Gap, Measurements, gaps
from pytest_greencompute.fleet.schedule import MOST_TRIES, Host, PlannedPart, Schedule
from pytest_greencompute.settings.settings import Expected

BIG, SMALL = Host("1", "big", ("H100",)), Host("2", "small", ("L4",))
BOTH = ("H100", "L4")


def three(kind: str = "H100") -> list[Host]:
    return [Host(str(number), f"host-{number}", (kind,)) for number in range(1, 4)]


def seen(schedule: Schedule, *hosts: Host) -> list[tuple[str, str]]:
    """Tests that are started on these hosts now, with the host."""
    schedule.see(hosts)
    return [(part.test, host.name) for part, host in schedule.next()]


def running(schedule: Schedule, test: str) -> PlannedPart:
    return next(part for part in schedule.running if part.test == test)


# --- what runs where, and when --------------------------------------------------------------------------------------------------------


def test_every_test_is_planned_on_every_kind_as_often_as_asked() -> None:
    schedule = Schedule(("a", "b"), BOTH, repeat=3)
    assert len(schedule.parts) == len({part.number for part in schedule.parts}) == 2 * 2 * 3
    assert {(part.test, part.hardware, part.repetition) for part in schedule.parts} == {
        (test, kind, again) for test in "ab" for kind in BOTH for again in (1, 2, 3)
    }


def test_long_tests_are_first_and_one_that_nobody_knows_before_them() -> None:
    schedule = Schedule(("short", "long", "new"), ("H100",), seconds={"short": 1, "long": 60})
    order = []
    while not schedule.is_over:
        order += [test for test, _ in seen(schedule, BIG)]
        schedule.ended(running(schedule, order[-1]), 1.0)
    assert order == ["new", "long", "short"]


def test_what_a_test_took_on_one_kind_orders_it_on_the_other() -> None:
    schedule = Schedule(("a", "b", "c"), BOTH)
    seen(schedule, BIG, SMALL)
    for test, seconds in {"a": 1.0, "b": 1.0, "c": 60.0}.items():
        schedule.ended(next(part for part in schedule.running if (part.test, part.hardware) == (test, "H100")), seconds)
        seen(schedule, BIG, SMALL)
    schedule.ended(running(schedule, "a"), 1.0)
    assert seen(schedule, BIG, SMALL) == [("c", "small")]


def test_a_host_runs_what_it_has_gpus_for_and_only_its_kind() -> None:
    schedule = Schedule(("a", "b", "c"), BOTH)
    wide = Host("1", "wide", ("H100",), 2)
    assert sorted(seen(schedule, wide, SMALL)) == [("a", "small"), ("a", "wide"), ("b", "wide")]
    assert sorted(host.name for host in schedule.running.values()) == ["small", "wide", "wide"]
    assert all(part.hardware in host.kinds for part, host in schedule.running.items())
    assert seen(schedule, wide, SMALL) == []


def test_repetitions_of_a_test_go_to_different_hosts() -> None:
    schedule = Schedule(("a", "b", "c"), ("H100",), repeat=3)
    given_to: dict[str, list[str]] = {test: [] for test in "abc"}
    while not schedule.is_over:
        for test, host in seen(schedule, *three()):
            given_to[test].append(host)
        schedule.ended(next(iter(schedule.running)), 1.0)
    assert [sorted(hosts) for hosts in given_to.values()] == 3 * [["host-1", "host-2", "host-3"]]


# --- what is lost ---------------------------------------------------------------------------------------------------------------------


def test_a_part_whose_host_is_lost_is_tried_on_two_others_and_then_lost() -> None:
    schedule = Schedule(("a",), ("H100",))
    hosts, tried = [*three(), Host("4", "host-4", ("H100",))], []
    for attempt in range(1, MOST_TRIES + 1):
        ((_, host),) = seen(schedule, *hosts)
        tried.append(host)
        assert schedule.host_lost(running(schedule, "a"), "the node died") is (attempt < MOST_TRIES)
    assert schedule.is_over
    assert len(set(tried)) == MOST_TRIES == 3
    assert "host-1: the node died; host-2: the node died; host-3: the node died" in schedule.lost[schedule.parts[0]]


def test_a_part_is_lost_when_no_other_host_of_its_kind_is_left_and_the_others_go_on() -> None:
    schedule = Schedule(("a",), BOTH)
    seen(schedule, BIG, SMALL)
    lost = next(part for part in schedule.running if part.hardware == "L4")
    assert schedule.host_lost(lost, "the node died")
    assert seen(schedule, BIG) == []
    assert schedule.lost == {lost: "small: the node died; no other host with L4 is left"}
    assert [part.hardware for part in schedule.running] == ["H100"]


def test_a_host_that_was_lost_under_a_part_is_given_others_if_it_lives() -> None:
    schedule = Schedule(("a", "b"), ("H100",))
    seen(schedule, BIG)
    schedule.host_lost(running(schedule, "a"), "the process that ran it was killed")
    assert seen(schedule, BIG) == [("b", "big")]
    assert [part.test for part in schedule.lost] == ["a"]


def test_a_part_waits_for_a_host_of_its_kind_that_is_busy() -> None:
    schedule = Schedule(("a", "b"), ("H100",))
    assert seen(schedule, BIG) == [("a", "big")]
    assert seen(schedule, BIG) == []
    assert not schedule.lost


def test_hosts_that_come_later_are_given_parts() -> None:
    schedule = Schedule(("a", "b"), ("H100",))
    seen(schedule, BIG)
    assert seen(schedule, BIG, Host("9", "later", ("H100",))) == [("b", "later")]


def test_a_part_that_failed_by_itself_is_not_tried_again() -> None:
    schedule = Schedule(("a",), ("H100",))
    seen(schedule, *three())
    schedule.failed(running(schedule, "a"), "pytest was ended by SIGSEGV")
    assert schedule.is_over
    assert schedule.lost == {schedule.parts[0]: "pytest was ended by SIGSEGV"}


# --- driven by an engine --------------------------------------------------------------------------------------------------------------


class Scripted:
    """An engine in which parts end at once, as ``how`` says; and a watcher that keeps what it is told."""

    def __init__(self, hosts: list[Host], how: Callable[[PlannedPart, Host], PartEnd]) -> None:
        self.living, self.how = hosts, how
        self.started: list[tuple[PlannedPart, Host]] = []
        self.said: list[tuple[str, PlannedPart]] = []

    def hosts(self) -> list[Host]:
        return self.living

    def start(self, part: PlannedPart, host: Host) -> None:
        self.started.append((part, host))

    def wait(self) -> list[tuple[PlannedPart, PartEnd]]:
        ended, self.started = self.started, []
        return [(part, self.how(part, host)) for part, host in ended]

    def came(self, part: PlannedPart, host: Host, outcome: PartEnd) -> None:
        self.said.append(("came", part))

    def again(self, part: PlannedPart, host: Host, outcome: PartEnd) -> None:
        self.said.append(("again", part))

    def failed(self, part: PlannedPart, outcome: PartEnd) -> None:
        self.said.append(("failed", part))

    def lost(self, part: PlannedPart, why: str) -> None:
        self.said.append(("lost", part))


REPORT = PartEnd(report=b"{}", seconds=1.0)


@given(
    st.dictionaries(st.integers(1, 40), st.sampled_from(["host", "host", "part", "came"])),
    st.integers(1, 3),
    st.integers(1, 4),
)
def test_every_part_comes_or_is_lost_once_whatever_happens(fates: dict[int, str], repeat: int, rooms: int) -> None:
    def how(part: PlannedPart, host: Host) -> PartEnd:
        fate = fates.get(part.number, "came")
        return REPORT if fate == "came" else PartEnd(why=f"{fate} lost", host_lost=fate == "host")

    hosts = [Host(str(number), f"host-{number}", (BOTH[number % 2],), rooms) for number in range(6)]
    engine, schedule = Scripted(hosts, how), Schedule([f"t{number}" for number in range(5)], BOTH, repeat)
    drive(schedule, engine, engine, lambda: False)
    assert schedule.is_over
    assert {*schedule.done} | {*schedule.lost} == {*schedule.parts}
    assert not {*schedule.done} & {*schedule.lost}
    ends = [part for what, part in engine.said if what in {"came", "lost"}]
    assert sorted(part.number for part in ends) == [part.number for part in schedule.parts]
    for part in schedule.parts:
        assert (part in schedule.done) is (fates.get(part.number, "came") == "came")
        assert sum(each == ("again", part) for each in engine.said) == (MOST_TRIES - 1 if fates.get(part.number) == "host" else 0)


def test_what_has_come_before_it_is_stopped_counts_and_the_rest_is_lost_with_the_reason() -> None:
    engine = Scripted([BIG], lambda part, host: REPORT)
    schedule = Schedule(("a", "b", "c"), ("H100",))
    drive(schedule, engine, engine, lambda: len(schedule.done) == 1)
    assert [part.test for part in schedule.done] == ["a"]
    assert {part.test: why for part, why in schedule.lost.items()} == dict.fromkeys("bc", STOPPED)


def test_what_has_come_before_the_engine_is_lost_counts() -> None:
    def how(part: PlannedPart, host: Host) -> PartEnd:
        if part.test == "b":
            raise EngineLostError("the cluster was lost")
        return REPORT

    engine, schedule = Scripted([BIG], how), Schedule(("a", "b"), ("H100",))
    drive(schedule, engine, engine, lambda: False)
    assert [part.test for part in schedule.done] == ["a"]
    assert [*schedule.lost.values()] == ["the cluster was lost"]


def test_a_pair_that_is_missing_has_the_reason_why_its_part_never_came() -> None:
    kind, died = "NVIDIA H100", "host-1: the node died"
    wanted = Expected(("H100", "L4"), ("a", "b"), hosts=2)
    lost = {("a", "L4"): died, ("b", "H100"): died}
    found = gaps(wanted, Measurements({kind: {"a": 2, "b": 1}}, lost=lost))
    assert found == [
        Gap("b", kind, f"1 of 2 hosts measured it on {kind}: {died}"),
        Gap("a", "L4", f"no part was measured on L4: {died}"),
        Gap("b", "L4", f"no part was measured on L4: there are {kind}"),
    ]
