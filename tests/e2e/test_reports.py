"""--energy-markdown, --energy-openmetrics, --energy-html: written at the end, whatever tests are called and whatever else goes wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from .conftest import Project
from .test_bad_input import refused

TESTS = """
    import pytest

    @pytest.mark.energy_budget(energy_per_query="1 J")
    def test_within(energy_meter, world):
        energy_meter.measure(world.model(0.5), list("abcd"), references=list("ABCD"))

    @pytest.mark.energy_budget(energy_per_query="1 J")
    def test_over(energy_meter, world):
        energy_meter.measure(world.model(2.0), list("abcd"))
"""
ALL = (
    "--energy-html=out/energy.html",
    "--energy-markdown=out/energy.md",
    "--energy-openmetrics=out/energy.txt",
    "--energy-json=out/energy.json",
)
FILES = ("energy.html", "energy.md", "energy.txt", "energy.json")


def test_each_is_written_with_the_verdicts_and_the_figures(project: Project) -> None:
    project.write("test_it.py", TESTS)
    project.measure(*ALL).assert_outcomes(passed=1, failed=1)
    out = project.path / "out"
    assert (out / "energy.md").read_text(encoding="utf-8").startswith("## ❌ Energy budgets: FAIL\n")
    families = {each.name: each for each in text_string_to_metric_families((out / "energy.txt").read_text(encoding="utf-8"))}
    assert sorted(each.value for each in families["greencompute_energy_per_query_joules"].samples) == [0.5, 2.0]
    page = (out / "energy.html").read_text(encoding="utf-8")
    assert "test_over used 2.000 J per query" in page
    assert project.report("out/energy.json")["exit_status"] == 1


def test_without_measuring_they_tell_the_accuracy(project: Project) -> None:
    project.write("test_it.py", TESTS)
    project.run(*ALL).assert_outcomes(passed=2)
    families = {each.name for each in text_string_to_metric_families((project.path / "out/energy.txt").read_text(encoding="utf-8"))}
    assert "greencompute_accuracy" in families
    assert not any("energy" in name for name in families)


@pytest.mark.parametrize("broken", FILES)
def test_one_that_cannot_be_written_is_named_and_red_and_the_others_are_written(project: Project, broken: str) -> None:
    project.write(
        "test_it.py",
        TESTS
        + f"""
    def test_meanwhile(request):
        (request.config.rootpath / "out" / "{broken}").mkdir(parents=True)
    """,
    )
    result = project.measure(*ALL, "-k", "within or meanwhile")
    result.assert_outcomes(passed=2, deselected=1)
    assert result.ret == 1
    name = {"energy.html": "HTML", "energy.md": "Markdown", "energy.txt": "OpenMetrics", "energy.json": "JSON"}[broken]
    result.stdout.fnmatch_lines(["test_within * PASS *", f"the {name} report was not written: *{broken} cannot be written: *"])
    assert all((project.path / "out" / file).is_file() for file in FILES if file != broken)


@pytest.mark.parametrize("broken", FILES)
def test_one_that_cannot_be_written_is_refused_before_anything_is_measured(project: Project, broken: str) -> None:
    project.write("test_it.py", TESTS)
    (project.path / "out" / broken).mkdir(parents=True)
    refused(project.measure(*ALL), f"{broken} cannot be written: Is a directory.")
    assert [path.name for path in (project.path / "out").iterdir()] == [broken]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize("option", ["html", "markdown", "openmetrics", "json"])
def test_on_a_full_disk_the_verdicts_stand_and_the_report_is_named(project: Project, option: str) -> None:
    project.write("test_it.py", TESTS)
    result = project.measure(f"--energy-{option}=/dev/full", "-k", "within")
    result.assert_outcomes(passed=1, deselected=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["test_within * PASS *", "the * report was not written: *No space left on device*"])


@pytest.mark.parametrize(
    ("option", "module", "extra"),
    [("html", "plotly", "report"), ("html", "jinja2", "report"), ("openmetrics", "prometheus_client", "openmetrics")],
)
def test_a_package_that_is_missing_is_named_before_anything_is_measured(project: Project, option: str, module: str, extra: str) -> None:
    project.write("test_it.py", TESTS)
    find = pytest.importorskip("importlib.util").find_spec

    def without(name: str, *args: Any) -> Any:
        return None if name == module else find(name, *args)

    project.monkeypatch.setattr("pytest_greencompute.report.forms.find_spec", without)
    result = project.measure(f"--energy-{option}=out.x")
    refused(result, f"--energy-{option} needs {module.replace('_', '-')}. pip install 'pytest-greencompute[{extra}]'.")


HOSTILE = """
    import pytest

    NAMES = [{names}]

    @pytest.mark.energy_budget(energy_per_query="1 J")
    @pytest.mark.parametrize("name", NAMES, ids=NAMES)
    def test_it(energy_meter, world, name):
        energy_meter.measure(world.model(2.0 if "red" in name else 0.5), list("abcd"), name=name.encode("utf-8", "replace").decode())
