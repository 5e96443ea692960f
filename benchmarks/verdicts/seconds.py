"""What a verdict costs: seconds of device time until it stands, on a simulated GPU. Run: python benchmarks/verdicts/seconds.py

Base and head share one simulated GPU and clock and measure by turns with the package's own protocol, judge and pairing; only their
processes are simulated (``Launch``). Counters tick every 100 ms and see all of the time or a quarter of it; a query takes 10 or 50 ms, half
of it at 350 W and half at 90 W; power wanders by 1 % every half second. Head is unchanged, or takes 15 % longer, which fresh launches
confirm. The limit is 60 s a run. Importing and loading take no time here (``--load`` gives them some).

*preparation* is all before the first set, of both sides; *pairs* the sets of the first launch, *idle* the part of them spent on reading
idle power; *confirmation* the fresh launches that a FAIL needs, *its preparation* the part of it before their first sets.

``--against FOLDER`` runs the same cases by the build in another checkout too, by turns with this one, each in a process of its own, and
prints ratios: ``git worktree add ../before c0a9932 && python benchmarks/verdicts/seconds.py --against ../before``. That build kept its
modules in one folder, so names are looked for in the old places as well.

docs/explanation/cost.md has the table, and what is left. Bursts and single blocks have not run on a real GPU yet.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from _builds import named

BUSY_W, LOW_W, IDLE_W = 350.0, 90.0, 60.0
TICK_S = 0.1
SEES = {"all": TICK_S, "a quarter": TICK_S / 4}
QUERY_S = (0.01, 0.05)
QUERIES = 64
WORSE = 0.15
WANDERS, WANDERS_EVERY_S = 0.01, 0.5
LIMIT_S = 60.0
TRIALS = 5


@dataclass(frozen=True)
class Case:
    """A counter, a load, and by how much head is dearer; ``budget``: an absolute one, so far from the figure, and no other commit.
    ``later``: it is not the first metered test of its session. ``wanders``: by how much power does.
    """

    sees: str
    query_s: float
    worse: float
    budget: float | None = None
    later: bool = False
    wanders: float = WANDERS

    @property
    def name(self) -> str:
        what = f"+{self.worse:.0%}, confirmed" if self.worse else "unchanged"
        what += ", a later test" if self.later else ""
        return what if self.budget is None else f"budget {self.budget - 1:+.0%} away"


CASES = [
    *(Case(sees, query_s, worse) for sees in SEES for query_s in QUERY_S for worse in (0.0, WORSE)),
    *(Case(sees, query_s, 0.0, later=True) for sees in SEES for query_s in QUERY_S),
    *(Case(sees, query_s, 0.0, 1.2) for sees in SEES for query_s in QUERY_S),
]


@dataclass
class Spent:
    """Seconds of device time by what they were spent on, the word, and how many pairs and launches there were."""

    word: str = ""
    total: float = 0.0
    preparation: float = 0.0
    pairs: float = 0.0
    idle: float = 0.0
    confirmation: float = 0.0
    prepared_again: float = 0.0
    count: int = 0
    launches: int = 1


@dataclass
class World:
    """One device, and the two sides that use it."""

    case: Case
    seed: int
    load_s: float = 0.0
    spent: Spent = field(default_factory=Spent)

    def __post_init__(self) -> None:
        self.clock = named("SimulatedClock")()
        self.luck = random.Random(self.seed)
        sensor = named("Sensor")(TICK_S, SEES[self.case.sees], phase_s=self.luck.random() * TICK_S)
        self.gpu = named("SimulatedGpu")(self.clock, sensor=sensor, idle_w=IDLE_W)
        self._factor, self._until_ns = 1.0, 0

    def task(self, longer: float) -> Any:
        """The test's one run; its queries take ``longer`` times their usual time."""

        def model(batch: list[int]) -> list[int]:
            if self.clock.now_ns() >= self._until_ns:
                self._factor = 1 + self.luck.gauss(0, self.case.wanders)
                self._until_ns = self.clock.now_ns() + int(WANDERS_EVERY_S * 1e9)
            for watts in (BUSY_W, LOW_W):
                self.gpu.set_power(watts * self._factor)
                self.clock.sleep(self.case.query_s * longer / 2)
            self.gpu.set_power(IDLE_W)
            return batch

        return named("Task")(model, list(range(QUERIES)))

    def instruments(self) -> Any:
        """The counters as a process of its own opens them."""
        return named("Instruments")([self.gpu.energy_counter()], self.clock)

    @contextlib.contextmanager
    def counting(self, *what: str) -> Iterator[None]:
        """Add the device time that passes to these figures."""
        start_ns = self.clock.now_ns()
        try:
            yield
        finally:
            for each in what:
                setattr(self.spent, each, getattr(self.spent, each) + (self.clock.now_ns() - start_ns) / 1e9)


