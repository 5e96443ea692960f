"""Whether ``greencompute noise`` foretells what a verdict costs, on a simulated GPU. Run: python benchmarks/verdicts/noise.py

Ten cases: a counter that sees all of the time or a quarter of it, queries of 10 and 50 ms, power that wanders by more or less, and five
seconds of loading or none. Each is measured against itself first, as ``greencompute noise`` does, with ``--launches 3 --max-seconds 20``;
then the real gate compares unchanged code, and code that is dearer by what was foretold, some times each. The device, the sides and the
gate are those of ``seconds.py``. Loading counts, as a person waits for it.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import seconds

from pytest_greencompute.commands.noise import pairs_that_fit
from pytest_greencompute.estimates.estimate import Aim
from pytest_greencompute.judging.noise import price_of
from pytest_greencompute.judging.rule import Rule
from pytest_greencompute.pairing.against_itself import measure

LAUNCHES, ONE_SIDE_S = 3, 20.0
LIMIT_S = 300.0
TRIALS = 5
ALL, QUARTER = seconds.SEES
WITHIN = 1.5


@dataclass(frozen=True)
class Cell:
    """A counter, a load, how much its power wanders, and how long loading one side takes."""

    sees: str
    query_s: float
    wanders: float
    load_s: float = 0.0

    @property
    def name(self) -> str:
        load = f", loads {self.load_s:.0f} s" if self.load_s else ""
        return f"sees {self.sees}, {self.query_s * 1e3:.0f} ms, {self.wanders:.1%}{load}"


CELLS = [
    *(Cell(sees, query_s, wanders) for sees in (ALL, QUARTER) for query_s in seconds.QUERY_S for wanders in (0.005, 0.02)),
    Cell(ALL, 0.01, 0.04),
    Cell(ALL, 0.05, 0.01, 5.0),
]


class Itself(seconds.World):
    """A world in which a test of its own is measured beside itself."""

    def start(self) -> Any:
        return seconds.Launch(self, 1.0, "preparation", ONE_SIDE_S)


@dataclass(frozen=True)
class Row:
    """What was foretold of a case and what the gate then took, trial by trial; by the word of the verdict."""

    cell: Cell
    word: str
    foretold_s: float | None
    taken_s: Sequence[float]
    words: Sequence[str]

    @property
    def factor(self) -> float:
        """How many times too long or too short it was foretold to be; infinite where nothing was."""
        taken = statistics.median(self.taken_s)
        return float("inf") if self.foretold_s is None else max(self.foretold_s / taken, taken / self.foretold_s)


def rows(cell: Cell, trials: int, seed: int = 100) -> list[Row]:
    """The case foretold once, and then gated so many times each way."""
    world = Itself(seconds.Case(cell.sees, cell.query_s, 0.0, wanders=cell.wanders), seed, cell.load_s)
    itself = measure(world.start, Aim(), world.clock, launches=LAUNCHES, say=lambda _: None)
    price = price_of(itself.launches, Rule(), most_pairs=pairs_that_fit(itself, LIMIT_S), agreeing=1, rng=np.random.default_rng(0))
    found = []
    for word, worse, prospect in (("PASS", 0.0, price.to_pass), ("FAIL", price.worse, price.to_fail)):
        spent = seconds.measured(seconds.Case(cell.sees, cell.query_s, worse, wanders=cell.wanders), trials, cell.load_s)
        foretold_s = None if prospect is None else itself.seconds(prospect)
        found.append(Row(cell, word, foretold_s, [each.total for each in spent], [each.word for each in spent]))
    return found


def typical_factor(found: Iterable[Row]) -> float:
    """The median of all factors."""
    return statistics.median(row.factor for row in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=TRIALS, help=f"comparisons a case and word (default: {TRIALS})")
    trials = parser.parse_args().trials
    from tabulate import tabulate

    found, table = [], []
    for cell in CELLS:
        for row in rows(cell, trials):
            found.append(row)
            foretold = "none" if row.foretold_s is None else f"{row.foretold_s:.1f} s"
            taken = f"{statistics.median(row.taken_s):.1f} s ({min(row.taken_s):.0f} to {max(row.taken_s):.0f})"
            table.append([cell.name, row.word, foretold, taken, f"{row.words.count(row.word)} of {trials}", f"{row.factor:.2f}"])
    print(tabulate(table, ["case", "verdict", "foretold", "taken", "came", "factor"], tablefmt="github", disable_numparse=True))
    print(f"\nFactor: {typical_factor(found):.2f} in the median, {max(row.factor for row in found):.2f} at most. {trials} trials each.")


if __name__ == "__main__":
    main()
