"""@pytest.mark.energy_group: candidates in tests of their own, compared and judged in the last of them."""

from __future__ import annotations

import pytest

from .conftest import Project

GROUP = """
    import pytest

    QUERIES, UPPER = list("abcdefghij"), list("ABCDEFGHIJ")
    JOULES = {"large": 4.0, "small": 1.0, "tfidf": 0.1}

    def answer(name):
        return lambda query: query.upper() if name != "tfidf" or query < "f" else "?"

    @pytest.mark.energy_group("letters", ASKED)
    @pytest.mark.parametrize("name", list(JOULES))
    def test_letters(energy_meter, world, name):
        BODY
        energy_meter.measure(world.model(JOULES[name], answer=answer(name)), QUERIES, references=UPPER)
"""
ONE_MORE = "if name == 'tfidf': return energy_meter.measure(world.model(0.1), [*QUERIES, 'k'], references=[*UPPER, 'K']) and None"


def write(project: Project, asked: str, body: str = "pass", more: str = "") -> None:
    project.write("test_it.py", GROUP.replace("ASKED", asked).replace("BODY", body) + more)


def test_the_last_test_of_the_group_fails_where_the_configured_candidate_is_too_large(project: Project) -> None:
    write(project, "default='large', floor=0.9")
    result = project.measure("--energy-json", "energy.json")
    result.assert_outcomes(passed=2, failed=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "*test_letters[[]tfidf] *",
            "group letters: large uses 4.00 times [[]*] the energy per query of small (4.00 J against 1.00 J on gpu:0),"
            " for +0.0 points *: more than the margin of 20 %.",
            "group letters: 3 candidates on as many queries; accuracy at least 0.9; measured one after the other;"
            " times: the energy of small; agrees: with large",
            "  tfidf*0.500*under the floor",
            "  small*1.00 J*1 *right-sized",
            "  large*4.00 J*4.00 [[]*",
        ]
    )
    result.stdout.no_fnmatch_line("*was not judged*")
    runs = project.report()["runs"]
    rows = [run["candidate"] for run in runs if "candidate" in run]
    assert {row["candidate"]: row["right_sized"] for row in rows} == {"large": False, "small": True, "tfidf": False}
    assert {row["by_turns"] for row in rows} == {False}
    assert [run["metered"] for run in runs if run["test"].endswith("[tfidf]")] == [True, False, False]


@pytest.mark.parametrize(("asked", "passed"), [("default='small', floor=0.9", 3), ("default='large', margin='900%'", 2), ("floor=0.9", 3)])
def test_within_the_margin_or_without_a_default_the_group_is_green(project: Project, asked: str, passed: int) -> None:
    write(project, asked)
    result = project.measure("--energy-unmeasured=fail")
    result.assert_outcomes(passed=passed, failed=3 - passed)
    result.stdout.fnmatch_lines(["group letters: 3 candidates*"])


def test_the_last_test_is_the_last_that_runs_whatever_the_order(project: Project) -> None:
    project.write(
        "conftest.py",
        (project.path / "conftest.py").read_text() + "\ndef pytest_collection_modifyitems(items):\n    items.reverse()\n",
    )
    write(project, "default='large', floor=0.9")
    result = project.measure("-v")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*test_letters[[]tfidf] PASSED*", "*test_letters[[]small] PASSED*", "*test_letters[[]large] FAILED*"])


def test_tests_that_are_not_parametrized_are_candidates_by_their_names(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import pytest

        group = pytest.mark.energy_group("letters", default="test_large")

        @group
        def test_large(energy_meter, world):
            energy_meter.measure(world.model(4.0), list("abcd"))

        @group
        def test_small(energy_meter, world):
            energy_meter.measure(world.model(1.0), list("abcd"))
        """,
    )
    result = project.measure()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["group letters: test_large uses 4.00 times *"])


def test_two_groups_are_two_comparisons(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import pytest

        @pytest.mark.parametrize("joules", [pytest.param(4.0, id="large"), pytest.param(1.0, id="small")])
        @pytest.mark.energy_group("one", default="large")
        def test_one(energy_meter, world, joules):
            energy_meter.measure(world.model(joules), list("abcd"))

        @pytest.mark.parametrize("joules", [pytest.param(4.0, id="large"), pytest.param(1.0, id="small")])
        @pytest.mark.energy_group("two", default="small")
        def test_two(energy_meter, world, joules):
            energy_meter.measure(world.model(joules), list("abcd"))
        """,
    )
    result = project.measure()
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["group one: 2 candidates*", "group two: 2 candidates*"])


