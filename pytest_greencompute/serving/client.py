"""The client of a load: a closed loop in an event loop and a thread of its own, so that the meters are read undisturbed beside it.

As many *slots* as requests are wanted at a time; each sends its next one when the last has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import threading
import time
from collections import deque
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.machine.clock import Clock
from pytest_greencompute.machine.logs import HTTP, quiet
from pytest_greencompute.serving.account import Done
from pytest_greencompute.serving.wire import DONE, AnswerError, Chunk, Endpoint, an_event, answer_of, chunk_of, models_of, said

if TYPE_CHECKING:
    import httpx

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

PAUSE_S = 0.1  # after a request that failed, so that a server that refuses is not flooded
OK = 200
# What httpx's transport calls the moments of a request (its trace extension)
SENT = "http11.send_request_body.complete"
HEADS = "http11.receive_response_headers.complete"
WHOLE = "http11.receive_response_body.complete"
OPENED = ("connection.connect_tcp.complete", "connection.start_tls.complete")
# A server that closes a connection just as a request is sent is found out at once. One that breaks while it works on a request may close
# it without a word, too, but later, and that is its failure.
FOUND_CLOSED_S = 0.5
LEAST_SSE = (
    0,
    4,
    2,
)  # of httpx-sse: before it, an event was torn at each character that Python takes for the end of a line, such as U+2028
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Where and what to send: the address, the endpoint, the JSON of each prompt, and how an answer is to come.

    ``timeout_s`` bounds the whole of a request.
    """

    base: str
    endpoint: Endpoint
    bodies: Sequence[bytes]
    stream: bool
    timeout_s: float
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Connection:
    """A slot's way to the server, one connection at a time, and what the request under way has seen of it.

    ``kept``: the server has answered on the connection to the end, and said nothing of closing it. ``opened``: the request went over a new
    one. ``heard``: some byte came back.
    """

    transport: httpx.AsyncHTTPTransport
    kept: bool = False
    opened: bool = False
    heard: bool = False
    closes: bool = False

    def begin(self) -> bool:
        """A request begins: whether it finds a connection that is kept."""
        kept, self.kept = self.kept, False
        self.opened = self.heard = False
        return kept

    def see(self, moment: str, found: Any) -> None:
        """A moment of the request, and what the transport gives with it."""
        if moment == HEADS:
            version, _, _, heads = found
            told = [value.lower() for name, value in heads if name.lower() == b"connection"]
            self.closes = b"close" in told or (version < b"HTTP/1.1" and b"keep-alive" not in told)
        elif moment == WHOLE:
            self.kept = not self.closes
        elif moment in OPENED:
            self.opened = True
            self._listen(found)

    def _listen(self, stream: Any) -> None:
        """Note whether bytes come over a connection: no exception tells an answer that broke off in its heads from none."""
        read = stream.read

        async def heard(max_bytes: int, timeout: float | None = None) -> bytes:
            came: bytes = await read(max_bytes, timeout)
            self.heard = self.heard or bool(came)
            return came

        stream.read = heard


