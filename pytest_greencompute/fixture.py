"""What a test sees: ``energy_meter``. Everything it uses is injected."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_greencompute.errors import SettingsError

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

if TYPE_CHECKING:
    from pytest_greencompute.estimate import Aim
    from pytest_greencompute.measured import MeasuredRun
    from pytest_greencompute.measuring import Effort, Task, Window
    from pytest_greencompute.samples import Run
    from pytest_greencompute.session import MeteredTest, Session
    from pytest_greencompute.sides.pairing import Pairing
    from pytest_greencompute.sides.worker import Worker
    from pytest_greencompute.workload import Score


class EnergyMeter:
    """Measures runs of one test.

    With ``--energy-budget`` it runs the whole protocol under the session's meters; without, each query once and unmetered.
    ``skip`` ends the test as skipped, with a reason.
    """

    def __init__(self, session: Session, test: MeteredTest, skip: Callable[[str], NoReturn]) -> None:
        self._session = session
        self._test = test
        self._skip = skip
        self._held = contextlib.ExitStack()
        self._locked = False

    def measure(
        self,
        model: Callable[[Any], Any],
        queries: Iterable[Any],
        *,
        batch_size: int = 1,
        references: Iterable[Any] | None = None,
        score: Score = "accuracy",
        collate: Callable[[Any], Any] | None = None,
        name: str | None = None,
    ) -> MeasuredRun:
        """Measure ``model``, any callable on a batch, on ``queries``.

        ``references`` are the right answers, one per query; ``score`` is "accuracy" or a function of (answer, reference).
        ``collate`` turns a slice of the queries into a batch. ``name`` tells the runs of one test apart. ``outputs`` of the
        answer holds the model's answers in query order. Raises SettingsError for bad input, MeterError where a meter fails
        while measuring, and what the model raises.
        """
        from pytest_greencompute.measuring import Task, run_once

        self._check_name(name)
        self._refuse_inside_a_window()
        task = Task(model, queries, batch_size, references, score, collate, name, self._test.node_id)
        settings = self._session.settings
        if self._session.worker is not None:
            raw, outputs = self._measure_as_a_side(task, self._session.worker)
        elif settings.enabled:
            raw, outputs = self._measure_metered(task)
        elif settings.unmetered == "skip":
            self._skip('not measured: unmetered = "skip" and no --energy-budget')
        else:
            raw, outputs = run_once(task, self._session.clock, settings.unmetered if isinstance(settings.unmetered, int) else None)
        self._test.runs.append(raw)
        return self._result(raw, outputs)

    def _measure_metered(self, task: Task) -> tuple[Run, list[Any]]:
        from pytest_greencompute.measuring import run_metered

        session = self._session
        self._lock()
        assert session.instruments is not None
        pairing = None if self._test.contest is None else self._test.contest.pairing(task.name)
        try:
            if pairing is not None:
                pairing.begin()
            raw, outputs = run_metered(task, session.instruments, self._effort(task.name, pairing), session.why_unmeasured)
            if pairing is not None:
                pairing.end(raw)
        finally:
            session.told()
        return raw, outputs

    def _measure_as_a_side(self, task: Task, worker: Worker) -> tuple[Run, list[Any]]:
        """In the process of another side: measure when told to; the process that compares holds the device's lock."""
        from pytest_greencompute.measuring import Effort, run_metered, run_once

        session = self._session
        if not worker.wait_to_begin(task.name):
            return run_once(task, session.clock)
        assert session.instruments is not None
        effort = Effort(
            session.max_seconds,
            session.needs_p99,
            agree=worker.agree,
            turn=worker.turn,
            keep_answers=True,
            provenance=session.provenance(),
        )
        raw, outputs = run_metered(task, session.instruments, effort, session.why_unmeasured)
        worker.done(raw)
        return raw, outputs

    def window(self, name: str | None = None) -> Window:
        """``with energy_meter.window("prefill") as w: …`` for code that is not a loop of queries; then ``w.energy``.

        One window is read once: its interval is what the meter's ticks leave open, and one shorter than ten ticks is INCONCLUSIVE.
        """
        from pytest_greencompute.measuring import Window

        self._check_name(name)
        self._refuse_inside_a_window()
        instruments = None
        if self._session.settings.enabled and self._session.worker is None:
            self._lock()
            instruments = self._session.instruments
        session, test = self._session, self._test
        window = Window(name, instruments, session.bench().aim, self._unmetered, test=test.node_id, provenance=session.provenance())
        self._test.windows.append(window)
        return window

    def close(self) -> None:
        """Free the devices for other measured runs."""
        self._held.close()

    def _check_name(self, name: str | None) -> None:
        if name is not None and (not isinstance(name, str) or not name):
            raise SettingsError(f"name is {name!r}.", remedy="Name a run with a text, such as name='prefill'.")
        if name in [run.name for run in self._test.runs] + [window.name for window in self._test.windows]:
            which = f"a run named {name!r}" if name else "a run without a name"
            raise SettingsError(f"This test has measured {which} already.", remedy="Tell its runs apart: measure(..., name='large').")

    def _refuse_inside_a_window(self) -> None:
        if any(window.running for window in self._test.windows):
            raise SettingsError(
                "A window is open: what is measured inside it would be counted twice.", remedy="Measure before or after it."
            )

    def _lock(self) -> None:
        if not self._locked:
            self._session.open()
            self._held.enter_context(self._session.lock())
            self._locked = True

    def _effort(self, name: str | None, pairing: Pairing | None = None) -> Effort:
        from dataclasses import replace

        from pytest_greencompute.judging import judge_run, limits_for
        from pytest_greencompute.measuring import Effort, precise_enough
        from pytest_greencompute.metrics import METRICS

        session, test = self._session, self._test
        budget, bench = session.budget(test), session.bench()
        # The figure is read by people too: certain of a distant limit, but known to a half only, is not worth printing.
        precise, presentable = precise_enough(bench.aim), precise_enough(bench.aim, 0.1)

        def enough(run: Run) -> bool:
            """Whether all that more blocks could make certain is certain."""
            key = limits_for(run, budget, only=True)
            verdicts = [
                each for each in judge_run(run, key, budget, bench, test.subject) if METRICS[each.metric].kind in {"energy", "rate"}
            ]
            certain = all(each.word != "INCONCLUSIVE" for each in verdicts)
            # A run that others will be compared with must be precise, not only certain of its own verdicts.
            done = precise(run) if session.settings.save or not verdicts else certain and presentable(run)
            return done if pairing is None else pairing.may_end(certain=done)

        limits = {**budget.limits.get(None, {}), **budget.limits.get(name, {})}
        effort = Effort(
            budget.max_seconds,
            "latency_p99" in limits,
            tell=session.tell(test),
            enough=enough,
            figure=lambda run: _figure(run, bench.aim),
            keep_answers=bool(pairing or session.settings.save or session.settings.baseline),
            provenance=session.provenance(),
        )
        return effort if pairing is None else replace(effort, agree=pairing.agree, turn=pairing.turn)

    def _result(self, raw: Run, outputs: list[Any]) -> MeasuredRun:
        from dataclasses import replace

        from pytest_greencompute.measured import MeasuredRun

        aim = replace(self._session.bench().aim, confidence=self._session.budget(self._test).confidence)
        return MeasuredRun(raw, outputs, aim, self._unmetered)

    def _unmetered(self, metric: str) -> NoReturn:
        self._skip(f"{metric} was not measured: run pytest with --energy-budget")


def _figure(run: Run, aim: Aim) -> str:
    """The energy per query so far, for the progress line; nothing where there is none yet."""
    from pytest_greencompute.estimate import Estimate, estimate
    from pytest_greencompute.metrics import METRICS

    found = estimate(run, METRICS["energy_per_query"], aim)
    return f"{found} per query" if isinstance(found, Estimate) else ""
