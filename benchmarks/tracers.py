"""What coverage costs a model: CPU time of a model in pure Python and of one in numpy, with and without it.

Each figure is the median of seven, in a process of its own; the processes take turns, so that a machine that gets slower tells on all.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from tabulate import tabulate

MODEL = """
import sys, time
import numpy as np

def words(text):
    found, word = [], ""
    for char in text:
        if char == " ":
            found.append(word)
            word = ""
        else:
            word += char
    return [*found, word]

def python(batch):
    return [sum(ord(char) * 33 % 7 for word in words(text) for char in word) for text in batch]

SQUARE = np.random.default_rng(0).random((300, 300))

def numpy(batch):
    return [float(np.tanh(SQUARE @ SQUARE).sum()) for _ in batch]

TEXTS = ["a rather longer text with several words in it"] * 64
for model, batch, times in ((python, TEXTS, 20), (numpy, TEXTS[:4], 4)):
    took = []
    for _ in range(7):
        start = time.process_time()
        for _ in range(times):
            model(batch)
        took.append(time.process_time() - start)
    print(sorted(took)[3] / times)
"""
WAYS = {
    "nothing": [],
    "coverage": ["-m", "coverage", "run"],
    "coverage, with branches": ["-m", "coverage", "run", "--branch"],
    "coverage of other code": ["-m", "coverage", "run", "--source=json"],
}
ROUNDS = 5
ONE_THREAD = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # several wait for each other by turning round


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "model.py"
        script.write_text(MODEL, encoding="utf-8")
        took: dict[str, list[tuple[float, ...]]] = {way: [] for way in WAYS}
        for _ in range(ROUNDS):
            for way, words in WAYS.items():
                command = [sys.executable, *words, str(script)]
                done = subprocess.run(command, cwd=folder, env=ONE_THREAD, capture_output=True, text=True, check=True)
                took[way].append(tuple(float(line) for line in done.stdout.split()))
    rows = []
    for way, times in took.items():
        ratios = [[mine / plain for mine, plain in zip(a, b, strict=True)] for a, b in zip(times, took["nothing"], strict=True)]
        rows.append([way, *(f"{median(each):.2f}" for each in zip(*ratios, strict=True))])
    print(f"Python {sys.version.split()[0]}: CPU time, times that without")
    print(tabulate(rows, ["what watches", "pure Python", "numpy"], tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
