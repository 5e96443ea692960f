"""energy_meter.compare: several models for one task, the right-sized one among them, and a build that fails on a larger one."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import pytest

from .conftest import Project

THREE = """
    import pytest

    QUERIES, UPPER = list("abcdefghijklmnopqrst"), list("ABCDEFGHIJKLMNOPQRST")

    def right(letters):  # answers these right, and all others wrong
        return lambda query: query.upper() if query in letters else "?"

    @pytest.fixture
    def candidates(world):
        return {
            "large": world.model(2.0, 0.02),
            "small": world.model(0.25, answer=right("abcdefghijklmnopqr")),
            "tfidf": world.model(0.01, answer=right("abcdefghijkl")),
        }
"""


def write(project: Project, body: str) -> None:
    project.write("test_it.py", THREE + body)


# --- the verdict ------------------------------------------------------------------------------------------------------


CONFIGURED = """
    def test_sentiment(energy_meter, candidates):
        found = energy_meter.compare(candidates, QUERIES, references=UPPER, floor={floor})
        found.assert_right_sized({default!r}, margin={margin!r})
"""


def test_a_configured_model_that_is_too_large_fails_the_build_with_a_sentence_that_a_manager_understands(project: Project) -> None:
    write(project, CONFIGURED.format(floor=0.9, default="large", margin="20%"))
    result = project.measure()
    result.assert_outcomes(failed=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "test_sentiment: large uses 8.00 times [[]8.00, 8.00] the energy per query of small (2.00 J against 0.250 J on gpu:0),"
            " for +10.0 points [[]-*, +*] of accuracy (1.00 against 0.900): more than the margin of 20 %.*"
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.fnmatch_lines(["* 1 budget failed"])


@pytest.mark.parametrize(("default", "margin"), [("small", "20%"), ("large", "750%")])
def test_a_configured_model_within_the_margin_passes(project: Project, default: str, margin: object) -> None:
    write(project, CONFIGURED.format(floor=0.9, default=default, margin=margin))
    result = project.measure("--energy-strict")
    result.assert_outcomes(passed=1)
    assert result.ret == 0


def test_without_a_floor_accuracy_is_shown_and_the_leanest_is_the_right_sized_one(project: Project) -> None:
    write(
        project,
        """
    def test_sentiment(energy_meter, candidates):
        found = energy_meter.compare(candidates, QUERIES, references=UPPER)
        assert found.right_sized == "tfidf"
        assert found.front == ("tfidf", "small", "large")
        assert found.times("large", "small").value == pytest.approx(8, rel=0.001)
        assert found.runs["small"].energy_per_query < "0.26 J"
        assert found.outputs["large"] == UPPER
        assert "right-sized" in str(found)
    """,
    )
    project.measure().assert_outcomes(passed=1)


def test_a_configured_model_under_the_floor_fails_and_the_right_one_is_named(project: Project) -> None:
    write(project, CONFIGURED.format(floor=0.8, default="tfidf", margin="20%"))
    result = project.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "test_sentiment: tfidf, the configured candidate, scores 0.600, under the floor of 0.8."
            " small is the leanest that meets what is asked."
        ]
    )
    result.stdout.fnmatch_lines(["test_sentiment (tfidf) * FAIL accuracy"])


def test_a_floor_that_no_candidate_meets_fails_without_any_further_word_and_says_the_best(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        def test_floor(energy_meter, world):
            half = world.model(answer=lambda query: query.upper() if query < "c" else "?")
            models = {"a": world.model(answer=lambda query: "A"), "b": half}
            assert energy_meter.compare(models, list("abcd"), references=list("ABCD"), floor="72 %").outputs
        """,
    )
    for run in (project.measure, project.run):
        result = run()
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["test_floor: No candidate meets the floor of 0.72; the best is b with 0.500."])


