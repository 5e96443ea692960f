"""greencompute report and greencompute history: what was measured before, as a page, as Markdown and as a list."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_greencompute.cli import main

from .conftest import Project

TESTS = """
    import pytest

    @pytest.mark.energy_budget(energy_per_query="1 J")
    def test_it(energy_meter, world):
        energy_meter.measure(world.model(0.5), list("abcd"), references=list("ABCD"))
"""


@pytest.fixture
def saved(project: Project) -> Project:
    """A project with two sessions saved as 'main', one as 'other', and a report of the last."""
    project.write("test_it.py", TESTS)
    for name in ("main", "main", "other"):
        project.measure(f"--energy-save={name}", "--energy-json=energy.json").assert_outcomes(passed=1)
    return project


def test_the_history_lists_every_saved_session(saved: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["when", "commit", "baseline", "test", "energy/query", "p95", "accuracy", "on"]
    assert [row.split()[2] for row in rows] == ["main", "main", "other"]
    assert all("test_it" in row and "0.5 J" in row.replace("0.500 J", "0.5 J") and "Test GPU 3000" in row for row in rows)


def test_the_history_can_be_narrowed_and_read_by_a_machine(saved: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", "other", "--test", "test_it", "--json"]) == 0
    (point,) = json.loads(capsys.readouterr().out)
    assert (point["baseline"], point["test"], point["metrics"]["energy_per_query"]["value"]) == ("other", "test_it.py::test_it", 0.5)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["nobody"], "holds nothing of 'nobody'. pytest --energy-budget --energy-save NAME keeps a session."),
        (["--test", "test_zzz"], "holds no run of a test called 'test_zzz'."),
    ],
)
def test_a_history_that_is_not_there_is_an_error(saved: Project, capsys: pytest.CaptureFixture[str], args: list[str], says: str) -> None:
    assert main(["history", *args]) == 2
    assert says in capsys.readouterr().err


def test_a_broken_file_is_named_and_the_others_are_listed(saved: Project, capsys: pytest.CaptureFixture[str]) -> None:
    broken = saved.path / ".greencompute" / "baselines" / "main" / "20000101T000000Z.json"
    broken.write_text("{", encoding="utf-8")
    assert main(["history"]) == 3
    told = capsys.readouterr()
    assert len(told.out.splitlines()) == 4
    assert f"{broken} is not a whole JSON report" in told.err


@pytest.mark.parametrize(("name", "starts"), [("comment.md", "## ✅ Energy budgets: PASS\n"), ("page.html", "<!doctype html>")])
def test_a_report_is_written_from_a_file(saved: Project, capsys: pytest.CaptureFixture[str], name: str, starts: str) -> None:
    assert main(["report", "energy.json", "-o", name]) == 0
    assert capsys.readouterr().out == f"wrote: {name} (1 session)\n"
    assert (saved.path / name).read_text(encoding="utf-8").lower().startswith(starts.lower())


def test_the_markdown_of_a_file_is_that_of_the_session(saved: Project) -> None:
    saved.measure("--energy-json=energy.json", "--energy-markdown=session.md").assert_outcomes(passed=1)
    assert main(["report", "energy.json", "-o", "file.md"]) == 0
    assert (saved.path / "file.md").read_text(encoding="utf-8") == (saved.path / "session.md").read_text(encoding="utf-8")


def test_a_baseline_and_files_are_a_report_together(saved: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "main", "energy.json", "-o", "all.md"]) == 0
    assert capsys.readouterr().out == "wrote: all.md (3 sessions)\n"
    assert (saved.path / "all.md").read_text(encoding="utf-8").count("## ✅ Energy budgets: PASS") == 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is not a whole JSON report"),
        ("[]", "has schema None"),
        ('{"schema": "greencompute.report/9"}', "has schema 'greencompute.report/9'; this version reads 'greencompute.report/1'. Update"),
        ('{"schema": "greencompute.report/1", "runs": []}', "is no JSON report of this schema: data must contain"),
        ('{"schema": NaN}', "NaN is no number"),
        ("[" * 100_000, "is not a whole JSON report"),
        ('{"schema": 1e999}', "1e999 is too large"),
        ('{"schema": ' + "9" * 400 + "}", "is too large"),
    ],
)
def test_a_file_that_is_no_report_is_refused(project: Project, capsys: pytest.CaptureFixture[str], text: str, says: str) -> None:
    (project.path / "bad.json").write_text(text, encoding="utf-8")
    assert main(["report", "bad.json", "-o", "x.md"]) == 2
    assert says in capsys.readouterr().err
    assert not (project.path / "x.md").exists()


def test_a_metric_that_nobody_knows_is_refused(saved: Project, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved.path / "energy.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"energy_per_query"', '"energy_per_dream"'), encoding="utf-8")
    assert main(["report", "energy.json", "-o", "x.md"]) == 2
    assert "'energy_per_dream' is no metric" in capsys.readouterr().err


@pytest.mark.parametrize("output", ["x.md", "x.html"])
@pytest.mark.parametrize(
    ("old", "new"),
    [('"domain": "gpu:0",\n', ""), ('"provenance": {', '"provenance": {"deep": ' + '{"x": ' * 900 + "1" + "}" * 900 + ", ")],
    ids=["no domain", "too deep"],
)
def test_a_report_that_was_edited_is_shown_or_refused_in_a_sentence(
    saved: Project, capsys: pytest.CaptureFixture[str], output: str, old: str, new: str
) -> None:
    path = saved.path / "energy.json"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    status = main(["report", "energy.json", "-o", output])
    assert status in {0, 2}
    assert (saved.path / output).exists() == (status == 0)
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("error", [IndexError("no such"), MemoryError(), KeyError("x")], ids=lambda each: type(each).__name__)
def test_whatever_an_edited_report_brings_about_is_a_sentence(
    saved: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken(*_: object) -> str:
        raise error

    monkeypatch.setattr("pytest_greencompute.report.markdown.text", broken)
    assert main(["report", "energy.json", "-o", "x.md"]) == 2
    assert f"energy.json cannot be shown ({type(error).__name__}: " in capsys.readouterr().err


def test_what_cannot_be_a_report_is_said(saved: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "energy.json", "-o", "report.pdf"]) == 2
    assert "'report.pdf' has no form that is known. End its name with one of .html, .md." in capsys.readouterr().err
    assert main(["report", "nothing-here"]) == 2
    assert "'nothing-here' is no JSON report, no folder of them and no baseline in" in capsys.readouterr().err
    assert not Path("report.html").exists()
