"""Marks that come late: from conftest.py when all others have collected, from fixtures, and from the test's own body."""

from __future__ import annotations

import pytest

from .conftest import CONFTEST, Project
from .test_bad_input import refused, said

TEST = """
    import pytest

    def test_it(energy_meter, world):
        energy_meter.measure(world.model(0.5), list("abcd"))

    def test_plain():
        pass
"""
TOO_MUCH = 'pytest.mark.energy_budget(energy_per_query="0.1 J")'
OVER = "test_it used 0.5000 J *over its budget of 0.1 J (5.0 times). The limit is in the marker of the test at test_it.py:*"


@pytest.mark.parametrize("how", ["", "tryfirst=True", "trylast=True", "hookwrapper=True", "wrapper=True", "wrapper=True, tryfirst=True"])
@pytest.mark.parametrize("where", ["item", "item.parent", "item.session"])
def test_what_conftest_marks_while_tests_are_collected_is_judged(project: Project, how: str, where: str) -> None:
    wraps = "    answer = yield\n" if "wrapper" in how else ""
    project.write(
        "conftest.py",
        f"{CONFTEST}\n@pytest.hookimpl({how})\ndef pytest_collection_modifyitems(items):\n{wraps}"
        f"    for item in items:\n        if item.name == 'test_it':\n            {where}.add_marker({TOO_MUCH})\n"
        + ("    return answer\n" if how.startswith("wrapper") else ""),
    )
    project.write("test_it.py", TEST)
    result = project.measure("--energy-only")
    outermost = how == "wrapper=True, tryfirst=True"  # after us: what it marks is judged, but --energy-only has chosen
    result.assert_outcomes(failed=1, **({"deselected": 1} if where == "item" or outermost else {"passed": 1}))
    result.stdout.fnmatch_lines([OVER])


def test_a_mark_that_conftest_takes_away_is_gone_and_a_broken_one_is_told(project: Project) -> None:
    hook = "\ndef pytest_collection_modifyitems(items):\n    for item in items:\n"
    project.write("conftest.py", CONFTEST + hook + "        item.own_markers.clear()\n")
    project.write("test_it.py", TEST.replace("    def test_it", f"    @{TOO_MUCH}\n    def test_it"))
    project.measure().assert_outcomes(passed=2)
    project.write("conftest.py", CONFTEST + hook + "        item.add_marker(pytest.mark.energy_budget(energy='1 J'))\n")
    refused(project.measure(), "'energy' is not a budget key. Did you mean 'energy_per_query'?")


def test_a_group_that_conftest_makes_is_compared(project: Project) -> None:
    project.write("conftest.py", CONFTEST + "\ndef pytest_collection_modifyitems(items):\n    for item in items:\n"
        "        item.add_marker(pytest.mark.energy_group('g', default='large'))\n")  # fmt: skip
    project.write(
        "test_it.py",
        """
        import pytest

        @pytest.mark.parametrize("joules", [pytest.param(0.5, id="large"), pytest.param(0.1, id="small")])
        def test_it(energy_meter, world, joules):
            energy_meter.measure(world.model(joules), list("abcd"), references=list("ABCD"))
        """,
    )
    result = project.measure()
    assert result.ret == 1
    assert "group g" in said(result)


LATE = {
    "autouse fixture": ("@pytest.fixture(autouse=True)\n    def late(request):\n        MARK", "energy_meter, world", "BODY"),
    "named fixture": ("@pytest.fixture\n    def late(request):\n        MARK", "energy_meter, world, late", "BODY"),
    "fixture before": ("@pytest.fixture\n    def late(request):\n        MARK", "late, energy_meter, world", "BODY"),
    "body before": ("", "request, energy_meter, world", "MARK\n        BODY"),
    "body after": ("", "request, energy_meter, world", "BODY\n        MARK"),
}


def late(project: Project, when: str, mark: str, body: str = 'energy_meter.measure(world.model(0.5), list("abcd"))') -> None:
    fixture, arguments, lines = LATE[when]
    text = f"    import pytest\n\n    {fixture}\n\n    def test_it({arguments}):\n        {lines}\n"
    project.write("test_it.py", text.replace("MARK", mark).replace("BODY", body))


@pytest.mark.parametrize("call", ["request.applymarker", "request.node.add_marker"])
@pytest.mark.parametrize("when", LATE)
def test_what_a_fixture_or_the_body_marks_is_judged(project: Project, when: str, call: str) -> None:
    late(project, when, f"{call}({TOO_MUCH})")
    result = project.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([OVER])
    late(project, when, f"{call}({TOO_MUCH.replace('0.1', '0.9')})")
    project.measure().assert_outcomes(passed=1)


@pytest.mark.parametrize("when", LATE)
@pytest.mark.parametrize("asked", ['page_faults_per_query="0"', "max_seconds=3"])
def test_what_must_be_known_before_measuring_is_kept_or_refused(project: Project, when: str, asked: str) -> None:
    late(project, when, f"request.applymarker(pytest.mark.energy_budget({asked}))")
    result = project.measure("--energy-unmeasured=warn", "--energy-json=energy.json")
    if when == "body after":
        result.assert_outcomes(failed=1)
        name = asked.partition("=")[0]
        result.stdout.fnmatch_lines([f"test_it: the mark that sets {name} came too late: the run had been measured. Mark the test where*"])
    else:
        (run,) = project.report()["runs"]
        assert run["seconds"] < 10 if "max" in asked else "page_faults_per_query" in run["metrics"]