def test_a_latency_limit_leaves_the_leaner_but_slower_one_out(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        def test_latency(energy_meter, world):
            models = {"slow": world.model(0.2, 0.1), "fast": world.model(1.0, 0.01)}
            found = energy_meter.compare(models, list("abcd"), latency_p95="40 ms")
            assert found.right_sized == "fast"
            found.assert_right_sized("slow")
        """,
    )
    result = project.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["test_latency: slow, the configured candidate, has a latency_p95 of 0.100 s, over the limit of 40 ms. fast is the leanest*"]
    )


@pytest.mark.parametrize("asked", ["latency_p95='40 ms'", "throughput='1000 /s'"])
def test_a_limit_that_no_candidate_meets_fails_as_the_floor_does_and_says_the_nearest(project: Project, asked: str) -> None:
    project.write(
        "test_it.py",
        f"""
        def test_limit(energy_meter, world):
            models = {{"slow": world.model(0.2, 0.1), "fast": world.model(1.0, 0.05)}}
            assert energy_meter.compare(models, list("abcd"), {asked}).right_sized is None
        """,
    )
    result = project.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["test_limit: No candidate meets the limit of * of * the nearest is fast with *"])
    project.run().assert_outcomes(skipped=1)


def test_without_the_option_no_limit_but_the_floor_is_judged(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        def test_limit(energy_meter, world):
            models = {"slow": world.model(0.2, 0.1), "fast": world.model(1.0, 0.05)}
            energy_meter.compare(models, list("abcd"), latency_p95="40 ms")
        """,
    )
    project.run().assert_outcomes(passed=1)


# --- candidates that break --------------------------------------------------------------------------------------------


BROKEN = """
    def test_sentiment(energy_meter, candidates):
        def broken(batch):
            raise ValueError("no weights")

        found = energy_meter.compare({**candidates, "broken": broken}, QUERIES, references=UPPER, floor=0.9)
        assert found.problems == {"broken": "it raised ValueError: no weights"}
        assert set(found.runs) == {"large", "small", "tfidf"}
        found.assert_right_sized("small")
"""


def test_one_candidate_that_raises_is_a_row_that_says_so_and_the_others_stand(project: Project) -> None:
    write(project, BROKEN)
    result = project.measure("--energy-json", "energy.json")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "  broken *it raised ValueError: no weights",
            "warning: test_sentiment: whether small is right-sized is not known, since there is no figure of broken"
            " (it raised ValueError: no weights).",
        ]
    )
    rows = {run["name"]: run["candidate"] for run in project.report()["runs"]}
    assert rows["broken"]["problem"] == "it raised ValueError: no weights"
    assert rows["broken"]["figures"]["energy_per_query"] is None
    assert rows["small"]["right_sized"] is True


def test_a_candidate_that_broke_is_red_where_unmeasured_is_since_it_might_have_been_leaner(project: Project) -> None:
    write(project, BROKEN)
    result = project.measure("--energy-unmeasured=fail")
    result.assert_outcomes(failed=1)


def test_without_the_option_a_candidate_that_raises_is_said_too(project: Project) -> None:
    write(project, BROKEN)
    result = project.run()
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["warning: test_sentiment (broken) was not measured: it raised ValueError: no weights"])


