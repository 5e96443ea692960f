"""What a project keeps of its measured sessions: the interface behind which every store stands.

Today that is folders of files (``store.baselines``). A database is a class with the same methods, and another answer of ``store_of``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from pytest_greencompute.results.summary import Summary
from pytest_greencompute.store.baselines import Baselines, Files
from pytest_greencompute.store.history import History
from pytest_greencompute.values.run import Run


class Saved(Protocol):
    """Sessions that were saved under one name, oldest first. Its truth is whether there is any."""

    def __len__(self) -> int: ...

    def runs(self) -> Sequence[Sequence[Run]]:
        """The runs of the newest sessions, to be judged by. Raises SettingsError for one that cannot be read."""

    def sessions(self) -> Sequence[Summary]:
        """All of them, to be shown. Raises SettingsError for one that cannot be read."""


class Store(Protocol):
    """The sessions of one project, by the name of the baseline that they were saved for."""

    @property
    def where(self) -> str:
        """What people call the place."""

    def save(self, name: str, session: Summary) -> str:
        """Keep a session, beside those that are there; what people call where it is. Raises SettingsError where that cannot be done."""

    def check(self, name: str) -> None:
        """Raises SettingsError where ``save`` will: before anything is measured."""

    def named(self, name: str) -> Saved:
        """Those of one baseline; empty where there is none."""

    def history(self, names: Sequence[str] = (), *, newest: int | None = None) -> History:
        """The figures of all, or of the baselines named; of the ``newest`` sessions alone, if given. What cannot be read is said in it."""


def store_of(home: Path) -> Store:
    """The store of the project whose settings are in ``home``."""
    return Baselines(home)


def saved_as(name: str, root: Path, store: Store) -> Saved:
    """What a person means by ``name``: a JSON report or a folder of them below ``root``, else a baseline of the store."""
    path = root / name
    if path.is_file():
        return Files((path,))
    return Files.of(path) if path.is_dir() else store.named(name)
