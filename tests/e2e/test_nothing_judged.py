"""A session that judged nothing is not green in CI, nor with --energy-strict; elsewhere it says so."""

from __future__ import annotations

import pytest

from .conftest import CONFTEST, Project
from .test_bad_input import said

METERED = "\ndef test_it(energy_meter, world):\n    energy_meter.measure(world.model(0.5), list('abcd'))\n"
PLAIN = "\ndef test_plain():\n    pass\n"
SKIPS = {
    "mark": "import pytest\n@pytest.mark.skip(reason='no GPU')" + METERED,
    "skipif": "import pytest\npytestmark = pytest.mark.skipif('True', reason='no GPU')" + METERED,
    "xfail": "import pytest\n@pytest.mark.xfail(run=False)" + METERED,
    "body": "import pytest\ndef test_it(energy_meter):\n    pytest.skip('no GPU')\n",
    "importorskip": "import pytest\ndef test_it(energy_meter):\n    pytest.importorskip('nowhere_to_be_found')\n",
    "fixture": "import pytest\n@pytest.fixture\ndef gpu():\n    pytest.skip('no GPU')\ndef test_it(gpu, energy_meter):\n    pass\n",
    "module": "import pytest\npytest.skip('no GPU', allow_module_level=True)" + METERED,
    "module importorskip": "import pytest\npytest.importorskip('nowhere_to_be_found')" + METERED,
    "unittest": "import unittest\nraise unittest.SkipTest('no GPU')" + METERED,
    "nothing measured": "def test_it(energy_meter):\n    pass\n",
}
JUDGED = "nothing was judged: no test that uses energy_meter measured anything (test_it.py*)*"


def strict(project: Project, *args: str) -> list[pytest.RunResult]:
    """The session with --energy-strict, and under the variables of two CI systems."""
    found = [project.measure("--energy-strict", *args)]
    for name, value in (("CI", "true"), ("TF_BUILD", "True")):
        with project.monkeypatch.context() as patch:
            patch.setenv(name, value)
            found.append(project.measure(*args))
    return found


@pytest.mark.parametrize("how", SKIPS)
@pytest.mark.parametrize("args", [[], ["test_it.py", "test_plain.py"], ["-k", "it or plain"]], ids=" ".join)
def test_skipped_tests_alone_are_red_however_they_were_selected(project: Project, how: str, args: list[str]) -> None:
    project.write("test_it.py", SKIPS[how])
    project.write("test_plain.py", PLAIN)
    for result in strict(project, *args):
        assert result.ret == 1
        result.stdout.fnmatch_lines([JUDGED])
    result = project.measure(*args)
    assert result.ret == 0
    result.stdout.fnmatch_lines([JUDGED])
    project.monkeypatch.setenv("CI", "1")
    assert project.measure("--energy-unmeasured=warn", *args).ret == 0
    assert project.run(*args).ret == 0
    assert project.run("--energy-budget", "--collect-only", *args).ret in (0, 5)
    assert project.measure("--setup-plan", *args).ret == 0


def test_one_that_was_judged_is_enough(project: Project) -> None:
    project.write("test_it.py", SKIPS["mark"])
    project.write("test_other.py", METERED)
    for result in strict(project):
        assert result.ret == 0
        assert "nothing was judged" not in said(result)


def test_no_metered_test_is_red_unless_others_were_selected(project: Project) -> None:
    project.write("unit/test_plain.py", PLAIN)
    for args in ([], ["."], ["unit"], ["unit/test_plain.py"]):
        for result in strict(project, *args):
            assert result.ret == 1
            result.stdout.fnmatch_lines(["no test uses energy_meter, so nothing was measured. In CI, and with --energy-strict, *"])
    for args in (["unit/test_plain.py::test_plain"], ["-k", "plain"], ["--energy-skip"]):
        for result in strict(project, *args):
            assert result.ret == 0
            result.stdout.fnmatch_lines(["no test uses energy_meter, so nothing was measured"])


def test_a_file_that_does_not_import_is_named_instead(project: Project) -> None:
    project.write("test_it.py", "import nowhere_to_be_found" + METERED)
    project.write("test_plain.py", PLAIN)
    for args in ([], ["--continue-on-collection-errors"]):
        result = project.measure(*args)
        result.stdout.fnmatch_lines(["nothing was judged: test_it.py, which speaks of energy_meter, was not collected"])
        assert "no test uses energy_meter" not in said(result)


def test_a_part_of_a_suite_that_is_always_metered_may_be_without_energy(project: Project) -> None:
    project.toml("budget = true")
    project.write("unit/test_plain.py", PLAIN)
    project.monkeypatch.setenv("CI", "true")
    assert project.run().ret == 1
    for args in (["unit"], ["unit/test_plain.py"]):
        result = project.run(*args)
        assert result.ret == 0
        result.stdout.fnmatch_lines(["no test uses energy_meter, so nothing was measured"])
    project.monkeypatch.chdir(project.path / "unit")
    assert project.run().ret == 0


def test_tests_that_were_left_out_are_red_unless_the_user_did_it_by_name(project: Project) -> None:
    project.write("test_it.py", METERED + PLAIN)
    for args in (["-k", "plain"], ["-m", "not nothing", "-k", "plain"], ["--deselect=test_it.py::test_it"], ["--energy-skip"]):
        for result in strict(project, *args):
            assert result.ret == 0
            result.stdout.fnmatch_lines(["nothing was judged: the tests that use energy_meter (1) were left out"])
    project.write("conftest.py", CONFTEST + "\ndef pytest_collection_modifyitems(config, items):\n"
        "    config.hook.pytest_deselected(items=items[:1])\n    del items[:1]\n")  # fmt: skip
    for result in strict(project):
        assert result.ret == 1
        result.stdout.fnmatch_lines(["nothing was judged: the tests that use energy_meter (1) were left out, and not by -k, -m or*"])
    assert project.measure().ret == 0


@pytest.mark.parametrize("left_out", ["-m 'not gpu'", "-k plain", "--deselect=test_it.py::test_it", "--ignore=test_it.py", "--energy-skip"])
def test_what_addopts_leaves_out_was_not_left_out_by_who_typed_energy_budget(project: Project, left_out: str) -> None:
    project.write("test_it.py", "import pytest\npytestmark = pytest.mark.gpu" + METERED)
    project.write("test_plain.py", PLAIN)
    project.write("pytest.ini", f"[pytest]\nmarkers = gpu\naddopts = {left_out}\n")
    for result in strict(project):
        assert result.ret == 1
    for result in strict(project, "-k", "plain"):
        assert result.ret == 0
    project.write("pytest.ini", f"[pytest]\nmarkers = gpu\naddopts = --energy-budget {left_out}\n")
    project.monkeypatch.setenv("CI", "true")
    assert project.run().ret == 0


def test_a_suite_that_is_shared_out_may_have_a_part_without_energy(project: Project) -> None:
    project.write("test_it.py", METERED + PLAIN)
    project.write("conftest.py", CONFTEST + "\ndef pytest_addoption(parser):\n    parser.addoption('--splits', type=int)\n"
        "def pytest_collection_modifyitems(config, items):\n    del items[:1]\n")  # fmt: skip
    for result in strict(project, "--splits=2"):
        assert result.ret == 0


def test_a_failure_of_another_kind_keeps_its_words(project: Project) -> None:
    project.write("test_it.py", "def test_it(energy_meter):\n    raise RuntimeError('mine')\n")
    for result in strict(project):
        assert result.ret == 1
        assert "nothing was judged" not in said(result)
    project.write("test_it.py", "")
    assert project.measure("--energy-strict").ret == 5
