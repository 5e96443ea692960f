"""A run as JSON, schema ``greencompute.report/1``: what can be judged again, in the report of a session and between two processes.

Everything is SI; numbers are finite or null. ``raw`` holds enough to compute every estimate and verdict again.
The JSON Schema ships beside this module as report.schema.json.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from pytest_greencompute.errors import MADE_UP, GreencomputeError, SettingsError
from pytest_greencompute.results.provenance_json import provenance_from_json, provenance_to_json
from pytest_greencompute.values.provenance import Json, plain
from pytest_greencompute.values.readings import Block, Idle, Source, Span, sets_of
from pytest_greencompute.values.run import Count, Latency, Run, Serving, Watched, Watching

SCHEMA = "greencompute.report/1"
JsonObject: TypeAlias = Mapping[str, Any]  # an object of a JSON file or of another process: foreign until it is parsed
_SOURCE_FIELDS = ("meter", "domain", "method", "device", "uuid", "tick_s", "jitter_s", "step_j", "lag_s", "systematic", "note")
_COUNT_FIELDS = ("value", "where", "note", "queries", "bound")
_SERVING_COUNTS = ("by_events", "cut", "reconnected", "prompt_tokens")  # files of older versions have none
_SERVING_FIELDS = ("concurrency", "answered", "failed", "tokens", "first_tokens", "token_gaps", *_SERVING_COUNTS, "cached_tokens")
_WATCHED_FIELDS = ("name", "calls", "tokens", "reasoning", "share")


def schema() -> JsonObject:
    """The JSON Schema of the run file."""
    loaded: JsonObject = json.loads(Path(__file__).with_name("report.schema.json").read_text(encoding="utf-8"))
    return loaded


def run_to_json(run: Run) -> dict[str, Json]:
    """One run as plain JSON values, without any judgement: no metrics and no verdicts."""
    return {
        "test": run.test,
        "name": None if run.name is None else str.__str__(run.name),
        "queries": run.queries,
        "blocks": len(run.blocks),
        "seconds": run.seconds,
        "metered": run.metered,
        "metrics": {},
        "verdicts": [],
        "notes": list(run.notes),
        "problem": run.problem,
        "provenance": provenance_to_json(run.provenance),
        "raw": raw_to_json(run),
    }


def raw_to_json(run: Run) -> dict[str, Json]:
    """Every sample of a run."""
    return {
        "batch_size": run.batch_size,
        "window": run.window,
        "looks": run.looks,
        "sources": [{name: getattr(source, name) for name in _SOURCE_FIELDS} for source in run.sources],
        "sets": [[_block(block) for block in group] for group in sets_of(run.blocks)],
        "warmup": [_block(block) for block in run.warmup],
        "idle": [[idle.domain, idle.energy_j, idle.seconds] for idle in run.idles],
        "latencies": [_latency(latency) for latency in run.latencies],
        "scores": None if run.scores is None else list(run.scores),
        "answers": run.answers,
        **_counted(run),
    }


def _counted(run: Run) -> dict[str, Json]:
    """What was counted rather than measured; only what was asked for, so that other files stay as they were."""
    found: dict[str, Json] = {}
    for name in ("tokens", "reasoning"):
        counted = getattr(run, name)
        if counted is not None:
            found[name] = list(counted)
    if run.watching is not None:
        models = [{name: getattr(each, name) for name in _WATCHED_FIELDS} for each in run.watching.models]
        found["watching"] = {
            "queries": run.watching.queries,
            "reached": run.watching.reached,
            "models": models,
            "bound": run.watching.bound,
        }
    if run.serving is not None:
        found["serving"] = {name: plain(getattr(run.serving, name)) for name in _SERVING_FIELDS}
    if run.counts:
        found["counts"] = {name: {field: getattr(each, field) for field in _COUNT_FIELDS} for name, each in run.counts.items()}
    return found


def _latency(latency: Latency) -> list[Any]:
    """A timed batch as one row: queries, seconds, and the set after which it was timed, if it was."""
    return [latency.queries, latency.seconds, *(() if latency.set_index is None else (latency.set_index,))]


def _block(block: Block) -> list[Any]:
    """A block as one row: set, phase, queries, start and end (ns), spans {domain: [J, ns, ns]}, marks."""
    spans = {domain: [span.energy_j, span.a_ns, span.b_ns] for domain, span in block.spans.items()}
    return [block.set_index, block.phase, block.queries, block.start_ns, block.end_ns, spans, list(block.marks)]


def run_from_json(data: JsonObject) -> Run:
    """The raw run out of its JSON. Raises KeyError, TypeError, ValueError or GreencomputeError where it is not one."""
    raw = data["raw"]
    return Run(
        test=_typed(data["test"], str),
        name=_typed(data["name"], str, type(None)),
        queries=_whole(data["queries"]),
        batch_size=_whole(raw["batch_size"]),
        metered=_typed(data["metered"], bool),
        seconds=_number(data["seconds"]),
        sources=tuple(_source_from(source) for source in _typed(raw["sources"], list)),
        blocks=tuple(_block_from(row) for group in _typed(raw["sets"], list) for row in _typed(group, list)),
        warmup=tuple(_block_from(row) for row in _typed(raw["warmup"], list)),
        idles=tuple(Idle(_typed(domain, str), _number(joules), _number(seconds)) for domain, joules, seconds in raw["idle"]),
        latencies=tuple(_latency_from(*row) for row in raw["latencies"]),
        scores=None if raw["scores"] is None else tuple(_number(score, -math.inf) for score in _typed(raw["scores"], list)),
        answers=_typed(raw.get("answers", ""), str),  # files of older versions have none
        tokens=_counts_from(raw.get("tokens")),
        reasoning=_counts_from(raw.get("reasoning")),
        watching=_watching_from(raw.get("watching")),
        serving=_serving_from(raw.get("serving")),
        counts={name: Count(**{field: each[field] for field in _COUNT_FIELDS}) for name, each in raw.get("counts", {}).items()},
        notes=tuple(_typed(note, str) for note in _typed(data["notes"], list)),
        problem=_typed(data["problem"], str),
        window=_typed(raw["window"], bool),
        looks=_whole(raw["looks"]),
        provenance=provenance_from_json(_typed(data["provenance"], dict)),
    )


def _counts_from(counted: Any) -> tuple[int, ...] | None:
    return None if counted is None else tuple(_whole(each, 0) for each in _typed(counted, list))


def _watching_from(seen: Any) -> Watching | None:
    if seen is None:
        return None
    models = tuple(Watched(**{name: each[name] for name in _WATCHED_FIELDS}) for each in seen["models"])
    return Watching(_whole(seen["queries"]), _whole(seen["reached"], 0), models, seen.get("bound", ""))


def _serving_from(seen: Any) -> Serving | None:
    if seen is None:
        return None
    several: JsonObject = {name: tuple(_number(each) for each in seen[name]) for name in ("first_tokens", "token_gaps")}
    counts: JsonObject = {name: _whole(seen.get(name, 0), 0) for name in _SERVING_COUNTS}
    return Serving(
        concurrency=_whole(seen["concurrency"]),
        answered=_whole(seen["answered"], 0),
        failed={_typed(reason, str): _whole(count, 0) for reason, count in seen["failed"].items()},
        tokens=None if seen["tokens"] is None else tuple(_number(each) for each in seen["tokens"]),
        **several,
        **counts,
        cached_tokens=None if seen.get("cached_tokens") is None else _whole(seen["cached_tokens"], 0),
    )


def _latency_from(queries: Any, seconds: Any, set_index: Any = None) -> Latency:
    return Latency(_whole(queries), _number(seconds), None if set_index is None else _whole(set_index, 0))


def _source_from(source: JsonObject) -> Source:
    numbers: JsonObject = {name: _number(source[name]) for name in _SOURCE_FIELDS if name.endswith(("_s", "_j")) or name == "systematic"}
    texts: JsonObject = {name: _typed(source[name], str) for name in _SOURCE_FIELDS if name not in numbers}
    return Source(**texts, **numbers)


def _block_from(row: Sequence[Any]) -> Block:
    set_index, phase, queries, start_ns, end_ns, spans, marks = row
    return Block(
        _whole(set_index, 0),
        _number(phase),
        _whole(queries) if isinstance(queries, int) else _number(queries),
        _whole(start_ns, -math.inf),
        _whole(end_ns, -math.inf),
        {domain: Span(_number(joules), _whole(a, -math.inf), _whole(b, -math.inf)) for domain, (joules, a, b) in spans.items()},
        tuple(_typed(mark, str) for mark in _typed(marks, list)),
    )


def _typed(value: Any, *kinds: type) -> Any:
    """``value``, if it is of one of ``kinds``; a bool is no number. Raises TypeError."""
    if type(value) not in kinds:
        raise TypeError(f"{value!r} stands where a {' or '.join(kind.__name__ for kind in kinds)} should")
    return value


def _whole(value: Any, least: float = 1) -> int:
    """``value``, if it is a whole number of at least ``least``. Raises TypeError or ValueError."""
    whole: int = _typed(value, int)
    if whole < least:
        raise ValueError(f"{whole} is less than {least}")
    return whole


def _number(value: Any, least: float = 0.0) -> float:
    """``value``, if it is a finite number of at least ``least``. Raises TypeError or ValueError."""
    number = float(_typed(value, int, float))
    if not math.isfinite(number) or number < least:
        raise ValueError(f"{number!r} is not a finite number of at least {least}")
    return number


def read_runs(path: Path) -> tuple[Run, ...]:
    """All runs of a run file. Raises SettingsError, naming the file, where it is cut short, of another schema, or not a run file."""
    remedy = "Name a report that --energy-json or --energy-save wrote. Where this was one, restore it or move it away."
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(f"{path} does not exist.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {error}.", remedy=remedy) from error
    except (ValueError, RecursionError) as error:
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
    except MADE_UP as error:
        raise SettingsError(f"{path} is not a whole run file ({type(error).__name__}: {error}).", remedy=remedy) from error
