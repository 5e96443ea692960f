"""greencompute gather: the reports of many hosts are one session, whoever wrote them; what is missing, forged or broken is red, by name."""

from __future__ import annotations

import copy
import json
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_greencompute import cli
from pytest_greencompute.fleet import part as parts_module

from .conftest import Project

H100, L4 = "NVIDIA H100 80GB HBM3", "NVIDIA L4"
TESTS = """
    import os
    import pytest

    @pytest.mark.energy_budget(energy_per_query="1 J", accuracy=0.9)
    def test_chat(energy_meter, world):
        joules = float(os.environ.get("WORLD_JOULES", "0.5"))
        energy_meter.measure(world.model(joules, spread=0.01), list("abcd"), references=list("ABCD"))
"""
COMMIT, OTHER_COMMIT = "0123abcd" * 5, "beef4567" * 5


class Fleet:
    """A project that is measured on several hosts; ``gather`` gathers their reports, and keeps what it printed."""

    def __init__(self, project: Project, capsys: pytest.CaptureFixture[str]) -> None:
        self.project, self.capsys, self.said = project, capsys, ""
        project.write("test_it.py", TESTS)

    def measure(self, name: str, gpu: str = H100, joules: float = 0.5, *options: str, uuid: str = "") -> Path:
        """The session of one host."""
        for key, value in {"GPU": gpu, "UUID": uuid or f"GPU-{name}", "JOULES": str(joules)}.items():
            self.project.monkeypatch.setenv(f"WORLD_{key}", value)
        path = self.project.path / "parts" / f"{name}.json"
        self.project.measure(f"--energy-json={path}", *options)
        return path

    def edit(self, path: Path, change: Callable[[Any], object]) -> Path:
        """The report, after somebody has changed it."""
        report = json.loads(path.read_text(encoding="utf-8"))
        change(report)
        path.write_text(json.dumps(report), encoding="utf-8")
        return path

    def gather(self, *args: str) -> int:
        self.capsys.readouterr()
        status = cli.main(["gather", *(args if any("parts" in each for each in args) else ("parts", *args))])
        self.said = "".join(self.capsys.readouterr())
        return status

    @property
    def rows(self) -> dict[tuple[str, str], dict[str, Any]]:
        """The rows of the JSON report, by test and hardware."""
        report = self.project.report("whole.json")
        return {(run["test"].partition("::")[2], run["hardware"]): run for run in report["runs"]}


@pytest.fixture
def fleet(project: Project, capsys: pytest.CaptureFixture[str]) -> Fleet:
    return Fleet(project, capsys)


def word(row: dict[str, Any], metric: str = "energy_per_query") -> str:
    return next(each["verdict"] for each in row["verdicts"] if each["metric"] == metric)


def set_commit(commit: str) -> Callable[[Any], object]:
    def change(report: Any) -> None:
        report["session"]["commit"] = report["session"]["machine"]["commit"] = commit
        report["session"]["machine"]["dirty"] = False

    return change


def scale_energy(times: float) -> Callable[[Any], object]:
    """Every joule that was read, and nothing that was worked out of it."""

    def change(report: Any) -> None:
        for run in report["runs"]:
            for block in (block for group in run["raw"]["sets"] for block in group):
                for span in block[5].values():
                    span[0] *= times

    return change


def other_run(report: Any) -> Any:
    """The first run of a report, with other samples."""
    other = copy.deepcopy(report)
    scale_energy(1.01)(other)
    return other["runs"][0]


# --- one report -----------------------------------------------------------------------------------------------------------------------


