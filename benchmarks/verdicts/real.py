"""False alarms, misses and what a verdict takes on this machine: real programs against their own commit, each time in fresh processes.

Run: python benchmarks/verdicts/real.py numpy --unchanged 300
     python benchmarks/verdicts/real.py minilm --unchanged 40 --worse 20 --against ../before
     python benchmarks/verdicts/real.py readme --unchanged 20
     python benchmarks/verdicts/real.py minilm --unchanged 0 --queries 10 --calls 10

Each trial is one `pytest --energy-budget --energy-base-ref HEAD` in a scratch repository, whose files differ from HEAD by nothing, by
15 % more work in every call, or by the same spread otherwise: four times the work for each twentieth batch of the list (`--queries`), or in
each twentieth call (`--calls`). `readme` is examples/sentiment as it is, whose latency is compared as well: its word is the worst of its
verdicts. `--against TREE` measures each trial with the build in that checkout, too, by turns. `--peers` puts pytest-benchmark beside it, on
the same files: one run saved at the start, and each trial compared with it (`--benchmark-compare-fail=mean:5%`). Trials are kept in --keep
FILE as they come, so that a run that was cut goes on.
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

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "sentiment"
WORDS = ("PASS", "FAIL", "INCONCLUSIVE", "UNMEASURED")
# What a trial's files have in addition: more work in every call, for one batch of so many, or in one call of so many.
CHANGES = {"unchanged": "0.0, 0, 0", "+15 %": "0.15, 0, 0", "each 20th batch x4": "0.0, 20, 0", "each 20th call x4": "0.0, 0, 20"}

SETTINGS = """
[tool.greencompute]
meters = ["nvml", "rapl", "cputime"]
cpu_watts_per_core = 10
max_seconds = {seconds}
tolerance = "5%"
"""

WORK = """
EXTRA, BATCHES, CALLS = {change}


def with_extra(model):
    "The model, and EXTRA more of its calls, spread evenly; three more for one of BATCHES batches, and in one of CALLS calls."
    owed, calls, seen = 0.0, 0, {{}}

    def run(batch):
        nonlocal owed, calls
        calls += 1
        owed += EXTRA
        if BATCHES and seen.setdefault(str(batch[0]), len(seen)) % BATCHES == 7 or CALLS and calls % CALLS == 0:
            owed += 3
        while owed >= 1:
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

PROGRAMS = {"numpy": (NUMPY, 8), "minilm": (MINILM, 60), "readme": ("", 40)}
ENERGY = ("--energy-budget", "--energy-only", "--energy-base-ref", "HEAD", "--energy-json", "energy.json")
SPEED = ("-p", "no:greencompute", "-k", "test_speed", "--benchmark-quiet")


def prepared(program: str, seconds: float, *, peers: bool) -> Path:
    """A scratch repository with the program in one commit, and pytest-benchmark's run of it saved."""
    source, _ = PROGRAMS[program]
    folder = Path(tempfile.mkdtemp(prefix="greencompute-real-"))
    if program == "readme":
        shutil.copytree(EXAMPLE, folder, ignore_dangling_symlinks=True, dirs_exist_ok=True)
    else:
        (folder / "test_program.py").write_text(source, encoding="utf-8")
        (folder / "work.py").write_text(WORK.format(change=CHANGES["unchanged"]), encoding="utf-8")
        (folder / "pyproject.toml").write_text(SETTINGS.format(seconds=seconds), encoding="utf-8")
    (folder / ".gitignore").write_text("__pycache__/\n.benchmarks/\nenergy.json\n", encoding="utf-8")
    if program == "minilm":
        shutil.copy(EXAMPLE / "sentiment.py", folder)
        shutil.copytree(EXAMPLE / ".cache", folder / ".cache", ignore_dangling_symlinks=True)
    run(["git", "init", "-q", "-b", "main"], folder)
    run(["git", "add", "-A", "-f"], folder)
    run(["git", "-c", "user.name=bench", "-c", "user.email=bench@example.org", "commit", "-q", "-m", "the program"], folder)
    if peers:
        pytest_(folder, *SPEED, "--benchmark-save=saved")
    return folder


def run(command: Sequence[str], folder: Path, build: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(build)}
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)


def pytest_(folder: Path, *args: str, build: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *args], folder, build)


