"""An end to what takes too long, and the alarms of others beside it."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from pytest_greencompute.errors import CannotError
from pytest_greencompute.machine.alarm import at_most

LATE = CannotError("too late")


def test_what_waits_for_ever_is_ended() -> None:
    with pytest.raises(CannotError, match="too late"), at_most(0.05, LATE):
        time.sleep(3600)
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_what_is_done_in_time_is_left_alone_and_so_is_what_comes_after() -> None:
    with at_most(0.05, LATE):
        pass
    time.sleep(0.1)
    with at_most(None, LATE):
        time.sleep(0.1)


def test_an_alarm_of_somebody_else_stays_set_and_comes_first_where_it_is_due_first() -> None:
    rung: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _: rung.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 100)
        with pytest.raises(CannotError), at_most(0.05, LATE):
            time.sleep(3600)
        assert 90 < signal.getitimer(signal.ITIMER_REAL)[0] < 100
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with at_most(30, LATE):
            time.sleep(0.2)
        assert rung == [signal.SIGALRM]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_in_another_thread_nothing_is_ended() -> None:
    done: list[bool] = []

    def work() -> None:
        with at_most(0.01, LATE):
            time.sleep(0.1)
        done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]
