"""Messages between the process that compares and a process that measures a side: one JSON object a line, over a socket."""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Iterable, Mapping
from dataclasses import Field
from typing import Any

from pytest_greencompute.errors import GreencomputeError

CHUNK = 1 << 16
Message = Mapping[str, Any]  # ``what`` it is, and what belongs to it: plain JSON values


class SideLostError(GreencomputeError):
    """The other process ended, or said nothing in time."""


class SilentError(SideLostError):
    """The other process said nothing in time."""


class Channel:
    """One end of the socket. ``receive`` waits; both raise SideLostError where the other end is gone."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._rest = b""

    def send(self, **message: Any) -> None:
        """Send one message. Raises SideLostError."""
        try:
            self._socket.settimeout(None)
            self._socket.sendall(json.dumps(message, allow_nan=False).encode() + b"\n")
        except OSError as error:
            raise SideLostError(f"the other process is gone ({error.strerror or error}).") from error

    def receive(self, timeout_s: float | None = None) -> Message:
        """The next message. Raises SideLostError at the end of the stream, and where none comes within ``timeout_s``."""
        self._socket.settimeout(timeout_s)
        while b"\n" not in self._rest:
            try:
                chunk = self._socket.recv(CHUNK)
            except TimeoutError as error:
                raise SilentError(f"the other process said nothing for {timeout_s:.0f} s.") from error
            except OSError as error:
                raise SideLostError(f"the other process is gone ({error.strerror or error}).") from error
            if not chunk:
                raise SideLostError("the other process is gone.")
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        message: Message = json.loads(line)
        return message

    def has_more(self) -> bool:
        """Whether something is there to be received, or the other end is gone."""
        return b"\n" in self._rest or bool(select.select([self._socket], [], [], 0)[0])

    def close(self) -> None:
        """Close this end; the other one sees the end of the stream."""
        self._socket.close()


def known(fields: Iterable[Field[Any]], said: Message) -> dict[str, Any]:
    """What was said of these fields: the other process may run a version that has others, too."""
    return {field.name: said[field.name] for field in fields if field.name in said}
