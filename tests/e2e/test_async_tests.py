"""Asynchronous tests (pytest-asyncio, anyio) that measure as any other test does."""

from __future__ import annotations

import pytest

from .beside import Beside
from .conftest import Project

PLUGINS = ("anyio.pytest_plugin",)

TESTS = """
    import asyncio
    import pytest

    @pytest.fixture
    async def joules(request):
        await {sleep}(0)
        yield 0.5
        await {sleep}(0)

    {mark}
    class TestIt:
        @pytest.mark.energy_budget(energy_per_query="0.6 J")
        async def test_green(self, energy_meter, world, joules):
            await {sleep}(0)
            run = energy_meter.measure(world.model(joules), list("abcd"))
            assert run.outputs == list("ABCD")

        @pytest.mark.energy_budget(energy_per_query="0.4 J")
        async def test_red(self, energy_meter, world, joules):
            energy_meter.measure(world.model(joules), list("abcd"))
            await {sleep}(0)

        @pytest.mark.energy_budget(energy_per_query="0.4 J")
        async def test_broken(self, energy_meter, world, joules):
            energy_meter.measure(world.model(joules), list("abcd"))
            await {sleep}(0)
            raise RuntimeError("own")
"""


def check(result: pytest.RunResult, times: int = 1) -> None:
    result.assert_outcomes(passed=times, failed=2 * times)
    assert sum("over its budget of 0.4 J" in line for line in result.outlines if line.startswith("FAILED")) == times
    result.stdout.fnmatch_lines(["FAILED *test_broken* - RuntimeError: own"])


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_budgets_of_tests_of_pytest_asyncio_are_judged(project: Project, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    beside = Beside(project, monkeypatch, "pytest_asyncio.plugin")
    text = TESTS.format(sleep="asyncio.sleep", mark="@pytest.mark.asyncio(loop_scope='class')")
    fixture = "import pytest_asyncio\n\n    @pytest_asyncio.fixture(loop_scope='class')"
    project.write("test_it.py", text.replace("@pytest.fixture", fixture))
    check(beside.measure(f"--asyncio-mode={mode}", "-o", "asyncio_default_fixture_loop_scope=function", "-rf"))


def test_budgets_of_tests_of_anyio_are_judged_under_each_backend(project: Project) -> None:
    pytest.importorskip("trio")
    backends = "\n    @pytest.fixture(params=['asyncio', 'trio'])\n    def anyio_backend(request):\n        return request.param\n"
    text = TESTS.format(sleep="anyio.sleep", mark="@pytest.mark.anyio").replace("import asyncio", "import anyio")
    project.write("test_it.py", text + backends)
    check(project.measure("-rf"), times=2)