# --- a part of the group ----------------------------------------------------------------------------------------------


def test_a_failure_is_certain_whichever_others_are_selected(project: Project) -> None:
    write(project, "default='large'")
    result = project.measure("-k", "large or small")
    result.assert_outcomes(passed=1, failed=1, deselected=1)
    result.stdout.fnmatch_lines(["group letters: large uses 4.00 times *", "  tfidf *its test was not selected"])


def test_a_part_of_the_group_cannot_say_that_the_configured_one_is_right(project: Project) -> None:
    write(project, "default='small'")
    result = project.measure("-k", "large or small")
    result.assert_outcomes(passed=2, deselected=1)
    result.stdout.fnmatch_lines(
        [
            "warning: group letters: whether small is right-sized is not known, since there is no figure of tfidf"
            " (its test was not selected)."
        ]
    )
    project.measure("-k", "large or small", "--energy-unmeasured=fail").assert_outcomes(passed=1, failed=1, deselected=1)


def test_without_the_configured_one_nothing_is_judged_and_a_line_says_so(project: Project) -> None:
    write(project, "default='large'")
    result = project.measure("-k", "small or tfidf", "--energy-unmeasured=fail")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["group 'letters' was not judged: the test of 'large', its configured candidate, was not selected"])


def test_a_session_without_any_of_its_tests_says_nothing_of_the_group(project: Project) -> None:
    write(
        project,
        "default='large'",
        more="\n    def test_other(energy_meter, world):\n        energy_meter.measure(world.model(), [1], score=len)\n",
    )
    result = project.measure("-k", "other", "--energy-unmeasured=fail")
    result.stdout.no_fnmatch_line("*letters*")


def test_one_test_alone_by_its_node_id_is_measured_and_the_group_is_not_judged(project: Project) -> None:
    write(project, "default='large'")
    result = project.measure("test_it.py::test_letters[small]")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["group 'letters' was not judged: only one of its tests was collected"])
    result = project.measure("test_it.py::test_letters[large]")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["group 'letters' was not judged: only one of its tests was collected"])


# --- members that break -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("assert name != 'tfidf'", "its test failed"),
        ("name == 'tfidf' and pytest.skip('no words')", "its test did not run"),
        ("if name == 'tfidf': return", "its test measured nothing"),
        (ONE_MORE, "it was given 11 queries, and others 10"),
    ],
)
def test_a_member_that_broke_leaves_the_question_open(project: Project, body: str, why: str) -> None:
    project.write(
        "conftest.py",
        (project.path / "conftest.py").read_text()
        + "\ndef pytest_collection_modifyitems(items):\n    items.sort(key=lambda item: 'large' in item.name)\n",
    )
    write(project, "default='large', margin='900%'", body)
    result = project.measure()
    result.stdout.fnmatch_lines(
        [f"warning: group letters: whether large is right-sized is not known, since there is no figure of tfidf ({why})."]
    )
    assert project.measure("--energy-unmeasured=fail").ret == 1


@pytest.mark.parametrize(
    "break_it",
    [
        "@pytest.fixture(autouse=True)\n    def loaded(name):\n        assert name != 'tfidf'\n",
        "@pytest.fixture(autouse=True)\n    def loaded(name):\n        name == 'tfidf' and pytest.skip('no words')\n",
    ],
    ids=["fails", "skips"],
)
def test_a_last_test_whose_setup_breaks_leaves_the_group_unjudged_and_the_session_says_so(project: Project, break_it: str) -> None:
    write(project, "default='large'", more=f"\n    {break_it}")
    result = project.measure()
    result.stdout.fnmatch_lines(["group 'letters' was not judged: its last test did not run"])
    result = project.measure("--energy-unmeasured=fail")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["group 'letters' was not judged: its last test did not run"])


def test_a_last_test_that_skips_before_it_measures_is_said_too(project: Project) -> None:
    write(project, "default='large'", "name == 'tfidf' and pytest.skip('no words')")
    result = project.measure("--energy-unmeasured=fail")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["group 'letters' was not judged: its last test did not run"])
    result = project.measure("--energy-unmeasured=fail", "--energy-enforce=warn")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["group 'letters' was not judged: its last test did not run"])


# --- without --energy-budget ------------------------------------------------------------------------------------------


