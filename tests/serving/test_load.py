"""A load measured in real time on a stand-in GPU whose true energy is known, by a server that draws it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pytest_greencompute.estimates.by_metric import estimate
from pytest_greencompute.estimates.estimate import Aim, Estimate, Missing, is_bound
from pytest_greencompute.estimates.measured_kinds import ServedRun
from pytest_greencompute.machine.clock import RealClock
from pytest_greencompute.machine.processes import listens_here
from pytest_greencompute.measuring.effort import Effort
from pytest_greencompute.measuring.script import open_instruments
from pytest_greencompute.results.run_json import run_from_json, run_to_json
from pytest_greencompute.serving.as_run import Load
from pytest_greencompute.serving.load import measure_load, open_client
from pytest_greencompute.serving.request import Request, request_of
from pytest_greencompute.testing.sensor import PROFILES, Sensor, Sensors
from pytest_greencompute.testing.standin import StandIn, StandInDevice
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.run import Run
from tests.serving.stub import ROOT, Behaviour, serving

SENSOR = PROFILES["V100"]  # a tick of 20 ms
"""A child process measures: the stand-in library must be there before its pynvml is loaded."""
CHILD = """
import json, sys
import pytest_greencompute.serving.load
pytest_greencompute.serving.load.WARMUP_S = 3.0
from tests.serving.test_load import measured_here
print(json.dumps(measured_here(*json.loads(sys.argv[1]))))
"""
PROMPTS = [f"prompt {number}" for number in range(20)]


def wanted(url: str, **fields: Any) -> Request:
    return request_of(url, PROMPTS, **fields)


def load(url: str, meters: list[str], concurrency: int, seconds: float, **fields: Any) -> tuple[Run, list[str | None]]:
    instruments = open_instruments(meters, cpu_watts_per_core=10)
    client, _ = open_client(wanted(url, **fields), None, RealClock())
    try:
        with client:
            return measure_load(client, wanted(url, **fields), Load(concurrency, "load"), instruments, Effort(seconds))
    finally:
        instruments.close()


def measured_here(url: str, concurrency: int, seconds: float, fields: dict[str, Any]) -> Any:
    run, outputs = load(url, ["nvml"], concurrency, seconds, **fields)
    return {"run": run_to_json(run), "outputs": outputs}


Machine = Callable[..., StandIn]


@pytest.fixture
def machine(tmp_path: Path, standin_library: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    def make(*devices: StandInDevice) -> StandIn:
        standin = StandIn.create(tmp_path, devices or (StandInDevice(SENSOR),), library=standin_library)
        for name, value in standin.env.items():
            monkeypatch.setenv(name, value)
        return standin

    return make


def measured(url: str, concurrency: int, seconds: float, **fields: Any) -> tuple[Run, list[str | None]]:
    command = [sys.executable, "-c", CHILD, json.dumps([url, concurrency, seconds, fields])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return run_from_json(found["run"]), found["outputs"]


def figure(run: Run, metric: str) -> Estimate:
    found = estimate(run, METRICS[metric], Aim())
    assert isinstance(found, Estimate), found
    return found


def true_j(standin: StandIn, run: Run) -> float:
    return standin.true_energy_j(0, run.blocks[0].start_ns, run.blocks[-1].end_ns)


@pytest.mark.alone(waits=True)
def test_the_bill_is_all_energy_over_all_answers(machine: Machine) -> None:
    """Of the GPU that the server uses; the server is on the driver's list and no stranger."""
    standin = machine(StandInDevice(SENSOR), StandInDevice(SENSOR))
    with serving(Behaviour(first_s=0.02, token_s=0.005, tokens=8, each_w=20, jitter=0.3, holds=True)) as url:
        run, outputs = measured(url, 8, 3.0)
    assert run.serving is not None
    assert run.serving.failed == {}
    assert run.serving.answered > 100
    seconds = (run.blocks[-1].end_ns - run.blocks[0].start_ns) / 1e9
    energy = figure(run, "energy_per_query")
    assert energy.domain == "gpu:0"
    answered = sum(block.queries for block in run.blocks)
    assert energy.value == pytest.approx(true_j(standin, run) / answered, rel=0.01)
    assert energy.low is not None
    assert energy.high is not None
    assert energy.low < true_j(standin, run) / answered < energy.high
    assert answered == pytest.approx(run.serving.answered, abs=9)
    assert figure(run, "throughput").value == pytest.approx(run.serving.answered / seconds, rel=0.05)
    assert figure(run, "tokens_per_query").value == pytest.approx(8, rel=1e-6)
    assert figure(run, "energy_per_token").value == pytest.approx(energy.value / 8, rel=1e-6)
    assert figure(run, "average_power").value == pytest.approx(50 + 8 * 20, rel=0.1)
    assert figure(run, "time_to_first_token_p50").value == pytest.approx(0.02, rel=0.5)
    assert figure(run, "inter_token_latency_p50").value == pytest.approx(0.005, rel=0.5)
    assert outputs == [f"{prompt} w0 w1 w2 w3 w4 w5 w6 " for prompt in PROMPTS]


