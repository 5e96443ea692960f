"""What a session leaves behind when something of it cannot be closed."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.session.opened import OpenMeters
from pytest_greencompute.session.session import Session
from pytest_greencompute.store.devices import DeviceCache
from pytest_greencompute.testing.simulated import SimulatedClock, SimulatedCounter
from pytest_greencompute.values.behaviour import Behaviour


def broken() -> None:
    raise RuntimeError("it cannot be closed")


def test_a_counter_of_any_maker_that_cannot_be_closed_keeps_no_other_open() -> None:
    clock, closed = SimulatedClock(), list[str]()
    one, other = (cast("Any", SimulatedCounter(clock, domain=name)) for name in ("cpu", "dram"))
    one.close, other.close = broken, lambda: closed.append("dram")
    Instruments([one, other], clock).close()
    assert closed == ["dram"]


def test_what_measures_other_commits_ends_though_the_meters_cannot_be_closed() -> None:
    session, closed = cast("Any", object.__new__(Session)), list[str]()
    session.opened = SimpleNamespace(close=broken)
    session._others = SimpleNamespace(bases=SimpleNamespace(close=lambda: closed.append("bases")))
    with pytest.raises(RuntimeError):
        session.close()
    assert closed == ["bases"]


def test_a_meter_that_cannot_say_any_more_what_it_reads_spoils_no_test_that_has_measured() -> None:
    opened = cast("Any", object.__new__(OpenMeters))
    instruments = SimpleNamespace(locked=lambda _: nullcontext(), behaviours=[Behaviour("gpu:0", "GPU-1", 0.1, 0.0, 0.0)], facts=broken)
    opened.instruments, opened._recalled, opened._devices = instruments, True, DeviceCache(None)
    with opened.lock(lambda _: None):
        pass