"""
NAMES = [
    "a|b",
    "`red`",
    "two\nlines",
    "\n::error::red",
    "%0A::error::",
    "<script>alert('red')</script>",
    "</script><img src=x onerror=alert(1)>",
    "@everyone #1",
    "größe red",  # half a character cannot be: pytest itself stops at it
    "\u202eturned",
    "x" * 10_000,
]


def test_whatever_tests_are_called_every_report_has_them_as_text(project: Project) -> None:
    project.write("test_it.py", HOSTILE.format(names=", ".join(map(ascii, NAMES))))
    project.write("pytest.ini", "[pytest]\ndisable_test_id_escaping_and_forfeit_all_rights_to_community_support = true\n")
    project.monkeypatch.setenv("GITHUB_ACTIONS", "true")
    for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT"):
        project.monkeypatch.setenv(name, str(project.path / name))
    result = project.measure(*ALL, "--energy-max-seconds=2", "--junitxml=out/junit.xml")
    result.assert_outcomes(passed=7, failed=4)
    project.report("out/energy.json")
    list(text_string_to_metric_families((project.path / "out/energy.txt").read_text(encoding="utf-8")))
    log = str(result.stdout)  # what pytest itself prints of such ids, with its escaping switched off, is not ours
    end = log.rindex("\n::error title=")
    assert len([line for line in log[end:].splitlines() if line.startswith(("::error title=", "::error file="))]) == 5
    for text in ((project.path / "out/energy.md"), project.path / "GITHUB_STEP_SUMMARY"):
        shown = text.read_text(encoding="utf-8")
        assert "<script" not in shown
        assert "<img" not in shown
        assert "@everyone" not in shown
    page = (project.path / "out/energy.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "<img src=x" not in page


def test_a_mistake_in_one_report_is_named_and_takes_nothing_with_it(project: Project) -> None:
    project.write("test_it.py", TESTS)

    def broken(*_: Any) -> str:
        raise KeyError("a mistake")

    project.monkeypatch.setattr("pytest_greencompute.report.html.page", broken)
    result = project.measure(*ALL, "-k", "within")
    result.assert_outcomes(passed=1, deselected=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["test_within * PASS *", "the HTML report was not written: KeyError: 'a mistake'. This is a mistake of *"])
    assert project.report("out/energy.json")["exit_status"] == 1


def test_the_page_of_a_session_has_tests_that_never_measured_what_their_budget_is_for(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import pytest

        @pytest.mark.energy_budget(named={"energy_per_query": "1 J"})
        def test_it(energy_meter, world):
            energy_meter.measure(world.model(0.5), list("abcd"))
        """,
    )
    result = project.measure("--energy-html=energy.html", "--energy-json=energy.json")
    result.assert_outcomes(passed=1)
    assert result.ret == 0
    result.stdout.no_fnmatch_line("*mistake of pytest-greencompute*")
    assert "test_it (named)" in (project.path / "energy.html").read_text(encoding="utf-8")
