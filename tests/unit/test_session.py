"""What a session leaves behind when something of it cannot be closed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.session.session import Session
from pytest_greencompute.testing.simulated import SimulatedClock, SimulatedCounter


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
