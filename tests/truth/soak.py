"""Random faults of every kind, one run after the other on the simulated clock: is any figure wrong that nothing marks?

Run: python -m tests.truth.soak
     python -m tests.truth.soak --hours 0.1 --seed 7

A figure is wrong that is off by more than 2 % and leaves the true one out of its interval. A neighbour comes after the first idle power
was read: one that is there all the time is what the GPU draws when idle, as far as any meter can tell. Two hours are simulated in one
minute.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pytest_greencompute.errors import MeterError
from pytest_greencompute.estimates.estimate import Estimate

from .scenes import SENSORS, STATES, Scene, clear, energy, fault, jump, neighbour, suspend

WRONG = 0.02
MOST_FAULTS = 4
NEIGHBOUR = "a neighbour"


@dataclass(frozen=True, slots=True)
class Soaked:
    """What came of one run. ``seconds`` are simulated."""

    seed: int
    outcome: str
    faults: tuple[str, ...]
    seconds: float
    text: str = ""


def soak(hours: float, seed: int) -> Iterator[Soaked]:
    """Runs until so much simulated time is over."""
    left_s = 3600 * hours
    while left_s > 0:
        found = one(seed)
        yield found
        left_s -= found.seconds
        seed += 1


def one(seed: int) -> Soaked:
    """A run of a random model under a random sensor, with up to four faults at random times."""
    rng = random.Random(seed)
    query_s, limit_s = 10 ** rng.uniform(-2, -0.5), rng.uniform(15, 60)
    calls = int(limit_s / query_s)
    faults = [_fault(rng) for _ in range(rng.randint(0, MOST_FAULTS))]
    script: dict[int, list[Callable[[Scene], object]]] = {}
    for name, begin, stays in faults:
        first = rng.randint(calls // 3 if name == NEIGHBOUR else 1, calls)
        script.setdefault(first, []).append(begin)
        if not stays:
            script.setdefault(first + rng.randint(1, 100), []).append(clear)
    scene = Scene(
        rng.choice(list(SENSORS.values())),
        {call: _all(each) for call, each in script.items()},
        query_s=query_s,
        watts=rng.uniform(150, 600),
        idle_w=rng.uniform(20, 100),
    )
    begun = scene.clock.now_ns()
    outcome, text = _outcome(scene, limit_s)
    return Soaked(seed, outcome, tuple(name for name, *_ in faults), (scene.clock.now_ns() - begun) / 1e9, text)


def _fault(rng: random.Random) -> tuple[str, Callable[[Scene], object], bool]:
    """Its name, how it begins, and whether it stays."""
    makers: dict[str, Callable[[], Callable[[Scene], object]]] = {
        **{name: lambda name=name: fault(name) for name in (*STATES, "reset")},
        NEIGHBOUR: lambda: neighbour(rng.uniform(30, 300)),
        "suspended": lambda: suspend(10 ** rng.uniform(0, 2)),
        "a jump of the clock": lambda: jump(10 ** rng.uniform(0, 2)),
    }
    name = rng.choice(list(makers))
    return name, makers[name](), rng.random() < 0.3


def _all(steps: list[Callable[[Scene], object]]) -> Callable[[Scene], object]:
    return lambda scene: [step(scene) for step in steps]


def _outcome(scene: Scene, limit_s: float) -> tuple[str, str]:
    try:
        run = scene.run(limit_s)
    except MeterError as error:
        return "refused: an error", str(error)
    found = energy(run)
    if not isinstance(found, Estimate):
        return "refused: no figure", found.reason
    off = found.value / scene.true_j - 1
    low, high = found.low or found.value, found.high or found.value  # few blocks leave no interval
    text = f"{off:+.1%}: {found.value:.4g} J [{low:.4g}, {high:.4g}] where {scene.true_j:.4g} J is true"
    if low <= scene.true_j <= high:
        return "right", text
    return ("wrong" if abs(off) > WRONG else "right within 2 %, outside of its interval"), text


def main() -> None:
    parser = argparse.ArgumentParser(description="Is any figure wrong that nothing marks?")
    parser.add_argument("--hours", type=float, default=2.0, help="of simulated time (default: 2)")
    parser.add_argument("--seed", type=int, default=0, help="the first run's; each has one more (default: 0)")
    wanted = parser.parse_args()
    counts, kinds = Counter[str](), Counter[str]()
    for found in soak(wanted.hours, wanted.seed):
        counts[found.outcome] += 1
        kinds.update(found.faults or ("none",))
        if found.outcome == "wrong" or (not found.faults and found.outcome != "right"):
            print(f"seed {found.seed}: {found.outcome}: {found.text} after {', '.join(found.faults) or 'no fault'}", flush=True)
    print(f"{counts.total()} runs, {wanted.hours:g} hours: {dict(counts)}")
    print(f"faults: {dict(kinds)}")
    sys.exit(bool(counts["wrong"]))


if __name__ == "__main__":
    main()