def test_all_candidates_that_raise_is_an_error_and_no_green_test(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        def broken(batch):
            raise ValueError("no weights")

        def test_broken(energy_meter):
            energy_meter.compare({"a": broken, "b": broken}, [1, 2])
        """,
    )
    for run in (project.measure, project.run):
        result = run()
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(
            ["*No candidate could be measured. a: it raised ValueError: no weights; b: *", "*ValueError: no weights*"]
        )


# --- without --energy-budget ------------------------------------------------------------------------------------------


def test_without_the_option_each_candidate_runs_once_and_what_needs_energy_skips(project: Project) -> None:
    write(
        project,
        """
    @pytest.mark.parametrize("asked", ["right_sized", "front", "assert_right_sized"])
    def test_sentiment(energy_meter, candidates, world, asked):
        before = world.calls
        found = energy_meter.compare(candidates, QUERIES, batch_size=10, references=UPPER, floor=0.9)
        assert world.calls == before + 6
        assert not world.opened
        assert found.runs["tfidf"].accuracy == 0.6
        found.assert_right_sized("large") if asked == "assert_right_sized" else getattr(found, asked)
        raise AssertionError("never reached unmetered")
    """,
    )
    result = project.run("-rs")
    result.assert_outcomes(skipped=3)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["SKIPPED * right_sized was not measured: run pytest with --energy-budget"])


def test_without_the_option_a_configured_model_under_the_floor_is_red_all_the_same(project: Project) -> None:
    write(project, CONFIGURED.format(floor=0.8, default="tfidf", margin="20%"))
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["test_sentiment: tfidf, the configured candidate, scores 0.600, under the floor of 0.8.*"])


# --- the table, the JSON, JUnit ---------------------------------------------------------------------------------------


def test_the_table_has_a_line_for_each_candidate_leanest_first_in_little_width(project: Project) -> None:
    write(project, CONFIGURED.format(floor=0.9, default="small", margin="20%"))
    result = project.measure()
    result.stdout.fnmatch_lines(
        [
            "test_sentiment: 3 candidates on the same queries; accuracy at least 0.9; times: the energy of small; agrees: with large",
            "  candidate*energy/query*times*accuracy*to the best*p95*throughput*agrees",
            "  tfidf*10.0 mJ*0.0400 [[]0.0400, 0.0400]*0.600*-40.0 [[]*10.0 ms*under the floor",
            "  small*0.250 J*1*0.900*-10.0 [[]*right-sized",
            "  large*2.00 J*8.00 [[]8.00, 8.00]*1.00*20.0 ms*",
        ]
    )
    table = [line for line in result.outlines if line.startswith(("  candidate", "  tfidf", "  small", "  large"))]
    assert max(map(len, table)) <= 128


def test_without_references_no_column_speaks_of_accuracy(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        def test_it(energy_meter, world):
            energy_meter.compare({"a": world.model(1.0), "b": world.model(2.0)}, list("abcd"))
        """,
    )
    result = project.measure("--energy-json", "energy.json")
    result.stdout.fnmatch_lines(["  candidate*energy/query*times*p95*"])
    (heads,) = [line for line in result.outlines if line.startswith("  candidate")]
    assert "accuracy" not in heads
    assert "to the best" not in heads
    rows = [run["candidate"] for run in project.report()["runs"]]
    assert [row["figures"]["accuracy"] for row in rows] == [None, None]


def test_the_json_holds_each_candidate_as_a_run_with_its_row_and_the_verdict_on_the_configured_one(project: Project) -> None:
    write(project, CONFIGURED.format(floor=0.9, default="large", margin="20%"))
    project.measure("--energy-json", "energy.json")
    runs: dict[str, Any] = {run["name"]: run for run in project.report()["runs"]}
    assert list(runs) == ["large", "small", "tfidf"]
    (verdict,) = runs["large"]["verdicts"]
    assert (verdict["verdict"], verdict["kind"], verdict["metric"], verdict["effect"]) == ("FAIL", "comparison", "energy_per_query", "fail")
    row = runs["large"]["candidate"]
    assert row["times"]["value"] == pytest.approx(8, rel=1e-3)
    assert (row["times_of"], row["agreement_with"], row["domain"], row["everywhere"]) == ("small", "large", "gpu:0", False)
    assert runs["tfidf"]["candidate"]["accuracy_difference"]["value"] == pytest.approx(-0.4)
    assert runs["tfidf"]["candidate"]["agreement"] == pytest.approx(0.6)
    assert [run["candidate"]["right_sized"] for run in runs.values()] == [False, True, False]


def test_junit_names_each_candidates_figures_and_the_verdict(project: Project) -> None:
    write(project, CONFIGURED.format(floor=0.9, default="large", margin="20%"))
    project.measure("--junitxml=junit.xml")
    found = {each.get("name"): each.get("value") for each in ET.parse(project.path / "junit.xml").getroot().iter("property")}
    assert float(str(found["small.energy_per_query_j"])) == pytest.approx(0.25, rel=1e-3)
    assert found["large.energy_per_query_comparison_verdict"] == "FAIL"


def test_several_comparisons_in_one_test_are_told_apart_by_name(project: Project) -> None:
    write(
        project,
        """
    def test_sentiment(energy_meter, candidates):
        for name in ("short", "long"):
            energy_meter.compare(candidates, QUERIES, name=name).assert_right_sized("tfidf")
    """,
    )
    result = project.measure("--energy-json", "energy.json")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["test_sentiment (short): 3 candidates*", "test_sentiment (long): 3 candidates*"])
    assert [run["name"] for run in project.report()["runs"]][::3] == ["short/large", "long/large"]


