"""The JSON report of a session, schema greencompute.report/1."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pytest_greencompute.footprint import Footprint
from pytest_greencompute.samples import Source
from pytest_greencompute.store.runfile import SCHEMA, footprint_to_json


class Told(Protocol):
    """What the report needs of a session."""

    machine: dict[str, Any]
    seconds: float
    problem: str

    @property
    def instruments(self) -> Any: ...

    @property
    def footprint(self) -> Footprint | None: ...

    def total_j(self) -> float | None: ...


def document(session: Told, runs: Sequence[Mapping[str, Any]], total: Mapping[str, Any] | None, exit_status: int) -> dict[str, Any]:
    """All of a session as plain JSON values; ``runs`` are those of runfile.run_to_json."""
    sources: Sequence[Source] = () if session.instruments is None else session.instruments.sources
    return {
        "schema": SCHEMA,
        "created": datetime.datetime.now(tz=datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "exit_status": exit_status,
        "session": {
            "seconds": session.seconds,
            "energy_j": session.total_j(),
            "total": None if total is None else dict(total),
            "commit": session.machine.get("commit"),
            "machine": session.machine,
            "problem": session.problem,
            "meters": [meter(source) for source in sources],
            **({} if session.footprint is None else {"footprint": footprint_to_json(session.footprint)}),
        },
        "runs": [dict(run) for run in runs],
    }


def meter(source: Source) -> dict[str, Any]:
    """One source as the report shows it."""
    return {
        "name": source.meter,
        "domain": source.domain,
        "method": source.method,
        "tick_s": source.tick_s,
        "device": source.device,
        "uuid": source.uuid,
        "note": source.note,
    }