class Launch:
    """A process of a side, as the pairing sees one (``pairing.process.Process``): everything but the process."""

    demands: Any = None
    asked: Mapping[str, Any] = {}
    names: Sequence[str | None] = ()

    def __init__(self, world: World, longer: float, into: str, limit_s: float = LIMIT_S) -> None:
        self.world, self.longer, self._into, self._limit_s = world, longer, into, limit_s
        self.measured: Any = None
        self._steps: Any = None
        self.is_over = False

    def wait_until_collected(self) -> None:
        """It has nothing to import."""

    def wait_here(self, _name: str | None, _within_s: float | None = None) -> None:
        with self.world.counting(self._into):
            self.world.clock.sleep(self.world.load_s)

    def prepare(self, learnt: Sequence[Any] = ()) -> Any:
        world, instruments = self.world, self.world.instruments()
        if learnt:
            instruments.expect(learnt)
        effort = named("Effort")(self._limit_s, seed=world.seed, keep_answers=True, timing="none", in_pairs=True)
        with world.counting(self._into):
            self._steps = named("metering")(world.task(self.longer), instruments, effort)
            ask, _ = self._steps.send(None)
        return ask.layout

    def lay_out(self, layout: Any) -> None:
        self._send(layout)

    def run_set(self, _index: int) -> Any:
        if not self.is_over:
            self._send(True)
        return self.measured

    def end(self) -> Any:
        if not self.is_over:
            self._send(False)
        return self.measured

    def close(self) -> None:
        """Nothing is open."""

    def _send(self, answer: Any) -> None:
        try:
            _, self.measured = self._steps.send(answer)
        except StopIteration as done:
            (self.measured, _), self.is_over = done.value, True


def against_base(world: World) -> Spent:
    """Head against its base, in pairs, with the fresh launches that a FAIL needs."""
    case, spent = world.case, world.spent
    pairing_of, match_of, aim = named("Pairing"), named("Match"), named("Aim")()
    runs = importlib.import_module(pairing_of.__module__)
    base_of = getattr(runs, "BaseOfTest", None) or runs.Rival
    side, head = "base", "head"

    def start(which: Any, *_: Any) -> Launch:
        return Launch(world, 1.0 if which == side else 1 + case.worse, "preparation" if spent.launches == 1 else "prepared_again")

    base = base_of("base", side, start(side))
    match = match_of(base, {"energy_per_query": named("Rule")()}, aim)
    pairing = pairing_of([match], head, start, aim)
    instruments, sets_ns = world.instruments(), [0]
    if case.later:
        named("run_metered")(world.task(1.0), instruments, named("Effort")(1.0, timing="none"))
    began_ns = world.clock.now_ns()

    def say(_: str) -> None:
        spent.launches += "again" in _

    pairing.say = say

    def agree(layout: Any) -> Any:
        agreed = pairing.agree(layout)
        sets_ns[0] = world.clock.now_ns()
        return agreed

    effort = named("Effort")(
        LIMIT_S,
        seed=world.seed,
        timing="short",
        enough=lambda _: pairing.may_end(certain=True),
        keep_answers=True,
        agree=agree,
        turn=pairing.turn,
        in_pairs=True,
    )
    if hasattr(pairing, "learnt"):
        pairing.learnt = lambda: instruments.behaviours
    pairing.begin()
    run, _ = named("run_metered")(world.task(1 + case.worse), instruments, effort)
    pairing.end(run)
    ended_ns = world.clock.now_ns()
    spent.preparation, spent.pairs = (sets_ns[0] - began_ns) / 1e9, (ended_ns - sets_ns[0]) / 1e9
    theirs = match.run if hasattr(match, "run") else match.base
    spent.idle = sum(idle.seconds for each in (run, theirs) for idle in each.idles)
    base.close()
    with world.counting("confirmation"):
        pairing.confirm()
    (test,) = match.tests.values()
    spent.word, spent.count, spent.total = test.verdict.word, test.pairs, (world.clock.now_ns() - began_ns) / 1e9
    return spent


