"""A session that is stopped before its end says which tests were not judged, and keeps nothing that only a whole session may keep."""

from __future__ import annotations

import pytest

from .conftest import Project
from .test_bad_input import said

TESTS = """
    import pytest

    def test_first(energy_meter, world):
        energy_meter.measure(world.model(0.5), list("abcd"))

    def test_stop(energy_meter, world, request):
        energy_meter.measure(world.model(0.5), list("abcd"))
        {stop}

    @pytest.mark.energy_budget(energy_per_query="1 mJ")
    def test_last(energy_meter, world):
        energy_meter.measure(world.model(0.5), list("abcd"))
"""
STOPS = {
    "exit 0": ("pytest.exit('so', returncode=0)", (), 0, ["test_stop", "test_last"]),
    "exit 5": ("pytest.exit('so', returncode=5)", (), 5, ["test_stop", "test_last"]),
    "exit": ("pytest.exit('so')", (), 2, ["test_stop", "test_last"]),
    # Of a KeyboardInterrupt itself pytester takes it that it is meant.
    "Ctrl-C": ("raise type('Pressed', (KeyboardInterrupt,), {})", (), 2, ["test_stop", "test_last"]),
    "shouldstop": ("request.session.shouldstop = 'so'", (), 2, ["test_last"]),
    "shouldfail": ("request.session.shouldfail = 'so'", (), 1, ["test_last"]),
    "-x": ("assert False", ("-x",), 1, ["test_last"]),
    "--maxfail": ("assert False", ("--maxfail=1",), 1, ["test_last"]),
}


def sentence(left: list[str]) -> str:
    were = "1 test that uses energy_meter was" if len(left) == 1 else f"{len(left)} tests that use energy_meter were"
    return f"the session was stopped: {were} not judged ({', '.join(f'test_it.py::{each}' for each in left)})"


@pytest.mark.parametrize("how", STOPS)
def test_what_was_not_judged_is_said_and_no_part_of_a_baseline_is_saved(project: Project, how: str) -> None:
    stop, options, status, left = STOPS[how]
    project.write("test_it.py", TESTS.format(stop=stop))
    result = project.measure("--energy-save=main", "--energy-json=energy.json", *options)
    assert result.ret == status
    assert sentence(left) in said(result)
    assert "baseline 'main' was not saved: the session did not end by itself" in said(result)
    assert not (project.path / ".greencompute").exists()
    assert "test_it.py::test_first" in [run["test"] for run in project.report()["runs"]]


@pytest.mark.parametrize("returncode", [0, 5])
def test_where_a_budget_without_a_figure_is_red_so_is_a_session_that_was_stopped(project: Project, returncode: int) -> None:
    project.write("test_it.py", TESTS.format(stop=f"pytest.exit('so', returncode={returncode})"))
    assert project.measure("--energy-strict").ret == 1
    project.write("test_it.py", TESTS.replace("def test_first", "def test_z").format(stop="pytest.exit('so', returncode=0)"))
    result = project.measure("--energy-strict", "-k", "stop")  # nothing at all was judged
    assert result.ret == 1
    assert "the session was stopped: 1 test" in said(result)


@pytest.mark.parametrize("hook", ["pytest_collection_modifyitems", "pytest_collection"])
def test_a_session_that_ends_well_before_its_tests_were_collected_has_judged_nothing(project: Project, hook: str) -> None:
    project.write("test_it.py", TESTS.format(stop="pass"))
    conftest = (project.path / "conftest.py").read_text(encoding="utf-8")
    project.write("conftest.py", f"{conftest}\ndef {hook}():\n    import pytest\n    pytest.exit('so', returncode=0)\n")
    sentence = "energy: the session was stopped before its tests were collected: nothing was judged"
    for options, status in ((["--energy-strict"], 1), ([], 0)):
        result = project.measure(*options)
        assert result.ret == status
        assert sentence in said(result)
    plain = project.run()
    assert plain.ret == 0
    assert sentence not in said(plain)


def test_no_limit_is_updated_by_a_part_of_a_session(project: Project) -> None:
    project.toml('[tool.greencompute.budgets."test_it.py::test_first"]\nenergy_per_query = "800 mJ"\n')
    before = (project.path / "pyproject.toml").read_text(encoding="utf-8")
    project.write("test_it.py", TESTS.format(stop="pytest.exit('so', returncode=0)"))
    result = project.measure("--energy-update=tighten")
    result.stdout.fnmatch_lines(["no limit was updated: the session did not end by itself"])
    assert (project.path / "pyproject.toml").read_text(encoding="utf-8") == before


def test_a_failure_of_the_last_test_stops_nothing(project: Project) -> None:
    project.write("test_it.py", TESTS.format(stop="pass"))
    result = project.measure("--energy-save=main", "-x")
    result.assert_outcomes(passed=2, failed=1)
    assert "the session was stopped" not in said(result)
    assert "saved 2 runs to baseline 'main'" in said(result)


def test_what_was_skipped_broke_in_its_setup_or_was_left_out_is_not_called_stopped(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import pytest

        @pytest.fixture
        def broken():
            raise RuntimeError("no GPU")

        def test_broken(broken, energy_meter):
            pass

        @pytest.mark.skip(reason="so")
        def test_skipped(energy_meter):
            pass

        def test_left_out(energy_meter):
            pass

        def test_it(energy_meter, world):
            energy_meter.measure(world.model(0.5), list("abcd"))
        """,
    )
    assert "the session was stopped" not in said(project.measure("-k", "not left_out"))
    assert "the session was stopped" not in said(project.measure("--setup-only"))
