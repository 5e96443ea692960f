"""greencompute init: asks nothing, overwrites nothing, and what it writes is green at once."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_greencompute import cli
from pytest_greencompute.commands import init as command
from pytest_greencompute.starting.first_run import FirstRun
from pytest_greencompute.starting.found import Home
from pytest_greencompute.starting.libraries import LIBRARIES, PLAIN
from pytest_greencompute.starting.limits import FirstLimits
from pytest_greencompute.starting.written import first_test

from .conftest import Project

PLUGINS = ("pytest_benchmark.plugin",)
WRITTEN = ("tests/test_energy.py", "pyproject.toml", ".github/workflows/energy.yml")
LIMITS = FirstLimits(("meter", "cputime"), {"energy_per_query": "8 mJ", "latency_p95": "10 ms"}, "2.6 mJ per query", 0.95)


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what has nothing to do with measuring: it is as if pytest did not start."""
    monkeypatch.setattr(command, "measured", lambda *_: FirstRun({}, "not now"))


@pytest.fixture
def bare(project: Project) -> Project:
    """A project with nothing in it and no dependencies, in real time."""
    for name in ("pyproject.toml", "conftest.py", "world.py"):
        (project.path / name).unlink()
    project.write("requirements.txt", "")
    return project


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", "-C", folder, *words], check=True)


# --- the first verdict -------------------------------------------------------------------------------------------------


@pytest.mark.alone
def test_init_writes_a_test_that_passes_under_limits_from_its_own_measurement(bare: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["init", str(bare.path)]) == 0
    said = capsys.readouterr().out
    assert all((bare.path / name).is_file() for name in WRITTEN)
    test = (bare.path / WRITTEN[0]).read_text(encoding="utf-8")
    assert re.search(r"# \S+ .J per query, p95 \S+ .s \(modelled by cputime, ", test)
    assert "measured: " in said
    assert f"python -m pytest --energy-budget {WRITTEN[0]}" in said
    bare.run().assert_outcomes(passed=1)
    result = bare.run_apart("--energy-budget", "--energy-max-seconds=5", "--energy-json=energy.json")
    result.assert_outcomes(passed=1)
    (run,) = bare.report()["runs"]
    assert {each["metric"]: each["verdict"] for each in run["verdicts"]} == dict.fromkeys(
        ("energy_per_query", "latency_p95", "accuracy"), "PASS"
    )


@pytest.mark.alone
def test_the_limits_that_init_writes_turn_a_hungrier_model_red(bare: Project) -> None:
    bare.write("tests/test_energy.py", first_test(PLAIN, Home(), [LIMITS], day="today").replace("range(1000)", "range(20_000)"))
    bare.write("pyproject.toml", '[tool.greencompute]\nmeters = ["cputime"]\n')
    result = bare.run_apart("--energy-budget", "--energy-max-seconds=10", timeout=120)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*over its budget of 8 mJ*"])


@pytest.mark.alone
def test_limits_of_one_meter_are_not_judged_against_another(bare: Project) -> None:
    other = FirstLimits(("gpu", "NVIDIA H100"), LIMITS.limits, "measured")
    bare.write("tests/test_energy.py", first_test(PLAIN, Home(), [other], day="today"))
    bare.write("pyproject.toml", '[tool.greencompute]\nmeters = ["cputime"]\n')
    result = bare.run_apart("--energy-budget", "--energy-max-seconds=5", "--energy-strict")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*no limit for this hardware*"])


def test_the_first_test_of_every_library_is_green_as_it_stands(bare: Project) -> None:
    usable = [each for each in (*LIBRARIES, PLAIN) if not each.modules or any(map(importlib.util.find_spec, each.modules))]
    assert PLAIN in usable
    for number, library in enumerate(usable):
        limits = FirstLimits(LIMITS.on, LIMITS.limits, LIMITS.measured, LIMITS.accuracy)
        bare.write(f"tests/test_{number}.py", first_test(library, Home(), [limits], day="today"))
    result = bare.run_apart("-rs", "-W", "error::UserWarning:test_*", timeout=240)
    server = any(each.more for each in usable)
    result.assert_outcomes(passed=len(usable), skipped=int(server))
    if server:
        result.stdout.fnmatch_lines(["SKIPPED*no server yet: set MODEL_SERVER to its address"])


@pytest.mark.alone
def test_benchmarks_are_metered_as_they_are_and_get_budgets_in_the_file(bare: Project, capsys: pytest.CaptureFixture[str]) -> None:
    bare.write("bench/test_pack.py", "def test_pack(benchmark):\n    benchmark(sorted, list(range(20_000)))\n")
    bare.write("requirements-dev.txt", "pytest-benchmark\n")
    assert cli.main(["init", str(bare.path)]) == 0
    said = capsys.readouterr().out
    assert "found: 1 benchmark;" in said
    assert "  2. python -m pytest --energy-budget bench/test_pack.py --energy-update tighten\n     writes limits closer" in said
    assert not (bare.path / "tests").exists()
    assert '[[tool.greencompute.budgets."bench/test_pack.py::test_pack".on]]' in (bare.path / "pyproject.toml").read_text(encoding="utf-8")
    result = bare.run_apart("--energy-budget", "--energy-max-seconds=5", "--energy-json=energy.json", "bench")
    result.assert_outcomes(passed=1)
    assert "PASS" in {each["verdict"] for each in bare.report()["runs"][0]["verdicts"]}


