"""pytest-xdist: what works side by side, and what is refused. Workers are processes of their own, in real time."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pytest_greencompute.testing.standin import StandIn, StandInDevice

from .conftest import Project
from .test_bad_input import refused, said
from .test_gpu_standin import CONFTEST as STANDIN_CONFTEST
from .test_gpu_standin import SENSOR

pytest.importorskip("xdist")

PLUGINS = ("xdist.plugin",)

TESTS = """
    import pytest

    @pytest.mark.energy_budget(energy_per_query="1 J", accuracy=0.9)
    def test_right(energy_meter, world):
        energy_meter.measure(world.model(seconds=0.001), list("abcd"), references=list("ABCD"))

    @pytest.mark.energy_budget(energy_per_query="1 J", accuracy=0.9)
    def test_wrong(energy_meter, world):
        energy_meter.measure(world.model(seconds=0.001), list("abcd"), references=list("ABXX"))

    def test_plain():
        pass
"""


@pytest.mark.parametrize("options", [["-n", "2"], ["--numprocesses=2"], ["--dist=each", "--tx=popen"]], ids=" ".join)
def test_measuring_under_workers_is_refused_with_the_remedy(project: Project, options: list[str]) -> None:
    project.write("test_it.py", TESTS)
    refused(
        project.run_apart("--energy-budget", *options),
        "--energy-budget measures one test at a time and cannot run under xdist workers: tests side by side would pay for each other.",
        "Use -n 0 (or -p no:xdist) with --energy-only, and run the others with -n and --energy-skip.",
        "With a GPU for each worker, --energy-xdist gpu-per-worker measures in parallel.",
    )


def test_measuring_that_the_file_switched_on_is_refused_under_workers_too(project: Project) -> None:
    project.toml("budget = true")
    project.write("test_it.py", TESTS)
    refused(project.run_apart("-n2"), "cannot run under xdist workers")


def test_without_measuring_workers_judge_accuracy_and_the_controller_says_and_writes(project: Project) -> None:
    project.write("test_it.py", TESTS)
    result = project.run_apart("-n2", "--energy-json=energy.json", "--junitxml=junit.xml", "--energy-only")
    result.assert_outcomes(passed=1, failed=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["test_wrong scored 0.5000 *under its floor of 0.9.*", "energy: 2 tests ran unmetered; pytest --energy-budget measures them"]
    )
    assert said(result).count("ran unmetered") == 1
    report = project.report()
    assert sorted(run["test"] for run in report["runs"]) == ["test_it.py::test_right", "test_it.py::test_wrong"]
    assert report["exit_status"] == 1
    assert "accuracy_verdict" in (project.path / "junit.xml").read_text(encoding="utf-8")


def test_names_and_swept_values_of_any_kind_travel_from_the_workers(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import enum
        import numpy as np

        class Model(str, enum.Enum):
            LARGE = "large"
            SMALL = "small"

        def test_names(energy_meter, world):
            models = {Model.LARGE: world.model(1.0), Model.SMALL: world.model(0.5)}
            energy_meter.compare(models, list("abcd"), references=list("ABCD"))

        def test_values(energy_meter, world):
            model = world.model(1.0)
            energy_meter.sweep(lambda batch, heat, top: model(batch), list("abcd"), heat=np.linspace(0, 1, 3), top=np.arange(1, 2))
        """,
    )
    result = project.run_apart("-n1", "--energy-json=energy.json")
    result.assert_outcomes(passed=2)
    candidates = [run["candidate"] for run in project.report()["runs"]]
    assert [each["candidate"] for each in candidates] == ["large", "small", "heat=0.0 top=1", "heat=0.5 top=1", "heat=1.0 top=1"]
    assert [each["values"] for each in candidates][2:] == [{"heat": heat, "top": 1} for heat in (0.0, 0.5, 1.0)]


def test_a_broken_file_and_a_broken_marker_are_told_without_a_crash(project: Project) -> None:
    project.toml("tolerence = 3")
    project.write("test_it.py", TESTS)
    refused(project.run_apart("-n2"), "pyproject.toml:3: 'tolerence' is not a setting.")
    project.toml("")
    project.write("test_it.py", TESTS.replace('"1 J"', '"1 JJ"'))
    result = project.run_apart("-n2")
    assert result.ret != 0
    text = said(result)
    assert "the marker at test_it.py:3: energy_per_query: '1 JJ' has an unknown unit" in text
    assert "INTERNALERROR" not in text
    assert "passed" not in text


def test_no_workers_and_no_xdist_measure_as_ever(project: Project) -> None:
    project.write("test_it.py", TESTS)
    for options in (["-n0"], ["-p", "no:xdist"]):
        project.measure("-k", "right", *options).assert_outcomes(passed=1, deselected=2)


