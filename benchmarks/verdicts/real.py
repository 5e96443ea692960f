"""False alarms and misses on this machine: real programs against their own commit, again and again, each time in fresh processes.

Run: python benchmarks/verdicts/real.py numpy --unchanged 300
     python benchmarks/verdicts/real.py minilm --unchanged 40 --worse 20

Each trial is one `pytest --energy-budget --energy-base-ref HEAD` in a scratch repository, whose files differ from HEAD by nothing, or by
15 % more work in every call. Beside it, on the same files, stands pytest-benchmark: one run saved at the start, and each trial compared
with it (`--benchmark-compare-fail=mean:5%`). Trials are kept in --keep FILE as they come, so that a run that was cut goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

EXAMPLE = Path(__file__).parents[2] / "examples" / "sentiment"
WORSE = 0.15

SETTINGS = """
[tool.greencompute]
meters = ["nvml", "rapl", "cputime"]
cpu_watts_per_core = 10
max_seconds = {seconds}
tolerance = "5%"
"""

WORK = """
EXTRA = {extra}


def with_extra(model):
    "The model, and EXTRA more of its calls, spread evenly."
    owed = 0.0

    def run(batch):
        nonlocal owed
        owed += EXTRA
        if owed >= 1:
            owed -= 1
            model(batch)
        return model(batch)

    return run
"""

NUMPY = """
import numpy as np
from work import with_extra

SIZE = 160
weights = [np.random.default_rng(layer).normal(size=(SIZE, SIZE)) / SIZE**0.5 for layer in range(6)]


def forward(batch):
    found = np.stack(batch)
    for layer in weights:
        found = np.maximum(found @ layer, 0.0)
    return list(found.argmax(axis=1))


queries = list(np.random.default_rng(7).normal(size=(256, SIZE)))
model = with_extra(forward)
batches = [queries[start : start + 32] for start in range(0, 256, 32)]


def test_energy(energy_meter):
    energy_meter.measure(model, queries, batch_size=32)


def test_speed(benchmark):
    benchmark(lambda: [model(batch) for batch in batches * 5])
"""

MINILM = """
import pytest
import sentiment
from work import with_extra

LINES = 128


@pytest.fixture(scope="session")
def model():
    return with_extra(sentiment.load_classifier())


@pytest.fixture(scope="session")
def reviews():
    return sentiment.by_length(sentiment.load_reviews()[1]).lines[::15][:LINES]


def test_energy(energy_meter, model, reviews):
    energy_meter.measure(model, reviews, batch_size=4)


def test_speed(benchmark, model, reviews):
    benchmark(lambda: [model(reviews[start : start + 4]) for start in range(0, LINES, 4)])
"""

PROGRAMS = {"numpy": (NUMPY, 8), "minilm": (MINILM, 20)}
ENERGY = ("--energy-budget", "--energy-only", "--energy-base-ref", "HEAD", "--energy-json", "energy.json", "-k", "test_energy")
SPEED = ("-p", "no:greencompute", "-k", "test_speed", "--benchmark-quiet")


def prepared(program: str, seconds: float) -> Path:
    """A scratch repository with the program in one commit, and pytest-benchmark's run of it saved."""
    source, _ = PROGRAMS[program]
    folder = Path(tempfile.mkdtemp(prefix="greencompute-real-"))
    (folder / "test_program.py").write_text(source, encoding="utf-8")
    (folder / "work.py").write_text(WORK.format(extra=0.0), encoding="utf-8")
    (folder / "pyproject.toml").write_text(SETTINGS.format(seconds=seconds), encoding="utf-8")
    (folder / ".gitignore").write_text("__pycache__/\n.benchmarks/\nenergy.json\n", encoding="utf-8")
    if program == "minilm":
        shutil.copy(EXAMPLE / "sentiment.py", folder)
        shutil.copytree(EXAMPLE / ".cache", folder / ".cache", ignore_dangling_symlinks=True)
    run(["git", "init", "-q", "-b", "main"], folder)
    run(["git", "add", "-A", "-f"], folder)
    run(["git", "-c", "user.name=bench", "-c", "user.email=bench@example.org", "commit", "-q", "-m", "the program"], folder)
    pytest_(folder, *SPEED, "--benchmark-save=saved")
    return folder


