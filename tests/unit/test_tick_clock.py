"""A clock that follows a counter's ticks: right about every tick within the doubt that it states, or it says that a tick did not fit."""

from __future__ import annotations

import math
import random

import pytest

from pytest_greencompute.meters.tick_clock import Due, Seen, TickClock

MS = 1_000_000


def fed(*ticks_ms: float, period_s: float = 0.1, jitter_s: float = 0.0, doubt_ms: float = 2.0) -> TickClock:
    clock = TickClock(period_s, jitter_s)
    for tick in ticks_ms:
        assert clock.saw(Seen(round((tick - doubt_ms) * MS), round((tick + doubt_ms) * MS)))
    return clock


def test_before_any_tick_was_seen_nothing_is_known() -> None:
    assert TickClock(0.1).next_after(5 * MS) == Due(105 * MS, math.inf)
    assert TickClock(0.1).unseen_ns(7) == math.inf


def test_one_tick_alone_says_nothing_of_the_next() -> None:
    assert fed(1000).next_after(1001 * MS).doubt_ns == math.inf


def test_the_period_is_that_of_the_ticks_not_the_one_given() -> None:
    clock = fed(0, 100.2, 200.4, 501.0, period_s=0.0996)
    assert clock.period_ns == pytest.approx(100.2 * MS)
    assert clock.next_after(501 * MS).t_ns == pytest.approx(601.2 * MS)
    assert clock.unseen_ns(601 * MS) == pytest.approx(100 * MS)


def test_doubt_grows_with_the_ticks_unseen_and_shrinks_with_the_ticks_between() -> None:
    short, long = fed(0, 500), fed(0, 500, 1500, 5000)
    assert short.next_after(1001 * MS).doubt_ns > short.next_after(601 * MS).doubt_ns
    assert long.next_after(5501 * MS).doubt_ns < short.next_after(1001 * MS).doubt_ns


def test_a_tick_where_none_was_due_does_not_fit_and_the_clock_begins_anew_with_it() -> None:
    clock = fed(0, 500, 1000)
    assert not clock.saw(Seen(1548 * MS, 1552 * MS))
    assert clock.next_after(1551 * MS).doubt_ns == math.inf
    assert clock.saw(Seen(1648 * MS, 1652 * MS))
    assert clock.next_after(1700 * MS).t_ns == pytest.approx(1750 * MS)


def test_after_an_hour_ticks_cannot_be_counted_any_more_but_the_period_is_still_known() -> None:
    clock = fed(*(number * 1000 for number in range(60)))
    assert clock.saw(Seen(3_600_031 * MS, 3_600_035 * MS))
    assert clock.period_ns == pytest.approx(100 * MS, rel=1e-3)
    due = clock.next_after(3_601_000 * MS)
    assert due.t_ns == pytest.approx(3_601_033 * MS, abs=1 * MS)
    assert due.doubt_ns < 6 * MS


def test_ticks_lie_within_the_doubt_stated_and_those_seen_fit() -> None:
    luck = random.Random(11)
    within = fitting = asked = 0
    for _ in range(400):
        period_s, jitter, doubt = luck.uniform(0.005, 0.5), luck.uniform(0, 0.04), luck.uniform(0.002, 0.05)
        clock = TickClock(period_s * (1 + luck.uniform(-0.002, 0.002)), jitter * period_s)
        number = 0
        for _ in range(20):
            number += luck.randint(1, 12)
            true_ns = (number + luck.uniform(-jitter, jitter)) * period_s * 1e9
            due = clock.next_after((number - 0.5) * period_s * 1e9)
            width, share = doubt * period_s * 1e9, luck.uniform(0, 1)
            if due.doubt_ns < period_s * 1e9 / 4:
                asked += 1
                within += abs(due.t_ns - true_ns) <= due.doubt_ns
                fitting += clock.saw(Seen(round(true_ns - share * width), round(true_ns + (1 - share) * width)))
            else:
                clock.saw(Seen(round(true_ns - share * width), round(true_ns + (1 - share) * width)))
    assert asked > 5000
    assert within / asked > 0.995
    assert fitting / asked > 0.999
