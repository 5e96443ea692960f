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

from pytest_greencompute.errors import GreencomputeError
from pytest_greencompute.models.workload import is_out_of_memory
from pytest_greencompute.pairing import SIDE
from pytest_greencompute.pairing.channel import Channel, Message, SideLostError
from pytest_greencompute.pairing.demands import Demands
from pytest_greencompute.pairing.told import Told
from pytest_greencompute.protocol.layout import Layout
from pytest_greencompute.results.run_json import run_from_json
from pytest_greencompute.values.behaviour import Behaviour
from pytest_greencompute.values.readings import beside_others
from pytest_greencompute.values.run import Run

LOAD_S = 1800.0  # a large model may take minutes to load, and a set of long queries to run
END_S = 60.0
SAID_LINES = 12
NO_SUCH_TEST = (4, 5)  # pytest's exit status where a node id is not found, and where nothing was collected
NO_MATCH = "no match in any of"  # what it says of a node id whose file was collected and does not hold it


class NotMeasuredError(GreencomputeError):
    """Why a side has no figure: the message completes "it was not measured: …". ``means_missing``: it does not have the test."""

    means_missing = False


class MemoryFullError(NotMeasuredError):
    """The side does not fit into the memory beside what else is there."""


class NoSuchTestError(NotMeasuredError):
    """The side does not have the test."""

    means_missing = True


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


class Process:
    """A side that runs. Every method raises NotMeasuredError where the process has ended or its test failed.

    ``names`` are those of the runs that its test has come to so far, ``demands`` what the side's commit demands of the test, once it has
    told.
    """

    def __init__(self, side: Side, told: Told) -> None:
        self.side = side
        self.run: Run | None = None
        self.run_name: str | None = None
        self.names: list[str | None] = []
        self.demands: Demands | None = None
        self._collected = self._loading = self._over = False
        self._ended = ""
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process that writes to it
        ours, theirs = socket.socketpair()
        command = [side.python, *side.prepare, "-m", "pytest", side.node_id, "-o", "addopts=", "-p", "no:cacheprovider", "-q", "--tb=short"]
        command += side.options
        with theirs:
            self._process = subprocess.Popen(
                command,
                cwd=side.folder,
                env={**side.environ, SIDE: str(theirs.fileno())},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the comparing process alone, which ends this one
            )
        self._channel = Channel(ours)
        self._channel.send(what="settings", settings=told.to_json())

    @property
    def measured(self) -> Run:
        """The run so far, once a set has been run."""
        assert self.run is not None
        return self.run

    def wait_until_collected(self) -> None:
        """Wait until it has imported what its test needs, and stands before the test's set-up."""
        if not self._collected:
            self.demands = Demands.from_json(self._expect("collected").get("asked", {}))
            self._collected = True

    def wait_here(self, name: str | None) -> None:
        """Wait until its test is about to measure the run called ``name``; what it measures before that it runs unmeasured."""
        while not self.has_ended():
            if self.run_name == name:
                return
            self._channel.send(what="skip")
        raise NotMeasuredError(f"its test measures no run {f'named {name!r}' if name else 'without a name'}")

    def has_ended(self) -> bool:
        """Wait for its next run, then called ``run_name``; True where its test has passed without another."""
        if not self._loading:
            self.wait_until_collected()
            self._channel.send(what="load")
            self._loading = True
        try:
            here = self._expect("here")
        except NotMeasuredError:
            if self._ended == "passed":
                return True
            raise
        self.run, self.run_name, self._over = None, here["name"], False
        self.names.append(self.run_name)
        return False

    def run_through(self) -> None:
        """Let its test go on to its end, unmeasured, so that all of its runs are known by name."""
        with contextlib.suppress(NotMeasuredError):
            while not self.has_ended():
                self._channel.send(what="skip")

    def prepare(self, learnt: Sequence[Behaviour] = ()) -> Layout:
        """Let it warm up; the layout that it would choose. ``learnt``: what is known of the devices here."""
        self._channel.send(what="prepare", learnt=[asdict(each) for each in learnt])
        message = self._expect("ready", "done")
        if message["what"] == "done":
            self._take(message)
            raise NotMeasuredError("no energy meter works there")
        return Layout(**message["layout"])

    def answers_of(self, name: str | None) -> Run:
        """The run called ``name`` with its scores and answers, and as little measuring as can be."""
        self.wait_here(name)
        with contextlib.suppress(NotMeasuredError):
            self.lay_out(self.prepare())
        return self.end()

    def lay_out(self, layout: Layout) -> None:
        """Tell it the layout of both sides."""
        self._channel.send(what="layout", layout=asdict(layout))

    def run_set(self, index: int) -> Run:
        """Let it run a set; its run so far, that set included unless it was lost, or its time is over."""
        if self._over:
            return self.measured
        self._channel.send(what="set", index=index)
        run = self._take(self._expect("measured", "done"))
        if beside_others(run.blocks):
            raise NotMeasuredError("another process used the GPU while it was measured")
        return run

    def end(self) -> Run:
        """End its measurement; the whole run."""
        if not self._over:
            with contextlib.suppress(SideLostError):
                self._channel.send(what="end")
            self._take(self._expect("done"))
        return self.measured

    def _take(self, message: Message) -> Run:
        self.run = run_from_json(message["run"])
        self._over = message["what"] == "done"
        return self.run

    def _expect(self, *whats: str) -> Message:
        try:
            message = self._channel.receive(LOAD_S)
        except SideLostError as error:
            said = self._said()
            if self._is_missing(said):
                raise NoSuchTestError("it has no such test") from error
            status = self._process.poll()
            # The kernel kills what the memory has no room for.
            kind = MemoryFullError if status == -signal.SIGKILL or is_out_of_memory(said) else NotMeasuredError
            raise kind(f"{error.message.rstrip('.')} (exit status {status}): {said}") from error
        if message["what"] == "ended":
            self._ended = message["outcome"]
            raise _not_measured(message["outcome"], message["said"])
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


def _not_measured(outcome: str, said: str) -> NotMeasuredError:
    if is_out_of_memory(said):
        return MemoryFullError(f"it ran out of memory ({_last_line(said)})")
    return NotMeasuredError(f"its test {'was skipped' if outcome == 'skipped' else 'failed'} ({_last_line(said)})")


def _last_line(said: str) -> str:
    lines = [line.strip() for line in said.strip().splitlines() if line.strip()]
    return lines[-1] if lines else "nothing was said"
