"""The client against a server that answers, stalls, drops, refuses and babbles."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.machine.clock import RealClock
from pytest_greencompute.serving.account import Done
from pytest_greencompute.serving.client import HEADS, WHOLE, Client, Connection, needed
from pytest_greencompute.serving.load import check_answers, open_client
from pytest_greencompute.serving.request import Request, request_of
from tests.serving.stub import Behaviour, serving


def wanted(url: str, **fields: Any) -> Request:
    return request_of(url, ["one", "two", "three"], environ={"KEY": "secret"}, **fields)


@contextmanager
def client_of(behaviour: Behaviour, model: str | None = None, **fields: Any) -> Iterator[Client]:
    with serving(behaviour) as url:
        client, _ = open_client(wanted(url, **fields), model, RealClock())
        with client:
            yield client


@pytest.mark.alone(waits=True)
@pytest.mark.parametrize("request_kind", ["openai-chat", "openai-completions"])
@pytest.mark.parametrize("stream", [True, False])
def test_answers_with_their_tokens_and_times(request_kind: str, stream: bool) -> None:
    with client_of(Behaviour(first_s=0.05, token_s=0.02, tokens=3), request=request_kind, stream=stream) as client:
        done = client.ask(1)
    assert (done.prompt, done.failed, done.text, done.tokens) == (1, "", "two w0 w1 ", 3)
    assert done.seconds >= 0.09
    if stream:
        assert done.first_s is not None
        assert 0.05 <= done.first_s <= done.seconds
        assert len(done.gaps_s) == 2
        assert min(done.gaps_s) >= 0.01
    else:
        assert done.first_s is None
        assert done.gaps_s == ()


def test_max_tokens_reach_the_server() -> None:
    with client_of(Behaviour(tokens=9), max_tokens=2) as client:
        assert client.ask(0).tokens == 3  # the prompt's word and two more


def test_without_usage_the_events_of_a_stream_are_counted_and_that_is_known() -> None:
    with client_of(Behaviour(usage=False, tokens=3)) as client:
        done = client.ask(0)
    assert (done.tokens, done.by_events) == (3, True)
    with client_of(Behaviour(usage=False, tokens=3), stream=False) as client:
        done = client.ask(0)
    assert (done.tokens, done.by_events) == (None, False)


def test_a_usage_of_no_tokens_beside_a_text_counts_nothing() -> None:
    for reports in ({"completion_tokens": 0}, {"completion_tokens": None}, {"completion_tokens": 1}):
        with client_of(Behaviour(reports=reports, tokens=4)) as client:
            done = client.ask(0)
        assert (done.tokens, done.by_events) == (4, True)
    with client_of(Behaviour(reports={"completion_tokens": 0}), stream=False) as client:
        assert client.ask(0).tokens is None


@pytest.mark.alone(waits=True)
def test_an_event_that_brings_several_tokens_is_that_many_times_from_token_to_token() -> None:
    one, four = Behaviour(tokens=16, token_s=0.02), Behaviour(tokens=16, token_s=0.02, an_event=4)
    gaps = []
    for behaviour in (one, four):
        with client_of(behaviour) as client:
            done = client.ask(0)
        assert (done.tokens, done.events, done.by_events) == (16, 16 // behaviour.an_event, False)
        gaps.append(sorted(done.gaps_s)[len(done.gaps_s) // 2])
    assert gaps[1] == pytest.approx(gaps[0], rel=0.3)  # it was four times as long


def test_what_the_server_had_in_a_cache() -> None:
    reports = {"prompt_tokens": 40, "prompt_tokens_details": {"cached_tokens": 30}}
    for stream in (True, False):
        with client_of(Behaviour(reports=reports), stream=stream) as client:
            done = client.ask(0)
        assert (done.prompt_tokens, done.cached) == (40, 30)
    with client_of(Behaviour(reports={"prompt_tokens": 40, "prompt_tokens_details": None})) as client:
        assert (client.ask(0)).cached is None


def test_a_stream_that_ends_without_done_is_whole_where_it_said_that_it_ends() -> None:
    with client_of(Behaviour(done=False)) as client:
        assert client.ask(0).failed == ""


@pytest.mark.parametrize(
    ("fault", "stream", "reason", "words"),
    [
        ("429", True, "status 429", "the server is 429"),
        ("500", False, "status 500", "the server is 500"),
        ("drop", True, "connection dropped", ""),
        ("drop", False, "connection dropped", ""),
        ("hang up", True, "connection dropped", ""),
        ("stall", True, "no answer within 1 s", ""),
        ("stall", False, "no answer within 1 s", ""),
        ("malformed", True, "malformed answer", "no JSON"),
        ("malformed", False, "malformed answer", "no JSON"),
        ("whole", True, "malformed answer", "got 'application/json'. Where the server does not stream, pass stream=False."),
        ("cut", True, "answer cut short", ""),
        ("no end", True, "answer cut short", "without a finish_reason"),
        ("ended by abort", True, "ended by abort", ""),
        ("ended by abort", False, "ended by abort", ""),
        ("ended by error", True, "ended by error", ""),
        ("ended by content_filter", False, "ended by content_filter", ""),
        ("ended by whatever", True, "ended by whatever", ""),
        ("error event", True, "error in the answer", "overloaded"),
    ],
)
def test_each_failure_has_its_reason_and_the_next_request_is_answered(fault: str, stream: bool, reason: str, words: str) -> None:
    with client_of(Behaviour(faults=[fault, ""]), stream=stream, timeout_s=1 if fault == "stall" else 30) as client:
        failed, answered = client.ask(0), client.ask(0)
    assert failed.failed == reason
    assert words in failed.said
    assert answered.failed == ""


@pytest.mark.parametrize("stream", [True, False])
def test_answers_that_were_cut_are_answers(stream: bool) -> None:
    with client_of(Behaviour(faults=["ended by length", "ended by tool_calls"]), stream=stream) as client:
        assert [(done.failed, done.cut) for done in (client.ask(0), client.ask(1))] == [("", True), ("", False)]


@pytest.mark.parametrize("stream", [True, False])
def test_a_request_that_finds_a_kept_connection_closed_is_sent_again_over_a_new_one(stream: bool) -> None:
    with client_of(Behaviour(faults=["", "forget"]), stream=stream) as client:
        asked = [client.ask(0) for _ in range(4)]
    assert [(done.failed, done.reconnected) for done in asked] == [("", False), ("", True), ("", True), ("", True)]


def test_a_server_that_closes_each_connection_answers_all_the_same() -> None:
    with client_of(Behaviour(closes=True)) as client:
        asked = [client.ask(0) for _ in range(10)]
    assert {done.failed for done in asked} == {""}
    assert [done.reconnected for done in asked] == [False, *[True] * 9]


@pytest.mark.parametrize("fault", ["drop", "hang up", "half a head", "break"])
def test_a_request_that_was_begun_to_be_answered_or_worked_on_is_not_sent_again(fault: str) -> None:
    """Were it sent again, it would be answered."""
    with client_of(Behaviour(faults=["", fault, "", ""])) as client:
        asked = [client.ask(0) for _ in range(3)]
    assert [done.failed for done in asked] == ["", "connection dropped", ""]


def test_a_new_connection_that_is_dropped_is_a_failure() -> None:
    with client_of(Behaviour(faults=["forget"])) as client:
        assert [client.ask(0).failed for _ in range(2)] == ["connection dropped"] * 2
    with client_of(Behaviour(faults=["", "forget", "forget"])) as client:  # and so is one that was dropped twice
        assert [client.ask(0).failed for _ in range(2)] == ["", "connection dropped"]


@pytest.mark.parametrize(
    ("version", "heads", "kept"),
    [
        (b"HTTP/1.1", [], True),
        (b"HTTP/1.1", [(b"Connection", b"Keep-Alive")], True),
        (b"HTTP/1.1", [(b"Connection", b"Close")], False),
        (b"HTTP/1.0", [], False),
        (b"HTTP/1.0", [(b"connection", b"keep-alive")], True),
    ],
)
def test_a_server_that_says_that_it_closes_a_connection_keeps_none(version: bytes, heads: list[tuple[bytes, bytes]], kept: bool) -> None:
    line = Connection(None)  # type: ignore[arg-type]
    line.see(HEADS, (version, 200, b"OK", heads))
    assert not line.begin()
    line.see(WHOLE, None)
    assert line.begin() is kept
    assert not line.begin()


def test_an_older_httpx_sse_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for found, refused in (("0.4.1", True), ("0.4.0", True), ("0.4.2", False), ("0.5", False), ("1.0.0rc1", False)):
        monkeypatch.setattr("importlib.metadata.version", lambda _, found=found: found)
        if not refused:
            needed()
            continue
        with pytest.raises(SettingsError, match=f"needs httpx-sse 0.4.2: {found} tears") as told:
            needed()
        assert "pip install" in told.value.remedy


def test_a_character_that_python_takes_for_the_end_of_a_line_tears_no_event() -> None:
    with serving() as url:
        client, _ = open_client(request_of(url, ["one\u2028two\x85three"]), None, RealClock())
        with client:
            done = client.ask(0)
    assert (done.failed, done.text.split("w0")[0]) == ("", "one\u2028two\x85three ")


def test_a_trickle_of_tokens_does_not_outlast_the_time_limit() -> None:
    with client_of(Behaviour(tokens=1000, token_s=0.05), max_tokens=1000, timeout_s=0.4) as client:
        start = time.perf_counter()
        assert client.ask(0).failed == "no answer within 0.4 s"
        assert time.perf_counter() - start < 5


def test_nobody_there() -> None:
    with serving() as url:
        pass
    client, _ = open_client(wanted(url), "m", RealClock())
    with client, pytest.raises(SettingsError, match="failed: no connection") as refused:
        check_answers(client, wanted(url))
    assert "Wait until the server answers" in refused.value.remedy
    with pytest.raises(SettingsError, match="gave no list of models: no connection"):
        open_client(wanted(url), None, RealClock())


def test_the_model_is_asked_of_the_server_where_it_has_one_only() -> None:
    with serving(Behaviour(models=["small", "large"])) as url:
        with pytest.raises(SettingsError, match=r"has 2 models \(small, large\)"):
            open_client(wanted(url), None, RealClock())
        assert open_client(wanted(url), "small", RealClock())[1] == "small"
        for none in ("", 7):
            with pytest.raises(SettingsError, match="model is"):
                open_client(wanted(url), none, RealClock())  # type: ignore[arg-type]
    with serving(Behaviour(models=["only"])) as url:
        assert open_client(wanted(url), None, RealClock())[1] == "only"


def test_a_key_is_sent_and_its_lack_is_the_servers_to_tell() -> None:
    with serving(Behaviour(key="secret")) as url:
        with pytest.raises(SettingsError, match=r"status 401 \(no such key\)"):
            open_client(wanted(url), None, RealClock())
        client, _ = open_client(wanted(url, api_key_env="KEY"), None, RealClock())
        with client:
            assert client.ask(0).failed == ""


def test_each_prompt_once() -> None:
    with client_of(Behaviour(first_s=0.02)) as client:
        ended = client.once(range(3), 2)
    assert Counter(done.prompt for done in ended) == {0: 1, 1: 1, 2: 1}


def test_a_closed_loop_keeps_as_many_requests_open_as_it_was_told_and_takes_the_prompts_in_turn() -> None:
    ended, until = list[Done](), time.monotonic() + 60
    with client_of(Behaviour(first_s=0.05, tokens=1)) as client:
        client.begin(6)
        while len(ended) <= 60 and time.monotonic() < until:  # a second where nothing else runs
            time.sleep(0.05)
            oldest_ns = client.oldest_ns()
            ended += client.taken()
        client.end(within_s=30)
        later = client.taken()
    counts = Counter(done.prompt for done in ended)
    assert max(counts.values()) - min(counts.values()) <= 6
    at_once = [sum(each.sent_ns <= done.sent_ns < each.ended_ns for each in ended) for done in ended[6:-6]]
    assert len(ended) > 60
    assert max(at_once) == 6
    assert later
    assert all(done.sent_ns >= oldest_ns for done in later)


def test_at_its_end_a_load_lets_open_requests_finish_and_gives_up_what_takes_too_long() -> None:
    with client_of(Behaviour(first_s=0.3, faults=["", "", "stall"])) as client:
        client.begin(3)
        time.sleep(0.1)
        start = time.perf_counter()
        client.end(within_s=1.0)
        took = time.perf_counter() - start
        ended = client.taken()
        assert client.ask(0).failed == ""
    assert [done.failed for done in ended] == ["", ""]
    assert 0.9 < took < 3


def test_a_server_that_refuses_is_not_flooded() -> None:
    with client_of(Behaviour(faults=["429"])) as client:
        client.begin(2)
        time.sleep(0.5)
        ended = client.taken()
        client.end()
    assert 2 <= len(ended) <= 2 * 6  # a tenth of a second between two


def test_what_breaks_in_a_slot_is_raised() -> None:
    with client_of(Behaviour()) as client:
        client._requests[0] = None  # type: ignore[call-overload]
        client.begin(1)
        time.sleep(0.2)
        with pytest.raises(AttributeError):
            client.taken()
