"""--energy-save and --energy-baseline: runs kept, and runs judged against them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import CONFTEST, Project
from .test_bad_input import refused, said

TEST = """
    import os
    import pytest

    @pytest.mark.energy_budget(energy_per_query="2.5 J")
    def test_it(energy_meter, world):
        model = world.model(float(os.environ.get("JOULES", "0.5")), float(os.environ.get("SECONDS", "0.01")))
        wrong = int(os.environ.get("WRONG", "0"))
        references = ["X"] * wrong + ["QUERY"] * (100 - wrong)
        batch_size = int(os.environ.get("BATCH_SIZE", "1"))
        energy_meter.measure(model, ["query"] * 100, references=references, batch_size=batch_size)
"""


def runs_of(project: Project, name: str = "main") -> list[Path]:
    return sorted((project.path / ".greencompute" / "baselines" / name).glob("*"))


@pytest.fixture
def saved(project: Project) -> Project:
    """A project with one run of 0.5 J a query in the baseline main."""
    project.write("test_it.py", TEST)
    result = project.measure("--energy-save=main")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["saved 1 run to baseline 'main' (.greencompute/baselines/main/*.json)"])
    return project


def test_the_same_energy_passes_against_a_saved_run_and_the_file_is_a_valid_report(saved: Project) -> None:
    (path,) = runs_of(saved)
    saved.report(str(path))
    result = saved.measure("--energy-baseline=main", "--energy-json=energy.json")
    result.assert_outcomes(passed=1)
    assert result.ret == 0
    (run,) = saved.report()["runs"]
    assert {(each["metric"], each["kind"]): each["verdict"] for each in run["verdicts"]} == {
        ("energy_per_query", "budget"): "PASS",
        ("energy_per_query", "baseline"): "INCONCLUSIVE",
        ("accuracy", "baseline"): "PASS",
    }


def test_with_three_saved_runs_of_one_energy_the_same_energy_passes(saved: Project) -> None:
    for _ in range(2):
        saved.measure("--energy-save=main").assert_outcomes(passed=1)
    assert len(runs_of(saved)) == 3
    result = saved.measure("--energy-baseline=main", "--energy-inconclusive=fail", "--energy-json=energy.json")
    result.assert_outcomes(passed=1)
    assert [each["verdict"] for each in saved.report()["runs"][0]["verdicts"]] == ["PASS", "PASS", "PASS"]


def test_doubled_energy_fails_against_the_baseline_with_both_numbers_and_what_to_do(saved: Project) -> None:
    saved.monkeypatch.setenv("JOULES", "1")
    result = saved.measure("--energy-baseline=main", "--energy-json=energy.json")
    result.assert_outcomes(failed=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "test_it.py F*",
            "test_it used 1.000 J per query * on gpu:0: +100 % [[]*] against baseline 'main' (0.500 J, 1 run),"
            " worse than the tolerance of 5.0 %. With 1 saved run, launches are assumed to differ by *"
            " If it is meant to cost more: pytest --energy-budget --energy-save NAME keeps a new baseline; 'main' stays.",
            "*FAIL energy*",
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    (run,) = saved.report()["runs"]
    assert [(each["kind"], each["verdict"]) for each in run["verdicts"] if each["metric"] == "energy_per_query"] == [
        ("budget", "PASS"),
        ("baseline", "FAIL"),
    ]


def test_halved_energy_passes(saved: Project) -> None:
    saved.monkeypatch.setenv("JOULES", "0.25")
    saved.measure("--energy-baseline=main").assert_outcomes(passed=1)


def test_a_drop_in_accuracy_fails_against_the_baseline(saved: Project) -> None:
    saved.monkeypatch.setenv("WRONG", "20")
    result = saved.measure("--energy-baseline=main")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["test_it scored 0.8000 * against 1.00 in baseline 'main': a drop (20 of 100 scores changed).*"])


def test_slower_answers_do_not_fail_unless_latency_is_in_the_budget(saved: Project) -> None:
    saved.monkeypatch.setenv("SECONDS", "0.02")
    saved.measure("--energy-baseline=main").assert_outcomes(passed=1)
    saved.write("test_it.py", TEST.replace('"2.5 J"', '"2.5 J", latency_p50="1 s"'))
    result = saved.measure("--energy-baseline=main")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["test_it took 20.00 ms at the median *: +100 % [[]*] against baseline 'main' (10.0 ms, 1 run)*"])


def test_a_run_over_its_budget_is_not_saved_and_the_others_of_the_session_are(project: Project) -> None:
    project.write(
        "test_it.py",
        TEST
        + """
    @pytest.mark.energy_budget(energy_per_query="0.1 J")
    def test_over(energy_meter, world):
        energy_meter.measure(world.model(), list("abcd"))

    def test_own_assertion(energy_meter, world):
        energy_meter.measure(world.model(), list("abcd"))
        assert False
    """,
    )
    result = project.measure("--energy-save=main")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["saved 1 run to baseline 'main' (*.json); 2 that failed or measured nothing left out"])
    (path,) = runs_of(project)
    assert [run["test"] for run in project.report(str(path))["runs"]] == ["test_it.py::test_it"]


def test_nothing_is_saved_where_no_run_passed(project: Project) -> None:
    project.write("test_it.py", TEST)
    project.monkeypatch.setenv("JOULES", "5")
    result = project.measure("--energy-save=main")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["baseline 'main' was not saved: no run passed"])
    assert runs_of(project) == []


def test_a_failed_run_under_xfail_or_warn_is_not_saved_either(project: Project) -> None:
    project.write("test_it.py", TEST.replace("@pytest", "@pytest.mark.xfail\n    @pytest"))
    project.monkeypatch.setenv("JOULES", "5")
    project.measure("--energy-save=main").assert_outcomes(xfailed=1)
    project.write("test_it.py", TEST)
    project.measure("--energy-save=main", "--energy-enforce=warn").assert_outcomes(passed=1)
    assert runs_of(project) == []


def test_a_run_that_regressed_is_not_saved_into_the_baseline_it_was_judged_against(saved: Project) -> None:
    saved.monkeypatch.setenv("JOULES", "1")
    saved.measure("--energy-baseline=main", "--energy-save=main").assert_outcomes(failed=1)
    assert len(runs_of(saved)) == 1


def test_a_baseline_that_does_not_exist_is_unmeasured_and_the_command_that_makes_one_is_named(saved: Project) -> None:
    result = saved.measure("--energy-baseline=release", "--energy-unmeasured=fail")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "test_it has no energy_per_query to judge: baseline 'release' has no run of it;"
            " `pytest --energy-budget --energy-save release` saves one.*"
        ]
    )
    saved.measure("--energy-baseline=release").assert_outcomes(passed=1)


def test_a_run_on_other_hardware_is_not_compared_and_the_difference_is_named(saved: Project) -> None:
    saved.monkeypatch.setenv("WORLD_GPU", "Other GPU 9")
    result = saved.measure("--energy-baseline=main", "--energy-unmeasured=fail")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "test_it has no energy_per_query to judge: baseline 'main' was measured otherwise"
            " (GPU: Other GPU 9 here, Test GPU 3000 in the baseline); `pytest --energy-budget --energy-save main` saves one.*"
        ]
    )
    saved.monkeypatch.delenv("WORLD_GPU")
    saved.monkeypatch.setenv("BATCH_SIZE", "4")
    result = saved.measure("--energy-baseline=main", "--energy-unmeasured=fail")
    result.stdout.fnmatch_lines(["*(batch size: 4 here, 1 in the baseline)*"])


def test_a_baseline_file_cut_short_ends_the_session_before_it_starts_and_is_named(saved: Project) -> None:
    (path,) = runs_of(saved)
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole[: len(whole) // 2], encoding="utf-8")
    remedy = "Where this was one, restore it or move it away."
    refused(saved.measure("--energy-baseline=main"), f"{path} is not a whole run file", remedy)
    path.write_text("", encoding="utf-8")
    refused(saved.measure("--energy-baseline=main"), f"{path} is not a whole run file", remedy)
    path.write_text("[]", encoding="utf-8")
    refused(saved.measure("--energy-baseline=main"), f"{path} has schema None", remedy)
    path.write_bytes(b"\xff\xfe")
    refused(saved.measure("--energy-baseline=main"), f"{path} cannot be read", remedy)


def test_a_baseline_file_of_a_newer_schema_says_to_update(saved: Project) -> None:
    (path,) = runs_of(saved)
    path.write_text(path.read_text(encoding="utf-8").replace("greencompute.report/1", "greencompute.report/2"), encoding="utf-8")
    refused(
        saved.measure("--energy-baseline=main"),
        f"{path} has schema 'greencompute.report/2'; this version reads 'greencompute.report/1'. Update pytest-greencompute.",
    )


@pytest.mark.parametrize("damage", [{"queries": -1}, {"raw": {}}, {"notes": 3}])
def test_a_baseline_file_with_a_damaged_run_is_named(saved: Project, damage: dict[str, object]) -> None:
    (path,) = runs_of(saved)
    data = json.loads(path.read_text(encoding="utf-8"))
    data["runs"][0].update(damage)
    path.write_text(json.dumps(data), encoding="utf-8")
    refused(saved.measure("--energy-baseline=main"), str(path))


def file_for_folder(saved: Project) -> Path:
    """Puts a file where the baseline's folder should be."""
    (path,) = runs_of(saved)
    path.unlink()
    path.parent.rmdir()
    path.parent.write_text("", encoding="utf-8")
    return path.parent