def test_hosts_of_one_kind_are_pooled_and_each_kind_has_a_row_in_every_form(fleet: Fleet) -> None:
    for name, joules in {"one": 0.5, "two": 0.503, "three": 0.497}.items():
        fleet.measure(name, joules=joules)
    fleet.measure("small", L4, 0.8)
    outputs = [word for ending in ("json", "md", "xml", "html") for word in ("-o", f"whole.{ending}")]
    assert fleet.gather("--expect-hardware", "H100,L4", *outputs) == 0, fleet.said
    big, small = fleet.rows["test_chat", H100], fleet.rows["test_chat", L4]
    assert (big["hosts"], word(big), small["hosts"], word(small)) == (3, "PASS", 1, "PASS")
    figure = big["metrics"]["energy_per_query"]
    assert figure["value"] == pytest.approx(0.5, rel=0.01)
    assert figure["n"] == 3
    assert small["metrics"]["energy_per_query"]["value"] == pytest.approx(0.8, rel=0.02)
    assert fleet.project.report("whole.json")["exit_status"] == 0
    for shown in (fleet.said, *((fleet.project.path / f"whole.{ending}").read_text(encoding="utf-8") for ending in ("md", "html"))):
        assert H100 in shown
        assert L4 in shown
    suites = ET.parse(fleet.project.path / "whole.xml").getroot().findall("testsuite")
    assert {suite.get("name"): suite.get("failures") for suite in suites} == {f"energy {H100}": "0", f"energy {L4}": "0"}


def test_three_hosts_have_a_narrower_interval_than_two_by_the_model_of_launches(fleet: Fleet) -> None:
    for name in ("one", "two"):
        fleet.measure(name)
    fleet.gather("-o", "whole.json")
    two = fleet.rows["test_chat", H100]["metrics"]["energy_per_query"]
    fleet.measure("three")
    fleet.gather("-o", "whole.json")
    three = fleet.rows["test_chat", H100]["metrics"]["energy_per_query"]
    assert (three["high"] - three["low"]) < (two["high"] - two["low"]) * 0.9


