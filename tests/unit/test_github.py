"""What GitHub Actions is told: annotations that cannot be forged, a summary that is appended and never too long, outputs."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from telling import compared, measured, session, told, with_verdict

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.machine.ci import in_github_actions
from pytest_greencompute.report import github
from pytest_greencompute.results.result import Result

PLACES = {"t.py::test_y": ("tests/t.py", 12)}


def parsed(line: str) -> tuple[str, dict[str, str], str]:
    """A workflow command as the runner reads it."""
    found = re.fullmatch(r"::([a-z-]+) ?([^:]*)::(.*)", line)
    assert found, line

    def decoded(text: str) -> str:
        return text.replace("%0D", "\r").replace("%0A", "\n").replace("%3A", ":").replace("%2C", ",").replace("%25", "%")

    properties = dict(pair.split("=", 1) for pair in found[2].split(","))
    return found[1], {name: decoded(value) for name, value in properties.items()}, decoded(found[3])


def red(test: str = "t.py::test_y") -> Result:
    return replace(told(measured(), effect="fail", energy_per_query=0.5), test=test)


def test_the_whole_comes_first_and_each_failure_stands_beside_its_test() -> None:
    whole, one = github.notices(session(red(), told(measured(), energy_per_query=0.8)), PLACES)
    assert parsed(whole)[:2] == ("error", {"title": "Energy budgets: FAIL"})
    assert parsed(whole)[2] == "1 of 2 verdicts failed the build."
    level, properties, message = parsed(one)
    assert level == "error"
    assert properties == {"file": "tests/t.py", "line": "12", "title": "FAIL energy: test_y"}
    assert message.startswith("test_y used 0.6120 J per query")


def test_there_are_nine_at_most_and_the_first_says_how_many_are_not_shown() -> None:
    lines = github.notices(session(*(red(f"t.py::test_{n}") for n in range(30))), PLACES)
    assert len(lines) == github.MOST_ANNOTATIONS == 9
    assert parsed(lines[0])[2] == "30 of 30 verdicts failed the build; the first 8 are shown beside the code."


def test_where_all_is_well_nothing_is_said() -> None:
    assert github.notices(session(told(measured(), energy_per_query=0.8)), PLACES) == []


def test_a_warning_and_a_laxer_limit_are_one_warning() -> None:
    run = told(measured(), effect="warn", energy_per_query=0.612)
    (line,) = github.notices(session(run, loosened=("test_y: the limit was 0.5 J and is 0.612 J",)), PLACES)
    level, properties, message = parsed(line)
    assert (level, properties["title"]) == ("warning", "Energy budgets: INCONCLUSIVE")
    assert message == "limits are laxer now: test_y: the limit was 0.5 J and is 0.612 J; test_y: INCONCLUSIVE"


def test_a_total_over_its_limit_and_a_report_that_was_not_written_are_said() -> None:
    total = replace(red().verdicts[0], metric="total", reason="Over the total.")
    (line,) = github.notices(session(total=total, said=(("the JSON report was not written: full", True),)), {})
    assert parsed(line)[2] == "Over the total. the JSON report was not written: full."


def test_a_test_that_broke_is_red_whatever_the_verdicts_say() -> None:
    made = session(told(measured(), energy_per_query=0.8), broken=(("t.py::test_z", "RuntimeError: CUDA out of memory"),))
    (line,) = github.notices(made, PLACES)
    level, properties, message = parsed(line)
    assert (level, properties["title"]) == ("error", "Energy budgets: PASS, red")
    assert message == "test_z failed: RuntimeError: CUDA out of memory."
    assert github.outputs(made)["verdict"] == "FAIL"
    assert github.outputs(made)["red"] == "true"


@settings(max_examples=150)
@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))
def test_names_never_become_commands(test: str, name: str, path: str) -> None:
    run = replace(red(f"t.py::{test}"), name=name)
    lines = github.notices(session(run), {f"t.py::{test}": (path, 3)})
    assert len(lines) == 2
    for line in lines:
        line.encode()
        assert len(line.splitlines()) == 1
        level, properties, _ = parsed(line)
        assert level == "error"
        assert set(properties) <= {"file", "line", "title"}


@pytest.mark.parametrize(
    ("root", "path", "expected"),
    [
        ("/checkout", "tests/t.py", "tests/t.py"),
        ("/checkout/services/chat", "tests/t.py", "services/chat/tests/t.py"),
        ("/elsewhere", "tests/t.py", "tests/t.py"),
    ],
)
def test_a_place_is_told_from_the_top_of_the_checkout(root: str, path: str, expected: str) -> None:
    assert github.place_in("/checkout", Path(root), path, 7) == (expected, 7)
    assert github.place_in("", Path(root), path, 7) == (path, 7)


def test_the_outputs_are_the_worst_word_the_energy_and_the_worst_regression() -> None:
    found = github.outputs(session(compared(1.02, "PASS"), compared(1.104, "FAIL"), compared(0.9, "PASS", metric="latency_p95")))
    assert found == {"verdict": "FAIL", "red": "true", "energy_j": "3100", "worst_regression": "10.4"}


def test_outputs_that_nobody_knows_are_empty_and_no_verdict_is_no_pass() -> None:
    assert github.outputs(session(total_j=None)) == {"verdict": "UNMEASURED", "red": "false", "energy_j": "", "worst_regression": ""}


def test_the_summary_is_appended_and_stays_below_what_github_takes(tmp_path: Path) -> None:
    path = tmp_path / "summary.md"
    path.write_text("# Another tool's words\n" + "x" * (github.MOST_BYTES - 30_000), encoding="utf-8")
    runs = [red(f"t.py::test_größe_{n}") for n in range(60)]
    github.append_summary(str(path), [session(*runs, *(told(measured(), energy_per_query=0.8) for _ in range(500)))])
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# Another tool's words\n")
    assert len(text.encode()) <= github.MOST_BYTES
    for n in range(60):
        assert f"größe&#95;{n}" in text


def test_a_summary_without_room_says_so(tmp_path: Path) -> None:
    path = tmp_path / "summary.md"
    path.write_text("x" * (github.MOST_BYTES - 40), encoding="utf-8")
    with pytest.raises(SettingsError, match=r"There is no room for it: 3\d are left"):
        github.append_summary(str(path), [session(red())])
    assert path.stat().st_size == github.MOST_BYTES - 40


def test_a_summary_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be written: Is a directory"):
        github.append_summary(str(tmp_path), [session(red())])


def test_only_a_job_of_github_is_one() -> None:
    assert in_github_actions({"GITHUB_ACTIONS": "true"})
    assert not in_github_actions({"GITHUB_ACTIONS": "1"})
    assert not in_github_actions({})


def test_a_long_sentence_is_cut() -> None:
    run = with_verdict(red(), reason="x" * 50_000)
    assert all(len(line) < 2_000 for line in github.notices(session(run), PLACES))