# A GPU for each worker: real workers, real pynvml, a stand-in for the driver's library with four GPUs

FOUR_TESTS = """
    import os
    import pytest

    @pytest.mark.parametrize("number", range(4))
    @pytest.mark.energy_budget(energy_per_query="200 J")
    def test_within(energy_meter, gpu, number):
        mine = os.environ["CUDA_VISIBLE_DEVICES"]
        device = [gpu.standin.uuid(n) for n in range(4)].index(mine)
        with energy_meter.window() as window:
            gpu.model(device=device, watts=400 + 80 * device, seconds=0.5)("a")
        assert window.energy.domain == f"gpu:{device}"
        assert window.energy.value == pytest.approx(200 + 40 * device, rel=0.05)
        if number == 3:
            pytest.fail("a test that fails for a reason of its own")
"""
PER_WORKER = ("--energy-budget", "--energy-xdist=gpu-per-worker")


@pytest.fixture
def four_gpus(project: Project, standin_library: Path) -> StandIn:
    project.write("conftest.py", STANDIN_CONFTEST)
    project.toml('meters = ["nvml"]')
    standin = StandIn.create(project.path, [StandInDevice(SENSOR)] * 4, library=standin_library)
    for name, value in standin.env.items():
        project.monkeypatch.setenv(name, value)
    return standin


@pytest.mark.alone(waits=True)
def test_each_worker_measures_on_its_gpu_and_the_controller_tells_all(project: Project, four_gpus: StandIn) -> None:
    project.write("test_it.py", FOUR_TESTS.replace("200 J", "350 J"))
    reports = ("--energy-json=energy.json", "--energy-html=energy.html", "--energy-total=10 kJ", "--junitxml=junit.xml")
    result = project.run_apart(*PER_WORKER, "-n4", *reports, timeout=120)
    result.assert_outcomes(passed=3, failed=1)
    text = said(result)
    assert text.count("energy: nvml gpu:") == 1
    assert len(re.findall(r"^test_within\[\d\] .* PASS ", text, re.MULTILINE)) == 4
    report = project.report()
    assert [meter["domain"] for meter in report["session"]["meters"]] == ["gpu:0", "gpu:1", "gpu:2", "gpu:3"]
    assert len({run["metrics"]["energy_per_query"]["domain"] for run in report["runs"]}) == 4
    assert len(report["runs"]) == 4
    spent = sum(run["metrics"]["energy_per_query"]["value"] for run in report["runs"])
    assert report["session"]["energy_j"] > spent > 4 * 190
    assert report["session"]["total"]["verdict"] == "PASS"
    assert report["session"]["metered"] == 4
    assert (project.path / "junit.xml").read_text(encoding="utf-8").count("energy_per_query_verdict") == 4
    assert (project.path / "energy.html").read_text(encoding="utf-8").count("<h1") == 1


@pytest.mark.alone(waits=True)
def test_a_regression_in_a_worker_is_red_where_the_file_asks_for_all_of_it(project: Project, four_gpus: StandIn) -> None:
    project.toml('meters = ["nvml"]\nbudget = true\nxdist = "gpu-per-worker"')
    project.write("test_it.py", FOUR_TESTS.replace("200 J", "220 J").replace("if number == 3:", "if False:"))
    result = project.run_apart("-n", "auto", "--energy-json=energy.json", timeout=120)
    assert result.ret == 1
    words = {run["metrics"]["energy_per_query"]["domain"]: run["verdicts"][0]["verdict"] for run in project.report()["runs"]}
    assert words.pop("gpu:0", "PASS") == "PASS"
    assert set(words.values()) == {"FAIL"}


def test_more_workers_than_gpus_are_refused_with_the_number_to_use(project: Project, four_gpus: StandIn) -> None:
    project.write("test_it.py", FOUR_TESTS)
    project.monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,2")
    refused(project.run_apart(*PER_WORKER, "-n3"), "gpu-per-worker: 3 workers, but 2 GPUs are visible here. Use -n 2, or -n auto.")


def test_no_gpu_is_refused_with_the_reason(project: Project) -> None:
    project.write("test_it.py", TESTS)
    refused(project.run_apart(*PER_WORKER, "-n2"), "--energy-xdist gpu-per-worker: ")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--dist=each"], "--dist each would measure every test in every worker. Leave it out."),
        (["--energy-update=tighten"], "--energy-update needs all tests in one process. Run without workers."),
        (["--energy-meter=rapl,cputime"], "measures GPUs alone: the processor and the memory are shared by all workers."),
    ],
    ids=["each", "update", "meters"],
)
def test_what_workers_cannot_share_is_refused(project: Project, four_gpus: StandIn, options: list[str], says: str) -> None:
    project.write("test_it.py", FOUR_TESTS)
    result = project.run_apart(*PER_WORKER, "-n2", *options)
    assert result.ret != 0
    assert says in said(result)
    assert "INTERNALERROR" not in said(result)
    assert " passed" not in said(result)


