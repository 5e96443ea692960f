"""The requests of OpenAI's HTTP interface, which local model servers speak, and what their answers say. Pure: no socket is opened here."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from pytest_greencompute.errors import SettingsError

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

Fields = Mapping[str, Any]  # an object that a server wrote, or that is sent to one
DONE = "[DONE]"  # the data of the last event of a stream
SHOWN = 200  # characters of a server's own words that an error repeats
MOST_TOKENS = 10**12  # of an answer; more is no number of tokens
SHOWN_WORD = 40  # and of a word that stands among the reasons of failures


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A sort of request: its path below the address, the field of the prompt, and where an answer and a chunk of one have their text."""

    path: str
    prompt: str
    answer: str
    chunk: str


ENDPOINTS: Mapping[str, Endpoint] = {
    "openai-chat": Endpoint("/chat/completions", "messages", "message", "delta"),
    "openai-completions": Endpoint("/completions", "prompt", "", ""),
}
# The words with which an answer ends as it should, and whether it was cut at its limit of tokens. Any other says that the answer did not
# come, or not all of it: "abort", "error", "timeout", "cancelled", "load", and "content_filter", which holds back what was generated.
ENDS: Mapping[str, bool] = {
    "stop": False,
    "length": True,
    "tool_calls": False,
    "function_call": False,  # of OpenAI before there were tools
    "eos_token": False,  # TGI, and the next
    "stop_sequence": False,
    "repetition": False,  # vLLM, asked to stop an answer that repeats itself
    "model_length": True,  # Mistral
    "max_tokens": True,  # gateways that pass on words of Anthropic's interface, and the next two
    "end_turn": False,
    "tool_use": False,
}
_ERROR = "error in the answer"
# What a model writes beside a text. Reasoning is so called by vLLM, SGLang and llama.cpp; and by Ollama.
_WRITTEN = ("reasoning_content", "reasoning", "tool_calls", "function_call", "refusal")


class AnswerError(Exception):
    """An answer that is none. ``args[0]`` is the reason in a few words, the same for all of its kind; ``said`` the server's own."""

    def __init__(self, reason: str, said: str = "") -> None:
        super().__init__(reason)
        self.said = said[:SHOWN]


@dataclass(frozen=True, slots=True)
class Chunk:
    """What an answer, or one event of it, holds: its text, and the tokens of the whole answer where it says them.

    ``speaks``: it brings a token, be it of reasoning. ``ends``: the answer is complete, ``cut``: at its limit of tokens. Of the tokens
    ``reasoning`` are reasoning; ``prompt`` is how many the prompt has, ``cached`` how many of these the server had in a cache.
    """

    text: str = ""
    speaks: bool = False
    tokens: int | None = None
    ends: bool = False
    cut: bool = False
    reasoning: int = 0
    prompt: int = 0
    cached: int | None = None


def endpoint_of(request: object) -> Endpoint:
    """Where requests of that name go. Raises SettingsError."""
    found = ENDPOINTS.get(request) if isinstance(request, str) else None
    if found is None:
        raise SettingsError(f"request is {request!r}.", remedy=f"It is one of {', '.join(map(repr, ENDPOINTS))}.")
    return found


def address(url: object) -> str:
    """The address below which the server has its paths, such as ``http://127.0.0.1:8000/v1``, from whatever of it a user has at hand.

    Raises SettingsError.
    """
    remedy = "Pass the address that the server prints when it starts, such as 'http://127.0.0.1:8000'."
    if not isinstance(url, str):
        raise SettingsError(f"url is {url!r}.", remedy=remedy)
    try:
        parts = urlsplit(url.strip())
        host, _port = parts.hostname, parts.port
    except ValueError as error:
        raise SettingsError(f"url is {url!r}: {error}.", remedy=remedy) from error
    if parts.scheme not in {"http", "https"} or not host:
        raise SettingsError(f"url is {url!r}, which is no address of HTTP.", remedy=remedy)
    if parts.query or parts.fragment or parts.username is not None:
        raise SettingsError(
            f"url is {url!r}, which holds more than an address.", remedy="Pass what else the server needs as headers= or api_key_env=."
        )
    path = parts.path.rstrip("/")
    for endpoint in ENDPOINTS.values():
        path = path.removesuffix(endpoint.path)
    return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"


