"""[tool.greencompute] is looked for from the tests and the current folder upward: used wherever pytest's root is, or refused aloud."""

from __future__ import annotations

import pytest

from .conftest import Project
from .test_bad_input import refused

TEST = """
    def test_it(energy_meter, world):
        energy_meter.measure(world.model(0.5), list("abcd"))
"""
METER = 'meters = ["world"]\n'
LIMIT = '[tool.greencompute.budgets."{}"]\nenergy_per_query = "0.1 J"\n'
OVER = "*over its budget of 0.1 J * The limit is in *pyproject.toml:*"


@pytest.fixture
def outside(project: Project) -> Project:
    """A project whose conftest.py stands in tests/, and whose settings are written by each test."""
    (project.path / "pyproject.toml").unlink()
    (project.path / "tests").mkdir()
    (project.path / "conftest.py").rename(project.path / "tests" / "conftest.py")
    (project.path / ".git").mkdir()
    project.pytester.syspathinsert(project.path)  # world.py stays where it is
    project.write("tests/test_it.py", TEST)
    return project


@pytest.mark.parametrize(
    ("moves", "args", "folder"),
    [
        ("tests/pytest.ini", ["tests"], "."),
        ("tests/pytest.ini", ["."], "."),
        ("tests/pytest.ini", [], "tests"),
        ("tests/pytest.toml", ["tests"], "."),
        ("tests/tox.ini", ["tests/test_it.py"], "."),
        ("tests/setup.cfg", ["tests/test_it.py::test_it"], "."),
        ("", ["-c", "../config/pytest.ini", "../tests"], "config"),
        ("", ["--rootdir=tests", "tests"], "."),
        ("", [], "tests"),
        ("", ["../tests"], "config"),
    ],
)
@pytest.mark.parametrize("pattern", ["tests/test_it.py::test_it", "tests/*", "*::test_it"])
def test_the_projects_settings_hold_wherever_the_root_of_pytest_is(
    outside: Project, moves: str, args: list[str], folder: str, pattern: str
) -> None:
    heading = {"cfg": "[tool:pytest]", "toml": "[pytest]"}
    outside.write("config/pytest.ini", "[pytest]\n")
    if moves:
        outside.write(moves, heading.get(moves.rpartition(".")[2], "[pytest]") + "\n")
    outside.write("pyproject.toml", f"[tool.greencompute]\n{METER}" + LIMIT.format(pattern))
    outside.monkeypatch.chdir(outside.path / folder)
    result = outside.measure("--energy-save=main", *args)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([OVER])


def test_pytests_own_name_of_a_test_will_do_and_one_that_is_neither_is_told(outside: Project) -> None:
    outside.write("tests/pytest.ini", "[pytest]\n")
    outside.write("pyproject.toml", f"[tool.greencompute]\n{METER}" + LIMIT.format("test_it.py::test_it"))
    outside.measure("tests").assert_outcomes(failed=1)
    outside.write("pyproject.toml", f"[tool.greencompute]\n{METER}" + LIMIT.format("tests/test_i.py::test_it"))
    refused(outside.measure(), "matches no collected test. Did you mean 'tests/test_it.py::test_it'?")


def test_baselines_and_new_limits_follow_the_file(outside: Project) -> None:
    outside.write("tests/pytest.ini", "[pytest]\n")
    outside.write("pyproject.toml", f"[tool.greencompute]\n{METER}")
    outside.measure("--energy-save=main", "--energy-update=tighten", "tests").assert_outcomes(passed=1)
    assert len(list((outside.path / ".greencompute/baselines/main").glob("*.json"))) == 1
    assert not (outside.path / "tests/.greencompute").exists()
    assert '[tool.greencompute.budgets."tests/test_it.py::test_it"]' in (outside.path / "pyproject.toml").read_text(encoding="utf-8")
    result = outside.measure("--energy-baseline=main", "--energy-update=loosen", "tests")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["test_it * baseline main"])


