"""What a killed AI Energy Score measurement leaves behind: the passes that are over, and of what, so that the next session can go on.

Passes are only added to others of the same run: the same queries, model, device and versions, as far as can be told (``key_of``).
A state that is of something else, or that is broken, is laid aside under another name, and said.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_greencompute.errors import MADE_UP, SettingsError
from pytest_greencompute.estimates.stars import BATCH_SIZE, ScoreRequest
from pytest_greencompute.results.run_json import run_from_json, run_to_json
from pytest_greencompute.store.files import to_json, write_atomically
from pytest_greencompute.values.provenance import PACKAGES, Device, Machine
from pytest_greencompute.values.run import Run

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

SCHEMA = "greencompute.energy-score-state/1"
FOLDER = Path(".greencompute") / "energy-score"
_UNSAID = "none"
Key = Mapping[str, str]


def path_of(root: Path, state: object, test: str, name: str | None) -> Path:
    """Where the state lies: ``state`` below ``root``, or by default a file for each test and name. Raises SettingsError."""
    if state is None:
        return root / FOLDER / f"{hashlib.blake2b(repr((test, name)).encode(), digest_size=8).hexdigest()}.json"
    remedy = "Name a JSON file, such as state='score.json'."
    if not isinstance(state, str | os.PathLike):
        raise SettingsError(f"state is a {type(state).__name__}.", remedy=remedy)
    path = root / os.fsdecode(state)
    if path.suffix != ".json" or path.is_dir():
        raise SettingsError(f"state is {os.fsdecode(state)!r}.", remedy=remedy)
    return path


def key_of(
    run: tuple[str, str | None], asked: ScoreRequest, queries: tuple[str | None, int], devices: Mapping[str, Device], machine: Machine
) -> Key | None:
    """What must be the same for passes to belong together, in words; None where nothing tells these queries from others.

    ``run`` is the test and the run's name, ``queries`` their digest (``models.contents``) and number, ``devices`` those of each domain.
    """
    digest, count = queries
    if digest is None:
        return None
    rows: dict[str, object] = {
        "test": run[0],
        "run": run[1],
        "queries": digest,
        "number of queries": count,
        "batch size": BATCH_SIZE,
        # On whichever leaderboard they are rated, passes are the same.
        **{name.replace("_", " "): getattr(asked, name) for name in asked.__dataclass_fields__ if name != "reference"},
    }
    for domain, device in devices.items():
        rows |= {f"{domain} {name}": getattr(device, name) for name in ("meter", "method", "device", "uuid")}
        rows[f"{domain} power limit"] = device.facts.get("power_limit_w")
    rows |= {"commit": machine.commit, "dirty": machine.dirty, **{name: machine.versions.get(name) for name in PACKAGES}}
    return {name: _UNSAID if value is None else str(value) for name, value in rows.items()}


class ScoreState:
    """The state file of one run. ``key`` says of what it is; None: nothing is kept."""

    def __init__(self, path: Path, key: Key | None, root: Path) -> None:
        self._path = path
        self._key = key
        self._shown = os.path.relpath(path, root) if path.is_relative_to(root) else str(path)
        self._problem = ""

    def begin(self) -> tuple[Run | None, tuple[str, ...]]:
        """The passes to go on after, or None, and what is to be said of them. A place that cannot be written raises SettingsError now."""
        if self._key is None:
            return None, ("no state was kept to go on from: nothing tells these queries from others",)
        earlier, why_not = self._read(self._key)
        if earlier is not None:
            unknown = "; it has changes that no commit holds" if self._key["dirty"] == "True" else ""
            return earlier, (f"went on after pass {len(earlier.blocks)} of an interrupted session ({self._shown}{unknown})",)
        said: tuple[str, ...] = ()
        if why_not:
            aside = self._path.with_name(f"{self._path.stem}.unused.json")
            try:
                self._path.replace(aside)
            except OSError as error:
                raise SettingsError(f"{self._path} {why_not}, and cannot be moved: {error.strerror}.", remedy="Move it away.") from error
            said = (f"started afresh: {self._shown} {why_not}; it is kept as {aside.name}",)
        self._write(None)
        return None, said

    def keep(self, run: Run) -> None:
        """Write the passes so far. One that cannot be written does not end the measurement, which may have taken hours."""
        try:
            self._write(run)
        except SettingsError as error:
            self._problem = f"the passes since could not be kept: {error.message}"

    def end(self) -> tuple[str, ...]:
        """The run is complete: remove the state; what is to be said."""
        if self._key is not None:
            self._path.unlink(missing_ok=True)
        return (self._problem,) if self._problem else ()

    def _write(self, run: Run | None) -> None:
        if self._key is not None:
            kept = {"schema": SCHEMA, "key": dict(self._key), "run": None if run is None else run_to_json(run)}
            write_atomically(self._path, to_json(kept) + "\n")

    def _read(self, key: Key) -> tuple[Run | None, str]:
        """The run of the state, if it is of ``key``; else why it is not used, in words that follow the file's name (empty: there is none).

        Raises SettingsError for a file that is something else, which must not be moved, or that cannot be read.
        """
        try:
            data = json.loads(self._path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None, ""
        except OSError as error:
            raise SettingsError(f"{self._path} cannot be read: {error.strerror}.", remedy="Check its permissions.") from error
        except (ValueError, RecursionError) as error:
            return None, f"is broken ({error})"
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            raise SettingsError(f"{self._path} is no state of energy_score().", remedy="Name another file, or move that one away.")
        try:
            theirs, run = dict(data["key"]), data["run"]
            other = [f"{name}: {theirs.get(name, _UNSAID)} there, {key.get(name, _UNSAID)} here" for name in _unequal(theirs, key)]
            if other:
                return None, f"is of something else ({'; '.join(other)})"
            if run is None:
                return None, ""
            found = run_from_json(run)
            if not _whole(found, key):
                raise ValueError("its passes are not those of its key")
        except MADE_UP as error:
            return None, f"is broken ({type(error).__name__}: {error})"
        return found, ""


def _unequal(theirs: Mapping[str, Any], ours: Key) -> list[str]:
    return [name for name in dict.fromkeys((*ours, *theirs)) if theirs.get(name) != ours.get(name)]


def _whole(run: Run, key: Key) -> bool:
    """Whether the run holds what its key promises: whole passes over so many queries, in order, read by the same meters."""
    domains = {source.domain for source in run.sources}
    return (
        key["number of queries"] == str(run.queries)
        and run.batch_size == BATCH_SIZE
        and all(f"{domain} meter" in key for domain in domains)
        and sum(name.endswith(" meter") for name in key) == len(domains)
        and all(block.set_index == number for number, block in enumerate(run.blocks))
        and all(block.queries % run.queries == 0 and set(block.spans) == domains for block in run.blocks)
    )
