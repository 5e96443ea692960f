"""--energy-benchmarks: a suite of pytest-benchmark or pytest-codspeed, metered without a change to its tests."""

from __future__ import annotations

import json
import statistics
from typing import Any

import pytest

from tests import neighbours

from .conftest import Project

PLUGINS = ("pytest_benchmark.plugin",)

QUICK = ("--benchmark-min-rounds=1", "--benchmark-max-time=0.001", "--benchmark-warmup=off", "--benchmark-storage=file://stored")

SUITE = """
    import pytest

    @pytest.fixture
    def work(world):
        def run(joules=0.5):
            world.calls += 1
            world.clock.sleep(0.00001)
            world.energy_j += joules
            return "done"
        return run

    @pytest.mark.benchmark(group="lean")
    def test_lean(benchmark, work):
        assert benchmark(work, joules=0.2) == "done"

    @pytest.mark.benchmark(group="rich")
    @pytest.mark.parametrize("joules", [0.5, 1.5])
    def test_rich(benchmark, work, joules):
        benchmark(work, joules)
"""


def saved(project: Project, name: str = "bench.json") -> dict[str, Any]:
    """What pytest-benchmark saved of each test."""
    found = json.loads((project.path / name).read_text(encoding="utf-8"))["benchmarks"]
    return {each["name"]: each for each in found}


def test_energy_per_call_stands_in_the_table_and_in_the_saved_json_and_budgets_are_judged(project: Project) -> None:
    project.toml('[tool.greencompute.budgets."test_it.py::test_rich*"]\nenergy_per_query = "1 J"')
    project.write("test_it.py", SUITE)
    result = project.measure("--energy-benchmarks", "--benchmark-json=bench.json", "--energy-json=energy.json", *QUICK)
    result.assert_outcomes(passed=2, failed=1)
    said = result.stdout.str()
    assert "test_rich[1.5] used 1.500 J per query" in said
    assert "benchmark 'lean': 1 tests" in said
    result.stdout.fnmatch_lines(["test *energy/query *budget *verdict*", "test_lean *0.200 J*"])
    assert "p95" not in said  # a thousand calls make a batch, and how long those take together is nobody's latency
    found = saved(project)
    lean = found["test_lean"]
    assert lean["group"] == "lean"
    assert lean["extra_info"]["energy_per_call_j"] == pytest.approx(0.2)
    assert lean["extra_info"]["energy_per_call_low_j"] <= 0.2 <= lean["extra_info"]["energy_per_call_high_j"] + 1e-12
    assert (lean["extra_info"]["energy_domain"], lean["extra_info"]["energy_method"]) == ("gpu:0", "counter")
    assert lean["stats"]["rounds"] >= 1
    words = {run["test"].partition("::")[2]: [each["verdict"] for each in run["verdicts"]] for run in project.report()["runs"]}
    assert words == {"test_lean": [], "test_rich[0.5]": ["PASS"], "test_rich[1.5]": ["FAIL"]}


def test_its_own_comparison_works_beside(project: Project) -> None:
    project.write("test_it.py", SUITE)
    options = ("--energy-benchmarks", "--benchmark-autosave", *QUICK)
    project.measure(*options).assert_outcomes(passed=3)
    result = project.measure(*options, "--benchmark-compare")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["*test_lean (NOW)*"])


