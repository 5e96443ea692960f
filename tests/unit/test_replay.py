"""Short modules replayed alone under the meter: whether the joules are true, what is not replayed, and that nothing is left behind."""

from __future__ import annotations

import random
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from pytest_greencompute.errors import CannotError, MeterLostError
from pytest_greencompute.estimates.estimate import Aim
from pytest_greencompute.explaining.explanation import explained
from pytest_greencompute.explaining.profile import OUTSIDE, Cost, Level, Profile
from pytest_greencompute.explaining.risen import Risen
from pytest_greencompute.measuring.script import open_instruments
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.pairing.looking import names_replayed
from pytest_greencompute.profiling import alone as kept_alone
from pytest_greencompute.profiling.alone import Alone, CallKeeper, RefusedError, check
from pytest_greencompute.profiling.passes import LOOKS, profile
from pytest_greencompute.profiling.replay import MOST, SHORT_S, ReplayMeter, replayed, too_short
from pytest_greencompute.testing.sensor import Sensor
from pytest_greencompute.testing.simulated import SimulatedClock, SimulatedCounter, SimulatedGpu

torch = pytest.importorskip("torch")
nn = torch.nn
MODULES = tuple(each for each in LOOKS if each.kind == "modules")
FAST = Sensor(update_s=0.02, window_s=0.02)


def rows(short: Mapping[str, tuple[float, float]], rest: float = 1.0) -> Level:
    """A level with modules of so many seconds and calls."""
    costs = [
        Cost(OUTSIDE, (0.0,)),
        Cost("Net", (rest,), 1.0),
        *(Cost(name, (each[0],), each[1], inside="Net") for name, each in short.items()),
    ]
    return Level("modules", "cpu", (rest + sum(each[0] for each in short.values()),), tuple(costs))


# Which


def test_modules_are_chosen_that_matter_and_are_short_the_largest_first() -> None:
    short = SHORT_S / 2
    found = too_short(
        rows(
            {
                "Net.long": (0.5, 0.5 / (SHORT_S * 2)),
                "Net.norm.0": (0.05, 0.05 / short),
                "Net.norm.1": (0.05, 0.05 / short),
                "Net.act": (0.08, 0.08 / short),
                "Net.tiny": (0.001, 0.001 / short),
            }
        )
    )
    assert found == ["Net.norm.0", "Net.norm.1", "Net.act"]
    many = {f"Net.layer.{number}.norm": (0.01, 100.0) for number in range(MOST + 1)}
    assert too_short(rows(many | {"Net.act": (0.05, 1000.0)})) == ["Net.act"]


# How many joules, on a simulated clock


class Bench:
    """A net whose parts draw what they are told to, for so long a call."""

    def __init__(self, device: Any, counter: Any) -> None:
        self.clock, self.device = device.clock, device
        self.metering = ReplayMeter(Instruments([counter], self.clock), Aim())

        class Draws(nn.Module):  # type: ignore[misc,name-defined]
            def __init__(self, seconds: float, watts: float) -> None:
                super().__init__()
                self.seconds, self.watts = seconds, watts

            def forward(self, x: Any) -> Any:
                device.work(self.seconds, self.watts)
                return x

        class Net(nn.Module):  # type: ignore[misc,name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.cool, self.hot, self.long = Draws(1e-4, 100.0), Draws(1e-4, 200.0), Draws(2e-3, 100.0)

            def forward(self, x: Any) -> Any:
                return self.long(self.hot(self.hot(self.cool(x))))

        self.net = Net()
        times = {"Net.cool": (1e-4, 1.0), "Net.hot": (2e-4, 2.0), "Net.long": (2e-3, 1.0)}
        self.level = rows(times, rest=1e-9)

    def run(self) -> None:
        self.net(torch.ones(1))

    def replayed(self, limit_s: float = 60.0, wanted: list[str] | None = None) -> Level:
        return replayed(self.run, self.level, 1, limit_s, self.metering, wanted)


