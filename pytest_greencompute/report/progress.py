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
    @property
    def outlook(self) -> str: ...


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
        # The line wipes itself: whatever pytest writes next begins at the line's start.
        text = _in_width(step, self._width, lambda text: fitted(text, self._encoding))
        self._write(f"\r\x1b[2K{text}\r")


def _in_width(step: Step, width: int, fit: Callable[[str], str]) -> str:
    """The line, with what it still takes whole: on a narrow terminal the figure gives way first, then the name's end."""
    left, figure = fit(_left(step)), f" ({step.figure})" if step.figure else ""
    for what in (f"measuring {step.what}{figure}", f"measuring {step.what}", step.what):
        text = fit(what)
        if len(text) + len(left) <= width:
            return text + left
    return text[: width - len(left)].rstrip() + left if len(left) < width else left.removeprefix(", ")[:width]


def _left(step: Step) -> str:
    """', PASS likely in 8 s'; where that is not known yet ', 12 to 60 s left': until the verdict may be certain, and to the time limit."""
    if step.outlook:
        return f", {step.outlook}"
    least, most = f"{step.least_s:.0f}", f"{step.most_s:.0f}"
    if step.most_s == 0:
        return ""
    return f", {most} s left" if least == most else f", {least} to {most} s left"
