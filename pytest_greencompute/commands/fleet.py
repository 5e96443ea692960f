"""``greencompute fleet --ray ADDRESS --hardware "H100,L4" -- PYTEST ARGUMENTS``: one verdict over the nodes of a cluster."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pytest_greencompute.commands import Arguments
from pytest_greencompute.commands.gather import bench_of, ended, outputs_of
from pytest_greencompute.commands.saying import tell
from pytest_greencompute.errors import UNREADABLE, SettingsError
from pytest_greencompute.fleet.asked import collected
from pytest_greencompute.fleet.code import Code
from pytest_greencompute.fleet.driving import PartEnd, Stopping, drive
from pytest_greencompute.fleet.gathering import PLUGIN, Gathering, Requirements
from pytest_greencompute.fleet.node import Errand
from pytest_greencompute.fleet.on_ray import RayFleet, connected
from pytest_greencompute.fleet.schedule import Host, PlannedPart, Schedule
from pytest_greencompute.machine.ci import as_in_ci
from pytest_greencompute.settings import parse
from pytest_greencompute.settings.addopts import options_in
from pytest_greencompute.settings.build import build
from pytest_greencompute.settings.finding import home_of, read_nearest
from pytest_greencompute.settings.settings import Expected, Settings
from pytest_greencompute.store.files import check_writable, write_atomically

STARTED_HERE = {"local": "pytest_greencompute.testing.cluster"}  # addresses that stand for a cluster which is started, by its module
FOLDER = Path(".greencompute", "fleet")
SECONDS = "seconds.json"
MOST_GPUS = 16  # of one node

OF_THE_WHOLE = "Write the report of all hosts instead: -o PATH, before the --."
# Options of ours that a part cannot take, since what they read or write is not on its host.
NOT_OF_A_PART: Mapping[str, str] = {
    **dict.fromkeys(("json", "html", "markdown", "openmetrics", "codecarbon_csv"), OF_THE_WHOLE),
    "save": "Save with pytest on one host of each kind.",
    "update": "Update budgets with pytest on one host.",
    "baseline": "Judge all hosts by it: --baseline NAME, before the --.",
    "budget_file": "Name it in pyproject.toml: budget_file = PATH.",
    "skip": "Only metered tests are measured.",
}


def run(given: Arguments, root: Path) -> int:
    """The command. 0: green; 1: red, and where parts are missing; SettingsError for bad usage, before anything runs."""
    arguments = given["arguments"]
    found = collected(arguments, root)
    settings = _settings(arguments, found.addopts, given["baseline"], root)
    hardware = parse.hardware(given["hardware"]) if given["hardware"] is not None else settings.fleet.hardware
    if not hardware:
        raise SettingsError("Which kinds of hardware are to measure?", remedy='Name them: --hardware "H100,L4".')
    repeat = settings.fleet.hosts if given["repeat"] is None else parse.hosts(given["repeat"])
    longest_s, gpus = _seconds(given["timeout"]), _gpus(given["gpus"])
    outputs = outputs_of(given["output"], root)
    for path, _ in outputs:
        check_writable(path)
    code = Code(root, settings, os.environ, [path for path, _ in outputs])
    wanted = Requirements(code.commit, version(PLUGIN), Expected(hardware, found.tests, repeat))
    intake = Intake(Gathering(settings, bench_of(settings, root), wanted), home_of(root) / FOLDER, root)
    schedule = Schedule(found.tests, hardware, repeat, intake.seconds())
    with _cluster(given["ray"], hardware) as (ray, environs):

        def errand(part: PlannedPart, host: Host) -> Errand:
            return Errand(part.test, tuple(arguments), environs.get(host.name, {}), longest_s)

        fleet = RayFleet(ray, hardware, errand, gpus)
        try:
            sent = code.sent(secrets.token_hex(4))
            fleet.carry(sent, code.archive(sent))
            intake.begin(schedule, fleet.hosts())
            with Stopping() as stopping:
                drive(schedule, fleet, intake, lambda: stopping.asked)
            intake.keep_seconds()
            return ended(intake.gathering, outputs, root)
        finally:
            fleet.close()


def _settings(arguments: Sequence[str], addopts: Sequence[str], baseline: str | None, root: Path) -> Settings:
    """Those that the parts will have. Raises SettingsError."""
    typed, told = options_in(arguments), options_in([*addopts, *arguments])
    for key, remedy in NOT_OF_A_PART.items():
        if key in told:
            named = f"--energy-{key.replace('_', '-')}" + ("" if key in typed else " (in addopts)")
            more = "" if key in typed else " Behind the --, -o addopts= leaves all of addopts out."
            raise SettingsError(f"{named} is of no use in a part of a fleet.", remedy=remedy + more)
    own = {} if baseline is None else {"baseline": baseline}
    return build({**told, "budget": True, **own}, read_nearest(root), as_in_ci(os.environ), root)


def _seconds(written: str) -> float:
    try:
        seconds = float(written)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= 86_400:  # a day
        raise SettingsError(f"--timeout: {written!r} is no time that a part may take.", remedy="Write seconds, from 1 to 86400.")
    return seconds


def _gpus(written: str) -> int:
    if not written.isdecimal() or not 1 <= int(written) <= MOST_GPUS:
        raise SettingsError(f"--gpus: {written!r} is no number of GPUs.", remedy=f"Write a whole number from 1 to {MOST_GPUS}.")
    return int(written)


@contextmanager
def _cluster(address: str, hardware: Sequence[str]) -> Iterator[tuple[Any, Mapping[str, Mapping[str, str]]]]:
    """Ray, and what the processes on a node are told by their environment, by the node's name."""
    if address not in STARTED_HERE:
        with connected(address) as ray:
            yield ray, {}
        return
    tell("a Ray cluster on this machine, with stand-in GPUs: the figures are of no real card")
    with import_module(STARTED_HERE[address]).local_cluster(hardware) as local, connected(local.address) as ray:
        yield ray, local.environs


