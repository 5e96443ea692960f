"""energy_meter.advise: what would make a model cheaper, proven on the spot, and a build that fails where it is left undone."""

from __future__ import annotations

import contextlib
import importlib
import os
import re

import pytest

from pytest_greencompute import cli
from pytest_greencompute.results.document import candidate_to_json, result_from_json

from .conftest import Project
from .test_base_ref import Repository, repository, words

__all__ = ["repository"]

# Here, and not in the tests: what is first imported while pytester runs is forgotten with it, and these cannot be loaded twice.
for each in ("torch", "sklearn.linear_model", "sklearn.feature_extraction.text", "scipy.sparse"):
    with contextlib.suppress(ImportError):
        importlib.import_module(each)

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


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
def test_the_command_ends_as_a_shell_says_it_where_a_signal_ended_the_test(project: Project) -> None:
    project.monkeypatch.chdir(project.path)
    project.write("test_it.py", "import os, signal\ndef test_it(energy_meter):\n    os.kill(os.getpid(), signal.SIGKILL)\n")
    assert cli.main(["advise", "test_it.py::test_it"]) == 137


@pytest.mark.parametrize(("option", "seconds"), [((), 30.0), (("--energy-max-seconds=12",), 6.0), (("--energy-max-seconds=600",), 30.0)])
def test_a_lower_limit_of_seconds_shortens_all_turns(project: Project, option: tuple[str, ...], seconds: float) -> None:
    write(
        project,
        f"""
    def test_batching(energy_meter, model, monkeypatch):
        from pytest_greencompute.session import heats

        abreast, limits = heats.measure_abreast, []

        def measured(entrants, instruments, effort, *more):
            limits.append(effort("x").max_seconds)
            return abreast(entrants, instruments, effort, *more)

        monkeypatch.setattr(heats, "measure_abreast", measured)
        energy_meter.advise(model, QUERIES, references=UPPER, levers=["batch_size"])
        assert limits[-1] == {seconds}
        assert limits[0] == {seconds} * 20 / 30
    """,
    )
    project.measure(*option).assert_outcomes(passed=1)


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


def test_where_no_meter_works_a_build_is_not_green_for_want_of_advice(project: Project) -> None:
    project.toml('meters = ["nvml"]')
    write(
        project,
        f"""
    def test_batching(energy_meter, model):
        advised = energy_meter.advise(model, QUERIES, references=UPPER, {UNTOUCHED})
        advised.assert_nothing_better_than("20 %")
    """,
    )
    result = project.measure("--energy-unmeasured=fail")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["test_batching (as it is) has no energy_per_query to judge: no energy meter works here.*"])


