"""One loop for models that are called and models that are awaited, whatever event loop the test runs in.

What runs a model is written as coroutines. For a model that answers when it is called, these never wait and are run to their end on the
spot; for one that is awaited, the test's own event loop drives them.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

T = TypeVar("T")


def finished(work: Coroutine[Any, Any, T]) -> T:
    """What ``work`` returns, where nothing in it ever waits; what it raises goes through."""
    try:
        work.send(None)
    except StopIteration as done:
        found: T = done.value
        return found
    work.close()
    raise RuntimeError("work that was to run to its end waited for something")


async def settled(answer: Any) -> Any:
    """What is awaited, where it can be; a model that answers at once may stand in an async test."""
    return await answer if inspect.isawaitable(answer) else answer


async def aside(wait: Callable[[], T]) -> T:
    """``wait()`` in another thread, so that the event loop goes on meanwhile: connections stay alive, timeouts are kept.

    asyncio has threads for that; for other event loops (trio) anyio does, and without it the loop stands still for as long.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        try:
            from anyio.to_thread import run_sync
        except ImportError:
            return wait()
        return await run_sync(wait)
    return await asyncio.to_thread(wait)
