"""Base and head looked at one after the other, each in a fresh process: what explains the difference that was measured between them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace

from pytest_greencompute.explaining.profile import Profile
from pytest_greencompute.measuring.time_limit import TimeLimit
from pytest_greencompute.pairing.process import Process
from pytest_greencompute.pairing.started import Side
from pytest_greencompute.pairing.told import Explaining


def profiles(
    start: Callable[[Side], Process],
    base: Side,
    head: Side,
    name: str | None,
    how: Explaining,
    limit: TimeLimit,
    loading_s: float | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[Profile, Profile]:
    """What base and head are seen to do in the run called ``name``, over as many queries on both sides: those that the head has time for.

    ``how`` is told to each side; loading is apart from ``limit``. Raises NotMeasuredError.
    """
    with contextlib.ExitStack() as launched:
        now, before = (launched.enter_context(contextlib.closing(start(side))) for side in (head, base))
        with limit.apart():
            before.wait_until_collected()  # which must not disturb the other
            say("explaining: loading this tree")
            now.wait_here(name, loading_s)
        say("explaining: looking at this tree")
        head_profile = now.explain(name, how)
        now.close()
        with limit.apart():
            say(f"explaining: loading {base.label}")
            before.wait_here(name, loading_s)
        say(f"explaining: looking at {base.label}")
        return before.explain(name, replace(how, some=head_profile.queries)), head_profile


def looked_at(start: Callable[[Side], Process], side: Side, name: str | None, how: Explaining) -> Profile:
    """What one side is seen to do. Raises NotMeasuredError."""
    with contextlib.closing(start(side)) as process:
        return process.explain(name, how)
