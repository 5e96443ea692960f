"""What people get wrong: each is told with file and line or node id, and what to do. Found at collection: exit status 4."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from .conftest import Project

USAGE = pytest.ExitCode.USAGE_ERROR

ONE_TEST = """
    import pytest

    {mark}
    def test_it(energy_meter, world):
        energy_meter.measure(world.model(), list("abcd"))
"""
PLAIN = ONE_TEST.format(mark="")


def said(result: pytest.RunResult) -> str:
    """All that a run printed, for sentences that may stand on either stream."""
    return str(result.stdout) + str(result.stderr)


def refused(result: pytest.RunResult, *sentences: str) -> None:
    """The run ended with a usage error that says all of ``sentences``, with no traceback, and ran nothing."""
    text = said(result)
    assert result.ret == USAGE, text
    for sentence in sentences:
        assert sentence in text
    assert "Traceback" not in text
    assert "INTERNALERROR" not in text
    assert not re.search(r"\d (passed|failed|error)", text)


# --- markers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ('energy_per_qury="1 J"', "'energy_per_qury' is not a budget key. Did you mean 'energy_per_query'?"),
        ('zzz="red"', "'zzz' is not a budget key. Known: energy_per_query, "),
        ('energy_per_query="0.8 kg"', "energy_per_query: '0.8 kg' is a mass of CO2e, not an energy."),
        ('energy_per_query="-1 J"', "energy_per_query: '-1 J' is not greater than zero."),
        ('energy_per_query="0 J"', "energy_per_query: '0 J' is not greater than zero."),
        ('energy_per_query="nan"', "energy_per_query: 'nan' is not a finite number."),
        ('energy_per_query=float("nan")', "energy_per_query: nan is not a finite number."),
        ('energy_per_query="inf J"', "energy_per_query: 'inf J' is not a finite number."),
        ('energy_per_query="1 JJ"', "energy_per_query: '1 JJ' has an unknown unit, 'JJ'. Did you mean 'J'?"),
        ('energy_per_query="0.8"', "energy_per_query: '0.8' has no unit."),
        ('energy_per_query="40 ms"', "energy_per_query: '40 ms' is a time, not an energy."),
        ("energy_per_query=None", "energy_per_query: None is not a quantity."),
        ("energy_per_query=True", "energy_per_query: True is not a quantity."),
        ("accuracy=92", "accuracy: 92 is more than 1."),
        ("confidence=1.5", "confidence: 1.5 is not between 0.5 and 1."),
        ("tolerance=-0.1", "tolerance: -0.1 is negative."),
        ('prefill={"energy": "1 J"}', "'energy' is not a budget key of the run 'prefill'. Did you mean"),
        ('"0.8 J"', "energy_budget takes no positional arguments, but got '0.8 J'. Write it like energy_budget(energy_per_query='0.8 J')."),
    ],
)
def test_a_marker_that_cannot_be_read_is_a_usage_error_with_file_line_and_node_id(project: Project, written: str, sentence: str) -> None:
    project.write("test_it.py", ONE_TEST.format(mark=f"@pytest.mark.energy_budget({written})"))
    refused(project.run(), f"the marker at test_it.py:3: {sentence}", "(test_it.py::test_it)")


def test_a_marker_error_also_ends_a_measured_run_before_anything_runs(project: Project) -> None:
    project.write("test_it.py", ONE_TEST.format(mark='@pytest.mark.energy_budget(energy_per_query="1 JJ")'))
    refused(project.measure(), "'1 JJ' has an unknown unit")


def test_all_marker_problems_are_told_at_once(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import pytest

        @pytest.mark.energy_budget(energy_per_query="1 JJ", latency_p95="1 J")
        def test_one(energy_meter): pass

        @pytest.mark.energy_budget(acuracy=0.9)
        def test_two(energy_meter): pass
        """,
    )
    refused(project.run(), "'1 JJ'", "'1 J' is an energy, not a time.", "Did you mean 'accuracy'?", "::test_one)", "::test_two)")


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("toml", "sentence"),
    [
        ('[tool.greencompute.budgets."test_it.py::test_it"]\nenergy_per_qury = "1 J"', "pyproject.toml:4: 'energy_per_qury' is not"),
        ('[tool.greencompute.budgets."test_it.py::test_it"]\nenergy_per_query = "1 JJ"', "pyproject.toml:4: energy_per_query: '1 JJ'"),
        ('[tool.greencompute.budgets."test_it.py::test_it"]\nlatency_p95 = nan', "pyproject.toml:4: latency_p95: nan is not a finite"),
        ("tolerence = 0.1", "pyproject.toml:3: 'tolerence' is not a setting. Did you mean 'tolerance'?"),
        ("max_seconds = -1", "pyproject.toml:3: max_seconds: -1 is not greater than zero."),
        ('confidence = "high"', "pyproject.toml:3: confidence: 'high' is not a quantity."),
        ('enforce = "maybe"', "pyproject.toml:3: enforce: 'maybe' is not one of fail, warn."),
        ('domains = "gpus"', "pyproject.toml:3: domains: 'gpus' is not a domain."),
        ("unmetered = 0", "pyproject.toml:3: unmetered: 0 is not 'once', 'skip' or a number of queries."),
        ('strict = "yes"', "pyproject.toml:3: strict: 'yes' is not true or false."),
        ('allow = ["bad weather"]', "pyproject.toml:3: allow: 'bad weather' cannot be allowed."),
        ("budgets = 3", "pyproject.toml:3: budgets must be tables, one per test."),
        ('[tool.greencompute.budgets."test_it.py::test_it"]\non = "H100"', "pyproject.toml:4: 'on' must be a list of tables"),
        (
            '[[tool.greencompute.budgets."test_it.py::test_it".on]]\nenergy_per_query = "1 J"',
            "pyproject.toml:3: an 'on' line needs one of gpu, cpu, meter",
        ),
        (
            '[[tool.greencompute.accept]]\ntest = "test_it.py::test_it"\nmetric = "energy_per_query"\nup_to = "1 J"\nreason = "x"',
            "pyproject.toml:3: accept: expires missing.",
        ),
    ],
)
def test_a_setting_that_cannot_be_read_is_a_usage_error_with_file_and_line(project: Project, toml: str, sentence: str) -> None:
    project.toml(toml)
    project.write("test_it.py", PLAIN)
    refused(project.run(), sentence)


