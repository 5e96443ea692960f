"""The passes of an energy score on a simulated clock and GPU: the truth is known; and the state that outlives a session."""

from __future__ import annotations

import itertools
import json
import math
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
from making import run as made_run

from pytest_greencompute.errors import MeterError, NotRatedError, SettingsError
from pytest_greencompute.estimates.by_metric import estimate
from pytest_greencompute.estimates.estimate import Aim, Estimate
from pytest_greencompute.estimates.measured_kinds import ScoredRun
from pytest_greencompute.estimates.star_scale import SOURCE, Leaderboard, Range
from pytest_greencompute.estimates.stars import ScoreRequest
from pytest_greencompute.measuring.effort import Effort
from pytest_greencompute.measuring.energy_score import Progress, measure_score
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.models.contents import digest_of
from pytest_greencompute.protocol.messages import Tell
from pytest_greencompute.results.provenance_json import machine_from_json, provenance_from_json, provenance_to_json
from pytest_greencompute.store.score_state import ScoreState, key_of, path_of
from pytest_greencompute.testing.sensor import Sensor
from pytest_greencompute.testing.simulated import SimulatedClock, SimulatedGpu
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.provenance import Followed, Provenance
from pytest_greencompute.values.run import Run

FULL = Sensor(update_s=0.1, window_s=0.1)
PART = Sensor(update_s=0.1, window_s=0.025)
LAGGING = Sensor(update_s=0.1, window_s=1.0)
ASKED = ScoreRequest("asr", passes=10, protocol_queries=True, output_of_protocol=True)
H100 = "NVIDIA H100 80GB HBM3"


class Bench:
    """A simulated GPU and a model whose queries take ``query_s`` at 300 W, give or take ``noise``."""

    def __init__(self, sensor: Sensor = FULL, *, query_s: float = 0.02, noise: float = 0.0, seed: int = 5) -> None:
        self.clock = SimulatedClock()
        self.gpu = SimulatedGpu(self.clock, sensor=sensor, domain="gpu:0", uuid="GPU-0")
        self.instruments = Instruments([self.gpu.energy_counter()], self.clock)
        self.query_s, self.noise, self.rng = query_s, noise, random.Random(seed)
        self.calls = 0
        self.before: Callable[[], None] = lambda: None

    def model(self, batch: list[int]) -> list[int]:
        self.calls += 1
        self.before()
        self.gpu.work(self.query_s, 300 * max(0.1, 1 + self.noise * self.rng.gauss(0, 1)))
        return batch

    def score(self, queries: int = 100, asked: ScoreRequest = ASKED, effort: Effort = Effort(), **options: Any) -> Run:  # noqa: B008  frozen
        return measure_score(Task(self.model, list(range(queries))), asked, self.instruments, effort, **options)[0]


def energy(run: Run) -> Estimate:
    found = estimate(run, METRICS["energy_per_query"], Aim())
    assert isinstance(found, Estimate), found
    return found


# The passes


@pytest.mark.parametrize("sensor", [FULL, PART, LAGGING], ids=["100/100 ms", "100/25 ms", "running mean"])
@pytest.mark.parametrize("query_s", [0.007, 0.05, 0.3])
def test_ten_passes_give_the_true_energy_within_two_per_cent(sensor: Sensor, query_s: float) -> None:
    run = Bench(sensor, query_s=query_s).score()
    assert energy(run).value == pytest.approx(300 * query_s, rel=0.02)
    assert [block.set_index for block in run.blocks] == list(range(10))
    assert all(block.queries % 100 == 0 for block in run.blocks)


def test_idle_power_is_taken_off_the_gaps() -> None:
    run = Bench(query_s=0.01).score()
    assert energy(run).value == pytest.approx(3.0, rel=0.003)  # a tick and a half of idle power left in would be 1 % more
    assert len(run.idles) == 11


def test_the_interval_over_passes_holds_the_truth_as_often_as_it_says() -> None:
    inside = 0
    for seed in range(40):
        found = energy(Bench(noise=0.2, query_s=0.05, seed=seed).score(20))
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= 15.0 <= found.high
        assert found.relative < 0.1  # and no wider than ten passes make it
        assert found.n == 10
    assert inside >= 37  # of 40 at 99 %; 36 or fewer would happen once in 1,500 times