def test_without_the_option_nothing_is_compared(project: Project) -> None:
    write(project, "default='large', floor=0.9")
    result = project.run("--energy-json", "energy.json")
    result.assert_outcomes(passed=3)
    result.stdout.no_fnmatch_line("*group*")
    assert all("candidate" not in run for run in project.report()["runs"])


def test_the_last_failures_alone_are_run_again_and_the_group_is_not_judged(project: Project) -> None:
    write(project, "default='large'", "assert name != 'small'")
    lf = ("-p", "cacheprovider")
    project.pytester.runpytest_inprocess("-p", "no:hypothesispytest", "--energy-budget", *lf).assert_outcomes(passed=1, failed=2)
    write(project, "default='large'")
    result = project.pytester.runpytest_inprocess("-p", "no:hypothesispytest", "--energy-budget", "--lf", *lf)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["group 'letters' was not judged: no candidate 'large' was collected"])


# --- misuse -----------------------------------------------------------------------------------------------------------


BAD = [
    ("energy_group", "energy_group takes the group's name. Write it like energy_group('sentiment')."),
    ("energy_group()", "energy_group takes the group's name."),
    ("energy_group('a', 'b')", "energy_group takes the group's name."),
    ("energy_group(3)", "energy_group takes the group's name."),
    ("energy_group('a', defualt='x')", "'defualt' is not a setting of energy_group. Did you mean 'default'?"),
    ("energy_group('a', default=3)", "default is 3. Name the configured candidate by its parameter's id, or its test's name."),
    ("energy_group('a', margin=1)", "1 may be 1 % or 100 %. Write it with its sign"),
    ("energy_group('a', margin='-5%')", "margin is '-5%'. Write a share that is not negative"),
    ("energy_group('a', floor='40 ms')", "'40 ms' is a time, not a"),
    ("energy_group('a', latency_p95='0 ms')", "'0 ms' is not greater than zero."),
]


def test_markers_that_make_no_sense_are_errors_of_collection_with_a_remedy(project: Project) -> None:
    for number, (marker, _) in enumerate(BAD):
        project.write(f"test_{number}.py", f"import pytest\n\n@pytest.mark.{marker}\ndef test_it(energy_meter):\n    pass\n")
    result = project.measure()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    for number, (_, says) in enumerate(BAD):
        result.stderr.fnmatch_lines_random(f"*the marker at test_{number}.py:3: {says}*")


@pytest.mark.parametrize(("default", "hint"), [("lrage", "Did you mean 'large'?"), ("xyz", "Known: large, small, tfidf.")])
def test_a_configured_candidate_that_does_not_exist_is_an_error_of_collection(project: Project, default: str, hint: str) -> None:
    write(project, f"default={default!r}")
    result = project.measure()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*energy_group 'letters' has no candidate {default!r}. {hint}*"])


