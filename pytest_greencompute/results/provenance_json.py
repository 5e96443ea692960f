"""Provenance and machine as JSON has them, and back.

A file may be of an older version, of a newer one, or written by hand: what is not there, or is no value of its field, is not said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Any, TypeVar

from pytest_greencompute.values.footprint import Factors
from pytest_greencompute.values.provenance import (
    DEVICE_FIELDS,
    PACKAGES,
    TRACED,
    ByDomain,
    Device,
    Digests,
    Followed,
    Json,
    Machine,
    Moments,
    Provenance,
    Served,
    fits,
    plain,
)

PROTOCOL = "ai_energy_score"
_TEXTS = ("references", "score", "tokens", "reasoning", "repeats")  # fields of the same name, left out where nothing is said
_Part = TypeVar("_Part", Machine, Factors, Digests, Followed, Served, Device)


def machine_to_json(machine: Machine) -> dict[str, Json]:
    """Empty where nobody has looked; else every field, and the version of each package beside them."""
    found: dict[str, Json] = {}
    if machine != Machine():
        for each in fields(machine):
            found |= machine.versions if each.name == "versions" else {each.name: getattr(machine, each.name)}
    return found


def machine_from_json(told: object) -> Machine:
    """The machine that ``machine_to_json`` told of."""
    versions = {name: version for name in PACKAGES if isinstance(version := _mapping(told).get(name), str)}
    return _part(Machine, {**_mapping(told), "versions": versions}) or Machine()


def provenance_to_json(provenance: Provenance) -> dict[str, Json]:
    """As the run file has it; what nobody said is left out."""
    footprint, kept, digests, served = provenance.footprint, provenance.followed, provenance.queries, provenance.served
    moments = provenance.conditions
    metered = provenance.batch_size is not None or bool(provenance.devices)  # such a run lists its devices, even if there is none
    found: dict[str, Json] = {
        "machine": machine_to_json(provenance.machine) or None,
        "footprint": None if footprint is None else asdict(footprint),
        TRACED: provenance.traced,
        PROTOCOL: None if kept is None else asdict(kept),
        "queries": None if digests is None else {name: said for name, said in asdict(digests).items() if said is not None},
        **{name: getattr(provenance, name) for name in _TEXTS},
        "batch_size": provenance.batch_size,
        "devices": {domain: _device(device) for domain, device in provenance.devices.items()} if metered else None,
        "served": None if served is None else asdict(served),
        "conditions": None if moments is None else {"start": plain(moments.start), "end": plain(moments.end)},
    }
    return {name: value for name, value in found.items() if value is not None}


def provenance_from_json(told: Mapping[str, Any]) -> Provenance:
    """The provenance that ``provenance_to_json`` told of."""
    texts = {name: said for name in (TRACED, *_TEXTS) if isinstance(said := told.get(name), str)}
    size, moments = told.get("batch_size"), told.get("conditions")
    return Provenance(
        machine=machine_from_json(told.get("machine")),
        footprint=_part(Factors, told.get("footprint")),
        followed=_part(Followed, told.get(PROTOCOL)),
        queries=_part(Digests, told.get("queries")),
        batch_size=size if type(size) is int else None,
        devices={domain: _device_from(each) for domain, each in _mapping(told.get("devices")).items()},
        served=_part(Served, told.get("served")),
        conditions=Moments(_seen(moments.get("start")), _seen(moments.get("end"))) if isinstance(moments, Mapping) else None,
        **texts,
    )


def _device(device: Device) -> dict[str, Json]:
    known: dict[str, Json] = {name: said for name in DEVICE_FIELDS if (said := getattr(device, name)) is not None}
    return {**device.facts, **known}


def _device_from(told: object) -> Device:
    known = {name: _mapping(told).get(name) for name in DEVICE_FIELDS}
    return replace(_part(Device, known) or Device(), facts=_mapping(told))


def _seen(told: object) -> ByDomain:
    return {domain: _mapping(each) for domain, each in _mapping(told).items()}


def _part(kind: type[_Part], told: object) -> _Part | None:
    """What was said of a part of the provenance; None where it is not told of."""
    if not isinstance(told, Mapping):
        return None
    return kind(**{each.name: told[each.name] for each in fields(kind) if each.name in told and fits(told[each.name], each.type)})


def _mapping(told: object) -> Mapping[str, Any]:
    return told if isinstance(told, Mapping) else {}
