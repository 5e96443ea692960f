"""energy_meter.advise: what would make a model cheaper, proven on the spot, and a build that fails where it is left undone."""

from __future__ import annotations

import pytest

from pytest_greencompute import cli
from pytest_greencompute.results.document import candidate_to_json, result_from_json

from .conftest import Project

MODEL = """
    import pytest

    QUERIES = [chr(97 + place % 26) * (1 + place % 7) for place in range(60)]
    UPPER = [query.upper() for query in QUERIES]

    @pytest.fixture
    def model(world):
        def run(batch):  # a batch costs 0.8 J and 20 ms, and each query in it 0.05 J and 1 ms
            world.clock.sleep(0.02 + 0.001 * len(batch))
            world.energy_j += 0.8 + 0.05 * len(batch)
            if len(batch) > 32:
                raise MemoryError
            return [query.upper() for query in batch]

        return run
"""
UNTOUCHED = "levers=['batch_size', 'truncate', 'by_length']"


def write(project: Project, body: str) -> None:
    project.write("test_it.py", MODEL + body)


def test_it_says_what_to_do_what_that_saves_and_what_was_tried_in_vain(project: Project) -> None:
    write(
        project,
        f"""
    def test_batching(energy_meter, model):
        advised = energy_meter.advise(model, QUERIES, references=UPPER, {UNTOUCHED})
        (best,) = advised.advice.do
        assert best.code == ("batch_size=32",)
        assert 0.9 < best.saving[1] <= best.saving[0] <= best.saving[2] < 0.92
        assert best.accuracy.value == 0
        assert best.latency.value > 2
        assert "do this: batch_size=32 saves 91.0 %" in str(advised)
    """,
    )
    result = project.measure("--energy-json", "energy.json", "--energy-markdown", "energy.md")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "test_batching (advice): 2 candidates on the same queries; *",
            "  batch_size=32 *100 %*",
            "  as it is *",
            "note: test_batching: do this: batch_size=32 saves 9* % [[]*] of the energy per query; accuracy +0.0 *: batch_size=32",
            "note: test_batching: tried in vain: batch_size=8: *",
            "note: test_batching: tried in vain: truncate=*: it loses *",
        ]
    )
    assert "saves 91.0 %" in (project.path / "energy.md").read_text(encoding="utf-8")
    runs = {run["name"]: run["candidate"] for run in project.report()["runs"]}
    assert set(runs) == {"advice/as it is", "advice/batch_size=32"}
    advice = runs["advice/as it is"]["advice"]
    (best,) = advice["do"]
    assert (best["name"], best["code"], best["accuracy"]["value"]) == ("batch_size=32", ["batch_size=32"], 0)
    assert best["energy"]["low"] < best["energy"]["value"] == pytest.approx(0.09, abs=0.001)
    assert set(advice["in_vain"]) == {"batch_size=8", "truncate=4", "by_length"}
    again = result_from_json(next(run for run in project.report()["runs"] if run["name"] == "advice/as it is"))
    assert again.candidate is not None
    assert candidate_to_json(again.candidate) == runs["advice/as it is"]


def test_a_build_fails_where_a_proven_lever_is_left_unused_unless_it_is_accepted_with_a_reason(project: Project) -> None:
    write(
        project,
        f"""
    @pytest.mark.parametrize("accepted", [None, {{"batch_size": "each user waits for one answer"}}])
    def test_batching(energy_meter, model, accepted):
        advised = energy_meter.advise(model, QUERIES, references=UPPER, {UNTOUCHED})
        advised.assert_nothing_better_than("20 %", accepted=accepted)

    def test_enough(energy_meter, model):
        advised = energy_meter.advise(model, QUERIES, references=UPPER, {UNTOUCHED}, batch_size=32)
        assert advised.advice.do == ()
        advised.assert_nothing_better_than("20 %")
    """,
    )
    result = project.measure()
    result.assert_outcomes(failed=1, passed=2)
    result.stdout.fnmatch_lines(["test_batching[[]None]: as it is uses * times * the energy per query of batch_size=32 *more than*25 %.*"])