def test_a_baseline_that_cannot_be_saved_is_refused_before_anything_is_measured(saved: Project) -> None:
    folder = file_for_folder(saved)
    refused(saved.measure("--energy-save=main"), f"{folder}/session.json cannot be written: Not a directory.")


def test_a_baseline_that_cannot_be_saved_any_more_makes_the_session_red_and_is_named(saved: Project) -> None:
    folder = file_for_folder(saved)
    folder.unlink()
    saved.write("conftest.py", f"{CONFTEST}\ndef pytest_runtest_setup(item):\n    open({str(folder)!r}, 'w').close()\n")
    result = saved.measure("--energy-save=main")
    result.assert_outcomes(passed=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines([f"baseline 'main' was not saved: {folder}/* cannot be written: *"])


def test_a_baseline_that_is_a_file_where_a_folder_should_be_is_named(saved: Project) -> None:
    folder = file_for_folder(saved)
    refused(saved.measure("--energy-baseline=main"), str(folder))


def test_a_baseline_folder_with_a_folder_in_place_of_a_run_is_named(saved: Project) -> None:
    (path,) = runs_of(saved)
    path.unlink()
    path.mkdir()
    refused(saved.measure("--energy-baseline=main"), f"{path} cannot be read")


def test_a_run_of_another_test_in_the_baseline_is_not_used(saved: Project) -> None:
    saved.write("test_it.py", TEST.replace("def test_it", "def test_renamed"))
    result = saved.measure("--energy-baseline=main", "--energy-unmeasured=fail")
    result.assert_outcomes(failed=1)
    assert "test_renamed has no energy_per_query to judge: baseline 'main' has no run of it" in said(result)


def test_a_tolerance_wide_enough_lets_a_regression_pass(saved: Project) -> None:
    saved.monkeypatch.setenv("JOULES", "0.6")
    saved.measure("--energy-baseline=main", "--energy-tolerance=50%").assert_outcomes(passed=1)


HIDDEN = """
    import os
    import pytest

    class Result:
        def __init__(self, label):
            self.label = label

        REPR

    @pytest.mark.energy_budget(answers_changed="0.1 %")
    def test_it(energy_meter, world):
        model = world.model(0.5, 0.01)
        energy_meter.measure(lambda batch: [Result(os.environ["LABEL"]) for _ in model(batch)], ["query"] * 100)
"""


@pytest.mark.parametrize(("shown", "word"), [("", "UNMEASURED"), ("def __repr__(self): return self.label", "FAIL")])
def test_answers_that_show_nothing_of_themselves_are_never_unchanged(
    project: Project, monkeypatch: pytest.MonkeyPatch, shown: str, word: str
) -> None:
    project.write("test_it.py", HIDDEN.replace("REPR", shown))
    monkeypatch.setenv("LABEL", "good")
    project.measure("--energy-save=main")
    monkeypatch.setenv("LABEL", "bad")
    project.measure("--energy-baseline=main", "--energy-json=energy.json")
    (run,) = project.report()["runs"]
    assert {each["metric"]: each["verdict"] for each in run["verdicts"]}["answers_changed"] == word
    note = "answers are Result objects, which show nothing of what is in them: whether they change cannot be told without a __repr__"
    assert (note in run["notes"]) == (not shown)
