"""The progress line of a long measurement, on terminals only."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from pytest_greencompute.report.escape import fitted

EVERY_S = 0.3


class Step(Protocol):
    """What a measurement says of itself."""

    @property
    def what(self) -> str: ...
    @property
    def least_s(self) -> float: ...
    @property
    def most_s(self) -> float: ...
    @property
    def figure(self) -> str: ...


class ProgressLine:
    """Rewrites one line in place, at most every 0.3 s, and only between blocks, so that it costs no query anything.

    ``write`` puts text on the terminal as it is; ``width`` in columns: a line that wrapped could not be wiped. ``encoding`` is its own.
    """

    def __init__(self, write: Callable[[str], None], width: int, encoding: str | None = "utf-8") -> None:
        self._write = write
        self._width = width
        self._encoding = encoding
        self._last = 0.0

    def clear(self) -> None:
        """Wipe the line, so that what pytest writes next stands alone."""
        if self._last:
            self._write("\r\x1b[2K")
            self._last = 0.0

    def __call__(self, step: Step) -> None:
        now = time.monotonic()
        if now - self._last < EVERY_S:
            return
        self._last = now
        figure = f" ({step.figure})" if step.figure else ""
        # The line wipes itself: whatever pytest writes next begins at the line's start.
        text = fitted(f"measuring {step.what}{figure}{_left(step)}", self._encoding)[: self._width]
        self._write(f"\r\x1b[2K{text}\r")


def _left(step: Step) -> str:
    """', 12 to 60 s left': until the verdict may be certain, and until the time limit."""
    least, most = f"{step.least_s:.0f}", f"{step.most_s:.0f}"
    if step.most_s == 0:
        return ""
    return f", {most} s left" if least == most else f", {least} to {most} s left"