def test_what_is_accepted_has_a_reason_and_was_tried(project: Project) -> None:
    write(
        project,
        f"""
    from pytest_greencompute.errors import SettingsError

    def test_batching(energy_meter, model):
        advised = energy_meter.advise(model, QUERIES, references=UPPER, {UNTOUCHED})
        for accepted, said in (({{"batch_size": " "}}, "without a reason"), ({{"batchsize": "why"}}, "Did you mean 'batch_size'")):
            with pytest.raises(SettingsError, match=said):
                advised.assert_nothing_better_than("20 %", accepted=accepted)
        with pytest.raises(SettingsError, match="100 %"):
            advised.assert_nothing_better_than("100 %")
        with pytest.raises(SettingsError, match="its advice already"):
            energy_meter.advise(model, QUERIES, references=UPPER)
    """,
    )
    project.measure().assert_outcomes(passed=1)


def test_without_energy_budget_it_is_skipped_and_says_how_to_ask_for_it(project: Project) -> None:
    write(
        project,
        """
    def test_batching(energy_meter, model):
        energy_meter.advise(model, QUERIES, references=UPPER)
    """,
    )
    result = project.run("-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*advise was not measured: run pytest with --energy-budget*"])


def test_few_queries_are_refused_unless_accuracy_does_not_matter(project: Project) -> None:
    write(
        project,
        """
    def test_few(energy_meter, model):
        energy_meter.advise(model, QUERIES[:20], references=UPPER[:20])

    def test_few_on_purpose(energy_meter, model):
        advised = energy_meter.advise(model, QUERIES[:20], levers=["batch_size"], without_accuracy=True)
        assert [each.configuration.name for each in advised.advice.do] == ["batch_size=8"]

    def test_an_unknown_lever(energy_meter, model):
        energy_meter.advise(model, QUERIES, levers=["batch"])
    """,
    )
    result = project.measure()
    result.assert_outcomes(failed=2, passed=1)
    result.stdout.fnmatch_lines(["*20 queries are too few to tell what a change does to the accuracy. Pass 30 or more*"])
    result.stdout.fnmatch_lines(["*There is no lever 'batch'.*Known: *batch_size*"])


def test_no_references_a_random_model_and_a_floor_that_today_misses_are_said_first(project: Project) -> None:
    write(
        project,
        """
    import itertools

    def test_alike(energy_meter, model):
        advised = energy_meter.advise(model, QUERIES, levers=["truncate", "batch_size"])
        assert advised.advice.notes[0].startswith("no references: ")
        assert any(each.name.startswith("truncate") and "it loses" in each.why for each in advised.advice.tried)

    def test_random(energy_meter, model):
        number = itertools.count()
        random = lambda batch: [f"{each}{next(number)}" for each in model(batch)]
        advised = energy_meter.advise(random, QUERIES, levers=["batch_size"])
        assert advised.advice.notes[0] == "the model answers 100 % of the queries otherwise when it is asked again"

    def test_floor(energy_meter, model):  # red, as a comparison is of which nothing meets the floor
        advised = energy_meter.advise(model, QUERIES, references=["A"] * 60, floor=0.9, levers=["batch_size"])
        assert "under the floor of 0.9" in advised.advice.notes[0]
        assert advised.advice.do == ()
    """,
    )
    result = project.measure()
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["test_floor: No candidate meets the floor of 0.9; the best is as it is with 0.0167."])


def test_a_model_that_hangs_is_a_row_that_says_so_and_the_others_stand(project: Project) -> None:
    write(
        project,
        """
    import time
    from pytest_greencompute.session import advised

    def test_models(energy_meter, model, monkeypatch):
        monkeypatch.setattr(advised, "READY_S", 1.0)
        monkeypatch.setattr(advised, "READY_PASSES", 0)
        found = energy_meter.advise(
            model, QUERIES, references=UPPER, candidates={"hanging": lambda batch: time.sleep(3600)}, levers=["model", "batch_size"]
        )
        assert [each.configuration.name for each in found.advice.do] == ["batch_size=32"]
        assert {each.name: each.why for each in found.advice.tried}["model=hanging"] == "it was not ready within 1 s"
    """,
    )
    project.measure().assert_outcomes(passed=1)


