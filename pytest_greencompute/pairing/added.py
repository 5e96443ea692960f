"""A run that grows is told by what was added to it: the whole of it after every set would be told, and read, ever longer."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.pairing.channel import Message
from pytest_greencompute.results.run_json import run_from_json, run_to_json
from pytest_greencompute.values.run import Run

GROWING = ("blocks", "warmup", "idles", "latencies")  # fields of a run that are added to


def told_of(run: Run, before: Run | None) -> dict[str, Any]:
    """What a message says of ``run`` to whoever knows the run as it was ``before``: all but the samples that it has, and their numbers."""
    # What a server did is told for each block, so such a run is whole or none.
    has = (
        {} if before is None or run.serving is not None else {name: _shared(getattr(before, name), getattr(run, name)) for name in GROWING}
    )
    return {"run": run_to_json(replace(run, **{name: getattr(run, name)[number:] for name, number in has.items()})), "has": has}


def heard(message: Message, before: Run | None) -> Run:
    """The run that a message tells of, where it was ``before`` when last heard of.

    Raises KeyError, TypeError, ValueError or GreencomputeError where it tells of none.
    """
    run = run_from_json(message["run"])
    has: Mapping[str, int] = {name: number for name, number in message.get("has", {}).items() if name in GROWING and number}
    if not has:
        return run
    if before is None or not all(0 <= number <= len(getattr(before, name)) for name, number in has.items()):
        raise SettingsError(f"A run goes on from samples that were never told: {dict(has)}.")
    return replace(run, **{name: getattr(before, name)[:number] + getattr(run, name) for name, number in has.items()})


def _shared(before: tuple[object, ...], now: tuple[object, ...]) -> int:
    """How many samples both begin with. The same objects: samples are frozen and kept as they were made."""
    same = (one is other for one, other in zip(before, now, strict=False))
    return sum(1 for _ in itertools.takewhile(bool, same))
