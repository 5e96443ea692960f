"""A watched model: it behaves like itself, counts what it did, and costs next to nothing."""

from __future__ import annotations

import asyncio
import copy
import inspect
import threading
import time
from typing import Any

import numpy as np
import pytest
from making import block, run

from pytest_greencompute.errors import MeterError, SettingsError
from pytest_greencompute.estimates.by_metric import estimate
from pytest_greencompute.estimates.estimate import Aim, Estimate, Missing
from pytest_greencompute.estimates.watched import energy_of
from pytest_greencompute.judging.budget import Limit
from pytest_greencompute.judging.by_limit import judge_budget
from pytest_greencompute.machine.clock import RealClock
from pytest_greencompute.models.calls import answers_of, flags_in, prompts_in, prompts_of
from pytest_greencompute.models.tallies import Inside, OncePass, set_aside
from pytest_greencompute.models.watching import PENDING, WatchedModel, watched
from pytest_greencompute.results.run_json import run_from_json, run_to_json
from pytest_greencompute.testing.simulated import SimulatedClock
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.run import Watched, Watching
from tests.quiet import in_steps

STEPS_A_CALL = 110  # of Python (tests/quiet.py); five microseconds where a step takes 45 ns


def watch(function: Any, **options: Any) -> WatchedModel:
    return watched(function, RealClock(), **options)


# --- it behaves like itself -------------------------------------------------------------------------------------------


def test_arguments_answer_name_and_signature_are_those_of_the_function() -> None:
    def greet(name: str, *, loud: bool = False) -> str:
        """Says hello."""
        return f"hello {name}{'!' if loud else ''}"

    greet.tone = "kind"  # type: ignore[attr-defined]
    model = watch(greet)
    assert model("you", loud=True) == "hello you!"
    assert (model.__name__, model.__doc__, model.tone) == ("greet", "Says hello.", "kind")
    assert inspect.signature(model) == inspect.signature(greet)
    assert repr(model) == "<watched greet: 1 call>"


class Pipeline:
    """As a library's: an object that is called, with attributes that change."""

    task = "text-generation"

    def __init__(self) -> None:
        self.mode = "eval"

    def __call__(self, prompts: list[str]) -> list[str]:
        return [prompt.upper() for prompt in prompts]

    def generate(self, prompts: list[str]) -> list[str]:
        return self(prompts)

    def switch(self) -> None:
        self.mode = "train"


def test_attributes_are_those_of_the_model_as_they_are_now() -> None:
    pipeline = Pipeline()
    model = watch(pipeline)
    pipeline.switch()
    assert (model.task, model.mode, model(["a"])) == ("text-generation", "train", ["A"])
    with pytest.raises(AttributeError):
        _ = model.missing
    copied = copy.copy(model)
    assert copied(["b"]) == ["B"]


def test_it_takes_the_place_of_a_method_in_a_class(monkeypatch: pytest.MonkeyPatch) -> None:
    model = watch(Pipeline.generate)
    monkeypatch.setattr(Pipeline, "generate", model)
    assert Pipeline().generate(["a", "b"]) == ["A", "B"]
    assert (model.calls, model.prompts) == (1, 2)


def test_what_the_function_raises_goes_through_and_is_a_call() -> None:
    def fails(_: object) -> None:
        raise KeyError("no")

    model = watch(fails, tokens=len)
    with pytest.raises(KeyError, match="no"):
        model("a")
    assert (model.calls, model.prompts, model.tokens) == (1, 1, 0)


def test_a_coroutine_function_is_waited_for() -> None:
    clock = SimulatedClock()

    async def answer(prompts: list[str]) -> list[str]:
        clock.sleep(2.0)
        await asyncio.sleep(0)
        return prompts

    model = watched(answer, clock, tokens=len)

    async def both() -> list[list[str]]:
        return list(await asyncio.gather(model(["abc"]), model(["de"])))

    assert asyncio.run(both()) == [["abc"], ["de"]]
    assert (model.calls, model.tokens) == (2, 5)
    assert model.seconds >= 4.0
    if hasattr(inspect, "markcoroutinefunction"):
        assert inspect.iscoroutinefunction(model)