def by_budget(world: World) -> Spent:
    """One run against an absolute budget, which is so far from the true figure."""
    spent, aim, energy = world.spent, named("Aim")(), named("METRICS")["energy_per_query"]
    assert world.case.budget is not None
    limit_j = world.case.budget * world.case.query_s * (BUSY_W + LOW_W) / 2
    began_ns, sets_ns = world.clock.now_ns(), [0]

    def settled(run: Any) -> bool:
        """As a session asks it: certain, and precise enough to be printed."""
        found = named("estimate")(run, energy, aim)
        certain = isinstance(found, named("Estimate")) and found.high is not None and (found.high < limit_j or found.low > limit_j)
        spent.word = "INCONCLUSIVE" if not certain else "PASS" if found.high < limit_j else "FAIL"
        return certain and found.relative <= 0.1

    def agree(layout: Any) -> Any:
        sets_ns[0] = world.clock.now_ns()
        return layout

    effort = named("Effort")(LIMIT_S, seed=world.seed, timing="short", enough=settled, agree=agree)
    run, _ = named("run_metered")(world.task(1.0), world.instruments(), effort)
    settled(run)
    ended_ns = world.clock.now_ns()
    spent.preparation, spent.pairs = (sets_ns[0] - began_ns) / 1e9, (ended_ns - sets_ns[0]) / 1e9
    spent.idle, spent.total = sum(idle.seconds for idle in run.idles), (ended_ns - began_ns) / 1e9
    spent.count = len({block.set_index for block in run.blocks})
    return spent


def measured(case: Case, trials: int, load_s: float) -> list[Spent]:
    """The case again and again, each time with other luck."""
    return [(against_base if case.budget is None else by_budget)(World(case, seed, load_s)) for seed in range(trials)]


def all_cases(trials: int, load_s: float) -> dict[str, list[dict[str, Any]]]:
    return {str(number): [asdict(each) for each in measured(case, trials, load_s)] for number, case in enumerate(CASES)}


def by_build(folder: Path, trials: int, load_s: float, only: int) -> list[dict[str, Any]]:
    """One case by the build in ``folder``, in a process of its own."""
    command = [sys.executable, str(Path(__file__).resolve()), "--trials", str(trials), "--load", str(load_s), "--case", str(only)]
    done = subprocess.run(command, env={**os.environ, "GREENCOMPUTE_BUILD": str(folder)}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"The build in {folder} could not run case {only}:\n{done.stderr}")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def cells(case: Case, trials: Sequence[Mapping[str, Any]]) -> list[str]:
    """The medians of a case's trials, as the columns of the table."""

    def middle(of: Callable[[Mapping[str, Any]], float]) -> float:
        return statistics.median(map(of, trials))

    right = "FAIL" if case.worse else "PASS"
    words = sum(each["word"] == right for each in trials)
    totals = [each["total"] for each in trials]
    return [
        f"sees {case.sees}, {case.query_s * 1e3:.0f} ms",
        case.name,
        f"{right} {words} of {len(trials)}",
        f"{statistics.median(totals):.1f} s ({min(totals):.0f} to {max(totals):.0f})",
        *(
            f"{middle(lambda each, name=name: each[name]):.1f} s"
            for name in ("preparation", "pairs", "idle", "confirmation", "prepared_again")
        ),
        f"{middle(lambda each: each['count']):g}",
    ]


HEADS = [
    "counter, query",
    "head",
    "verdict",
    "to the verdict",
    "preparation",
    "pairs",
    "idle",
    "confirmation",
    "its preparation",
    "pairs or sets",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=TRIALS, help=f"trials a case (default: {TRIALS})")
    parser.add_argument("--load", type=float, default=0.0, help="seconds that loading a model takes in each launch (default: 0)")
    parser.add_argument("--against", type=Path, help="a checkout of another build, such as commit c0a9932")
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.case is not None:
        print(json.dumps([asdict(each) for each in measured(CASES[given.case], given.trials, given.load)]))
        return
    from tabulate import tabulate

    here = Path(__file__).resolve().parents[2]
    rows = []
    for number, case in enumerate(CASES):
        ours = by_build(here, given.trials, given.load, number)
        row = cells(case, ours)
        if given.against:
            theirs = by_build(given.against.resolve(), given.trials, given.load, number)
            before, now = (statistics.median(each["total"] for each in trials) for trials in (theirs, ours))
            row += [f"{before:.1f} s", f"{now / before:.2f}"]
        rows.append(row)
    print(tabulate(rows, [*HEADS, *(["before", "ratio"] if given.against else [])], tablefmt="github", disable_numparse=True))
    print(f"\nMedians of {given.trials} trials (lowest to highest). Device time: simulated seconds in which the test holds the device.")


if build := os.environ.get("GREENCOMPUTE_BUILD"):
    sys.path.insert(0, build)

if __name__ == "__main__":
    main()
