"""FLOPs, memory and page faults: budgets that are judged where nothing meters energy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .conftest import Project
from .test_base_ref import Repository, repository, words  # noqa: F401 - the fixture

torch: Any = pytest.importorskip("torch")

# What torch loads when it counts for the first time must not be loaded, and forgotten, by each inner run.
with pytest.importorskip("torch.utils.flop_counter").FlopCounterMode(display=False):
    torch.ones(2, 2) @ torch.ones(2, 2)

# Thirty-two numbers in, as many out as the layer is wide: 64 operations for each.
APP = """
import torch
from world import world

layer = torch.nn.Linear(32, {width})
torch.set_num_threads(1)
meter = world.model(joules=0.5, seconds=0.05, spread=0.004)

def model(batch):
    meter(batch)
    with torch.inference_mode():
        return layer(torch.ones(len(batch), 32)).sum(dim=1)
"""

TEST = """
    import pytest
    from app import model

    @pytest.mark.energy_budget({limits})
    def test_it(energy_meter):
        energy_meter.measure(model, list("abcdefgh"), batch_size=4{more})
"""

QUANTIZED = """
import warnings
import torch
from world import world

meter = world.model(seconds=0.05)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    small = torch.ao.quantization.quantize_dynamic(torch.nn.Sequential(torch.nn.Linear(32, 16)), {torch.nn.Linear}, torch.qint8)
    small(torch.ones(1, 32))
layer = torch.nn.Linear(16, 8)

def model(batch):
    meter(batch)
    with torch.inference_mode():
        return layer(small(torch.ones(len(batch), 32))).sum(dim=1)
