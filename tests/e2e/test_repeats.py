"""``queries`` as a function, ``repeats=``, and what is refused since later passes would not do what was answered: in every kind of test."""

from __future__ import annotations

import pytest

from tests.repositories import commit_all

from .conftest import Project

MODELS = """
    import functools
    import io
    import pytest

    TEXTS = [f"text {index}" for index in range(20)]

    @pytest.fixture
    def work(world):
        def run(text):
            world.clock.sleep(0.02)
            world.energy_j += 0.5
            return text.upper()
        return run

    @pytest.fixture
    def remembering(world, work):
        known = {}

        def model(batch, length=1):
            world.clock.sleep(0.0001)
            for text in batch:
                if text not in known:
                    known[text] = work(text)
            return [known[text] for text in batch]
        return model

    @pytest.fixture
    def reading(world, work):
        def model(files):
            texts = [file.read() for file in files]
            world.clock.sleep(0.00001)
            return [work(text) if text else "" for text in texts]
        return model

    def files():
        return [io.StringIO(text) for text in TEXTS]
"""

WAYS = """
    def test_measure(energy_meter, MODEL):
        energy_meter.measure(MODEL, QUERIES, batch_size=2)

    def test_compare(energy_meter, MODEL, work):
        energy_meter.compare({"one": lambda batch: [work("text") for each in batch], "two": MODEL}, QUERIES)

    def test_sweep(energy_meter, MODEL):
        energy_meter.sweep(MODEL, QUERIES, batch_size=[1, 2])

    def test_score(energy_meter, MODEL):
        energy_meter.energy_score(MODEL, QUERIES, task="text_classification", passes=2)

    def test_watch(energy_meter, MODEL):
        watched = energy_meter.watch(MODEL)
        energy_meter.measure(lambda batch: watched(batch), QUERIES)
"""


def test_a_model_that_remembers_is_refused_in_every_way_to_measure(project: Project) -> None:
    project.write("test_it.py", MODELS + WAYS.replace("MODEL", "remembering").replace("QUERIES", "TEXTS"))
    result = project.measure()
    result.assert_outcomes(failed=5)
    assert result.stdout.str().count("- pytest_greencompute.errors.SettingsError: ") == 5
    result.stdout.fnmatch_lines(["*two: The model answers from memory: a batch took 20.1 ms at first and 0.1 ms when asked again.*"])
    project.run().assert_outcomes(passed=5)  # once each, as ever


def test_files_are_refused_as_a_list_and_right_from_a_function_in_every_way_to_measure(project: Project) -> None:
    text = MODELS + WAYS.replace("MODEL", "reading")
    project.write("test_it.py", text.replace("QUERIES", "files()"))
    result = project.measure()
    result.assert_outcomes(failed=5)
    result.stdout.fnmatch_lines(["*The model uses up or changes its queries: * asked again.*", "*a function that makes them*"])
    project.write("test_it.py", text.replace("QUERIES", "files"))
    project.measure("--energy-json=energy.json").assert_outcomes(passed=5)
    found = [run["metrics"]["energy_per_query"]["value"] for run in project.report()["runs"]]
    assert found == [pytest.approx(0.5, rel=0.01)] * len(found)
    assert len(found) >= 5


def test_memory_that_is_declared_is_measured_in_every_way(project: Project) -> None:
    project.toml('[tool.greencompute.budgets."test_it.py::test_measure"]\nenergy_per_query = "1 mJ"')
    ways = WAYS.replace("MODEL", "remembering").replace("QUERIES", "TEXTS, repeats='cached'")
    project.write("test_it.py", MODELS + ways)
    result = project.measure("--energy-max-seconds=1")
    result.assert_outcomes(passed=5)
    assert result.stdout.str().count('repeats="cached": answers from memory are part of the figures') >= 5


def test_a_figure_with_memory_is_not_held_against_one_without(project: Project) -> None:
    model = (
        MODELS + "    def test_it(energy_meter, work):\n        energy_meter.measure(lambda batch: [work(each) for each in batch], TEXTS"
    )
    project.write("test_it.py", model + ")")
    project.measure("--energy-save=main").assert_outcomes(passed=1)
    project.write("test_it.py", model + ", repeats='cached')")
    result = project.measure("--energy-baseline=main", "--energy-unmeasured=fail")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*repeats: cached here, fresh in the baseline*"])


@pytest.mark.parametrize("which", ["base", "head"])
def test_a_memory_on_either_side_of_a_comparison_is_no_pass(project: Project, which: str) -> None:
    plain = """
        import time

        def answer(text):
            time.sleep(0.005)
            return text.upper()
    """
    sides = {"base": plain, "head": plain}
    sides[which] = plain.replace("def answer", "@functools.lru_cache\n        def answer").replace(
        "import time", "import functools\n        import time"
    )
    project.write("model.py", sides["base"])
    project.toml('meters = ["cputime"]\ncpu_watts_per_core = 10')
    project.write(
        "test_it.py",
        """
        from model import answer

        def test_it(energy_meter):
            energy_meter.measure(lambda batch: [answer(each) for each in batch], [f"text {index}" for index in range(20)])
        """,
    )
    commit_all(project.path)
    project.write("model.py", sides["head"])
    result = project.run_apart("--energy-budget", "--energy-base-ref=HEAD", "--energy-max-seconds=3", "--energy-unmeasured=fail")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*The model answers from memory*"])
    assert "PASS" not in result.stdout.str()


def test_coroutines_as_answers_are_refused_metered_or_not(project: Project) -> None:
    project.write(
        "test_it.py",
        MODELS
        + """
    async def ask(text):
        return text

    def test_it(energy_meter):
        energy_meter.measure(lambda batch: [ask(text) for text in batch], TEXTS)
    """,
    )
    for result in (project.run("-Werror"), project.measure("-Werror")):
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["*The model returned a coroutine as an answer (query 0), which has not been computed.*ameasure.*"])
