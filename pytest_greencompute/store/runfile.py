"""The run file, schema ``greencompute.report/1``: the JSON report, what ``--energy-save`` keeps, and what can be judged again.

Everything is SI; numbers are finite or null. ``raw`` holds enough to compute every estimate and verdict again.
The JSON Schema ships beside this module as report.schema.json.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_greencompute.errors import GreencomputeError, SettingsError
from pytest_greencompute.estimate import Estimate, Outcome
from pytest_greencompute.metrics import METRICS
from pytest_greencompute.samples import Block, Idle, Latency, Run, Source, Span, sets_of
from pytest_greencompute.verdict import Verdict

SCHEMA = "greencompute.report/1"
_SOURCE_FIELDS = ("meter", "domain", "method", "device", "uuid", "tick_s", "jitter_s", "step_j", "lag_s", "systematic", "note")


def schema() -> dict[str, Any]:
    """The JSON Schema of the run file."""
    loaded: dict[str, Any] = json.loads(Path(__file__).with_name("report.schema.json").read_text(encoding="utf-8"))
    return loaded


def run_to_json(run: Run, outcomes: Mapping[str, Outcome], verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """One run with its metrics and verdicts as plain JSON values."""
    return {
        "test": run.test,
        "name": run.name,
        "queries": run.queries,
        "blocks": len(run.blocks),
        "seconds": run.seconds,
        "metered": run.metered,
        "metrics": {name: _metric(outcome) for name, outcome in outcomes.items() if isinstance(outcome, Estimate)},
        "verdicts": [verdict_to_json(verdict) for verdict in verdicts],
        "notes": list(run.notes),
        "problem": run.problem,
        "provenance": _plain(run.provenance),
        "raw": _raw(run),
    }


def _metric(estimate: Estimate) -> dict[str, Any]:
    shown: dict[str, Any] = {"value": estimate.value, "low": estimate.low, "high": estimate.high, "unit": estimate.dimension.si}
    if estimate.domain:
        shown |= {"domain": estimate.domain, "method": estimate.method, "systematic": estimate.systematic}
    return shown | {"n": estimate.n, "confidence": estimate.confidence}


def verdict_to_json(verdict: Verdict) -> dict[str, Any]:
    """A verdict as plain JSON values; its estimate stands among the run's metrics."""
    metric = METRICS.get(verdict.metric)
    return {
        "metric": verdict.metric,
        "verdict": verdict.word,
        "kind": verdict.kind,
        "limit": verdict.limit,
        "unit": metric.dimension.si if metric else "J",
        "reason": verdict.reason,
        "where": verdict.where,
        "sees": verdict.sees,
        "modelled": verdict.modelled,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)


def _raw(run: Run) -> dict[str, Any]:
    return {
        "batch_size": run.batch_size,
        "window": run.window,
        "looks": run.looks,
        "sources": [{name: getattr(source, name) for name in _SOURCE_FIELDS} for source in run.sources],
        "sets": [[_block(block) for block in group] for group in sets_of(run.blocks)],
        "warmup": [_block(block) for block in run.warmup],
        "idle": [[idle.domain, idle.energy_j, idle.seconds] for idle in run.idles],
        "latencies": [[latency.queries, latency.seconds] for latency in run.latencies],
        "scores": None if run.scores is None else list(run.scores),
    }


def _block(block: Block) -> list[Any]:
    """A block as one row: set, phase, queries, start and end (ns), spans {domain: [J, ns, ns]}, marks."""
    spans = {domain: [span.energy_j, span.a_ns, span.b_ns] for domain, span in block.spans.items()}
    return [block.set_index, block.phase, block.queries, block.start_ns, block.end_ns, spans, list(block.marks)]


def run_from_json(data: Mapping[str, Any]) -> Run:
    """The raw run out of its JSON. Raises KeyError, TypeError, ValueError or GreencomputeError where it is not one."""
    raw = data["raw"]
    return Run(
        test=data["test"],
        name=data["name"],
        queries=data["queries"],
        batch_size=raw["batch_size"],
        metered=data["metered"],
        seconds=data["seconds"],
        sources=tuple(Source(**source) for source in raw["sources"]),
        blocks=tuple(_block_from(row) for group in raw["sets"] for row in group),
        warmup=tuple(_block_from(row) for row in raw["warmup"]),
        idles=tuple(Idle(*row) for row in raw["idle"]),
        latencies=tuple(Latency(*row) for row in raw["latencies"]),
        scores=None if raw["scores"] is None else tuple(float(score) for score in raw["scores"]),
        notes=tuple(data["notes"]),
        problem=data["problem"],
        window=raw["window"],
        looks=raw["looks"],
        provenance=data["provenance"],
    )


def _block_from(row: Sequence[Any]) -> Block:
    set_index, phase, queries, start_ns, end_ns, spans, marks = row
    return Block(set_index, phase, queries, start_ns, end_ns, {domain: Span(*span) for domain, span in spans.items()}, tuple(marks))


def read_runs(path: Path) -> tuple[Run, ...]:
    """All runs of a run file. Raises SettingsError, naming the file, where it is cut short, of another schema, or not a run file."""
    remedy = "Delete it, or restore it from version control."
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(f"{path} does not exist.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {error}.", remedy=remedy) from error
    except ValueError as error:
        raise SettingsError(f"{path} is not a whole run file: {error}.", remedy=remedy) from error
    found = data.get("schema") if isinstance(data, dict) else None
    if found != SCHEMA:
        newer = isinstance(found, str) and found.startswith("greencompute.report/")
        remedy = "Update pytest-greencompute." if newer else remedy
        raise SettingsError(f"{path} has schema {found!r}; this version reads {SCHEMA!r}.", remedy=remedy)
    try:
        return tuple(run_from_json(run) for run in data["runs"] if run["raw"] is not None)
    except GreencomputeError as error:
        raise SettingsError(f"{path}: {error.message}", remedy=remedy) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SettingsError(f"{path} is not a whole run file ({type(error).__name__}: {error}).", remedy=remedy) from error
