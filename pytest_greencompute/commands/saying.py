"""What commands say to people, line by line as it comes: whatever a line names, a terminal can show it, and none breaks within a word."""

from __future__ import annotations

import sys
from typing import TextIO

from pytest_greencompute.report import room
from pytest_greencompute.report.columns import folded
from pytest_greencompute.report.escape import fitted, printable


def tell(line: str, under: int | None = None) -> None:
    """A line of what the command was called for. One that is too long for a terminal goes on below its character number ``under``."""
    _write(line, sys.stdout, under)


def tell_to_copy(text: str) -> None:
    """Lines that are to be copied, such as a command: they stay whole."""
    for line in text.split("\n"):
        print(_fitted(printable(line), sys.stdout), flush=True)


def say(line: str) -> None:
    """A line on how far it is, beside what it was called for."""
    _write(line, sys.stderr)


def fit(text: str) -> str:
    """``text`` as it is told where signs are lacking: what is to stand in columns is of its width before."""
    return _fitted(text, sys.stdout)


def _fitted(text: str, stream: TextIO) -> str:
    return fitted(text, stream.encoding or "utf-8")  # one without an encoding holds text, and every sign


def _write(line: str, stream: TextIO, under: int | None = None) -> None:
    for part in folded(_fitted(printable(line), stream), room.for_sentences(stream), under):
        print(part, file=stream, flush=True)


def waiting(device: str) -> None:
    """Another measured run holds a device."""
    say(f"waiting for another measured run on {device} to end")
