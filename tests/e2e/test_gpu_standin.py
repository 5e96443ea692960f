"""A GPU end to end: real pynvml in a process of its own, reading a stand-in for the driver's library whose true power is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_greencompute.testing.sensor import PROFILES, Sensor
from pytest_greencompute.testing.standin import StandIn, StandInDevice
from tests.repositories import commit_all

from .conftest import Project

pytestmark = pytest.mark.alone(waits=True)

Machine = Callable[..., StandIn]

SENSOR = PROFILES["V100"]  # the shortest tick of a real GPU, 20 ms: a window of a fifth of a second is long enough

QUICK = Sensor(0.002, 0.002)  # the phase of so short a tick does not matter: pairs come in a second each

CONFTEST = """
import time
import pytest
from pytest_greencompute.testing.standin import StandIn

class Gpu:
    def __init__(self):
        self.standin = StandIn.attach()
        self.joules = self.queries = 0.0

    def model(self, device=0, watts=300.0, seconds=0.01):
        def run(batch):
            start = time.perf_counter_ns()
            self.standin.work(device, seconds, watts)
            self.joules += watts * (time.perf_counter_ns() - start) / 1e9
            self.queries += len(batch)
            return [query.upper() for query in batch]
        return run

@pytest.fixture
def gpu():
    return Gpu()
"""


@pytest.fixture
def machine(project: Project, standin_library: Path) -> Machine:
    """Makes the inner project's machine: GPUs with the sensor of a V100."""

    def make(*devices: StandInDevice) -> StandIn:
        project.write("conftest.py", CONFTEST)
        project.toml('meters = ["nvml"]')
        standin = StandIn.create(project.path, devices or (StandInDevice(SENSOR),), library=standin_library)
        for name, value in standin.env.items():
            project.monkeypatch.setenv(name, value)
        return standin

    return make


def test_a_gpu_is_judged_on_its_counter_and_an_idle_one_is_unmeasured(project: Project, machine: Machine) -> None:
    standin = machine()
    project.write(
        "test_it.py",
        """
        import time
        import pytest

        @pytest.mark.energy_budget(energy_per_query="200 J")
        def test_within(energy_meter, gpu):
            with energy_meter.window() as window:
                gpu.model(seconds=0.5)("a")
            assert window.energy.value == pytest.approx(gpu.joules, rel=0.03)

        @pytest.mark.energy_budget(energy_per_query="200 J")
        def test_over(energy_meter, gpu):
            with energy_meter.window():
                gpu.model(seconds=1.0)("a")

        @pytest.mark.energy_budget(energy_per_query="200 J")
        def test_on_cpu(energy_meter):
            with energy_meter.window():
                time.sleep(0.5)
        """,
    )
    result = project.run_apart("--energy-budget", "--energy-json=energy.json", "--energy-unmeasured=fail")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(
        [
            "test_over used 30?.? J per query [[]*] on gpu:0, over its budget of 200 J (1.5 times).*",
            "test_on_cpu has no energy_per_query to judge: gpu:0 drew no more than idle power while the queries ran:"
            " the model did not run there.*",
            "*energy: nvml gpu:0 NVIDIA H100 80GB HBM3, counter, tick *",
        ]
    )
    report = project.report()
    (meter,) = report["session"]["meters"]
    assert (meter["name"], meter["domain"], meter["method"], meter["uuid"]) == ("nvml", "gpu:0", "counter", standin.uuid(0))
    assert meter["tick_s"] == pytest.approx(0.02, rel=0.1)
    assert [run["verdicts"][0]["verdict"] for run in report["runs"]] == ["PASS", "FAIL", "UNMEASURED"]


