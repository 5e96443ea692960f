"""What is done on a node of a fleet: the code is laid out there once, and parts are run, each in a process of its own.

Knows nothing of the engine that calls it. Nothing here raises for what may go wrong on a node: it is said in what comes back. What was laid
out is removed when the last process that used it has ended (``keeper``).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from pytest_greencompute.commits import origin
from pytest_greencompute.commits.git import Repository
from pytest_greencompute.errors import GreencomputeError
from pytest_greencompute.fleet import keeper, leash
from pytest_greencompute.fleet.asked import NOT_THE_COMMIT, PLUGIN_OPTIONS, TEST
from pytest_greencompute.fleet.driving import PartEnd
from pytest_greencompute.fleet.part import MOST_BYTES
from pytest_greencompute.machine.processes import end, last_line, signal_group

PLUGIN = "pytest-greencompute"
PREFIX = "greencompute-fleet-"
BUNDLE, LENT, SHALLOW = "code.bundle", "lent", "shallow"  # what is in the archive that is sent
TREE = "tree"  # the checkout, in the folder of a fleet
USED: dict[Path, ExitStack] = {}  # the folders that this process holds
SAID_BYTES = 20_000
NOT_OWN = ("OMP_NUM_THREADS",)  # Ray sets it to the CPUs of a task where it is not set; by hand pytest would use them all


@dataclass(frozen=True, slots=True)
class Sent:
    """The code that a fleet measures, beside the archive with its files.

    ``session`` tells fleets apart. ``commit`` is the sha that is checked out; ``names`` are those that other commits go by, with their
    shas. ``project`` is the project's folder within the repository, ``root`` that folder where the fleet was started. ``version`` is that
    of this package there.
    """

    session: str
    commit: str
    names: Mapping[str, str]
    project: str
    root: str
    version: str


@dataclass(frozen=True, slots=True)
class Errand:
    """One part, as it is run on a node: pytest's ``arguments``, variables for its ``environ``, and its longest time in seconds."""

    test: str
    arguments: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    longest_s: float = 1800.0


def room_of(session: str, node: str) -> Path:
    """The folder of a fleet on a node; several nodes may share a machine."""
    return Path(tempfile.gettempdir()) / f"{PREFIX}{session}-{node[:12]}"


def run_part(sent: Sent, node: str, errand: Errand, chunks: Callable[[], Iterable[bytes]]) -> PartEnd:
    """Run one part. ``chunks`` are those of the archive with the code, for the first part here. Its process ends with this call."""
    room, began = room_of(sent.session, node), time.monotonic()
    if problem := _unfit(sent, room, chunks):
        return PartEnd(why=problem, host_lost=True)
    try:
        with tempfile.TemporaryDirectory(dir=room) as folder:
            return _run(sent, room / TREE, errand, Path(folder), began)
    except OSError as error:
        return PartEnd(why=f"it could not be run there: {error}", seconds=time.monotonic() - began)


def _unfit(sent: Sent, room: Path, chunks: Callable[[], Iterable[bytes]]) -> str:
    """Lay the code out, where that has not been done. Why no part can be run here; or an empty text."""
    if (version := metadata.version(PLUGIN)) != sent.version:
        return f"it has {PLUGIN} {version}, and this is {sent.version}: install the same one there"
    try:
        _use(room)
        with (room / "laying").open("a") as laying:
            fcntl.flock(laying, fcntl.LOCK_EX)  # a node with several GPUs runs several parts
            if not (room / TREE).exists():
                _fill(sent, room, chunks())
    except (OSError, GreencomputeError, tarfile.TarError, subprocess.SubprocessError) as error:
        return f"the code could not be laid out there: {error}"
    return ""


def _use(room: Path) -> None:
    """Hold the folder until this process ends."""
    while room not in USED:
        room.mkdir(exist_ok=True)
        with suppress(FileNotFoundError), ExitStack() as kept:  # it is being removed
            users = kept.enter_context((room / keeper.USERS).open("a"))
            fcntl.flock(users, fcntl.LOCK_SH)
            if os.path.samestat(os.fstat(users.fileno()), (room / keeper.USERS).stat()):
                USED[room] = kept.pop_all()


def let_go(room: Path) -> None:
    """As at the end of this process."""
    USED.pop(room).close()


