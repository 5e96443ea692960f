"""The JSON report of a session, schema greencompute.report/1, and the session that such a report tells of: to JSON and back."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from typing import Any

from pytest_greencompute.errors import MADE_UP
from pytest_greencompute.explaining.profile import Profile
from pytest_greencompute.results.profile_json import explained_from_json, explained_to_json, profile_from_json, profile_to_json
from pytest_greencompute.results.provenance_json import machine_from_json, machine_to_json, provenance_from_json, provenance_to_json
from pytest_greencompute.results.result import (
    ENERGY,
    AdvisedChange,
    CandidateCount,
    CandidateRow,
    Explained,
    Figure,
    GivenAdvice,
    Pairs,
    Result,
    ShownVerdict,
)
from pytest_greencompute.results.run_json import SCHEMA, JsonObject, raw_to_json, run_from_json, run_to_json
from pytest_greencompute.results.session import Facts, Refusal
from pytest_greencompute.results.summary import Summary
from pytest_greencompute.stats.ratios import Ratio
from pytest_greencompute.values.footprint import Amount, Footprint, Year
from pytest_greencompute.values.provenance import Json
from pytest_greencompute.values.readings import Source

LONGEST_NOTE = 200
_ROW_FIELDS = (
    *("comparison", "candidate", "values", "figures", "counts", "domain", "modelled", "everywhere", "times", "times_of"),
    *("accuracy_difference", "agreement", "agreement_with", "weights", "front", "right_sized", "shortfall", "problem", "impossible"),
    *("no_energy", "floor", "by_turns"),
)
_ROW_AMOUNTS = ("times", "accuracy_difference")
_ADVISED = ("energy", "accuracy", "latency")
_ROW_SINCE = {"counts", "weights"}  # files of older versions have none
_VERDICT_FIELDS = ("metric", "kind", "reason", "limit", "where", "sees", "modelled")


def now() -> str:
    """When a report is made, as it says it: UTC to the second."""
    return datetime.datetime.now(tz=datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def document(summary: Summary) -> dict[str, Json]:
    """All of a session as plain JSON values."""
    facts = summary.facts
    return {
        "schema": SCHEMA,
        "created": summary.created,
        "exit_status": summary.exit_status,
        "session": {
            "seconds": facts.seconds,
            "energy_j": facts.total_j,
            "device_seconds": facts.device_s,
            "apart_seconds": facts.apart_s,
            "mean_w": facts.mean_w,
            "total": None if summary.total is None else verdict_to_json(summary.total),
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
        "runs": [result_to_json(result) for result in summary.results],
    }


def footprint_to_json(footprint: Footprint) -> dict[str, Json]:
    """The factors that were set, and where the carbon of a joule comes from; what was not set is left out."""
    carbon = {"kg_per_j": footprint.kg_per_j, "carbon_source": footprint.carbon_source}
    price = {"price_per_j": footprint.price_per_j, "currency": footprint.currency}
    return {
        **({} if footprint.kg_per_j is None else carbon),
        **({"why_no_carbon": footprint.why_no_carbon} if footprint.why_no_carbon else {}),
        **({} if footprint.price_per_j is None else price),
        "pue": footprint.pue,
        **({} if footprint.queries_per_s is None else {"queries_per_s": footprint.queries_per_s}),
    }


def meter(source: Source) -> dict[str, Json]:
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


# --- results ----------------------------------------------------------------------------------------------------------


def result_to_json(result: Result) -> dict[str, Json]:
    """One result as plain JSON values: a row of a report's ``runs``."""
    return {
        "test": result.test,
        "name": result.name,
        "queries": result.queries,
        "blocks": result.blocks,
        "seconds": result.seconds,
        "metered": result.metered,
        "metrics": {name: figure_to_json(figure) for name, figure in result.metrics.items()},
        "verdicts": [verdict_to_json(verdict) for verdict in result.verdicts],
        "notes": list(result.notes),
        "problem": result.problem,
        "provenance": provenance_to_json(result.provenance),
        "raw": None if result.run is None else raw_to_json(result.run),
        **_asked_for(result),
    }


def _asked_for(result: Result) -> dict[str, Json]:
    """What only some results have, so that the others stay as they were."""
    found: dict[str, Json] = {}
    if result.year is not None:
        energy = result.metrics[ENERGY]
        found["year"] = {**_year_to_json(result.year), "domain": energy.domain, "method": energy.method}
    if result.against:
        found["against"] = [_pairs_to_json(each) for each in result.against]
    if result.bases:
        found["bases"] = [{"ref": ref, "run": run_to_json(run)} for ref, run in result.bases.items()]
    if result.linked is not None:
        found["linked"] = run_to_json(result.linked)
    if result.explained:
        found["explained"] = [explained_to_json(each) for each in result.explained]
    if result.profile is not None:
        found["profile"] = profile_to_json(result.profile)
    if result.candidate is not None:
        found["candidate"] = candidate_to_json(result.candidate)
    if result.hardware:
        found |= {"hardware": result.hardware, "hosts": result.hosts}
    return found