def test_a_kind_over_its_budget_is_red_and_the_others_are_not(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = fleet.project.path / "summary.md"
    fleet.measure("one")
    fleet.measure("small", L4, 1.2)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    monkeypatch.setenv("GITHUB_OUTPUT", str(fleet.project.path / "output"))
    assert fleet.gather("-o", "whole.json", "-o", "whole.xml") == 1
    assert (word(fleet.rows["test_chat", H100]), word(fleet.rows["test_chat", L4])) == ("PASS", "FAIL")
    assert re.search(rf"^FAIL: test_chat on {L4} used 1\.\d+ J per query", fleet.said, re.MULTILINE)
    failures = ET.parse(fleet.project.path / "whole.xml").getroot().findall(".//failure")
    assert len(failures) == 1
    assert L4 in summary.read_text(encoding="utf-8")
    assert "red=true" in (fleet.project.path / "output").read_text(encoding="utf-8")
    assert fleet.project.report("whole.json")["exit_status"] == 1


def test_hosts_that_disagree_beyond_their_intervals_are_named(fleet: Fleet) -> None:
    for name, joules in {"one": 0.5, "two": 0.51, "hot": 0.8}.items():
        fleet.measure(name, joules=joules)
    fleet.gather("-o", "whole.json")
    assert "hosts disagree on energy by more than their intervals: parts/hot.json (GPU-hot)" in fleet.said
    # All within 1 J one by one; that hosts differ by so much is in the interval of all.
    figure = fleet.rows["test_chat", H100]["metrics"]["energy_per_query"]
    assert figure["high"] > 0.8


def test_a_baseline_judges_all_hosts_of_a_kind_together(fleet: Fleet) -> None:
    for name in ("one", "two", "three"):
        fleet.measure(name, H100, 0.5, "--energy-save=main")
    for name, joules in {"one": 0.65, "two": 0.66, "three": 0.64}.items():
        fleet.measure(name, joules=joules)
    assert fleet.gather("--baseline", "main", "-o", "whole.json") == 1
    row = fleet.rows["test_chat", H100]
    verdict = next(each for each in row["verdicts"] if (each["kind"], each["metric"]) == ("baseline", "energy_per_query"))
    assert verdict["verdict"] == "FAIL"
    assert verdict["ratio"]["value"] == pytest.approx(1.3, rel=0.01)
    assert "3 saved" in verdict["reason"]


# --- what is missing ------------------------------------------------------------------------------------------------------------------


def test_a_kind_that_no_part_has_is_red_by_its_name(fleet: Fleet) -> None:
    fleet.measure("one")
    assert fleet.gather("--expect-hardware", "H100,A100", "-o", "whole.json") == 1
    assert word(fleet.rows["test_chat", "A100"]) == "UNMEASURED"
    assert f"no part was measured on A100: there are {H100}" in fleet.said
    assert fleet.gather("--expect-hardware", "H100") == 0


def test_a_test_that_one_kind_lacks_is_red_unless_it_was_skipped_there(fleet: Fleet) -> None:
    more = "\n\n    def test_more(energy_meter, world):\n        energy_meter.measure(world.model(0.2), list('abcd'))\n"
    fleet.project.write("test_it.py", TESTS + more)
    fleet.measure("one")
    fleet.measure("small", L4, 0.5, "-k", "test_chat")
    assert fleet.gather("--expect-hardware", "H100,L4", "-o", "whole.json") == 1
    assert word(fleet.rows["test_more", L4]) == "UNMEASURED"
    fleet.project.write("test_it.py", TESTS + more.replace("def ", "@pytest.mark.skip(reason='needs 80 GB')\n    def "))
    fleet.measure("small", L4)
    assert fleet.gather("--expect-hardware", "H100,L4") == 0, fleet.said
    assert f"test_more (needs 80 GB, on {L4})" in fleet.said


def test_a_lost_host_is_red_where_so_many_were_expected_and_the_table_of_the_file_says_so_too(fleet: Fleet) -> None:
    for name in ("one", "two"):
        fleet.measure(name)
    assert fleet.gather("--expect-hardware", "H100", "--expect-hosts", "2") == 0, fleet.said
    assert fleet.gather("--expect-hardware", "H100", "--expect-hosts", "3") == 1
    assert f"2 of 3 hosts measured it on {H100}" in fleet.said
    fleet.project.toml('[tool.greencompute.fleet]\nhardware = ["H100"]\nhosts = 3\n')
    assert fleet.gather() == 1
    fleet.project.toml('[tool.greencompute.fleet]\nhardwear = ["H100"]\n')
    assert fleet.gather() == 2
    assert "'hardwear' is not a key of fleet. Did you mean 'hardware'?" in fleet.said


def test_so_many_hosts_are_expected_of_each_kind_that_there_is_where_none_is_named(fleet: Fleet) -> None:
    limit = ("power_limit_w", 350.0)
    fleet.measure("one")
    fleet.edit(fleet.measure("two"), lambda report: report["runs"][0]["provenance"]["devices"]["gpu:0"].__setitem__(*limit))
    fleet.measure("small", L4)
    assert fleet.gather("--expect-hosts", "2") == 1
    assert f"1 of 2 hosts measured it on {L4}" in fleet.said
    assert f"hosts measured it on {H100}" not in fleet.said  # another power limit is a row of its own, and a host
    fleet.measure("little", L4)
    assert fleet.gather("--expect-hosts", "2") == 0, fleet.said
    assert fleet.gather("--expect-hardware", "A100,a100", "-o", "whole.md") == 1
    assert fleet.said.lower().count("no part was measured on a100") == 1


@pytest.mark.parametrize("text", ["", "2 tests collected\n", "test_it.py::test_chat\nERROR test_more.py - ImportError\n"])
def test_a_list_of_tests_that_is_none_is_no_list_of_nothing(fleet: Fleet, text: str) -> None:
    fleet.measure("one")
    fleet.project.write("expected.txt", text)
    assert fleet.gather("--expect-tests", "@expected.txt") == 2
    assert "expected.txt" in fleet.said


def test_tests_that_pytest_collects_here_and_no_part_has_are_red(fleet: Fleet) -> None:
    fleet.measure("one")
    fleet.project.write("test_new.py", "def test_new(energy_meter):\n    pass\n\n\ndef test_plain():\n    pass\n")
    assert fleet.gather("--expect-tests", "test_it.py") == 0, fleet.said
    assert fleet.gather("--expect-tests", "test_it.py test_new.py", "-o", "whole.json") == 1
    assert word(fleet.rows["test_new", H100]) == "UNMEASURED"
    assert ("test_plain", H100) not in fleet.rows
    fleet.project.write("expected.txt", "\ufefftest_it.py::test_chat\n")  # as some editors and shells begin a file
    assert fleet.gather("--expect-tests", "@expected.txt") == 0, fleet.said
    fleet.project.write("expected.txt", "test_it.py::test_chat\ntest_gone.py::test_gone\n")
    assert fleet.gather("--expect-tests", "@expected.txt") == 1
    assert "test_gone" in fleet.said
    assert fleet.gather("--expect-tests", "no_such_file.py") == 2
    assert fleet.gather("--expect-tests", "test_it.py -k 'chat") == 2
    assert "No closing quotation" in fleet.said


def test_a_budget_of_the_file_that_no_part_speaks_of_is_red(fleet: Fleet) -> None:
    fleet.measure("one")
    fleet.project.toml('[tool.greencompute.budgets."test_it.py::test_renamed"]\nenergy_per_query = "1 J"\n')
    assert fleet.gather() == 1
    assert "no part has a test that 'test_it.py::test_renamed' speaks of" in fleet.said


# --- what is refused ------------------------------------------------------------------------------------------------------------------


def test_a_part_of_another_commit_is_refused_by_its_name_with_the_remedy(fleet: Fleet) -> None:
    for name in ("one", "two"):
        fleet.edit(fleet.measure(name), set_commit(COMMIT))
    fleet.edit(fleet.measure("old"), set_commit(OTHER_COMMIT))
    assert fleet.gather("-o", "whole.json") == 1
    assert "refused: parts/old.json is of commit beef4567be, and 0123abcd01 is gathered. Measure 0123abcd01 there" in fleet.said
    assert fleet.rows["test_chat", H100]["hosts"] == 2
    assert fleet.gather("--commit", OTHER_COMMIT[:10], "-o", "whole.json") == 1
    assert fleet.rows["test_chat", H100]["hosts"] == 1
    (fleet.project.path / "parts" / "old.json").unlink()
    assert fleet.gather() == 0, fleet.said
    assert fleet.gather("--commit", "main") == 2


def test_a_part_of_another_version_or_format_is_refused_by_its_name(fleet: Fleet) -> None:
    fleet.measure("one")

    def older(report: Any) -> None:
        report["session"]["machine"]["pytest-greencompute"] = "0.0.7"

    fleet.edit(fleet.measure("older"), older)
    fleet.edit(fleet.measure("newer"), lambda report: report.update(schema="greencompute.report/9"))
    assert fleet.gather() == 1
    assert "refused: parts/older.json was measured with pytest-greencompute 0.0.7, and this is" in fleet.said
    assert "refused: parts/newer.json has schema 'greencompute.report/9'" in fleet.said


def test_a_part_that_asked_other_queries_is_refused_by_its_name(fleet: Fleet) -> None:
    for name in ("one", "two"):
        fleet.measure(name)
    fleet.project.write("test_it.py", TESTS.replace("abcd", "abce").replace("ABCD", "ABCE"))
    fleet.measure("other", L4)
    assert fleet.gather("-o", "whole.json") == 1
    assert "refused: parts/other.json asked test_chat other queries than parts/one.json (queries" in fleet.said
    assert ("test_chat", L4) not in fleet.rows


def test_a_verdict_that_somebody_wrote_does_not_count(fleet: Fleet) -> None:
    def forge(report: Any) -> None:
        report["exit_status"] = 0
        run = report["runs"][0]
        for each in run["verdicts"]:
            each |= {"verdict": "PASS", "effect": "green"}
        run["metrics"]["energy_per_query"] |= {"value": 0.5, "low": 0.49, "high": 0.51}

    fleet.edit(fleet.measure("forged", joules=1.5), forge)
    assert fleet.gather("-o", "whole.json") == 1
    assert word(fleet.rows["test_chat", H100]) == "FAIL"
    assert "parts/forged.json says PASS on energy of test_chat, and its samples say FAIL: this one counts" in fleet.said
    assert re.search(r"says energy_per_query 0.5 of test_chat, and its samples give 1\.[45]\d*: this one counts", fleet.said)


def test_a_budget_that_the_part_left_out_is_judged_by_the_file(fleet: Fleet) -> None:
    fleet.edit(fleet.measure("one", joules=1.5), lambda report: report["runs"][0].update(verdicts=[]))
    fleet.project.toml('[tool.greencompute.budgets."*"]\nenergy_per_query = "1 J"\n')
    assert fleet.gather() == 1
    assert "over its budget of 1 J" in fleet.said


def test_a_limit_that_only_the_part_knows_is_judged_and_a_run_that_it_names_is_missed(fleet: Fleet) -> None:
    fleet.project.toml('[tool.greencompute.budgets."*"]\nenergy_per_query = "1 J"\nprefill = { energy_per_query = "1 J" }\n')
    fleet.project.write("test_it.py", TESTS.replace('energy_per_query="1 J", accuracy=0.9', "accuracy=0.9"))
    fleet.measure("one", joules=1.5)
    fleet.project.toml("")
    assert fleet.gather("-o", "whole.json") == 1
    verdicts = [each for run in fleet.project.report("whole.json")["runs"] for each in run["verdicts"]]
    assert sorted(each["verdict"] for each in verdicts) == ["FAIL", "PASS", "UNMEASURED"]


def test_a_baseline_that_only_the_part_was_held_against_is_unmeasured_here(fleet: Fleet) -> None:
    fleet.measure("before", H100, 0.5, "--energy-save=main")
    (fleet.project.path / "parts" / "before.json").unlink()
    fleet.measure("one", H100, 0.5, "--energy-baseline=main")
    assert fleet.gather() == 1
    assert "was held against baseline 'main' there. Gather with --baseline main" in fleet.said
    assert fleet.gather("--baseline", "main") == 0, fleet.said


def test_a_limit_that_other_hosts_of_the_kind_have_holds_for_one_that_left_it_out(fleet: Fleet) -> None:
    fleet.measure("one", joules=1.5)
    fleet.edit(fleet.measure("two", joules=1.5), lambda report: report["runs"][0].update(verdicts=[]))
    assert fleet.gather() == 1
    assert re.search(r"\(2 hosts\) used 1\.[45]", fleet.said)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda report: report["runs"][0].update(raw=None), "holds no samples of test_it.py::test_chat"),
        (lambda report: report["runs"][0].update(hardware=H100, hosts=3), "was gathered itself"),
        (lambda report: report["session"].update(measured=False), "was not measured: pytest --energy-budget measures"),
        (lambda report: report.update(runs=[]), "holds no measured test"),
        (lambda report: report.update(runs=[*report["runs"], other_run(report)]), "holds test_it.py::test_chat twice"),
    ],
    ids=["no samples", "gathered", "unmetered", "empty", "twice"],
)
def test_what_cannot_be_judged_again_is_refused(fleet: Fleet, change: Callable[[Any], object], why: str) -> None:
    fleet.measure("one")
    fleet.edit(fleet.measure("bad", L4), change)
    assert fleet.gather("--expect-hardware", "H100", "-o", "whole.json") == 1
    assert f"refused: parts/bad.json {why}" in fleet.said
    assert word(fleet.rows["test_chat", H100]) == "PASS"