"""


def written(project: Project, limits: str, more: str = "", *, app: str = APP.format(width=16)) -> None:
    project.write("app.py", app)
    project.write("test_it.py", TEST.format(limits=limits, more=more))


def counts(project: Project) -> dict[str, Any]:
    (run,) = project.report()["runs"]
    found: dict[str, Any] = run["raw"].get("counts", {})
    return found


@pytest.mark.parametrize(("limit", "outcome"), [("1.1 kFLOP", "passed"), ("1 kFLOP", "failed")])
def test_flops_are_judged_in_ci_on_a_machine_that_meters_nothing(project: Project, limit: str, outcome: str) -> None:
    project.monkeypatch.setenv("CI", "true")
    written(project, f'flops_per_query="{limit}"')
    result = project.measure("--energy-meter=nvml", "--energy-json=energy.json")
    result.assert_outcomes(**{outcome: 1})
    assert result.ret == (0 if outcome == "passed" else 1)
    (run,) = project.report()["runs"]
    assert [(each["metric"], each["verdict"]) for each in run["verdicts"]] == [
        ("flops_per_query", "PASS" if outcome == "passed" else "FAIL")
    ]
    assert run["metrics"]["flops_per_query"]["value"] == 2 * 32 * 16
    if outcome == "failed":
        sentence = "test_it computed 1.024 kFLOP per query, over its budget of 1 kFLOP (by 2.4 %). The limit is in the marker at *"
        result.stdout.fnmatch_lines([sentence])


def test_energy_that_is_budgeted_beside_it_is_unmeasured_and_red_in_ci(project: Project) -> None:
    project.monkeypatch.setenv("CI", "true")
    written(project, 'flops_per_query="2 kFLOP", energy_per_query="1 J"')
    result = project.measure("--energy-meter=nvml")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["test_it has no energy_per_query to judge: *"])
    result.stdout.no_fnmatch_line("*FLOP*over its budget*")


def test_without_the_option_nothing_is_counted(project: Project) -> None:
    written(project, 'flops_per_query="1 FLOP"', ', count=["peak_memory"]')
    result = project.run()
    result.assert_outcomes(passed=1)


def test_all_three_have_a_column_and_stand_in_the_report(project: Project) -> None:
    written(project, 'flops_per_query="2 kFLOP", peak_memory="64 GB", page_faults_per_query=10_000')
    result = project.measure("--energy-json=energy.json")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["test * FLOP/query *budget *peak memory *budget *faults/query *budget *", "test_it * 1.02 kFLOP * 2 kFLOP * 64 GB * 10000 *PASS*"]
    )
    found = counts(project)
    assert found["flops_per_query"] == {"value": 1024.0, "where": "torch", "note": "", "queries": 8, "bound": ""}
    assert found["peak_memory"]["where"] == found["page_faults_per_query"]["where"] == "process"
    assert found["peak_memory"]["value"] > 50e6  # torch alone is more


def test_only_what_a_budget_or_the_test_asks_for_is_counted(project: Project) -> None:
    written(project, 'energy_per_query="1 J"')
    project.measure("--energy-json=energy.json").assert_outcomes(passed=1)
    assert counts(project) == {}
    written(project, 'energy_per_query="1 J"', ', count=["flops_per_query"]')
    project.measure("--energy-json=energy.json").assert_outcomes(passed=1)
    assert list(counts(project)) == ["flops_per_query"]


@pytest.mark.parametrize(("gpu", "verdict", "counted"), [("Test GPU 3000", "FAIL", True), ("H100", "UNMEASURED", False)])
def test_a_limit_for_some_hardware_is_counted_there_only(project: Project, gpu: str, verdict: str, counted: bool) -> None:
    written(project, "")
    table = '[[tool.greencompute.budgets."test_it.py::test_it".on]]'
    project.toml(f'{table}\ngpu = "{gpu}"\nflops_per_query = "1 kFLOP"')
    project.measure("--energy-json=energy.json")
    (run,) = project.report()["runs"]
    assert [each["verdict"] for each in run["verdicts"]] == [verdict]
    assert bool(counts(project)) is counted


def test_the_budget_of_a_named_run_counts_that_run(project: Project) -> None:
    project.write("app.py", APP.format(width=16))
    project.write(
        "test_it.py",
        """
        import pytest
        from app import model

        @pytest.mark.energy_budget(small={"flops_per_query": "1 kFLOP"})
        def test_it(energy_meter):
            energy_meter.measure(model, list("abcd"), name="small")
            energy_meter.measure(model, list("abcd"), name="other")
        """,
    )
    result = project.measure("--energy-json=energy.json")
    result.assert_outcomes(failed=1)
    small, other = project.report()["runs"]
    assert [each["verdict"] for each in small["verdicts"]] == ["FAIL"]
    assert "counts" not in other["raw"]


def test_a_figure_can_be_asserted_on(project: Project) -> None:
    project.write("app.py", APP.format(width=16))
    project.write(
        "test_it.py",
        """
        from app import model

        def test_it(energy_meter):
            run = energy_meter.measure(model, list("abcd"), count=["flops_per_query"])
            assert run.flops_per_query < "1 kFLOP"
        """,
    )
    project.run("-rs").assert_outcomes(skipped=1)
    result = project.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*assert <1.024 kFLOP*> < '1 kFLOP'*"])


def test_a_name_that_nothing_counts_is_refused_with_the_near_one(project: Project) -> None:
    written(project, 'energy_per_query="1 J"', ', count=["flops"]')
    for result in (project.measure(), project.run()):
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["*'flops' is not a figure that can be counted. Did you mean 'flops_per_query'?*"])


# What cannot be counted


@pytest.mark.parametrize(("limit", "verdict"), [("1 MFLOP", "UNMEASURED"), ("100 FLOP", "FAIL")])
def test_beside_a_kernel_that_cannot_be_counted_a_budget_can_fail_and_never_pass(project: Project, limit: str, verdict: str) -> None:
    project.monkeypatch.setenv("CI", "true")
    written(project, f'flops_per_query="{limit}"', app=QUANTIZED)
    result = project.measure("--energy-meter=nvml", "--energy-json=energy.json")
    result.assert_outcomes(failed=1)
    (run,) = project.report()["runs"]
    assert [each["verdict"] for each in run["verdicts"]] == [verdict]
    assert run["metrics"]["flops_per_query"]["high"] is None
    if verdict == "UNMEASURED":
        sentence = "test_it computed 256.0 FLOP or more per query, not clearly on either side of its budget of 1 MFLOP: "
        named = "not counted: quantized::linear_dynamic (2 calls). --energy-unmeasured warn lets it pass."
        result.stdout.fnmatch_lines([sentence + named, "test_it * ≥ 256 FLOP *UNMEASURED FLOPs*"])


def test_a_model_that_runs_no_torch_is_unmeasured_not_free(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import pytest

        @pytest.mark.energy_budget(flops_per_query="1 GFLOP")
        def test_it(energy_meter, world):
            energy_meter.measure(world.model(), list("abcd"))

        @pytest.mark.energy_budget(w={"flops_per_query": "1 GFLOP"})
        def test_window(energy_meter, world):
            with energy_meter.window("w"):
                world.model(seconds=9)("a")
        """,
    )
    result = project.measure("--energy-unmeasured=fail")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        [
            "test_it has no flops_per_query to judge: no torch operation ran in this thread, so there was nothing to count. *",
            "test_window (w) has no flops_per_query to judge: a window has no queries that could be counted over; use measure(). *",
        ]
    )


