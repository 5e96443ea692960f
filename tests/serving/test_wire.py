"""What is sent to a server, what its answers say, and which addresses are refused."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.serving.request import levels, request_of
from pytest_greencompute.serving.wire import (
    AnswerError,
    Chunk,
    address,
    an_event,
    answer_of,
    body,
    chunk_of,
    endpoint_of,
    is_elsewhere,
    models_of,
    port_of,
    said,
)

CHAT, TEXT = endpoint_of("openai-chat"), endpoint_of("openai-completions")


@pytest.mark.parametrize(
    ("given_url", "base"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1"),
        ("http://localhost:8000/", "http://localhost:8000/v1"),
        (" http://[::1]:8000/v1 ", "http://[::1]:8000/v1"),
        ("http://127.8.8.8:80/v1/chat/completions", "http://127.8.8.8:80/v1"),
        ("http://127.0.0.1:11434/v1/completions", "http://127.0.0.1:11434/v1"),
        ("https://vllm.localhost/api/openai", "https://vllm.localhost/api/openai"),
    ],
)
def test_any_address_of_the_server_will_do(given_url: str, base: str) -> None:
    assert address(given_url) == base
    assert not is_elsewhere(base, on_this_machine=False, meters_see_hosts=lambda: False)


def test_ports() -> None:
    assert [port_of(each) for each in ("http://localhost/v1", "https://localhost/v1", "http://localhost:81/v1")] == [80, 443, 81]


@pytest.mark.parametrize("url", ["http://10.0.0.2:8000", "http://gpu-box:8000", "https://api.openai.com/v1", "http://0.0.0.0:8000"])
def test_another_machine_is_refused_unless_it_is_this_one_or_metered(url: str) -> None:
    base = address(url)
    assert base.startswith(url)
    with pytest.raises(SettingsError, match="may be another machine"):
        is_elsewhere(base, on_this_machine=False, meters_see_hosts=lambda: False)
    assert not is_elsewhere(base, on_this_machine=True, meters_see_hosts=lambda: False)
    assert is_elsewhere(base, on_this_machine=False, meters_see_hosts=lambda: True)


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000",
        "ftp://localhost",
        "http://",
        "http://[::1",
        "http://localhost:port",
        8000,
        None,
        "http://me:key@localhost",
        "http://localhost/?a=1",
    ],
)
def test_what_is_no_address_is_refused_with_a_remedy(url: object) -> None:
    with pytest.raises(SettingsError) as refused:
        address(url)
    assert refused.value.remedy


def test_a_request_has_the_prompt_as_a_chat_or_as_a_text() -> None:
    sent = json.loads(body(CHAT, "Hi", "m", max_tokens=5, stream=True, options={"temperature": 0}))
    assert sent == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 5,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0,
    }
    chat = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hi"}]
    assert json.loads(body(CHAT, chat, "m", max_tokens=5, stream=False, options={}))["messages"] == chat
    assert json.loads(body(TEXT, "Hi", "m", max_tokens=5, stream=False, options={}))["prompt"] == "Hi"


@pytest.mark.parametrize(
    ("kind", "prompt"), [(CHAT, 7), (CHAT, []), (CHAT, ["Hi"]), (TEXT, [{"role": "user", "content": "Hi"}]), (CHAT, b"Hi")]
)
def test_prompts_of_other_kinds_are_refused(kind: Any, prompt: object) -> None:
    with pytest.raises(SettingsError, match="A prompt is a"):
        body(kind, prompt, "m", max_tokens=5, stream=False, options={})


def test_options_that_are_no_json_are_refused() -> None:
    for value in (float("nan"), object()):
        with pytest.raises(SettingsError, match="cannot be sent as JSON"):
            body(CHAT, "Hi", "m", max_tokens=5, stream=False, options={"temperature": value})


def test_whole_answers() -> None:
    chat = {"choices": [{"message": {"content": "Yes."}}], "usage": {"completion_tokens": 3}}
    assert answer_of(CHAT, json.dumps(chat)) == Chunk("Yes.", speaks=True, tokens=3, ends=True)
    text = {"choices": [{"text": "Yes."}]}
    assert answer_of(TEXT, json.dumps(text)) == Chunk("Yes.", speaks=True, tokens=None, ends=True)
    called = {"choices": [{"message": {"content": None, "tool_calls": [{}]}}], "usage": {"completion_tokens": 0}}
    assert answer_of(CHAT, json.dumps(called)) == Chunk("", speaks=True, tokens=None, ends=True)  # it does not count
    nothing = {"choices": [{"message": {"content": None}}], "usage": {"completion_tokens": 0}}
    assert answer_of(CHAT, json.dumps(nothing)).tokens == 0


def test_parts_of_a_stream() -> None:
    def part(delta: dict[str, Any], **more: Any) -> Chunk:
        return chunk_of(CHAT, json.dumps({"choices": [{"delta": delta, **more}]}))

    assert part({"role": "assistant", "content": ""}) == Chunk()
    assert part({"content": "Y"}) == Chunk("Y", speaks=True)
    assert part({"reasoning_content": "Hm"}) == Chunk("", speaks=True)
    assert part({"reasoning": "Hm", "content": None}).speaks
    for name, written in (("function_call", {"name": "f", "arguments": ""}), ("refusal", "I can't."), ("tool_calls", [{}])):
        assert part({name: written, "content": None}) == Chunk(speaks=True)
    assert part({}, finish_reason="stop") == Chunk(ends=True)
    assert chunk_of(CHAT, '{"choices": [], "usage": {"completion_tokens": 9}}') == Chunk(tokens=9)
    assert chunk_of(TEXT, '{"choices": [{"text": "Y", "finish_reason": null}]}') == Chunk("Y", speaks=True)


@pytest.mark.parametrize(
    ("word", "cut"),
    [("stop", False), ("length", True), ("tool_calls", False), ("eos_token", False), ("STOP", False), ("model_length", True)],
)
def test_words_with_which_an_answer_ends(word: str, cut: bool) -> None:
    event = chunk_of(CHAT, json.dumps({"choices": [{"delta": {}, "finish_reason": word}]}))
    whole = answer_of(TEXT, json.dumps({"choices": [{"text": "Y", "finish_reason": word}]}))
    assert (event.ends, event.cut, whole.cut) == (True, cut, cut)


@pytest.mark.parametrize(
    "word", ["abort", "error", "content_filter", "timeout", "cancelled", "load", "unheard-of", 7, ["stop"], {"type": "stop"}]
)
def test_any_other_word_says_that_the_answer_did_not_come(word: object) -> None:
    for sent in ({"delta": {}}, {"message": {"content": "Y"}}):
        with pytest.raises(AnswerError, match="ended by "):
            (chunk_of if "delta" in sent else answer_of)(CHAT, json.dumps({"choices": [{**sent, "finish_reason": word}]}))


@pytest.mark.parametrize("word", [None, "", False])
def test_an_answer_that_goes_on_has_no_word(word: object) -> None:
    assert chunk_of(CHAT, json.dumps({"choices": [{"delta": {"content": "Y"}, "finish_reason": word}]})) == Chunk("Y", speaks=True)


def test_several_answers_to_one_request_are_refused() -> None:
    for choices in ([{"delta": {}}, {"delta": {}}], [{"delta": {"content": "Y"}, "index": 1}]):
        with pytest.raises(AnswerError, match="several answers"):
            chunk_of(CHAT, json.dumps({"choices": choices}))
    assert chunk_of(CHAT, '{"choices": [{"index": 0, "delta": {"content": "Y"}}]}').text == "Y"


def test_what_a_usage_says() -> None:
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 12},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    found = chunk_of(CHAT, json.dumps({"choices": [], "usage": usage}))
    assert found == Chunk(tokens=5, reasoning=3, prompt=10, cached=10)  # no more than there are
    assert chunk_of(CHAT, json.dumps({"choices": [], "usage": {**usage, "prompt_tokens_details": {}}})).cached is None
    assert chunk_of(CHAT, json.dumps({"choices": [], "usage": {**usage, "completion_tokens": 10**400}})).tokens is None
    assert chunk_of(CHAT, json.dumps({"choices": [], "usage": {**usage, "prompt_tokens_details": {"cached_tokens": 0}}})).cached == 0


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"completion_tokens": 16}, 100),  # reasoning that is more than all cannot be a part of it
        ({"completion_tokens": 90, "total_tokens": 184}, 174),
        ({"completion_tokens": 90, "total_tokens": 100}, 90),
        ({"completion_tokens": 90, "total_tokens": "184"}, 90),
    ],
)
def test_reasoning_that_is_counted_apart_is_counted(usage: dict[str, Any], tokens: int) -> None:
    told = {"prompt_tokens": 10, **usage, "completion_tokens_details": {"reasoning_tokens": 84}}
    found = chunk_of(CHAT, json.dumps({"choices": [], "usage": told}))
    assert (found.tokens, found.reasoning) == (tokens, 84)


@pytest.mark.parametrize(
    ("told", "events", "reasoned", "each"),
    [
        (Chunk(tokens=16), 4, False, 4),
        (Chunk(tokens=16), 16, False, 1),
        (Chunk(tokens=17), 16, False, 1),  # the end of an answer is a token that brings no text
        (Chunk(tokens=27), 18, False, 1.5),
        (Chunk(tokens=14), 16, False, 1),  # a call of a tool in several events
        (Chunk(tokens=100, reasoning=84), 16, False, 1),  # reasoning that was not shown
        (Chunk(tokens=100, reasoning=84), 100, True, 1),
        (Chunk(tokens=100, reasoning=84), 25, True, 4),
        (Chunk(tokens=5), 0, False, 1),
        (Chunk(tokens=0), 0, False, 1),
        (Chunk(tokens=0), 4, False, None),
        (Chunk(tokens=1), 4, False, None),
        (Chunk(), 4, False, None),
        (None, 4, False, None),
    ],
)
def test_tokens_an_event(told: Chunk | None, events: int, reasoned: bool, each: float | None) -> None:
    assert an_event(told, events, reasoned=reasoned) == each


@pytest.mark.parametrize("usage", [None, 7, {}, {"completion_tokens": "9"}, {"completion_tokens": -1}, {"completion_tokens": True}])
def test_a_usage_that_says_no_number_is_none(usage: object) -> None:
    assert chunk_of(CHAT, json.dumps({"choices": [], "usage": usage})).tokens is None


@pytest.mark.parametrize(
    "data",
    [
        "",
        "{",
        "[]",
        '"Hi"',
        '{"choices": 7}',
        '{"choices": ["Hi"]}',
        '{"choices": [{"delta": 7}]}',
        '{"choices": [{"delta": {"content": 7}}]}',
    ],
)
def test_malformed_events_are_told_as_such(data: str) -> None:
    with pytest.raises(AnswerError, match="malformed answer"):
        chunk_of(CHAT, data)


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_whatever_a_server_sends_is_an_answer_or_an_answer_error(sent: Any) -> None:
    for wrapped in (sent, {"choices": sent}, {"choices": [sent]}, {"choices": [{"delta": sent, "message": sent}], "usage": sent}):
        for read in (answer_of, chunk_of):
            with contextlib.suppress(AnswerError):
                assert isinstance(read(CHAT, json.dumps(wrapped)), Chunk)


def test_an_error_in_an_answer_has_the_servers_words() -> None:
    with pytest.raises(AnswerError, match="error in the answer") as told:
        chunk_of(CHAT, '{"error": {"message": "out of memory"}}')
    assert told.value.said == "out of memory"
    for sent in (
        {"choices": [{"delta": {}}], "error": {"message": "out of memory"}},
        {"choices": [{"delta": {}, "error": {"message": "out of memory"}}]},
        {"object": "error", "message": "out of memory", "code": 500},
    ):
        with pytest.raises(AnswerError, match="error in the answer") as told:
            chunk_of(CHAT, json.dumps(sent))
        assert told.value.said == "out of memory"
    assert chunk_of(CHAT, '{"choices": [{"delta": {"content": "Y"}}], "error": null}').text == "Y"
    assert said('{"error": {"message": "busy"}}') == "busy"
    assert said('{"error": "busy"}') == "busy"
    assert said("<html>") == "<html>"


def test_models() -> None:
    assert models_of('{"data": [{"id": "a"}, {"id": "b"}]}') == ["a", "b"]
    for none in ("{}", '{"data": [7]}', '{"data": [{"id": 7}]}', '{"models": []}'):
        with pytest.raises(AnswerError):
            models_of(none)


# What a call asks for

USUAL: dict[str, Any] = {
    "request": "openai-chat",
    "environ": {"KEY": "secret"},
    "api_key_env": None,
    "headers": None,
    "options": None,
    "on_this_machine": False,
}


def test_the_key_is_taken_from_the_environment_and_sent_as_a_head() -> None:
    found = request_of("http://localhost:1", ["Hi"], **{**USUAL, "api_key_env": "KEY", "headers": {"x": "y"}})
    assert found.headers == {"x": "y", "authorization": "Bearer secret"}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"request": "grpc"}, "request is 'grpc'"),
        ({"request": ["openai-chat"]}, "request is"),
        ({"api_key_env": "NONE"}, "not set"),
        ({"api_key_env": 7}, "not set"),
        ({"options": {"stream": False}}, "options has 'stream'"),
        ({"options": ["temperature"]}, "options is"),
        ({"options": {"n": 2}}, "options has 'n': 2"),
        ({"options": {"best_of": 4}}, "options has 'best_of': 4"),
        ({"options": {"n": "1"}}, "options has 'n'"),
        ({"headers": {"x": 7}}, "headers holds"),
        ({"headers": {"x": "ä"}}, "headers holds"),
        ({"headers": ["x"]}, "headers holds"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"max_tokens": True}, "max_tokens is True"),
        ({"stream": "yes"}, "stream is 'yes'"),
        ({"timeout_s": 0}, "timeout is 0"),
        ({"timeout_s": float("inf")}, "timeout is inf"),
        ({"timeout_s": True}, "timeout is True"),
        ({"timeout_s": "1 s"}, "timeout is '1 s'"),
    ],
)
def test_bad_input_is_refused_with_a_remedy(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says) as refused:
        request_of("http://localhost:1", ["Hi"], **{**USUAL, **wrong})
    assert refused.value.remedy


def test_one_answer_may_be_asked_for() -> None:
    assert request_of("http://localhost:1", ["Hi"], **{**USUAL, "options": {"n": 1, "best_of": None}}).options == {"n": 1, "best_of": None}


def test_no_prompts_are_refused() -> None:
    with pytest.raises(SettingsError):
        request_of("http://localhost:1", [], **USUAL)


def test_loads() -> None:
    assert levels(8) == (8,)
    assert levels(iter([1, 8, 32])) == (1, 8, 32)
    for wrong in (0, -1, True, 1.5, "8", None, [], [1, 1], [1, "8"], [True]):
        with pytest.raises(SettingsError, match="concurrency is"):
            levels(wrong)
