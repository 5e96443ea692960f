"""Whether a server is this process or one that it started, by who holds its socket (Linux only)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pytest_greencompute.meters.cputime import PROC, descendants

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