# Candidates, baselines, other commits, new limits


def test_candidates_are_counted_where_it_is_asked_for(project: Project) -> None:
    project.write("app.py", APP.format(width=16))
    project.write(
        "test_it.py",
        """
        import torch
        from app import model, meter

        wide = torch.nn.Linear(32, 64)

        def large(batch):
            meter(batch)
            with torch.inference_mode():
                return wide(torch.ones(len(batch), 32)).sum(dim=1)

        def test_compare(energy_meter):
            found = energy_meter.compare({"small": model, "large": large}, list("abcd"), count=["flops_per_query"])
            assert found.runs["large"].flops_per_query.value == 4 * found.runs["small"].flops_per_query.value

        def test_sweep(energy_meter):
            energy_meter.sweep(model, list("abcd"), batch_size=[1, 2], count="flops_per_query")
        """,
    )
    result = project.measure("--energy-max-seconds=5")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*candidate *FLOP/query*", "*large * 4.10 kFLOP*", "*batch_size *FLOP/query*", "*1.02 kFLOP*"])


def test_a_saved_run_is_compared_count_by_count(project: Project) -> None:
    written(project, 'flops_per_query="1 MFLOP"')
    project.measure("--energy-save=main").assert_outcomes(passed=1)
    project.measure("--energy-baseline=main").assert_outcomes(passed=1)
    written(project, 'flops_per_query="1 MFLOP"', app=APP.format(width=17))
    result = project.measure("--energy-baseline=main")
    result.assert_outcomes(failed=1)
    sentence = "test_it computed 1.088 kFLOP per query against baseline 'main': from 1.02 kFLOP, worse than the tolerance of 5.0 %.*"
    result.stdout.fnmatch_lines([sentence])


MAPPING = """
import mmap
from world import world

meter = world.model(joules=0.5, seconds=0.05, spread=0.004)

def model(batch):
    for _ in batch:
        with mmap.mmap(-1, {pages} * mmap.PAGESIZE) as memory:
            for page in range({pages}):
                memory[page * mmap.PAGESIZE] = 1
    return meter(batch)
"""


def test_another_commit_is_counted_too(repository: Repository) -> None:  # noqa: F811
    written(repository.project, "page_faults_per_query=1000", app=MAPPING.format(pages=20))
    repository.commit()
    written(repository.project, "page_faults_per_query=1000", app=MAPPING.format(pages=40))
    result = repository.measure("main", "test_it.py")
    result.assert_outcomes(failed=1)
    assert words(repository.project) == {"energy_per_query": "PASS", "page_faults_per_query": "FAIL"}
    sentence = "test_it took 4*.* page faults per query against main (*): from 2*, worse than the tolerance of 5.0 %."
    result.stdout.fnmatch_lines([sentence])


def test_new_limits_are_the_counted_figure_and_its_tolerance(project: Project) -> None:
    written(project, "")
    toml = '[tool.greencompute.budgets."test_it.py::test_it"]\nflops_per_query = "2 kFLOP"\npage_faults_per_query = 5000\n'
    project.toml(toml)
    result = project.measure("--energy-update=tighten", "--energy-max-seconds=5")
    result.assert_outcomes(passed=1)
    text = Path(project.path / "pyproject.toml").read_text(encoding="utf-8")
    assert 'flops_per_query = "1.08 kFLOP"' in text  # 1.024 and five per cent, rounded up
    assert "page_faults_per_query = 5000" not in text
    project.measure().assert_outcomes(passed=1)


def test_a_figure_that_is_only_a_bound_becomes_no_limit(project: Project) -> None:
    written(project, "", app=QUANTIZED)
    project.toml('[tool.greencompute.budgets."test_it.py::test_it"]\nflops_per_query = "100 FLOP"\n')
    result = project.measure("--energy-update=loosen")
    result.stdout.fnmatch_lines(["left as it is: test_it.py::test_it flops_per_query (only a bound of it is known)"])
