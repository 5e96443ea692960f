"""Which GPUs a process can see: CUDA_VISIBLE_DEVICES, read as CUDA reads it, and what ROCm has in its place. Pure.

Sources: CUDA C++ Programming Guide, "CUDA Environment Variables", table "Device Enumeration and Properties" (indices, UUIDs and their
beginnings, MIG, "only the devices whose index precedes the invalid index are visible"); for what the guide leaves open (numbers followed by
other characters, repeated entries, lists of both kinds) what PyTorch found the driver to do, ``torch.cuda._parse_visible_devices``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_greencompute.errors import MeterError

_NUMBER = re.compile(r"[+-]?[0-9]+")


@dataclass(frozen=True, slots=True)
class Visible:
    """What CUDA_VISIBLE_DEVICES leaves.

    ``gpus`` are places in CUDA's order of all devices, in the order in which the process sees them, each once. ``mig`` are entries that
    name MIG instances, which are no whole GPUs. ``by_index`` says that the entries were numbers, so that the answer depends on CUDA's
    order.
    """

    gpus: tuple[int, ...]
    mig: tuple[str, ...] = ()
    by_index: bool = False


def visible(value: str | None, uuids: Sequence[str]) -> Visible:
    """What is visible of the devices with these ``uuids``, given in CUDA's order, under CUDA_VISIBLE_DEVICES = ``value`` (None: not set).

    The first entry decides whether the list holds numbers, UUIDs (``GPU-``, of which a beginning that fits one GPU is enough) or MIG
    instances (``MIG-``). The list ends at the first entry that is invalid: of another kind, out of range, negative, no number, a beginning
    that fits no GPU or several. Repeating an entry makes the whole list invalid, and nothing is visible. Never raises.
    """
    if value is None:
        return Visible(tuple(range(len(uuids))))
    entries = value.split(",")
    if value.startswith("GPU-"):
        return Visible(_chosen([_by_uuid(entry, uuids) for entry in entries]))
    if value.startswith("MIG-"):
        return Visible((), mig=_instances(entries))
    return Visible(_chosen([_by_number(entry, len(uuids)) for entry in entries]), by_index=True)


def _chosen(places: Sequence[int | None]) -> tuple[int, ...]:
    chosen: list[int] = []
    for place in places:
        if place is None:
            break
        if place in chosen:
            return ()
        chosen.append(place)
    return tuple(chosen)


def _by_uuid(entry: str, uuids: Sequence[str]) -> int | None:
    if not entry.startswith("GPU-"):
        return None
    fitting = [place for place, uuid in enumerate(uuids) if uuid.startswith(entry)]
    return fitting[0] if len(fitting) == 1 else None


def _by_number(entry: str, count: int) -> int | None:
    # As C's strtoul: what follows the digits does not matter, so "1gpu" is 1.
    number = _NUMBER.match(entry.strip())
    place = int(number.group()) if number else -1
    return place if 0 <= place < count else None


def _instances(entries: Sequence[str]) -> tuple[str, ...]:
    named: list[str] = []
    for entry in entries:
        if not entry.startswith("MIG-"):
            break
        if entry in named:
            return ()
        named.append(entry)
    return tuple(named)


def visible_to_hip(environ: Mapping[str, str], uuids: Sequence[str]) -> tuple[int, ...]:
    """Places of the AMD GPUs that HIP shows to a process, of those with these ``uuids``, in the order in which PyTorch numbers them.

    ROCR_VISIBLE_DEVICES chooses first; HIP_VISIBLE_DEVICES (or, where that is not set, CUDA_VISIBLE_DEVICES) chooses among what it
    leaves (ROCm documentation, "GPU isolation techniques"). An entry is a number or a UUID; ``-1`` alone hides all.

    Raises MeterError for a list that is not wholly clear. ROCm cuts such a list off somewhere; to guess wrong would be to leave out a GPU.
    """
    places = tuple(range(len(uuids)))
    by_hip = environ.get("HIP_VISIBLE_DEVICES") or "CUDA_VISIBLE_DEVICES" not in environ
    for name in ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES" if by_hip else "CUDA_VISIBLE_DEVICES"):
        value = environ.get(name)
        if value is not None:
            places = tuple(places[each] for each in _listed(name, value, [uuids[place] for place in places]))
    return places


def _listed(name: str, value: str, uuids: Sequence[str]) -> list[int]:
    remedy = f"Write numbers, such as {name}=0, or unset it."
    if value.strip() == "-1":
        return []
    if not value.strip():
        raise MeterError(f"{name} is empty, which hides every AMD GPU from some programs and none from others.", remedy=remedy)
    chosen: list[int] = []
    for entry in (entry.strip() for entry in value.split(",")):
        fitting = [place for place, uuid in enumerate(uuids) if entry == str(place) or (len(entry) > 4 and uuid.startswith(entry))]
        if len(fitting) != 1 or fitting[0] in chosen:
            raise MeterError(f"{name}={value}: {entry!r} does not name one of the AMD GPUs, or not for the first time.", remedy=remedy)
        chosen += fitting
    return chosen