def test_without_the_option_a_benchmark_is_what_it_was(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        from pytest_benchmark.fixture import BenchmarkFixture

        def test_own(benchmark, energy_meter, world):
            assert type(benchmark) is BenchmarkFixture
            benchmark(len, "abc")
            energy_meter.measure(world.model(), ["a"])
        """,
    )
    result = project.measure("--benchmark-json=bench.json", *QUICK)
    result.assert_outcomes(passed=1)
    assert saved(project)["test_own"]["extra_info"] == {}


def test_it_does_nothing_without_measuring_and_says_so(project: Project) -> None:
    project.write("test_it.py", SUITE)
    result = project.run("--energy-benchmarks", *QUICK)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--energy-benchmarks does nothing without --energy-budget: add it.*"])
    project.toml("benchmarks = true")
    project.run(*QUICK).assert_outcomes(passed=3)


PEDANTIC = """
    import pytest

    def test_slow(benchmark, world):
        calls, prepared, cleaned = [], [], []

        def run(number):
            calls.append(number)
            world.clock.sleep(1.0)
            world.energy_j += 3.0
            return number

        def setup():
            prepared.append(1)
            world.energy_j += 0.5
            return (len(prepared),), {{}}

        answer = benchmark.pedantic(run, {arguments})
        assert len(calls) == {calls}
        assert answer == calls[-1]
"""


@pytest.mark.parametrize(
    ("arguments", "calls", "joules", "said"),
    [
        ("args=(7,), rounds=4, warmup_rounds=2", 6, 3.0, False),
        ("(7,), None, None, None, 4, 0, 3", 13, 3.0, False),
        ("setup=setup, rounds=5", 5, 3.5, True),
        ("args=(7,), setup=None, teardown=cleaned.append, rounds=5", 5, 3.0, True),
    ],
)
def test_pedantic_calls_nothing_more_often_than_it_was_told(
    project: Project, arguments: str, calls: int, joules: float, said: bool
) -> None:
    project.write("test_it.py", PEDANTIC.format(arguments=arguments, calls=calls))
    result = project.measure("--energy-benchmarks", "--benchmark-json=bench.json", *QUICK)
    result.assert_outcomes(passed=1)
    assert saved(project)["test_slow"]["extra_info"]["energy_per_call_j"] == pytest.approx(joules)
    assert ("is in the figure: it runs between the calls" in result.stdout.str()) is said


def test_where_timing_is_off_energy_is_measured_all_the_same(project: Project) -> None:
    project.write("test_it.py", SUITE + PEDANTIC.format(arguments="args=(7,), rounds=4", calls=1))
    project.toml('[tool.greencompute.budgets."test_it.py::*"]\nenergy_per_query = "0.4 J"')
    result = project.measure("--energy-benchmarks", "--benchmark-disable", "--energy-json=energy.json")
    result.assert_outcomes(passed=1, failed=3)
    figures = [run["metrics"]["energy_per_query"]["value"] for run in project.report()["runs"]]
    assert figures == pytest.approx([0.2, 0.5, 1.5, 3.0])


def test_skipped_benchmarks_are_named_and_pass_no_budget(project: Project) -> None:
    project.write("test_it.py", SUITE)
    result = project.measure("--energy-benchmarks", "--benchmark-skip")
    result.assert_outcomes(skipped=3)
    result.stdout.fnmatch_lines(["not measured: test_it.py::test_lean*"])


def test_what_the_function_raises_is_the_tests_own_failure(project: Project) -> None:
    project.write("test_it.py", "def test_breaks(benchmark):\n    benchmark(lambda: 1 / 0)\n")
    result = project.measure("--energy-benchmarks", *QUICK)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E*ZeroDivisionError*"])


def test_a_fixture_of_the_projects_own_over_it_is_metered_too(project: Project) -> None:
    project.write("test_it.py", SUITE + "\n    @pytest.fixture\n    def benchmark(benchmark):\n        return benchmark\n")
    project.measure("--energy-benchmarks", "--energy-json=energy.json", *QUICK).assert_outcomes(passed=3)
    assert len(project.report()["runs"]) == 3


def test_a_benchmark_is_compared_with_another_commit(project: Project) -> None:
    from tests.repositories import commit_all

    # Longer than what counts as short on one side, shorter on the other: both must be measured alike all the same.
    project.write("test_it.py", SUITE.replace("world.clock.sleep(0.00001)", "world.clock.sleep(0.0001)"))
    commit_all(project.path)
    project.write("test_it.py", SUITE.replace("joules=0.2", "joules=0.1").replace("world.clock.sleep(0.00001)", "sum(range(1000))"))
    result = project.run_apart(
        "--energy-budget",
        "--energy-benchmarks",
        "--energy-base-ref=HEAD",
        "--energy-max-seconds=2",
        "--energy-json=energy.json",
        "-k",
        "lean",
        *QUICK,
    )
    result.assert_outcomes(passed=1, deselected=2)
    (run,) = project.report()["runs"]
    assert "-50" in next(each["reason"] for each in run["verdicts"] if each["metric"] == "energy_per_query")


@pytest.mark.parametrize(
    ("fixture", "options"),
    [
        ("codspeed_benchmark", ("-p", "pytest_codspeed.plugin")),
        ("benchmark", ("-p", "pytest_benchmark.plugin", "-p", "pytest_codspeed.plugin", "--codspeed", "--codspeed-max-time=0.05")),
    ],
)
def test_codspeed_is_metered(project: Project, fixture: str, options: tuple[str, ...]) -> None:
    for name, value in neighbours.environment("pytest_codspeed").items():
        project.monkeypatch.setenv(name, value)
    project.toml('[tool.greencompute.budgets."test_it.py::test_lean"]\nenergy_per_query = "0.1 J"')
    project.write(
        "test_it.py",
        f"""
        import time

        def test_lean({fixture}, world):
            def work():
                time.sleep(0.001)
                world.energy_j += 0.2
            {fixture}(work)

        def test_slow({fixture}, world):
            calls = []
            def work(number):
                calls.append(number)
                time.sleep(0.25)
                world.energy_j += 3.0
            {fixture}.pedantic(work, args=(1,), rounds=2)
            assert len(calls) <= 4
            assert {fixture}.extra_info["energy_per_call_j"] == 3.0
        """,
    )
    result = project.run_apart(
        "-p", "pytest_greencompute.plugin", *options, "--energy-budget", "--energy-benchmarks", "--energy-max-seconds=1", "--tb=short"
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["test_lean used 0.2000 J per query*over its budget of 0.1 J*"])


def test_without_either_plugin_it_is_refused(project: Project) -> None:
    for name, value in neighbours.environment().items():
        project.monkeypatch.setenv(name, value)
    project.write("test_it.py", "def test_it(energy_meter):\n    pass\n")
    project.write(
        "sitecustomize.py",
        """
        import importlib.util

        find = importlib.util.find_spec
        importlib.util.find_spec = lambda name, *rest: None if name.startswith(("pytest_b", "pytest_c")) else find(name, *rest)
        """,
    )
    project.monkeypatch.setenv("PYTHONPATH", str(project.path), prepend=":")
    result = project.run_apart("-p", "pytest_greencompute.plugin", "--energy-budget", "--energy-benchmarks")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*neither is installed. pip install pytest-benchmark*"])


MEMOISED = """
    import functools
    import time

    def work(n):
        until = time.perf_counter() + 0.02
        while time.perf_counter() < until:
            pass
        return n

    @functools.lru_cache
    def cached(n):
        return work(n)

    known = {}

    def in_a_dict(text):
        if text not in known:
            known[text] = work(text)
        return known[text]

    def test_cached(benchmark):
        benchmark(cached, 3)

    def test_in_a_dict(benchmark):
        benchmark(in_a_dict, "a")

    def test_without_arguments(benchmark):
        loaded = []

        def loads_first():
            if not loaded:
                loaded.append([work(text) for text in range(10)])
            return work(1)

        benchmark(loads_first)

    def test_promised(benchmark):
        benchmark(lambda: (work(text) for text in range(3)))

    def test_used_up(benchmark):
        benchmark(lambda texts: [work(text) for text in texts], iter(["a"]))

    def test_rounds(benchmark):
        benchmark.pedantic(in_a_dict, args=("b",), rounds=5)

    def test_made_for_each_round(benchmark):
        benchmark.pedantic(cached, setup=lambda: known.clear() or cached.cache_clear() or ((4,), {}), rounds=5)

    def test_wanted(benchmark):
        benchmark.extra_info["energy_repeats"] = "cached"
        benchmark(cached, 5)
"""


@pytest.mark.alone
def test_a_function_that_remembers_or_uses_up_its_arguments_is_refused_unless_that_is_wanted(project: Project) -> None:
    project.toml('meters = ["cputime"]\ncpu_watts_per_core = 10')
    project.write("test_it.py", MEMOISED)
    result = project.run_apart("--energy-budget", "--energy-benchmarks", "--energy-max-seconds=1", *QUICK)
    result.assert_outcomes(failed=4, passed=4)
    result.stdout.fnmatch_lines(["*test_promised: what the function returns, a generator, has not been computed*"])
    result.stdout.fnmatch_lines(["*The function answers from memory: its first call took*", "*The function uses up its arguments*"])


SHORT = """
    import pathlib
    import time

    import pytest

    USED = pathlib.Path("used.txt")

    def spin(seconds):
        start = time.thread_time()
        while time.thread_time() < start + seconds:
            pass
        TRUE.append(time.thread_time() - start)

    TRUE = []

    @pytest.mark.parametrize("again", range(7))
    @pytest.mark.parametrize("seconds, rounds", [(1e-3, 5), (1e-4, 50), (1e-4, 5)])
    def test_short(benchmark, seconds, rounds, again):
        TRUE.clear()
        benchmark.pedantic(spin, args=(seconds,), rounds=rounds)
        with USED.open("a") as file:
            print(sum(TRUE) / len(TRUE), file=file)
"""


@pytest.mark.alone
def test_what_pedantic_itself_costs_is_on_nobodys_bill_and_one_window_is_never_without_an_interval(project: Project) -> None:
    """Five rounds of 0.1 ms are half a millisecond, of which a busy machine takes a fifth in caches: the interval knows that."""
    project.toml('meters = ["cputime"]')
    project.write("test_short.py", SHORT)
    project.run_apart("--energy-budget", "--energy-benchmarks", "--benchmark-json=bench.json").assert_outcomes(passed=21)
    true_j = [10 * float(line) for line in (project.path / "used.txt").read_text(encoding="utf-8").split()]
    told = [each["extra_info"] for each in json.loads((project.path / "bench.json").read_text(encoding="utf-8"))["benchmarks"]]
    of_true = [
        [figures[f"energy_per_call{part}_j"] / joules for part in ("_low", "", "_high")]
        for joules, figures in zip(true_j, told, strict=True)
    ]
    assert all(low < value < high for low, value, high in of_true)
    held = [low <= 1.02 and high >= 1 for low, _, high in of_true]
    assert all(statistics.mode(held[first : first + 7]) for first in (0, 7, 14))  # most of each kind
    for of_length in (of_true[:7], of_true[7:14]):
        assert statistics.median(value for _, value, _ in of_length) == pytest.approx(1, rel=0.15)