def test_a_pass_that_is_too_short_for_the_meter_is_run_several_times_in_a_row() -> None:
    run = Bench(query_s=0.001).score(100)
    (queries,) = {block.queries for block in run.blocks}
    assert queries in {1000, 1100}  # ten ticks of 0.1 s
    assert f"one pass is too short to be metered: each was run {queries // 100} times in a row" in run.notes
    assert energy(run).value == pytest.approx(0.3, rel=0.01)


def test_there_is_no_time_limit() -> None:
    run = Bench(query_s=20.0).score(20, effort=Effort(max_seconds=1.0))
    assert len(run.blocks) == 10
    assert run.seconds > 10 * 20 * 20


def test_a_pass_that_is_lost_is_run_again_and_three_are_too_many() -> None:
    def suspended_in(*calls: int) -> Bench:
        bench = Bench()
        bench.before = lambda: bench.clock.suspend(60.0) if bench.calls in calls else None
        return bench

    run = suspended_in(500).score()
    assert len(run.blocks) == 10
    assert any(re.match("pass [34] was lost and run again: the machine was suspended for 60 s", note) for note in run.notes)
    assert energy(run).value == pytest.approx(6.0, rel=0.01)
    with pytest.raises(MeterError, match="3 passes were lost"):
        suspended_in(500, 550, 650, 750).score()


def test_without_a_meter_no_pass_is_run() -> None:
    bench = Bench()
    run = bench.score(problem="no energy meter works here")
    assert run.blocks == ()
    assert bench.calls < 300
    assert run.problem


def test_the_provenance_says_task_class_and_claims() -> None:
    asked = ScoreRequest("text_generation", "B", 2, output_of_protocol=True)
    kept = Followed("text_generation", "B", "", "text_generation", "2025-02", SOURCE, 54.556478, 615.390413, 3)
    assert Bench().score(asked=asked, effort=Effort()).provenance.followed == kept


# Going on


def kept_after(passes: int) -> Run:
    """What a session keeps that is killed after so many passes."""
    kept: list[Run] = []

    class Killed(Exception):  # noqa: N818
        pass

    def keep(run: Run) -> None:
        kept.append(run)
        if len(run.blocks) == passes:
            raise Killed

    with pytest.raises(Killed):
        Bench().score(keep=keep)
    return kept[-1]


def test_every_pass_but_the_last_is_kept_once() -> None:
    kept: list[Run] = []
    Bench().score(keep=kept.append)
    assert [len(run.blocks) for run in kept] == list(range(1, 10))


def test_the_passes_of_an_earlier_session_count_and_only_the_others_are_run() -> None:
    earlier, bench = kept_after(6), Bench()
    kept: list[Run] = []
    run = bench.score(earlier=earlier, keep=kept.append, said=("went on",))
    assert run.blocks[:6] == earlier.blocks
    assert len(run.blocks) == 10
    assert [len(each.blocks) for each in kept] == [7, 8, 9]
    assert "went on" in run.notes
    assert run.seconds > earlier.seconds + 4 * 2.0
    assert kept[0].seconds > earlier.seconds
    assert energy(run).value == pytest.approx(6.0, rel=0.01)
    assert bench.calls < 100 + 200 + 4 * 100 + 100  # first pass, warm-up and lag, four passes


# What is asked


DECEMBER = Leaderboard("2025-12", "december", {("reasoning", "A"): Range(5, 55, 4), ("reasoning", "B"): Range(90, 90, 1)})


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"task": "text classification"}, "Did you mean 'text_classification'?"),
        ({"task": "text_generation"}, "is rated by class"),
        ({"task": "reasoning", "model_class": "A"}, "no task 'reasoning'. It came in 2025-12: fetch"),
        ({"task": "asr", "reference": "2025-03"}, "no leaderboard '2025-03' in this package"),
        ({"task": "reasoning", "reference": DECEMBER}, "reasoning is rated by class. Known: A, B."),
        ({"task": "reasoning", "model_class": "B", "reference": DECEMBER}, "All 1 models of this task use 90 Wh per 1,000 queries"),
        ({"task": "asr", "reference": DECEMBER}, "The leaderboard of 2025-12 has no task 'asr'. Known: reasoning."),
        ({"task": "asr", "passes": 0}, "passes is 0. Write a whole number of at least 1; the protocol has 10."),
        ({"task": "asr", "passes": 10.0}, "passes is 10.0."),
        ({"task": "asr", "output_of_protocol": 1}, "output_of_protocol is 1. Write True if it holds, else False."),
    ],
)
def test_what_makes_no_sense_is_refused(asked: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError) as refused:
        ScoreRequest(**asked)
    assert says in str(refused.value)


