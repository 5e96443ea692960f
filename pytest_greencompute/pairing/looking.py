"""Base and head looked at one after the other, each in a fresh process: what explains the difference that was measured between them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from pytest_greencompute.explaining.profile import Profile, Ticking
from pytest_greencompute.measuring.time_limit import TimeLimit
from pytest_greencompute.pairing.process import Process
from pytest_greencompute.pairing.told import Explaining
from pytest_greencompute.values.behaviour import Behaviour

EXPLAINING_S = 15.0  # of both sides, loading aside
Start = Callable[[], Process]


def for_both(ticking: Ticking, seconds: float | None = None, learnt: Sequence[Behaviour] = ()) -> Explaining:
    """How each of two sides is looked at, so that both take no longer than that. ``learnt``: what is known of the devices here."""
    return Explaining((EXPLAINING_S if seconds is None else seconds) / 2, ticking, learnt=tuple(learnt))


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
        how = replace(how, some=head_profile.queries, counted=head_profile.counted, replay=names_replayed(head_profile))
        return before.explain(name, how), head_profile


def names_replayed(profile: Profile) -> tuple[str, ...]:
    """The modules that one side replayed, so that the other replays the same."""
    modules = profile.level("modules")
    return () if modules is None else tuple(each.name for each in modules.costs if each.replayed is not None)


def looked_at(start: Start, name: str | None, how: Explaining) -> Profile:
    """What one side is seen to do. Raises NotMeasuredError."""
    with contextlib.closing(start()) as process:
        return process.explain(name, how)
