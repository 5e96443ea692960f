"""tokens= of measure, compare and sweep: budgets on tokens and on the energy of one, with a meter and without."""

from __future__ import annotations

import pytest

from .conftest import Project

# A model that answers "word word … " with as many words as the query says; ten of them are thought where the query is odd.
TALKER = """
    import pytest

    def words(answer):
        return len(answer.split())

    def talk(query):
        thought = "<think> " + "well " * 10 + "</think> " if query % 2 else ""
        return thought + "word " * query

    QUERIES = [1, 2, 3, 4]  # 1+12, 2, 3+12, 4 words: 34 in all, 20 of them thought
"""


def test_token_budgets_are_judged_without_a_meter(project: Project) -> None:
    project.write(
        "test_it.py",
        TALKER
        + """
    @pytest.mark.energy_budget(tokens_per_query=8.5, reasoning_tokens_per_query=5)
    def test_fits(energy_meter, world):
        run = energy_meter.measure(world.model(answer=talk), QUERIES, tokens=words)
        assert run.tokens_per_query == 8.5
        assert run.reasoning_tokens_per_query == 5

    @pytest.mark.energy_budget(tokens_per_query=8)
    def test_talks(energy_meter, world):
        energy_meter.measure(world.model(answer=talk), QUERIES, tokens=words)

    @pytest.mark.energy_budget(reasoning_default=0)
    def test_thinks(energy_meter, world):
        run = energy_meter.measure(world.model(answer=talk), QUERIES, tokens=words)
        assert run.reasoning_default == run.reasoning_tokens_per_query == 5
    """,
    )
    result = project.run("--energy-json=energy.json")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(
        [
            "test_talks generated 8.500 tokens per query [[]*], over its budget of 8 (by 6.2 %)*",
            "test_thinks generated 5.000 reasoning tokens per query by default [[]*], over its budget of 0*",
        ]
    )
    runs = project.report()["runs"]
    assert runs[0]["raw"]["tokens"] == [13, 2, 15, 4]
    assert runs[0]["raw"]["reasoning"] == [10, 0, 10, 0]


def test_energy_per_token_is_judged_with_a_meter_in_the_same_words(project: Project) -> None:
    project.write(
        "test_it.py",
        TALKER
        + """
    @pytest.mark.energy_budget(energy_per_token="60 mJ", tokens_per_query=9)
    def test_lean(energy_meter, world):
        run = energy_meter.measure(world.model(0.5, answer=talk), QUERIES, tokens=words)
        assert run.energy_per_token == pytest.approx(0.5 / 8.5, rel=1e-6)

    @pytest.mark.energy_budget(energy_per_token="50 mJ")
    def test_hungry(energy_meter, world):
        energy_meter.measure(world.model(0.5, answer=talk), QUERIES, tokens=words)
    """,
    )
    result = project.measure()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*test_hungry used 58.8* mJ per token * over its budget of 50 mJ*"])
    result = project.run("-rs")  # without a meter there is no such figure: the tokens alone are judged
    result.assert_outcomes(passed=1, skipped=1)


def test_a_token_budget_without_tokens_is_unmeasured_and_says_what_to_pass(project: Project) -> None:
    project.write(
        "test_it.py",
        TALKER
        + """
    @pytest.mark.energy_budget(tokens_per_query=9)
    def test_uncounted(energy_meter, world):
        energy_meter.measure(world.model(answer=talk), QUERIES)

    @pytest.mark.energy_budget(reasoning_tokens_per_query=9)
    def test_ids_alone(energy_meter, world):
        energy_meter.measure(world.model(answer=lambda query: [7] * query), QUERIES, tokens="ids")
    """,
    )
    result = project.run("--energy-unmeasured=fail")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        ["*no tokens were counted: pass tokens= to measure() or to watch()*", "*reasoning cannot be told from ids: pass the tokenizer*"]
    )


def test_the_markers_come_from_the_call_or_from_the_file(project: Project) -> None:
    project.toml('reasoning_markers = ["[r]", "[/r]"]')
    project.write(
        "test_it.py",
        """
        def test_markers(energy_meter, world):
            model = world.model(answer=lambda query: "[r] a b [/r] c <think> d </think>")
            words = lambda answer: len(answer.split())
            run = energy_meter.measure(model, [1], tokens=words, name="file")
            assert run.reasoning_tokens_per_query == 2
            run = energy_meter.measure(model, [1], tokens=words, reasoning=("<think>", "</think>"), name="call")
            assert run.reasoning_tokens_per_query == 1
        """,
    )
    project.run().assert_outcomes(passed=1)