def test_what_levers_lose_together_is_held_against_today_and_not_against_the_best_so_far(project: Project) -> None:
    write(
        project,
        """
    def test_models(energy_meter, world):
        def model(batch, joules=0.1, wrong=""):
            world.clock.sleep(0.02)
            world.energy_j += joules * max(map(len, batch))
            return ["?" if query == wrong else query.upper() for query in batch]

        queries = ["abcd"] * 248 + ["zz!!", "abcd" * 10]
        half = {"half": lambda batch: model(batch, 0.05, "zz!!")}  # it loses one of 250, as truncate=4 does: 0.4 points each
        advised = energy_meter.advise(
            model, queries, batch_size=50, references=[query.upper() for query in queries], candidates=half, levers=["truncate", "model"]
        )
        assert {each.configuration.name for each in advised.advice.do} == {"truncate=4"}
        assert set(advised.comparison.runs) == {"as it is", "truncate=4"}
    """,
    )
    project.measure().assert_outcomes(passed=1)


def test_a_lever_that_raises_or_runs_out_of_memory_is_a_row_and_a_smaller_model_is_tried(project: Project) -> None:
    write(
        project,
        """
    def test_models(energy_meter, world, model):
        def small(batch):
            world.clock.sleep(0.001 * len(batch))
            world.energy_j += 0.01 * len(batch)
            return [query.upper() for query in batch]

        def broken(batch):
            raise OSError("no such file")

        queries, right = QUERIES * 3, UPPER * 3
        models = {"small": small, "broken": broken, "wrong": lambda batch: small(batch) and ["?"] * len(batch)}
        advised = energy_meter.advise(model, queries, references=right, candidates=models, levers=["model", "batch_size"])
        assert advised.advice.do[0].configuration.name == "model=small"
        why = {each.name: each.why for each in advised.advice.tried}
        assert why["model=broken"] == "it raised OSError: no such file"
        assert why["model=wrong"].startswith("it loses")
        assert why["batch_size=128"] == "out of memory"
    """,
    )
    project.measure().assert_outcomes(passed=1)


def test_with_energy_advise_a_test_is_advised_on_as_it_stands_with_the_floor_of_its_budget(project: Project) -> None:
    write(
        project,
        """
    @pytest.mark.energy_budget(accuracy=0.7, long={"accuracy": 1.0})
    def test_batching(energy_meter, model):
        short = energy_meter.measure(model, QUERIES, batch_size=8, references=["?"] * 6 + UPPER[6:])
        assert short.outputs == UPPER
        assert short.energy_per_query < "0.2 J"
        run = energy_meter.measure(lambda batch: model(batch), QUERIES, references=UPPER, name="long")
        assert run.accuracy == 1
    """,
    )
    result = project.measure("--energy-advise", "--energy-json", "energy.json")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "test_batching (advice): *accuracy at least 0.7*",
            "test_batching (advice on long): *accuracy at least 1*",
            "note: test_batching: do this: batch_size=32 saves *",
            "note: test_batching: tried in vain: truncate=*: scores *, under the floor of 0.7",
        ]
    )
    names = {run["name"] for run in project.report()["runs"]}
    assert {None, "long", "advice on long/as it is", "advice on long/batch_size=32"} <= names


def test_energy_advise_does_nothing_without_energy_budget_and_says_so(project: Project) -> None:
    write(project, "")
    result = project.run("--energy-advise")
    result.stderr.fnmatch_lines(["*--energy-advise does nothing without --energy-budget*"])


def test_the_command_says_where_there_is_no_such_test(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    write(project, "")
    monkeypatch.chdir(project.path)
    assert cli.main(["advise", "test_it.py::test_none"]) == 2
