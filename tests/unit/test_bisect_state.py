"""What a bisect keeps on disk, and what it says at its end."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from profiles import BERT, compared, with_times

from pytest_greencompute.bisecting.belief import Extent
from pytest_greencompute.bisecting.search import Ended, Suspects
from pytest_greencompute.commands import bisect
from pytest_greencompute.commits.git import Commit, GitError
from pytest_greencompute.errors import SettingsError
from pytest_greencompute.pairing.beside_good import GoodNotMeasuredError
from pytest_greencompute.report.bisected import Bisected, lines, to_json
from pytest_greencompute.results.result import Explained
from pytest_greencompute.store.bisects import BisectState, LaunchOfCommit, MeasuredSoFar
from pytest_greencompute.values.metrics import METRICS

DEVICES = ("gpu:0 H100 (nvml, counter)",)
ASKED = {"test": "t.py::test_it", "good": "a" * 40, "bad": "b" * 40, "run": None}
LAUNCH = LaunchOfCommit("b" * 40, ((0.5, 0.6), (0.5, 0.61)), 1.0, 5.0, 2.0)
FOUND = MeasuredSoFar().with_launch(LAUNCH, ("gpu:0 H100",)).with_skipped("c" * 40, "it has no such test")


def test_what_was_kept_is_read_again(tmp_path: Path) -> None:
    state = BisectState(tmp_path, ASKED)
    assert state.read() == MeasuredSoFar()
    state.keep(FOUND)
    assert BisectState(tmp_path, ASKED).read() == FOUND
    assert [each.name for each in state.path.parent.iterdir()] == [state.path.name]


@pytest.mark.parametrize("other", [{"bad": "d" * 40}, {"good": "d" * 40}, {"run": "second"}, {"test": "t.py::test_other"}])
def test_another_search_has_another_file(tmp_path: Path, other: dict[str, str]) -> None:
    BisectState(tmp_path, ASKED).keep(FOUND)
    assert BisectState(tmp_path, ASKED | other).read() == MeasuredSoFar()


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace("bisect-state/1", "bisect-state/2"),
        lambda text: text.replace("0.61", "-0.61"),
        lambda text: text.replace("0.61", "NaN"),
        lambda text: text.replace("t.py", "u.py"),
        lambda text: text.replace('"skipped"', '"left"'),
        lambda _: "[]",
        lambda _: "",
    ],
)
def test_a_file_that_was_damaged_is_refused_with_what_to_do(tmp_path: Path, edit: object) -> None:
    assert callable(edit)
    state = BisectState(tmp_path, ASKED)
    state.keep(FOUND)
    state.path.write_text(edit(state.path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(SettingsError, match=r"is broken .*Delete it to begin again\.$"):
        state.read()


def test_launches_on_other_hardware_are_not_added() -> None:
    with pytest.raises(SettingsError, match=r"What was measured before was on gpu:0 H100, and this is gpu:0 L4\."):
        FOUND.with_launch(LAUNCH, ("gpu:0 L4",))


# What is said


def commits(count: int) -> list[Commit]:
    return [Commit(ref, f"{number:x}" * 40, f"change {number}") for number, ref in enumerate(["v1", *["-"] * (count - 1), "HEAD"])]


def level(change: float) -> Extent:
    return Extent(math.log1p(change), math.log1p(change - 0.01), math.log1p(change + 0.01))


def bisected(
    ending: Ended = "found", first: int = 3, last: int = 3, *, rise: float = 0.15, before: float = 0.0, explained: float = 0.15
) -> Bisected:
    history = commits(5)
    measured = MeasuredSoFar(
        (LaunchOfCommit(history[-1].sha, ((0.5, 0.575),), 1.0, 5.0, 2.0),), {history[2].sha: "it has no such test"}, DEVICES
    )
    answer = Suspects(ending, first, last, 0.99567, level(rise), level(before), math.log1p(explained))
    return Bisected(
        "t.py::test_it", METRICS["energy_per_query"], history, measured, answer, 0.99, 0.05, ("--run", "long one", "t.py::test_it")
    )


def test_the_found_commit_is_told_with_its_probability_never_rounded_up() -> None:
    said = lines(bisected())
    assert said[0] == "3333333333 change 3: here energy/query rose, with a probability of 99.5 %."
    assert said[1] == "  It explains +15 % of the +15 % [+14 %, +16 %] from v1 (0000000000) to HEAD (5555555555)."
    assert said[2] == "  Metered: gpu:0 H100 (nvml, counter)."
    assert said[3] == "  Measured: 1 of 5 commits, 1 pair in 1 launch beside the good one, 8 s."
    assert said[4] == "  Skipped 2222222222 change 2: it has no such test"
    assert said[5:] == [
        "Next:",
        "  git show 3333333333",
        "  git switch --detach 3333333333 && pytest t.py::test_it --energy-budget --energy-base-ref 2222222222",
    ]


def test_the_comparison_to_run_next_has_the_meter_that_was_asked_for() -> None:
    found = replace(bisected(), how=("--meter", "rapl,cputime", "t.py::test_it"))
    assert lines(found)[-1].endswith("--energy-budget --energy-base-ref 2222222222 --energy-meter rapl,cputime")


def test_what_was_found_with_less_confidence_says_what_to_run_next_too() -> None:
    assert "Next:" in lines(bisected(rise=0.005, explained=0.005))


def test_what_the_commit_does_stands_in_place_of_the_command_that_would_say_it() -> None:
    found = replace(bisected(), explained=Explained("2222222222", compared(BERT, with_times(BERT, "output", times=2.0))))
    said = lines(found)
    assert any(line.startswith("Where: ") and "output" in line for line in said)
    assert not any("--energy-base-ref" in line for line in said)
    assert "explanation" in to_json(found)


def test_a_commit_that_could_not_be_explained_has_the_command() -> None:
    said = lines(replace(bisected(), why_not="its version cannot explain"))
    assert any("not explained: its version cannot explain" in line for line in said)
    assert any("--energy-base-ref" in line for line in said)


def test_a_range_names_its_commits() -> None:
    said = lines(bisected(first=2, last=3))
    assert said[:3] == [
        "Energy/query rose in one of these 2 commits, with a probability of 99.5 %:",
        "  2222222222 change 2",
        "  3333333333 change 3",
    ]
    assert "  git log -p 1111111111..3333333333" in said


def test_a_part_of_the_rise_offers_the_search_for_the_rest_where_it_is() -> None:
    said = lines(bisected(rise=0.15, explained=0.09))
    assert "  It explains +9.0 % of the +15 % [+14 %, +16 %] from v1 (0000000000) to HEAD (5555555555)." in said
    assert said[-1] == "  greencompute bisect --good 3333333333 --bad 5555555555 --run 'long one' t.py::test_it"
    said = lines(bisected(rise=0.15, before=0.05, explained=0.09))
    assert "  Before it there were already +5.0 % [+4.0 %, +6.0 %]." in said
    assert said[-1] == "  greencompute bisect --good 0000000000 --bad 2222222222 --run 'long one' t.py::test_it"


def test_a_good_commit_that_is_worse_is_told_with_both_figures() -> None:
    found = bisected("better", rise=-0.13)
    assert lines(found)[0] == (
        "The good commit is the worse one: energy/query is 0.575 J at HEAD (5555555555), 0.500 J at v1 (0000000000) (-13 % [-14 %, -12 %])."
    )
    assert found.exit_status == 1


def test_no_difference_says_what_would_have_been_seen() -> None:
    found = bisected("no rise", rise=0.0)
    assert lines(found)[0].startswith("There is nothing to be found: energy/query is 0.575 J at HEAD")
    assert lines(found)[1] == "  +5.0 % would have been seen."
    assert found.exit_status == 1
    assert not any(line.startswith("Next") for line in lines(found))


def test_what_is_not_sure_says_so() -> None:
    found = bisected("unclear", first=2, last=4)
    assert lines(found)[0] == "Not narrowed down further in 1 launch."
    assert found.exit_status == 3
    assert lines(bisected("unclear", rise=0.005))[0].startswith("After 1 launch it is not clear whether HEAD (5555555555) is worse than v1")


def test_the_json_has_the_answer_and_all_pairs() -> None:
    told = json.loads(json.dumps(to_json(bisected()), allow_nan=False))
    assert told["suspects"] == [{"ref": "-", "sha": "3" * 40, "subject": "change 3"}]
    assert told["probability"] == pytest.approx(0.99567)
    assert told["explained"] == pytest.approx(0.15)
    assert told["launches"][0]["pairs"] == [[0.5, 0.575]]
    assert told["skipped"] == [{"commit": "2" * 40, "reason": "it has no such test"}]
    assert json.loads(json.dumps(to_json(bisected("no rise"))))["suspects"] == []


class Refused:
    """Checkouts for which git has no room."""

    closed = 0

    def __init__(self, *_: object) -> None:
        pass

    def resolve(self) -> None:
        pass

    def open(self) -> None:
        raise GitError("no space left")

    def of_test(self, _: str) -> list[object]:
        return []

    def close(self) -> None:
        Refused.closed += 1


def test_a_checkout_that_git_refused_is_tried_anew_and_nothing_of_it_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bisect, "Bases", Refused)
    session: Any = SimpleNamespace(root=Path(), home=Path(), settings=SimpleNamespace(base_link=(), base_python=None))
    told: Any = None
    bench = bisect.Beside(session, told, METRICS["energy_per_query"], ["t.py::test_it"])
    good, other = Commit("a", "a" * 40, "good"), Commit("b", "b" * 40, "other")
    for times in (1, 2):
        with pytest.raises(GoodNotMeasuredError) as refused:
            bench.launch(good, other, 2, good_first=True)
        assert "no space left" in str(refused.value.why)
        assert Refused.closed == times