def run(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)


def pytest_(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *args], folder)


def trial(folder: Path, program: str, limit: float, *, extra: float) -> Mapping[str, Any]:
    """One comparison by each tool."""
    (folder / "work.py").write_text(WORK.format(extra=extra), encoding="utf-8")
    start = time.monotonic()
    done = pytest_(folder, *ENERGY)
    seconds = time.monotonic() - start
    (measured,) = json.loads((folder / "energy.json").read_text(encoding="utf-8"))["runs"]
    (verdict,) = [each for each in measured["verdicts"] if each["kind"] == "base_ref" and each["metric"] == "energy_per_query"]
    speed = pytest_(folder, *SPEED, "--benchmark-compare", "--benchmark-compare-fail=mean:5%")
    return {
        "program": program,
        "extra": extra,
        "limit": limit,
        "word": verdict["verdict"],
        "reason": verdict["reason"],
        "exit": done.returncode,
        "seconds": seconds,
        "peer_red": speed.returncode != 0,
        "load": os.getloadavg()[0],
    }


def trials_of(kept: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()] if kept.exists() else []


def cell(trial: Mapping[str, Any]) -> tuple[str, float, float]:
    return trial["program"], trial["extra"], trial["limit"]


def table(trials: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for program, extra, limit in dict.fromkeys(map(cell, trials)):
        mine = [each for each in trials if cell(each) == (program, extra, limit)]
        words = [each["word"] for each in mine]
        rows.append(
            [
                program,
                f"+{extra:.0%}" if extra else "unchanged",
                f"{limit:g} s",
                len(mine),
                *(words.count(word) for word in ("PASS", "FAIL", "INCONCLUSIVE", "UNMEASURED")),
                f"{statistics.median(each['seconds'] for each in mine):.0f} s",
                f"{sum(each['peer_red'] for each in mine)} of {len(mine)}",
                f"{statistics.median(each['load'] for each in mine):.1f}",
            ]
        )
    headers = [
        "program",
        "work",
        "limit",
        "trials",
        "PASS",
        "FAIL",
        "INCONCLUSIVE",
        "UNMEASURED",
        "a trial takes",
        "pytest-benchmark red",
        "load",
    ]
    return tabulate(rows, headers, tablefmt="github")


def main() -> None:
    parser = argparse.ArgumentParser(description="False alarms and misses on this machine.")
    parser.add_argument("program", choices=PROGRAMS, nargs="?", default="numpy")
    parser.add_argument("--seconds", type=float, help="longest time to measure a side (default: 8 for numpy, 20 for minilm)")
    parser.add_argument("--unchanged", type=int, default=2, help="comparisons of the program with itself (default: 2)")
    parser.add_argument("--worse", type=int, default=0, help=f"comparisons with {WORSE:.0%} more work (default: 0)")
    parser.add_argument("--keep", type=Path, help="keep the trials in this file, and go on from what is in it")
    wanted = parser.parse_args()
    trials = trials_of(wanted.keep) if wanted.keep else []
    limit = wanted.seconds or PROGRAMS[wanted.program][1]
    folder = prepared(wanted.program, limit)
    for extra, count in ((0.0, wanted.unchanged), (WORSE, wanted.worse)):
        for _ in range(count - sum(cell(each) == (wanted.program, extra, limit) for each in trials)):
            trials.append(dict(trial(folder, wanted.program, limit, extra=extra)))
            if wanted.keep:
                with wanted.keep.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(trials[-1]) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    print(table(trials))


if __name__ == "__main__":
    main()