def test_a_report_cut_in_half_is_refused_and_the_others_stand(fleet: Fleet) -> None:
    fleet.measure("one")
    half = fleet.measure("half")
    half.write_text(half.read_text(encoding="utf-8")[: half.stat().st_size // 2], encoding="utf-8")
    assert fleet.gather("-o", "whole.json") == 1
    assert "refused: parts/half.json is not a whole JSON report" in fleet.said
    assert fleet.rows["test_chat", H100]["hosts"] == 1


def test_the_same_file_twice_counts_once_and_the_same_samples_in_another_file_are_refused(fleet: Fleet) -> None:
    one = fleet.measure("one")
    copied = one.with_name("two.json")
    copied.write_bytes(one.read_bytes())
    assert fleet.gather("-o", "whole.json") == 0, fleet.said
    assert fleet.rows["test_chat", H100]["hosts"] == 1
    assert "parts/two.json is the same file as parts/one.json: counted once" in fleet.said
    fleet.edit(copied, lambda report: report.update(created="2026-11-29T11:00:00Z"))
    assert fleet.gather("-o", "whole.json") == 1
    assert fleet.rows["test_chat", H100]["hosts"] == 1
    assert "refused: parts/two.json holds the same samples of test_chat as parts/one.json" in fleet.said


def test_one_device_measured_twice_is_two_launches_and_that_is_said(fleet: Fleet) -> None:
    for name in ("one", "two"):
        fleet.measure(name, uuid="GPU-same")
    assert fleet.gather("-o", "whole.json") == 0, fleet.said
    assert fleet.rows["test_chat", H100]["hosts"] == 2
    assert "GPU-same was measured 2 times" in fleet.said


def test_clocks_an_hour_apart_and_the_order_of_the_files_change_nothing(fleet: Fleet) -> None:
    paths = [fleet.measure(name, joules=joules) for name, joules in {"one": 0.5, "two": 0.52, "three": 0.48}.items()]
    assert fleet.gather(*map(str, paths), "-o", "whole.json") == 0, fleet.said
    before = fleet.rows["test_chat", H100]
    for hour, path in enumerate(paths):
        fleet.edit(path, lambda report, hour=hour: report.update(created=f"2026-11-29T{20 - hour}:00:00Z"))  # type: ignore[misc]
    assert fleet.gather(*map(str, reversed(paths)), "-o", "whole.json") == 0, fleet.said
    after = fleet.rows["test_chat", H100]
    assert (after["metrics"], after["verdicts"]) == (before["metrics"], before["verdicts"])


def test_hosts_of_one_kind_that_were_measured_otherwise_are_not_pooled(fleet: Fleet) -> None:
    for name in ("one", "two"):
        fleet.measure(name)

    def capped(report: Any) -> None:
        report["runs"][0]["provenance"]["devices"]["gpu:0"]["power_limit_w"] = 350.0

    fleet.edit(fleet.measure("capped"), capped)
    assert fleet.gather("-o", "whole.json") == 0, fleet.said
    assert fleet.rows["test_chat", H100]["hosts"] == 2
    assert fleet.rows["test_chat", f"{H100} (power limit 350 W)"]["hosts"] == 1


def test_parts_that_measured_nothing_are_red(fleet: Fleet) -> None:
    def skip(report: Any) -> None:
        report["runs"] = []
        report["session"]["not_measured"] = [{"test": "test_it.py::test_chat", "reason": "needs 80 GB"}]

    fleet.edit(fleet.measure("one"), skip)
    assert fleet.gather("--expect-hardware", "H100") == 1
    assert "no part measured anything" in fleet.said


def test_what_else_made_a_session_red_is_red_here(fleet: Fleet) -> None:
    fleet.measure("one")
    fleet.edit(fleet.measure("killed"), lambda report: report.update(exit_status=2))
    fleet.edit(fleet.measure("other"), lambda report: report.update(exit_status=1))
    fleet.edit(fleet.measure("broke"), lambda report: report["session"].update(broken=[{"test": "t.py::test_b", "reason": "ValueError"}]))
    assert fleet.gather() == 1
    assert "parts/killed.json did not come to its end: pytest's exit status was 2" in fleet.said
    assert "parts/other.json: a test failed that is not metered" in fleet.said
    fleet.project.write("whole.md", "")
    fleet.gather("-o", "whole.md")
    assert "ValueError" in (fleet.project.path / "whole.md").read_text(encoding="utf-8")


# --- a hostile report -----------------------------------------------------------------------------------------------------------------


def many_samples(report: Any) -> None:
    report["runs"][0]["raw"]["latencies"] = [[1, 0.01]] * 4000


def deep(report: Any) -> None:
    inner: Any = {}
    for _ in range(300):
        inner = {"x": inner}
    report["runs"][0]["provenance"]["devices"] = inner


def far_set(report: Any) -> None:
    report["runs"][0]["raw"]["sets"][-1][-1][0] = 10**12


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (many_samples, "samples, and"),
        (deep, "tables within tables"),
        (far_set, "holds a set with the number 1e+12"),
        (lambda report: report["runs"][0]["raw"].update(looks=10**9), "looked at more than"),
        (lambda report: report["runs"][0].update(test="x" * 100_000), "longer than"),
        (scale_energy(float("nan")), "is no number"),
        (scale_energy(1e200), "too large"),
        (scale_energy(-1.0), "cannot be judged"),
        (lambda report: report["runs"][0]["raw"].update(scores=[10**40]), "too large"),
        (lambda report: report["runs"][0]["provenance"].update(devices=[1, 2]), ""),
        (lambda report: report["runs"][0]["raw"].update(sources=[{"meter": []}]), "cannot be judged"),
        (lambda report: report["runs"][0]["metrics"].update(joules_of_mine=report["runs"][0]["metrics"]["energy_per_query"]), "no metric"),
    ],
    ids=["samples", "depth", "set", "looks", "name", "NaN", "joules", "negative", "digits", "devices", "sources", "metric"],
)
def test_a_hostile_report_is_refused_by_its_name(fleet: Fleet, monkeypatch: pytest.MonkeyPatch, change: Any, why: str) -> None:
    monkeypatch.setattr(parts_module, "MOST_SAMPLES", 3000)
    fleet.measure("one")
    fleet.edit(fleet.measure("bad", L4), change)
    assert fleet.gather("--expect-hardware", "H100", "-o", "whole.json") in ({0, 1} if not why else {1})
    if why:
        assert re.search(rf"^refused: parts/bad\.json .*{re.escape(why)}", fleet.said, re.MULTILINE), fleet.said
    assert word(fleet.rows["test_chat", H100]) == "PASS"


