"""The client of a load: a closed loop in an event loop and a thread of its own, so that the meters are read undisturbed beside it.

As many *slots* as requests are wanted at a time; each sends its next one when the last has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from collections import deque
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_greencompute.clock import Clock
from pytest_greencompute.errors import SettingsError
from pytest_greencompute.serving.steady import Done
from pytest_greencompute.serving.wire import DONE, AnswerError, Kind, answer_of, models_of, part_of, said

if TYPE_CHECKING:
    import httpx

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

PAUSE_S = 0.1  # after a request that failed, so that a server that refuses is not flooded
OK = 200
SENT = "http11.send_request_body.complete"  # what httpx's transport calls the moment (its trace extension)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Where and what to send: the address, the kind of request, the JSON of each prompt, and how an answer is to come.

    ``timeout_s`` bounds the whole of a request.
    """

    base: str
    request: Kind
    bodies: Sequence[bytes]
    stream: bool
    timeout_s: float
    headers: Mapping[str, str] = field(default_factory=dict)


class Client:
    """Sends requests while it is open as a context. Its methods are called from one thread, which is not the one that sends.

    ``by_events``: some answer's tokens were counted as events of its stream, since the server did not say how many they were.
    """

    def __init__(self, wanted: Wanted, clock: Clock) -> None:
        self.by_events = False
        self.cpu_s = 0.0  # that the sending thread has used
        self._wanted = wanted
        self._now_ns = clock.now_ns
        self._loop: asyncio.AbstractEventLoop
        self._thread = threading.Thread(target=self._serve, name="greencompute-client", daemon=True)
        self._ended: deque[Done] = deque()
        self._busy_ns: list[int] = []  # of each slot: when its request was sent, or when its last one ended
        self._stopping = False
        self._sent_ns: list[int] = []  # of each slot: when the last byte of its request had left
        self._slots: list[asyncio.Task[None]] = []
        # One connection each, since a pool looks through all that it has for each request, and without what httpx.AsyncClient does around
        # a request (cookies, redirects): together they more than halve what a request costs at 64 at a time.
        self._connections: list[httpx.AsyncHTTPTransport] = []
        self._requests: list[httpx.Request] = []

    def __enter__(self) -> Client:
        needed()
        import httpx

        self._trusted = httpx.create_ssl_context(trust_env=False)  # once: making one takes tens of milliseconds
        self._requests = [self._request("POST", self._wanted.request.path, body) for body in self._wanted.bodies]
        self._loop = asyncio.new_event_loop()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        with contextlib.suppress(Exception):  # what cannot be closed any more is gone
            self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def models(self) -> list[str]:
        """The models that the server lists. Raises SettingsError where it lists none."""
        self._fresh(1)
        return self._call(self._models())

    def ask(self, prompt: int) -> Done:
        """One request, by itself."""
        self._fresh(1)
        return self._call(self._asked(prompt, 0))

    def once(self, prompts: Sequence[int], concurrency: int) -> list[Done]:
        """Each of the prompts once, so many at a time, in the order in which they ended."""
        order = iter(prompts)
        slots = self._fresh(concurrency)
        self._call(self._all([self._slot(index, order) for index in range(slots)]))
        return self.taken()

    def begin(self, concurrency: int) -> None:
        """Send on and on, so many requests at a time, all prompts in turn."""
        order = (index % len(self._wanted.bodies) for index in itertools.count())
        slots = self._fresh(concurrency)

        async def start() -> None:
            self._slots = [asyncio.create_task(self._slot(index, order)) for index in range(slots)]

        self._call(start())

    def end(self, within_s: float = 0.0) -> None:
        """Send no more, wait so long for what is still open, and give up the rest.

        A server may go on with what nobody waits for any more, and what is measured next would pay for it.
        """
        self._stopping = True
        self._call(self._cancelled(within_s))

    def oldest_ns(self) -> int:
        """No request that is open, or will be sent, was sent before this. Ask before ``taken``: what ends in between is then in it."""
        return min(self._busy_ns)

    def taken(self) -> list[Done]:
        """The requests that have ended since the last call. Raises what a slot stumbled over, if one did."""
        for slot in self._slots:
            if slot.done() and not slot.cancelled() and (error := slot.exception()) is not None:
                raise error
        found = []
        while self._ended:
            found.append(self._ended.popleft())
        return found

    # In the other thread

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _fresh(self, concurrency: int) -> int:
        import httpx

        self._stopping = False
        while len(self._connections) < concurrency:
            self._connections.append(httpx.AsyncHTTPTransport(verify=self._trusted, trust_env=False))
        self._busy_ns = [self._now_ns()] * concurrency
        self._sent_ns = list(self._busy_ns)
        return concurrency

    async def _all(self, slots: Sequence[Coroutine[Any, Any, None]]) -> None:
        await asyncio.gather(*slots)

    def _request(self, method: str, path: str, content: bytes | None = None) -> httpx.Request:
        import httpx

        heads = {"accept": "text/event-stream" if self._wanted.stream and content is not None else "application/json"}
        heads |= {"content-type": "application/json"} if content is not None else {}
        return httpx.Request(method, self._wanted.base + path, headers={**heads, **self._wanted.headers}, content=content)

    def _on_its_way(self, prompt: int, slot: int) -> httpx.Request:
        """The request of a prompt, made once and sent by any slot, which notes when the last byte of it has left."""
        import httpx

        made = self._requests[prompt]

        async def trace(event: str, _: Any) -> None:
            if event == SENT:
                self._sent_ns[slot] = self._now_ns()

        return httpx.Request(made.method, made.url, headers=made.headers, stream=made.stream, extensions={"trace": trace})

    async def _close(self) -> None:
        await self._cancelled()
        for connection in self._connections:
            await connection.aclose()

    async def _cancelled(self, within_s: float = 0.0) -> None:
        slots, self._slots = self._slots, []
        if slots and within_s > 0:
            await asyncio.wait(slots, timeout=within_s)
        for slot in slots:
            slot.cancel()
        await asyncio.gather(*slots, return_exceptions=True)

    async def _models(self) -> list[str]:
        import anyio

        try:
            with anyio.fail_after(self._wanted.timeout_s):
                response = await self._connections[0].handle_async_request(self._request("GET", "/models"))
                return models_of(await _read(response))
        except _failures() as error:
            reason, said = _why(error, self._wanted.timeout_s)
            raise SettingsError(
                f"{self._wanted.base}/models gave no list of models: {reason}{f' ({said})' if said else ''}.",
                remedy="Start the server before the test, or name the model: model='…'.",
            ) from error

    async def _slot(self, index: int, order: Iterator[int]) -> None:
        for prompt in order:
            done = await self._asked(prompt, index)
            self._ended.append(done)
            self._busy_ns[index] = done.ended_ns  # only now: whoever sees it sees the request among those that have ended
            self.cpu_s = time.thread_time()
            if self._stopping:
                break
            if done.failed:
                await asyncio.sleep(PAUSE_S)

    async def _asked(self, prompt: int, slot: int) -> Done:
        import anyio

        self._busy_ns[slot] = self._sent_ns[slot] = self._now_ns()
        try:
            with anyio.fail_after(self._wanted.timeout_s):
                response = await self._connections[slot].handle_async_request(self._on_its_way(prompt, slot))
                return await (self._streamed if self._wanted.stream else self._whole)(response, prompt, slot)
        except _failures() as error:
            reason, said = _why(error, self._wanted.timeout_s)
            return Done(prompt, self._sent_ns[slot], self._later_ns(slot), failed=reason, said=said)

    def _later_ns(self, slot: int) -> int:
        return max(self._now_ns(), self._sent_ns[slot] + 1)

    async def _whole(self, response: httpx.Response, prompt: int, slot: int) -> Done:
        content = await _read(response)
        ended_ns = self._later_ns(slot)
        answer = answer_of(self._wanted.request, content)
        return Done(prompt, self._sent_ns[slot], ended_ns, answer.text, answer.tokens)

    async def _streamed(self, response: httpx.Response, prompt: int, slot: int) -> Done:
        from httpx_sse import EventSource

        texts: list[str] = []
        came_ns: list[int] = []
        tokens, ended, ended_ns = None, False, 0
        try:
            if response.status_code != OK:
                await _read(response)
            async for event in EventSource(response).aiter_sse():  # to its end even after the last event, or the connection is lost
                ended_ns = self._now_ns()
                if event.data == DONE:
                    ended = True
                    continue
                part = part_of(self._wanted.request, event.data)
                if part.speaks:
                    came_ns.append(ended_ns)
                    texts.append(part.text)
                tokens = tokens if part.tokens is None else part.tokens
                ended = ended or part.ends
        finally:
            await response.aclose()
        if not ended:
            raise AnswerError("answer cut short")
        if tokens is None:
            self.by_events, tokens = True, len(came_ns)
        gaps = tuple((b - a) / 1e9 for a, b in itertools.pairwise(came_ns))
        sent_ns = self._sent_ns[slot]
        first_s = max(came_ns[0] - sent_ns, 0) / 1e9 if came_ns else None
        return Done(prompt, sent_ns, max(ended_ns, sent_ns + 1), "".join(texts), tokens, first_s, gaps)


