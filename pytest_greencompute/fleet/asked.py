"""What a fleet asks of the pytest processes that it starts, by their environment (``hooks.in_fleet`` answers), and what there is to run."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.machine.processes import last_line

TEST, LIST = "GREENCOMPUTE_FLEET_TEST", "GREENCOMPUTE_FLEET_LIST"
NOT_THE_COMMIT = 6  # exit status of a process that imported the project from elsewhere; pytest's own end at 5
PLUGIN_OPTIONS = ("-p", "pytest_greencompute.hooks.in_fleet", "-p", "no:cacheprovider")


@dataclass(frozen=True, slots=True)
class Collected:
    """The ids of the metered tests that pytest collects, and the options that its configuration file adds to those of the command line."""

    tests: tuple[str, ...]
    addopts: tuple[str, ...]


def collected(arguments: Sequence[str], root: Path) -> Collected:
    """What pytest collects in ``root`` with these arguments. Raises SettingsError for no metered test."""
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "tests.json"
        command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "--energy-only", *PLUGIN_OPTIONS, *arguments]
        done = subprocess.run(
            command, cwd=root, env={**os.environ, LIST: str(listed)}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            encoding="utf-8", errors="replace", check=False,
        )  # fmt: skip
        if done.returncode == 0:
            found = json.loads(listed.read_text(encoding="utf-8"))
            return Collected(tuple(found["tests"]), tuple(found["addopts"]))
    last = last_line(f"{done.stderr}\n{done.stdout}")
    raise SettingsError(f"pytest collected no metered test with `{shlex.join(arguments)}`: {last}", remedy="Try `pytest --collect-only`.")