class Unmetered(Exception):  # noqa: N818
    pass


def unmetered(metric: str) -> NoReturn:
    raise Unmetered(metric)


def test_a_scored_run_has_its_rating_and_its_energy_and_says_what_it_lacks() -> None:
    run = Bench(query_s=0.12).score()
    scored = ScoredRun(run, [], Aim(), unmetered)
    assert scored.wh_per_1000_queries == pytest.approx(10.0, rel=0.01)
    assert scored.rating.wh_per_1000_queries == scored.wh_per_1000_queries
    assert scored.rating.indicative  # a simulated GPU is no H100
    broken = ScoredRun(replace(run, problem="the meter was lost"), [], Aim(), unmetered)
    with pytest.raises(MeterError, match="There is no wh_per_1000_queries: the meter was lost"):
        _ = broken.wh_per_1000_queries
    with pytest.raises(NotRatedError, match="the meter was lost"):
        _ = broken.rating
    for figure in ("rating", "wh_per_1000_queries"):
        with pytest.raises(Unmetered, match=figure):
            getattr(ScoredRun(made_run(metered=False), [], Aim(), unmetered), figure)


# How far it is


def test_progress_says_pass_query_and_time_left_and_never_more_than_twice_a_second() -> None:
    told: list[tuple[int, Tell]] = []
    bench = Bench()
    bench.score(effort=Effort(tell=lambda step: told.append((bench.clock.now_ns(), step)), figure=lambda _: "6 J"))
    what = [step.what for _, step in told]
    assert "pass 1 of 10" in what
    halfway = next(each for each in what if re.fullmatch(r"pass 7 of 10, [45]\d %", each))
    assert not any("%" in each for each in what if not each.startswith("pass"))
    within = [(at, step) for at, step in told if ", " in step.what and step.what.startswith("pass")]
    assert min(b[0] - a[0] for a, b in itertools.pairwise(within)) >= 0.49e9
    assert within[-1][1].figure == "6 J"
    left = {step.what: step.most_s for _, step in told}
    assert left["pass 1 of 10"] == pytest.approx(20.0, rel=0.1)
    assert left[halfway] == pytest.approx(7.0, rel=0.1)
    assert all(step.least_s == step.most_s for _, step in told)


def test_where_nobody_listens_the_model_is_called_as_it_is() -> None:
    told = Progress(lambda batch: [each.upper() for each in batch], 3, SimulatedClock(), lambda _: None)
    assert told(["a", "b"]) == ["A", "B"]
    bench, seen = Bench(), []

    def model(batch: list[int]) -> list[int]:
        import sys

        seen.append(sys._getframe(1).f_code.co_filename)
        return bench.model(batch)

    measure_score(Task(model, [1, 2]), replace(ASKED, passes=1), bench.instruments, Effort())
    assert not any(name.endswith("energy_score.py") for name in seen)


# The state


MACHINE = {"commit": "abc", "dirty": False, "torch": "2.13.0"}
DEVICES = {"gpu:0": {"meter": "nvml", "method": "counter", "device": H100, "uuid": "GPU-0", "power_limit_w": 700.0}}
RUN = ("tests/test_x.py::test_y", None)


def key(**other: Any) -> Any:
    given: dict[str, Any] = {"run": RUN, "asked": ASKED, "queries": ["a", "b"], "devices": DEVICES, "machine": MACHINE}
    given |= other
    return key_of(
        given["run"],
        given["asked"],
        (digest_of(given["queries"]), len(given["queries"])),
        provenance_from_json({"devices": given["devices"]}).devices,
        machine_from_json(given["machine"]),
    )


