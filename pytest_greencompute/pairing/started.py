"""A process that measures a side, as the operating system's: started, spoken with, and ended. What is said is ``process``'s business.

It runs the test that it was started for. Where it is told of ``tests`` that are to follow, and its version of this package knows how, it
stands before each of them in turn, so that what several share is loaded once, as in any session of pytest. A version that does not know
passes over the key, and has a process for each test.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_greencompute.errors import MADE_UP, GreencomputeError
from pytest_greencompute.machine.processes import APART, descendants, end, exit_status, kill, signal_group
from pytest_greencompute.models.workload import is_out_of_memory
from pytest_greencompute.pairing import SIDE
from pytest_greencompute.pairing.channel import Channel, GarbledError, Message, SideLostError, SilentError
from pytest_greencompute.pairing.told import Told

LOADING_S = 600.0  # at least, for importing and for loading: a base may have to compile or fetch what this side has
ANSWER_S = 1800.0  # a set of long queries may take minutes
END_S = 60.0
LOOK_S = 1.0  # how often it is looked whether a process that says nothing still lives
SAID_LINES = 12
# Ctrl-C reaches the comparing process alone, which ends this one. A group, no session: Linux shares the processors out session by session
# (autogroup), so on a busy machine a side with one of its own would be held up less than the other, and its caches would stay warmer.
OWN_GROUP: Any = {"process_group": 0} if sys.version_info >= (3, 11) else {"preexec_fn": os.setpgrp}
BY_ITSELF = range(1, 6)  # pytest's exit statuses of a session that did not pass
NO_SUCH_TEST = (4, 5)  # pytest's exit status where a node id is not found, and where nothing was collected
NO_MATCH = "no match in any of"  # what it says of a node id whose file was collected and does not hold it
PASSED = re.compile(r"\b[1-9]\d* passed\b")  # what it says at the end of a session that has run tests
# What a Python says that lacks what measures, and what that is.
LACKING = {
    "fixture 'energy_meter' not found": "pytest-greencompute",
    "No module named 'pytest_greencompute'": "pytest-greencompute",
    "No module named pytest.": "pytest",
}


class NotMeasuredError(GreencomputeError):
    """Why a side has no figure: the message completes "it was not measured: …". ``means_missing``: it does not have the test."""

    means_missing = False


class MemoryFullError(NotMeasuredError):
    """The side does not fit into the memory beside what else is there."""


class NoSuchTestError(NotMeasuredError):
    """The side does not have the test."""

    means_missing = True


class NotMeteredError(NoSuchTestError):
    """The side has the test, which has passed there and uses no ``energy_meter``."""

    def __init__(self) -> None:
        super().__init__("its test does not use energy_meter")


class DisturbedError(NotMeasuredError):
    """Something that has nothing to do with the side was in the way."""


class UnmeteredError(NotMeasuredError):
    """No meter works in the side's process."""


class PythonLacksError(NotMeasuredError):
    """The Python that the side was given lacks what measures."""


class NotServedError(GreencomputeError):
    """A process that serves several tests does not stand before this one any more, or never will."""


@dataclass(frozen=True, slots=True)
class Side:
    """What to start: ``folder`` is the side's project, ``node_id`` the test, ``label`` what it is called in sentences,
    ``options`` more of pytest's.
    """

    label: str
    folder: Path
    node_id: str
    environ: Mapping[str, str]
    python: str = sys.executable
    prepare: Sequence[str] = ()
    options: Sequence[str] = ()


def text(said: object) -> str:
    """What was said, if it is a text. Raises TypeError."""
    if not isinstance(said, str):
        raise TypeError(f"{said!r} stands where a text should")
    return said