def continuous() -> Bench:
    counter = SimulatedCounter(SimulatedClock(), idle_w=0.0)
    return Bench(counter, counter)


def ticking() -> Bench:
    gpu = SimulatedGpu(SimulatedClock(), sensor=FAST)
    return Bench(gpu, gpu.energy_counter())


@pytest.mark.parametrize("make", [continuous, ticking])
def test_a_replay_tells_joules_where_time_is_the_same(make: Callable[[], Bench]) -> None:
    found = make().replayed()
    read = {each.name: each.replayed for each in found.costs if each.replayed is not None}
    assert set(read) == {"Net.cool", "Net.hot"}
    assert found.metered is not None
    assert found.metered.mean == pytest.approx(0.25, rel=0.05)
    assert read["Net.cool"].mean == pytest.approx(0.01, rel=0.1)
    assert read["Net.hot"].mean == pytest.approx(0.02, rel=0.05)
    assert found.notes == ()


def test_the_other_side_replays_what_it_is_told_to() -> None:
    found = continuous().replayed(wanted=["Net.long", "Net.gone", "Net"])
    assert names_replayed(Profile(levels=(found,))) == ("Net.long",)
    bench = continuous()
    assert bench.replayed(wanted=[]) is bench.level


def test_the_time_for_it_ends_and_what_was_left_out_is_said_once() -> None:
    bench = continuous()
    begun_ns = bench.clock.now_ns()
    (note,) = bench.replayed(limit_s=0.181).notes
    assert "(there was no time left)" in note
    assert bench.clock.now_ns() - begun_ns < 0.5e9


def test_a_meter_whose_ticks_are_too_long_for_the_time_reads_nothing() -> None:
    with pytest.raises(CannotError, match="no time for it"):
        ticking().replayed(limit_s=0.4)


def test_a_meter_that_is_lost_replays_nothing() -> None:
    bench = continuous()
    bench.device.fault("lost")
    with pytest.raises(MeterLostError):
        bench.replayed()


def test_a_figure_that_scatters_is_none() -> None:
    bench, watts = continuous(), iter((50.0, 200.0, 100.0))
    with pytest.raises(CannotError, match="the meter tells it to"):
        bench.metering.joules(lambda times: bench.device.work(times * 1e-4, next(watts)), 1e-4)


# Which cannot be


class Hooked(nn.Linear):  # type: ignore[misc,name-defined]
    def __init__(self) -> None:
        super().__init__(4, 4)
        self.register_forward_hook(lambda *_: None)


class Counts(nn.Linear):  # type: ignore[misc,name-defined]
    calls = 0

    def forward(self, x: Any) -> Any:
        self.calls += 1
        return super().forward(x)


class Remembers(nn.Linear):  # type: ignore[misc,name-defined]
    def __init__(self) -> None:
        super().__init__(4, 4)
        self.cache: dict[int, Any] = {}

    def forward(self, x: Any) -> Any:
        self.cache[len(self.cache)] = x
        return super().forward(x)


class Within(nn.Module):  # type: ignore[misc,name-defined]
    def forward(self, x: Any) -> Any:
        return x.mul_(2)


class Recursive(nn.Module):  # type: ignore[misc,name-defined]
    def forward(self, x: Any) -> Any:
        return self(x[1:]) if len(x) > 1 else x


class OnlyOnce(nn.Module):  # type: ignore[misc,name-defined]
    def forward(self, x: Any) -> Any:
        if ONCE["calls"]:
            raise ValueError("not again")
        ONCE["calls"] += 1
        return x


class HoldsAnother(nn.Module):  # type: ignore[misc,name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.others = [nn.Linear(4, 4)]

    def forward(self, x: Any) -> Any:
        return self.others[0](x)


class Cache:
    """A mutable one."""


