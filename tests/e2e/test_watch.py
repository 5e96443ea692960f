"""energy_meter.watch: which queries reach a model, how often it is asked again, what it generates, and what that costs."""

from __future__ import annotations

import pytest

from .conftest import Project

BOTH = pytest.mark.parametrize("option", [(), ("--energy-budget",)], ids=["unmetered", "metered"])

# Twenty lines of traffic. A cheap classifier answers those that are short; every fourth is long and goes to a model that writes.
ROUTER = """
    import pytest

    TRAFFIC = ["short", "short", "short", "a long one"] * 5

    class Writer:
        def __init__(self, world, thinks=False):
            self._run = world.model(2.0, seconds=0.08, answer=lambda query: "<think> hm hm </think> fine" if thinks else "fine")

        def generate(self, prompts, **flags):
            return self._run(prompts)

    def words(answer):
        return len(answer.split())

    @pytest.fixture
    def writer(energy_meter, world):
        made = Writer(world)
        made.generate = energy_meter.watch(made.generate, tokens=words)
        return made

    @pytest.fixture
    def cheap(world):
        return world.model(0.1, seconds=0.02, answer=len)

    def router(cheap, writer, long=6):
        def answer(batch):
            sizes = cheap(batch)
            return [writer.generate([query])[0] if size > long else "short" for query, size in zip(batch, sizes)]
        return answer
"""


@BOTH
def test_the_share_of_queries_that_reach_the_model_is_a_budget(project: Project, option: tuple[str, ...]) -> None:
    project.write(
        "test_it.py",
        ROUTER
        + """
    @pytest.mark.energy_budget(generative_share="25%", model_calls_per_query=0.25, tokens_per_query=1)
    def test_routes(energy_meter, cheap, writer):
        run = energy_meter.measure(router(cheap, writer), TRAFFIC)
        assert run.generative_share == 0.25
        assert run.raw.watching.reached == 5

    @pytest.mark.energy_budget(generative_share="25%")
    def test_sends_all(energy_meter, cheap, writer):
        energy_meter.measure(router(cheap, writer, long=0), TRAFFIC)
    """,
    )
    result = project.run(*option)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["test_sends_all sent 100.0 % of the queries to a watched model*over its budget of 25 %*"])


@BOTH
def test_a_cache_in_front_shows(project: Project, option: tuple[str, ...]) -> None:
    project.write(
        "test_it.py",
        ROUTER
        + """
    @pytest.mark.energy_budget(generative_share=0.05, model_calls_per_query=0.05)
    def test_cached(energy_meter, cheap, writer):
        cache = {}
        plain = router(cheap, writer)
        def model(batch):
            cheap(batch)  # looking an answer up takes time as well
            return [cache[query] if query in cache else cache.setdefault(query, plain([query])[0]) for query in batch]
        run = energy_meter.measure(model, TRAFFIC)
        assert run.generative_share == 1 / 20
        assert writer.generate.calls == 1

    @pytest.mark.energy_budget(generative_share=0, model_calls_per_query=0, reasoning_default=0)
    def test_never_asked(energy_meter, cheap, writer):
        run = energy_meter.measure(cheap, TRAFFIC)
        assert run.generative_share == 0
        assert run.model_calls_per_query == 0
        assert (writer.generate.calls, writer.generate.tokens) == (0, 0)
    """,
    )
    project.run(*option).assert_outcomes(passed=2)


@BOTH
def test_asking_again_shows_in_the_calls_and_counts_the_query_once(project: Project, option: tuple[str, ...]) -> None:
    project.write(
        "test_it.py",
        ROUTER
        + """
    def retrying(writer, times):
        def answer(batch):
            for _ in range(times):
                answers = writer.generate(batch)
            return answers
        return answer

    @pytest.mark.energy_budget(model_calls_per_query=2)
    def test_asks_twice(energy_meter, writer):
        run = energy_meter.measure(retrying(writer, 2), TRAFFIC)
        assert run.generative_share == 1
        assert run.model_calls_per_query == 2

    @pytest.mark.energy_budget(model_calls_per_query=2)
    def test_asks_three_times(energy_meter, writer):
        energy_meter.measure(retrying(writer, 3), TRAFFIC)
    """,
    )
    result = project.run(*option)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["test_asks_three_times called the watched models 3.000 times per query, over its budget of 2*"])


