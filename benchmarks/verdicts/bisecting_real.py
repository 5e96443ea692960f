"""``greencompute bisect`` on this machine, beside ``git bisect run``. Run: python benchmarks/verdicts/bisecting_real.py --keep trials.jsonl

Each history is a scratch repository of 32 commits around MiniLM (``real.py``), one of which makes the test dearer: 15 % more work in every
call, from a different place in each history on. ``git bisect run`` measures the good commit once, and calls a commit bad whose one run is
more than half of the rise above that: what people write today. Trials are kept in --keep FILE, so that a run that was cut goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from real import CHANGES, WORK, prepared, run
from tabulate import tabulate

COMMITS, RISE = 32, 0.15
PLACES = (3, 9, 16, 22, 30)  # of 32: near both ends, and between
TEST = "test_program.py::test_energy"
ME = ("-c", "user.name=bench", "-c", "user.email=bench@example.org")
MEASURE = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", TEST, "--energy-budget", "--energy-json", "energy.json")
STEP = """
import json, os, subprocess, sys
done = subprocess.run({measure!r}, capture_output=True)
(run,) = json.load(open("energy.json"))["runs"]
os.remove("energy.json")
sys.exit(run["metrics"]["energy_per_query"]["value"] > {threshold!r})
"""


def history(place: int, seconds: float) -> tuple[Path, str]:
    """A repository whose commit number ``place`` is the guilty one, and its name."""
    folder, guilty = prepared("minilm", seconds, peers=False), ""
    run(["git", "tag", "good"], folder)
    for number in range(1, COMMITS + 1):
        (folder / "NOTES").write_text(f"Change {number}\n", encoding="utf-8")
        if number == place:
            (folder / "work.py").write_text(WORK.format(change=CHANGES["+15 %"]), encoding="utf-8")
        run(["git", "add", "-A"], folder)
        run(["git", *ME, "commit", "-q", "-m", f"Change {number}"], folder)
        if number == place:
            guilty = run(["git", "rev-parse", "HEAD"], folder).stdout.strip()
    return folder, guilty


def by_greencompute(folder: Path, guilty: str) -> Mapping[str, Any]:
    """What the search found."""
    command = [sys.executable, "-m", "pytest_greencompute.cli", "bisect", "--good", "good", "--bad", "HEAD", TEST, "--json", "found.json"]
    done = run(command, folder)
    if not (folder / "found.json").exists():
        return {"right": False, "said": (done.stdout + done.stderr)[-2000:]}
    found = json.loads((folder / "found.json").read_text(encoding="utf-8"))
    return {"right": [each["sha"] for each in found["suspects"]] == [guilty], "said": done.stdout[-2000:]}


def by_git(folder: Path, guilty: str) -> Mapping[str, Any]:
    """What ``git bisect run`` found with one stored run."""
    run(["git", "checkout", "-q", "good"], folder)
    run(MEASURE, folder)
    (stored,) = json.loads((folder / "energy.json").read_text(encoding="utf-8"))["runs"]
    threshold = stored["metrics"]["energy_per_query"]["value"] * (1 + RISE / 2)
    step = folder / ".git" / "step.py"
    step.write_text(STEP.format(measure=MEASURE, threshold=threshold), encoding="utf-8")
    run(["git", "bisect", "start", "main", "good"], folder)
    done = run(["git", "bisect", "run", sys.executable, str(step)], folder)
    return {"right": f"{guilty} is the first bad commit" in done.stdout, "said": done.stdout[-2000:]}


TOOLS = {"greencompute bisect": by_greencompute, "git bisect run": by_git}


def table(trials: list[dict[str, Any]]) -> str:
    rows = []
    for tool in TOOLS:
        mine = [each for each in trials if each["tool"] == tool]
        if mine:
            seconds = sorted(each["seconds"] for each in mine)
            rows.append(
                [
                    tool,
                    f"{sum(each['right'] for each in mine)} of {len(mine)}",
                    f"{statistics.median(seconds):.0f} s ({seconds[0]:.0f} to {seconds[-1]:.0f})",
                    f"{statistics.median(each['load'] for each in mine):.1f}",
                ]
            )
    return tabulate(rows, ["", "right", "seconds", "load"], tablefmt="github")


def main() -> None:
    parser = argparse.ArgumentParser(description="greencompute bisect on this machine, beside git bisect run.")
    parser.add_argument("--places", type=int, nargs="*", default=PLACES, help="numbers of the guilty commits, one history each")
    parser.add_argument("--seconds", type=float, default=20, help="longest time of a measurement (default: 20)")
    parser.add_argument("--keep", type=Path, required=True, help="keep the trials in this file, and go on from what is in it")
    wanted = parser.parse_args()
    trials = [json.loads(line) for line in wanted.keep.read_text(encoding="utf-8").splitlines()] if wanted.keep.exists() else []
    for place in wanted.places:
        left = [tool for tool in TOOLS if not any((each["tool"], each["place"]) == (tool, place) for each in trials)]
        folder, guilty = history(place, wanted.seconds) if left else (None, "")
        for tool in left:
            assert folder is not None
            start = time.monotonic()
            found = TOOLS[tool](folder, guilty)
            trials.append({"tool": tool, "place": place, **found, "seconds": time.monotonic() - start, "load": os.getloadavg()[0]})
            with wanted.keep.open("a", encoding="utf-8") as file:
                file.write(json.dumps(trials[-1]) + "\n")
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
    print(table(trials))


if __name__ == "__main__":
    main()