class Cached(nn.Module):  # type: ignore[misc,name-defined]
    def forward(self, x: Any, cache: Any = None) -> Any:
        return x


ONCE = Counter[str]()


def replaced() -> Any:
    made = nn.Linear(4, 4)
    made.forward = made.forward
    return made


REFUSED: list[tuple[Callable[[], Any], dict[str, Any], str]] = [
    (Hooked, {}, "it has hooks"),
    (replaced, {}, "forward was replaced"),
    (lambda: Counts(4, 4), {}, "changes what it holds"),
    (Remembers, {}, "changes what it holds"),
    (lambda: nn.BatchNorm1d(4), {}, "changes what it holds"),
    (Within, {}, "changes what it holds or is given"),
    (Recursive, {}, "calls itself"),
    (OnlyOnce, {}, "ValueError: not again"),
    (HoldsAnother, {}, "not its part"),
    (Cached, {"cache": Cache()}, "given a Cache"),
    (lambda: nn.TransformerEncoderLayer(4, 1, 4), {}, "compiled, or works otherwise"),
    (lambda: torch.compile(nn.Linear(4, 4), backend="eager"), {}, "compiled, or works otherwise"),
]


def state(module: Any) -> tuple[Any, ...]:
    """All that a module holds, to be compared."""
    of_each = [
        {
            name: len(value) if isinstance(value, dict) else repr(value)
            for name, value in vars(each).items()
            if "hook" in name or not name.startswith("_")
        }
        for each in module.modules()
    ]
    return of_each, {name: each.tolist() for name, each in module.state_dict().items()}, module.training


def kept(module: Any, given: Any, **more: Any) -> CallKeeper:
    """What is kept of one call of a module that may be replayed."""
    check(module)
    keeper = CallKeeper(1, 1000)
    with keeper.hooks(module):
        module(given, **more)
    return keeper


@pytest.mark.parametrize(("make", "more", "why"), REFUSED)
def test_what_a_copy_cannot_stand_in_for_is_not_replayed_and_stays_as_it_was(
    make: Callable[[], Any], more: dict[str, Any], why: str
) -> None:
    ONCE.clear()
    module, after_a_call = make(), make()
    after_a_call.load_state_dict(module.state_dict())
    given = torch.arange(8.0).reshape(2, 4)
    if "compiled" not in why:
        after_a_call(given.clone(), **more)
        ONCE.clear()
    before = state(module)
    with pytest.raises(RefusedError, match=why) if "ValueError" not in why else pytest.raises(ValueError, match="not again"):
        Alone.of(module, kept(module, given.clone(), **more))
    assert state(module) in (before, state(after_a_call))


def test_large_inputs_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_alone, "MOST_BYTES", 64)
    keeper = CallKeeper(1, 64)
    layer = nn.Linear(4, 4)
    with keeper.hooks(layer):
        layer(torch.ones(8, 4))
    assert "too large to be kept" in keeper.why
    assert keeper.kept == []
    norm = nn.BatchNorm1d(16).eval()
    small = kept(norm, torch.ones(1, 16))
    assert small.why == ""
    with pytest.raises(RefusedError, match="buffers"):
        Alone.of(norm, small)


