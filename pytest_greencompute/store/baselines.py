"""Baselines: ``.greencompute/baselines/NAME/`` holds one JSON report per saved session, oldest first by name."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.results.document import document
from pytest_greencompute.results.run_json import read_runs
from pytest_greencompute.results.summary import Summary
from pytest_greencompute.store.files import check_writable, to_json, write_atomically
from pytest_greencompute.store.history import History, points_of
from pytest_greencompute.store.reports import read_session
from pytest_greencompute.values.run import Run

FOLDER = Path(".greencompute") / "baselines"
KEPT = 20  # the newest sessions whose runs are judged by; older ones say little of today's machine


@dataclass(frozen=True, slots=True)
class Files:
    """JSON reports as saved sessions (``store.runs.Saved``)."""

    paths: tuple[Path, ...] = ()

    @classmethod
    def of(cls, folder: Path) -> Files:
        """Those of a folder, oldest first by name."""
        return cls(tuple(sorted(folder.glob("*.json"), key=lambda path: path.stem)))

    def __len__(self) -> int:
        return len(self.paths)

    def runs(self) -> tuple[tuple[Run, ...], ...]:
        """The runs of the newest, one tuple per session. Raises SettingsError for a broken file."""
        return tuple(read_runs(path) for path in self.paths[-KEPT:])

    def sessions(self) -> list[Summary]:
        """All sessions. Raises SettingsError for a broken file."""
        return [read_session(path) for path in self.paths]


@dataclass(frozen=True, slots=True)
class Baselines:
    """The baselines of the project in ``home`` (``store.runs.Store``)."""

    home: Path

    @property
    def where(self) -> str:
        """The folder, below the project's."""
        return str(FOLDER)

    def folder_of(self, name: str) -> Path:
        """Where the sessions of baseline ``name`` lie."""
        return self.home / FOLDER / name

    def save(self, name: str, session: Summary) -> str:
        """Add a session to a baseline; returns the new file. Another session that saves at the same moment gets one of its own."""
        stamp = session.created.replace(":", "").replace("-", "")
        text = to_json(document(session)) + "\n"
        for number in itertools.count(1):
            # In order of name up to 999 in one second.
            path = self.folder_of(name) / (f"{stamp}.json" if number == 1 else f"{stamp}-{number:03}.json")
            with contextlib.suppress(FileExistsError):
                write_atomically(path, text, new=True)
                break
        return str(path)

    def check(self, name: str) -> None:
        """Raises SettingsError where no session could be added to a baseline."""
        check_writable(self.folder_of(name) / "session.json")

    def named(self, name: str) -> Files:
        """The sessions of a baseline. Raises SettingsError where a file has the name of its folder."""
        folder = self.folder_of(name)
        if folder.exists() and not folder.is_dir():
            raise SettingsError(f"{folder} is a file, and should be the folder of baseline {name!r}.", remedy="Move it away.")
        return Files.of(folder)

    def history(self, names: Sequence[str] = (), *, newest: int | None = None) -> History:
        """The figures of all sessions, or of some. A file that is broken is said, and the others stand."""
        paths = [path for path in (self.home / FOLDER).glob("*/*.json") if not names or path.parent.name in names]
        paths.sort(key=lambda path: (path.stem.partition("-")[0], path.parent.name, path.stem))  # it begins with when it was saved
        points, problems = [], []
        for path in paths[-newest:] if newest else paths:
            try:
                points += points_of(path.parent.name, read_session(path, samples=False))
            except SettingsError as error:
                problems.append(str(error))
        return History(tuple(sorted(points, key=lambda each: each.created)), tuple(problems))
