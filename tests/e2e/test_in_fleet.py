"""In a process of a fleet: it collects what it is asked for, whatever the command line names, and only at the commit's own files."""

from __future__ import annotations

import pytest

from pytest_greencompute.fleet.asked import NOT_THE_COMMIT, PLUGIN_OPTIONS, TEST, collected

from .conftest import Project

TESTS = """
    import pytest
    import app

    @pytest.mark.parametrize("text", ["a//b", "c::d", "[e]"])
    def test_odd(energy_meter, text):
        pass

    def test_plain():
        pass
"""


def test_every_metered_test_is_listed_and_each_is_found_by_its_id(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write("app.py", "")
    project.write("tests/test_it.py", TESTS)
    project.write("pytest.ini", "[pytest]\naddopts = -q\n")  # with which pytest itself lists no ids
    found = collected(("tests", "-k", "odd or plain"), project.path)
    assert found.addopts == ("-q",)
    assert found.tests == tuple(f"tests/test_it.py::test_odd[{text}]" for text in ("a//b", "c::d", "[e]"))
    for test in found.tests:
        monkeypatch.setenv(TEST, test)
        result = project.run(*PLUGIN_OPTIONS, "tests", "-k", "odd or plain")
        result.assert_outcomes(passed=1)


def test_another_copy_of_the_project_ends_the_session(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write("app.py", "")
    project.write("installed/app.py", "")
    project.write("test_it.py", TESTS)
    project.write("conftest.py", f"import sys\nsys.path.insert(0, {str(project.path / 'installed')!r})\nimport app\n")
    monkeypatch.setenv(TEST, "test_it.py::test_plain")
    inside = project.run(*PLUGIN_OPTIONS)
    inside.assert_outcomes(passed=1)  # below the project's own folder: vendored, and at the commit
    elsewhere = project.path.parent / f"{project.path.name}-installed"
    (project.path / "installed").rename(elsewhere)
    project.write("conftest.py", f"import sys\nsys.path.insert(0, {str(elsewhere)!r})\nimport app\n")
    monkeypatch.setenv(TEST, "test_it.py::test_plain")
    result = project.run(*PLUGIN_OPTIONS)
    assert result.ret == NOT_THE_COMMIT
    result.stderr.fnmatch_lines([f"*app came from {elsewhere}/app.py, not from the commit that is measured*"])
    result.stdout.no_fnmatch_line("*passed*")