def _fill(sent: Sent, room: Path, chunks: Iterable[bytes]) -> None:
    nothing = subprocess.DEVNULL  # it goes on, and would keep a pipe open
    subprocess.run([sys.executable, keeper.__file__, str(room)], check=True, stdin=nothing, stdout=nothing, stderr=nothing)
    with tempfile.TemporaryDirectory(dir=room) as folder:
        filling = Path(folder)
        with (filling / "sent.tar").open("wb") as file:
            file.writelines(chunks)
        with tarfile.open(filling / "sent.tar") as tar:
            _extract(tar, filling)
        _lay_out(sent, filling).rename(room / TREE)


def _extract(tar: tarfile.TarFile, room: Path) -> None:
    if hasattr(tarfile, "data_filter"):
        tar.extractall(room, filter="data")
    else:
        tar.extractall(room)


def _lay_out(sent: Sent, folder: Path) -> Path:
    """The checkout, made of what was sent."""
    tree = folder / TREE
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    subprocess.run(["git", "init", "--quiet", str(tree)], env=environ, check=True, capture_output=True)
    if (folder / SHALLOW).exists():
        shutil.move(folder / SHALLOW, tree / ".git" / "shallow")
    repository = Repository(tree, os.environ)
    repository.ask("fetch", "--quiet", "--no-tags", str(folder / BUNDLE), "HEAD")
    for name, sha in sent.names.items():
        repository.ask("update-ref", f"refs/tags/{name}", sha)
    repository.ask("checkout", "--quiet", "--detach", sent.commit)
    if (folder / LENT).exists():
        shutil.copytree(folder / LENT, tree, dirs_exist_ok=True, copy_function=shutil.move)
    return tree


def _run(sent: Sent, tree: Path, errand: Errand, folder: Path, began: float) -> PartEnd:
    project, report = tree / sent.project, folder / "energy.json"
    redirected = [sys.executable, origin.__file__, sent.root, str(project), "--", "-m", "pytest"]
    # GitHub is told of the whole, by whoever gathers: a node that is its runner would tell it of each part.
    options = ["--energy-budget", "--energy-only", "--energy-github=off", f"--energy-json={report}", *PLUGIN_OPTIONS]
    with (folder / "said").open("w+b") as said:
        process = subprocess.Popen(
            [sys.executable, leash.__file__, *redirected, *errand.arguments, *options],
            cwd=project,
            env=_environ(errand, project),
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        status = _waited(process, errand.longest_s)
        said.seek(max(0, said.tell() - SAID_BYTES))
        text = said.read().decode(errors="replace")
    seconds = time.monotonic() - began
    if status is None:
        return PartEnd(why=f"it had not ended after {errand.longest_s:g} s, and was ended", seconds=seconds, said=text)
    if not report.is_file() or status == NOT_THE_COMMIT:
        return PartEnd(why=f"{_status(status)}, without a report: {last_line(text)}", seconds=seconds, said=text)
    if report.stat().st_size > MOST_BYTES:
        return PartEnd(why=f"its report is larger than {MOST_BYTES // 1024**2} MiB", seconds=seconds, said=text)
    return PartEnd(report.read_bytes(), seconds, said=text)


def _waited(process: subprocess.Popen[bytes], longest_s: float) -> int | None:
    """The exit status of a process on the leash; None where it was ended, since it took longer. It never outlives this call."""
    assert process.stdin is not None
    with process.stdin as leash_of_it:
        try:
            status = process.wait(longest_s)
            leash_of_it.write(b".")
        except subprocess.TimeoutExpired:
            return None
        finally:  # a cancelled task is interrupted here
            if process.returncode is None:
                end(process.pid)
            signal_group(process.pid)  # what is left of that of one that has ended by itself
            process.wait()
    return status


def _environ(errand: Errand, project: Path) -> dict[str, str]:
    """That of the node, as it would be by hand."""
    environ = dict(os.environ)
    for name in NOT_OWN:
        if name not in _began_with():
            environ.pop(name, None)
    if (project / "src").is_dir():  # what is installed of the project on the node may be of another commit
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(project / "src"), environ.get("PYTHONPATH", "")]))
    return {**environ, **errand.environ, TEST: errand.test}


def _began_with() -> set[str]:
    """The names of the variables that this process was started with; all that there are, where that cannot be seen (Linux only)."""
    try:
        entries = Path("/proc/self/environ").read_bytes().split(b"\0")
    except OSError:
        return {*os.environ}
    return {os.fsdecode(each.partition(b"=")[0]) for each in entries}


def _status(status: int) -> str:
    return f"pytest was ended by {signal.Signals(-status).name}" if status < 0 else f"pytest ended with exit status {status}"