def test_markers_that_are_no_pair_are_a_usage_error(project: Project) -> None:
    project.toml('reasoning_markers = "<think>"')
    project.write("test_it.py", "def test_it(energy_meter): pass")
    result = project.run()
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*pyproject.toml:*: reasoning_markers: The reasoning markers are '<think>'. Name two texts*"])


@pytest.mark.parametrize("option", [(), ("--energy-budget",)])
def test_a_sweep_of_the_token_budget_counts_each_setting_by_itself(project: Project, option: tuple[str, ...]) -> None:
    project.write(
        "test_it.py",
        """
        def test_budget(energy_meter, world):
            model = world.model(answer=str)
            def generate(batch, max_new_tokens):
                model(batch)
                return [[1] * min(max_new_tokens, query) for query in batch]
            found = energy_meter.sweep(generate, [4, 8, 12], max_new_tokens=[2, 8], tokens="ids")
            assert [run.tokens_per_query for run in found.runs.values()] == [2, 20 / 3]
        """,
    )
    project.run(*option).assert_outcomes(passed=1)


@pytest.mark.parametrize("option", [(), ("--energy-budget",)])
def test_candidates_may_have_a_tokenizer_each(project: Project, option: tuple[str, ...]) -> None:
    project.write(
        "test_it.py",
        """
        import pytest
        from pytest_greencompute import SettingsError

        def test_two(energy_meter, world):
            models = {"words": world.model(answer=lambda query: "a b c"), "ids": world.model(answer=lambda query: [1, 2])}
            with pytest.raises(SettingsError, match="tokens names words. Name each of words, ids."):
                energy_meter.compare(models, [1, 2], tokens={"words": len})
            with pytest.raises(SettingsError, match='ids: tokens returned -1 for the answer to query 0'):
                energy_meter.compare(models, [1, 2], tokens={"words": len, "ids": lambda answer: -1}, name="wrong")
            found = energy_meter.compare(models, [1, 2], tokens={"words": len, "ids": "ids"})
            assert found.runs["words"].tokens_per_query == 5
            assert found.runs["ids"].tokens_per_query == 2
        """,
    )
    project.run(*option).assert_outcomes(passed=1)


def test_a_tokenizer_of_another_model_is_refused_with_query_and_numbers(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        class Tokenizer:
            pad_token_id = eos_token_id = 9
            def __len__(self): return 10
            def encode(self, text, add_special_tokens): return list(text)
            def decode(self, ids, skip_special_tokens): return "x" * len(ids)

        def test_other(energy_meter, world):
            energy_meter.measure(world.model(answer=lambda query: [1, query]), [3, 12], tokens=Tokenizer())
        """,
    )
    result = project.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*The tokenizer does not match: the answer to query 1 has the id 12, and its vocabulary has 10 tokens. Pass the tokenizer of*"]
    )


def test_tokens_come_from_the_first_pass_alone(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        def test_once(energy_meter, world):
            counted = []
            def tokens(answer):
                counted.append(answer)
                return 3
            energy_meter.measure(world.model(), list("abcd"), batch_size=2, tokens=tokens)
            assert world.calls > 2
            # The text itself and, as there is no reasoning in it, nothing else of it: once per answer, whatever was measured after.
            assert counted == ["A", "B", "C", "D"]
        """,
    )
    project.measure().assert_outcomes(passed=1)


def test_updating_the_budget_file_copes_with_counted_figures(project: Project) -> None:
    project.toml(
        """
        [tool.greencompute.budgets."test_it.py::test_talk"]
        tokens_per_query = 20
        reasoning_tokens_per_query = 20
        energy_per_token = "1 J"
        """
    )
    project.write(
        "test_it.py",
        TALKER
        + """
    def test_talk(energy_meter, world):
        energy_meter.measure(world.model(0.5, answer=talk), QUERIES, tokens=words)
    """,
    )
    project.measure("--energy-update=tighten").assert_outcomes(passed=1)
    text = (project.path / "pyproject.toml").read_text(encoding="utf-8")
    assert "\ntokens_per_query = 8.9" in text, text  # 8.5 and the tolerance of 5 %
    assert "reasoning_tokens_per_query = 5.2" in text, text
    assert 'energy_per_token = "0.06' in text
    project.measure().assert_outcomes(passed=1)


# --- windows: prefill and decode apart --------------------------------------------------------------------------------