def test_a_late_mark_on_a_test_that_measures_nothing_is_told(project: Project) -> None:
    project.write(
        "test_it.py",
        f"""
        import pytest

        def test_it(request):
            request.applymarker({TOO_MUCH})
        """,
    )
    result = project.measure("--energy-strict")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["test_it.py::test_it was marked energy_budget while it ran, and does not use energy_meter: nothing*"])
    result = project.measure("--energy-strict", "--energy-enforce=warn")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["test_it.py::test_it was marked energy_budget while it ran, and does not use energy_meter: nothing*"])
    result = project.measure()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["test_it.py::test_it was marked energy_budget while it ran*"])
    project.run().assert_outcomes(passed=1)


def test_a_group_is_too_late_once_tests_run(project: Project) -> None:
    late(project, "body before", "request.applymarker(pytest.mark.energy_group('g'))")
    result = project.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["test_it.py::test_it was marked energy_group while it ran, when groups had been made.*"])
    result = project.measure("--energy-enforce=warn")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["test_it.py::test_it was marked energy_group while it ran, when groups had been made.*"])


def test_a_late_mark_that_does_not_parse_fails_its_test_with_the_sentence(project: Project) -> None:
    for when in LATE:
        late(project, when, "request.applymarker(pytest.mark.energy_budget(energy='1 J'))")
        result = project.measure()
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["*'energy' is not a budget key. Did you mean 'energy_per_query'?*"])


def test_accuracy_that_a_fixture_limits_is_judged_without_a_meter_too(project: Project) -> None:
    late(project, "autouse fixture", "request.applymarker(pytest.mark.energy_budget(accuracy=0.9))",
         'energy_meter.measure(world.model(0.5), list("abcd"), references=list("abcX"))')  # fmt: skip
    project.run().assert_outcomes(failed=1)


def test_a_latency_that_is_limited_after_measuring_is_judged_by_what_was_timed(project: Project) -> None:
    late(project, "body after", 'request.applymarker(pytest.mark.energy_budget(latency_p95="1 ms"))')
    result = project.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["test_it took 10.00 ms at the 95th percentile *over its budget of 1 ms (10 times)*"])


AFTER = {
    "fixture's end": "@pytest.fixture(autouse=True)\ndef late(request):\n    yield\n    request.applymarker(MARK)\n",
    "teardown": "def pytest_runtest_teardown(item):\n    item.add_marker(MARK)\n",
    "around the call": "@pytest.hookimpl(wrapper=True, tryfirst=True)\n"
    "def pytest_runtest_call(item):\n    yield\n    item.add_marker(MARK)\n",
}


@pytest.mark.parametrize("when", AFTER)
def test_a_mark_that_comes_when_the_test_has_been_judged_is_an_error(project: Project, when: str) -> None:
    project.write("conftest.py", f"{CONFTEST}\nMARK = {TOO_MUCH}\n\n{AFTER[when]}")
    project.write("test_it.py", TEST)
    result = project.measure()
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["test_it.py::test_it was marked energy_budget when it had been judged. Mark it in conftest.py while*"])
    result.stdout.fnmatch_lines(["test_it.py::test_plain was marked energy_budget while it ran*"])
    project.measure("--energy-strict").assert_outcomes(passed=2, errors=2)
    result = project.measure("--energy-strict", "--energy-enforce=warn")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["test_it.py::test_it was marked energy_budget when it had been judged. Mark it in conftest.py while*"])
    project.run().assert_outcomes(passed=2)


def test_a_mark_that_is_taken_off_again_after_the_test_is_no_late_one(project: Project) -> None:
    project.write(
        "conftest.py",
        f"{CONFTEST}\n@pytest.fixture(autouse=True)\ndef lent(request):\n    request.applymarker({TOO_MUCH.replace('0.1', '0.9')})\n"
        "    yield\n    request.node.own_markers.pop()\n",
    )
    project.write("test_it.py", TEST.replace("test_plain", "plain"))
    project.measure("--energy-strict").assert_outcomes(passed=1)


def test_a_late_mark_is_not_taken_for_one_that_says_the_same_elsewhere_in_the_file(project: Project) -> None:
    """A mark with the limit of another that has a name of its own, and stands on another test."""
    project.write(
        "test_it.py",
        f"""
        import pytest

        strict = {TOO_MUCH}

        def test_it(request, energy_meter, world):
            request.applymarker({TOO_MUCH})
            energy_meter.measure(world.model(0.5), list("abcd"))

        @strict
        def test_strict(energy_meter, world):
            energy_meter.measure(world.model(0.5), list("abcd"))
        """,
    )
    result = project.measure()
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines_random(["*in the marker of the test at test_it.py:5.", "*in the marker at test_it.py:3."])
