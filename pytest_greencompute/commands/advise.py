"""``greencompute advise TEST``: what would make the model that a test measures cheaper, proven on the spot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pytest_greencompute.commands import Arguments
from pytest_greencompute.machine.processes import exit_status

NO_TEST_RAN = (4, 5)  # pytest's statuses for bad usage, and for having collected nothing


def run(given: Arguments, root: Path) -> int:
    """The command. 0: the advice was given, or there is none; 1: the test failed; 2: there is no such test, or it measures nothing; 128
    and its number: a signal has ended the test.
    """
    options = ["--energy-budget", "--energy-advise", "--energy-enforce", "warn"]
    options += ["--energy-advise-students"] if given.get("students") else []
    options += [f"--energy-{name}={given[name]}" for name in ("meter", "json", "html") if given.get(name)]
    status = subprocess.run([sys.executable, "-m", "pytest", "-q", *options, given["test"]], cwd=root, check=False).returncode
    return 2 if status in NO_TEST_RAN else exit_status(status)
