"""Twenty planted regressions in real models: is the guilty place named first, and is nothing named where nothing changed?

Run: python benchmarks/verdicts/explained.py
     python benchmarks/verdicts/explained.py --only tokeniser --places 5
     python benchmarks/verdicts/explained.py --same 20 --no-planted

Each side is a process of its own, as in a comparison of two commits. Its joules are CPU seconds at 10 W of whole passes by turns; then
each side is profiled, and the difference explained. "rank" is the guilty place's in the list of what is blamed; "told" the part of the
difference that disjoint places of the list hold, "not attributed" the rest of it; "takes" the seconds of both profiles, loading left out.
`--same` explains programs against themselves, as --energy-explain always does, and once more as if the difference that was measured were
certain: a place that is blamed there is a false one.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).parent))

import _planted  # its folder has just become importable

from pytest_greencompute.estimates.estimate import Aim
from pytest_greencompute.explaining.blaming import Blame, blamed
from pytest_greencompute.explaining.explanation import Explanation, explained
from pytest_greencompute.explaining.risen import Risen
from pytest_greencompute.measuring.script import open_instruments
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.pairing.looking import names_replayed
from pytest_greencompute.profiling.passes import profile
from pytest_greencompute.profiling.replay import ReplayMeter
from pytest_greencompute.stats.distributions import student_t_quantile

WATTS, CONFIDENCE = 10.0, 0.99
TURNS, MOST_TURNS, TURN_S = 6, 30, 0.3  # pairs of passes by turns, and how long a side of one is at least
PROGRAMS = ("a layer doubled", "more new tokens", "a call on a fallback path", "a regex compiled per call", "a cache that no longer hits")
BASE, HEAD = 0, 1


def side(answers: Connection, name: str, which: int) -> None:
    """A process that is one side: it runs passes and is profiled, as it is told."""
    case = next(each for each in (*_planted.PLANTED, *_planted.ALSO) if each.name == name)
    mine = case.make()[which]
    batches = [mine.queries[start : start + mine.batch_size] for start in range(0, len(mine.queries), mine.batch_size)]

    def run() -> float:
        start = time.process_time()
        for batch in batches:
            mine.model(batch)
        return (time.process_time() - start) / len(mine.queries)

    run()
    times = max(1, math.ceil(TURN_S / (run() * len(mine.queries))))
    metering = ReplayMeter(open_instruments(("cputime",), cpu_watts_per_core=WATTS), Aim())
    answers.send("ready")
    while (asked := answers.recv()) != "end":
        if asked == "measure":
            answers.send(min(run() for _ in range(times)))  # what other processes on the machine disturb least
        else:
            start = time.perf_counter()
            some, counted, replay = asked or (None, None, None)
            found = profile(Task(mine.model, mine.queries, mine.batch_size), some=some, counted=counted, metering=metering, replay=replay)
            answers.send((found, time.perf_counter() - start))


@contextmanager
def launched(name: str, which: Sequence[int]) -> Iterator[list[Connection]]:
    """Both sides, ready."""
    context = multiprocessing.get_context("spawn")
    ends, processes = [], []
    for each in which:
        mine, theirs = context.Pipe()
        processes.append(context.Process(target=side, args=(theirs, name, each)))
        processes[-1].start()
        theirs.close()
        ends.append(mine)
    for end in ends:
        end.recv()
    yield ends
    for end, process in zip(ends, processes, strict=True):
        end.send("end")
        process.join()


def asked(end: Connection, what: object) -> Any:
    end.send(what)
    return end.recv()


@dataclass(frozen=True, slots=True)
class Result:
    explanation: Explanation
    blames: tuple[Blame, ...]
    seconds: float


def compared(ends: Sequence[Connection], turns: int, most: int) -> Result:
    """The explanation of a side's difference from the other, and what profiling took."""
    base, head = ends
    pairs = [(asked(base, "measure"), asked(head, "measure")) for _ in range(turns)]
    while not rise(pairs).certain and len(pairs) < most:  # only what is certain fails a build, and is explained
        pairs.append((asked(base, "measure"), asked(head, "measure")))
    now, now_s = asked(head, None)
    before, before_s = asked(base, (now.queries, now.counted, names_replayed(now)))
    found = explained(before, now, rise(pairs))
    return Result(found, blamed(found), before_s + now_s)