def test_calls_from_many_threads_are_all_counted() -> None:
    model = watch(lambda prompts: ["ab"] * len(prompts), tokens=len)
    threads = [threading.Thread(target=lambda: [model(["x", "y"]) for _ in range(500)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (model.calls, model.prompts, model.tokens) == (4000, 8000, 16_000)


# --- what it counts ---------------------------------------------------------------------------------------------------


class Batch(dict):  # type: ignore[type-arg]
    """As a tokenizer's result."""


@pytest.mark.parametrize(
    ("given", "prompts"),
    [
        ("one text", 1),
        (["a", "b", "c"], 3),
        (("a", "b"), 2),
        ([], 0),
        (np.zeros((4, 7)), 4),
        (np.float64(1.0), 1),
        (Batch(input_ids=np.zeros((5, 2))), 5),
        (Batch(input_ids=[[1, 2], [3]]), 2),
        (Batch(input_ids=[1, 2, 3]), 1),
        ({"question": "why"}, None),
        (7, 1),
        ([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}], 1),
        ([[{"role": "user", "content": "hi"}], [{"role": "user", "content": "ho"}]], 2),
        (None, None),
        (object(), None),
        (iter(["a", "b"]), None),
        ({"a", "b"}, 2),
    ],
)
def test_prompts_are_the_size_of_the_first_argument(given: Any, prompts: int | None) -> None:
    assert prompts_in(given) == prompts


def test_prompts_may_come_as_a_keyword() -> None:
    model = watch(lambda **_: None)
    model(input_ids=np.zeros((3, 4)), attention_mask=np.ones((3, 4)))
    model(messages=[{"role": "user", "content": "hi"}])
    assert (model.calls, model.prompts) == (2, 4)


FOUR = np.zeros((4, 7))


@pytest.mark.parametrize(
    ("args", "kwargs", "prompts"),
    [
        ((), {"texts": ["a", "b", "c", "d"]}, 4),
        ((), {"pixel_values": FOUR}, 4),
        ((), {"inputs_embeds": FOUR, "attention_mask": FOUR, "max_new_tokens": 5}, 4),
        ((), {"input_values": FOUR, "labels": [1]}, 4),
        ((), {"lines": ["a", "b"], "temperature": 0.5, "do_sample": False}, 2),
        ((), {"line": "a", "top_p": 0.5}, 1),
        ((), {"lines": FOUR, "mask": FOUR}, 4),
        ((), {"line": "a", "stop": ["x", "y"]}, None),
        ((), {"lines": iter("ab")}, None),
        ((), {"lines": ["a", "b"], "pages": ["c"]}, None),
        ((), {"seed": 5}, None),
        ((), {}, None),
        (("describe this",), {"images": FOUR}, 4),  # one text for a whole batch of pictures
        ((["a", "b"],), {"images": iter("ab")}, None),
        ((None, ["a"]), {}, None),
    ],
)
def test_prompts_that_come_as_keywords_are_counted_and_never_taken_for_one(args: Any, kwargs: Any, prompts: int | None) -> None:
    assert prompts_of(tuple(args), kwargs).count == prompts


@pytest.mark.parametrize(
    ("given", "keys"),
    [
        ("a", ("a",)),
        (["a", "b"], ("a", "b")),
        ([[1, 2], [3]], ((1, 2), (3,))),
        (np.array([[1, 2], [3, 4]]), ((1, 2), (3, 4))),
        (np.array([[0.5, 2.0]]), None),
        ({"input_ids": [[1]], "pixel_values": FOUR}, None),
        ([{"role": "user", "content": "hi"}], ("[{'role': 'user', 'content': 'hi'}]",)),
        ([object()], None),
    ],
)
def test_prompts_are_told_apart_by_their_texts_or_ids(given: Any, keys: Any) -> None:
    assert prompts_of((given,), {}).keys == keys


@pytest.mark.parametrize(
    ("output", "given", "answers"),
    [
        ("text", "prompt", ["text"]),
        (["a", "b"], ["p", "q"], ["a", "b"]),
        ([7, 8, 9], "prompt", [[7, 8, 9]]),
        ([[7], [8, 9]], None, [[7], [8, 9]]),
        ([[1, 2, 7], [3, 4, 8]], [[1, 2], [3, 4]], [[7], [8]]),  # what generate returns begins with the prompt
        ([[1, 2, 7], [1, 2, 8]], Batch(input_ids=[[1, 2]]), [[7], [8]]),  # two answers to one prompt
        ([[5, 2, 7]], [[1, 2]], [[5, 2, 7]]),
        ([{"generated_text": "why so"}], "why", [" so"]),
        ([[{"generated_text": "p1 a"}], [{"generated_text": "p2 b"}]], ["p1", "p2"], [" a", " b"]),
        ([{"generated_text": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}], "hi", ["ho"]),
        ("why not", "why", ["why not"]),  # a text of one's own is taken as it is
        ({"label": "good"}, "text", [{"label": "good"}]),
    ],
)
def test_answers_are_what_the_model_generated(output: Any, given: Any, answers: list[Any]) -> None:
    assert answers_of(output, given) == answers


def test_ids_of_generate_are_counted_without_a_word_and_without_the_prompt() -> None:
    class Model:
        def generate(self, ids: Any, **_: Any) -> Any:
            return np.concatenate([ids, np.full((len(ids), 5), 9)], axis=1)

    class Sequences:
        sequences = np.array([[1, 2, 3, 4]])

    model = watch(Model().generate)
    model(np.array([[1, 2, 3], [4, 5, 6]]))
    assert (model.tokens, model.reasoning_tokens) == (10, None)
    wrapped = watch(lambda ids: Sequences(), tokens="ids")
    wrapped(np.array([[1, 2]]))
    assert wrapped.tokens == 2


def test_a_generate_that_returns_texts_has_no_tokens_unless_they_are_asked_for() -> None:
    def generate(prompt: str) -> str:
        return f"{prompt} and more"

    assert (watch(generate)("a"), watch(generate).tokens) == ("a and more", 0)
    model = watch(generate)
    model("a")
    assert model.tokens is None
    assert watch(len).tokens is None


def test_an_output_that_cannot_be_counted_names_the_call_and_leaves_no_sum() -> None:
    model = watch(lambda prompt: prompt, name="it", tokens="ids")
    model([1, 2])
    model("text")
    with pytest.raises(SettingsError, match="The answer to call 2 of it is a text"):
        _ = model.tokens
    assert model.tokens is None


def test_outputs_do_not_pile_up_outside_measured_runs() -> None:
    counted = []
    model = watch(lambda prompt: prompt, tokens=lambda answer: counted.append(answer) or 1)
    for _ in range(PENDING - 1):
        model("a")
    assert not counted
    model("a")
    assert len(counted) == PENDING
    assert model.tokens == PENDING


@pytest.mark.parametrize(
    ("kwargs", "flags"),
    [
        ({"enable_thinking": True}, {"enable_thinking": "True"}),
        ({"reasoning_effort": "high", "max_new_tokens": 5}, {"reasoning_effort": "'high'"}),
        ({"chat_template_kwargs": {"enable_thinking": True}}, {"enable_thinking": "True"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 9}}, {"thinking": "{'type': 'enabled', 'budget_tokens': 9}"}),
        ({"thinking": {"type": "disabled"}}, {}),
        ({"enable_thinking": False}, {}),
        ({"thinking_budget": 0}, {}),
        ({"reasoning_effort": "none"}, {}),
        ({"reasoning": None, "temperature": 1}, {}),
        ({}, {}),
    ],
)
def test_keywords_that_switch_reasoning_on_are_known(kwargs: dict[str, Any], flags: dict[str, str]) -> None:
    assert flags_in(kwargs) == flags


# --- in a measurement -------------------------------------------------------------------------------------------------


def test_a_pass_counts_for_itself_and_for_the_whole_and_repetitions_for_neither() -> None:
    clock = SimulatedClock()
    model = watched(lambda prompts: [clock.sleep(0.5) or "abc" for _ in prompts], clock, name="it", tokens=len)
    model(["before"])
    with OncePass([model]) as seen:
        for batch in (["a", "b"], ["c", "d"]):
            model(batch[:1])
            seen.done(2)
    with set_aside([model]) as tallies:
        model(["again", "again"])
    assert seen.found(4) == Watching(4, 2, (Watched("it", 2, 6, 0),))
    assert tallies[0].nanoseconds == 1_000_000_000
    assert (model.calls, model.prompts, model.tokens, model.seconds) == (3, 3, 9, 1.5)


def test_two_models_that_are_asked_for_one_query_count_it_once() -> None:
    one, two = watch(repr), watch(repr)
    with OncePass([one, two]) as seen:
        for query in range(3):
            if query > 0:
                one(query)
                two(query)
            seen.done(1)
    found = seen.found(3)
    assert found is not None
    assert (found.reached, [each.calls for each in found.models]) == (2, [2, 2])


@pytest.mark.parametrize(
    ("calls", "reached", "bound"),
    [
        ([], 0, ""),
        ([["a"], ["b"]], 2, ""),
        ([["a", "b", "c", "d"]] * 3, 4, ""),
        ([["a"], ["a"], ["a"]], 3, "most"),  # one query thrice, or three that are alike
        ([["a", "b"], ["a"]], 3, "most"),
        ([FOUR[:2], FOUR[:1]], 3, "most"),  # nothing tells embeddings apart
        ([FOUR[:2]], 2, ""),
        ([iter("ab")], 4, "most"),
        ([[]], 0, ""),
    ],
)
def test_in_a_batch_what_cannot_be_told_apart_is_an_upper_bound(calls: list[Any], reached: int, bound: str) -> None:
    model = watch(lambda _: None)
    with OncePass([model]) as seen:
        for given in calls:
            model(given)
        seen.done(4)
    found = seen.found(4)
    assert found is not None
    assert (found.reached, found.bound) == (reached, bound)


def test_ids_are_told_apart_as_they_were_when_the_model_was_called() -> None:
    model, buffer = watch(lambda _: None), np.array([[1, 2]])
    with OncePass([model]) as seen:
        for value in (3, 4):
            buffer[:] = value
            model(buffer)
        seen.done(2)
    found = seen.found(2)
    assert found is not None
    assert (found.reached, found.bound) == (2, "")


def test_one_query_at_a_time_is_exact_whatever_the_model_is_called_with() -> None:
    model = watch(lambda *_: None)
    with OncePass([model]) as seen:
        for asked in (True, False, True):
            if asked:
                model(iter("ab"))
                model()
            seen.done(1)
    found = seen.found(3)
    assert found is not None
    assert (found.reached, found.bound) == (2, "")


@pytest.mark.parametrize(("limit", "word"), [(0.6, "PASS"), (0.5, "PASS"), (0.4, "UNMEASURED")])
def test_an_upper_bound_of_the_share_can_pass_and_never_fail(limit: float, word: str) -> None:
    metric = METRICS["generative_share"]
    found = estimate(run(queries=20, watching=Watching(20, 10, (Watched("it", 10),), "most")), metric, Aim())
    verdict = judge_budget(metric, found, Limit(metric, limit, "made"), "test_it", by_interval=False)
    assert verdict.word == word
    if word == "UNMEASURED":
        assert "or less" in verdict.reason
        assert verdict.reason.endswith("batch_size=1 makes it exact.")


def test_a_bound_survives_its_json_and_older_files_have_none() -> None:
    made = run(watching=Watching(20, 10, (Watched("it", 10),), "most"))
    told = run_to_json(made)
    assert run_from_json(told) == made
    del told["raw"]["watching"]["bound"]
    assert run_from_json(told).watching == Watching(20, 10, (Watched("it", 10),))


def test_after_an_error_in_a_pass_the_calls_are_known() -> None:
    model = watch(repr, tokens=len)

    def one_pass() -> None:
        with OncePass([model]):
            model(12)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        one_pass()
    assert (model.calls, model.tokens) == (1, 2)


def test_energy_is_shared_out_by_time_over_all_measured_runs() -> None:
    blocks = [block(50.0, queries=10, gap_s=0.0, set_index=index) for index in range(6)]
    made = [
        run(blocks, name=name, watching=Watching(100, 50, (Watched("it", 50, share=share),))) for name, share in (("a", 0.5), ("b", 0.1))
    ]
    found = energy_of(made, 0, Aim())
    each = estimate(made[0], METRICS["energy_per_query"], Aim())
    assert isinstance(found, Estimate)
    assert isinstance(each, Estimate)
    assert found.value == pytest.approx(each.value * 100 * 0.6)
    assert found.low is not None
    assert found.low < found.value
    assert "shared out by the time" in found.note


async def counting_up(count: int) -> Any:
    for each in range(count):
        yield each


@pytest.mark.parametrize("stream", [counting_up, lambda count: (each for each in range(count)), lambda count: map(str, range(count))])
def test_a_stream_that_is_worked_on_after_the_call_has_no_share_of_the_time(stream: Any) -> None:
    model, other = watch(stream, name="streams"), watch(len, name="whole")
    with OncePass([model, other]) as once:
        model(3)
        other("abc")
        once.done(1)
    assert [each is None for each in once.share(1.0)] == [True, False]
    inside, measured = Inside(), block(50.0, queries=1, gap_s=0.0)
    with set_aside([model, other]) as tallies:
        model(3)
        other("abc")
        inside.note(measured.start_ns, tallies)
    found = inside.shared(once.found(1), [measured])
    assert found is not None
    assert [each.share is None for each in found.models] == [True, False]
    with pytest.raises(MeterError, match="What streams returned was a stream"):
        _ = model.seconds
    assert other.seconds > 0


def test_energy_that_cannot_be_shared_out_says_why() -> None:
    assert energy_of([], 0, Aim()) == Missing("nothing was measured since the model is watched")
    unmetered = run(metered=False, sources=(), watching=Watching(100, 1, (Watched("it", 1),)))
    assert energy_of([unmetered], 0, Aim()) == Missing("not measured: run pytest with --energy-budget")
    blocks = [block(50.0, queries=10, set_index=index) for index in range(6)]
    assert isinstance(energy_of([run(blocks, watching=Watching(100, 1, (Watched("it", 1),)))], 0, Aim()), Missing)
    with pytest.raises(MeterError, match=r"There is no energy: nothing is metered here\."):
        _ = watch(len).energy


def test_reasoning_is_the_larger_of_what_is_shown_and_what_was_generated() -> None:
    seen = Watching(4, 4, (Watched("it", 4, tokens=80, reasoning=40),))
    shown = run(queries=4, tokens=(5, 5, 5, 5), reasoning=(0, 0, 0, 0), watching=seen)
    for name, value in (("reasoning_default", 10.0), ("reasoning_tokens_per_query", 10.0), ("tokens_per_query", 5.0)):
        found = estimate(shown, METRICS[name], Aim())
        assert isinstance(found, Estimate)
        assert found.value == value


@pytest.mark.alone
def test_watching_costs_a_call_at_most_some_steps_of_python() -> None:
    batch, answer = ["a prompt"], ["an answer"]

    def bare(_: object, **__: object) -> list[str]:
        return answer

    def seconds(function: Any, calls: int = 1000) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            function(batch, max_new_tokens=5, do_sample=False)
        return (time.perf_counter() - start) / calls

    model = watch(bare, tokens=len)

    def kept() -> float:
        with OncePass([model]) as seen:
            added_s = seconds(model) - seconds(bare)
        assert seen.found(1000) is not None
        return added_s

    def apart() -> float:
        with set_aside([model]):
            return seconds(model) - seconds(bare)

    assert in_steps(kept) <= STEPS_A_CALL
    assert in_steps(apart) <= STEPS_A_CALL
