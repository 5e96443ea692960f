"""``await energy_meter.ameasure(...)`` in async tests: measured, judged and refused as ``measure`` is."""

from __future__ import annotations

import pytest

from tests import neighbours
from tests.repositories import commit_all

from .conftest import Project

PLUGINS = ("anyio.pytest_plugin",)

# anyio's own pytest plugin runs these; it is loaded wherever anyio is installed.
ASYNC = """
    import anyio
    import pytest

    QUERIES = ["a", "b", "c", "d"]

    @pytest.fixture
    def anyio_backend():
        return "asyncio"

    @pytest.fixture
    def model(world):
        answer = world.model(joules=0.5)

        async def ask(batch):
            await anyio.lowlevel.checkpoint()  # gives the event loop a turn, as a client that waits for its server does
            return answer(batch)

        return ask
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_async_model_is_measured_and_its_budgets_are_judged(project: Project, backend: str) -> None:
    project.write(
        "test_it.py",
        ASYNC.replace('"asyncio"', f'"{backend}"')
        + """
    @pytest.mark.anyio
    @pytest.mark.energy_budget(energy_per_query="0.6 J", accuracy=1.0, latency_p95="20 ms")
    async def test_lean(energy_meter, model):
        run = await energy_meter.ameasure(model, QUERIES, references=["A", "B", "C", "D"], batch_size=2)
        assert run.outputs == ["A", "B", "C", "D"]
        assert run.energy_per_query < "0.51 J"

    @pytest.mark.anyio
    @pytest.mark.energy_budget(energy_per_query="0.4 J")
    async def test_wasteful(energy_meter, model):
        await energy_meter.ameasure(model, QUERIES)
    """,
    )
    result = project.measure("--energy-json=energy.json")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["test_wasteful used 0.5000 J per query [[]*over its budget of 0.4 J*"])
    words = [[verdict["verdict"] for verdict in run["verdicts"]] for run in project.report()["runs"]]
    assert words == [["PASS", "PASS", "PASS"], ["FAIL"]]


def test_without_measuring_each_query_is_awaited_once(project: Project) -> None:
    project.write(
        "test_it.py",
        ASYNC
        + """
    @pytest.mark.anyio
    @pytest.mark.energy_budget(accuracy=0.9)
    async def test_right(energy_meter, model, world):
        run = await energy_meter.ameasure(model, QUERIES, references=["A", "B", "C", "D"])
        assert world.calls == 4
        assert run.energy_per_query < "1 J"  # skips the rest
        raise AssertionError("an energy was given that nobody measured")
    """,
    )
    result = project.run("-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*energy_per_query was not measured: run pytest with --energy-budget*"])


def test_an_async_model_given_to_measure_is_refused_with_the_remedy(project: Project) -> None:
    project.write(
        "test_it.py",
        ASYNC
        + """
    def test_forgot(energy_meter, model):
        energy_meter.measure(model, QUERIES)
    """,
    )
    result = project.measure("-W", "error")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*The model returned a coroutine for query 0, which is to be awaited*await energy_meter.ameasure*"])


def test_a_measurement_that_is_not_awaited_leaves_the_budget_unmeasured(project: Project) -> None:
    project.write(
        "test_it.py",
        ASYNC
        + """
    @pytest.mark.anyio
    @pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
    @pytest.mark.energy_budget(energy_per_query="1 J")
    async def test_forgot(energy_meter, model):
        energy_meter.ameasure(model, QUERIES)
    """,
    )
    result = project.measure("--energy-unmeasured=fail")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*the test measured nothing*"])


def test_what_an_async_model_raises_comes_out_as_it_is_even_in_the_middle(project: Project) -> None:
    project.write(
        "test_it.py",
        ASYNC
        + """
    @pytest.mark.anyio
    async def test_breaks(energy_meter, world):
        answer, calls = world.model(), 0

        async def ask(batch):
            nonlocal calls
            calls += 1
            if calls > 100:
                raise ConnectionResetError("the server went away")
            return answer(batch)

        with pytest.raises(ConnectionResetError, match="went away"):
            await energy_meter.ameasure(ask, QUERIES)
        run = await energy_meter.ameasure(answer, QUERIES, name="again")  # the meters are free, and a plain model will do
        assert run.energy_per_query == 0.5
    """,
    )
    project.measure().assert_outcomes(passed=1)


def test_an_async_model_is_compared_with_another_commit(project: Project) -> None:
    project.write(
        "test_it.py",
        ASYNC.replace("joules=0.5", "joules=JOULES").replace("import anyio", "import anyio\n    from lean import JOULES")
        + """
    @pytest.mark.anyio
    async def test_cheaper(energy_meter, model):
        await energy_meter.ameasure(model, QUERIES)
    """,
    )
    project.write("lean.py", "JOULES = 0.5\n")
    commit_all(project.path)
    project.write("lean.py", "JOULES = 0.4\n")
    result = project.run_apart("--energy-budget", "--energy-base-ref=HEAD", "--energy-max-seconds=10", "--energy-json=energy.json")
    result.assert_outcomes(passed=1)
    (run,) = project.report()["runs"]
    (verdict,) = [each for each in run["verdicts"] if each["metric"] == "energy_per_query"]
    assert verdict["verdict"] == "PASS"
    assert "-20.0 %" in verdict["reason"]


def test_it_works_under_pytest_asyncio(project: Project) -> None:
    for name, value in neighbours.environment("pytest_asyncio").items():
        project.monkeypatch.setenv(name, value)
    project.write(
        "test_it.py",
        """
        import asyncio
        import pytest

        @pytest.mark.asyncio
        @pytest.mark.energy_budget(energy_per_query="0.4 J", accuracy=1.0)
        async def test_wasteful(energy_meter, world):
            answer = world.model(joules=0.5, seconds=0.002)

            async def ask(query):
                await asyncio.sleep(0)
                return answer([query])[0]

            async def all_at_once(batch):
                return await asyncio.gather(*map(ask, batch))

            run = await energy_meter.ameasure(all_at_once, ["a", "b", "c", "d"], references=["A", "B", "C", "D"], batch_size=4)
            assert run.outputs == ["A", "B", "C", "D"]
        """,
    )
    plugins = ("-p", "pytest_greencompute.plugin", "-p", "pytest_asyncio.plugin")
    result = project.run_apart(*plugins, "--energy-budget", "--energy-max-seconds=1")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["test_wasteful used 0.5000 J per query [[]*over its budget of 0.4 J*"])