def test_what_is_accepted_has_a_reason_and_was_tried(project: Project) -> None:
    write(
        project,
        f"""
    from pytest_greencompute.errors import SettingsError

    def test_batching(energy_meter, model):
        advised = energy_meter.advise(model, QUERIES, references=UPPER, {UNTOUCHED})
        refused = [
            ({{"batch_size": " "}}, "without a reason"),
            ({{"batchsize": "why"}}, "Did you mean 'batch_size'"),
            (["batch_size"], "Pass a dict"),
        ]
        for accepted, said in refused:
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
    from pytest_greencompute.session import heats

    def test_models(energy_meter, model, monkeypatch):
        monkeypatch.setattr(heats, "READY_S", 1.0)
        monkeypatch.setattr(heats, "READY_PASSES", 0)
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
        advised = energy_meter.advise(model, queries, batch_size=4, references=right, candidates=models, levers=["model", "batch_size"])
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


# A sample of the queries


def test_of_many_queries_a_sample_ranks_and_all_of_them_judge_the_accuracy(project: Project) -> None:
    write(
        project,
        """
    import re

    def test_many(energy_meter, world):
        queries = [chr(97 + place % 26) * (1 + place % 7) for place in range(800)]
        asked = {}

        def model(called, joules, wrong=()):
            def run(batch):
                asked[called] = asked.get(called, 0) + len(batch)
                world.clock.sleep(0.05)
                world.energy_j += joules
                return ["?" if (query in wrong) else query.upper() for query in batch]

            return run

        candidates = {
            "careless": model("careless", 0.2, ["aaaaaa"]),  # wrong for so few that a sample may hold none of them
            "hopeless": model("hopeless", 0.1, queries[:200]),
            "good": model("good", 0.4),
        }
        today = model("today", 1.0)
        right = [query.upper() for query in queries]
        advised = energy_meter.advise(today, queries, references=right, candidates=candidates, levers=["model"])
        assert [each.configuration.name for each in advised.advice.do] == ["model=good"]
        why = {each.name: each.why for each in advised.advice.tried}
        assert re.fullmatch(r"it loses -.* points .* of accuracy", why["model=careless"])
        assert re.fullmatch(r"it loses .* of accuracy on \\d+ queries", why["model=hopeless"])
        assert asked["hopeless"] < 800 < asked["careless"]
        run = advised.comparison.runs["as it is"]
        assert (len(run.outputs), run.accuracy) == (800, 1.0)
    """,
    )
    project.measure().assert_outcomes(passed=1)


def test_where_nothing_pays_todays_figures_are_those_of_all_queries(project: Project) -> None:
    write(
        project,
        """
    @pytest.mark.energy_budget(accuracy=1.0)
    def test_many(energy_meter, world):
        queries = ["abcdefghij"] * 800
        run = energy_meter.measure(world.model(seconds=0.05), queries, batch_size=32, references=[each.upper() for each in queries])
        assert run.accuracy == 1
    """,
    )
    project.measure("--energy-advise", "--energy-json", "energy.json").assert_outcomes(passed=1)
    today = next(run for run in project.report()["runs"] if run["name"] is None)
    assert (today["queries"], today["metrics"]["accuracy"]["n"]) == (800, 800)


# Smaller models


def test_a_smaller_model_that_says_how_sure_it_is_answers_what_it_knows(project: Project) -> None:
    write(
        project,
        """
    def test_cascade(energy_meter, world, model):
        class Small:
            def __call__(self, batch):
                return self.with_confidence(batch)[0]

            def with_confidence(self, batch):
                world.clock.sleep(0.0001 * len(batch))
                world.energy_j += 0.001 * len(batch)
                return [query.upper() if len(query) < 5 else "?" for query in batch], [1 / len(query) for query in batch]

        advised = energy_meter.advise(
            model, QUERIES, references=UPPER, candidates={"small": Small()}, levers=["model", "cascade"], batch_size=4
        )
        best = advised.advice.do[0]
        assert best.configuration.name == "cascade=small@0.25"
        assert best.accuracy.value == 0
        assert best.code == ("answers, sure = small.with_confidence(queries)  # and ask the model where sure < 0.25",)
        assert {each.name: each.why for each in advised.advice.tried}["model=small"].startswith("it loses")
    """,
    )
    project.measure().assert_outcomes(passed=1)


# What a year of it is


def test_with_traffic_a_year_of_the_saving_is_in_every_report(project: Project) -> None:
    project.toml('traffic = "1M queries/day"\nelectricity_price = "0.25 EUR/kWh"\ncarbon_intensity = "56 g/kWh"')
    write(
        project,
        """
    def test_batching(energy_meter, model):
        energy_meter.advise(model, QUERIES, references=UPPER, levers=["batch_size"])
    """,
    )
    reports = ("--energy-json", "energy.json", "--energy-markdown", "energy.md", "--energy-html", "energy.html")
    result = project.measure(*reports)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["note: test_batching: do this: batch_size=32 saves *; at 1M queries a day * kWh ±* CO2e and * EUR less a year: *"]
    )
    (advice,) = [run["candidate"]["advice"] for run in project.report()["runs"] if "advice" in run["candidate"]]
    (best,) = advice["do"]
    year = best["year"]
    assert year["energy_kwh"]["value"] == pytest.approx(0.85 * 0.91 * 365e6 / 3.6e6, rel=0.01)
    assert year["energy_kwh"]["low"] <= year["energy_kwh"]["value"] <= year["energy_kwh"]["high"]
    assert year["money"]["value"] == pytest.approx(0.25 * year["energy_kwh"]["value"])
    assert year["carbon_kg"]["value"] == pytest.approx(0.056 * year["energy_kwh"]["value"])
    result_from_json(next(run for run in project.report()["runs"] if "advice" in run["candidate"]))
    markdown, page = ((project.path / name).read_text(encoding="utf-8") for name in ("energy.md", "energy.html"))
    for text in (markdown, page):
        assert "What to do" in text
        assert "Tried in vain" in text
        assert "EUR" in text
    assert re.search(r"size=32 \| 91\.\d \S+, 91\.\d\S+ % \|", markdown)
    assert "against energy per query of 2 candidates" in page  # the plot


# Done, and held against the commit before


def test_advice_that_is_followed_passes_against_the_commit_before_by_what_was_promised(repository: Repository) -> None:
    project = repository.project
    project.write(
        "app.py",
        """
        from world import world

        large, small = world.model(joules=0.5, seconds=0.004), world.model(joules=0.3, seconds=0.004)
        model = large
        """,
    )
    project.write(
        "tests/test_app.py",
        """
        import app

        QUERIES = [f"query {number}" for number in range(40)]

        def test_it(energy_meter):
            energy_meter.measure(app.model, QUERIES, references=[each.upper() for each in QUERIES])
        """,
    )
    repository.commit()
    test = (project.path / "tests/test_app.py").read_text(encoding="utf-8")
    project.write("tests/test_app.py", test.replace("measure(app.model, ", "advise(app.model, candidates={'small': app.small}, queries="))
    project.measure("--energy-json", "energy.json").assert_outcomes(passed=1)
    (advice,) = [run["candidate"]["advice"] for run in project.report()["runs"] if "advice" in run["candidate"]]
    promised = next(each for each in advice["do"] if each["name"] == "model=small")["energy"]
    project.write("tests/test_app.py", test)
    app = (project.path / "app.py").read_text(encoding="utf-8")
    project.write("app.py", app.replace("model = large", "model = small"))
    repository.measure().assert_outcomes(passed=1)
    assert words(project) == {"energy_per_query": "PASS", "accuracy": "PASS"}
    (run,) = project.report()["runs"]
    (ratio,) = [each["ratio"] for each in run["verdicts"] if each["metric"] == "energy_per_query"]
    assert ratio["high"] < 1
    assert ratio["low"] <= promised["value"] <= ratio["high"]


@pytest.mark.alone
def test_the_command_gives_advice_on_a_test_as_it_stands_and_fits_students_where_it_is_told_to(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In real time, with a model that works a while on each query."""
    pytest.importorskip("sklearn")
    project.toml('meters = ["cputime"]\ncpu_watts_per_core = 10\nlock_folder = "locks"\nmax_seconds = 15')
    project.write(
        "test_it.py",
        """
        QUERIES = [f"a {'good' if place % 3 else 'bad'} film, number {place}" for place in range(64)]

        def model(batch):
            return ["fresh" if "good" in query and sum(range(150_000)) else "rotten" for query in batch]

        def test_it(energy_meter):
            energy_meter.measure(model, QUERIES, references=["fresh" if "good" in query else "rotten" for query in QUERIES])
        """,
    )
    monkeypatch.chdir(project.path)
    assert cli.main(["advise", "test_it.py::test_it", "--students", "--json", "energy.json", "--html", "energy.html"]) == 0
    (advice,) = [run["candidate"]["advice"] for run in project.report()["runs"] if "advice" in run.get("candidate", {})]
    best = advice["do"][0]
    assert "student_words" in best["name"]  # in the model's place, or before it
    assert best["energy"]["high"] < 0.8
    assert any("TfidfVectorizer" in line for line in best["code"])
    assert "student_words" in (project.path / "energy.html").read_text(encoding="utf-8")


def test_the_users_model_and_process_are_as_they_were_whatever_the_levers_did(project: Project) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    write(
        project,
        """
    import hashlib, random, time
    import numpy as np
    import torch
    from pytest_greencompute.session import heats

    NET = torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(6)))

    def digest():
        held = [each.detach().numpy().tobytes() for each in NET.parameters()], [str(each.dtype) for each in NET.parameters()]
        hooks = [(len(part._forward_pre_hooks), len(part._forward_hooks), part.training) for part in NET.modules()]
        process = torch.get_num_threads(), torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype()
        luck = random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state().numpy().tobytes()
        return hashlib.sha256(repr((held, hooks, process, luck)).encode()).hexdigest()

    def test_it(energy_meter, world, monkeypatch):
        monkeypatch.setattr(heats, "READY_S", 6.0)
        monkeypatch.setattr(heats, "READY_PASSES", 0)

        def model(batch):
            world.clock.sleep(0.02)
            world.energy_j += 1.0
            return NET(torch.tensor(batch)).argmax(1).tolist()

        def broken(batch):
            torch.set_grad_enabled(False)
            torch.set_num_threads(7)
            raise OSError("no such file")

        def large(batch):
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

        queries = [[float(place % 5), 1.0, float(place % 3), 0.5] for place in range(60)]
        models = {"broken": broken, "large": large, "hanging": lambda batch: time.sleep(3600)}
        before = digest()
        advised = energy_meter.advise(model, queries, batch_size=4, candidates=models, students=True)
        assert digest() == before
        why = {each.name: each.why for each in advised.advice.tried}
        assert why["model=broken"] == "it raised OSError: no such file"
        assert why["model=large"] == "out of memory"
        assert why["model=hanging"] == "it was not ready within 6 s"
        assert advised.advice.do
    """,
    )
    project.measure().assert_outcomes(passed=1)


def test_a_batch_that_a_sample_cannot_fill_is_left_out_with_the_reason(project: Project) -> None:
    write(
        project,
        """
    def test_slow(energy_meter, world):
        queries = [f"query {place}" for place in range(200)]
        right = [each.upper() for each in queries]
        advised = energy_meter.advise(world.model(seconds=0.1), queries, references=right, levers=["batch_size"])
        why = {each.name: each.why for each in advised.advice.tried}
        assert why["batch_size=128"].startswith("not here: the sample has 32 queries")
    """,
    )
    project.measure().assert_outcomes(passed=1)
