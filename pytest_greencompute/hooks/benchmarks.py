"""``--energy-benchmarks``: an existing suite of pytest-benchmark or pytest-codspeed, metered as it is.

Their fixture times as ever. What it was called with is then measured by our own protocol, each call a query; ``pedantic`` says how often
something may be called, so there the energy is read once around all of its calls. Neither plugin is changed: only the one fixture object of
a metered test gets a class of its own, below its own.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import inspect
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.estimates.estimate import Estimate
from pytest_greencompute.estimates.measured import MeasuredRun
from pytest_greencompute.models.queries import state_of, worn
from pytest_greencompute.models.repeats import check_calls, one_object
from pytest_greencompute.models.workload import uncomputed
from pytest_greencompute.session.energy_meter import EnergyMeter, measure_calls

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

FIXTURE = "benchmark"
PLUGINS = ("pytest_benchmark", "pytest_codspeed")
SHORT_S = 50e-6  # our loop adds less than a half of a microsecond to a call; of shorter calls, many make one batch
TOGETHER = 1000
BATCHES = 10
LOOKS = 5
REPEATS = "energy_repeats"  # in extra_info: "cached" says that answering from memory is wanted
FELT = 0.001  # of the time: less is not worth taking off
TRIED = 20  # rounds of nothing
Named = Mapping[str, Any]  # the arguments of somebody's function, by name


def check() -> None:
    """Raises SettingsError where there is no plugin whose benchmarks could be metered."""
    if not any(importlib.util.find_spec(plugin) for plugin in PLUGINS):
        raise SettingsError(
            "--energy-benchmarks meters the suites of pytest-benchmark and pytest-codspeed, and neither is installed.",
            remedy="pip install pytest-benchmark, or leave the option out.",
        )


def uses_benchmark(item: pytest.Item) -> bool:
    """Whether a collected test asks for the fixture."""
    names = getattr(item, "fixturenames", ())
    return FIXTURE in names or "codspeed_benchmark" in names


def metered(fixture: Any, meter: EnergyMeter) -> None:
    """Make a benchmark fixture measure what it is called with, by ``meter``."""
    kind = type(fixture)
    if issubclass(kind, _Metered) or not callable(getattr(fixture, "pedantic", None)):
        return
    made = type(kind.__name__, (_Metered, kind), {})
    # pytest-codspeed's fixture says of itself that its class is another, so the attribute is set where Python keeps it.
    object.__dict__["__class__"].__set__(fixture, made)
    fixture._energy_meter = meter


class _Metered:
    """Stands before the class of a benchmark fixture."""

    _energy_meter: EnergyMeter
    _opening: Callable[[], object] | None = None
    extra_info: dict[str, Any]

    def __call__(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        first = _First(function, args, kwargs)
        answer = super().__call__(function, *args, **kwargs)  # type: ignore[misc]  # the fixture's own class stands behind this one

        def call() -> Any:
            return function(*args, **kwargs)

        repeats = self.extra_info.get(REPEATS, "fresh")
        self._keep(_measured(self._energy_meter, call, repeats, first.notes(call) if repeats == "fresh" else ()))
        return answer

    def pedantic(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The fixture's own, in one window; as many queries as it made calls."""
        pedantic: Callable[..., Any] = super().pedantic  # type: ignore[misc]
        called = _Pedantic.of(pedantic, target, args, kwargs)
        calls = 0

        def counted(*given: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            return target(*given, **named)

        planned = called.calls(self)
        called.look()
        window = self._energy_meter.window()
        window.apart = True
        with contextlib.ExitStack() as opened:
            self._opening = partial(opened.enter_context, window)
            if planned is None or not hasattr(self, "_make_stats"):
                self._open()
            answer = pedantic(counted if planned is None else target, *args, **kwargs)
            window.queries = max(calls, 1) if planned is None else planned
        window.notes = called.notes
        if self.extra_info.get(REPEATS) is None:
            window.notes += called.checked(_rounds(self)) + _promised(answer)
        if planned is not None and window.seconds:
            share = called.own_seconds(self) / window.seconds
            window.besides = min(share, 1.0) if share > FELT else 0.0
        self._keep(window.result())
        return answer

    def _open(self) -> None:
        """Open the window of ``pedantic``, once."""
        opening, self._opening = self._opening, None
        if opening is not None:
            opening()

    def _make_stats(self, *args: Any, **kwargs: Any) -> Any:
        """pytest-benchmark's own, after which it begins to call: what it has prepared until then is not on the bill."""
        made = super()._make_stats(*args, **kwargs)  # type: ignore[misc]
        self._open()
        return made

    def _keep(self, run: MeasuredRun) -> None:
        """The figures beside the fixture's own: joules, null where there is none, and then the reason."""
        self.extra_info.update(_extra_info(run))


class _First:
    """The first call of all, before the other plugin's: what a memory keeps, or a call uses up, shows in no later one."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Named) -> None:
        self._function, self._given = function, [*args, *kwargs.values()]
        before = state_of(self._given)
        self._answer, start = None, time.perf_counter()
        with contextlib.suppress(Exception):  # it will raise where the fixture calls it
            self._answer = function(*args, **kwargs)
        self._seconds = time.perf_counter() - start
        self._used_up = worn(before, state_of(self._given), places=True)

    def notes(self, call: Callable[[], Any]) -> tuple[str, ...]:
        """Notes on how later calls differ. Raises SettingsError where they do other work."""
        same, later_s = one_object(self._answer, call()), _seconds(call)
        said = check_calls(self._function, tuple(self._given), self._seconds, later_s, used_up=self._used_up, same=same)
        return said + _promised(self._answer)


def _promised(answer: Any) -> tuple[str, ...]:
    """A note where what a benchmark's function returns is still to be computed: that may be what is to be timed."""
    found = uncomputed(answer)
    return (
        ()
        if found is None
        else (f"what the function returns, a {type(found).__name__}, has not been computed: that work may be in no figure",)
    )


@dataclass(frozen=True, slots=True)
class _Pedantic:
    """A call of ``pedantic``: its arguments by name, and what it does with them."""

    arguments: Named
    before: list[Any] = field(default_factory=list)

    @property
    def given(self) -> list[Any]:
        """What each call is given, where no set-up makes it."""
        return [*(self.arguments.get("args") or ()), *(self.arguments.get("kwargs") or {}).values()]

    def look(self) -> None:
        """Keep what the arguments are before the first call."""
        self.before.append(state_of(self.given))

    def checked(self, rounds: Sequence[float]) -> tuple[str, ...]:
        """Notes on how later rounds differ from the first. Raises SettingsError where they do other work."""
        if len(rounds) < 2 or self.arguments.get("setup") is not None:
            return ()
        used_up = worn(self.before[0], state_of(self.given), places=True)
        later_s = statistics.median(rounds[1:])
        return check_calls(self.arguments["target"], tuple(self.given), rounds[0], later_s, used_up=used_up, same=False)

    @classmethod
    def of(cls, pedantic: Callable[..., Any], target: object, args: Sequence[Any], kwargs: Named) -> _Pedantic:
        """Raises TypeError, as the call itself would, for arguments that ``pedantic`` does not take."""
        bound = inspect.signature(pedantic).bind(target, *args, **kwargs)
        bound.apply_defaults()
        return cls(bound.arguments)

    def calls(self, fixture: Any) -> int | None:
        """How many calls pytest-benchmark will make; None where they must be counted, which costs each call a tenth of a microsecond.

        Its rounds and those to warm up, and one more for the result where a round is of several calls (its fixture.py).
        """
        if not type(fixture).__mro__[2].__module__.startswith("pytest_benchmark") or fixture.disabled or fixture.cprofile:
            return None
        rounds, warmup, iterations = (self.arguments[name] for name in ("rounds", "warmup_rounds", "iterations"))
        if not all(isinstance(each, int) for each in (rounds, warmup, iterations)):
            return None  # it will refuse them itself
        return max(1, int((rounds + warmup) * iterations + (iterations > 1)))

    @property
    def notes(self) -> tuple[str, ...]:
        given = self._between
        return (f"the energy of {' and '.join(given)} is in the figure: it runs between the calls",) if given else ()

    @property
    def _between(self) -> list[str]:
        return [name for name in ("setup", "teardown") if self.arguments.get(name) is not None]

    def own_seconds(self, fixture: Any) -> float:
        """What pytest-benchmark itself takes for as many rounds; 0 where that cannot be found out, or the user's own runs between them."""
        rounds = self.arguments["rounds"] + self.arguments["warmup_rounds"]
        if self._between:
            return 0.0
        try:
            return min(_empty_rounds(fixture, TRIED) for _ in range(LOOKS)) / TRIED * float(rounds)
        except Exception:  # noqa: BLE001  it is asked for by the fixture's inner names, which may change
            return 0.0


def _empty_rounds(fixture: Any, rounds: int) -> float:
    """CPU seconds of so many rounds of nothing, by a fixture that is like this one and belongs to nobody."""
    spare = copy.copy(fixture)
    begun = 0.0

    def begin(*_: object) -> None:  # called when the rounds are about to begin
        nonlocal begun
        begun = time.thread_time()

    spare._mode, spare.cprofile, spare._add_stats, spare._opening = None, False, begin, None
    pedantic: Callable[..., Any] = super(_Metered, spare).pedantic
    pedantic(int, rounds=rounds)
    return time.thread_time() - begun


def _rounds(fixture: Any) -> Sequence[float]:
    """The seconds of each round of ``pedantic``, as pytest-benchmark keeps them; nothing where the fixture keeps none."""
    return getattr(getattr(getattr(fixture, "stats", None), "stats", None), "data", ())


def _measured(meter: EnergyMeter, call: Callable[[], Any], repeats: str, notes: tuple[str, ...]) -> MeasuredRun:
    together = TOGETHER if _seconds(call) < SHORT_S else 1
    return measure_calls(meter, call, together=together, batches=BATCHES, repeats=repeats, notes=notes)


def _seconds(call: Callable[[], Any]) -> float:
    """How long the quickest of some calls takes. Neither the clock of the session nor the other plugin's statistics: both sides of a
    comparison must come to the same."""
    found = []
    for _ in range(LOOKS):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
        if found[-1] > 100 * SHORT_S:
            break  # far from short: no need to call it again
    return min(found)


def _extra_info(run: MeasuredRun) -> dict[str, Any]:
    found = run.outcome("energy_per_query") if run.raw.metered else None
    if not isinstance(found, Estimate):
        return {"energy_per_call_j": None, "energy_reason": "not measured" if found is None else found.reason}
    return {
        "energy_per_call_j": found.value,
        "energy_per_call_low_j": found.low,
        "energy_per_call_high_j": found.high,
        "energy_domain": found.domain,
        "energy_method": found.method,
    }


class BenchmarkHooks:
    """The hook of a session that meters benchmarks. ``meter_of`` gives the meter of a test that is to be measured, else None."""

    def __init__(self, meter_of: Callable[[pytest.FixtureRequest], EnergyMeter | None]) -> None:
        self._meter_of = meter_of

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> Any:
        made = yield
        if fixturedef.argname in {FIXTURE, "codspeed_benchmark"}:
            meter = self._meter_of(request)
            if meter is not None:
                metered(made, meter)
        return made
