"""``measure``: a measured run outside pytest, in a script or a notebook."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

from pytest_greencompute.errors import MeterError
from pytest_greencompute.estimates.by_metric import estimate
from pytest_greencompute.estimates.estimate import Aim, Estimate
from pytest_greencompute.estimates.measured import MeasuredRun
from pytest_greencompute.judging.budget import parse_term
from pytest_greencompute.machine.clock import Clock, RealClock
from pytest_greencompute.measuring.driver import run_metered
from pytest_greencompute.measuring.effort import Effort
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.meters.base import Meter, MeterOptions
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.meters.registry import ORDER_BY_DEFAULT, open_counters
from pytest_greencompute.models.queries import Queries
from pytest_greencompute.models.scoring import Score
from pytest_greencompute.values.footprint import Footprint
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.run import Run

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence


def precise_enough(aim: Aim, relative: float = 0.02) -> Callable[[Run], bool]:
    """A stopping rule: the energy's half-width is within ``relative`` of the figure, or there is no figure to wait for."""

    def enough(run: Run) -> bool:
        outcome = estimate(run, METRICS["energy_per_query"], aim)
        return not isinstance(outcome, Estimate) or outcome.relative <= relative

    return enough


def open_instruments(
    meters: Iterable[str],
    *,
    clock: Clock | None = None,
    environ: Mapping[str, str] | None = None,
    extra: Mapping[str, Meter] | None = None,
    cpu_watts_per_core: float | None = None,
    family: int | None = None,
    domains: Sequence[str] = ("auto",),
    **options: Any,
) -> Instruments:
    """Open every domain that the named meters can read here. Raises MeterError where none works, SettingsError for unknown names.

    ``family`` is the process whose descendants are no strangers on a GPU (default: this one); ``domains`` are those that are judged.
    """
    clock = clock or RealClock()
    asked = MeterOptions(clock, os.environ if environ is None else environ, cpu_watts_per_core, family, tuple(domains))
    opened = open_counters(tuple(meters), asked, extra or {})
    return Instruments(
        opened.counters, clock, refusals=opened.refusals, own=opened.own, elsewhere=opened.elsewhere, domains=domains, **options
    )


def measure(
    model: Callable[[Any], Any],
    queries: Queries,
    *,
    batch_size: int = 1,
    references: Iterable[Any] | None = None,
    score: Score = "accuracy",
    collate: Callable[[Any], Any] | None = None,
    tokens: object = None,
    reasoning: Sequence[str] | None = None,
    count: Iterable[str] = (),
    name: str | None = None,
    repeats: str = "fresh",
    meters: Iterable[str] | None = None,
    domains: Iterable[str] | str = "auto",
    confidence: float = 0.99,
    max_seconds: float = 60.0,
    cpu_watts_per_core: float | None = None,
    footprint: Footprint | None = None,
    instruments: Instruments | None = None,
) -> MeasuredRun:
    """Measure a model outside a test, for a notebook or a script; the same protocol as the fixture's.

    Stops when the energy per query is known to within 2 % or after ``max_seconds`` (warm-up aside). ``meters`` are names in order of
    preference (default: nvml, rapl). ``count`` and ``repeats`` as for the fixture's ``measure``. Raises MeterError where no meter
    works, SettingsError for bad input.
    """
    counted = (domains,) if isinstance(domains, str) else tuple(domains)
    aim = Aim(parse_term("confidence", confidence), counted, footprint or Footprint())
    max_seconds = parse_term("max_seconds", max_seconds)
    opened = instruments or open_instruments(meters or ORDER_BY_DEFAULT, cpu_watts_per_core=cpu_watts_per_core, domains=counted)
    task = Task(
        model, queries, batch_size, references, score, collate, name, tokens=tokens, reasoning=reasoning, count=count, repeats=repeats
    )
    try:
        with opened.locked(lambda _: None):
            raw, outputs = run_metered(task, opened, Effort(max_seconds, enough=precise_enough(aim)))
    finally:
        if instruments is None:
            opened.close()
    return MeasuredRun(raw, outputs, aim, _no_meter)


def _no_meter(metric: str) -> NoReturn:
    raise MeterError(f"There is no {metric}: the run was not metered.")
