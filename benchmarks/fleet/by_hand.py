"""What ``greencompute fleet`` costs over pytest by hand on the node itself, for real tests. Run: python benchmarks/fleet/by_hand.py

The same metered tests on one stand-in GPU, three ways: as a fleet of one node, as one call of pytest for each test, and as one session of
pytest. The first two do the same, so what lies between them is the fleet; the third collects, imports and opens its meters once for all.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tabulate import tabulate

from pytest_greencompute.testing.cluster import local_cluster

KIND = "V100"  # its counter ticks every 20 ms, so tests are short
CONFTEST = """
import pytest
from pytest_greencompute.testing.standin import StandIn

@pytest.fixture(scope="session")
def model():
    standin = StandIn.attach()

    def answer(batch):
        standin.work(0, 0.005 * len(batch), 250.0)
        return batch

    return answer
"""
TEST = """
def test_{number}(energy_meter, model):
    energy_meter.measure(model, list(range(8)))
"""
SETTINGS = """
[tool.greencompute]
meters = ["nvml"]
max_seconds = 1
[tool.greencompute.budgets."*"]
energy_per_query = "100 J"
"""
OPTIONS = ("--energy-budget", "--energy-only", "-p", "no:cacheprovider", "-q")


def write_project(folder: Path, tests: int) -> None:
    """A repository with so many tests."""
    files = {"conftest.py": CONFTEST, "pyproject.toml": SETTINGS, ".gitignore": ".greencompute/\n"}
    files["test_it.py"] = "".join(TEST.format(number=number) for number in range(tests))
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    author = ("-c", "user.name=Bench", "-c", "user.email=bench@example.org")
    for words in (("init", "-q"), ("add", "."), (*author, "commit", "-qm", "all")):
        subprocess.run(["git", *words], cwd=folder, check=True)


def by_hand(folder: Path, environ: Mapping[str, str], tests: Sequence[str]) -> None:
    """One call of pytest."""
    options = [*OPTIONS, f"--energy-json={folder / '.greencompute' / 'part.json'}"]
    command = [sys.executable, "-m", "pytest", *options, *tests]
    done = subprocess.run(command, cwd=folder, env={**os.environ, **environ}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def as_fleet(folder: Path) -> tuple[float, float, float]:
    """A fleet of one node, started for it: the seconds until its first part, from then to the last report, and the parts' own."""
    command = [sys.executable, "-m", "pytest_greencompute.cli", "fleet", "--ray", "local", "--hardware", KIND]
    began = time.monotonic()
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [(line, time.monotonic() - began) for line in process.stdout]
    first_s = next(at for line, at in said if " parts; " in line)
    ended = [(float(found[1]), at) for line, at in said if (found := re.search(r" in (\d+\.\d+) s$", line))]
    assert process.returncode == 0, said
    return first_s, ended[-1][1] - first_s, sum(own for own, _ in ended)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tests", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    rows = []
    for _ in range(given.rounds):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_project(folder, given.tests)
            first_s, parts_s, own_s = as_fleet(folder)
            with local_cluster([KIND]) as cluster:
                environ = cluster.environs[f"{KIND}-1"]
                began = time.monotonic()
                for number in range(given.tests):
                    by_hand(folder, environ, [f"test_it.py::test_{number}"])
                each_s = time.monotonic() - began
                by_hand(folder, environ, [])
                one_s = time.monotonic() - began - each_s
        rows.append((first_s, parts_s, own_s, each_s, one_s, (parts_s - each_s) / given.tests, (parts_s - one_s) / given.tests))
    of_all = ("until the first part", f"{given.tests} parts", "their own time", "pytest for each test", "one pytest for all")
    row = [f"{statistics.median(each):.2f} s" for each in zip(*rows, strict=True)]
    print(tabulate([row], (*of_all, "a part beyond the one", "beyond the other"), tablefmt="github"))


if __name__ == "__main__":
    main()