def _pairs_to_json(told: Pairs) -> dict[str, Json]:
    shown: dict[str, Json] = {"ref": told.ref, "metric": told.metric, "unit": told.unit, "pairs": [list(pair) for pair in told.pairs]}
    if told.again:
        shown["again"] = [[list(pair) for pair in launch] for launch in told.again]
    return shown | ({"most": told.most, "first": told.first, "launches": told.launches} if told.most else {})


def _pairs_from(told: JsonObject) -> Pairs:
    def pairs(rows: Sequence[Sequence[float]]) -> tuple[tuple[float, float], ...]:
        return tuple((base, head) for base, head in rows)

    again = tuple(pairs(rows) for rows in told.get("again", ()))
    plan = {name: told[name] for name in ("most", "first", "launches") if name in told}
    return Pairs(told["ref"], told["metric"], pairs(told["pairs"]), again, **plan)


def figure_to_json(figure: Figure) -> dict[str, Json]:
    """A figure as plain JSON values: what it has nothing to do with (money, a domain) is left out."""
    shown: dict[str, Json] = {"value": figure.value, "low": figure.low, "high": figure.high, "unit": figure.unit}
    if figure.currency:
        shown["currency"] = figure.currency
    if figure.domain:
        shown |= {"domain": figure.domain, "method": figure.method, "systematic": figure.systematic}
    return shown | {"n": figure.n, "confidence": figure.confidence}


def verdict_to_json(verdict: ShownVerdict) -> dict[str, Json]:
    """A verdict as plain JSON values; its estimate stands among the run's metrics."""
    return {
        "metric": verdict.metric,
        "verdict": verdict.word,
        "kind": verdict.kind,
        "limit": verdict.limit,
        "unit": verdict.unit,
        "reason": verdict.reason,
        "where": verdict.where,
        "sees": verdict.sees,
        "modelled": verdict.modelled,
        **({} if verdict.base is None else {"base": verdict.base}),
        **({} if verdict.ratio is None else {"ratio": _open_sides(verdict.ratio)}),
        **({} if verdict.effect is None else {"effect": verdict.effect}),
    }


def _open_sides(ratio: Ratio) -> dict[str, float | None]:
    return {"value": ratio.value, "low": ratio.low or None, "high": ratio.high if math.isfinite(ratio.high) else None}


def candidate_to_json(row: CandidateRow) -> dict[str, Json]:
    """A row of a comparison as plain JSON values, null where there is none."""
    rows = {name: getattr(row, name) for name in _ROW_FIELDS}
    amounts = {name: None if amount is None else amount._asdict() for name in _ROW_AMOUNTS for amount in [rows[name]]}
    counts = {name: {"value": each.value, "bound": each.bound} for name, each in row.counts.items()}
    advice = {} if row.advice is None else {"advice": _advice_to_json(row.advice)}
    return rows | amounts | {"values": dict(row.values), "figures": dict(row.figures), "counts": counts} | advice


def _year_to_json(year: Year) -> dict[str, Json]:
    amounts = {"energy_kwh": year.kwh, "carbon_kg": year.kg, "money": year.money}
    return {"queries": year.queries, **{name: amount._asdict() for name, amount in amounts.items() if amount is not None}}


def _advice_to_json(advice: GivenAdvice) -> dict[str, Json]:
    def change(each: AdvisedChange) -> dict[str, Json]:
        amounts = {name: None if amount is None else amount._asdict() for name in _ADVISED for amount in [getattr(each, name)]}
        year = {} if each.year is None else {"year": _year_to_json(each.year)}
        return {"name": each.name, "code": list(each.code), **amounts, **year}

    return {"do": [change(each) for each in advice.do], "in_vain": dict(advice.in_vain), "notes": list(advice.notes)}


# --- back -------------------------------------------------------------------------------------------------------------


def summary_of(report: JsonObject, *, samples: bool = True) -> Summary:
    """The session that a report tells of, without its runs' samples where those are not needed.

    Its form must have been checked (``store.reports``); older ones know less of the session. Raises as ``result_from_json`` does.
    """
    told = report["session"]
    results = tuple(_result_of(run, samples=samples) for run in report["runs"])
    return Summary(
        enabled=told.get("measured", any(result.metered for result in results)),
        facts=Facts(
            machine=machine_from_json(told["machine"]),
            sources=tuple(_source(each) for each in told["meters"]),
            refusals=tuple(Refusal(**each) for each in told.get("refusals", ())),
            problem=told["problem"],
            seconds=told["seconds"],
            total_j=told["energy_j"],
            loosened=tuple(told.get("loosened", ())),
            device_s=told.get("device_seconds", 0.0),
            apart_s=told.get("apart_seconds", 0.0),
            mean_w=told.get("mean_w"),
        ),
        results=results,
        metered=told.get("metered", len({result.test for result in results})),
        not_measured=_pairs(told.get("not_measured", ()), "test", "reason"),
        broken=_pairs(told.get("broken", ()), "test", "reason"),
        total=None if told["total"] is None else verdict_from_json(told["total"]),
        said=_pairs(told.get("said", ()), "sentence", "bad"),
        footprint=Footprint(**told["footprint"]) if "footprint" in told else None,
        created=report["created"],
        exit_status=report["exit_status"],
    )