class Started:
    """A process of ``side``, which is told how to measure, and of the ``tests`` that it may be asked for, in their order (none: the one of
    ``side`` alone). Every method raises NotMeasuredError where the process has ended, or could not be started.
    """

    def __init__(self, side: Side, told: Told, tests: Sequence[str] = ()) -> None:
        self.side = side
        self.ahead = tuple(tests)  # the tests that it may still be asked for, as far as is known
        self._why: NotMeasuredError | None = None  # it says nothing more
        self._collected = self._one_only = self._swept = False
        self._before: Message | None = None  # said where it stands before a test that nobody has asked for yet
        command = [side.python, *side.prepare, "-m", "pytest", side.node_id, "-o", "addopts=", "-p", "no:cacheprovider", "-q", "--tb=short"]
        command += side.options
        try:
            with contextlib.ExitStack() as opened:
                self._output = opened.enter_context(tempfile.TemporaryFile())
                ours, theirs = map(opened.enter_context, socket.socketpair())
                self._process = subprocess.Popen(
                    command,
                    cwd=side.folder,
                    env={**side.environ, SIDE: str(theirs.fileno())},
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=self._output,
                    stderr=subprocess.STDOUT,
                    **OWN_GROUP,
                )
                theirs.close()
                opened.pop_all()  # both live as long as the process
        except OSError as error:
            raise NotMeasuredError(f"its process could not be started ({error.strerror or error})") from error
        APART.add(str(self._process.pid))
        self._channel = Channel(ours)
        with contextlib.suppress(SideLostError):  # whoever waits for its first word will hear why
            self._channel.send(what="settings", settings=told.to_json(), **({"tests": [*tests]} if tests else {}))

    @property
    def lives(self) -> bool:
        """Whether the process has not ended yet."""
        return self._status() is None

    @property
    def serves_others(self) -> bool:
        """Whether another test can follow."""
        return bool(self.ahead) and self.lives

    @property
    def serves_one(self) -> bool:
        """Whether one that is told of several is of no use: its version serves the first, or it ended before it stood before any."""
        return self._one_only or not (self._collected or self.lives)

    def serves(self, node_id: str) -> bool:
        """Whether that test may be ahead."""
        return self.lives and node_id in self.ahead

    def stand_before(self, node_id: str) -> Message:
        """Wait until it stands before that test, which it has imported and not set up; what it says of it.

        Raises NotServedError where another test of those that it serves is the next, or where it does not have this one, or has none.
        """
        while True:
            message = self._before or self._first_test()
            self._before, self._collected = None, True
            if "tests" not in message:  # the only test that it runs
                self._one_only, self.ahead = True, ()
                return message
            with self.understanding(message):
                here, following = text(message["test"]), [text(each) for each in message["tests"]]
            if here == node_id:
                self.ahead = tuple(following)
                return message
            if node_id not in following:
                self.ahead, self._before = (here, *following), message
                raise NotServedError(f"{self.side.label} does not stand before {node_id}.")
            self.send(what="next")

    def _first_test(self) -> Message:
        try:
            return self._next_test()
        except NotMeasuredError as error:
            if self.ahead and not self._collected and self._status() in BY_ITSELF:
                raise NotServedError(f"{self.side.label} stood before none of its tests.") from error
            raise

    def _next_test(self) -> Message:
        """What it says before its next test; what it had still to say of the one before is no news."""
        while (message := self.receive("collected", "ended", "device", "loaded", within_s=LOADING_S))["what"] != "collected":
            continue
        return message

    def has_spoken(self) -> bool:
        """Whether it has said something that nobody has received yet."""
        return self._channel.has_more()

    def kill(self) -> None:
        """End it at once: what it holds is wanted."""
        if self.lives:
            end(self._process.pid)

    def _started_apart(self) -> list[str]:
        """Whatever descends from it, while that can be told: a server that its test starts may have a group of its own."""
        return [*descendants(of=str(self._process.pid))] if self.lives else []

    def _status(self) -> int | None:
        """Its exit status, None while it lives. What it has started and left behind ends with it."""
        status = self._process.poll()
        if status is not None and not self._swept:
            self._swept = True  # once: the number may be another process's later
            signal_group(self._process.pid)
        return status

    def send(self, **message: object) -> None:
        """Say something. Raises NotMeasuredError."""
        try:
            self._channel.send(**message)
        except SideLostError as error:
            raise self._lost(error) from error

    def receive(self, *whats: str, within_s: float | None = None) -> Message:
        """Wait ``within_s`` seconds at most (default: half an hour) for one of these messages. Raises NotMeasuredError for none, or
        another.
        """
        try:
            message = self._heard(ANSWER_S if within_s is None else within_s)
        except SideLostError as error:
            raise self._lost(error) from error
        if message["what"] not in whats:
            raise self._ended_for(f"it said {message['what']!r} instead of {' or '.join(map(repr, whats))}")
        return message

    def _heard(self, within_s: float) -> Message:
        """The next message. What the process has forked holds the channel open, too, so its end alone does not show that it is gone."""
        until_s = time.monotonic() + within_s
        while not self._channel.has_more(min(LOOK_S, within_s)):
            if not self.lives and not self._channel.has_more():
                raise SideLostError("the other process is gone.")
            if time.monotonic() >= until_s:
                raise SilentError(f"the other process said nothing for {within_s:.0f} s.")
        return self._channel.receive(within_s)

    @contextlib.contextmanager
    def understanding(self, message: Message) -> Iterator[None]:
        """In here the message is taken apart. Raises NotMeasuredError where it does not hold what such a one holds."""
        try:
            yield
        except MADE_UP as error:
            why = f"what it said as {message['what']!r} makes no sense ({type(error).__name__}: {error})"
            raise self._ended_for(why) from error

    def _ended_for(self, why: str) -> NotMeasuredError:
        """It is ended, since nobody knows what it would do next."""
        self.close()
        self._why = NotMeasuredError(f"{why}, and was ended")
        return self._why

    def _lost(self, error: SideLostError) -> NotMeasuredError:
        """Why it says nothing more. One that only takes too long is ended."""
        self._why = self._why or self._found(error)
        return self._why

    def _found(self, error: SideLostError) -> NotMeasuredError:
        if isinstance(error, SilentError | GarbledError):
            return self._ended_for(error.message.rstrip("."))
        said = self._said()
        if self._is_missing(said):
            return NoSuchTestError("it has no such test")
        if lacking := next((what for words, what in LACKING.items() if words in f"{said}."), ""):
            return PythonLacksError(f"its Python ({self.side.python}) has no {lacking}", remedy="Install it there.")
        status = self._status()
        if status == 0 and not self._collected and PASSED.search(said):
            return NotMeteredError()
        shown = None if status is None else exit_status(status)
        # The kernel kills what the memory has no room for.
        kind = MemoryFullError if status == -signal.SIGKILL or is_out_of_memory(said) else NotMeasuredError
        return kind(f"{error.message.rstrip('.')} (exit status {shown}): {said}")

    def _is_missing(self, said: str) -> bool:
        """Whether the side does not have the test; a file that cannot be collected ends with the same exit status, and is no such thing."""
        here = (self.side.folder / self.side.node_id.partition("::")[0]).exists()
        return self._status() in NO_SUCH_TEST and (not here or NO_MATCH in said)

    def _said(self) -> str:
        """The end of what the process printed, once it has ended."""
        self._wait(END_S)
        if self._output.closed:
            return ""
        self._output.seek(0)
        lines = self._output.read().decode(errors="replace").strip().splitlines()
        return " / ".join(line.strip() for line in lines[-SAID_LINES:] if line.strip())

    def _wait(self, within_s: float) -> None:
        """Wait for its end, so many seconds at most."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(within_s)
        self._status()

    def close(self) -> None:
        """End the process, whatever it does. May be called twice."""
        self._channel.close()
        self._wait(END_S / 60)
        others = self._started_apart()
        for sign in (signal.SIGTERM, signal.SIGKILL):
            if self.lives:
                signal_group(self._process.pid, sign)
                self._wait(END_S / 6)
        kill(others)
        APART.discard(str(self._process.pid))
        self._output.close()
