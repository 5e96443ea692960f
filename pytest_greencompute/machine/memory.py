"""The memory of this machine (Linux only): what this process holds, and what is free, also where a container may have less than all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pytest_greencompute.values.memory import Memory

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")
GROUPS = (  # cgroup v2, and v1: what a group may hold, what it holds, and what of that is given back first (cgroups(7))
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def host_memory(proc: Path = PROC, cgroups: Path = CGROUPS) -> Memory | None:
    """What this process holds and what it could still have; None where that cannot be seen."""
    held, free = _field(proc / "self" / "status", "VmRSS:"), _field(proc / "meminfo", "MemAvailable:")
    if held is None or free is None:
        return None
    return Memory(held * 1024, min(free * 1024, *_left(proc, cgroups)), held * 1024)


def _field(path: Path, name: str) -> int | None:
    """The number after ``name`` in a file of lines."""
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    found = (line.split() for line in lines)
    return next((int(words[1]) for words in found if words[:1] == [name] and words[1].isdecimal()), None)


def _left(proc: Path, cgroups: Path) -> Iterator[int]:
    """What each group that this process is in leaves it; a huge number first, so that there is one."""
    yield 1 << 62
    for folder in _folders(proc, cgroups):
        for limit, usage, inactive in GROUPS:
            try:
                left = int((folder / limit).read_text(encoding="ascii")) - int((folder / usage).read_text(encoding="ascii"))
            except (OSError, ValueError):  # no such group, or "max"
                continue
            yield max(0, left + (_field(folder / "memory.stat", inactive) or 0))


def _folders(proc: Path, cgroups: Path) -> Iterator[Path]:
    """The folders of this process's groups and of those around them."""
    try:
        lines = (proc / "self" / "cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for _, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if controllers == "" or "memory" in controllers.split(","):
            inside = Path(path.lstrip("/"))
            root = cgroups / "memory" if controllers else cgroups
            yield from (root / folder for folder in (inside, *inside.parents))
