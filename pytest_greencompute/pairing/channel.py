"""Messages between the process that compares and a process that measures a side: one JSON object a line, over a socket."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Mapping
from dataclasses import Field
from typing import Any

from pytest_greencompute.errors import GreencomputeError

CHUNK = 1 << 16
SHOWN = 40  # bytes of what is no message
Message = Mapping[str, Any]  # ``what`` it is, and what belongs to it: plain JSON values


class SideLostError(GreencomputeError):
    """The other process ended, or said nothing in time."""


class SilentError(SideLostError):
    """The other process said nothing in time."""


class GarbledError(SideLostError):
    """What the other process said is no message."""


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
        """The next message. Raises SideLostError at the end of the stream, where none comes within ``timeout_s``, and for what is none."""
        while b"\n" not in self._rest:
            try:
                self._socket.settimeout(timeout_s)
                chunk = self._socket.recv(CHUNK)
            except TimeoutError as error:
                raise SilentError(f"the other process said nothing for {timeout_s:.0f} s.") from error
            except OSError as error:
                raise SideLostError(f"the other process is gone ({error.strerror or error}).") from error
            if not chunk:
                raise SideLostError("the other process is gone.")
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        return _message(line)

    def has_more(self, within_s: float = 0.0) -> bool:
        """Whether something is there to be received within so many seconds, or the other end is gone."""
        if b"\n" in self._rest:
            return True
        try:
            self._socket.settimeout(within_s)
            self._socket.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, TimeoutError):
            return False
        except OSError:  # receive will say why
            pass
        return True

    def close(self) -> None:
        """Close this end; the other one sees the end of the stream."""
        self._socket.close()


def _message(line: bytes) -> Message:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict) or not isinstance(message.get("what"), str):
        raise GarbledError(f"the other process said what is no message ({line[:SHOWN].decode(errors='replace')!r}).")
    return message


def known(fields: Iterable[Field[Any]], said: Message) -> dict[str, Any]:
    """What was said of these fields: the other process may run a version that has others, too."""
    return {field.name: said[field.name] for field in fields if field.name in said}
