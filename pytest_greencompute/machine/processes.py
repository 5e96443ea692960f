"""The processes of this machine: what one said last; the end of one with all that it started; who descends from whom, and who listens at a
port (Linux only). Imports nothing of ours and little else: ``fleet.leash`` does so before it becomes another process.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
APART: set[str] = set()  # ids of the processes that measure other sides of a comparison
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows has the one alone, and ends a process by it
LISTENS = "0A"  # the state of a socket that waits for connections, in /proc/net/tcp (proc(5))


def listens_here(port: int, proc: Path = PROC) -> bool:
    """Whether this process or a descendant of it waits for connections at that port; False where that cannot be seen."""
    wanted = {f"socket:[{inode}]" for table in ("tcp", "tcp6") for inode in _inodes(proc / "net" / table, port)}
    return bool(wanted) and any(wanted & set(_links(proc / pid / "fd")) for pid in ("self", *descendants(proc)))


def _inodes(table: Path, port: int) -> Iterator[str]:
    try:
        rows = [line.split() for line in table.read_text(encoding="ascii").splitlines()[1:]]
    except (OSError, UnicodeDecodeError):
        return
    for row in rows:
        if row[3] == LISTENS and int(row[1].rpartition(":")[2], 16) == port:
            yield row[9]


def _links(folder: Path) -> Iterator[str]:
    try:
        entries = list(folder.iterdir())
    except OSError:
        return
    for entry in entries:
        try:
            yield str(entry.readlink())
        except OSError:  # closed meanwhile
            continue


def descends(pid: int, family: int) -> bool:
    """Whether ``pid`` is the process ``family`` or descends from it, such as the engine process of a server under test."""
    for _ in range(64):
        if pid == family:
            return True
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
            # The name, in parentheses, may hold anything; state and parent follow it.
            pid = int(stat.rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            return False
        if pid <= 1:
            return False
    return False


def descendants(proc: Path = PROC, but: Collection[str] = (), of: str = "self") -> Iterator[str]:
    """The ids of all living descendants of a process (this one), ``but`` these and theirs; each is given before its own children are
    looked for.
    """
    waiting, seen = _children(proc / of), set(but)
    while waiting:
        pid = waiting.pop()
        if pid not in seen:
            seen.add(pid)
            yield pid
            waiting += _children(proc / pid)


def workers(proc: Path = PROC) -> Iterator[str]:
    """The ids of the descendants that work for this process: all but those that stand apart, and theirs."""
    return descendants(proc, but=APART)


def end(leader: int) -> None:
    """End a living process with its group and whatever else descends from it: a server that a test starts may have a group of its own."""
    others = [*descendants(of=str(leader))]  # while they can be told: the children of one that has ended are nobody's
    signal_group(leader)
    kill(others)


def signal_group(leader: int, sign: int = KILL) -> None:
    """Signal all of a process's group that there still is."""
    with suppress(ProcessLookupError, PermissionError):  # macOS refuses to signal a group of the dead
        os.killpg(leader, sign)


def kill(pids: Iterable[str]) -> None:
    """End those of these processes that still live."""
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(int(pid), KILL)


def exit_status(status: int) -> int:
    """The exit status of a process as a shell has it: 128 and its number for one that a signal has ended, which Python has as negative."""
    return 128 - status if status < 0 else status


def last_line(said: str) -> str:
    """The last line of what a process printed that holds anything."""
    return next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "it said nothing")


def _children(process: Path) -> list[str]:
    """The ids of a process's children; those of every thread of it, since each thread lists its own."""
    found: list[str] = []
    try:
        for thread in (process / "task").iterdir():
            found += (thread / "children").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        # It ended while it was looked at, or this kernel has no such list (CONFIG_PROC_CHILDREN).
        return found
    return found
