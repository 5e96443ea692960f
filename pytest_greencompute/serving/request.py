"""What a call of ``serve_load`` asks for, checked once. Pure."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.models.queries import collected
from pytest_greencompute.serving.wire import Endpoint, Fields, address, body, endpoint_of, is_elsewhere
from pytest_greencompute.values.units import whole

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

OURS = ("model", "stream", "stream_options", "max_tokens", "messages", "prompt")  # fields of a request that have arguments of their own
ONE = ("n", "best_of")  # how many answers are generated for one request, all of which its tokens count


@dataclass(frozen=True, slots=True)
class Request:
    """The server and what is sent to it. ``base`` is its address as ``wire.address`` has it, ``elsewhere`` whether that is another machine;
    ``options`` go into every request as they are.

    Invariant: at least one prompt, all of which can be sent, at least one token, a time limit (seconds) above zero.
    """

    base: str
    endpoint: Endpoint
    prompts: tuple[Any, ...]
    max_tokens: int = 64
    stream: bool = True
    options: Fields = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = 60.0
    notes: tuple[str, ...] = ()
    elsewhere: bool = False

    def __post_init__(self) -> None:
        most = whole(self.max_tokens)
        if most is None:
            raise SettingsError(f"max_tokens is {self.max_tokens!r}.", remedy="Write a whole number of at least 1.")
        object.__setattr__(self, "max_tokens", most)  # JSON knows no other library's numbers
        if type(self.stream) is not bool:
            raise SettingsError(f"stream is {self.stream!r}.", remedy="Write True or False.")
        if isinstance(self.timeout_s, bool) or not isinstance(self.timeout_s, int | float) or not 0 < self.timeout_s < math.inf:
            raise SettingsError(f"timeout is {self.timeout_s!r}.", remedy="Write the seconds that a request may take, such as 60.")
        if not isinstance(self.options, Mapping) or not all(isinstance(name, str) for name in self.options):
            raise SettingsError(f"options is {self.options!r}.", remedy="Pass a dict such as {'temperature': 0}.")
        if taken := next((name for name in self.options if name in OURS), None):
            raise SettingsError(f"options has {taken!r}.", remedy="That has an argument of its own, or is the prompt.")
        if several := next((name for name in ONE if self.options.get(name, 1) not in (1, None)), None):
            raise SettingsError(
                f"options has {several!r}: {self.options[several]!r}, and a request that generates several answers is no request of one.",
                remedy="Leave it out: each prompt is sent again and again.",
            )
        texts = [*self.headers, *self.headers.values()] if isinstance(self.headers, Mapping) else [None]
        if not all(isinstance(text, str) and text.isascii() for text in texts):
            raise SettingsError("headers holds something other than names and texts of ASCII.", remedy="Pass {'x-api-version': '2'}.")
        self.bodies("")  # a prompt that cannot be sent is refused before anything is

    def bodies(self, model: str) -> tuple[bytes, ...]:
        """The JSON of each prompt's request to that model."""
        return tuple(
            body(self.endpoint, prompt, model, max_tokens=self.max_tokens, stream=self.stream, options=self.options)
            for prompt in self.prompts
        )


def request_of(
    url: object,
    prompts: Iterable[Any],
    *,
    request: object = "openai-chat",
    environ: Mapping[str, str] = MappingProxyType({}),
    api_key_env: str | None = None,
    headers: Mapping[str, str] | None = None,
    options: Fields | None = None,
    on_this_machine: bool = False,
    meters_see_hosts: Callable[[], bool] = lambda: False,
    **fields: Any,
) -> Request:
    """The arguments of a call, checked. ``environ`` holds the key that ``api_key_env`` names; ``meters_see_hosts`` says whether there are
    meters of other hosts. Raises SettingsError.
    """
    base = address(url)
    elsewhere = is_elsewhere(base, on_this_machine=on_this_machine, meters_see_hosts=meters_see_hosts)
    listed, notes = collected(prompts)
    sent = {} if headers is None else headers
    if api_key_env is not None:
        key = environ.get(api_key_env) if isinstance(api_key_env, str) else None
        if not key:
            raise SettingsError(f"api_key_env names {api_key_env!r}, which is not set.", remedy="Set that variable to the server's key.")
        sent = {**sent, "authorization": f"Bearer {key}"}
    return Request(
        base,
        endpoint_of(request),
        tuple(listed[index] for index in range(len(listed))),
        headers=sent,
        options={} if options is None else options,
        notes=notes,
        elsewhere=elsewhere,
        **fields,
    )


def levels(concurrency: object) -> tuple[int, ...]:
    """How many requests at a time, one number or several. Raises SettingsError for what is neither, or names one twice."""
    several: tuple[object, ...] = (concurrency,)
    if isinstance(concurrency, Iterable) and not isinstance(concurrency, str | bytes):
        with contextlib.suppress(TypeError):  # one number of torch's or numpy's
            several = tuple(concurrency)
    counts = [count for each in several if (count := whole(each)) is not None]
    if not counts or len(counts) < len(several) or len(set(counts)) < len(counts):
        raise SettingsError(f"concurrency is {concurrency!r}.", remedy="Write how many requests run at a time: 8, or several: [1, 8, 32].")
    return tuple(counts)