# A meter of a project's own, or of another package, that reads what a meter of the whole machine would.
WALL = """
    from pytest_greencompute.meters.base import Ability, Condition, Traits
    from pytest_greencompute.values.readings import Reading, Source

    class Wall:
        name = "wall"
        source = Source("wall", "gpu", "counter")
        {traits}
        def find(self, options):
            self.now_ns = options.clock.now_ns
            return [self]
        def read(self):
            return Reading(self.now_ns() / 1e7, self.now_ns())  # 100 W, whoever uses them
        def condition(self): return Condition()
        def facts(self): return {{}}
        def close(self): pass
        def abilities(self, options): return [Ability("gpu", works=True, says="all of them")]
"""
WALL_CONFTEST = """

from wall import Wall

def pytest_greencompute_meters(config):
    return {"wall": Wall()}
"""


@pytest.mark.alone(waits=True)
@pytest.mark.parametrize("traits", ["", "traits = Traits(sees='machine')"], ids=["says-nothing", "machine"])
@pytest.mark.parametrize("entry_point", [False, True], ids=["hook", "entry-point"])
def test_another_meter_that_may_see_the_whole_machine_is_refused_as_ours_are(
    project: Project, four_gpus: StandIn, traits: str, entry_point: bool
) -> None:
    project.write("wall.py", WALL.format(traits=traits))
    project.write("test_it.py", FOUR_TESTS.replace("200 J", "350 J"))
    if entry_point:
        project.write("wall-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: wall\nVersion: 1.0\n")
        project.write("wall-1.0.dist-info/entry_points.txt", "[greencompute.meters]\nwall = wall:Wall\n")
        project.monkeypatch.setenv("PYTHONPATH", str(project.path))
    else:
        project.write("conftest.py", (project.path / "conftest.py").read_text(encoding="utf-8") + WALL_CONFTEST)
    result = project.run_apart(*PER_WORKER, "-n2", "--energy-meter=wall")
    assert result.ret != 0
    assert "The meter 'wall' may see what all workers use" in said(result)
    assert " passed" not in said(result)
    result = project.run_apart(*PER_WORKER, "-n2", "--energy-meter=wall,nvml", "-k", "0 or 1", "--energy-json=energy.json", timeout=120)
    result.assert_outcomes(passed=2)
    assert "not used: wall: The meter 'wall' may see what all workers use" in said(result)
    assert {meter["name"] for meter in project.report()["session"]["meters"]} == {"nvml"}


@pytest.mark.alone(waits=True)
def test_another_meter_that_says_it_reads_a_workers_gpu_alone_is_used(project: Project, four_gpus: StandIn) -> None:
    project.write("wall.py", WALL.format(traits="traits = Traits(per_worker=True, sees='gpus')"))
    project.write("conftest.py", (project.path / "conftest.py").read_text(encoding="utf-8") + WALL_CONFTEST)
    project.write("test_it.py", "def test_it(energy_meter):\n    with energy_meter.window():\n        sum(range(1000))\n")
    project.run_apart(*PER_WORKER, "-n1", "--energy-meter=wall", "--energy-json=energy.json", timeout=120).assert_outcomes(passed=1)
    assert {meter["name"] for meter in project.report()["session"]["meters"]} == {"wall"}


def test_a_group_of_tests_is_not_shared_out(project: Project, four_gpus: StandIn) -> None:
    project.write(
        "test_it.py", FOUR_TESTS.replace("@pytest.mark.energy_budget", '@pytest.mark.energy_group("g")\n    @pytest.mark.energy_budget')
    )
    result = project.run_apart(*PER_WORKER, "-n2")
    assert result.ret != 0
    assert "energy_group 'g' compares tests of one process, and workers share them out." in said(result)
    assert " passed" not in said(result)


@pytest.mark.alone(waits=True)
def test_a_worker_that_crashes_leaves_the_total_unmeasured_and_the_rest_told(project: Project, four_gpus: StandIn) -> None:
    crash = "        if number == 1:\n            os._exit(3)\n        mine = "
    project.write(
        "test_it.py", FOUR_TESTS.replace("200 J", "350 J").replace("        mine = ", crash).replace("if number == 3:", "if False:")
    )
    result = project.run_apart(
        *PER_WORKER, "-n2", "--energy-json=energy.json", "--energy-total=10 kJ", "--energy-unmeasured=fail", timeout=120
    )
    assert result.ret == 1
    report = project.report()
    assert len(report["runs"]) == 3
    assert report["session"]["total"]["verdict"] == "UNMEASURED"
    assert "ended without saying what it used" in report["session"]["total"]["reason"]