# --- with the rest of the plugin --------------------------------------------------------------------------------------


def test_a_budget_names_a_candidate(project: Project) -> None:
    write(
        project,
        """
    @pytest.mark.energy_budget(small={"energy_per_query": "0.2 J"}, large={"energy_per_query": "3 J"})
    def test_sentiment(energy_meter, candidates):
        energy_meter.compare(candidates, QUERIES)
    """,
    )
    result = project.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["test_sentiment (small) used 0.2500 J per query * over its budget of 0.2 J*"])


def test_a_budget_of_a_candidate_that_broke_is_unmeasured_with_its_reason(project: Project) -> None:
    write(
        project,
        """
    @pytest.mark.energy_budget(broken={"energy_per_query": "0.2 J"})
    def test_sentiment(energy_meter, world):
        energy_meter.compare({"good": world.model(), "broken": lambda batch: 1 / 0}, QUERIES)
    """,
    )
    result = project.measure("--energy-unmeasured=fail", "--energy-json", "energy.json")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["test_sentiment has no energy_per_query to judge: it raised ZeroDivisionError: division by zero.*"])
    assert [run["name"] for run in project.report()["runs"]] == ["good", "broken"]


def test_candidates_are_saved_and_judged_against_a_baseline_as_other_runs_are(project: Project) -> None:
    body = """
    def test_sentiment(energy_meter, world):
        energy_meter.compare({"a": world.model(FACTOR * 1.0), "b": world.model(2.0)}, QUERIES)
    """
    write(project, body.replace("FACTOR", "1"))
    project.measure("--energy-save", "main").stdout.fnmatch_lines(["saved 2 runs to baseline 'main'*"])
    write(project, body.replace("FACTOR", "1.5"))
    result = project.measure("--energy-baseline", "main")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["test_sentiment (a) * FAIL energy *", "test_sentiment (b) * baseline main"])


def test_modelled_energy_is_said_and_is_red_where_that_was_asked_for(project: Project) -> None:
    project.monkeypatch.setenv("WORLD_METHOD", "modelled")
    write(project, CONFIGURED.format(floor=0.9, default="small", margin="20%"))
    result = project.measure()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["test_sentiment: 3 candidates*; energy modelled; *"])
    project.measure("--energy-modelled=fail").assert_outcomes(failed=1)
    write(project, CONFIGURED.format(floor=0.9, default="large", margin="20%"))
    project.measure().stdout.fnmatch_lines(["*(2.00 J against 0.250 J on gpu:0 (modelled))*"])


def test_without_a_meter_the_verdict_is_unmeasured_and_nothing_is_called_the_right_size(project: Project) -> None:
    project.toml('meters = ["nvml"]')
    write(
        project,
        """
    def test_sentiment(energy_meter, candidates):
        found = energy_meter.compare(candidates, QUERIES, references=UPPER, floor=0.9)
        found.assert_right_sized("small")
        with pytest.raises(Exception, match="There is no right_sized: no energy meter works here"):
            found.right_sized
    """,
    )
    result = project.measure("--energy-unmeasured=fail")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["test_sentiment (small) has no energy_per_query to judge: no energy meter works here.*"])


def test_a_failure_is_only_a_warning_where_nothing_is_enforced(project: Project) -> None:
    write(project, CONFIGURED.format(floor=0.9, default="large", margin="20%"))
    result = project.measure("--energy-enforce=warn")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["warning: test_sentiment: large uses 8.00 times *"])


def test_a_test_that_skips_after_its_verdict_is_red_all_the_same(project: Project) -> None:
    write(project, CONFIGURED.format(floor=0.9, default="large", margin="20%") + "        pytest.skip('the rest is for later')\n")
    project.measure().assert_outcomes(failed=1)


# --- bad input --------------------------------------------------------------------------------------------------------