def test_where_pytest_does_not_run_the_limits_are_wide_and_its_last_word_is_said(bare: Project, capsys: pytest.CaptureFixture[str]) -> None:
    bare.write("conftest.py", "import no_such_module")
    assert cli.main(["init", str(bare.path)]) == 0
    assert "not measured, so its limits are wide: ModuleNotFoundError: No module named 'no_such_module'" in capsys.readouterr().out
    test = (bare.path / WRITTEN[0]).read_text(encoding="utf-8")
    assert "# Wide limits, since nothing was measured: ModuleNotFoundError" in test
    assert '    energy_per_query="100 J",\n    latency_p95="10 s",\n    accuracy=0.5,\n' in test


# --- what is there already ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("unmeasured")
def test_init_never_overwrites_and_says_what_it_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = {tmp_path / name: f"# mine: {name}\n[tool.greencompute]\n" for name in WRITTEN}
    for path, text in mine.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert cli.main(["init", str(tmp_path)]) == 1
    assert {path: path.read_text(encoding="utf-8") for path in mine} == mine
    said = capsys.readouterr().out
    assert said.count("left as it is: ") == 3
    assert "\nnothing was written: all of it is there\n\nNext:\n  1. " in said


@pytest.mark.usefixtures("unmeasured")
def test_init_adds_its_table_to_a_pyproject_and_keeps_the_rest_byte_for_byte(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = '# my project\n[project]\nname = "mine"   # spaces kept\n'
    (tmp_path / "pyproject.toml").write_text(before, encoding="utf-8")
    assert cli.main(["init", str(tmp_path)]) == 0
    after = (tmp_path / "pyproject.toml").read_text(encoding="utf-8")
    assert after.startswith(before)
    assert "[tool.greencompute]" in after
    said = capsys.readouterr().out
    assert f"  1. cd {tmp_path}\n  2. python -m pytest --energy-budget tests/test_energy.py\n" in said
    assert "  5. python -m pytest --energy-budget tests/test_energy.py --energy-update tighten\n" in said
    assert cli.main(["init", str(tmp_path)]) == 1
    assert (tmp_path / "pyproject.toml").read_text(encoding="utf-8") == after


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("text", ["tool = { black = {} }\n", "tool = 3\n", "[tool]\ngreen-compute = 1\n[tool.pytest_greencompute]\n"])
def test_a_pyproject_that_nothing_can_be_added_to_stays(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pyproject.toml").write_text(text, encoding="utf-8")
    assert cli.main(["init", str(tmp_path)]) == 0
    assert (tmp_path / "pyproject.toml").read_text(encoding="utf-8") == text
    assert re.search("left as it is: .*pyproject.toml", capsys.readouterr().out)


@pytest.mark.usefixtures("unmeasured")
def test_the_kind_of_lines_of_a_pyproject_stays(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_bytes(b'[project]\r\nname = "x"\r\n')
    assert cli.main(["init", str(tmp_path)]) == 0
    text = (tmp_path / "pyproject.toml").read_bytes()
    assert text.count(b"\n") == text.count(b"\r\n") > 4


@pytest.mark.usefixtures("unmeasured")
def test_init_leaves_a_broken_pyproject_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pyproject.toml").write_text("a = = b", encoding="utf-8")
    assert cli.main(["init", str(tmp_path)]) == 0
    assert (tmp_path / "pyproject.toml").read_text(encoding="utf-8") == "a = = b"
    assert "is not valid TOML" in capsys.readouterr().out


def test_a_test_that_was_edited_while_it_was_measured_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / WRITTEN[0]

    def meanwhile(*_: object) -> FirstRun:
        path.write_text("# mine", encoding="utf-8")
        return FirstRun({"tests/test_energy.py::test_first_budget": (LIMITS,)})

    monkeypatch.setattr(command, "measured", meanwhile)
    assert cli.main(["init", str(tmp_path)]) == 0
    assert path.read_text(encoding="utf-8") == "# mine"


def test_what_benchmarks_use_is_not_lost_where_the_settings_were_broken_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text('[project]\nname = "a"\ndependencies = ["pytest-benchmark"]\n', encoding="utf-8")
    (tmp_path / "test_speed.py").write_text("def test_speed(benchmark): ...\n", encoding="utf-8")

    def meanwhile(*_: object) -> FirstRun:
        path.write_text("a = = b", encoding="utf-8")
        return FirstRun({"test_speed.py::test_speed": (LIMITS,)})

    monkeypatch.setattr(command, "measured", meanwhile)
    assert cli.main(["init", str(tmp_path)]) == 0
    assert path.read_text(encoding="utf-8") == "a = = b"
    assert '[[tool.greencompute.budgets."test_speed.py::test_speed".on]]' in capsys.readouterr().out
    assert (tmp_path / WRITTEN[2]).exists()


def test_a_measurement_that_was_stopped_leaves_wide_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object) -> FirstRun:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "measured", stopped)
    with pytest.raises(KeyboardInterrupt):
        cli.main(["init", str(tmp_path)])
    assert "# Wide limits, since nothing was measured: init was stopped" in (tmp_path / WRITTEN[0]).read_text(encoding="utf-8")


# --- the pipeline ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("unmeasured")
def test_a_project_on_gitlab_gets_its_job_beside_a_pipeline_that_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    git(tmp_path, "init", "-q")
    git(tmp_path, "remote", "add", "origin", "git@gitlab.example.org:me/shop.git")
    assert cli.main(["init", str(tmp_path)]) == 0
    assert "energy-budget:" in (tmp_path / ".gitlab-ci.yml").read_text(encoding="utf-8")
    assert not (tmp_path / ".github").exists()
    (tmp_path / ".gitlab-ci.yml").write_text("stages: [lint]\n", encoding="utf-8")
    capsys.readouterr()
    assert cli.main(["init", str(tmp_path)]) == 0
    assert "include:\n      - local: energy.gitlab-ci.yml" in capsys.readouterr().out
    assert (tmp_path / ".gitlab-ci.yml").read_text(encoding="utf-8") == "stages: [lint]\n"
    assert "  stage: lint\n" in (tmp_path / "energy.gitlab-ci.yml").read_text(encoding="utf-8")
    (tmp_path / ".gitlab-ci.yml").write_text("include: [{ local: energy.gitlab-ci.yml }]\n", encoding="utf-8")
    assert cli.main(["init", str(tmp_path)]) == 1


@pytest.mark.usefixtures("unmeasured")
def test_a_folder_of_a_repository_gets_its_workflow_at_the_top(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "apps" / "shop").mkdir(parents=True)
    assert cli.main(["init", str(tmp_path / "apps" / "shop")]) == 0
    assert "working-directory: apps/shop" in (tmp_path / ".github" / "workflows" / "energy-apps-shop.yml").read_text(encoding="utf-8")
    assert not (tmp_path / "apps" / "shop" / ".github").exists()


# --- what was found ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "step"),
    [
        ({"pyproject.toml": '[project]\nname = "x"\n'}, "pip install -e .    so that it can be imported"),
        ({"pytest.ini": "[pytest]\n"}, "pythonpath = src    in pytest.ini, so that it can be imported"),
        ({}, 'pythonpath = ["src"]    in pyproject.toml, below [tool.pytest.ini_options], so that it can be imported'),
    ],
)
@pytest.mark.usefixtures("unmeasured")
def test_code_that_tests_cannot_import_yet_has_a_step_of_its_own(
    files: dict[str, str], step: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in {**files, "src/unheard_of.py": "class Router:\n    def route(self, texts): ...\n"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert cli.main(["init", str(tmp_path)]) == 0
    assert f". {step}\n" in capsys.readouterr().out


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.usefixtures("unmeasured")
def test_the_test_of_a_server_has_steps_of_its_own(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "requirements.txt").write_text("openai\n", encoding="utf-8")
    monkeypatch.setattr(command, "installed", lambda module: there and module.startswith("httpx"))
    assert cli.main(["init", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert f"MODEL_SERVER=http://127.0.0.1:8000 python -m pytest --energy-budget {WRITTEN[0]}\n     measures your server" in said
    assert ("pip install 'pytest-greencompute[serving]'" in said) is not there
    assert "# Without a GPU or RAPL there is no energy of it: " in (tmp_path / WRITTEN[0]).read_text(encoding="utf-8")


@pytest.mark.usefixtures("unmeasured")
def test_the_test_names_the_projects_own_callables_and_they_are_never_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    package = tmp_path / "src" / "unheard_of"
    package.mkdir(parents=True)
    (package / "model.py").write_text("import sklearn\nraise SystemExit\ndef predict(batch): ...\n", encoding="utf-8")
    assert cli.main(["init", str(tmp_path)]) == 0
    said, test = capsys.readouterr().out, (tmp_path / WRITTEN[0]).read_text(encoding="utf-8")
    assert "found: scikit-learn" in said
    assert "from unheard_of.model import predict" in said
    assert "below [tool.pytest.ini_options], so that it can be imported" in said
    assert "#     from unheard_of.model import predict\n" in test
    ast.parse(test)


def test_init_into_a_folder_that_is_not_there_or_cannot_be_written_is_told(tmp_path: Path) -> None:
    def greencompute(*args: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "pytest_greencompute.cli", *args]
        return subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)

    done = greencompute("init", "nowhere")
    assert done.returncode == 2
    assert "nowhere is not a folder." in done.stderr
    (tmp_path / "tests").write_text("", encoding="utf-8")
    done = greencompute("init")
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