PHASES = """
    import pytest

    def generate(energy_meter, world, decode_j):
        prefill, decode = world.model(1.0, seconds=0.5), world.model(decode_j, seconds=1.5)
        prompts = ["a", "b", "c", "d"]
        with energy_meter.window("prefill", queries=4, tokens=1000) as read:
            prefill(prompts)
        with energy_meter.window("decode", queries=4) as written:
            decode(prompts)
            written.tokens = 80
        return read, written
"""


def test_prefill_and_decode_are_two_windows_with_budgets_of_their_own(project: Project) -> None:
    project.write(
        "test_it.py",
        PHASES
        + """
    BUDGET = {"prefill": {"energy_per_token": "5 mJ"}, "decode": {"energy_per_token": "0.2 J", "tokens_per_query": 20}}

    @pytest.mark.energy_budget(**BUDGET)
    def test_lean(energy_meter, world):
        read, written = generate(energy_meter, world, 3.0)
        assert read.energy == pytest.approx(4.0)
        assert written.result().energy_per_query.value == pytest.approx(3.0)
        assert written.result().energy_per_token.value == pytest.approx(12 / 80)

    @pytest.mark.energy_budget(**BUDGET)
    def test_hungry(energy_meter, world):
        generate(energy_meter, world, 5.0)
    """.replace("read.energy ==", "read.energy.value =="),
    )
    result = project.measure()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["test_hungry (decode) used 0.2500 J per token * over its budget of 0.2 J*"])


def test_tokens_of_a_window_are_judged_without_a_meter(project: Project) -> None:
    project.write(
        "test_it.py",
        PHASES
        + """
    @pytest.mark.energy_budget(decode={"tokens_per_query": 20})
    def test_short(energy_meter, world):
        generate(energy_meter, world, 3.0)

    @pytest.mark.energy_budget(decode={"tokens_per_query": 19})
    def test_long(energy_meter, world):
        generate(energy_meter, world, 3.0)
    """,
    )
    result = project.run()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["test_long (decode) generated 20.00 tokens per query, over its budget of 19*"])


@pytest.mark.parametrize("option", [(), ("--energy-budget",)])
def test_a_window_wants_whole_numbers(project: Project, option: tuple[str, ...]) -> None:
    project.write(
        "test_it.py",
        """
        import numpy as np
        import pytest
        from pytest_greencompute import SettingsError

        def test_numbers(energy_meter, world):
            with pytest.raises(SettingsError, match="queries of a window is 0. It must be a whole number of at least 1."):
                energy_meter.window("a", queries=0)
            with pytest.raises(SettingsError, match="tokens of a window is -1."):
                energy_meter.window("b", tokens=-1)
            with pytest.raises(SettingsError, match="tokens of a window is 1.5."), energy_meter.window("c") as w:
                world.model()(["a"])
                w.tokens = 1.5
            with pytest.raises(SettingsError, match="tokens of a window is True."):
                energy_meter.window("d", tokens=True)
            with energy_meter.window("e", queries=np.int64(2)) as w:
                world.model()(["a"])
                w.tokens = np.int64(8)
            assert (type(w.queries), type(w.tokens)) == (int, int)
        """,
    )
    project.run(*option).assert_outcomes(passed=1)


def test_a_watched_model_shows_in_a_window(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import pytest

        @pytest.mark.energy_budget(generative_share=0.5, tokens_per_query=4, energy_per_token="2 J")
        def test_window(energy_meter, world):
            model = energy_meter.watch(world.model(1.0, seconds=1.0), tokens=lambda answer: 8, name="model")
            with energy_meter.window(queries=2) as w:
                model(["a"])
            if not w.closed:
                return
            assert model.energy.value == pytest.approx(1.0)
            assert model.tokens == 8
        """,
    )
    project.measure().assert_outcomes(passed=1)
    project.run().assert_outcomes(passed=1)


def test_a_change_against_a_baseline_is_split_into_length_and_price(project: Project) -> None:
    body = """
        def test_talk(energy_meter, world):
            model = world.model({joules}, answer=lambda query: "word " * {words})
            energy_meter.measure(model, [1, 2, 3], tokens=lambda answer: len(answer.split()))
    """
    project.write("test_it.py", body.format(joules=0.5, words=10))
    project.measure("--energy-save=main").assert_outcomes(passed=1)
    project.write("test_it.py", body.format(joules=0.6, words=12))
    result = project.measure("--energy-baseline=main")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["test_talk used 0.6* J per query*In two: tokens per query +20 %, energy per token +0.0 %.*"])
