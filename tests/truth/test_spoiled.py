"""A fault never becomes a number: whatever goes wrong, the energy is right within 2 %, or the run says that it has none."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_greencompute.errors import MeterError
from pytest_greencompute.estimates.estimate import Estimate, Missing

from . import soak
from .scenes import SENSORS, STATES, Scene, clear, energy, fault, jump, neighbour, suspend

WHEN = (20, 200, 420)
SCRIPTS: dict[str, dict[int, Callable[[Scene], None]]] = {
    **{f"{name} from call {call} on": {call: fault(name)} for name in (*STATES, "reset") for call in WHEN},
    **{f"{name} for a moment at call {call}": {call: fault(name), call + 7: clear} for name in STATES for call in WHEN},
    **{f"resets at {call} and {call + 60}": {call: fault("reset"), call + 60: fault("reset")} for call in WHEN},
    **{f"a neighbour from call {call} on": {call: neighbour()} for call in WHEN},
    **{f"suspended at call {call}": {call: suspend()} for call in WHEN},
    **{f"the clock jumps at call {call}": {call: jump()} for call in WHEN},
}


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("sensor", SENSORS)
def test_no_fault_becomes_a_number(sensor: str, script: str) -> None:
    scene = Scene(SENSORS[sensor], SCRIPTS[script])
    try:
        run = scene.run()
    except MeterError:
        return  # said aloud: the test is red
    found = energy(run)
    if isinstance(found, Estimate) and abs(found.value / scene.true_j - 1) > 0.02:
        assert any(block.marks for block in run.blocks), f"{found} where {scene.true_j} J is true, and nothing was marked"
        pytest.fail(f"{found} where {scene.true_j} J is true: marked, and yet reported")


@pytest.mark.parametrize("sensor", SENSORS)
def test_without_a_fault_the_same_scene_is_measured_right(sensor: str) -> None:
    scene = Scene(SENSORS[sensor], {})
    found = energy(scene.run())
    assert isinstance(found, Estimate)
    assert abs(found.value / scene.true_j - 1) < 0.02


def test_random_faults_leave_no_wrong_figure_unmarked() -> None:
    found = list(soak.soak(hours=0.25, seed=0))
    assert [each for each in found if each.outcome == "wrong"] == []
    assert {"right", "refused: no figure", "refused: an error"} <= {each.outcome for each in found}


def test_a_throttled_gpu_is_unmeasured_and_says_why() -> None:
    found = energy(Scene(SENSORS["100/100"], {20: fault("throttled")}).run())
    assert isinstance(found, Missing)
    assert "thermal slowdown" in found.reason


@pytest.mark.parametrize("sensor", ["100/25", "100/100"], ids=["sets of nine blocks", "single blocks"])
def test_a_short_slowdown_marks_its_blocks_and_spoils_nothing(sensor: str) -> None:
    runs = (Scene(SENSORS[sensor], {call: fault("throttled"), call + 7: clear}).run() for call in range(250, 274, 6))
    run = next(run for run in runs if any(block.marks for block in run.blocks))  # one of them is at the end of a block
    assert {mark for block in run.blocks for mark in block.marks} == {"thermal slowdown"}
    assert isinstance(energy(run), Estimate)


def test_another_process_is_unmeasured_unless_it_is_allowed_by_name() -> None:
    script = {20: fault("foreign")}
    found = energy(Scene(SENSORS["100/100"], script).run())
    assert isinstance(found, Missing)
    assert "another process" in found.reason
    assert isinstance(energy(Scene(SENSORS["100/100"], script, allowed=frozenset({"another process"})).run()), Estimate)


def test_a_neighbour_whom_no_process_list_shows_is_seen_in_the_gaps() -> None:
    found = energy(Scene(SENSORS["100/100"], {420: neighbour()}).run())
    assert isinstance(found, Missing)
    assert "another process" in found.reason


def test_a_suspended_machine_loses_the_set_and_says_so() -> None:
    run = Scene(SENSORS["100/100"], {420: suspend()}).run()
    assert any("suspended for 30 s" in note for note in run.notes)
    assert isinstance(energy(run), Estimate)


def test_a_clock_jump_loses_the_set_and_says_so() -> None:
    run = Scene(SENSORS["100/100"], {420: jump()}).run()
    assert any("its clock jumped" in note for note in run.notes)


def test_a_counter_reset_loses_the_set_and_says_so() -> None:
    run = Scene(SENSORS["100/100"], {420: fault("reset")}).run()
    assert any("ran backwards" in note for note in run.notes)
    assert isinstance(energy(run), Estimate)


def test_a_counter_that_stands_still_while_it_is_probed_is_an_error_with_a_remedy() -> None:
    scene = Scene(SENSORS["100/100"], {})
    scene.gpu.fault("stuck")
    with pytest.raises(MeterError, match="did not change for 2 s"):
        scene.run()


def test_a_gpu_that_stays_lost_is_an_error_after_three_sets() -> None:
    with pytest.raises(MeterError, match="3 sets were lost"):
        Scene(SENSORS["100/100"], {420: fault("lost")}).run(seconds=90)


def test_slow_reads_throughout_leave_no_figure() -> None:
    found = energy(Scene(SENSORS["100/100"], {90: fault("slow read")}).run())
    assert isinstance(found, Missing)
    assert "slow read" in found.reason