def trial(folder: Path, program: str, limit: float, change: str, build: Path, *, peers: bool) -> Mapping[str, Any]:
    """One comparison by each tool."""
    chosen = ()
    if program != "readme":
        (folder / "work.py").write_text(WORK.format(change=CHANGES[change]), encoding="utf-8")
        chosen = ("-k", "test_energy")
    (folder / "energy.json").unlink(missing_ok=True)
    start = time.monotonic()
    done = pytest_(folder, *ENERGY, *chosen, build=build)
    seconds = time.monotonic() - start
    (measured,) = json.loads((folder / "energy.json").read_text(encoding="utf-8"))["runs"]
    verdicts = [each for each in measured["verdicts"] if each["kind"] == "base_ref"]
    word = next(word for word in ("FAIL", "UNMEASURED", "INCONCLUSIVE", "PASS") if word in [each["verdict"] for each in verdicts])
    red = peers and pytest_(folder, *SPEED, "--benchmark-compare", "--benchmark-compare-fail=mean:5%").returncode != 0
    return {
        "program": program,
        "change": change,
        "limit": limit,
        "build": str(build),
        "word": word,
        "reasons": [each["reason"] for each in verdicts if each["verdict"] == word],
        "exit": done.returncode,
        "seconds": seconds,
        "peer_red": red if peers else None,
        "load": os.getloadavg()[0],
    }


def trials_of(kept: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()] if kept.exists() else []


def cell(trial: Mapping[str, Any]) -> tuple[str, str, float, str]:
    return trial["program"], trial["change"], trial["limit"], trial["build"]


def table(trials: Sequence[Mapping[str, Any]]) -> str:
    rows, medians = [], {}
    for program, change, limit, build in dict.fromkeys(map(cell, trials)):
        mine = [each for each in trials if cell(each) == (program, change, limit, build)]
        words = [each["word"] for each in mine]
        medians[program, change, limit, build] = statistics.median(each["seconds"] for each in mine)
        now = medians.get((program, change, limit, str(ROOT)))
        before = build != str(ROOT) and now is not None
        rows.append(
            [
                program,
                change,
                f"{limit:g} s",
                "this" if build == str(ROOT) else Path(build).name,
                len(mine),
                *(words.count(word) for word in WORDS),
                f"{medians[program, change, limit, build]:.0f} s",
                f"{now / medians[program, change, limit, build]:.2f}" if before and now is not None else "",
                "" if mine[0]["peer_red"] is None else f"{sum(each['peer_red'] for each in mine)} of {len(mine)}",
                f"{statistics.median(each['load'] for each in mine):.1f}",
            ]
        )
    headers = ["program", "work", "limit", "build", "trials", *WORDS, "a trial takes", "this / it", "pytest-benchmark red", "load"]
    return tabulate(rows, headers, tablefmt="github")


def main() -> None:
    parser = argparse.ArgumentParser(description="False alarms, misses and what a verdict takes on this machine.")
    parser.add_argument("program", choices=PROGRAMS, nargs="?", default="numpy")
    parser.add_argument("--seconds", type=float, help="longest time to measure (default: 8 for numpy, 60 for minilm)")
    parser.add_argument("--unchanged", type=int, default=2, help="comparisons of the program with itself (default: 2)")
    parser.add_argument("--worse", type=int, default=0, help="comparisons with 15 %% more work in every call (default: 0)")
    parser.add_argument("--queries", type=int, default=0, help="comparisons with four times the work for each 20th batch (default: 0)")
    parser.add_argument("--calls", type=int, default=0, help="comparisons with four times the work in each 20th call (default: 0)")
    parser.add_argument("--against", type=Path, help="measure each trial with the build in this checkout, too")
    parser.add_argument("--peers", action="store_true", help="compare with pytest-benchmark, too")
    parser.add_argument("--keep", type=Path, help="keep the trials in this file, and go on from what is in it")
    wanted = parser.parse_args()
    trials = trials_of(wanted.keep) if wanted.keep else []
    limit = wanted.seconds or PROGRAMS[wanted.program][1]
    builds = [ROOT, *([wanted.against.resolve()] if wanted.against else [])]
    folder = prepared(wanted.program, limit, peers=wanted.peers)
    for change, count in zip(CHANGES, (wanted.unchanged, wanted.worse, wanted.queries, wanted.calls), strict=True):
        for number in range(count):
            for build in builds:
                if sum(cell(each) == (wanted.program, change, limit, str(build)) for each in trials) > number:
                    continue
                trials.append(dict(trial(folder, wanted.program, limit, change, build, peers=wanted.peers)))
                if wanted.keep:
                    with wanted.keep.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(trials[-1]) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    print(table(trials))


if __name__ == "__main__":
    main()