def test_without_workers_it_changes_nothing_and_without_measuring_it_is_an_error(project: Project) -> None:
    project.write("test_it.py", TESTS)
    project.measure("--energy-xdist=gpu-per-worker", "-k", "right", "-n0").assert_outcomes(passed=1, deselected=2)
    refused(project.run_apart("--energy-xdist=gpu-per-worker", "-n2"), "--energy-xdist does nothing without --energy-budget: add it.")


def test_a_test_that_is_skipped_in_a_worker_is_named_as_ever(project: Project) -> None:
    project.write("test_it.py", TESTS + "\n    def test_skips(energy_meter):\n        pytest.skip('no model here')\n")
    project.run_apart("-n1", "--energy-json=energy.json")
    session = project.report()["session"]
    assert session["not_measured"] == [{"test": "test_it.py::test_skips", "reason": "no model here"}]
    assert session["metered"] == 3


def test_a_file_that_names_workers_leaves_ordinary_ones_alone(project: Project) -> None:
    project.toml('xdist = "gpu-per-worker"')
    project.write("test_it.py", TESTS)
    for options in ([], ["--energy-skip"]):
        assert "libnvidia-ml" not in said(project.run_apart("-n", "auto", "--maxprocesses=2", *options))


@pytest.mark.alone(waits=True)
def test_a_worker_without_a_metered_test_spoils_no_total(project: Project, four_gpus: StandIn) -> None:
    project.write("test_it.py", FOUR_TESTS.replace("range(4)", "range(2)", 1).replace("200 J", "350 J"))
    result = project.run_apart(
        *PER_WORKER, "-n4", "--energy-total=10 kJ", "--energy-unmeasured=fail", "--energy-json=energy.json", timeout=120
    )
    result.assert_outcomes(passed=2)
    assert result.ret == 0
    assert project.report()["session"]["total"]["verdict"] == "PASS"


@pytest.mark.alone(waits=True)
@pytest.mark.parametrize(
    ("dist", "says"), [([], "it needs --dist loadgroup"), (["--dist=loadgroup"], "--dist loadgroup does not group with")]
)
def test_a_group_of_xdists_that_does_not_hold_is_said_at_the_tests_that_measure(
    project: Project, four_gpus: StandIn, dist: list[str], says: str
) -> None:
    grouped = FOUR_TESTS.replace("200 J", "350 J").replace("if number == 3:", "if False:").replace("range(4)", "range(2)", 1)
    project.write("test_it.py", grouped.replace("@pytest.mark.energy", '@pytest.mark.xdist_group("one")\n    @pytest.mark.energy', 1))
    result = project.run_apart(*PER_WORKER, "-n2", *dist, "--energy-json=energy.json", timeout=120)
    result.assert_outcomes(passed=2)
    runs = project.report()["runs"]
    holds = len({run["metrics"]["energy_per_query"]["domain"] for run in runs}) == 1
    for run in runs:
        said_of_it = [note for note in run["notes"] if note.startswith("xdist_group 'one' did not keep its tests in one worker: ")]
        assert not said_of_it if holds and dist else says in said_of_it[0]
    assert [run["test"] for run in runs] == ["test_it.py::test_within[0]", "test_it.py::test_within[1]"]


def test_a_budget_by_name_finds_its_test_where_xdist_writes_the_group_behind_it(project: Project) -> None:
    project.toml('[tool.greencompute.budgets."test_it.py::test_right"]\naccuracy = 0.9')
    project.write("test_it.py", TESTS.replace("@pytest.mark.energy", '@pytest.mark.xdist_group("one")\n    @pytest.mark.energy', 1))
    result = project.run_apart("-n2", "--dist=loadgroup", "--energy-only", "-k", "right", "--energy-json=energy.json")
    result.assert_outcomes(passed=1)
    assert [run["test"] for run in project.report()["runs"]] == ["test_it.py::test_right"]


@pytest.mark.parametrize("skip", ["pytest.skip('no GPU', allow_module_level=True)", "pytestmark = pytest.mark.skip(reason='no GPU')"])
def test_workers_that_judged_nothing_are_red_in_ci(project: Project, four_gpus: StandIn, skip: str) -> None:
    project.write("test_it.py", f"import pytest\n{skip}\ndef test_it(energy_meter):\n    pass\n")
    project.write("test_plain.py", "def test_plain():\n    pass\n")
    assert project.run_apart(*PER_WORKER, "-n2").ret == 0
    project.monkeypatch.setenv("CI", "1")
    result = project.run_apart(*PER_WORKER, "-n2")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["nothing was judged: no test that uses energy_meter measured anything (test_it.py*)*"])