@BOTH
def test_reasoning_by_default_is_red_and_a_flag_of_the_application_is_told(project: Project, option: tuple[str, ...]) -> None:
    project.write(
        "test_it.py",
        ROUTER
        + """
    @pytest.mark.energy_budget(reasoning_default=0)
    def test_plain(energy_meter, writer):
        energy_meter.measure(writer.generate, TRAFFIC)

    @pytest.mark.energy_budget(reasoning_default=0)
    def test_thinks(energy_meter, world):
        # The application shows no reasoning: only what the model wrote does.
        generate = energy_meter.watch(Writer(world, thinks=True).generate, tokens=words)
        shown = lambda batch: [answer.split("</think> ")[1] for answer in generate(batch)]
        run = energy_meter.measure(shown, TRAFFIC, tokens=words)
        assert run.tokens_per_query == 1
        assert run.notes == ()

    @pytest.mark.energy_budget(reasoning_default=0)
    def test_switched_on(energy_meter, world):
        generate = energy_meter.watch(Writer(world, thinks=True).generate, tokens=words)
        energy_meter.measure(lambda batch: generate(batch, enable_thinking=True, temperature=0), TRAFFIC)
    """,
    )
    result = project.run("--energy-json=energy.json", *option)
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(
        [
            "test_thinks generated 2.000 reasoning tokens per query by default, over its budget of 0. The limit is in *",
            "test_switched_on generated 2.000 reasoning tokens per query by default, over its budget of 0. The application set"
            " enable_thinking=True. The limit is in *",
        ]
    )
    assert "the application set enable_thinking=True" in project.report()["runs"][2]["notes"]


def test_without_a_watched_model_the_budget_is_unmeasured_and_says_what_to_do(project: Project) -> None:
    project.write(
        "test_it.py",
        ROUTER
        + """
    @pytest.mark.energy_budget(generative_share="20%")
    def test_unwatched(energy_meter, cheap):
        energy_meter.measure(cheap, TRAFFIC)
    """,
    )
    result = project.run("--energy-unmeasured=fail")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*no model is watched: call energy_meter.watch(model) in the test and use what it returns*"])


def test_the_time_inside_and_the_energy_that_falls_on_the_model(project: Project) -> None:
    project.write(
        "test_it.py",
        ROUTER
        + """
    def test_share(energy_meter, cheap, writer):
        run = energy_meter.measure(router(cheap, writer), TRAFFIC)
        # A query takes 20 ms, and one of four 80 ms more, in the model: half of the time. It uses 0.1 J, and one of four 2 J more.
        assert run.raw.watching.models[0].share == pytest.approx(0.5, abs=0.01)
        assert writer.generate.energy.value == pytest.approx(20 * 0.6 * 0.5, rel=0.02)
        assert "shared out by the time" in writer.generate.energy.note
        assert writer.generate.seconds == pytest.approx(5 * 0.08)
        assert (writer.generate.calls, writer.generate.prompts, writer.generate.tokens) == (5, 5, 5)
    """,
    )
    project.measure().assert_outcomes(passed=1)


def test_without_a_meter_asking_for_the_energy_of_a_model_skips_the_test(project: Project) -> None:
    project.write(
        "test_it.py",
        ROUTER
        + """
    def test_energy(energy_meter, cheap, writer):
        energy_meter.measure(router(cheap, writer), TRAFFIC)
        assert writer.generate.calls == 5
        assert writer.generate.energy < "1 J"
    """,
    )
    result = project.run("-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED * the energy of a watched model was not measured: run pytest with --energy-budget"])


