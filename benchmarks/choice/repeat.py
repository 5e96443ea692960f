"""How well ratios between candidates repeat: the same comparisons again and again, each time in a fresh process.

Run: python benchmarks/choice/repeat.py
     python benchmarks/choice/repeat.py --runs 1 --lines 64 --seconds 6     (a quick look)

MiniLM-L3 against MiniLM-L6 at batch size 1, and bfloat16 against float32 of MiniLM-L6 at batch size 32, on review lines; both measured by
turns, as `energy_meter.compare` and `energy_meter.sweep` do. The models are those of examples/right-size (`make examples` installs them).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

EXAMPLES = Path(__file__).parents[2] / "examples"

SETTINGS = """
[tool.greencompute]
meters = ["nvml", "rapl", "cputime"]
cpu_watts_per_core = 10
max_seconds = {seconds}

[tool.pytest.ini_options]
pythonpath = {folders}
"""

TEST = """
import json
import pathlib

import candidates
import module
import sentiment

RATIOS = pathlib.Path("ratios.jsonl")


def keep(pair, comparison, one, to):
    ratio, runs = comparison.times(one, to), comparison.runs
    time = runs[to].throughput.value / runs[one].throughput.value
    with RATIOS.open("a") as file:
        print(json.dumps({{"pair": pair, "energy": ratio.value, "low": ratio.low, "high": ratio.high, "time": time}}), file=file)


def lines():
    return sentiment.by_length(sentiment.load_reviews()[1]).lines[::{step}]


def test_layers(energy_meter):
    models = candidates.Candidates(sentiment.Encoder())
    found = energy_meter.compare({{"l6": models.minilm_l6, "l3": models.minilm_l3}}, lines())
    keep("L3 / L6, batch 1", found, "l3", "l6")


def test_precision(energy_meter):
    encoder = sentiment.Encoder()
    net = module.fresh_or_rotten(encoder)
    found = energy_meter.sweep(net, lines(), precision=["fp32", "bf16"], batch_size=32, collate=encoder.tokens)
    keep("bf16 / fp32, batch 32", found, "precision=bf16", "precision=fp32")
"""


def launch(lines: int, seconds: float) -> list[dict[str, float | str]]:
    """Both comparisons in one fresh process: what it found of each pair."""
    with tempfile.TemporaryDirectory(prefix="greencompute-choice-") as name:
        folder = Path(name)
        folders = json.dumps([str(EXAMPLES / each) for each in ("right-size", "models", "sentiment")])
        (folder / "pyproject.toml").write_text(SETTINGS.format(seconds=seconds, folders=folders), encoding="utf-8")
        (folder / "test_pairs.py").write_text(TEST.format(step=max(1, 2_000 // lines)), encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--energy-budget"]
        done = subprocess.run(command, cwd=folder, env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=False)
        kept = folder / "ratios.jsonl"
        if done.returncode != 0 or not kept.exists():
            raise SystemExit(f"The comparison failed:\n{done.stdout[-3_000:]}{done.stderr[-1_000:]}")
        return [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()]


def row(pair: str, found: Sequence[dict[str, float | str]], what: str) -> list[str]:
    """Median, extremes and their distance in per cent of the median, of the ratios in energy or in time."""
    values = [float(each[what]) for each in found if each["pair"] == pair]
    middle = statistics.median(values)
    return [pair, what, f"{middle:.3f}", f"{min(values):.3f}", f"{max(values):.3f}", f"{(max(values) - min(values)) / middle:.1%}"]


def main() -> None:
    """Launch, and print what each run found as it comes, then how far the runs lie apart."""
    parser = argparse.ArgumentParser(description="How well ratios between candidates repeat.")
    parser.add_argument("--runs", type=int, default=5, help="fresh processes (default: 5)")
    parser.add_argument("--lines", type=int, default=250, help="review lines, of all lengths (default: 250)")
    parser.add_argument("--seconds", type=float, default=40, help="longest time for one comparison (default: 40)")
    wanted = parser.parse_args()
    found: list[dict[str, float | str]] = []
    for number in range(1, wanted.runs + 1):
        for each in launch(wanted.lines, wanted.seconds):
            found.append(each)
            said = f"energy {each['energy']:.3f} [{each['low']:.3f}, {each['high']:.3f}], time {each['time']:.3f}"
            print(f"run {number}: {each['pair']}: {said} (load {os.getloadavg()[0]:.1f})", flush=True)
    rows = [row(pair, found, what) for pair in dict.fromkeys(str(each["pair"]) for each in found) for what in ("energy", "time")]
    print(tabulate(rows, ["ratio", "in", "median", "least", "most", "apart"], tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