@pytest.mark.parametrize("folder", [".", "tests"])
@pytest.mark.parametrize("ini", [True, False])
def test_two_tables_are_an_error_that_names_both_and_naming_one_settles_it(outside: Project, folder: str, ini: bool) -> None:
    outside.write("pyproject.toml", f"[tool.greencompute]\n{METER}" + LIMIT.format("tests/*"))
    outside.write("tests/pyproject.toml", f"[tool.greencompute]\n{METER}" + LIMIT.format("test_it.py::*").replace("0.1", "9"))
    if ini:
        outside.write("tests/pytest.ini", "[pytest]\n")
    outside.monkeypatch.chdir(outside.path / folder)
    result = outside.measure(*(["tests"] if folder == "." else []))
    refused(result, "pyproject.toml and ", "both have [tool.greencompute] for these tests", "--energy-budget-file")
    here, there = ("", "tests/") if folder == "." else ("../", "")
    args = ["tests"] if folder == "." else []
    outside.measure(f"--energy-budget-file={here}pyproject.toml", *args).assert_outcomes(failed=1)
    outside.measure(f"--energy-budget-file={there}pyproject.toml", *args).assert_outcomes(passed=1)
    outside.run(*args).assert_outcomes(passed=1)  # nothing is measured, so nothing can be missed


def test_a_table_below_is_found_by_its_tests_and_stays_in_its_folder(outside: Project) -> None:
    for name in "ab":
        outside.write(f"services/{name}/test_{name}.py", TEST)
    outside.write("conftest.py", (outside.path / "tests/conftest.py").read_text(encoding="utf-8"))
    outside.write("pyproject.toml", "[tool.pytest.ini_options]\naddopts = ''\n")
    outside.write("services/a/pyproject.toml", f"[tool.greencompute]\n{METER}" + LIMIT.format("*"))
    result = outside.measure("-rA", "services")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["FAILED services/a/test_a.py::test_it*"])
    outside.write("services/b/pyproject.toml", f"[tool.greencompute]\n{METER}")
    refused(outside.measure("services"), "services/a/pyproject.toml and services/b/pyproject.toml both have [tool.greencompute]")
    outside.measure("services/b").assert_outcomes(passed=1)


def test_a_repository_above_is_another_project(outside: Project) -> None:
    outside.write("pyproject.toml", "[tool.greencompute]\nzzz = 1\n")
    outside.write("inner/.git", "gitdir: elsewhere\n")
    outside.write("inner/pyproject.toml", f"[tool.greencompute]\n{METER}" + LIMIT.format("*"))
    outside.write("inner/conftest.py", (outside.path / "tests/conftest.py").read_text(encoding="utf-8"))
    outside.write("inner/test_it.py", TEST)
    outside.monkeypatch.chdir(outside.path / "inner")
    outside.measure().assert_outcomes(failed=1)


@pytest.mark.parametrize("heading", ["tool.pytest-greencompute", "tool.pytest_greencompute", "greencompute", "tool.GreenCompute"])
def test_a_table_of_another_name_is_told(project: Project, heading: str) -> None:
    project.write("pyproject.toml", f"[{heading}]\nstrict = true\n")
    project.write("test_it.py", TEST)
    refused(project.measure(), f"pyproject.toml:1: nobody reads [{heading}]. Call it [tool.greencompute].")


@pytest.mark.parametrize("name", ["pytest.toml", ".pytest.toml", "pytest.ini", "tox.ini", "setup.cfg"])
@pytest.mark.parametrize("heading", ["tool.greencompute", "greencompute", "tool:greencompute"])
def test_a_table_in_pytests_own_file_is_told(project: Project, name: str, heading: str) -> None:
    (project.path / "pyproject.toml").unlink()
    if ":" in heading and name.endswith("toml"):
        heading = f"{heading.replace(':', '.')}.budgets"
    own = "[tool:pytest]" if name == "setup.cfg" else "[pytest]"
    project.write(name, f"{own}\n[{heading}]\nstrict = true\n")
    project.write("test_it.py", TEST)
    refused(project.measure(), f"{name}:2: nobody reads [{heading}] here. Move it into pyproject.toml, as [tool.greencompute].")
    if heading == "tool.greencompute" and name.endswith("toml"):
        project.write(name, f"{own}\n[{heading}]\n{METER}" + LIMIT.format("*"))
        project.measure(f"--energy-budget-file={name}").assert_outcomes(failed=1)


