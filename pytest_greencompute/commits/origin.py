"""Makes a process import the other commit's code, and proves that it did.

An editable install, a ``.pth`` file, PYTHONPATH or an import hook of this side all lead to this side's files. Run as a script in front
of pytest (``python origin.py HEAD_ROOT BASE_ROOT -- -m pytest …``), this puts the other commit's folders in their place first.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType

NAMED = 3


def moved(path: str, head: Path, base: Path) -> str:
    """``path`` with the head's root replaced by the base's, where it lies under it and is no installed package."""
    try:
        inside = Path(os.path.realpath(path)).relative_to(head)
    except ValueError:
        return path
    return path if _installed(inside) else str(base / inside)


def _installed(inside: Path) -> bool:
    return any(part in {"site-packages", "dist-packages"} for part in inside.parts) or "lib/python" in inside.as_posix()


def redirect(head: Path, base: Path) -> None:
    """Let this process's imports find the base's files: its search path, and the maps of editable installs."""
    sys.path[:] = list(dict.fromkeys(moved(entry, head, base) if entry else entry for entry in sys.path))
    for finder in sys.meta_path:
        _redirect_finder(finder, head, base)
    sys.path_importer_cache.clear()


def _redirect_finder(finder: object, head: Path, base: Path) -> None:
    """Editable installs of setuptools and of ``editables`` keep a map from package to path, in the finder or in its module."""
    module = sys.modules.get(getattr(finder, "__module__", ""), None)
    for holder in (finder, module):
        for name in ("MAPPING", "NAMESPACES", "_redirections"):
            mapping = getattr(holder, name, None)
            if isinstance(mapping, dict):
                for package, target in mapping.items():
                    if isinstance(target, str):
                        mapping[package] = moved(target, head, base)
                    elif isinstance(target, list):
                        mapping[package] = [moved(each, head, base) for each in target]


def strangers(modules: Mapping[str, ModuleType | None], head: Path, base: Path, links: Iterable[Path] = ()) -> tuple[tuple[str, str], ...]:
    """Imported modules (name, file) that come from the head's files although the base's were to be imported."""
    lent = [Path(os.path.realpath(link)) for link in links]
    found = []
    for name, module in sorted(modules.items()):
        for file in _files(module):
            path = Path(os.path.realpath(file))
            inside = head in path.parents and base not in path.parents
            if inside and not _installed(path.relative_to(head)) and not any(link in (path, *path.parents) for link in lent):
                found.append((name, str(path)))
    return tuple(found)


def _files(module: ModuleType | None) -> list[str]:
    file = getattr(module, "__file__", None)
    if isinstance(file, str):
        return [file]
    try:
        return [each for each in getattr(module, "__path__", ()) if isinstance(each, str)]
    except (TypeError, KeyError):  # a namespace package whose parent is gone
        return []


def said(found: tuple[tuple[str, str], ...]) -> str:
    """The strangers in words."""
    named = ", ".join(f"{name} ({file})" for name, file in found[:NAMED])
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return f"it imported this side's code instead of its own: {named}{more}"


def main(argv: list[str]) -> None:
    """Redirect, then run what follows ``--`` as ``python`` would (``-m module …``)."""
    head, base = (Path(os.path.realpath(each)) for each in argv[1:3])
    redirect(head, base)
    rest = argv[argv.index("--") + 1 :]
    sys.argv = rest[1:]
    # `python -m` puts the current folder first; the folder of this script, which came instead, must not shadow anything.
    sys.path[0] = str(Path.cwd())
    runpy.run_module(rest[1], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv)