class Client:
    """Sends requests while it is open as a context. Its methods are called from one thread, which is not the one that sends."""

    def __init__(self, wanted: Wanted, clock: Clock) -> None:
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
        self._lines: list[Connection] = []
        self._requests: list[httpx.Request] = []

    def __enter__(self) -> Client:
        needed()
        import httpx

        with quiet(*HTTP):
            self._trusted = httpx.create_ssl_context(trust_env=False)  # once: making one takes tens of milliseconds
        self._requests = [self._request("POST", self._wanted.endpoint.path, body) for body in self._wanted.bodies]
        with quiet("asyncio"):
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
        with quiet(*HTTP):
            self._loop.run_forever()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _fresh(self, concurrency: int) -> int:
        import httpx

        self._stopping = False
        keep = httpx.Limits(keepalive_expiry=None)  # so that whoever closes a connection is the server
        with quiet(*HTTP):
            while len(self._lines) < concurrency:
                self._lines.append(Connection(httpx.AsyncHTTPTransport(verify=self._trusted, trust_env=False, limits=keep)))
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

        made, line = self._requests[prompt], self._lines[slot]

        async def trace(event: str, told: Mapping[str, object]) -> None:
            if event == SENT:
                self._sent_ns[slot] = self._now_ns()
            else:
                line.see(event, told.get("return_value"))

        return httpx.Request(made.method, made.url, headers=made.headers, stream=made.stream, extensions={"trace": trace})

    async def _close(self) -> None:
        await self._cancelled()
        for line in self._lines:
            await line.transport.aclose()

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
                response = await self._lines[0].transport.handle_async_request(self._request("GET", "/models"))
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

        line = self._lines[slot]
        kept = line.begin()
        self._busy_ns[slot] = self._sent_ns[slot] = self._now_ns()
        try:
            with anyio.fail_after(self._wanted.timeout_s):
                done = await self._answered(prompt, slot, kept=kept)
        except _failures() as error:
            reason, said = _why(error, self._wanted.timeout_s)
            done = Done(prompt, self._sent_ns[slot], self._later_ns(slot), failed=reason, said=said)
        return replace(done, reconnected=True) if kept and line.opened else done

    async def _answered(self, prompt: int, slot: int, *, kept: bool) -> Done:
        """The answer. A request that finds a kept connection closed before any byte of an answer is sent once more, over a new one."""
        import httpx

        line = self._lines[slot]
        try:
            return await self._tried(prompt, slot)
        except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
            sent_ns = self._sent_ns[slot]
            if not kept or line.opened or line.heard or self._now_ns() - sent_ns > FOUND_CLOSED_S * 1e9:
                raise
        return replace(await self._tried(prompt, slot), sent_ns=sent_ns)  # who asks has waited since then

    async def _tried(self, prompt: int, slot: int) -> Done:
        response = await self._lines[slot].transport.handle_async_request(self._on_its_way(prompt, slot))
        return await (self._streamed if self._wanted.stream else self._whole)(response, prompt, slot)

    def _later_ns(self, slot: int) -> int:
        return max(self._now_ns(), self._sent_ns[slot] + 1)

    async def _whole(self, response: httpx.Response, prompt: int, slot: int) -> Done:
        content = await _read(response)
        ended_ns = self._later_ns(slot)
        answer = answer_of(self._wanted.endpoint, content)
        return Done(
            prompt,
            self._sent_ns[slot],
            ended_ns,
            answer.text,
            answer.tokens,
            cut=answer.cut,
            prompt_tokens=answer.prompt,
            cached=answer.cached,
        )

    async def _streamed(self, response: httpx.Response, prompt: int, slot: int) -> Done:
        from httpx_sse import EventSource

        texts: list[str] = []
        came_ns: list[int] = []
        told: Chunk | None = None
        ended: Chunk | None = None
        ended_ns = 0
        try:
            if response.status_code != OK:
                await _read(response)
            async for event in EventSource(response).aiter_sse():  # to its end even after the last event, or the connection is lost
                ended_ns = self._now_ns()
                if event.data == DONE:
                    continue
                if event.event == "error":
                    raise AnswerError("error in the answer", said(event.data))
                chunk = chunk_of(self._wanted.endpoint, event.data)
                if chunk.speaks:
                    came_ns.append(ended_ns)
                    texts.append(chunk.text)
                if chunk.tokens is not None and (told is None or chunk.tokens >= (told.tokens or 0)):
                    told = chunk
                ended = chunk if chunk.ends else ended
        finally:
            await response.aclose()
        if ended is None:
            raise AnswerError("answer cut short", "the stream ended without a finish_reason")
        return self._of_stream(prompt, slot, texts, came_ns, told, cut=ended.cut, ended_ns=ended_ns)

    def _of_stream(
        self, prompt: int, slot: int, texts: Sequence[str], came_ns: Sequence[int], told: Chunk | None, *, cut: bool, ended_ns: int
    ) -> Done:
        """The answer that events brought at those times. ``told`` is what the server said of its tokens."""
        each = an_event(told, len(came_ns), reasoned=not all(texts))
        sent_ns = self._sent_ns[slot]
        return Done(
            prompt,
            sent_ns,
            max(ended_ns, sent_ns + 1),
            "".join(texts),
            told.tokens if told is not None and each is not None else len(came_ns),
            max(came_ns[0] - sent_ns, 0) / 1e9 if came_ns else None,
            tuple((b - a) / 1e9 / (each or 1.0) for a, b in itertools.pairwise(came_ns)),
            events=len(came_ns),
            by_events=each is None,
            cut=cut,
            prompt_tokens=0 if told is None else told.prompt,
            cached=None if told is None else told.cached,
        )


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
    """Raises SettingsError where the packages that a load needs are not installed, or too old to read a stream."""
    from importlib.metadata import PackageNotFoundError, version

    remedy = "Run `pip install 'pytest-greencompute[serving]'`."
    try:
        import anyio
        import httpx
        import httpx_sse
    except ImportError as error:
        raise SettingsError(f"serve_load needs httpx and httpx-sse: {error}.", remedy=remedy) from error
    del anyio, httpx, httpx_sse
    try:
        found = version("httpx-sse")
    except PackageNotFoundError:  # somebody's own copy of it
        return
    if tuple(map(int, re.findall(r"\d+", found)[:3])) < LEAST_SSE:
        least = ".".join(map(str, LEAST_SSE))
        raise SettingsError(f"serve_load needs httpx-sse {least}: {found} tears an event that holds U+2028.", remedy=remedy)


def _failures() -> tuple[type[Exception], ...]:
    """What a request may fail with that is the server's doing."""
    import httpx
    from httpx_sse import SSEError

    return (TimeoutError, AnswerError, SSEError, httpx.HTTPError)


def _why(error: Exception, timeout_s: float) -> tuple[str, str]:
    """The reason in a few words, the same for all of its kind, and the words of whoever said it."""
    import httpx
    from httpx_sse import SSEError

    if isinstance(error, AnswerError):
        return error.args[0], error.said
    if isinstance(error, SSEError):  # which counts itself among the errors of a transport
        return "malformed answer", f"{error}. Where the server does not stream, pass stream=False."
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout_s:g} s", ""
    if isinstance(error, httpx.ConnectError):
        return "no connection", str(error)
    if isinstance(error, httpx.TransportError | httpx.DecodingError):
        return "connection dropped", str(error)
    return "malformed answer", str(error)