@pytest.mark.parametrize(
    ("other", "name"),
    [
        ({"run": ("tests/test_x.py::test_z", None)}, "test"),
        ({"run": (RUN[0], "large")}, "run"),
        ({"queries": ["a", "c"]}, "queries"),
        ({"queries": ["b", "a"]}, "queries"),
        ({"asked": replace(ASKED, task="summarization")}, "task"),
        ({"asked": ScoreRequest("text_generation", "A")}, "model class"),
        ({"asked": replace(ASKED, passes=3)}, "passes"),
        ({"asked": replace(ASKED, output_of_protocol=False)}, "output of protocol"),
        ({"devices": {"gpu:0": {**DEVICES["gpu:0"], "uuid": "GPU-1"}}}, "gpu:0 uuid"),
        ({"devices": {"gpu:0": {**DEVICES["gpu:0"], "power_limit_w": 500.0}}}, "gpu:0 power limit"),
        ({"devices": {"gpu:0": {**DEVICES["gpu:0"], "meter": "other"}}}, "gpu:0 meter"),
        ({"devices": {**DEVICES, "cpu": {"meter": "rapl"}}}, "cpu meter"),
        ({"machine": {**MACHINE, "commit": "abd"}}, "commit"),
        ({"machine": {**MACHINE, "dirty": True}}, "dirty"),
        ({"machine": {**MACHINE, "torch": "2.14.0"}}, "torch"),
        ({"machine": {**MACHINE, "transformers": "5.0"}}, "transformers"),
    ],
)
def test_whatever_makes_other_passes_of_it_makes_another_key(other: dict[str, Any], name: str) -> None:
    ours, theirs = key(), key(**other)
    assert ours.get(name) != theirs.get(name)
    assert key() == ours


def test_on_which_leaderboard_they_are_rated_makes_no_other_passes() -> None:
    assert key(asked=replace(ASKED, reference=replace(DECEMBER, ranges={("asr", None): Range(1, 2, 2)}))) == key()


@dataclass
class Question:
    text: str


class Opaque:
    __slots__ = ("hidden",)

    def __init__(self, hidden: str) -> None:
        self.hidden = hidden


def arrays() -> list[tuple[Any, Any]]:
    import numpy as np

    large = np.zeros(5000, dtype=np.int16)  # its repr has an ellipsis
    other = large.copy()
    other[2500] = 1
    return [
        (large, other),
        (np.zeros((2, 3)), np.zeros((3, 2))),
        (np.zeros(4, dtype=np.int32), np.zeros(2, dtype=np.int64)),
        (np.array([{"a": 1}]), np.array([{"a": 2}])),
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a", "b"),
        ("1", 1),
        (1, True),
        (1.0, 1),
        (b"a", "a"),
        (["ab"], ["a", "b"]),
        ([["a"], "b"], [["a", "b"]]),
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, ["a", 1]),
        (Question("a"), Question("b")),
        (Path("a"), Path("b")),
        (None, "None"),
        *arrays(),
    ],
)
def test_queries_that_differ_have_another_digest_and_the_same_ones_the_same(one: Any, other: Any) -> None:
    assert digest_of([one]) != digest_of([other])
    assert digest_of([one, other]) == digest_of([one, other])
    assert digest_of([one, other]) != digest_of([other, one])


def test_tensors_and_images_are_told_apart_by_what_they_hold() -> None:
    torch = pytest.importorskip("torch")
    for dtype in (torch.float32, torch.bfloat16):
        zeros, ones = torch.zeros(3000, dtype=dtype), torch.zeros(3000, dtype=dtype)
        ones[1500] = 1
        assert digest_of([{"input": zeros}]) == digest_of([{"input": zeros.clone()}])
        assert digest_of([{"input": zeros}]) != digest_of([{"input": ones}])
    assert digest_of([torch.zeros(2, dtype=torch.bfloat16)]) != digest_of([torch.zeros(2)])
    assert digest_of(torch.zeros(2, 2)) == digest_of([torch.zeros(2), torch.zeros(2)])


def test_queries_that_nothing_tells_apart_have_no_digest_and_keep_no_state(tmp_path: Path) -> None:
    round_trip: list[Any] = []
    round_trip.append(round_trip)
    assert digest_of([Opaque("a")]) is None
    assert digest_of([round_trip]) is None
    assert key(queries=[Opaque("a")]) is None
    state = ScoreState(tmp_path / "score.json", None, tmp_path)
    assert state.begin() == (None, ("no state was kept to go on from: nothing tells these queries from others",))
    state.keep(made_run())
    assert state.end() == ()
    assert list(tmp_path.iterdir()) == []


def bench_key() -> Any:
    bench = Bench()
    return key(queries=list(range(100)), devices=provenance_to_json(Provenance(devices=bench.instruments.facts()))["devices"])


