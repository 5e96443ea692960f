"""Which GPUs a process can see: CUDA_VISIBLE_DEVICES, read as CUDA reads it. Pure.

Sources: CUDA C++ Programming Guide, "CUDA Environment Variables", table "Device Enumeration and Properties" (indices, UUIDs and their
beginnings, MIG, "only the devices whose index precedes the invalid index are visible"); for what the guide leaves open (numbers followed by
other characters, repeated entries, lists of both kinds) what PyTorch found the driver to do, ``torch.cuda._parse_visible_devices``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

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
