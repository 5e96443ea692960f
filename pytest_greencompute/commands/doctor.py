"""``greencompute doctor``: what every meter can do here, and the remedy for each refusal."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from pytest_greencompute.commands import BROKE, Arguments
from pytest_greencompute.commands.saying import tell
from pytest_greencompute.errors import GreencomputeError, SettingsError
from pytest_greencompute.machine import facts as machine
from pytest_greencompute.machine.clock import RealClock
from pytest_greencompute.meters.base import Ability, MeterOptions
from pytest_greencompute.meters.registry import ORDER_BY_DEFAULT, meter, names, reads_energy
from pytest_greencompute.report.escape import json_text
from pytest_greencompute.results.provenance_json import machine_to_json
from pytest_greencompute.store.devices import DeviceCache, Remembered
from pytest_greencompute.values.provenance import Machine

BELOW = len("  yes  ")  # what a meter says stands below each other


def run(given: Arguments, _: Path) -> int:
    """The command, without ``--deep``, which is a module of its own."""
    if asked := [f"--{name}" for name in ("load", "meter", "output") if given[name]]:
        raise SettingsError(f"{', '.join(asked)} is for a closer look.", remedy="Add --deep.")
    return doctor(as_json=given["json"])


def doctor(*, as_json: bool) -> int:
    """Print what every meter can do here. 1 where none works that reads rather than models; 4 where one broke besides."""
    options = MeterOptions(RealClock(), os.environ)
    found: dict[str, list[Ability]] = {}
    readers: list[str] = []
    broken: list[str] = []
    for name in names({}):
        try:
            known = meter(name, {})
        except GreencomputeError as error:
            broken.append(name)
            found[name] = [Ability("", works=False, says=error.message, remedy=error.remedy)]
            continue
        try:
            found[name] = [_checked(each) for each in known.abilities(options)]
            readers += [name] if reads_energy(known, found[name], options) else []
        except GreencomputeError as error:
            found[name] = [Ability("", works=False, says=error.message, remedy=error.remedy)]
        except (Exception, SystemExit) as error:  # noqa: BLE001  one that breaks must not hide the others
            broken.append(name)
            said = f"it broke while it was asked: {type(error).__name__}: {error}"
            found[name] = [Ability("", works=False, says=said, remedy="Its driver or library does not do what it should.")]
    facts = machine.facts(os.environ)
    remembered = DeviceCache.of(os.environ)
    if as_json:
        _print_json(found, facts, remembered)
    else:
        _print_abilities(found, facts, ORDER_BY_DEFAULT)
        _print_remembered(remembered)
        _print_what_to_list(readers, ORDER_BY_DEFAULT)
    return 0 if readers else BROKE if broken else 1


def _checked(given: object) -> Ability:
    """An ability as a meter gave it. Raises TypeError for what is none: meters may be anybody's."""
    if not isinstance(given, Ability):
        raise TypeError(f"{given!r} is no Ability")
    return given


def _print_json(found: Mapping[str, Sequence[Ability]], facts: Machine, remembered: DeviceCache) -> None:
    meters = [
        {"meter": name, "domain": each.domain, "works": each.works, "says": each.says, "remedy": each.remedy}
        for name, abilities in found.items()
        for each in abilities
    ]
    kept = [{"file": str(path), **(_as_json(each) if isinstance(each, Remembered) else {"left_aside": each})} for path, each in remembered]
    print(json_text({"machine": machine_to_json(facts), "meters": meters, "remembered": kept}, sys.stdout.encoding))


def _as_json(each: Remembered) -> dict[str, object]:
    return {"device": each.device, "driver": each.driver, "since": each.since.isoformat(), **asdict(each.behaviour)}


def _print_remembered(remembered: DeviceCache) -> None:
    """What earlier sessions have learnt of devices, and how it is forgotten."""
    kept = list(remembered)
    if remembered.problem:
        tell("")
        tell(f"nothing new can be remembered of devices: {remembered.problem}")
    if not kept:
        return
    tell("")
    tell("remembered of devices, and looked at again in each session (delete a file to forget it; remember_devices = false keeps none)")
    for path, each in kept:
        tell(f"  {path}: {_in_words(each) if isinstance(each, Remembered) else f'left aside, {each}'}")


def _in_words(each: Remembered) -> str:
    seen = each.behaviour
    lag = f", a lag of {seen.lag_s * 1e3:.0f} ms" if seen.lag_s else ""
    whole = ", sees all of the time" if seen.whole else ""
    ticks = f"ticks every {seen.tick_s * 1e3:.3g} ms{lag}{whole}, a read takes {seen.read_s * 1e3:.2g} ms"
    return f"{each.device or seen.domain}, {ticks}; driver {each.driver}, since {each.since:%Y-%m-%d}"


def _print_abilities(found: Mapping[str, Sequence[Ability]], facts: Machine, default: Sequence[str]) -> None:
    tell(f"{facts.cpu or 'unknown processor'}, {facts.os}, Python {facts.python}")
    tell("")
    for name, abilities in found.items():
        used = "used by default" if name in default else "only where listed"
        tell(f"{name} ({used})")
        for each in abilities:
            tell(f"  {'yes' if each.works else 'no '}  {f'{each.domain}: ' if each.domain else ''}{each.says}", BELOW)
            if each.remedy:
                tell(f"{' ' * BELOW}{each.remedy}", BELOW)


def _print_what_to_list(readers: Sequence[str], default: Sequence[str]) -> None:
    """What to write into the settings where none of the meters that are used by default works."""
    if not readers:
        tell("")
        tell("No meter reads energy here. To have a model of it, write under [tool.greencompute] in pyproject.toml:")
        tell('  meters = ["nvml", "rapl", "cputime"]')
    elif not set(readers) & set(default):
        tell("")
        tell(f'Nothing that reads energy here is used by default. List it: meters = ["{readers[0]}"] under [tool.greencompute].')
