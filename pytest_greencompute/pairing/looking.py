"""Base and head looked at one after the other, each in a fresh process: what explains the difference that was measured between them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace

from pytest_greencompute.explaining.profile import Profile, Ticking
from pytest_greencompute.measuring.time_limit import TimeLimit
from pytest_greencompute.pairing.process import Process
from pytest_greencompute.pairing.told import Explaining

EXPLAINING_S = 15.0  # of both sides, loading aside
Start = Callable[[], Process]


def for_both(ticking: Ticking, seconds: float | None = None) -> Explaining:
    """How each of two sides is looked at, so that both take no longer than that."""
    return Explaining((EXPLAINING_S if seconds is None else seconds) / 2, ticking)


def profiles(
    base: Start,
    head: Start,
    name: str | None,
    how: Explaining,
    limit: TimeLimit,
    loading_s: float | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[Profile, Profile]:
    """What base and head are seen to do in the run called ``name``, over as many queries on both sides: those that the head has time for.

    ``base`` and ``head`` start their processes; ``how`` is told to each. Loading is apart from ``limit``. Raises NotMeasuredError.
    """
    with contextlib.ExitStack() as launched:
        now, before = (launched.enter_context(contextlib.closing(start())) for start in (head, base))
        with limit.apart():
            before.wait_until_collected()  # which must not disturb the other
            say(f"explaining: loading {now.side.label}")
            now.wait_here(name, loading_s)
        say(f"explaining: looking at {now.side.label}")
        head_profile = now.explain(name, how)
        now.close()
        with limit.apart():
            say(f"explaining: loading {before.side.label}")
            before.wait_here(name, loading_s)
        say(f"explaining: looking at {before.side.label}")
        return before.explain(name, replace(how, some=head_profile.queries)), head_profile


def looked_at(start: Start, name: str | None, how: Explaining) -> Profile:
    """What one side is seen to do. Raises NotMeasuredError."""
    with contextlib.closing(start()) as process:
        return process.explain(name, how)
