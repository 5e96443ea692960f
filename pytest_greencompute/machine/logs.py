"""What other libraries log of our own calls, kept out of the log of the user's test."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator

HTTP = ("httpx", "httpcore.connection", "httpcore.http11", "httpcore.proxy")


class _Here(threading.local):
    calls = 0


_HERE = _Here()


class _NotOurs(logging.Filter):
    """Lets pass what is a warning, and what another thread or the user's own code has made a library say."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING or not _HERE.calls


_NOT_OURS = _NotOurs()


@contextlib.contextmanager
def quiet(*loggers: str) -> Iterator[None]:
    """A call of ours: what these loggers say of it in this thread goes nowhere, but for warnings. A test may assert on its log (caplog)."""
    for name in loggers:
        logging.getLogger(name).addFilter(_NOT_OURS)  # once; it stays, and lets pass whatever is not of such a call
    _HERE.calls += 1
    try:
        yield
    finally:
        _HERE.calls -= 1