@BOTH
def test_calls_outside_a_measured_run_are_counted_too_and_what_is_run_again_is_not(project: Project, option: tuple[str, ...]) -> None:
    project.write(
        "test_it.py",
        ROUTER
        + """
    def test_counts(energy_meter, cheap, writer):
        writer.generate(["one", "two"])
        assert (writer.generate.calls, writer.generate.prompts, writer.generate.tokens) == (1, 2, 2)
        energy_meter.measure(router(cheap, writer), TRAFFIC)
        assert (writer.generate.calls, writer.generate.prompts, writer.generate.tokens) == (6, 7, 7)
        writer.generate(["three"])
        assert (writer.generate.calls, writer.generate.prompts, writer.generate.reasoning_tokens) == (7, 8, 0)
    """,
    )
    project.run(*option).assert_outcomes(passed=1)


@BOTH
def test_each_candidate_has_the_counts_of_its_own_first_pass(project: Project, option: tuple[str, ...]) -> None:
    project.write(
        "test_it.py",
        ROUTER
        + """
    def test_two(energy_meter, cheap, writer):
        models = {"router": router(cheap, writer), "all": router(cheap, writer, long=0), "plain": cheap}
        found = energy_meter.compare(models, TRAFFIC)
        shares = {name: run.generative_share for name, run in found.runs.items()}
        assert shares == {"router": 0.25, "all": 1.0, "plain": 0.0}
    """,
    )
    project.run(*option).assert_outcomes(passed=1)


@BOTH
def test_in_batches_each_prompt_counts_up_to_the_size_of_the_batch(project: Project, option: tuple[str, ...]) -> None:
    project.write(
        "test_it.py",
        ROUTER
        + """
    def test_batches(energy_meter, cheap, writer):
        run = energy_meter.measure(router(cheap, writer), TRAFFIC, batch_size=4)
        assert run.generative_share == 0.25
        twice = lambda batch: [writer.generate(batch), writer.generate(batch)][1]
        assert energy_meter.measure(twice, TRAFFIC, batch_size=3, name="twice").generative_share == 1.0
    """,
    )
    project.run(*option).assert_outcomes(passed=1)


@BOTH
def test_a_model_that_raises_is_a_call_and_the_error_goes_through(project: Project, option: tuple[str, ...]) -> None:
    project.write(
        "test_it.py",
        """
        import pytest

        def test_falls_back(energy_meter, world):
            def breaks(batch):
                raise TimeoutError("too slow")
            watched = energy_meter.watch(breaks, tokens=len)
            plain = world.model()
            def model(batch):
                try:
                    return watched(batch)
                except TimeoutError:
                    return plain(batch)
            run = energy_meter.measure(model, list("abcd"))
            assert run.outputs == list("ABCD")
            assert run.generative_share == 1.0
            assert watched.calls == 4
            assert watched.tokens == 0
            with pytest.raises(TimeoutError, match="too slow"):
                watched(["a"])
        """,
    )
    project.run(*option).assert_outcomes(passed=1)


def test_what_cannot_be_watched_is_refused(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import pytest
        from pytest_greencompute import SettingsError

        class Model:
            pass

        def test_refuses(energy_meter):
            with pytest.raises(SettingsError, match="What is to be watched is a Model, which cannot be called. Pass a function"):
                energy_meter.watch(Model())
            with pytest.raises(SettingsError, match="What is to be watched is a class"):
                energy_meter.watch(Model)
            energy_meter.watch(len, name="it")
            with pytest.raises(SettingsError, match="watches a model named 'it' already"):
                energy_meter.watch(len, name="it")
            assert [energy_meter.watch(len).watched_name for _ in range(2)] == ["len", "len 2"]
        """,
    )
    project.run().assert_outcomes(passed=1)


def test_counts_are_forgotten_when_a_test_is_run_again(project: Project) -> None:
    project.write(
        "test_it.py",
        ROUTER
        + """
    @pytest.mark.energy_budget(generative_share=0.25)
    def test_once(energy_meter, cheap, writer):
        energy_meter.measure(router(cheap, writer), TRAFFIC)

    @pytest.mark.energy_budget(generative_share=0.25)
    def test_twice(energy_meter, cheap, writer):
        energy_meter.measure(router(cheap, writer), TRAFFIC)
        assert writer.generate.calls == 5
    """,
    )
    project.run().assert_outcomes(passed=2)
