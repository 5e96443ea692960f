"""What ``spread=True`` saves: one sweep on 1, 2 and 4 equal stand-in GPUs, in real time. Run: python benchmarks/choice/spread.py

A model takes 4 ms and 0.5 ms a query at 300 W, and waits as for a GPU. Loading it takes ``--loading`` seconds, once in each process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabulate import tabulate

from pytest_greencompute.testing.sensor import PROFILES
from pytest_greencompute.testing.standin import StandIn, StandInDevice, compile_standin

SIZES = (1, 2, 4, 8, 16, 32, 64)
TEST = """
import json, os, pathlib, time
from pytest_greencompute.testing.standin import StandIn

def test_it(energy_meter):
    standin, uuid = StandIn.attach(), os.environ.get("CUDA_VISIBLE_DEVICES", "")
    card = next((place for place in range({cards}) if standin.uuid(place) == uuid), 0)
    time.sleep({loading})

    def model(batch):
        standin.work(card, 0.004 + 0.0005 * len(batch), 300.0)
        return batch

    began = time.monotonic()
    sweep = energy_meter.sweep(model, list(range(64)), batch_size={sizes}, spread=True)
    seconds = time.monotonic() - began
    ratios = [sweep.times(f"batch_size={{size}}", "batch_size=64") for size in {sizes}[:-1]]
    widest = max(each.high / each.low if each.low else 1e9 for each in ratios)
    pathlib.Path("found.json").write_text(json.dumps({{"seconds": seconds, "widest": widest}}))
"""


def swept(folder: Path, library: Path, cards: int, given: argparse.Namespace) -> Mapping[str, Any]:
    """One session with a sweep over so many cards."""
    devices = [StandInDevice(PROFILES[given.kind], f"NVIDIA {given.kind}") for _ in range(cards)]
    standin = StandIn.create(folder, devices, library=library)
    (folder / "test_it.py").write_text(TEST.format(cards=cards, sizes=list(SIZES), loading=given.loading), encoding="utf-8")
    (folder / "pyproject.toml").write_text('[tool.greencompute]\nmeters = ["nvml"]\n', encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "--energy-budget", f"--energy-max-seconds={given.limit}", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=folder, env={**os.environ, **standin.env}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    standin.close()
    found: dict[str, Any] = json.loads((folder / "found.json").read_text(encoding="utf-8"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kind", default="V100", choices=PROFILES)
    parser.add_argument("--cards", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--limit", type=float, default=60.0, help="seconds, of one sweep")
    parser.add_argument("--loading", type=float, default=2.0, help="seconds")
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        library = compile_standin(Path(name))
        for cards in given.cards:
            found = []
            for number in range(given.rounds):
                folder = Path(name) / f"{cards}-{number}"
                folder.mkdir()
                found.append(swept(folder, library, cards, given))
            seconds, widest = (statistics.median(each[key] for each in found) for key in ("seconds", "widest"))
            rows.append((cards, f"{seconds:.1f} s", f"{widest:.2f}"))
    print(tabulate(rows, ("equal cards", f"a sweep of {len(SIZES)}", "widest ratio, high / low"), tablefmt="github"))


if __name__ == "__main__":
    main()
