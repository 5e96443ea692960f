"""The client against a server that answers, stalls, drops, refuses and babbles."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pytest_greencompute.clock import RealClock
from pytest_greencompute.errors import SettingsError
from pytest_greencompute.serving.asked import Asked, asked
from pytest_greencompute.serving.client import Client
from pytest_greencompute.serving.load import check_answers, open_client
from tests.serving.stub import Behaviour, serving


def wanted(url: str, **fields: Any) -> Asked:
    return asked(url, ["one", "two", "three"], environ={"KEY": "secret"}, **fields)


@contextmanager
def client_of(behaviour: Behaviour, model: str | None = None, **fields: Any) -> Iterator[Client]:
    with serving(behaviour) as url:
        client, _ = open_client(wanted(url, **fields), model, RealClock())
        with client:
            yield client


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
        assert client.ask(0).tokens == 3
        assert client.by_events
    with client_of(Behaviour(usage=False, tokens=3), stream=False) as client:
        assert client.ask(0).tokens is None
        assert not client.by_events


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
        ("stall", True, "no answer within 0.3 s", ""),
        ("stall", False, "no answer within 0.3 s", ""),
        ("malformed", True, "malformed answer", "no JSON"),
        ("malformed", False, "malformed answer", "no JSON"),
        ("cut", True, "answer cut short", ""),
    ],
)
def test_each_failure_has_its_reason_and_the_next_request_is_answered(fault: str, stream: bool, reason: str, words: str) -> None:
    with client_of(Behaviour(faults=[fault, ""]), stream=stream, timeout_s=0.3) as client:
        failed, answered = client.ask(0), client.ask(0)
    assert failed.failed == reason
    assert words in failed.said
    assert answered.failed == ""


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
    with client_of(Behaviour(first_s=0.05, tokens=1)) as client:
        client.begin(6)
        time.sleep(1.0)
        oldest_ns = client.oldest_ns()
        ended = client.taken()
        client.end()
    counts = Counter(done.prompt for done in ended)
    assert max(counts.values()) - min(counts.values()) <= 6
    at_once = [sum(each.sent_ns <= done.sent_ns < each.ended_ns for each in ended) for done in ended[6:-6]]
    assert max(at_once) <= 6
    assert len(ended) > 60  # a slot alone would have twenty
    assert all(done.ended_ns > oldest_ns - 1e9 for done in ended)


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