def test_a_state_gives_back_the_run_that_it_kept_and_is_gone_in_the_end(tmp_path: Path) -> None:
    path, run = tmp_path / "deep" / "score.json", kept_after(3)
    state = ScoreState(path, bench_key(), tmp_path)
    assert state.begin() == (None, ())
    assert path.exists()  # that it can be written is known before anything is measured
    assert ScoreState(path, bench_key(), tmp_path).begin() == (None, ())  # killed before the first pass was over: nothing to say
    state.keep(run)
    earlier, said = ScoreState(path, bench_key(), tmp_path).begin()
    assert earlier is not None
    assert (earlier.blocks, earlier.idles, earlier.answers, earlier.seconds) == (run.blocks, run.idles, run.answers, run.seconds)
    assert said == (f"went on after pass 3 of an interrupted session ({Path('deep') / 'score.json'})",)
    assert state.end() == ()
    assert not path.exists()


def test_changes_that_no_commit_holds_are_said(tmp_path: Path) -> None:
    dirty = {**bench_key(), "dirty": "True"}
    ScoreState(tmp_path / "s.json", dirty, tmp_path).keep(kept_after(1))
    _, said = ScoreState(tmp_path / "s.json", dirty, tmp_path).begin()
    assert "it has changes that no commit holds" in said[0]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda kept: kept["run"]["raw"]["sets"].pop(0),
        lambda kept: kept["run"]["raw"]["sets"][0][0].__setitem__(2, 7),
        lambda kept: kept["run"].__setitem__("queries", 99),
        lambda kept: kept["run"]["raw"].__setitem__("batch_size", 2),
        lambda kept: kept["run"]["raw"]["sets"][0][0].__setitem__(4, 0),
        lambda kept: kept["run"].pop("raw"),
        lambda kept: kept.__setitem__("run", 7),
        lambda kept: kept.__setitem__("key", 7),
    ],
)
def test_a_state_whose_passes_are_spoiled_is_laid_aside_and_said(tmp_path: Path, spoil: Callable[[Any], object]) -> None:
    path = tmp_path / "score.json"
    ScoreState(path, bench_key(), tmp_path).keep(kept_after(2))
    kept = json.loads(path.read_text(encoding="utf-8"))
    spoil(kept)
    path.write_text(json.dumps(kept), encoding="utf-8")
    earlier, (said,) = ScoreState(path, bench_key(), tmp_path).begin()
    assert earlier is None
    assert said.startswith("started afresh: score.json is broken (")
    assert json.loads((tmp_path / "score.unused.json").read_text(encoding="utf-8")) == kept


def test_a_pass_that_cannot_be_kept_ends_nothing_and_is_said(tmp_path: Path) -> None:
    state = ScoreState(tmp_path / "folder" / "score.json", bench_key(), tmp_path)
    state.begin()
    (tmp_path / "folder" / "score.json").unlink()
    (tmp_path / "folder").rmdir()
    (tmp_path / "folder").write_text("", encoding="utf-8")
    state.keep(kept_after(1))
    (tmp_path / "folder").unlink()
    (said,) = state.end()
    assert said.startswith("the passes since could not be kept: ")


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(SettingsError, match="cannot be written"):
        ScoreState(tmp_path / "file" / "score.json", bench_key(), tmp_path).begin()


def test_each_test_and_name_has_a_state_of_its_own(tmp_path: Path) -> None:
    paths = {path_of(tmp_path, None, test, name) for test in ("a", "b") for name in (None, "None", "x")}
    assert len(paths) == 6
    assert {path.parent for path in paths} == {tmp_path / ".greencompute" / "energy-score"}
    assert path_of(tmp_path, Path("x.json"), "a", None) == tmp_path / "x.json"
    (tmp_path / "folder.json").mkdir()
    for state in ("pyproject.toml", "folder.json", "", 7, b"x"):
        with pytest.raises(SettingsError, match="Name a JSON file"):
            path_of(tmp_path, state, "a", None)


def test_simulated_truth_is_what_the_tests_above_take_it_for() -> None:
    bench = Bench(query_s=0.05)
    run = bench.score(20)
    truth = sum(bench.gpu.true_energy_j(block.start_ns, block.end_ns) for block in run.blocks) / sum(block.queries for block in run.blocks)
    assert math.isclose(truth, 15.0, rel_tol=1e-6)
