"""Baselines: ``.greencompute/baselines/NAME/`` holds one run file per saved session, oldest first by name."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path
from typing import Any

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.results.run_json import read_runs
from pytest_greencompute.store.files import to_json, write_atomically
from pytest_greencompute.values.run import Run

FOLDER = Path(".greencompute") / "baselines"
KEPT = 20  # the newest runs that are read; older ones say little of today's machine


def folder_of(root: Path, name: str) -> Path:
    """Where the runs of baseline ``name`` lie below the project's root."""
    return root / FOLDER / name


def save(root: Path, name: str, report: dict[str, Any]) -> Path:
    """Add a session's report to a baseline; returns the new file. Another session that saves at the same moment gets one of its own."""
    stamp = report["created"].replace(":", "").replace("-", "")
    text = to_json(report) + "\n"
    folder = folder_of(root, name)
    for number in itertools.count(1):
        path = folder / (f"{stamp}.json" if number == 1 else f"{stamp}-{number:03}.json")  # in order of name up to 999 in one second
        with contextlib.suppress(FileExistsError):
            write_atomically(path, text, new=True)
            break
    return path


def load(root: Path, name: str) -> tuple[tuple[Run, ...], ...]:
    """The runs of a baseline, one tuple per saved session; empty where there is none. Raises SettingsError for a broken file."""
    folder = folder_of(root, name)
    if folder.exists() and not folder.is_dir():
        raise SettingsError(f"{folder} is a file, and should be the folder of baseline {name!r}.", remedy="Move it away.")
    return load_folder(folder) if folder.is_dir() else ()


def load_folder(folder: Path) -> tuple[tuple[Run, ...], ...]:
    """The runs of a folder of reports, one tuple per session, oldest first by name. Raises SettingsError for a broken file."""
    return tuple(read_runs(path) for path in sorted(folder.glob("*.json"), key=lambda path: path.stem)[-KEPT:])