def is_elsewhere(base: str, *, on_this_machine: bool, meters_see_hosts: Callable[[], bool]) -> bool:
    """Whether the server at an ``address`` is on another machine, whose energy is metered.

    Most meters read this machine, so a name that is not of the loopback is refused unless ``on_this_machine`` says that it is one of this
    machine's all the same, such as a container's, or there are meters of other hosts. Raises SettingsError.
    """
    host = urlsplit(base).hostname or ""
    if on_this_machine or _is_loopback(host):
        return False
    if not meters_see_hosts():
        raise SettingsError(
            f"{host} may be another machine, and energy is read on this one.",
            remedy="Meter that host: --energy-meter prometheus, or dcgm. Or pass the server's address on the loopback, such as "
            "'http://127.0.0.1:8000'; if the name is one of this machine's (a container), say so: on_this_machine=True.",
        )
    return True


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def port_of(base: str) -> int:
    """The port of an ``address``."""
    parts = urlsplit(base)
    return parts.port or {"http": 80, "https": 443}[parts.scheme]


def body(endpoint: Endpoint, prompt: object, model: str, *, max_tokens: int, stream: bool, options: Fields) -> bytes:
    """The JSON of one request. A prompt is a text, or for a chat also a list of messages. Raises SettingsError for others."""
    is_chat = endpoint.prompt == "messages"
    if not isinstance(prompt, str) and not (is_chat and _is_chat(prompt)):
        remedy = "Pass texts, or chats: lists of {'role': …, 'content': …}." if is_chat else "Pass texts, or request='openai-chat'."
        raise SettingsError(f"A prompt is a {type(prompt).__name__}.", remedy=remedy)
    asked = [{"role": "user", "content": prompt}] if is_chat and isinstance(prompt, str) else prompt
    fields: Fields = {"model": model, endpoint.prompt: asked, "max_tokens": max_tokens, "stream": stream}
    usage = {"stream_options": {"include_usage": True}} if stream else {}
    try:
        return json.dumps({**fields, **usage, **options}, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise SettingsError(f"A prompt or an option cannot be sent as JSON: {error}.", remedy="Pass plain texts and numbers.") from error


def _is_chat(prompt: object) -> bool:
    return isinstance(prompt, Sequence) and bool(prompt) and all(isinstance(each, Mapping) and "role" in each for each in prompt)


def answer_of(endpoint: Endpoint, text: str | bytes) -> Chunk:
    """A whole answer out of its JSON. Raises AnswerError."""
    found = _read(text)
    choice = _choice(found)
    if choice is None:
        raise AnswerError("malformed answer", "it has no choices")
    text = _text(choice, endpoint.answer)
    told = _usage(found)
    speaks = bool(text) or _writes(choice, endpoint.answer)
    tokens = None if speaks and told.tokens == 0 else told.tokens  # it cannot be: the server does not count
    return replace(told, text=text, speaks=True, tokens=tokens, ends=True, cut=_ended(choice) is True)


def chunk_of(endpoint: Endpoint, data: str) -> Chunk:
    """What one event of a stream holds, other than the last, which is ``DONE``. Raises AnswerError."""
    found = _read(data)
    choice = _choice(found)
    if choice is None:  # the event of the usage, and those that keep a connection alive
        return _usage(found)
    text, ended = _text(choice, endpoint.chunk), _ended(choice)
    speaks = bool(text) or _writes(choice, endpoint.chunk)
    return replace(_usage(found), text=text, speaks=speaks, ends=ended is not None, cut=ended is True)


def an_event(told: Chunk | None, events: int, *, reasoned: bool) -> float | None:
    """How many tokens each of the ``events`` of a stream brought on average; None where the server did not say it.

    ``told`` is the chunk that said most, ``reasoned`` whether reasoning was streamed, too: if not, its tokens came in no event. Fewer
    tokens than half of the events cannot be: the server counts otherwise, or not at all. One token more may be that which ended the answer.
    """
    if told is None or told.tokens is None or 2 * told.tokens < events:
        return None
    shown = told.tokens - (0 if reasoned else told.reasoning)
    return shown / events if shown > events + 1 and events else 1.0


def models_of(text: str | bytes) -> list[str]:
    """The names of the models that a server lists at ``/models``. Raises AnswerError."""
    listed = _read(text).get("data")
    if not isinstance(listed, list) or not all(isinstance(each, dict) and isinstance(each.get("id"), str) for each in listed):
        raise AnswerError("malformed answer", "its list of models is none")
    return [each["id"] for each in listed]


def said(text: str) -> str:
    """The server's own words in the body of an error: its message, where it has the usual form."""
    try:
        _read(text)
    except AnswerError as error:
        if error.args[0] == _ERROR:
            return error.said
    return text


def _read(text: str | bytes) -> Fields:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AnswerError("malformed answer", f"no JSON: {text[:SHOWN]!r}") from error
    if not isinstance(found, dict):
        raise AnswerError("malformed answer", f"no object: {text[:SHOWN]!r}")
    if found.get("error") or found.get("object") == "error":
        raise AnswerError(_ERROR, _words(found.get("error") or found))
    return found


def _words(told: object) -> str:
    return str(told.get("message", told) if isinstance(told, Mapping) else told)


def _choice(found: Fields) -> Fields | None:
    choices = found.get("choices")
    if not choices:
        return None
    if not isinstance(choices, list) or not isinstance(choices[0], dict):
        raise AnswerError("malformed answer", "its choices are none")
    first: Fields = choices[0]
    if len(choices) > 1 or first.get("index"):  # their tokens would be counted as those of one
        raise AnswerError("several answers", "one was asked for")
    if first.get("error"):
        raise AnswerError(_ERROR, _words(first["error"]))
    return first


def _ended(choice: Fields) -> bool | None:
    """Whether an answer that has ended was cut; None where it goes on, or says nothing. Raises AnswerError where it did not come."""
    word = choice.get("finish_reason")
    if not word:
        return None
    cut = ENDS.get(word.lower()) if isinstance(word, str) else None
    if cut is None:
        raise AnswerError(f"ended by {str(word)[:SHOWN_WORD]}")
    return cut


def _holder(choice: Fields, key: str) -> Fields:
    """The object that has the text: the choice itself, or the one under ``key``."""
    held = choice.get(key) if key else choice
    if held is None:
        return {}
    if not isinstance(held, dict):
        raise AnswerError("malformed answer", f"its {key} is {held!r}")
    return held


def _text(choice: Fields, key: str) -> str:
    text = _holder(choice, key).get("content" if key else "text")
    if text is None:  # a call of a tool, reasoning, the role that opens an answer
        return ""
    if not isinstance(text, str):
        raise AnswerError("malformed answer", f"its text is {text!r}")
    return text


def _writes(choice: Fields, key: str) -> bool:
    """Whether something other than a text was written."""
    held = _holder(choice, key)
    return any(held.get(name) for name in _WRITTEN)


def _usage(found: Fields) -> Chunk:
    """What a server's account of tokens says, without a text."""
    usage = found.get("usage")
    if not isinstance(usage, dict):
        return Chunk()
    prompt, generated = _count(usage, "prompt_tokens") or 0, _count(usage, "completion_tokens")
    cached = _count(usage.get("prompt_tokens_details"), "cached_tokens")
    reasoning = _count(usage.get("completion_tokens_details"), "reasoning_tokens") or 0
    # A part of what was generated; some gateways count it apart, and then the parts make more, or the total says so.
    if generated is not None and (reasoning > generated or 0 < reasoning == (_count(usage, "total_tokens") or 0) - prompt - generated):
        generated += reasoning
    return Chunk(
        tokens=generated,
        reasoning=min(reasoning, generated or 0),
        prompt=prompt,
        cached=None if cached is None else min(cached, prompt),
    )


def _count(held: object, name: str) -> int | None:
    count = held.get(name) if isinstance(held, Mapping) else None
    return count if type(count) is int and 0 <= count < MOST_TOKENS else None
