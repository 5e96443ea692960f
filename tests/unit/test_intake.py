"""What a fleet does with the parts that come: where they cannot be kept, each is missing by its name, and what has come is still judged."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from pytest_greencompute.commands.fleet import FOLDER, SECONDS, Intake
from pytest_greencompute.commands.gather import bench_of
from pytest_greencompute.errors import SettingsError
from pytest_greencompute.fleet.driving import PartEnd, drive
from pytest_greencompute.fleet.gathering import Gathering, Requirements
from pytest_greencompute.fleet.schedule import Host, PlannedPart, Schedule
from pytest_greencompute.settings.build import build
from pytest_greencompute.settings.settings import Expected

HOST = Host("1", "big", ("H100",))


class FullDisk:
    """An engine whose first part finds the folder of the reports gone, and no room for another."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[PlannedPart] = []

    def hosts(self) -> Sequence[Host]:
        return [HOST]

    def start(self, part: PlannedPart, host: Host) -> None:
        self._running.append(part)

    def wait(self) -> Iterable[tuple[PlannedPart, PartEnd]]:
        if self._folder.is_dir():
            shutil.rmtree(self._folder)
            self._folder.write_text("", encoding="utf-8")
        ended, self._running = self._running, []
        return [(part, PartEnd(report=b"{}" if part.test == "a" else None, why="it crashed", said="some words")) for part in ended]


def intake(root: Path, tests: Sequence[str]) -> Intake:
    settings = build({"budget": True}, (), {}, root)
    wanted = Requirements(pairs=Expected(("H100",), tuple(tests), 1))
    return Intake(Gathering(settings, bench_of(settings, root), wanted), root / FOLDER, root)


def test_a_report_that_cannot_be_kept_is_missing_with_the_reason_and_the_fleet_goes_on(tmp_path: Path) -> None:
    schedule, taken = Schedule(("a", "b"), ("H100",)), intake(tmp_path, ("a", "b"))
    taken.begin(schedule, [HOST])
    drive(schedule, FullDisk(tmp_path / FOLDER), taken, lambda: False)
    taken.keep_seconds()
    summary = taken.gathering.end("2026-01-01T00:00:00Z")
    reasons = {result.test: result.verdicts[0].reason for result in summary.results}
    assert "big: its report could not be written here: Not a directory" in reasons["a"]
    assert "big: it crashed" in reasons["b"]
    assert summary.exit_status == 1


@pytest.mark.parametrize("text", ['{"a": 1' + "0" * 400 + "}", '{"a": null}', '{"a": [1]}', "[1]", "[" * 100_000, "\x00", ""])
def test_seconds_that_somebody_made_up_are_not_known(tmp_path: Path, text: str) -> None:
    (tmp_path / FOLDER).mkdir(parents=True)
    (tmp_path / FOLDER / SECONDS).write_text(text, encoding="utf-8")
    assert intake(tmp_path, ("a",)).seconds() == {}


def test_a_folder_that_cannot_be_made_is_told_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / FOLDER.parts[0]).write_text("", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"fleet cannot be written: Not a directory\. Make room"):
        intake(tmp_path, ("a",)).begin(Schedule(("a",), ("H100",)), [HOST])