@pytest.mark.alone(waits=True)
def test_a_counter_that_loses_half_of_the_energy_leaves_a_load_without_a_figure(machine: Machine) -> None:
    field = Sensor(0.05, 0.1)
    machine(StandInDevice(Sensors(Sensor(0.02, 0.02, gain=0.5), field, instant=field)))
    with serving(Behaviour(first_s=0.02, token_s=0.005, tokens=8, each_w=20, jitter=0.3, holds=True)) as url:
        run, _ = measured(url, 8, 10.0)
    assert "the energy counter of gpu:0 and its power disagree" in run.problem


@pytest.mark.alone(waits=True)
def test_energy_of_requests_that_fail_stays_in_the_bill(machine: Machine) -> None:
    standin = machine()
    faults = ["", "cut", "", "500", "", "malformed", "", "drop"]
    with serving(Behaviour(first_s=0.03, token_s=0.005, tokens=4, each_w=30, faults=faults)) as url:
        run, _ = measured(url, 4, 2.5)
    assert run.serving is not None
    assert set(run.serving.failed) == {"answer cut short", "status 500", "malformed answer", "connection dropped"}
    answered = sum(block.queries for block in run.blocks)
    assert figure(run, "energy_per_query").value == pytest.approx(true_j(standin, run) / answered, rel=0.01)
    failed = sum(run.serving.failed.values())
    assert figure(run, "error_rate").value == failed / (failed + run.serving.answered)
    assert 0.4 < figure(run, "error_rate").value < 0.6
    assert any("requests failed: " in note and "500" in note and "in the bill" in note for note in run.notes)


@pytest.mark.alone(waits=True)
def test_a_stall_counts_with_its_time_and_its_energy(machine: Machine) -> None:
    """Every tenth request hangs until the client gives up; meanwhile its slot answers nothing, and the GPU idles on the bill."""
    standin = machine()
    with serving(Behaviour(first_s=0.02, tokens=2, each_w=30, faults=[*[""] * 9, "stall"])) as url:
        run, _ = measured(url, 2, 3.0, timeout_s=0.8)
    assert run.serving is not None
    assert set(run.serving.failed) == {"no answer within 0.8 s"}
    answered = sum(block.queries for block in run.blocks)
    assert figure(run, "energy_per_query").value == pytest.approx(true_j(standin, run) / answered, rel=0.01)
    assert figure(run, "throughput").value < 25  # two slots would answer ninety
    assert figure(run, "latency_p95").value < 0.2  # of those that were answered


@pytest.mark.alone(waits=True)
def test_only_the_steady_part_counts(machine: Machine) -> None:
    machine()
    with serving(Behaviour(first_s=0.02, tokens=2, each_w=30, ramp=30)) as url:
        run, _ = measured(url, 4, 1.5)
    assert figure(run, "latency_p99").value < 0.15  # at first they took two tenths
    assert not any("still changing" in note for note in run.notes)