def test_a_loop_of_queries_on_a_gpu_is_measured_to_within_three_per_cent(project: Project, machine: Machine) -> None:
    machine()
    project.write(
        "test_it.py",
        """
        import pytest

        @pytest.mark.energy_budget(energy_per_query="4 J", latency_p95="1 s", accuracy=0.9)
        def test_it(energy_meter, gpu):
            run = energy_meter.measure(gpu.model(), list("abcd"), references=list("ABCD"))
            assert run.energy_per_query.value == pytest.approx(gpu.joules / gpu.queries, rel=0.03)
            assert run.average_power.value == pytest.approx(300, rel=0.03)
        """,
    )
    project.run_apart("--energy-budget", "--energy-max-seconds=5", "--energy-json=energy.json").assert_outcomes(passed=1)
    (run,) = project.report()["runs"]
    assert [each["verdict"] for each in run["verdicts"]] == ["PASS", "PASS", "PASS"]
    assert run["metrics"]["energy_per_query"]["domain"] == "gpu:0"
    assert run["provenance"]["devices"]["gpu:0"]["driver"] == "550.54.15"
    assert run["raw"]["sources"][0]["lag_s"] == 0


def test_of_two_gpus_only_the_visible_one_is_metered(project: Project, machine: Machine) -> None:
    standin = machine(StandInDevice(SENSOR), StandInDevice(SENSOR))
    project.monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    project.write(
        "test_it.py",
        """
        import pytest

        def test_visible(energy_meter, gpu):
            with energy_meter.window() as window:
                gpu.model(device=1, seconds=0.5)("a")
            assert window.energy.value == pytest.approx(150, rel=0.05)
            assert window.energy.domain == "gpu:1"
        """,
    )
    result = project.run_apart("--energy-budget", "--energy-json=energy.json")
    result.assert_outcomes(passed=1)
    (meter,) = project.report()["session"]["meters"]
    assert (meter["domain"], meter["uuid"]) == ("gpu:1", standin.uuid(1))


def test_of_two_visible_gpus_both_are_metered_and_an_idle_one_is_left_out_of_the_sum(project: Project, machine: Machine) -> None:
    machine(StandInDevice(SENSOR), StandInDevice(SENSOR))
    project.write(
        "test_it.py",
        """
        import pytest

        def test_one_idle(energy_meter, gpu):
            with energy_meter.window() as window:
                gpu.model(device=0, seconds=0.5)("a")
            assert window.energy.value == pytest.approx(150, rel=0.05)
            assert window.energy.domain == "gpu:0"

        def test_both(energy_meter, gpu):
            with energy_meter.window() as window:
                gpu.standin.set_power(1, 200)
                gpu.model(device=0, seconds=0.5)("a")
                gpu.standin.set_power(1, 60)
            assert window.energy.value == pytest.approx(250, rel=0.05)
            assert window.energy.domain == "gpu:0+gpu:1"
        """,
    )
    result = project.run_apart("--energy-budget")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*energy: nvml gpu:0 *; nvml gpu:1 *"])


def test_the_two_sides_of_a_comparison_are_no_strangers_to_each_other(project: Project, machine: Machine) -> None:
    """The driver lists both to both, as on any machine without containers."""
    machine(StandInDevice(QUICK))
    project.write("work.py", "SECONDS = 0.01")
    project.write(
        "test_it.py",
        """
        from work import SECONDS

        def test_it(energy_meter, gpu):
            energy_meter.measure(gpu.model(seconds=SECONDS), list("abcd"))
        """,
    )
    commit_all(project.path)
    result = project.run_apart("--energy-budget", "--energy-base-ref=HEAD", "--energy-unmeasured=fail", timeout=120)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["test_it * PASS *HEAD*"])


SWEEP = """
import os

def test_batching(energy_meter, gpu):
    first = gpu.standin.uuid(0)
    card = int(os.environ.get("CUDA_VISIBLE_DEVICES", first) != first)

    def model(batch):  # 6, 9 and 21 ms at 300 W
        gpu.standin.work(card, 0.005 + 0.001 * len(batch), 300.0)
        return list(batch)

    sweep = energy_meter.sweep(model, list("abcd" * 4), batch_size=[1, 4, 16], spread=True)
    assert sweep.cheapest == {"batch_size": 16}
"""
JUDGED = "    sweep.assert_right_sized(batch_size=1)\n"


