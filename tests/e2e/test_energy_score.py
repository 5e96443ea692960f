"""energy_meter.energy_score() and the stars budget: green, red, unmeasured, and a session that goes on after it was killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_greencompute import cli
from pytest_greencompute.estimates.star_scale import SOURCE

from .conftest import Project

H100 = "NVIDIA H100 80GB HBM3"
# text_classification: 40.5 to 60.3 J a query are three stars (11.24 to 16.76 Wh per 1,000 queries).
THREE, TWO = 50.0, 65.0
FEW = 100  # queries, where the stars do not matter
TEST = "test_it.py::test_score"


@pytest.fixture(autouse=True)
def _on_an_h100(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_GPU", H100)


def scored(project: Project, call: str = "", *, joules: float = THREE, queries: int = 1000, stars: object = 3, body: str = "pass") -> None:
    """A test with a ``stars`` budget that scores a model of so many joules a query."""
    claims = call or 'task="text_classification", protocol_queries=True'
    project.write(
        "test_it.py",
        f"""
        import pathlib
        import pytest

        QUERIES = [f"query {{k}}" for k in range({queries})]

        @pytest.mark.energy_budget(stars={stars!r})
        def test_score(energy_meter, world):
            inner, kill = world.model({joules}), pathlib.Path("kill")
            at = int(kill.read_text()) if kill.exists() else 10**9
            def model(batch):
                if world.calls >= at:
                    raise KeyboardInterrupt
                return inner(batch)
            run = energy_meter.energy_score(model, QUERIES, {claims})
            {body}
        """,
    )


def the_run(project: Project) -> dict[str, Any]:
    (run,) = project.report()["runs"]
    return run


def state(project: Project) -> list[Path]:
    return sorted((project.path / ".greencompute" / "energy-score").glob("*"))


WARM_UP = 2 * 22  # queries: two chunks of a fifth of a second, since nothing trends


def killed(project: Project, number: int = 4, *, queries: int = FEW) -> None:
    """Run the test until it is interrupted in the middle of pass ``number`` of those of its session.

    An unmetered pass and a warm-up come before the first.
    """
    project.write("kill", str(queries + WARM_UP + (number - 1) * queries + queries // 2))
    with pytest.raises(KeyboardInterrupt):
        project.measure()
    (project.path / "kill").unlink()


def passes_kept(path: Path) -> int:
    return len(json.loads(path.read_text(encoding="utf-8"))["run"]["raw"]["sets"])


# The budget


def test_a_model_with_enough_stars_is_green_and_has_a_rating(project: Project) -> None:
    scored(
        project,
        body="assert (run.rating.stars, run.rating.indicative, len(run.outputs)) == (3, (), 1000); "
        "assert abs(run.wh_per_1000_queries - 50 / 3.6) < 1e-3",
    )
    result = project.measure("--energy-json=energy.json")
    result.assert_outcomes(passed=1)
    result.stdout.re_match_lines(
        [
            r"^test +energy/query +stars +budget +of budget +verdict +limits from$",
            r"^test_score +50\.0 J ±0\.0 % +3 +3 +████████│··· 100\.0 % +PASS +marker$",
        ]
    )
    run = the_run(project)
    assert run["metrics"]["stars"] | {"n": 10} == {**run["metrics"]["stars"], "value": 3, "low": 3, "high": 3, "unit": "1"}
    assert (run["blocks"], run["queries"], run["raw"]["batch_size"]) == (10, 1000, 1)
    kept = {"task": "text_classification", "model_class": None, "queries_of": "text_classification", "output_of": ""}
    scale = {"reference": "2025-02", "source": SOURCE, "lowest": 0.216022, "highest": 27.787079, "models": 13}
    assert run["provenance"]["ai_energy_score"] == {**kept, **scale}
    assert state(project) == []


def test_too_few_stars_are_red(project: Project) -> None:
    scored(project, joules=TWO)
    result = project.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*test_score has 2 of 5 AI Energy Score stars [[]2, 2] on gpu:0, under its floor of 3. The limit is in *"])


def unmeasured(project: Project, says: str) -> None:
    project.monkeypatch.setenv("CI", "1")
    result = project.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"*test_score has no stars to judge: {says}*"])


def test_stars_of_another_gpu_are_unmeasured_and_red_in_ci(project: Project) -> None:
    project.monkeypatch.setenv("WORLD_GPU", "NVIDIA A100-SXM4-80GB")
    scored(project, queries=FEW)
    unmeasured(project, "its 3 stars are only indicative: measured on NVIDIA A100-SXM4-80GB; the leaderboard's energy is that of")


def test_stars_of_too_few_queries_are_unmeasured(project: Project) -> None:
    scored(project, queries=FEW)
    unmeasured(project, "its 3 stars are only indicative: there were 100 queries; the protocol has 1,000.")


def test_modelled_energy_is_measured_and_not_rated(project: Project) -> None:
    project.monkeypatch.setenv("WORLD_METHOD", "modelled")
    scored(
        project,
        queries=FEW,
        body="""from pytest_greencompute.errors import NotRatedError
            assert abs(run.wh_per_1000_queries - 50 / 3.6) < 1e-3
            with pytest.raises(NotRatedError, match="modelled energy is not rated"):
                run.rating""",
    )
    unmeasured(project, "The energy was modelled, and modelled energy is not rated.")


def test_stars_of_a_run_that_followed_no_protocol_are_unmeasured(project: Project) -> None:
    scored(project, queries=FEW)
    source = (project.path / "test_it.py").read_text(encoding="utf-8")
    project.write(
        "test_it.py",
        source.replace('energy_score(model, QUERIES, task="text_classification", protocol_queries=True)', "measure(model, QUERIES)"),
    )
    unmeasured(project, "it did not follow the protocol of AI Energy Score: energy_meter.energy_score() does.")


def test_without_a_meter_no_pass_is_run_and_nothing_is_kept(project: Project) -> None:
    project.toml('meters = ["nvml"]')
    scored(project, body="assert world.calls < 1500")
    result = project.measure()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["*test_score has no stars to judge: test_it.py::test_score has no energy that could be rated: no energy meter works here.*"]
    )
    assert state(project) == []


def test_without_energy_budget_there_is_one_pass_and_a_rating_skips_the_test(project: Project) -> None:
    scored(project, body="assert (len(run.outputs), world.calls) == (1000, 1000); run.rating")
    result = project.run("-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*rating was not measured: run pytest with --energy-budget*"])
    scored(project, body="run.wh_per_1000_queries")
    project.run("-rs").stdout.fnmatch_lines(["*wh_per_1000_queries was not measured*"])


# Another leaderboard, and the length of answers

DECEMBER = "model,total_gpu_energy,energy_score,class,test date\na,0.005,5,A,Oct 2025\nb,0.025,1,A,Oct 2025\n"
WRITES = "world.model(50.0, answer=lambda query: list(range({})))"


def generating(project: Project, call: str, tokens: int, **options: Any) -> None:
    """A test that scores a model whose answers are so many ids."""
    scored(project, call, **options)
    source = (project.path / "test_it.py").read_text(encoding="utf-8")
    project.write("test_it.py", source.replace("world.model(50.0)", WRITES.format(tokens)))


@pytest.mark.parametrize("named", ['"ai-energy-score-2025-12"', 'pathlib.Path("ai-energy-score-2025-12/reasoning.csv")'])
def test_the_task_of_a_newer_leaderboard_is_measured_judged_and_kept_with_its_scale(
    project: Project, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    project.write("ai-energy-score-2025-12/reasoning.csv", DECEMBER)
    claims = f'task="reasoning", model_class="A", protocol_queries=True, tokens="ids", reference={named}'
    generating(project, claims, 700, body="assert (run.rating.stars, run.rating.indicative, run.rating.reference) == (3, (), '2025-12')")
    project.measure("--energy-json=energy.json").assert_outcomes(passed=1)
    run = the_run(project)
    assert run["metrics"]["stars"]["value"] == 3
    kept = run["provenance"]["ai_energy_score"]
    assert {name: kept[name] for name in ("task", "model_class", "reference", "source", "lowest", "highest", "models")} == {
        "task": "reasoning",
        "model_class": "A",
        "reference": "2025-12",
        "lowest": 5.0,
        "highest": 25.0,
        "models": 2,
        "source": named.split('"')[1],
    }
    (project.path / "ai-energy-score-2025-12" / "reasoning.csv").unlink()  # the run says what its stars are of
    capsys.readouterr()
    assert cli.main(["rate", "energy.json"]) == 0
    assert "reference: AI Energy Score, 2025-12, ai-energy-score-2025-12" in capsys.readouterr().out


def test_too_few_stars_of_a_newer_leaderboard_are_red(project: Project) -> None:
    project.write("2025-12/reasoning.csv", DECEMBER)
    generating(project, 'task="reasoning", model_class="A", protocol_queries=True, tokens="ids", reference="2025-12"', 700, stars=4)
    result = project.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*test_score has 3 of 5 AI Energy Score stars [[]3, 3] on gpu:0, under its floor of 4.*"])


def test_ten_tokens_that_were_counted_need_no_claim_and_others_refute_it(project: Project) -> None:
    claims = 'task="text_generation", model_class="A", protocol_queries=True, tokens="ids", output_of_protocol=True'
    generating(project, claims.replace(", output_of_protocol=True", ""), 10, body="assert run.rating.indicative == ()", stars=3)
    project.measure().assert_outcomes(passed=1)
    generating(project, claims, 12)
    unmeasured(project, "its 3 stars are only indicative: the answers have 12 new tokens; the protocol sets 10.")


# rate and badge, from the report alone


def test_the_report_is_rated_without_reservation_and_gets_a_badge(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    scored(project, 'task="text_generation", model_class="A", protocol_queries=True, output_of_protocol=True', stars=4, joules=29.5)
    project.measure("--energy-json=energy.json").assert_outcomes(passed=1)
    capsys.readouterr()
    assert cli.main(["rate", "energy.json", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["stars"], found["task"], found["model_class"], found["indicative"]) == (4, "text_generation", "A", [])
    assert cli.main(["badge", "energy.json", "--name", "org/model"]) == 0
    assert "4 of 5 stars for text generation, class A" in (project.path / "energy-score.svg").read_text(encoding="utf-8")


def test_a_report_of_another_gpu_is_indicative_and_gets_no_badge(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.monkeypatch.setenv("WORLD_GPU", "NVIDIA A100-SXM4-80GB")
    scored(project, queries=FEW)
    project.measure("--energy-json=energy.json")
    capsys.readouterr()
    assert cli.main(["badge", "energy.json"]) == 3
    assert "measured on NVIDIA A100-SXM4-80GB" in capsys.readouterr().err
    assert not (project.path / "energy-score.svg").exists()


# A session that was killed


def test_a_killed_session_goes_on_with_the_next_pass_and_says_so(project: Project) -> None:
    scored(project, body=f"assert world.calls == 1000 + {WARM_UP} + 7 * 1000")
    killed(project, queries=1000)
    (path,) = state(project)
    assert passes_kept(path) == 3
    result = project.measure("--energy-json=energy.json")
    result.assert_outcomes(passed=1)
    result.stdout.re_match_lines(
        [r"^note: test_score: went on after pass 3 of an interrupted session \(\.greencompute/energy-score/\w+\.json\)$"]
    )
    run = the_run(project)
    assert (run["blocks"], run["metrics"]["energy_per_query"]["value"]) == (10, pytest.approx(THREE))
    assert run["metrics"]["stars"]["value"] == 3
    assert state(project) == []


def test_a_session_killed_twice_goes_on_twice(project: Project) -> None:
    scored(project, queries=FEW)
    killed(project)
    killed(project, 2)
    result = project.measure("--energy-json=energy.json")
    result.stdout.fnmatch_lines(["*went on after pass 3 *", "*went on after pass 4 *"])
    run = the_run(project)
    assert run["blocks"] == 10
    assert run["seconds"] > 10 * 1.0 + 3 * 1.0  # the passes and the unmetered ones of all three sessions


def test_the_passes_of_other_queries_are_not_used_and_it_is_said(project: Project) -> None:
    scored(project, queries=FEW)
    killed(project)
    path = project.path / "test_it.py"
    path.write_text(path.read_text(encoding="utf-8").replace("query {k}", "other {k}"), encoding="utf-8")
    result = project.measure("--energy-json=energy.json")
    says = "is of something else (queries: * there, * here); it is kept as *.unused.json"
    result.stdout.fnmatch_lines([f"*note: test_score: started afresh: .greencompute/energy-score/*.json {says}"])
    assert the_run(project)["blocks"] == 10
    (aside,) = state(project)
    assert passes_kept(aside) == 3


def test_the_passes_of_another_gpu_are_not_used(project: Project) -> None:
    scored(project, queries=FEW)
    killed(project)
    project.monkeypatch.setenv("WORLD_GPU", "NVIDIA H100 PCIe")
    result = project.measure()
    result.stdout.fnmatch_lines([f"*started afresh: *(gpu:0 device: {H100} there, NVIDIA H100 PCIe here)*"])


@pytest.mark.parametrize("text", ["{", '{"schema": "greencompute.energy-score-state/1"}'])
def test_a_broken_state_is_said_and_laid_aside(project: Project, text: str) -> None:
    scored(project, queries=FEW)
    killed(project)
    (path,) = state(project)
    path.write_text(text, encoding="utf-8")
    result = project.measure("--energy-json=energy.json")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*note: test_score: started afresh: *.json is broken (*); it is kept as *.unused.json"])
    assert the_run(project)["blocks"] == 10
    (aside,) = state(project)
    assert aside.read_text(encoding="utf-8") == text


def test_a_model_that_answers_otherwise_after_the_interruption_is_noted(project: Project) -> None:
    scored(project, queries=FEW)
    killed(project)
    path = project.path / "test_it.py"
    path.write_text(path.read_text(encoding="utf-8").replace("world.model(50.0)", "world.model(50.0, answer=len)"), encoding="utf-8")
    project.measure().stdout.fnmatch_lines(["*100 of 100 answers are not those of the interrupted session*"])


def test_the_state_may_lie_elsewhere_and_a_file_of_another_kind_is_not_touched(project: Project) -> None:
    scored(project, 'task="text_classification", protocol_queries=True, state="kept/score.json"', queries=FEW)
    killed(project, 2)
    assert (project.path / "kept" / "score.json").exists()
    project.measure().assert_outcomes(passed=1)
    project.write("kept/score.json", '{"schema": "greencompute.report/1"}')
    result = project.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*score.json is no state of energy_score(). Name another file, or move that one away.*"])
    assert "report/1" in (project.path / "kept" / "score.json").read_text(encoding="utf-8")


# Bad input


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ('task="text-classification"', "no task 'text-classification'. Did you mean 'text_classification'?"),
        ('task="text_generation"', "text_generation is rated by class. Known: A, B, C."),
        ('task="asr", passes=0', "passes is 0. Write a whole number of at least 1; the protocol has 10."),
        ('task="reasoning", model_class="A"', "The leaderboard of 2025-02 has no task 'reasoning'. It came in 2025-12: fetch the files of"),
        ('task="asr", reference="2025-12"', "The reference is '2025-12', and there is no such file. Name a leaderboard's CSV file"),
        ('task="asr", reference=12', "The reference is '12', and there is no such file."),
        ('task="asr", reference="undated"', "has no date, and stars belong to one dated leaderboard."),
        ('task="asr", state="pyproject.toml"', "state is 'pyproject.toml'. Name a JSON file, such as state='score.json'."),
    ],
)
def test_bad_input_is_refused_before_the_model_runs(project: Project, call: str, says: str) -> None:
    scored(project, call)
    project.write("undated/asr.csv", "model,total_gpu_energy\na,1\nb,2\n")
    source = (
        (project.path / "test_it.py")
        .read_text(encoding="utf-8")
        .replace("def model(batch):", "def model(batch):\n        pathlib.Path('ran').touch()")
    )
    project.write("test_it.py", source)
    result = project.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"*{says.replace('[', '[[]')}*"])
    assert not (project.path / "ran").exists()


def test_no_queries_and_a_model_that_is_none_are_refused(project: Project) -> None:
    scored(project, queries=0)
    project.measure().stdout.fnmatch_lines(["*The list of queries is empty.*"])
    scored(project)
    source = (project.path / "test_it.py").read_text(encoding="utf-8")
    project.write("test_it.py", source.replace("energy_score(model, ", "energy_score('gpt', "))
    project.measure().stdout.fnmatch_lines(["*The model is a str, which cannot be called.*"])


@pytest.mark.parametrize(
    ("stars", "says"), [(6, "6 is no number of stars"), (0, "0 is not greater than zero"), (2.5, "2.5 is no number of stars")]
)
def test_a_number_of_stars_that_none_can_have_is_refused_at_collection(project: Project, stars: float, says: str) -> None:
    scored(project, stars=stars)
    result = project.measure()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*stars: {says}*"])


def test_stars_in_the_file_are_left_to_people_by_an_update(project: Project) -> None:
    scored(project)
    source = (project.path / "test_it.py").read_text(encoding="utf-8")
    project.write("test_it.py", source.replace("@pytest.mark.energy_budget(stars=3)", ""))
    file = project.toml(f'[tool.greencompute.budgets."{TEST}"]\nstars = 3\n')
    before = file.read_text(encoding="utf-8")
    result = project.measure("--energy-update=loosen")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*test_it.py::test_score stars (stars are set by hand)*"])
    assert file.read_text(encoding="utf-8") == before
