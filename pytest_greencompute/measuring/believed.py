"""What the power of a device says of its energy counter: nothing, a note, or that the run has no energy figure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from pytest_greencompute.estimates.against_power import BEYOND, NOTED
from pytest_greencompute.estimates.domains import stood_idle
from pytest_greencompute.meters.beside import PowerBeside
from pytest_greencompute.values.powers import COVERS_MODULE, DISAGREE, MAY_COVER_MODULE
from pytest_greencompute.values.readings import Source
from pytest_greencompute.values.run import Run


def believed(run: Run, beside: PowerBeside, allowed: Collection[str]) -> Run:
    """The run with what the power ``beside`` its counters says of those that its devices worked for. ``allowed``: what the user allowed."""
    for source in run.sources:
        found = beside.found(source)
        if found is None or not run.blocks or stood_idle(run, source):
            continue
        if source.note == MAY_COVER_MODULE and found.sure:
            run = _with_source(run, replace(source, note=COVERS_MODULE if found.scope == "module" else ""))
        whose = f"the energy counter of {source.domain} and its power disagree ({found})"
        if found.off > BEYOND and DISAGREE not in allowed:
            remedy = f'`greencompute doctor --deep` looks closer, and allow = ["{DISAGREE}"] lets it count'
            run = replace(run, problem=run.problem or f"{whose}; {remedy}")
        elif found.off > NOTED:
            run = replace(run, notes=(*run.notes, whose + (", which is allowed" if found.off > BEYOND else "")))
    return run


def _with_source(run: Run, source: Source) -> Run:
    return replace(run, sources=tuple(source if each.domain == source.domain else each for each in run.sources))