def test_a_sweep_over_two_equal_gpus_is_one_comparison(project: Project, machine: Machine) -> None:
    standin = machine(StandInDevice(QUICK), StandInDevice(QUICK))
    project.write("test_it.py", SWEEP + JUDGED)
    result = project.run_apart("--energy-budget", "--energy-max-seconds=3", "--energy-json=energy.json", timeout=120)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["test_batching: batch_size=1 uses * times * the energy per query of batch_size=16 (* on gpu:0 and gpu:1, compared by way of *"]
    )
    runs = {run["name"]: run for run in project.report()["runs"]}
    cards = {name: [device["uuid"] for device in run["provenance"]["devices"].values()] for name, run in runs.items()}
    assert cards == {f"batch_size={size}": [standin.uuid(place)] for size, place in ((1, 0), (4, 0), (16, 1))}
    # What joins the two cards is in the report, so that the ratios can be worked out again from it.
    assert [name for name, run in runs.items() if "linked" in run] == ["batch_size=4"]
    both = runs["batch_size=4"]["raw"], runs["batch_size=4"]["linked"]["raw"]
    assert all(each["sets"] for each in both)
    assert both[0] != both[1]


@pytest.mark.parametrize(
    ("devices", "why"),
    [
        ((StandInDevice(QUICK),), "one GPU is metered"),
        ((StandInDevice(QUICK), StandInDevice(QUICK, power_limit_w=500.0)), "the GPUs are unlike: power limit (W) 500.0, 700.0"),
    ],
)
def test_a_sweep_that_cannot_be_spread_says_why_and_is_measured_by_turns(
    project: Project, machine: Machine, devices: tuple[StandInDevice, ...], why: str
) -> None:
    machine(*devices)
    project.write("test_it.py", SWEEP)
    result = project.run_apart("--energy-budget", "--energy-max-seconds=2", "--energy-json=energy.json", timeout=120)
    result.assert_outcomes(passed=1)
    runs = project.report()["runs"]
    assert all(f"not spread over GPUs: {why}" in run["notes"] for run in runs)
    assert len(runs) == 3


def test_in_mig_mode_energy_is_unmeasured_with_the_remedy_and_the_other_budgets_are_judged(project: Project, machine: Machine) -> None:
    machine().fault("mig")
    project.write(
        "test_it.py",
        """
        import pytest

        @pytest.mark.energy_budget(energy_per_query="4 J", latency_p95="1 s", accuracy=0.9)
        def test_it(energy_meter, gpu):
            energy_meter.measure(gpu.model(seconds=0.002), list("abcd"), references=list("ABCD"))

        @pytest.mark.energy_budget(latency_p95="1 ms")
        def test_slow(energy_meter, gpu):
            energy_meter.measure(gpu.model(seconds=0.002), list("abcd"))
        """,
    )
    result = project.run_apart("--energy-budget", "--energy-json=energy.json")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "test_slow took * ms at the 95th percentile *, over its budget of 1 ms *",
            "*energy: no meter*",
            "warning: test_it has no energy_per_query to judge: *MIG mode*Turn MIG off with `sudo nvidia-smi -i 0 -mig 0`*",
        ]
    )
    verdicts = {each["metric"]: each["verdict"] for each in project.report()["runs"][0]["verdicts"]}
    assert verdicts == {"energy_per_query": "UNMEASURED", "latency_p95": "PASS", "accuracy": "PASS"}


def test_a_gpu_that_is_lost_while_measuring_turns_that_test_red_and_the_session_goes_on(project: Project, machine: Machine) -> None:
    machine()
    project.write(
        "test_it.py",
        """
        def test_lost(energy_meter, gpu):
            with energy_meter.window():
                gpu.standin.fault("lost")

        def test_next(gpu):
            gpu.standin.clear_faults()

        def test_again(energy_meter, gpu):
            with energy_meter.window() as window:
                gpu.model(seconds=0.5)("a")
            assert window.energy > 100
        """,
    )
    result = project.run_apart("--energy-budget", "--energy-json=energy.json")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*MeterLostError: gpu:0 (NVIDIA H100 80GB HBM3) is lost: it no longer answers the driver. *"])
    project.report()
