"""How often verdicts are wrong, and what they cost, against a known truth. Run: python benchmarks/verdicts/rates.py

Every trial draws a stream of noise (``_noise.py``), makes head dearer by the effect, and lets a rule judge it. All rules see the same
streams. Tolerance 5 %, confidence 99 %.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from _noise import CELLS, Cell, Factors, blocks_and_nines, interleaved, streams
from _peers import RULES, SAMPLES
from tabulate import tabulate

from pytest_greencompute.judging.pairs import LAUNCHES_FOR_FAIL, MAX_PAIRS, PairedTest, judge_runs
from pytest_greencompute.judging.verdict import Word
from pytest_greencompute.stats.phases import LEAST_TO_SHOW, shows

UNCHANGED, AT_TOLERANCE, REGRESSION = 0.0, 0.05, 0.10
CURVE = (0.06, 0.07, 0.08, 0.09, REGRESSION)
EFFECTS = (UNCHANGED, AT_TOLERANCE, *CURVE)
MORE_TRIALS = 5
SAVED = ((1, 1), (2, 1), (3, 1), (5, 1), (10, 1), (2, 2), (3, 3), (4, 4))


@dataclass(frozen=True)
class Result:
    """What one rule said in all trials of a cell at one effect, and how many pairs it took (to its first decision, and in all)."""

    words: tuple[Word, ...]
    first: tuple[int, ...] = ()
    pairs: tuple[int, ...] = ()

    def rate(self, word: Word) -> float:
        return self.words.count(word) / len(self.words)


def paired(factors: Factors, effect: float, *, launches: int = 1) -> Result:
    """Interleaved pairs, judged as they come; a FAIL is confirmed by fresh launches."""
    bases, heads = interleaved(factors)
    return _result(_one(*sides, launches) for sides in zip(bases.tolist(), (heads * (1 + effect)).tolist(), strict=True))


def doubted(factors: Factors, phases: Factors, nines: Factors, effect: float) -> Result:
    """Pairs of single blocks, which are begun again in sets of nine once the energy of a side follows the phase, as pairing does."""
    at = interleaved(phases)
    singles, again = ([base, head * (1 + effect)] for base, head in (interleaved(factors), interleaved(nines)))

    def follows(trial: int, pairs: int) -> bool:
        first = [(where[trial, 0], what[trial, 0]) for where, what in zip(at, singles, strict=True)]
        return any(shows(where[:count], what[:count]) for count in range(LEAST_TO_SHOW, pairs + 1) for where, what in first)

    def one(trial: int) -> tuple[Word, int, int]:
        outcome = _one(*(side[trial].tolist() for side in singles), 1)
        return _one(*(side[trial].tolist() for side in again), 1) if follows(trial, outcome[1]) else outcome

    return _result(map(one, range(len(factors))))


def _result(outcomes: Iterable[tuple[Word, int, int]]) -> Result:
    words, first, pairs = zip(*outcomes, strict=True)
    return Result(words, first, pairs)


def judged(cell: Cell, trials: int, effect: float) -> Result:
    """What pairs say of a cell at one effect."""
    size = trials, LAUNCHES_FOR_FAIL, MAX_PAIRS
    factors = streams(cell, *size)
    return paired(factors, effect) if cell.singles is None else doubted(factors, *blocks_and_nines(cell, *size), effect)


def _one(base: Sequence[Sequence[float]], head: Sequence[Sequence[float]], launches: int) -> tuple[Word, int, int]:
    test = PairedTest(launches=launches)
    first, launch = 0, 0
    stream = iter(zip(base[0], head[0], strict=True))
    while test.asks != "nothing":
        if test.asks == "relaunch":
            launch += 1
            stream = iter(zip(base[launch], head[launch], strict=True))
            test.relaunched()
        test.tell(*next(stream))
        first = first or (test.pairs if test.asks != "pair" else 0)
    return test.verdict.word, first, test.pairs


def stored(factors: Factors, effect: float, base: int, head: int) -> Result:
    """``base`` saved launches against ``head`` new ones, the first samples of each."""
    runs = factors[..., :SAMPLES]
    words = [judge_runs(trial[:base, 0].tolist(), (trial[base : base + head, 1] * (1 + effect)).tolist()).word for trial in runs]
    return Result(tuple(words))


def red(rule: Callable[[Factors, Factors], np.ndarray], factors: Factors, effect: float) -> float:
    """How often a rule of another tool is red: launch 0 of base is stored, launch 1 of head is new."""
    return float(rule(factors[:, 0, 0, :SAMPLES], factors[:, 1, 1, :SAMPLES] * (1 + effect)).mean())


def share(value: float) -> str:
    return f"{value:.2%}" if 0 < value < 0.1 or 0.99 < value < 1 else f"{value:.0%}"


def markdown(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return f"{title}\n\n{tabulate(rows, headers=heads, tablefmt='github', disable_numparse=True)}"


class Bench:
    """The streams of every cell and what interleaved pairs said of them; cells where launches differ get five times the trials."""

    def __init__(self, trials: int) -> None:
        counts = {cell: trials * (MORE_TRIALS if cell.launches_differ else 1) for cell in CELLS}
        self.streams = {cell: streams(cell, count, LAUNCHES_FOR_FAIL, MAX_PAIRS) for cell, count in counts.items()}
        self.paired = {cell: {effect: judged(cell, count, effect) for effect in EFFECTS} for cell, count in counts.items()}

    def rates(self) -> str:
        rows = []
        for cell, by_effect in self.paired.items():
            same, edge, worse = (by_effect[effect] for effect in (UNCHANGED, AT_TOLERANCE, REGRESSION))
            first, whole = statistics.median(worse.first), statistics.median(worse.pairs)
            rows.append(
                [
                    cell.name,
                    *(share(each.rate(word)) for each in (same, edge, worse) for word in ("FAIL", "PASS")),
                    f"{statistics.median(same.pairs):g}",
                    f"{first:g} + {whole - first:g}",
                    str(max(max(each.pairs) for each in by_effect.values())),
                ]
            )
        heads = [
            "noise",
            "unchanged: FAIL",
            "PASS",
            "+5 %: FAIL",
            "PASS",
            "+10 %: FAIL",
            "PASS",
            "pairs, unchanged",
            "pairs, +10 %",
            "most",
        ]
        return markdown("Interleaved pairs. Pairs are medians; at +10 % to the first decision, and to see it again", heads, rows)

    def power(self) -> str:
        rows = [[cell.name, *(f"{by_effect[effect].rate('FAIL'):.1%}" for effect in CURVE)] for cell, by_effect in self.paired.items()]
        return markdown("Power: how often a regression is a FAIL", ["FAIL at", *(f"+{effect:.0%}" for effect in CURVE)], rows)

    def by_launches(self) -> str:
        """What more launches buy where launches differ."""
        rows = []
        for cell, factors in self.streams.items():
            for launches in (1, 2, 3, 4) if cell.launches_differ else ():
                same, edge, worse = (
                    self.paired[cell][effect] if launches == 1 else paired(factors, effect, launches=launches)
                    for effect in (UNCHANGED, AT_TOLERANCE, REGRESSION)
                )
                rates = (same.rate("FAIL"), same.rate("PASS"), edge.rate("FAIL"), worse.rate("FAIL"), worse.rate("PASS"))
                rows.append([cell.name, f"{launches}", *map(share, rates), f"{statistics.median(same.pairs):g}"])
        heads = ["noise", "launches", "unchanged: FAIL", "PASS", "+5 %: FAIL", "+10 %: FAIL", "PASS", "pairs, unchanged"]
        return markdown("Launches of each that must agree on a PASS (on a FAIL always four)", heads, rows)

    def peers(self) -> str:
        rows = []
        for cell, factors in self.streams.items():
            columns = []
            for effect in (UNCHANGED, REGRESSION):
                one_run = [red(rule, factors, effect) for rule in RULES.values()]
                columns.append([*one_run, stored(factors, effect, 1, 1).rate("FAIL"), self.paired[cell][effect].rate("FAIL")])
            rows.append([cell.name, *(f"{share(same)} / {share(worse)}" for same, worse in zip(*columns, strict=True))])
        return markdown(
            "Beside other rules: one stored run against one new run", ["red: unchanged / +10 %", *RULES, "judge_runs 1 : 1", "pairs"], rows
        )


def saved(trials: int) -> str:
    """Stored launches against new ones."""
    rows = []
    for cell in (each for each in CELLS if each.launches_differ or each.name == "normal 1 %"):
        factors = streams(cell, trials, max(map(sum, SAVED)), SAMPLES)
        for base, head in SAVED:
            same, worse, twice = (stored(factors, effect, base, head) for effect in (UNCHANGED, REGRESSION, 2 * REGRESSION))
            rates = (same.rate("FAIL"), same.rate("PASS"), worse.rate("FAIL"), worse.rate("PASS"), twice.rate("FAIL"))
            rows.append([cell.name, f"{base} : {head}", *map(share, rates)])
    heads = ["noise", "launches", "unchanged: FAIL", "PASS", "+10 %: FAIL", "PASS", "+20 %: FAIL"]
    return markdown(f"Stored runs, {SAMPLES} samples a launch: base : head", heads, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=2000, help="trials a cell (default: 2000)")
    trials = parser.parse_args().trials
    start = time.perf_counter()
    bench = Bench(trials)
    for table in (bench.rates(), bench.power(), bench.by_launches(), bench.peers(), saved(trials)):
        print(f"{table}\n")
    print(f"{trials} trials a cell, {MORE_TRIALS} times as many where launches differ. All took {time.perf_counter() - start:.0f} s.")


if __name__ == "__main__":
    main()
