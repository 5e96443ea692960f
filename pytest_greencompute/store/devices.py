"""How counters behave, as earlier sessions have seen it: one small file a device, in the user's cache. Looked at again, not trusted."""

from __future__ import annotations

import json
import os
import platform
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pytest_greencompute.errors import UNREADABLE, SettingsError
from pytest_greencompute.store.files import to_json, write_atomically
from pytest_greencompute.values.behaviour import Behaviour
from pytest_greencompute.values.provenance import Device

FORMAT = 2  # 1 took a lag that no work had shown for none
LONGEST_BYTES = 10_000


@dataclass(frozen=True, slots=True)
class Remembered:
    """What is known of one device: how its counter behaves, read by which meter under which driver, and when that was first seen."""

    device: str
    driver: str
    meter: str
    since: datetime
    behaviour: Behaviour


class DeviceCache:
    """The files in ``folder``; None: nothing is kept. ``now``, in UTC, is what time it is."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> DeviceCache:
        """The cache of the user whose environment this is: none where it names neither a cache nor a home, as in some containers."""
        places = Path(environ.get("XDG_CACHE_HOME", "")), Path(environ.get("HOME", ""), ".cache")
        cache = next((place for place in places if place.is_absolute()), None)
        return cls(None if cache is None else cache / "greencompute" / "devices")

    @property
    def problem(self) -> str:
        """Why nothing can be kept; empty where it can."""
        if self.folder is None:
            return "neither XDG_CACHE_HOME nor HOME names a folder"
        there = next(each for each in (self.folder, *self.folder.parents) if os.path.lexists(each))
        return "" if there.is_dir() and os.access(there, os.W_OK) else f"{there} cannot be written"

    def recall(self, domain: str, device: Device, now: datetime) -> tuple[Remembered | None, str]:
        """What is known of the device that is ``domain`` now; or None, and why what was kept does not count (empty: nothing was)."""
        path = self._path(domain, device)
        if path is None or not os.path.lexists(path):
            return None, ""
        try:
            found = _read(path, now)
        except UNREADABLE as error:
            return None, f"what was remembered of {domain} is left aside ({path}: {_said(error)}): it is looked at anew"
        if found.driver != _driver(device):
            was = f"driver {found.driver}, which is {_driver(device)} now"
            return None, f"what was remembered of {domain} is of {was}: it is looked at anew"
        if found.meter != _meter(device):
            was = f"meter {found.meter}, and it is read by {_meter(device)} now"
            return None, f"what was remembered of {domain} is of {was}: it is looked at anew"
        if (found.device, found.behaviour.uuid) != (device.device or "", device.uuid or ""):
            return None, f"what was remembered of {domain} is of another device, {found.device}: it is looked at anew"
        return replace(found, behaviour=replace(found.behaviour, domain=domain)), ""

    def keep(self, behaviours: Iterable[Behaviour], devices: Mapping[str, Device], now: datetime) -> str:
        """Keep what is known of devices, where it is new; why that could not be done, or nothing. One that fails costs no other."""
        problems = []
        for each in behaviours:
            device = devices.get(each.domain)
            path = None if device is None else self._path(each.domain, device)
            if device is None or path is None:
                continue
            # That a counter was seen to miss some of the time is no reason never to look again: noise can look like it.
            behaviour = replace(each, whole=each.whole or None)
            before, _ = self.recall(each.domain, device, now)
            if before is not None and _alike(before.behaviour, behaviour):
                continue
            kept = {"format": FORMAT, "device": device.device or "", "driver": _driver(device), "meter": _meter(device)}
            kept |= {"since": now.isoformat(timespec="seconds")}
            try:
                if path.is_symlink() or (path.exists() and not path.is_file()):
                    raise SettingsError(f"{path} is no file of ours")
                write_atomically(path, to_json({**kept, "behaviour": asdict(behaviour)}) + "\n")
            except (SettingsError, OSError) as error:
                problems.append(_said(error))
        return "; ".join(dict.fromkeys(problems))

    def __iter__(self) -> Iterator[tuple[Path, Remembered | str]]:
        """All files, each with what is in it or why that is left aside."""
        now = datetime.now(timezone.utc)
        for path in sorted(self.folder.glob("*.json")) if self.folder is not None else ():
            try:
                yield path, _read(path, now)
            except UNREADABLE as error:
                yield path, _said(error)

    def _path(self, domain: str, device: Device) -> Path | None:
        """Its file; None where nothing is kept, nor of a simulated device, which behaves as its test likes, nor of one on a host that
        others sample: how often they do is no trait of the device.
        """
        return (
            None
            if self.folder is None or device.facts.get("simulated") or device.facts.get("host")
            else self.folder / (re.sub(r"[^\w.-]", "_", device.uuid or domain) + ".json")
        )


def _read(path: Path, now: datetime) -> Remembered:
    """Raises ValueError with what is wrong, and whatever reading raises."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(handle, "rb") as file:
        state = os.fstat(handle)
        if not stat.S_ISREG(state.st_mode):
            raise ValueError("it is no file")
        if hasattr(os, "geteuid") and state.st_uid != os.geteuid():
            raise ValueError("it is another user's")
        text = file.read(LONGEST_BYTES + 1)
    if len(text) > LONGEST_BYTES:
        raise ValueError("it is too long")
    try:
        data: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ValueError("its format is unknown")
    since = datetime.fromisoformat(data["since"])
    if since > now:
        raise ValueError(f"it is of {since:%Y-%m-%d %H:%M}, which is yet to come")
    if not all(isinstance(data[name], str) for name in ("device", "driver", "meter")):
        raise ValueError("it names no device, driver and meter")
    behaviour = Behaviour(**data["behaviour"])
    if not isinstance(behaviour.domain, str) or not isinstance(behaviour.uuid, str) or behaviour.whole not in (True, None):
        raise ValueError("it does not say how a counter behaves")
    return Remembered(data["device"], data["driver"], data["meter"], since, behaviour)


def _driver(device: Device) -> str:
    """The driver's version; where a device has none of its own, that of the kernel that reads it."""
    return str(device.facts.get("driver") or platform.release())


def _meter(device: Device) -> str:
    """What reads it, and how: other meters tick otherwise on the same device."""
    return f"{device.meter} ({device.method})"


def _alike(one: Behaviour, other: Behaviour) -> bool:
    """Whether there is nothing to be kept anew: what is measured again differs a little each time."""
    alike = (one.lag_s, one.lag_shown, one.whole) == (other.lag_s, other.lag_shown, other.whole)
    return alike and abs(one.tick_s - other.tick_s) <= other.jitter_s + 0.01 * other.tick_s


def _said(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else "") or str(error) or type(error).__name__