BAD = [
    ("compare({'a': f}, Q)", "A comparison of ['a'] compares nothing. It takes two candidates or more, each with its name."),
    ("compare([f, g], Q)", "candidates must be named models. Pass a dict such as {'large': f, 'small': g}."),
    ("compare({'a': f, 'b': 3}, Q)", "b: The model is a int, which cannot be called. Pass a function of a batch."),
    (
        "compare({'a': f, 'b': short}, Q, batch_size=4)",
        "b: The model returned 3 answers for 4 queries (queries 0 to 3). One answer per",
    ),
    ("compare({'a': f, 'b': g}, [])", "a: The list of queries is empty."),
    ("compare({'a': f, 'b': g}, Q, references=[1])", "a: 1 references for 4 queries."),
    ("compare({'a': f, 'b': g}, 5)", "queries is a int. Pass a list with one entry per query."),
    ("compare({'a': f, 'b': g}, Q, references=5)", "references is a int. Pass a list with one entry per query, or leave it out."),
    ("compare({'a': f, 'b': g}, Q, count=[['a']])", "count has ['a'] in it. Pass a list of names out of flops_per_query,"),
    ("compare({'a': f, 'b': g}, Q, floor=0.7)", "A floor of accuracy needs references. Pass references="),
    (
        "compare({'a': f, 'b': g}, Q, references=Q, floor=72)",
        "floor is 72, which is more than 1. Write a share between 0 and 1, such as",
    ),
    ("compare({'a': f, 'b': g}, Q, references=Q, floor=0)", "0 is not greater than zero."),
    ("compare({'a': f, 'b': g}, Q, latency_p500='40 ms')", "'latency_p500' is not a limit of a comparison. Did you mean 'latency_p50'?"),
    ("compare({'a': f, 'b': g}, Q, latency_p95='40 J')", "'40 J' is an energy, not a"),
    ("compare({'a': f, 'b': g}, Q, batch_size={'a': 1})", "batch_size names a. Name each of a, b."),
    ("compare({'a': f, 'b': g}, Q).assert_right_sized('c')", "There is no candidate 'c'. Known: a, b."),
    ("compare({'large': f, 'b': g}, Q).assert_right_sized('larg')", "There is no candidate 'larg'. Did you mean 'large'?"),
    ("compare({'a': f, 'b': g}, Q).assert_right_sized('a', margin='-5%')", "margin is '-5%'. Write a share that is not negative,"),
    (
        "compare({'a': f, 'b': g}, Q).assert_right_sized('a', margin=20)",
        "20 may be 20 % or 2000 %. Write it with its sign, such as '20 %'.",
    ),
    ("compare({'a': f, 'b': g}, Q).assert_right_sized('a', margin='5 J')", "'5 J' is an energy, not a"),
    ("compare({'a': f, 'b': g}, Q).assert_right_sized()", "assert_right_sized needs the configured candidate. Pass its name, or the"),
    ("compare({'a': f, 'b': g}, Q).cheapest", "Only a sweep has a cheapest setting. right_sized names the candidate"),
    (
        "compare({'a': f, 'b': g}, Q) and energy_meter.compare({'c': f, 'd': g}, Q)",
        "This test has a comparison without a name already. Tell",
    ),
    (
        "compare({'a': f, 'b': g}, Q, name='c') and energy_meter.measure(f, Q, name='c/a')",
        "This test has measured a run named 'c/a' already.",
    ),
    ("compare({'a': f, 'b': g}, Q, name=5)", "name is 5. Name a comparison with a text"),
    ("compare({'a': f, 'b': g}, Q, name='')", "name is ''. Name a comparison with a text"),
    ("watch(f, name=5)", "name is 5. Name a watched model with a text"),
]


def test_bad_input_is_refused_with_the_candidates_name_and_a_remedy(project: Project) -> None:
    project.write(
        "test_it.py",
        f"""
        import pytest
        from pytest_greencompute.errors import SettingsError

        Q = [1, 2, 3, 4]

        def short(batch):
            return list(batch)[:3]

        @pytest.mark.parametrize(("call", "says"), {BAD!r})
        def test_it(energy_meter, world, call, says):
            f = world.model(answer=lambda query: query)
            g = world.model(answer=lambda query: query)
            with pytest.raises(SettingsError) as refused:
                eval("energy_meter." + call)
            assert says in str(refused.value)
        """,
    )
    result = project.measure("--energy-max-seconds=5")
    result.assert_outcomes(passed=len(BAD))