def test_a_file_that_is_too_large_or_no_file_is_refused_unread(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.measure("one")
    large = fleet.project.path / "parts" / "large.json"
    with large.open("wb") as file:
        file.truncate(10**9)  # a hole: as large as 1e8 samples, and no byte of it lies on the disk
    os.mkfifo(fleet.project.path / "parts" / "pipe.json")
    assert fleet.gather() == 1
    assert "refused: parts/large.json is larger than 32 MiB" in fleet.said
    assert "refused: parts/pipe.json is no file" in fleet.said


def test_names_that_are_markup_or_paths_are_text_in_every_form(fleet: Fleet) -> None:
    evil = "../../etc/x.py::test_<script>alert(1)</script>|`${{ github.token }}`\n::error::\x1b[31m\u202e@everyone"

    def rename(report: Any) -> None:
        report["runs"][0]["test"] = evil
        for device in (report["runs"][0]["provenance"]["devices"]["gpu:0"], report["runs"][0]["raw"]["sources"][0]):
            device["device"] = "<img src=x onerror=alert(1)>\n::set-output::\x01\ud800"

    fleet.edit(fleet.measure("evil", joules=1.5), rename)
    outputs = [word for ending in ("json", "md", "xml", "html") for word in ("-o", f"whole.{ending}")]
    assert fleet.gather(*outputs) == 1
    assert "\x1b" not in fleet.said
    assert not [line for line in fleet.said.splitlines() if line.startswith("::")]
    page = (fleet.project.path / "whole.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    markdown = (fleet.project.path / "whole.md").read_text(encoding="utf-8")
    assert "<script>" not in markdown
    assert "@everyone" not in markdown
    assert len(ET.parse(fleet.project.path / "whole.xml").getroot().findall(".//failure")) == 1
    assert sorted(each.name for each in fleet.project.path.iterdir() if each.name.startswith("whole")) == [
        f"whole.{ending}" for ending in ("html", "json", "md", "xml")
    ]


def test_a_folder_that_is_named_and_holds_nothing_is_red_by_its_name(fleet: Fleet) -> None:
    fleet.measure("one")
    (fleet.project.path / "parts-l4").mkdir()
    assert fleet.gather("parts", "parts-l4") == 1
    assert "refused: parts-l4 holds no JSON report" in fleet.said


def test_a_part_is_never_written_over(fleet: Fleet) -> None:
    part = fleet.measure("one")
    before = part.read_bytes()
    assert fleet.gather("parts/one.json", "-o", "parts/../parts/one.json") == 2
    assert part.read_bytes() == before


def test_nothing_to_gather_is_bad_usage(fleet: Fleet) -> None:
    assert fleet.gather("parts-that-are-not-there") == 1  # named, and not there: refused
    (fleet.project.path / "parts").mkdir()
    assert fleet.gather() == 2
    assert fleet.gather("parts", "-o", "whole.txt") == 2
    assert "End its name with one of .html, .md, .json, .xml" in fleet.said