def rise(pairs: Sequence[tuple[float, float]]) -> Risen:
    """Joules of both sides, with an interval of the difference by pairs."""
    base_j = WATTS * statistics.fmean(base for base, _ in pairs)
    changes = [math.log(head / base) for base, head in pairs]
    ratio = statistics.fmean(changes)
    reach = student_t_quantile((1 + CONFIDENCE) / 2, len(pairs) - 1) * statistics.stdev(changes) / math.sqrt(len(pairs))
    low, high = (base_j * (math.exp(ratio + sign * reach) - 1) for sign in (-1, 1))
    return Risen(base_j, base_j * math.exp(ratio), low, high, CONFIDENCE, 0.01 * base_j)


def rank(blames: Sequence[Blame], guilty: str) -> int | None:
    return next((number for number, each in enumerate(blames, 1) if re.fullmatch(guilty, each.called)), None)


def told(explanation: Explanation, blames: Sequence[Blame]) -> float:
    """The part of the difference that the list holds."""
    return math.fsum(each.difference_j for each in blames if each.place is not None) / explanation.risen.difference_j


def planted(cases: Sequence[_planted.Planted], places: int) -> None:
    rows, ranks = [], []
    for case in cases:
        with launched(case.name, (BASE, HEAD)) as ends:
            result = compared(ends, TURNS, MOST_TURNS)
        risen, blames = result.explanation.risen, result.blames
        ranks.append(rank(blames, case.guilty))
        part = told(result.explanation, blames)
        first = blames[0].called if blames else "nothing"
        rise_ = f"{risen.head_j / risen.base_j - 1:+.0%}"
        rows.append([case.name, rise_, ranks[-1] or "-", first, f"{part:.0%}", f"{1 - part:.0%}", f"{result.seconds:.1f} s"])
        print(" | ".join(map(str, rows[-1])), flush=True)
        for each in blames[:places]:
            print(f"    {each.text}", flush=True)
        if places:
            print(
                f"    {case.name}: {[(each.name, each.base, each.head) for each in result.explanation.changed]} {result.explanation.notes}"
            )
    print(tabulate(rows, ["planted", "energy", "rank", "named first", "told", "not attributed", "takes"], tablefmt="github"))
    print(f"first in {sum(each == 1 for each in ranks)} of {len(ranks)}")


def same(number: int) -> None:
    """Explain programs against themselves, and once more as if the measured difference were certain."""
    false = Counter[str]()
    for index, name in enumerate(PROGRAMS):
        with launched(name, (BASE, BASE)) as ends:
            for _ in range(index, number, len(PROGRAMS)):
                found = compared(ends, TURNS // 2, 0).explanation
                risen = found.risen
                near = sorted((0.99 * risen.difference_j, 1.01 * risen.difference_j))
                sure = explained(found.base, found.head, replace(risen, low=near[0], high=near[1], base_sd=0.0))
                for what, each in (("forced", found), ("and taken for certain", sure)):
                    blames = blamed(each)
                    false[what] += bool(blames)
                    named = "; ".join(blame.text for blame in blames) or "nothing"
                    print(f"{name}, base against itself, {what}: {risen.head_j / risen.base_j - 1:+.1%}: {named}", flush=True)
    print(f"of {number} comparisons of the same something was blamed: {dict(false)}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Is the guilty place named first?")
    parser.add_argument("--only", default="", help="the planted regressions whose names match this")
    parser.add_argument("--places", type=int, default=0, help="print so many places of each (default: 0)")
    parser.add_argument("--also", action="store_true", help="others than the twenty")
    parser.add_argument("--same", type=int, default=0, help="comparisons of a program with itself (default: 0)")
    parser.add_argument("--no-planted", action="store_true", help="only those")
    wanted = parser.parse_args()
    # One thread each: several wait for each other by turning round, and the figures would tell of the neighbours.
    os.environ |= {"OPENBLAS_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    if not wanted.no_planted:
        planted([each for each in (_planted.ALSO if wanted.also else _planted.PLANTED) if re.search(wanted.only, each.name)], wanted.places)
    if wanted.same:
        same(wanted.same)


if __name__ == "__main__":
    main()