def test_members_that_ask_for_different_things_or_have_one_name_are_refused(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import pytest

        @pytest.mark.energy_group("a", margin="20%")
        @pytest.mark.parametrize("name", ["large"])
        def test_one(energy_meter, name):
            pass

        @pytest.mark.energy_group("a", margin="30%")
        @pytest.mark.parametrize("name", ["small"])
        def test_two(energy_meter, name):
            pass

        @pytest.mark.energy_group("a", margin="20%")
        @pytest.mark.parametrize("name", ["large"])
        def test_three(energy_meter, name):
            pass
        """,
    )
    result = project.measure()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            "*the marker at test_it.py:*: energy_group 'a' asks for other things than in another test. Write the same * (*test_two*",
            "*energy_group 'a' has a candidate 'large' already. Give the parameters ids of their own. (test_it.py::test_three*",
        ]
    )


def test_a_latency_that_the_group_limits_is_bounded_by_a_whole_pass(project: Project) -> None:
    write(project, "default='large', floor=0.9, margin='200%', latency_p99='40 ms'")
    project.measure("--energy-json", "energy.json").assert_outcomes(passed=2, failed=1)
    runs = [run for run in project.report()["runs"] if run["metered"]]
    assert [len(run["raw"]["latencies"]) >= 528 for run in runs] == [True] * 3


@pytest.mark.parametrize("body", ["pass", "assert False", "pytest.skip('not today')"])
def test_the_marks_of_another_candidate_do_not_swallow_the_verdict(project: Project, body: str) -> None:
    write(project, "default='large', floor=0.9")
    text = (project.path / "test_it.py").read_text(encoding="utf-8")
    last = f"    if name == 'tfidf': {body}\n"
    marked = text.replace("list(JOULES))", "['large', 'small', pytest.param('tfidf', marks=pytest.mark.xfail)])").replace(
        "    pass\n", last
    )
    project.write("test_it.py", marked)
    result = project.measure("--energy-unmeasured=warn")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["group letters: large uses 4.00 times [[]*] the energy per query of small *more than the margin of 20 %."])


def test_a_mark_on_the_configured_candidates_own_test_keeps_its_meaning(project: Project) -> None:
    write(project, "default='large', floor=0.9")
    text = (project.path / "test_it.py").read_text(encoding="utf-8")
    project.write("test_it.py", text.replace("list(JOULES))", "['small', pytest.param('large', marks=pytest.mark.xfail)])"))
    result = project.measure()
    result.assert_outcomes(passed=1, xfailed=1)
    assert result.ret == 0


@pytest.mark.parametrize(("asked", "option"), [("default='large', floor=0.9", ()), ("floor=0.9", ("--energy-budget",))])
def test_a_floor_that_nobody_reaches_is_red_without_a_meter_and_without_a_default(
    project: Project, asked: str, option: tuple[str, ...]
) -> None:
    write(project, asked)
    text = (project.path / "test_it.py").read_text(encoding="utf-8")
    project.write("test_it.py", text.replace("query.upper() if", "'?' if"))
    result = project.run(*option)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*group letters: *floor of 0.9*"])


@pytest.mark.parametrize("asked", ["default='large', floor=0.9, latency_p99='0.1 ms'", "latency_p99='0.1 ms'"])
def test_a_limit_that_nobody_meets_is_red_with_and_without_a_default(project: Project, asked: str) -> None:
    write(project, asked)
    result = project.measure()
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["group letters: *No candidate meets the limit of 0.1 ms of latency_p99; the nearest is *"])


def test_of_several_named_runs_none_is_taken_for_the_candidate(project: Project) -> None:
    write(project, "default='large'", body="energy_meter.measure(world.model(0.1), QUERIES, name='warm')")
    text = (project.path / "test_it.py").read_text(encoding="utf-8")
    project.write("test_it.py", text.replace("references=UPPER)", "references=UPPER, name='main')"))
    result = project.measure("--energy-unmeasured=fail")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*its test measured warm and main: leave the name of the one that is to be compared out*"])


def test_a_window_is_no_candidate_and_a_test_without_the_fixture_is_an_error(project: Project) -> None:
    write(project, "default='large'", body="with energy_meter.window(): world.clock.sleep(2)\n        return")
    project.measure().stdout.fnmatch_lines(["*group 'letters' was not judged: *(large: a window cannot be a candidate: use measure())"])
    forgotten = "\n    @pytest.mark.energy_group('letters', default='large')\n    def test_forgotten():\n        pass\n"
    write(project, "default='large'", more=forgotten)
    result = project.measure()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*test_it.py::test_forgotten carries energy_group but does not use energy_meter.*"])


def test_the_groups_verdict_is_never_laid_on_a_run_that_bears_the_name_of_another_candidate(project: Project) -> None:
    more = "if name == 'tfidf': energy_meter.measure(world.model(1.0), QUERIES, name='large')"
    write(project, "default='large', floor=0.9", body=more)
    project.measure("--energy-json=energy.json")
    runs = project.report()["runs"]
    assert [run["candidate"]["candidate"] for run in runs if run["name"] == "large" and "candidate" in run] == []
    (judged,) = [run for run in runs if any(verdict["kind"] == "comparison" for verdict in run["verdicts"])]
    assert judged["name"] == "group letters: large"


def test_other_queries_are_not_compared_and_leave_the_question_open(project: Project) -> None:
    write(project, "default='small', floor=0.9")
    text = (project.path / "test_it.py").read_text(encoding="utf-8")
    others = text.replace("QUERIES, references", "[*QUERIES[:9], 'z' if name == 'large' else 'j'], references").replace(
        "'small', floor", "'small', floor"
    )
    project.write(
        "test_it.py", others.replace("answer=answer(name)), [", "answer=lambda query: 'J' if query == 'z' else query.upper()), [")
    )
    result = project.measure("--energy-unmeasured=fail")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        ["group letters (small) has no energy_per_query to judge: it was given other queries than the first: put what*"]
    )
