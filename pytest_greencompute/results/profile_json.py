"""Profiles and explanations as JSON, and back. What is worked out of the profiles is written, too, and worked out again when read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from pytest_greencompute.explaining.difference import LevelDifference, Place
from pytest_greencompute.explaining.explanation import explained
from pytest_greencompute.explaining.profile import Cost, Factor, Joules, Level, Profile
from pytest_greencompute.explaining.risen import Risen
from pytest_greencompute.results.result import Explained
from pytest_greencompute.results.run_json import JsonObject
from pytest_greencompute.values.provenance import Json

_TEXTS = ("inside", "dtype", "device", "shape")  # of a row, left out where they are empty
_COUNTS = ("calls", "flops", "operators")
_RISEN = ("base_j", "head_j", "low", "high", "confidence", "base_sd")


def profile_to_json(profile: Profile) -> dict[str, Json]:
    """One side: seconds per query, of each repeated pass."""
    return {
        "queries": profile.queries,
        "counted": profile.counted,
        "factors": [{"name": each.name, "value": each.value, "unit": each.unit} for each in profile.factors],
        "levels": [
            {
                "kind": each.kind,
                "clock": each.clock,
                "seconds": list(each.seconds),
                "rows": [_cost(cost) for cost in each.costs],
                "notes": list(each.notes),
                **({} if each.metered is None else {"metered": asdict(each.metered)}),
            }
            for each in profile.levels
        ],
        "notes": list(profile.notes),
    }


def _cost(cost: Cost) -> dict[str, Json]:
    texts = {name: said for name in _TEXTS if (said := getattr(cost, name))}
    counts = {name: getattr(cost, name) for name in _COUNTS}
    replayed = {} if cost.replayed is None else {"replayed": asdict(cost.replayed)}
    return {"name": cost.name, "seconds": list(cost.seconds), **counts, **texts, **replayed}


def profile_from_json(told: JsonObject) -> Profile:
    """The profile that ``profile_to_json`` told. Raises KeyError, TypeError, ValueError or GreencomputeError where it is none."""
    return Profile(
        tuple(Factor(_text(each["name"]), _value(each["value"]), _text(each["unit"])) for each in told["factors"]),
        tuple(
            Level(
                each["kind"],
                each["clock"],
                _numbers(each["seconds"]),
                tuple(_cost_from(cost) for cost in each["rows"]),
                tuple(map(_text, each["notes"])),
                _joules(each.get("metered")),
            )
            for each in told["levels"]
        ),
        tuple(map(_text, told["notes"])),
        int(told["queries"]),
        int(told.get("counted", 0)),
    )


def _cost_from(told: JsonObject) -> Cost:
    calls, flops, operators = (None if told[name] is None else float(told[name]) for name in _COUNTS)
    inside, dtype, device, shape = (_text(told.get(name, "")) for name in _TEXTS)
    replayed = _joules(told.get("replayed"))
    return Cost(_text(told["name"]), _numbers(told["seconds"]), calls, flops, inside, dtype, device, shape, operators, replayed)


def _joules(told: JsonObject | None) -> Joules | None:
    return None if told is None else Joules(float(told["mean"]), float(told["error"]))


def _text(told: Any) -> str:
    if not isinstance(told, str):
        raise TypeError(f"{told!r} stands where a text should")
    return told


def _value(told: Any) -> float | str:
    return told if isinstance(told, str) else float(told)


def _numbers(told: Sequence[Any]) -> tuple[float, ...]:
    return tuple(float(each) for each in told)


def explained_to_json(made: Explained) -> dict[str, Json]:
    """Why a run uses more than at a commit: what both sides did, and the places that the difference is told by."""
    found = made.explanation
    return {
        "ref": made.ref,
        "where": made.where,
        "energy": {name: getattr(found.risen, name) for name in _RISEN},
        "base": profile_to_json(found.base),
        "head": profile_to_json(found.head),
        "product": [asdict(each) for each in found.terms],
        "changed": [asdict(each) for each in found.changed],
        "levels": [_level(each) for each in found.levels],
        "notes": list(found.notes),
    }


def _level(level: LevelDifference) -> dict[str, Json]:
    return {
        "kind": level.kind,
        "clock": level.clock,
        "places": [_place(each) for each in level.places],
        "not_attributed_j": level.unattributed_j,
        "notes": list(level.notes),
    }


def _place(place: Place) -> dict[str, Json]:
    left_out = {"parts", "kind", "own"}
    pairs = {each.name: getattr(place, each.name) for each in fields(place) if each.name not in left_out}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in pairs.items()}


def explained_from_json(told: JsonObject) -> Explained:
    """What ``explained_to_json`` told, worked out again. Raises as ``profile_from_json`` does."""
    risen = Risen(**{name: float(told["energy"][name]) for name in _RISEN})
    return Explained(_text(told["ref"]), explained(profile_from_json(told["base"]), profile_from_json(told["head"]), risen))