async def _read(response: httpx.Response) -> bytes:
    """All of an answer. Raises AnswerError for one whose status says that it is none."""
    try:
        content = await response.aread()
    finally:
        await response.aclose()
    if response.status_code != OK:
        raise AnswerError(f"status {response.status_code}", said(response.text))
    return content


def needed() -> None:
    """Raises SettingsError where the packages that a load needs are not installed."""
    try:
        import anyio
        import httpx
        import httpx_sse
    except ImportError as error:
        raise SettingsError(
            f"serve_load needs httpx and httpx-sse: {error}.", remedy="Run `pip install 'pytest-greencompute[serving]'`."
        ) from error
    del anyio, httpx, httpx_sse


def _failures() -> tuple[type[Exception], ...]:
    """What a request may fail with that is the server's doing."""
    import httpx
    from httpx_sse import SSEError

    return (TimeoutError, AnswerError, SSEError, httpx.HTTPError)


def _why(error: Exception, timeout_s: float) -> tuple[str, str]:
    """The reason in a few words, the same for all of its kind, and the words of whoever said it."""
    import httpx

    if isinstance(error, AnswerError):
        return error.args[0], error.said
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout_s:g} s", ""
    if isinstance(error, httpx.ConnectError):
        return "no connection", str(error)
    if isinstance(error, httpx.TransportError | httpx.DecodingError):
        return "connection dropped", str(error)
    return "malformed answer", str(error)
