"""What is done on a node of a fleet: the code is checked out, one part is run in a process of its own, and all is removed again.

Knows nothing of the engine that calls it. Nothing here raises for what may go wrong on a node: it is said in what comes back.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from pytest_greencompute.commits import origin
from pytest_greencompute.commits.git import Repository
from pytest_greencompute.errors import GreencomputeError
from pytest_greencompute.fleet import leash
from pytest_greencompute.fleet.asked import NOT_THE_COMMIT, PLUGIN_OPTIONS, TEST
from pytest_greencompute.fleet.driving import Outcome
from pytest_greencompute.fleet.part import MOST_BYTES

PLUGIN = "pytest-greencompute"
PREFIX = "greencompute-fleet-"
BUNDLE, LENT, SHALLOW = "code.bundle", "lent", "shallow"  # what is in the archive that is sent
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


def check_out(sent: Sent, node: str, chunks: Iterable[bytes]) -> str:
    """Lay the code out on this node. Returns why it cannot be measured here, or an empty text."""
    version = metadata.version(PLUGIN)
    if version != sent.version:
        return f"it has {PLUGIN} {version}, and {sent.version} is here: install the same one"
    room = room_of(sent.session, node)
    try:
        room.mkdir(parents=True)
        with (room / "sent.tar").open("wb") as file:
            file.writelines(chunks)
        with tarfile.open(room / "sent.tar") as tar:
            _extract(tar, room)
        (room / "sent.tar").unlink()
        _lay_out(sent, room)
    except (OSError, GreencomputeError, tarfile.TarError, subprocess.SubprocessError) as error:
        shutil.rmtree(room, ignore_errors=True)
        return f"the code could not be laid out there: {error}"
    return ""


def _extract(tar: tarfile.TarFile, room: Path) -> None:
    if hasattr(tarfile, "data_filter"):
        tar.extractall(room, filter="data")
    else:
        tar.extractall(room)


def _lay_out(sent: Sent, room: Path) -> None:
    tree = room / "tree"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    subprocess.run(["git", "init", "--quiet", str(tree)], env=environ, check=True, capture_output=True)
    if (room / SHALLOW).exists():
        shutil.move(room / SHALLOW, tree / ".git" / "shallow")
    repository = Repository(tree, os.environ)
    repository.ask("fetch", "--quiet", "--no-tags", str(room / BUNDLE), "HEAD")
    for name, sha in sent.names.items():
        repository.ask("update-ref", f"refs/tags/{name}", sha)
    repository.ask("checkout", "--quiet", "--detach", sent.commit)
    (room / BUNDLE).unlink()
    if (room / LENT).exists():
        shutil.copytree(room / LENT, tree, dirs_exist_ok=True, copy_function=shutil.move)


def run_part(sent: Sent, node: str, errand: Errand) -> Outcome:
    """Run one part, in a process of its own. It ends with this one."""
    room = room_of(sent.session, node)
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(dir=room) as folder:
            return _run(sent, room / "tree", errand, Path(folder), began)
    except OSError as error:
        return Outcome(why=f"it could not be run there: {error}", seconds=time.monotonic() - began)


def _run(sent: Sent, tree: Path, errand: Errand, folder: Path, began: float) -> Outcome:
    project, report = tree / sent.project, folder / "energy.json"
    redirected = [sys.executable, origin.__file__, sent.root, str(project), "--", "-m", "pytest"]
    options = ["--energy-budget", "--energy-only", f"--energy-json={report}", *PLUGIN_OPTIONS]
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
        return Outcome(why=f"it had not ended after {errand.longest_s:g} s, and was ended", seconds=seconds, said=text)
    if not report.is_file() or status == NOT_THE_COMMIT:
        return Outcome(why=f"{_status(status)}, without a report: {_last_line(text)}", seconds=seconds, said=text)
    if report.stat().st_size > MOST_BYTES:
        return Outcome(why=f"its report is larger than {MOST_BYTES // 1024**2} MiB", seconds=seconds, said=text)
    return Outcome(report.read_bytes(), seconds, said=text)


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
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
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


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it said nothing")


def remove(session: str, node: str) -> None:
    """Remove what ``check_out`` laid out on this node."""
    shutil.rmtree(room_of(session, node), ignore_errors=True)
