"""pytest again and again, in forks of a process that has imported what each side of a comparison would import anew for a second.

``Preloaded.start`` takes the place of ``subprocess.Popen`` where a side is started, and is that wherever a fork is not the same. Run as
``python -m tests.e2e.preloaded FD``, each message on that socket is a process to be started, with the files that it inherits; on the first
of them comes back its number, and how it has ended.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from _pytest.config import default_plugins
from _pytest.fixtures import FixtureManager

import pytest_greencompute
from pytest_greencompute.pairing import SIDE

ROOT = Path(__file__).parents[2]
WHAT = (
    "hooks.beginning",
    "hooks.collecting",
    "hooks.ending",
    "hooks.judged",
    "hooks.missing",
    "hooks.running",
    "hooks.side",
    "measuring.driver",
)
WHAT += ("session.metered", "session.under_meters", "testing.simulated")
UNDERSTOOD = {"PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"}  # of what Python itself reads as it begins
MESSAGE_BYTES = 150_000


class Forked:
    """A process, as far as a side's is used."""

    def __init__(self, told: socket.socket) -> None:
        self._told, self.returncode = told, None
        weakref.finalize(self, told.close)  # before anything in a circle with it is freed, which would warn of an open socket
        self.pid = int(told.recv(64))

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self._told.settimeout(timeout)
            try:  # without taking it: several threads may wait
                self.returncode = int(self._told.recv(64, socket.MSG_PEEK) or -signal.SIGKILL)
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired("a side", timeout or 0) from None
        return self.returncode


class Preloaded:
    """The process that forks, begun when it is first asked for."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._asked, self._theirs = socket.socketpair(type=socket.SOCK_SEQPACKET) if sys.platform == "linux" else (None, None)

    def start(self, command: Sequence[str], **how: Any) -> Any:
        asked = json.dumps({"argv": command[1:], "folder": str(how["cwd"]), "environ": dict(how["env"])}).encode()
        odd = {name for name in how["env"] if name.startswith("PYTHON")} - UNDERSTOOD
        if self._asked is None or command[0] != sys.executable or odd or not Path(how["cwd"]).is_dir() or len(asked) > MESSAGE_BYTES:
            return subprocess.Popen(command, **how)
        self._begin()
        ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        try:
            with theirs:
                socket.send_fds(self._asked, [asked], [theirs.fileno(), how["stdout"].fileno(), *how["pass_fds"]])
            return Forked(ours)
        except (OSError, ValueError):  # what forks has been ended, with a test that was
            ours.close()
            return subprocess.Popen(command, **how)

    def _begin(self) -> None:
        if self._process is None and self._theirs is not None:
            command = [sys.executable, "-m", __name__, str(self._theirs.fileno())]
            environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
            environ["OPENBLAS_NUM_THREADS"] = "1"  # threads do not outlive a fork
            self._process = subprocess.Popen(command, cwd=ROOT, env=environ, pass_fds=[self._theirs.fileno()], stdin=subprocess.DEVNULL)
            self._theirs.close()

    def close(self) -> None:
        if self._asked is not None and self._theirs is not None:
            self._asked.close()
            self._theirs.close()
        if self._process is not None:
            self._process.wait(60)


PARSE = FixtureManager.parsefactories


@cache
def _has_fixtures(module: ModuleType) -> bool:
    return any(type(each).__name__ == "FixtureFunctionDefinition" for each in vars(module).values())


def parse(self: FixtureManager, *args: Any, **named: Any) -> None:
    """``PARSE``, which each run calls for forty modules of pytest's own and takes a fifth of its time: for those that have fixtures."""
    holder = named.get("holder")
    if not isinstance(holder, ModuleType) or not holder.__name__.startswith("_pytest.") or _has_fixtures(holder):
        PARSE(self, *args, **named)


def load() -> list[str]:
    """Import it all; the folders of Python and of what is installed."""
    FixtureManager.parsefactories = parse  # type: ignore[method-assign]
    for name in default_plugins:
        importlib.import_module(f"_pytest.{name}")
    for name in WHAT:
        importlib.import_module(f"{pytest_greencompute.__name__}.{name}")
    gc.collect()
    gc.freeze()  # what forks share is nothing to be looked through
    return sys.path[1:]


def run(installed: Sequence[str], argv: list[str], folder: str, environ: Mapping[str, str]) -> None:
    """As a new Python would, with these arguments."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    sys.dont_write_bytecode = bool(environ.get("PYTHONDONTWRITEBYTECODE"))
    for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
        del sys.modules[name]
    paths = [str(Path(folder, each)) for each in environ["PYTHONPATH"].split(os.pathsep)] if environ.get("PYTHONPATH") else []
    module = argv[0] == "-m"
    sys.path[:] = [folder if module else str(Path(argv[0]).parent), *paths, *installed]
    sys.argv = argv[module:]
    if module:
        runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(argv[0], run_name="__main__")


def keep(message: bytes, told: int, output: int, channel: int) -> list[Any]:
    """Start one, tell of it, and end with it; returns in the new process alone: what that is to run."""
    asked = json.loads(message)
    if not (number := os.fork()):
        os.setpgid(0, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
        os.close(told)
        return [asked["argv"], asked["folder"], {**asked["environ"], SIDE: str(channel)}]
    with suppress(OSError):  # it has done so itself
        os.setpgid(number, number)
    os.close(output)
    os.close(channel)
    os.write(told, str(number).encode())
    _, status = os.waitpid(number, 0)
    with suppress(OSError):  # nobody wants to know
        os.write(told, str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def main(number: int) -> None:
    """A fork for each message, which starts the process and waits for it, so that this one can go on."""
    installed = load()
    with socket.socket(fileno=number) as asked:
        while True:
            message, files, _, _ = socket.recv_fds(asked, MESSAGE_BYTES, 3)
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG) != (0, 0):  # not ignored: their CPU time is on our bill
                    continue
            if not message:
                return
            if not os.fork():
                break
            for file in files:
                os.close(file)
    run(installed, *keep(message, *files))


if __name__ == "__main__":
    main(int(sys.argv[1]))