@pytest.mark.parametrize("option", ["--energy-budget", "-q"])
def test_a_budget_file_that_is_missing_a_folder_or_no_toml_is_a_usage_error(project: Project, option: str) -> None:
    project.write("test_it.py", PLAIN)
    project.write("broken.toml", "energy = = 3")
    (project.path / "folder.toml").mkdir()
    (project.path / "latin.toml").write_bytes(b"x = '\xe4'")
    refused(project.run(option, "--energy-budget-file=none.toml"), "none.toml does not exist. Check the path, or run `greencompute init`.")
    refused(project.run(option, "--energy-budget-file=folder.toml"), "folder.toml is a folder. Name a TOML file in it.")
    refused(project.run(option, "--energy-budget-file=broken.toml"), "broken.toml is not valid TOML: ", "line 1")
    refused(project.run(option, "--energy-budget-file=latin.toml"), "latin.toml is not UTF-8 text")


def test_a_budget_for_a_test_that_does_not_exist_is_an_error_that_suggests_the_near_one(project: Project) -> None:
    project.toml('[tool.greencompute.budgets."test_it.py::test_iit"]\nenergy_per_query = "1 J"')
    project.write("test_it.py", PLAIN)
    stale = "pyproject.toml:3: the budget for 'test_it.py::test_iit' matches no collected test. Did you mean 'test_it.py::test_it'?"
    refused(project.run(), stale)
    refused(project.run("test_it.py"), stale)
    refused(project.measure("."), stale)


def test_a_budget_is_not_stale_where_its_test_was_not_asked_for(project: Project) -> None:
    project.toml(
        """
        [tool.greencompute.budgets."tests/test_other.py::test_gone"]
        energy_per_query = "1 J"
        """
    )
    project.write("test_it.py", PLAIN)
    project.write("tests/test_other.py", "def test_there(): pass")
    for args in (["test_it.py"], ["test_it.py::test_it"], ["tests/test_other.py::test_there"], ["--collect-only"], ["--ignore=tests"]):
        result = project.run(*args)
        assert result.ret == 0, (args, said(result))
    refused(project.measure("tests"), "matches no collected test")