@contextmanager
def beside(code: str) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    try:
        yield
    finally:
        process.kill()
        process.wait()


@pytest.mark.alone(waits=True)
def test_a_stranger_that_comes_during_the_load_leaves_no_figure(machine: Machine) -> None:
    machine()
    code = (
        "import time; from pytest_greencompute.testing.standin import StandIn; gpu = StandIn.attach(); time.sleep(7)\n"
        "gpu.work(0, 0.1, 100); time.sleep(60)"
    )
    with serving(Behaviour(first_s=0.02, tokens=2, each_w=30, holds=True)) as url, beside(code):
        run, _ = measured(url, 4, 20.0)
    assert "another process used the GPU" in str(estimate(run, METRICS["energy_per_query"], Aim()))
    assert run.seconds < 20


# Without a GPU


def load_of(behaviour: Behaviour, concurrency: int = 4, seconds: float = 1.5, **fields: Any) -> ServedRun:
    with serving(behaviour) as url:
        run, outputs = load(url, ["cputime"], concurrency, seconds, **fields)
    return ServedRun(run, outputs, Aim(), lambda _: pytest.fail("it was measured"))


def said(run: ServedRun, *words: str) -> list[str]:
    return [note for note in run.notes if all(word in note for word in words)]


def test_a_server_that_closes_each_connection_fails_nothing_and_that_is_noted_with_its_share() -> None:
    run = load_of(Behaviour(first_s=0.02, tokens=2, closes=True))
    assert run.failed == {}
    assert run.error_rate == 0
    assert run.raw.serving is not None
    assert run.reconnected == run.raw.serving.answered > 20
    assert said(run, f"{run.reconnected} of {run.reconnected} requests found closed the connection that the server keeps")


def test_answers_that_did_not_come_are_failures_and_those_that_were_cut_are_noted() -> None:
    run = load_of(Behaviour(first_s=0.01, tokens=2, faults=["", "ended by length", "ended by abort", "error event"]))
    assert set(run.failed) == {"ended by abort", "error in the answer"}
    assert 0.4 < run.error_rate.value < 0.6
    assert run.raw.serving is not None
    assert run.raw.serving.cut == pytest.approx(run.raw.serving.answered / 2, abs=4)
    assert said(run, f"{run.raw.serving.cut} of {run.raw.serving.answered} answers were cut at max_tokens (64)")
    assert said(run, "× ended by abort", "overloaded")


def test_what_the_server_had_in_its_cache_is_shown_and_much_of_it_is_noted() -> None:
    def cached(tokens: int | None) -> ServedRun:
        reports = {"prompt_tokens": 40, **({} if tokens is None else {"prompt_tokens_details": {"cached_tokens": tokens}})}
        return load_of(Behaviour(first_s=0.02, tokens=2, reports=reports), seconds=0.5)

    much, little, unsaid = cached(30), cached(3), cached(None)
    assert (much.cached_share, little.cached_share, unsaid.cached_share) == (0.75, 0.075, None)
    assert said(much, "had 75 % of the prompts' tokens in its cache")
    assert not said(little, "cache")
    assert not said(unsaid, "cache")


def test_tokens_without_usage_are_a_lower_bound() -> None:
    run = load_of(Behaviour(first_s=0.02, tokens=4, an_event=2, usage=False), seconds=0.5)
    assert "or more" not in str(estimate(run.raw, METRICS["energy_per_query"], Aim()))
    assert isinstance(estimate(run.raw, METRICS["energy_per_token"], Aim()), Missing)
    assert isinstance(estimate(run.raw, METRICS["inter_token_latency_p50"], Aim()), Missing)
    assert is_bound(figure(run.raw, "tokens_per_query"))
    assert figure(run.raw, "time_to_first_token_p50").value > 0
    assert said(run, "at least as many tokens as events")