def _result_of(data: JsonObject, *, samples: bool) -> Result:
    """A result of a file; where somebody has edited its samples it is shown without them."""
    try:
        return result_from_json(data, samples=samples)
    except MADE_UP:
        return result_from_json(data, samples=False)


def _source(told: JsonObject) -> Source:
    return Source(told["name"], told["domain"], told["method"], told["device"], told["uuid"], told["tick_s"], note=told["note"])


def _pairs(told: Sequence[JsonObject], one: str, other: str) -> tuple[tuple[Any, Any], ...]:
    return tuple((each[one], each[other]) for each in told)


def result_from_json(data: JsonObject, *, samples: bool = True) -> Result:
    """A result out of its JSON, without its run where ``samples`` are not needed. Raises as ``run_from_json`` does."""
    year, candidate = data.get("year"), data.get("candidate")
    explained, profile, unread = _looked_at(data)
    return Result(
        test=data["test"],
        name=data["name"],
        queries=data["queries"],
        blocks=data["blocks"],
        seconds=data["seconds"],
        metered=data["metered"],
        metrics={name: Figure(**figure) for name, figure in data["metrics"].items()},
        verdicts=tuple(verdict_from_json(told) for told in data["verdicts"]),
        notes=(*data["notes"], *unread),
        problem=data["problem"],
        provenance=provenance_from_json(data["provenance"]),
        run=run_from_json(data) if samples and data["raw"] is not None else None,
        year=None if year is None else _year_from(year),
        against=tuple(map(_pairs_from, data.get("against", ()))),
        candidate=None if candidate is None else _candidate_from(candidate),
        bases={each["ref"]: run_from_json(each["run"]) for each in data.get("bases", ())} if samples else {},
        hardware=data.get("hardware", ""),
        hosts=data.get("hosts", 0),
        explained=explained,
        profile=profile,
        linked=run_from_json(data["linked"]) if samples and "linked" in data else None,
    )


def _looked_at(data: JsonObject) -> tuple[tuple[Explained, ...], Profile | None, tuple[str, ...]]:
    """What the run was seen to do; where somebody has edited that, a note instead."""
    try:
        profile = profile_from_json(data["profile"]) if "profile" in data else None
        return tuple(map(explained_from_json, data.get("explained", ()))), profile, ()
    except MADE_UP as error:
        return (), None, (f"its explanation cannot be read ({type(error).__name__}: {error})"[:LONGEST_NOTE],)


def verdict_from_json(told: JsonObject) -> ShownVerdict:
    """A verdict as a report told it."""
    ratio = told.get("ratio")
    sides = None if ratio is None else Ratio(ratio["value"], ratio["low"] or 0.0, math.inf if ratio["high"] is None else ratio["high"])
    fields: JsonObject = {name: told[name] for name in _VERDICT_FIELDS}
    return ShownVerdict(word=told["verdict"], base=told.get("base"), ratio=sides, effect=told.get("effect"), **fields)


def _year_from(told: JsonObject) -> Year:
    kg, money = (Amount(**told[name]) if name in told else None for name in ("carbon_kg", "money"))
    return Year(told["queries"], Amount(**told["energy_kwh"]), kg, money)


def _candidate_from(told: JsonObject) -> CandidateRow:
    fields: JsonObject = {name: told[name] for name in _ROW_FIELDS if name in told or name not in _ROW_SINCE}
    amounts = {name: None if told[name] is None else Amount(**told[name]) for name in _ROW_AMOUNTS}
    counts = {name: CandidateCount(each["value"], each["bound"]) for name, each in told.get("counts", {}).items()}
    advice = _advice_from(told["advice"]) if "advice" in told else None
    return CandidateRow(**{**fields, **amounts, "counts": counts, "advice": advice})


def _advice_from(told: JsonObject) -> GivenAdvice:
    def change(each: JsonObject) -> AdvisedChange:
        amounts: JsonObject = {name: None if each[name] is None else Amount(**each[name]) for name in _ADVISED}
        return AdvisedChange(each["name"], tuple(each["code"]), **amounts, year=_year_from(each["year"]) if "year" in each else None)

    return GivenAdvice(tuple(map(change, told["do"])), told["in_vain"], tuple(told["notes"]))
