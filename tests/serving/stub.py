"""A server of OpenAI's interface that runs no model: it answers as it is told, fails as it is told, and draws power on a stand-in GPU.

Started as a process of its own: ``python -m tests.serving.stub '{"token_s": 0.002}'``; prints its port. Each answer's text is the prompt,
and after it "w0 w1 …", one word a token.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pytest_greencompute.testing.standin import StandIn, StandInDevice

IDLE_W = StandInDevice().idle_w
ROOT = Path(__file__).resolve().parents[2]
# What a server may do with a request before it closes the connection: for how many seconds it has it, and what it says.
NO_ANSWER = {"stall": (3600, b""), "forget": (0, b""), "break": (0.8, b""), "half a head": (0, b"HTTP/1.1 2")}


@dataclass
class Behaviour:
    """What the server does. ``faults`` are gone through request by request ("" is an answer), and again from the start at
    their end, or (``forever``) the last one on and on.

    ``jitter``: the time of each answer is longer or shorter by up to this share, at random. ``timed``: an answer's last word is how long
    the server had the request, in ns. ``core``: which core it runs on. ``ramp``: over so many requests they get ten times as fast.
    ``slots``: so many requests are worked on at a time, the others wait. ``each_w`` is drawn for each request in work, above the idle power
    of the stand-in that the environment names; ``holds``: the driver lists the server among the processes on it. ``an_event``: so many
    tokens come in each event of a stream. ``usage`` False: no tokens are reported; ``reports`` goes into the usage as it is. ``remembers``:
    a prompt that was answered before is answered at once. ``closes``: each connection is closed after an answer, though nobody was told.
    """

    first_s: float = 0.0
    token_s: float = 0.0
    tokens: int = 4
    usage: bool = True
    done: bool = True
    models: list[str] = field(default_factory=lambda: ["stub"])
    faults: list[str] = field(default_factory=lambda: [""])
    ramp: int = 0
    slots: int = 1000
    each_w: float = 0.0
    idle_w: float = IDLE_W
    key: str = ""
    holds: bool = False
    forever: bool = False
    jitter: float = 0.0
    timed: bool = False
    core: int | None = None
    an_event: int = 1
    reports: dict[str, Any] = field(default_factory=dict)
    remembers: bool = False
    closes: bool = False


def ended(fault: str) -> str:
    """The ``finish_reason`` of an answer: the fault "ended by abort" is one of that word."""
    return fault.removeprefix("ended by ") if fault.startswith("ended by ") else "stop"


class Stub:
    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.seen = 0
        self.working = 0
        self.luck = random.Random(1)
        self.known: set[str] = set()
        self.slots = asyncio.Semaphore(behaviour.slots)
        self.gpu: Any = None
        if behaviour.each_w:
            self.gpu = StandIn.attach()
            if behaviour.holds:
                self.gpu.work(0, 0.0, behaviour.idle_w)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                began_ns = time.perf_counter_ns()
                first, *lines = head.decode().split("\r\n")
                heads = dict(line.lower().split(": ", 1) for line in lines if line)
                body = await reader.readexactly(int(heads.get("content-length", 0)))
                if not await self.answer(first.split()[1], heads, body, writer, began_ns):
                    break
        writer.close()

    async def answer(self, path: str, heads: dict[str, str], body: bytes, writer: asyncio.StreamWriter, began_ns: int) -> bool:
        """Whether the connection stays open."""
        if self.behaviour.key and heads.get("authorization") != f"bearer {self.behaviour.key}":
            self.send(writer, 401, {"error": {"message": "no such key"}})
            return True
        if path.endswith("/models"):
            self.send(writer, 200, {"data": [{"id": each} for each in self.behaviour.models]})
            return True
        faults = self.behaviour.faults
        fault = faults[min(self.seen, len(faults) - 1) if self.behaviour.forever else self.seen % len(faults)]
        self.seen += 1
        if fault.isdigit():
            self.send(writer, int(fault), {"error": {"message": f"the server is {fault}"}})
            return True
        if fault in NO_ANSWER:
            seconds, head = NO_ANSWER[fault]
            await asyncio.sleep(seconds)
            writer.write(head)
            return False
        async with self.slots:
            with self.power():
                return await self.work(json.loads(body), fault, writer, began_ns) and not self.behaviour.closes

    async def work(self, asked: dict[str, Any], fault: str, writer: asyncio.StreamWriter, began_ns: int) -> bool:
        its = self.behaviour
        slow = 1.0 + (9.0 * (1 - self.seen / its.ramp) if self.seen < its.ramp else 0.0)
        slow *= 1 + its.jitter * self.luck.uniform(-1, 1)
        if its.remembers:
            slow *= str(asked) not in self.known
            self.known.add(str(asked))
        chat = "messages" in asked
        prompt = asked["messages"][-1]["content"] if chat else asked["prompt"]
        words = [f"{prompt} ", *(f"w{number} " for number in range(min(its.tokens, asked["max_tokens"])))][: its.tokens]
        await self.nap(its.first_s * slow)
        usage = {"usage": {"completion_tokens": len(words), **its.reports}} if its.usage else {}
        if fault == "drop":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 1000\r\n\r\n{")
            return False
        if not asked["stream"] or fault == "whole":
            await self.nap(its.token_s * slow * len(words))
            said = "".join(words) + self.took(began_ns)
            text = {**({"message": {"content": said}} if chat else {"text": said}), "finish_reason": ended(fault)}
            self.send(writer, 200, "{" if fault == "malformed" else {"choices": [text], **usage})
            return True
        return await self.stream(words, chat, usage, fault, slow, writer, began_ns)

    async def stream(
        self, words: list[str], chat: bool, usage: dict[str, Any], fault: str, slow: float, writer: asyncio.StreamWriter, began_ns: int
    ) -> bool:
        its = self.behaviour
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        if chat:
            self.event(writer, {"choices": [{"delta": {"role": "assistant", "content": ""}}]})
        words = ["".join(words[at : at + its.an_event]) for at in range(0, len(words), its.an_event)]
        for number, word in enumerate(words):
            if number:
                await self.nap(its.token_s * its.an_event * slow)
            if fault == "error event" and number:
                self.chunk(writer, b'event: error\ndata: {"message": "overloaded"}\n\n')
            if fault == "malformed" and number:
                self.chunk(writer, b"data: {not json\n\n")
            said = word + self.took(began_ns) if number == len(words) - 1 else word
            self.event(writer, {"choices": [{"delta": {"content": said}} if chat else {"text": said}]})
            if fault == "cut" and number:
                writer.write(b"0\r\n\r\n")
                return True
            if fault == "hang up" and number:
                return False
        if fault != "no end":
            self.event(writer, {"choices": [{**({"delta": {}} if chat else {"text": ""}), "finish_reason": ended(fault)}]})
        if usage:
            self.event(writer, {"choices": [], **usage})
        if its.done:
            self.chunk(writer, b"data: [DONE]\n\n")
        writer.write(b"0\r\n\r\n")
        return True

    def took(self, began_ns: int) -> str:
        return f" {time.perf_counter_ns() - began_ns}" if self.behaviour.timed else ""

    @staticmethod
    async def nap(seconds: float) -> None:
        if seconds:
            await asyncio.sleep(seconds)

    def event(self, writer: asyncio.StreamWriter, data: Any) -> None:
        self.chunk(writer, f"data: {json.dumps(data, ensure_ascii=False)}\n\n".encode())

    @staticmethod
    def chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    @staticmethod
    def send(writer: asyncio.StreamWriter, status: int, found: Any) -> None:
        body = found.encode() if isinstance(found, str) else json.dumps(found).encode()
        head = f"HTTP/1.1 {status} Told\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)

    @contextlib.contextmanager
    def power(self) -> Iterator[None]:
        self.draw(+1)
        try:
            yield
        finally:
            self.draw(-1)

    def draw(self, more: int) -> None:
        self.working += more
        if self.gpu is not None:
            self.gpu.set_power(0, self.behaviour.idle_w + self.behaviour.each_w * self.working)


@contextlib.contextmanager
def serving(behaviour: Behaviour | None = None, command: Sequence[str] = ("-m", "tests.serving.stub")) -> Iterator[str]:
    """A server in a process of its own while the context is open: its address."""
    process = subprocess.Popen(
        [sys.executable, *command, json.dumps(asdict(behaviour or Behaviour()))],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
    )
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.communicate()


async def main() -> None:
    stub = Stub(Behaviour(**json.loads(sys.argv[1])))
    if stub.behaviour.core is not None:
        os.sched_setaffinity(0, [stub.behaviour.core])
    server = await asyncio.start_server(stub.connected, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