def test_deselecting_a_budgeted_test_with_k_or_m_or_deselect_is_no_error(project: Project) -> None:
    project.toml('[tool.greencompute.budgets."test_it.py::test_it"]\nenergy_per_query = "1 J"')
    project.write("test_it.py", PLAIN + "\n    def test_free(): pass\n")
    for args in (["-k", "free"], ["-m", "slow"], ["--deselect", "test_it.py::test_it"], ["--energy-skip"]):
        result = project.run(*args)
        assert "matches no collected test" not in said(result), args
        assert result.ret in (0, pytest.ExitCode.NO_TESTS_COLLECTED)


def test_a_broken_test_module_does_not_make_its_budgets_stale(project: Project) -> None:
    project.toml('[tool.greencompute.budgets."test_it.py::test_it"]\nenergy_per_query = "1 J"')
    project.write("test_it.py", "import nothing_of_that_name")
    result = project.run()
    result.assert_outcomes(errors=1)
    assert "matches no collected test" not in said(result)


# --- what the model and the test hand over ----------------------------------------------------------------------------


def test_what_a_test_hands_over_wrongly_turns_that_test_red_and_no_other(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import pytest

        LETTERS = list("abcd")

        def test_raises_in_the_middle(energy_meter, world):
            model = world.model()
            def broken(batch):
                if world.calls > 40:
                    raise RuntimeError("out of memory")
                return model(batch)
            energy_meter.measure(broken, LETTERS)

        def test_raises_at_once(energy_meter):
            def broken(batch):
                raise RuntimeError("no weights")
            energy_meter.measure(broken, LETTERS)

        def test_too_few_answers(energy_meter):
            energy_meter.measure(lambda batch: batch[1:], LETTERS, batch_size=4)

        def test_no_answers(energy_meter):
            energy_meter.measure(lambda batch: None, LETTERS)

        def test_references(energy_meter, world):
            energy_meter.measure(world.model(), LETTERS, references=["A"])

        def test_empty(energy_meter, world):
            energy_meter.measure(world.model(), [])

        def test_a_string(energy_meter, world):
            energy_meter.measure(world.model(), "abcd")

        def test_nan_score(energy_meter, world):
            energy_meter.measure(world.model(), LETTERS, references=LETTERS, score=lambda answer, right: float("nan"))

        def test_no_score(energy_meter, world):
            energy_meter.measure(world.model(), LETTERS, references=LETTERS, score=lambda answer, right: "good")

        def test_score_name(energy_meter, world):
            energy_meter.measure(world.model(), LETTERS, references=LETTERS, score="f1")

        def test_batch_size(energy_meter, world):
            energy_meter.measure(world.model(), LETTERS, batch_size=0)

        def test_model(energy_meter):
            energy_meter.measure("bert", LETTERS)

        def test_name(energy_meter, world):
            energy_meter.measure(world.model(), LETTERS, name="")

        @pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), "15", None])
        def test_seconds(energy_meter, world, seconds):
            energy_meter.explain(world.model(), LETTERS, seconds=seconds)

        def test_dimension(energy_meter, world):
            assert energy_meter.measure(world.model(), LETTERS, references=LETTERS).accuracy < "1 J"

        def test_good(energy_meter, world):
            energy_meter.measure(world.model(), LETTERS)
        """,
    )
    sentences = [
        "*SettingsError: The model returned 3 answers for 4 queries (queries 0 to 3). One answer per query, in order.",
        "*SettingsError: The model returned a NoneType for query 0. It is called with a batch and must return one answer per query*",
        "*SettingsError: 1 references for 4 queries. One reference per query, in the same order.",
        "*SettingsError: The list of queries is empty. A measurement needs at least one query.",
        "*SettingsError: queries is a str. Pass a list with one entry per query.",
        "*SettingsError: The score of query 0 is nan. A score must be a finite number or a bool.",
        "*SettingsError: The score of query 0 is 'good', not a number. A score must be a number or a bool.",
        "*SettingsError: score is 'f1'. Use 'accuracy' or a function*",
        "*SettingsError: batch_size is 0. It must be a whole number of at least 1.",
        "*SettingsError: The model is a str, which cannot be called. Pass a function of a batch.",
        "*SettingsError: name is ''. Name a run with a text, such as name='prefill'.",
        "*SettingsError: seconds is 0. Write for how long the model may be looked at, such as 15.",
        "*SettingsError: '1 J' is an energy, not a ratio.*",
    ]
    unmetered = project.run()
    unmetered.assert_outcomes(passed=2, failed=18)
    unmetered.stdout.fnmatch_lines(["*RuntimeError: no weights", *sentences])
    metered = project.measure("--energy-json=energy.json")
    metered.assert_outcomes(passed=1, failed=19)
    assert metered.ret == 1
    metered.stdout.fnmatch_lines(["*RuntimeError: out of memory", "*RuntimeError: no weights", *sentences])
    assert [run["test"] for run in project.report()["runs"] if run["blocks"]] == ["test_it.py::test_dimension", "test_it.py::test_good"]


def test_a_generator_of_queries_is_collected_and_noted(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        def test_it(energy_meter, world):
            run = energy_meter.measure(world.model(), (letter for letter in "abcd"), references=iter("ABCD"))
            assert run.outputs == list("ABCD")
            assert run.accuracy == 1
        """,
    )
    project.run().assert_outcomes(passed=1)
    result = project.measure()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["note: test_it: queries came from a generator: all 4 were collected before measuring"])