def test_several_tokens_an_event_are_told() -> None:
    run = load_of(Behaviour(first_s=0.02, token_s=0.004, tokens=12, an_event=4), seconds=0.5)
    assert run.tokens_per_query.value == pytest.approx(12)
    assert said(run, "an event brings 4 tokens")
    assert not said(load_of(Behaviour(first_s=0.02, tokens=4), seconds=0.5), "an event brings")


@pytest.mark.alone(waits=True)
def test_a_server_that_keeps_its_answers_is_found_out() -> None:
    assert said(load_of(Behaviour(first_s=0.1, tokens=2, remembers=True), seconds=0.5), "asked again", "times sooner")
    assert not said(load_of(Behaviour(first_s=0.1, tokens=2), seconds=0.5), "asked again")
    assert not said(load_of(Behaviour(first_s=0.02, tokens=2, ramp=30), seconds=0.5), "asked again")  # it warms up


@pytest.mark.alone(waits=True)
def test_cpu_seconds_of_a_server_that_this_process_started_are_seen() -> None:
    with serving(Behaviour(first_s=0.01, token_s=0.002, tokens=3)) as url:
        assert listens_here(int(url.rpartition(":")[2]))
        run, outputs = load(url, ["cputime"], 4, 1.5)
    served = ServedRun(run, outputs, Aim(), lambda _: pytest.fail("it was measured"))
    assert served.energy_per_query.method == "modelled"
    assert served.time_to_first_token_p50 < "0.2 s"
    assert served.time_to_first_token_p95 < "0.5 s"
    assert served.time_to_first_token_p99 < "1 s"
    assert served.inter_token_latency_p50 < served.inter_token_latency_p95
    assert served.error_rate < "1 %"
    assert served.failed == {}
    assert any("sending the requests took" in note for note in run.notes)


def test_cpu_seconds_of_any_other_server_are_not_and_that_is_unmeasured() -> None:
    code = (
        "import time; from tests.serving.stub import Behaviour, serving as s\nwith s(Behaviour()) as u: print(u, flush=True); time.sleep(9)"
    )
    apart = ["sh", "-c", f'setsid {sys.executable} -c "$0" & ', code]  # its parent ends at once, so that it is nobody's child here
    with subprocess.Popen(apart, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert not listens_here(int(url.rpartition(":")[2]))
        run, _ = load(url, ["cputime"], 2, 1.0)
    assert "does not see the server" in str(estimate(run, METRICS["energy_per_query"], Aim()))
    assert figure(run, "throughput").value > 0  # the rest is measured


def test_a_server_that_answers_nothing_any_more_is_unmeasured_and_its_errors_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_greencompute.serving.load.WARMUP_S", 1.0)
    with serving(Behaviour(faults=["", "500"], forever=True)) as url:
        instruments = open_instruments(["cputime"], cpu_watts_per_core=10)
        client, _ = open_client(wanted(url), None, RealClock())
        with client:
            assert client.ask(0).failed == ""
            run, outputs = measure_load(client, wanted(url), Load(2, None), instruments, Effort(1.0))
    assert "the server answered nothing" in str(estimate(run, METRICS["energy_per_query"], Aim()))
    assert figure(run, "error_rate").value == 1
    assert set(outputs) == {None}


def test_references_are_scored_once_each_prompt_was_tried() -> None:
    with serving(Behaviour(first_s=0.01, tokens=1, faults=[*[""] * 6, "500"])) as url:
        instruments = open_instruments(["cputime"], cpu_watts_per_core=10)
        client, _ = open_client(wanted(url), None, RealClock())
        right = [f"{prompt} " for prompt in PROMPTS[:-1]] + ["something else"]
        with client:
            run, _ = measure_load(client, wanted(url), Load(4, None, references=right), instruments, Effort(2.0))
    assert run.scores is not None
    assert run.scores[-1] == 0
    assert sum(run.scores) >= len(PROMPTS) - 2