class Intake:
    """Takes parts in as they come: their reports are kept in ``folder``, and gathered at once. Says what becomes of them."""

    def __init__(self, gathering: Gathering, folder: Path, root: Path) -> None:
        self.gathering, self._folder, self._root = gathering, folder, root
        self._schedule = Schedule((), ())

    def begin(self, schedule: Schedule, hosts: Sequence[Host]) -> None:
        """Make room, and say what is to come. Raises SettingsError where reports cannot be kept."""
        self._schedule = schedule
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for old in self._folder.iterdir():
                if re.fullmatch(r"\d{4,}-.*\.(json|txt)", old.name):
                    old.unlink()
        except OSError as error:
            remedy = "Make room for the reports there."
            raise SettingsError(f"{self._folder} cannot be written: {error.strerror}.", remedy=remedy) from error
        for host in hosts:
            tell(f"{host.name}: {', '.join(host.kinds)}, {host.rooms} part{'s' if host.rooms > 1 else ''} at a time")
        tell(f"{len(schedule.parts)} parts; their reports come to {os.path.relpath(self._folder, self._root)}")

    def came(self, part: PlannedPart, host: Host, outcome: PartEnd) -> None:
        """A part's report has come. One that cannot be kept, as where the disk is full, costs no other."""
        path = self._path(part, ".json")
        try:
            path.write_bytes(outcome.report or b"")
        except OSError as error:
            self.lost(part, f"{host.name}: its report could not be written here: {error.strerror}")
            return
        self._keep_said(part, outcome)
        self.gathering.read(path, os.path.relpath(path, self._root))
        tell(f"{self._count()} {host.name}: {_called(part)} in {outcome.seconds:.1f} s")

    def again(self, part: PlannedPart, host: Host, outcome: PartEnd) -> None:
        """A part was lost with its host."""
        tell(f"{host.name}: {outcome.why}; {_called(part)} is tried on another")

    def lost(self, part: PlannedPart, why: str) -> None:
        """A part will not come."""
        self.gathering.lost.setdefault((part.test, part.hardware), why)
        tell(f"{self._count()} lost: {_called(part)}: {why}")

    def failed(self, part: PlannedPart, outcome: PartEnd) -> None:
        """A part ended without a report: what it said is kept."""
        self._keep_said(part, outcome)

    def _count(self) -> str:
        total = f"{len(self._schedule.parts)}"
        return f"{len(self._schedule.done) + len(self._schedule.lost):>{len(total)}}/{total}"

    def _keep_said(self, part: PlannedPart, outcome: PartEnd) -> None:
        with suppress(OSError):  # only for people
            if outcome.said:
                self._path(part, ".txt").write_text(outcome.said, encoding="utf-8")

    def _path(self, part: PlannedPart, ending: str) -> Path:
        name = re.sub(r"[^\w.-]+", "-", f"{part.hardware}-{part.test.rpartition('::')[2]}-{part.repetition}")[:80]
        return self._folder / f"{part.number:04}-{name}{ending}"

    def seconds(self) -> dict[str, float]:
        """How long tests took in an earlier fleet; empty where nobody knows."""
        try:
            known = json.loads((self._folder / SECONDS).read_text(encoding="utf-8"))
            return {str(test): float(seconds) for test, seconds in known.items()}
        except UNREADABLE:
            return {}

    def keep_seconds(self) -> None:
        """For the next fleet."""
        with suppress(SettingsError):  # its order is then another, and nothing else
            write_atomically(self._folder / SECONDS, json.dumps(dict(self._schedule.seconds)))


def _called(part: PlannedPart) -> str:
    again = f" ({part.repetition})" if part.repetition > 1 else ""
    return f"{part.test} on {part.hardware}{again}"
