"""The JSON report of a session, schema greencompute.report/1, and a session as such a report told it."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_greencompute.results.provenance_json import machine_from_json, machine_to_json
from pytest_greencompute.results.run_json import SCHEMA, footprint_to_json
from pytest_greencompute.results.session import Facts, Refusal
from pytest_greencompute.results.summary import Summary
from pytest_greencompute.values.footprint import Footprint
from pytest_greencompute.values.readings import Source


def now() -> str:
    """When a report is made, as it says it: UTC to the second."""
    return datetime.datetime.now(tz=datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def document(summary: Summary) -> dict[str, Any]:
    """All of a session as plain JSON values."""
    facts = summary.facts
    return {
        "schema": SCHEMA,
        "created": summary.created,
        "exit_status": summary.exit_status,
        "session": {
            "seconds": facts.seconds,
            "energy_j": facts.total_j,
            "total": None if summary.total is None else dict(summary.total),
            "commit": facts.machine.commit,
            "machine": machine_to_json(facts.machine),
            "problem": facts.problem,
            "meters": [meter(source) for source in facts.sources],
            "measured": summary.enabled,
            "metered": summary.metered,
            "refusals": [{"meter": each.meter, "reason": each.reason, "absent": each.absent} for each in facts.refusals],
            "not_measured": [{"test": test, "reason": reason} for test, reason in summary.not_measured],
            "broken": [{"test": test, "reason": reason} for test, reason in summary.broken],
            "said": [{"sentence": sentence, "bad": bad} for sentence, bad in summary.said],
            "loosened": list(facts.loosened),
            **({} if summary.footprint is None else {"footprint": footprint_to_json(summary.footprint)}),
        },
        "runs": [dict(run) for run in summary.results],
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


def summary_of(report: Mapping[str, Any]) -> Summary:
    """The session that a report tells of. Its form must have been checked (``store.reports``); older ones know less of the session."""
    told = report["session"]
    return Summary(
        enabled=told.get("measured", any(run["metered"] for run in report["runs"])),
        facts=Facts(
            machine=machine_from_json(told["machine"]),
            sources=tuple(_source(each) for each in told["meters"]),
            refusals=tuple(Refusal(**each) for each in told.get("refusals", ())),
            problem=told["problem"],
            seconds=told["seconds"],
            total_j=told["energy_j"],
            loosened=tuple(told.get("loosened", ())),
        ),
        results=report["runs"],
        metered=told.get("metered", len({run["test"] for run in report["runs"]})),
        not_measured=_pairs(told.get("not_measured", ()), "test", "reason"),
        broken=_pairs(told.get("broken", ()), "test", "reason"),
        total=told["total"],
        said=_pairs(told.get("said", ()), "sentence", "bad"),
        footprint=Footprint(**told["footprint"]) if "footprint" in told else None,
        created=report["created"],
        exit_status=report["exit_status"],
    )


def _source(told: Mapping[str, Any]) -> Source:
    return Source(told["name"], told["domain"], told["method"], told["device"], told["uuid"], told["tick_s"], note=told["note"])


def _pairs(told: Sequence[Mapping[str, Any]], one: str, other: str) -> tuple[tuple[Any, Any], ...]:
    return tuple((each[one], each[other]) for each in told)
