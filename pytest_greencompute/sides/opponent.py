"""A process that measures one side, as the comparing process sees it: started, told when to run, ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pytest_greencompute.errors import GreencomputeError
from pytest_greencompute.samples import Run
from pytest_greencompute.schedule import Layout
from pytest_greencompute.sides.channel import Channel, SideLostError
from pytest_greencompute.sides.worker import DESCRIPTOR
from pytest_greencompute.store.runfile import run_from_json

LOAD_S = 1800.0  # a large model may take minutes to load, and a set of long queries to run
END_S = 60.0
SAID_LINES = 12
OUT_OF_MEMORY = ("OutOfMemoryError", "out of memory")


NO_SUCH_TEST = (4, 5)  # pytest's exit status where a node id is not found, and where nothing was collected
NO_MATCH = "no match in any of"  # what it says of a node id whose file was collected and does not hold it


class NotMeasuredError(GreencomputeError):
    """Why a side has no figure: the message completes "it was not measured: …"."""


class NoSuchTestError(NotMeasuredError):
    """The side does not have the test."""


@dataclass(frozen=True, slots=True)
class Side:
    """What to start: ``folder`` is the side's project, ``node_id`` the test, ``label`` what it is called in sentences."""

    label: str
    folder: Path
    node_id: str
    environ: Mapping[str, str]
    python: str = sys.executable
    prepare: Sequence[str] = ()


class Opponent:
    """A running side. Every method raises NotMeasuredError where the process has ended or its test failed."""

    def __init__(self, side: Side, settings: Mapping[str, Any]) -> None:
        self.side = side
        self.run: Run | None = None
        self.answers: Sequence[str] = ()
        self._over = False
        self._ended = ""
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process that writes to it
        ours, theirs = socket.socketpair()
        command = [side.python, *side.prepare, "-m", "pytest", side.node_id, "-o", "addopts=", "-p", "no:cacheprovider", "-q", "--tb=short"]
        with theirs:
            self._process = subprocess.Popen(
                command,
                cwd=side.folder,
                env={**side.environ, DESCRIPTOR: str(theirs.fileno())},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the comparing process alone, which ends this one
            )
        self._channel = Channel(ours)
        self._channel.send(what="settings", settings=dict(settings))

    def wait_here(self, name: str | None) -> None:
        """Wait until its test is about to measure the run called ``name``; what it measures before that it runs unmeasured."""
        while True:
            try:
                here = self._expect("here")
            except NotMeasuredError as error:
                if self._ended == "passed":
                    raise NotMeasuredError(f"its test measures no run {f'named {name!r}' if name else 'without a name'}") from error
                raise
            if here["name"] == name:
                self.run, self.answers, self._over = None, (), False
                return
            self._channel.send(what="skip")

    def prepare(self) -> Layout:
        """Let it warm up; the layout that it would choose."""
        self._channel.send(what="prepare")
        return Layout(**self._expect("ready")["layout"])

    def lay_out(self, layout: Layout) -> None:
        """Tell it the layout of both sides."""
        self._channel.send(what="layout", layout=asdict(layout))

    def run_set(self, index: int) -> Run:
        """Let it run a set; its run so far, that set included unless it was lost."""
        self._channel.send(what="set", index=index)
        return self._take(self._expect("measured", "done"))

    def end(self) -> Run:
        """End its measurement; the whole run."""
        if not self._over:
            with contextlib.suppress(SideLostError):
                self._channel.send(what="end")
            self._take(self._expect("done"))
        assert self.run is not None
        return self.run

    def _take(self, message: Mapping[str, Any]) -> Run:
        self.run = run_from_json(message["run"])
        self.answers, self._over = message.get("answers", ()), message["what"] == "done"
        return self.run

    def _expect(self, *whats: str) -> Mapping[str, Any]:
        try:
            message = self._channel.receive(LOAD_S)
        except SideLostError as error:
            said = self._said()
            if self._is_missing(said):
                raise NoSuchTestError("it has no such test") from error
            raise NotMeasuredError(f"{error.message.rstrip('.')} (exit status {self._process.poll()}): {said}") from error
        if message["what"] == "ended":
            self._ended = message["outcome"]
            raise NotMeasuredError(_why(message["outcome"], message["said"]))
        if message["what"] not in whats:
            raise NotMeasuredError(f"it said {message['what']!r} instead of {' or '.join(map(repr, whats))}")
        return message

    def _is_missing(self, said: str) -> bool:
        """Whether the side does not have the test; a file that cannot be collected ends with the same exit status, and is no such thing."""
        here = (self.side.folder / self.side.node_id.partition("::")[0]).exists()
        return self._process.poll() in NO_SUCH_TEST and (not here or NO_MATCH in said)

    def _said(self) -> str:
        """The end of what the process printed, once it has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)
        self._output.seek(0)
        lines = self._output.read().decode(errors="replace").strip().splitlines()
        return " / ".join(line.strip() for line in lines[-SAID_LINES:] if line.strip())

    def close(self) -> None:
        """End the process, whatever it does. May be called twice."""
        self._channel.close()
        if self._process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(END_S / 60)
        for sign in (signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, sign)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(END_S / 6)
        self._output.close()


def _why(outcome: str, said: str) -> str:
    if any(mark in said for mark in OUT_OF_MEMORY):
        return f"it ran out of memory beside this side ({_last_line(said)}); --energy-launches 2 launches the sides one after the other"
    if outcome == "skipped":
        return f"its test was skipped ({_last_line(said)})"
    return f"its test failed ({_last_line(said)})"


def _last_line(said: str) -> str:
    lines = [line.strip() for line in said.strip().splitlines() if line.strip()]
    return lines[-1] if lines else "nothing was said"
