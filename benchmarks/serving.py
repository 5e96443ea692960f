"""What the client of serve_load adds: requests per second, its own overhead, CPU and memory, against a server that runs no model.

The server (tests/serving/stub.py) has a core of its own, takes 0.15 to 0.45 s at random, and says in each answer how long it had the
request. What the client sees beyond that is overhead: its own, and the loopback's. The latter is that of a bare client, which sends bytes,
reads until it has as many as an answer has, and does nothing else. ``--requests`` is how many are sent where memory is watched.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import resource
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tabulate import tabulate

from pytest_greencompute.machine.clock import RealClock
from pytest_greencompute.serving.account import Account, Done
from pytest_greencompute.serving.client import Client
from pytest_greencompute.serving.load import open_client
from pytest_greencompute.serving.request import Request, request_of
from tests.serving.stub import Behaviour, serving

CONCURRENCY = 64
CORES = sorted(os.sched_getaffinity(0))
RATE = 200.0  # requests per second that are to be kept


def wanted(url: str, *, stream: bool) -> Request:
    prompts = [f"prompt number {number}" for number in range(100)]
    return request_of(url, prompts, stream=stream)


def loaded(client: Client, concurrency: int, seconds: float) -> tuple[list[Done], float, float]:
    """The requests that ended, their rate per second, and the share of a core that sending them took."""
    client.begin(concurrency)
    time.sleep(1.0)
    client.taken()
    cpu_s, start = client.cpu_s, time.perf_counter()
    time.sleep(seconds)
    ended, took = client.taken(), time.perf_counter() - start
    share = (client.cpu_s - cpu_s) / took
    client.end()
    return ended, len(ended) / took, share


def overhead_ms(ended: list[Done]) -> tuple[float, float, float]:
    """Milliseconds beyond what the server says it took: median, p95, p99."""
    beyond = sorted(done.seconds * 1e3 - int(done.text.rpartition(" ")[2]) / 1e6 for done in ended)
    return statistics.median(beyond), beyond[int(len(beyond) * 0.95)], beyond[int(len(beyond) * 0.99)]


def rates(seconds: float) -> list[list[object]]:
    """One row for each way of answering: at the wanted rate, and as fast as it goes."""
    rows: list[list[object]] = []
    think_s = CONCURRENCY / RATE
    for stream, tokens in ((False, 1), (True, 1), (True, 16)):
        for slow in (True, False):
            # A twentieth is left to what it takes on the way, so that the rate is the wanted one or a little more.
            first_s = 0.95 * think_s if slow else 0.0
            behaviour = Behaviour(first_s=first_s, tokens=tokens, jitter=0.5, timed=True, core=CORES[-1])
            with serving(behaviour) as url:
                client, _ = open_client(wanted(url, stream=stream), None, RealClock())
                with client:
                    ended, rate, share = loaded(client, CONCURRENCY if slow else 8, seconds)
            failed = sum(bool(done.failed) for done in ended)
            way = f"streamed, {tokens} token{'s' * (tokens > 1)}" if stream else "whole"
            figures = [f"{value:.2f}" for value in overhead_ms(ended)] if slow else ["", "", ""]
            rows.append(
                [way, CONCURRENCY if slow else 8, f"{rate:.0f}", failed, f"{share * 100:.0f} %", f"{share / rate * 1e3:.2f} ms", *figures]
            )
    return rows


def bare(seconds: float) -> list[object]:
    """The row of a client that only sends and reads bytes: the floor of the overhead."""
    behaviour = Behaviour(first_s=0.95 * CONCURRENCY / RATE, tokens=1, jitter=0.5, timed=True, core=CORES[-1])
    beyond_ms: list[float] = []
    since = time.perf_counter() + 1.0

    async def slot(port: int, until: float) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = b'{"model": "stub", "messages": [{"role": "user", "content": "prompt"}], "max_tokens": 64, "stream": false}'
        request = b"POST /v1/chat/completions HTTP/1.1\r\nhost: stub\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
        while (sent := time.perf_counter()) < until:
            writer.write(request)
            answer = await reader.readuntil(b'tokens": 1}}')
            took_ms = (time.perf_counter() - sent) * 1e3
            if sent > since:
                beyond_ms.append(
                    took_ms - int(json.loads(answer[answer.index(b"{") :])["choices"][0]["message"]["content"].split()[-1]) / 1e6
                )
        writer.close()

    async def slots(port: int) -> None:
        await asyncio.gather(*(slot(port, since + seconds) for _ in range(CONCURRENCY)))

    with serving(behaviour) as url:
        cpu = time.process_time()
        asyncio.run(slots(int(url.rpartition(":")[2])))
        share = (time.process_time() - cpu) / (seconds + 1)
    beyond_ms.sort()
    percentiles = [statistics.median(beyond_ms), *(beyond_ms[int(len(beyond_ms) * part)] for part in (0.95, 0.99))]
    rate = len(beyond_ms) / seconds
    return [
        "bare, whole",
        CONCURRENCY,
        f"{rate:.0f}",
        0,
        f"{share * 100:.0f} %",
        f"{share / rate * 1e3:.2f} ms",
        *(f"{each:.2f}" for each in percentiles),
    ]


def memory(requests: int) -> list[list[object]]:
    """Resident memory while so many requests are sent and accounted for, as serve_load does it."""
    rows: list[list[object]] = []
    with serving(Behaviour(tokens=4, core=CORES[-1])) as url:
        client, _ = open_client(wanted(url, stream=False), None, RealClock())
        with client:
            client.begin(CONCURRENCY)
            account, since = Account(time.perf_counter_ns(), lambda below: below // 2), time.perf_counter_ns()
            while (done := account.answered) < requests:
                time.sleep(0.5)
                now = time.perf_counter_ns()
                account.close(since, now)
                since = now
                account.add(client.taken())
                if account.answered // (requests // 5) > done // (requests // 5):
                    rows.append([account.answered, f"{resident_mb():.1f} MB"])
            client.end()
    return rows


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--requests", type=int, default=100_000)
    options = parser.parse_args()
    gc.freeze()  # as serve_load does
    os.sched_setaffinity(0, CORES[:1])  # one core for the client; the server gets another
    heads = ["answers", "at a time", "requests/s", "failed", "of a core", "CPU each", "overhead p50, ms", "p95", "p99"]
    print(tabulate([bare(options.seconds), *rates(options.seconds)], headers=heads, tablefmt="github"))
    if options.requests:
        print()
        print(tabulate(memory(options.requests), headers=["requests", "resident"], tablefmt="github"))


if __name__ == "__main__":
    main()