@pytest.mark.parametrize("mode", ["gradients", "none", "inference", "autocast"])
def test_a_module_is_replayed_in_the_modes_that_it_was_called_in(mode: str) -> None:
    seen = Counter[Any]()

    class Sees(nn.Linear):  # type: ignore[misc,name-defined]
        def forward(self, x: Any) -> Any:
            made = super().forward(x)
            seen[self.training, made.requires_grad, made.is_inference(), str(made.dtype)] += 1
            return made

    module = Sees(4, 4).eval()
    modes = {
        "gradients": torch.enable_grad,
        "none": torch.no_grad,
        "inference": torch.inference_mode,
        "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    }
    with modes[mode]():
        keeper = kept(module, torch.ones(2, 4))
    Alone.of(module, keeper).replay(3)
    ((how, times),) = seen.items()
    assert times == 1 + 1 + 3
    assert how == (
        False,
        mode in {"gradients", "autocast"},
        mode == "inference",
        "torch.bfloat16" if mode == "autocast" else "torch.float32",
    )


def test_calls_from_all_over_a_pass_are_kept() -> None:
    layer, keeper = nn.Linear(1, 1), CallKeeper(80, 1000)
    with keeper.hooks(layer):
        for number in range(80):
            layer(torch.full((1, 1), float(number)))
    assert [float(args[0]) for args, _ in keeper.kept] == [5, 15, 25, 35, 45, 55, 65, 75]


class Small(nn.Module):  # type: ignore[misc,name-defined]
    def __init__(self, times: int = 1) -> None:
        super().__init__()
        self.embed, self.drop, self.norm = nn.Embedding(64, 32), nn.Dropout(0.1), nn.LayerNorm(32)
        self.layer = nn.ModuleList(nn.Linear(32, 32) for _ in range(3))
        self.act = Repeats(times)

    def forward(self, ids: Any) -> Any:
        x = self.embed(ids)
        for each in self.layer:
            x = self.act(self.drop(each(x)))
        return self.norm(x)


class Repeats(nn.Module):  # type: ignore[misc,name-defined]
    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def forward(self, x: Any) -> Any:
        for _ in range(self.times):
            x = torch.tanh(x)
        return x


@pytest.fixture
def metering() -> Iterator[ReplayMeter]:
    opened, threads = open_instruments(("cputime",)), torch.get_num_threads()
    torch.set_num_threads(1)  # several wait for each other by turning round
    yield ReplayMeter(opened, Aim())
    torch.set_num_threads(threads)
    opened.close()


def looked_at(model: Any, metering: ReplayMeter, **how: Any) -> Profile:
    task = Task(lambda batch: [float(each) for each in model(torch.tensor(batch)).sum(1)], list(range(64)), 8)
    return profile(task, limit_s=20.0, looks=MODULES, metering=metering, **how)


@pytest.mark.alone
def test_nothing_is_left_of_a_replay_and_what_is_drawn_is_as_without_it(metering: ReplayMeter) -> None:
    model = Small()
    before = state(model)
    drawn = torch.get_rng_state(), random.getstate()
    level = rows({"Small.drop": (3e-4, 3.0), "Small.act": (3e-4, 3.0)}, rest=1e-3)
    found = replayed(lambda: model(torch.tensor([1, 2])), level, 1, 2.0, metering)
    assert names_replayed(Profile(levels=(found,))) == ("Small.drop", "Small.act")
    assert state(model) == before
    assert torch.equal(torch.get_rng_state(), drawn[0])
    assert random.getstate() == drawn[1]


@pytest.mark.alone
def test_a_short_module_that_does_more_is_told_by_replay(metering: ReplayMeter) -> None:
    """A real model under a real meter: one activation of microseconds that is computed thrice as often."""
    with torch.no_grad():
        head = looked_at(Small(times=9), metering)
        base = looked_at(Small(times=3), metering, some=head.queries, counted=head.counted, replay=names_replayed(head))
    assert "Small.act" in names_replayed(head)
    assert "Small.act" in names_replayed(base)
    assert 1.8 < call_j(head, "Small.act") / call_j(base, "Small.act") < 4.0
    joules = [statistics.fmean(found.levels[0].seconds) * 10 for found in (base, head)]
    rise = joules[1] - joules[0]
    made = explained(base, head, Risen(*joules, rise - 0.05 * joules[0], rise + 0.05 * joules[0]))
    assert ("Small.act", "replay") in [(each.name, each.how) for each in made.levels[0].places]


def call_j(found: Profile, name: str) -> float:
    (read,) = (each.replayed for each in found.levels[0].costs if each.name == name)
    assert read is not None
    return read.mean
