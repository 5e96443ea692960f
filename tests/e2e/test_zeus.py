"""--energy-meter zeus: budgets judged on what the real package Zeus reads of an AMD GPU that is made up."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

pytest.importorskip("zeus.device")

import pytest_greencompute.machine.clock
from pytest_greencompute.errors import MeterError
from pytest_greencompute.meters.nvml import NvmlMeter
from pytest_greencompute.meters.zeus import ZeusMeter
from pytest_greencompute.testing.simulated import SimulatedCounter
from tests.fake_drivers import AmdCard, AmdSmi, AmdSmiLibraryException, amd_gpu, hide_nvidia, install_amdsmi

from .conftest import Project

TESTS = """
    import pytest
    from amd_card import gpu, model

    @pytest.mark.energy_budget(energy_per_query="20 J")
    def test_lean(energy_meter):
        run = energy_meter.measure(model(300), list("abcd"))
        assert run.energy_per_query.value == pytest.approx(15, rel=0.01)

    @pytest.mark.energy_budget(energy_per_query="20 J")
    def test_wasteful(energy_meter):
        energy_meter.measure(model(500), list("abcd"))

    @pytest.mark.energy_budget(energy_per_query="20 J")
    def test_elsewhere(energy_meter):
        energy_meter.measure(model(60), list("abcd"))

    @pytest.mark.energy_budget(energy_per_query="20 J")
    def test_frozen(energy_meter):
        energy_meter.measure(model(300, freezes_after=20), list("abcd"))
"""


@pytest.fixture
def cards(project: Project, monkeypatch: pytest.MonkeyPatch) -> list[AmdCard]:
    """Two AMD GPUs; the inner tests have the first as ``amd_card.gpu``, and ``amd_card.model(watts)`` works on it for 50 ms a query."""
    clock = pytest_greencompute.machine.clock.RealClock()
    made = [AmdCard(amd_gpu(clock), hip_id=index) for index in range(2)]  # type: ignore[arg-type] - the project's is simulated
    gpu = made[0].gpu

    def model(watts: float, freezes_after: int = 0) -> object:
        calls = 0

        def run(batch: list[str]) -> list[str]:
            nonlocal calls
            calls += 1
            if calls == freezes_after:
                gpu.fault("stuck")
            gpu.work(0.05, watts)
            return batch

        return run

    install_amdsmi(monkeypatch, AmdSmi(*made))
    hide_nvidia(monkeypatch)
    monkeypatch.setitem(sys.modules, "amd_card", SimpleNamespace(gpu=gpu, model=model))  # type: ignore[arg-type]
    for name in ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    project.write("test_it.py", TESTS)
    return made


def test_budgets_pass_fail_and_go_unmeasured_on_an_amd_gpu(project: Project, cards: list[AmdCard]) -> None:
    result = project.measure("--energy-meter=zeus", "--energy-unmeasured=fail", "--energy-json=energy.json", "-k", "not frozen")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(
        [
            "test_wasteful used 25.* J per query [[]*] on gpu:0, over its budget of 20 J (1.[23] times).*",
            "test_elsewhere has no energy_per_query to judge: gpu:0, gpu:1 drew no more than idle power while the queries ran*",
            "*energy: zeus gpu:0 AMD Instinct MI300X, counter, tick *ms; zeus gpu:1 AMD Instinct MI300X, counter, tick *ms*",
        ]
    )
    report = project.report()
    assert [run["verdicts"][0]["verdict"] for run in report["runs"]] == ["PASS", "FAIL", "UNMEASURED"]
    assert [each["domain"] for each in report["session"]["meters"]] == ["gpu:0", "gpu:1"]


def test_a_counter_that_freezes_on_the_way_passes_no_budget_and_no_total(project: Project, cards: list[AmdCard]) -> None:
    result = project.measure("--energy-meter=zeus", "--energy-unmeasured=fail", "--energy-total=1 MJ", "-k", "frozen")
    result.assert_outcomes(failed=1)
    sentence = "The energy counter of gpu:0 (AMD Instinct MI300X) has stood still for 2.0 s."
    result.stdout.fnmatch_lines([f"E *{sentence}*", f"The session has no total to judge: {sentence}*"])


@pytest.mark.parametrize("meters", ["zeus", "zeus,world"])
def test_a_gpu_that_cannot_be_read_leaves_no_figure_of_the_others(project: Project, cards: list[AmdCard], meters: str) -> None:
    cards[1].answers |= {"energy_count": None, "power_info": None}
    result = project.measure(f"--energy-meter={meters}", "--energy-unmeasured=fail", "-k", "lean or wasteful")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*gpu:1 (AMD Instinct MI300X) *The others can be measured: HIP_VISIBLE_DEVICES=0*"])
    project.monkeypatch.setenv("HIP_VISIBLE_DEVICES", "0")
    project.measure(f"--energy-meter={meters}", "--energy-unmeasured=fail", "-k", "lean or wasteful").assert_outcomes(passed=1, failed=1)


def test_without_hardware_a_budget_is_unmeasured_with_the_remedy(
    project: Project, cards: list[AmdCard], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = AmdSmi()
    gone.init_error = AmdSmiLibraryException(34)
    install_amdsmi(monkeypatch, gone)
    result = project.measure("--energy-meter=zeus", "--energy-unmeasured=fail", "-k", "lean")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*amdsmi could not be started*Install ROCm 6.2 or newer*"])


def test_a_board_that_is_metered_whole_misses_no_joules_of_a_gpu_that_nvml_cannot_read(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = SimulatedCounter(pytest_greencompute.machine.clock.RealClock(), domain="board", idle_w=5)  # type: ignore[arg-type]

    def refuse(self: object, options: object) -> None:
        raise MeterError("gpu:0 gives neither its energy nor its power (a Tegra or a virtual GPU does not).")

    monkeypatch.setattr(NvmlMeter, "find", refuse)
    monkeypatch.setattr(ZeusMeter, "find", lambda self, options: [board])
    monkeypatch.setitem(sys.modules, "jetson_board", SimpleNamespace(board=board))  # type: ignore[arg-type]
    project.write(
        "test_it.py",
        """
        import pytest
        from jetson_board import board

        @pytest.mark.energy_budget(energy_per_query="1 J")
        def test_it(energy_meter):
            energy_meter.measure(lambda batch: board.work(0.05, 15) or batch, list("abcd"))
        """,
    )
    result = project.measure("--energy-meter=nvml,zeus", "--energy-unmeasured=fail")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["test_it *0.750 J*PASS*"])
