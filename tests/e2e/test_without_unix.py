"""A metered session needs no more of the system than Windows has: what Unix alone has is taken away, and a budget is judged all the same.

That is no Windows: docs/reference/platforms.md says what was read and what was tried.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

WITHOUT = """
import os, pathlib, signal, sys
sys.modules["resource"] = None
for home, names in (
    (signal, "SIGKILL SIGALRM SIGHUP SIGPROF SIGVTALRM setitimer getitimer ITIMER_REAL ITIMER_PROF ITIMER_VIRTUAL"),
    (os, "killpg getpgid setsid setpgrp sysconf getloadavg sched_getaffinity"),
):
    for name in names.split():
        if hasattr(home, name):
            delattr(home, name)
import pytest
import pytest_greencompute.machine.processes as processes
processes.PROC = pathlib.Path("no proc here")
sys.exit(pytest.main(sys.argv[1:]))
"""
TEST = """
import pytest


def model(batch):
    return [sum(range(2_000 + query)) % 2 for query in batch]


@pytest.mark.energy_budget(energy_per_query="{limit}")
def test_model(energy_meter):
    energy_meter.measure(model, list(range(16)), batch_size=8)
"""


def session(folder: Path, limit: str) -> subprocess.CompletedProcess[str]:
    (folder / "without.py").write_text(WITHOUT, encoding="utf-8")
    (folder / "test_model.py").write_text(TEST.format(limit=limit), encoding="utf-8")
    options = ["-q", "-p", "pytest_greencompute.plugin", "--energy-budget", "--energy-meter=cputime", "--energy-max-seconds=1"]
    environ = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "TMPDIR": str(folder)}
    words = [sys.executable, "without.py", *options, "test_model.py"]
    return subprocess.run(
        words, cwd=folder, env=environ, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", timeout=120
    )


def test_a_budget_is_green_and_red_without_what_unix_alone_has(tmp_path: Path) -> None:
    green = session(tmp_path, "5 J")
    assert green.returncode == 0, green.stdout
    assert "PASS" in green.stdout
    red = session(tmp_path, "1 nJ")
    assert red.returncode == 1, red.stdout
    assert "over its budget of 1 nJ" in red.stdout
