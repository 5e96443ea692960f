"""The folders where settings may stand: from the tests and from the current folder upward, to the top of the repository.

Every session looks, so this module imports nothing of ours: whether a file speaks of us at all, its text tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

PROJECT = "pyproject.toml"
TABLE = "greencompute"
TOPS = (".git", ".hg")  # what the top folder of a repository holds


class Where:
    """From where settings are looked for: pytest's root, the current folder, and the folders of the tests. ``files`` are those of collected
    tests, by what pytest calls them, ``ini`` is pytest's own configuration. A plain class, as Option is.
    """

    __slots__ = ("files", "folder", "ini", "named", "root", "tests")

    def __init__(
        self, root: Path, folder: Path, tests: Iterable[Path] = (), files: Mapping[str, Path] | None = None, ini: Path | None = None
    ) -> None:
        self.root, self.folder, self.files = root.resolve(), folder, files or {}
        self.ini = None if ini is None or ini.name == PROJECT else ini
        path = None if ini is None or ini.name != PROJECT else ini.resolve()
        self.named = None if path is None or path.parent in (self.root, *self.root.parents) else path  # -c may name one that is elsewhere
        named = () if self.named is None else (self.named.parent,)
        self.tests = tuple(dict.fromkeys([*named, *tests, *(path.parent for path in self.files.values())]))


def mentioned(where: Where) -> bool:
    """Whether some file may hold settings of ours: a look at their texts, so that other projects pay no parsing."""
    return any(mentions(folder / PROJECT) for folder in folders(where)) or (where.ini is not None and mentions(where.ini))


def upward(start: Path) -> Iterator[Path]:
    """A folder and those above it, up to the top of its repository."""
    start = start.resolve()
    for folder in (start, *start.parents):
        yield folder
        if any((folder / top).exists() for top in TOPS):
            return


def folders(where: Where) -> Sequence[Path]:
    """All folders whose files may hold, pytest's root first."""
    starts = dict.fromkeys((*where.tests, where.folder))
    return list(dict.fromkeys([where.root, *(each for start in starts for each in upward(start))]))


def mentions(path: Path) -> bool:
    """Whether a file speaks of us; one that cannot be read does not."""
    try:
        return TABLE.encode() in path.read_bytes().lower()
    except OSError:
        return False