@pytest.mark.parametrize("name", ["tox.ini", "setup.cfg"])
def test_a_table_in_a_file_that_pytest_could_have_read_is_told_too(project: Project, name: str) -> None:
    project.write("pytest.ini", "[pytest]\n")
    project.write(f"tests/{name}", "[tool:greencompute]\nstrict = true\n")
    project.write("tests/test_it.py", TEST)
    refused(project.measure(), f"{name}:1: nobody reads [tool:greencompute] here. Move it into pyproject.toml, as [tool.greencompute].")


def test_a_pyproject_that_c_names_holds_wherever_the_root_is(outside: Project) -> None:
    outside.write("config/pyproject.toml", f"[tool.greencompute]\n{METER}" + LIMIT.format("*"))
    for root in (["--rootdir=."], ["--rootdir=tests"], []):
        result = outside.measure("-c", "config/pyproject.toml", "--confcutdir=.", *root, "tests")
        assert (result.ret, root) == (1, root)
        result.stdout.fnmatch_lines([OVER])
    outside.write("pyproject.toml", f"[tool.greencompute]\n{METER}")
    refused(outside.measure("-c", "config/pyproject.toml", "--confcutdir=.", "--rootdir=.", "tests"), "both have [tool.greencompute]")


def test_a_budget_below_whose_test_lost_its_meter_is_stale_from_above_too(outside: Project) -> None:
    outside.write("services/a/pyproject.toml", "[tool.greencompute]\nbudget = true\nmeters = ['cputime']\n" + LIMIT.format("*"))
    outside.write("services/a/test_a.py", "def test_a():\n    pass\n")
    outside.write("pytest.ini", "[pytest]\n")
    refused(outside.run("services"), "the budget for '*' matches only tests that do not use energy_meter, such as services/a/test_a.py")


def test_a_table_of_another_tool_is_none_of_ours(project: Project) -> None:
    text = (project.path / "pyproject.toml").read_text(encoding="utf-8")
    project.write("pyproject.toml", text + "[tool.greencompute-board]\nx = 1\n")
    project.write("tox.ini", "[pytest]\n[testenv:greencompute]\ndeps = pytest-greencompute\n[greencompute-board]\nx = 1\n")
    project.write("test_it.py", TEST)
    project.measure("-c", "tox.ini").assert_outcomes(passed=1)


def test_a_package_of_our_name_among_the_dependencies_is_no_table(project: Project) -> None:
    project.write("pyproject.toml", '[project]\nname = "x"\nversion = "1"\ndependencies = ["pytest-greencompute"]\n')
    project.write("test_it.py", TEST)
    project.run().assert_outcomes(passed=1)


def test_the_commands_find_what_pytest_found(outside: Project, capsys: pytest.CaptureFixture[str]) -> None:
    from pytest_greencompute import cli

    outside.write("tests/pytest.ini", "[pytest]\n")
    outside.write("pyproject.toml", f"[tool.greencompute]\n{METER}tolerance = '7 %'\n")
    outside.measure("--energy-save=main", "tests").assert_outcomes(passed=1)
    outside.monkeypatch.chdir(outside.path / "tests")
    capsys.readouterr()
    assert cli.main(["history"]) == 0
    assert "main" in capsys.readouterr().out
    cli.main(["compare", "main", "main"])
    assert "the tolerance of 7.0 %" in capsys.readouterr().out
    (outside.path / "services").mkdir()
    assert cli.main(["init", str(outside.path / "services")]) == 0
    assert f"({outside.path / 'pyproject.toml'} has [tool.greencompute], which holds here, too)" in capsys.readouterr().out
    assert not (outside.path / "services/pyproject.toml").exists()