def test_the_fixture_asked_for_at_run_time_is_refused_with_the_two_ways_that_work(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import pytest

        def test_it(request, world):
            request.getfixturevalue("energy_meter").measure(world.model(), ["a"])

        @pytest.mark.energy_budget(energy_per_query="1 J")
        def test_marked(request, world):
            request.getfixturevalue("energy_meter").measure(world.model(), ["a"])
        """,
    )
    for result in (project.run(), project.measure()):
        result.assert_outcomes(failed=1, passed=1)
        text = said(result)
        assert "test_it.py::test_it: energy_meter was asked for at run time (getfixturevalue), so its budgets were not read." in text
        assert "Name it in the test's arguments, or mark the test with @pytest.mark.usefixtures('energy_meter')." in text


# --- options ----------------------------------------------------------------------------------------------------------


def test_a_limit_given_to_the_flag_is_told_where_a_limit_goes(project: Project) -> None:
    project.write("test_it.py", PLAIN)
    remedy = "A limit goes into the marker, @pytest.mark.energy_budget(energy_per_query='0.8J')"
    refused(project.run("--energy-budget", "0.8J"), "--energy-budget takes no value, but '0.8J' follows it.", remedy, "--energy-total")
    refused(project.run("--energy-budget", "0.8 J"), "--energy-budget takes no value, but '0.8 J' follows it.")


def test_a_limit_given_to_the_flag_with_an_equals_sign_is_a_usage_error_too(project: Project) -> None:
    project.write("test_it.py", PLAIN)
    result = project.run("--energy-budget=0.8J")
    assert result.ret == USAGE
    assert "--energy-budget" in said(result)


def test_the_flag_never_swallows_a_path(project: Project) -> None:
    project.write("test_it.py", PLAIN)
    project.write("test_other.py", "def test_other(): raise AssertionError")
    project.run("--energy-budget", "test_it.py").assert_outcomes(passed=1)
    folder = project.path / "7"
    folder.mkdir()
    project.write("7/test_seven.py", PLAIN)
    project.run("--energy-budget", "7").assert_outcomes(passed=1)


@pytest.mark.parametrize(
    "option",
    [
        "--energy-total=1 J",
        "--energy-meter=world",
        "--energy-save=main",
        "--energy-baseline=main",
        "--energy-max-seconds=1",
        "--energy-tolerance=1%",
    ],
)
def test_an_option_that_means_nothing_without_the_flag_is_an_error_alone(project: Project, option: str) -> None:
    project.write("test_it.py", PLAIN)
    refused(project.run(option), f"{option.partition('=')[0]} does nothing without --energy-budget: add it.")


def test_such_an_option_is_fine_where_the_file_switches_measuring_on(project: Project) -> None:
    project.toml("budget = true")
    project.write("test_it.py", PLAIN)
    result = project.run("--energy-max-seconds=10")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*energy: world gpu:0*"])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--energy-total=5"], "--energy-total: '5' has no unit."),
        (["--energy-total=-5 J"], "--energy-total: '-5 J' is not greater than zero."),
        (["--energy-total=5 s"], "--energy-total: '5 s' is a time, not an energy."),
        (["--energy-max-seconds=0"], "--energy-max-seconds: 0.0 is not greater than zero."),
        (["--energy-max-seconds=nan"], "--energy-max-seconds: nan is not a finite number."),
        (["--energy-confidence=2"], "--energy-confidence: 2.0 is not between 0.5 and 1."),
        (["--energy-tolerance=-1%"], "--energy-tolerance: '-1%' is negative."),
        (["--energy-tolerance=1"], "--energy-tolerance: 1.0 may be 1 % or 100 %. Write it with its sign, such as '1 %'."),
        (["--energy-save=../up"], "--energy-save: '../up' cannot name a baseline."),
        (["--energy-baseline=a/b"], "--energy-baseline: 'a/b' cannot name a baseline."),
        (["--energy-meter="], "--energy-meter: "),
        (["--energy-json="], "--energy-json: '' is not a text."),
        (
            ["--energy-meter=nvmll"],
            "There is no meter 'nvmll'. Did you mean 'nvml'? There are: nvml, rapl, codecarbon, zeus, prometheus, dcgm, cputime, world",
        ),
        (["--energy-meter=world,wrld"], "There is no meter 'wrld'. Did you mean 'world'?"),
    ],
)
def test_an_option_with_a_value_that_cannot_be_is_a_usage_error_that_names_it(project: Project, options: list[str], sentence: str) -> None:
    project.write("test_it.py", PLAIN)
    refused(project.measure(*options), sentence)


@pytest.mark.parametrize(
    "option", ["--energy-enforce=maybe", "--energy-unmeasured=ignore", "--energy-inconclusive=skip", "--energy-modelled=no"]
)
def test_an_option_with_a_choice_that_is_none_is_a_usage_error(project: Project, option: str) -> None:
    project.write("test_it.py", PLAIN)
    result = project.measure(option)
    assert result.ret == USAGE
    assert "invalid choice" in said(result)


def test_only_and_skip_together_are_refused(project: Project) -> None:
    project.write("test_it.py", PLAIN)
    refused(project.run("--energy-only", "--energy-skip"), "--energy-only and --energy-skip leave no test to run: use one of them.")


def test_collect_only_measures_nothing_and_finds_nothing_wrong(project: Project) -> None:
    project.toml('tolerence = 1\n[tool.greencompute.budgets."test_gone.py::test_gone"]\nenergy_per_query = "1 JJ"')
    project.write("test_it.py", ONE_TEST.format(mark='@pytest.mark.energy_budget("x", energy_per_qury="1 JJ")'))
    project.monkeypatch.setenv("PYTEST_PLUGINS", "xdist.plugin", prepend=",")
    for args in (["--energy-budget"], ["--energy-budget", "-n", "2"], ["--energy-total=x"], ["--energy-budget-file=none.toml"], []):
        result = project.run("--collect-only", *args)
        assert result.ret == 0, said(result)
        result.stdout.fnmatch_lines(["*<Function test_it>*"])
        result.stdout.no_fnmatch_line("*energy:*")


def test_without_a_terminal_plugin_tests_are_still_judged(project: Project) -> None:
    project.write("test_it.py", ONE_TEST.format(mark='@pytest.mark.energy_budget(energy_per_query="0.1 J")'))
    result = project.run("-p", "no:terminal", "--energy-budget", "--energy-json=energy.json")
    assert result.ret == 1
    assert project.report()["runs"][0]["verdicts"][0]["verdict"] == "FAIL"
    assert project.run("-p", "no:terminal").ret == 0


def test_a_session_with_budgets_but_no_metered_test_says_that_nothing_was_measured(project: Project) -> None:
    project.write("test_it.py", "def test_plain(): pass")
    result = project.measure("--energy-json=energy.json")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*energy: nothing measured*", "no test uses energy_meter, so nothing was measured"])
    assert project.report()["runs"] == []


# --- the conftest hook ------------------------------------------------------------------------------------------------


def test_a_meter_hook_that_returns_no_mapping_or_takes_a_built_in_name_is_refused(project: Project) -> None:
    project.write("test_it.py", PLAIN)
    project.write("conftest.py", "def pytest_greencompute_meters():\n    return [3]\n")
    refused(project.run(), "pytest_greencompute_meters returned a list.")
    project.write("conftest.py", "from world import WorldMeter\ndef pytest_greencompute_meters():\n    return {'nvml': WorldMeter()}\n")
    refused(project.measure("--energy-meter=nvml"), "The meter 'nvml' is built in.")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(project: Project) -> None:
    project.write("test_it.py", PLAIN)
    secret: Path = project.write("secret.toml", "")
    secret.chmod(0)
    refused(project.run("--energy-budget-file=secret.toml"), "secret.toml cannot be read")
