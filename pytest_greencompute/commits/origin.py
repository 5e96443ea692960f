"""Makes a process import the other commit's code, and proves that it did.

An editable install, a ``.pth`` file, PYTHONPATH or an import hook of this side all lead to this side's files. Run as a script in front
of pytest (``python origin.py HEAD_ROOT BASE_ROOT -- -m pytest …``), this puts the other commit's folders in their place first.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from types import ModuleType

NAMED = 3
NOT_IMPORTED = {"conftest", "setup", "noxfile", "tests", "test", "docs"}  # names that more than one project has at its top
INSTALLED = {"site-packages", "dist-packages", "__pypackages__"}


@lru_cache
def tops(head: Path, base: Path) -> tuple[Path, Path]:
    """The tops of both checkouts: a project may be a folder of its repository, and import its neighbours."""
    above = [Path(os.path.realpath(each)) for each in (head, base)]
    while not any((each / ".git").exists() for each in above) and above[0].name == above[1].name != "":
        above = [each.parent for each in above]
    if not all((each / ".git").exists() for each in above):
        above = [Path(os.path.realpath(each)) for each in (head, base)]
    return above[0], above[1]


def moved(path: str, head: Path, base: Path) -> str:
    """``path`` with the head's root replaced by the base's, where it lies under it and is no installed package."""
    head, base = tops(head, base)
    real = Path(os.path.realpath(path))
    return str(base / real.relative_to(head)) if _belongs(real, head, base) else path


def _belongs(path: Path, head: Path, base: Path) -> bool:
    """Whether it is one of the head's own files. The base may lie in the head's folder, and so may what is installed."""
    if not _under(path, head) or _under(path, base) or INSTALLED.intersection(path.relative_to(head).parts):
        return False
    prefixes = {Path(os.path.realpath(prefix)) for prefix in (sys.prefix, sys.exec_prefix, sys.base_prefix)}
    return not any(head in prefix.parents and _under(path, prefix) for prefix in prefixes)


def _under(path: Path, folder: Path) -> bool:
    return path == folder or folder in path.parents


def redirect(head: Path, base: Path) -> list[str]:
    """Let this process's imports find the base's files: its search path, and the maps of editable installs.

    Returns the folders that now stand in this side's place, for the processes that this one starts.
    """
    found = [(entry, moved(entry, head, base) if entry else entry) for entry in sys.path]
    sys.path[:] = list(dict.fromkeys(target for _, target in found))
    instead = [target for entry, target in found if target != entry]
    for finder in sys.meta_path:
        instead += _redirect_finder(finder, head, base)
    sys.path_importer_cache.clear()
    return instead


def _redirect_finder(finder: object, head: Path, base: Path) -> Iterator[str]:
    """Editable installs of setuptools and of ``editables`` keep a map from package to path, in the finder or in its module."""
    module = sys.modules.get(getattr(finder, "__module__", ""), None)
    maps = [getattr(holder, name, None) for holder in (finder, module) for name in ("MAPPING", "NAMESPACES", "_redirections")]
    for mapping in maps:
        if isinstance(mapping, dict):
            for package, target in mapping.items():
                if isinstance(target, str):
                    mapping[package] = moved(target, head, base)
                    yield from _root(package, target, mapping[package])
                elif isinstance(target, list):
                    mapping[package] = [moved(each, head, base) for each in target]


def _root(package: str, was: str, path: str) -> Iterator[str]:
    """The folder that a search path needs to find ``package`` at ``path``, where there is one and the package has moved."""
    parts = package.split(".")
    folder = Path(path).parent if Path(path).name == "__init__.py" else Path(path).with_suffix("")
    if path != was and folder.parts[-len(parts) :] == tuple(parts):
        yield str(folder.parents[len(parts) - 1])


def strangers(modules: Mapping[str, ModuleType | None], head: Path, base: Path, links: Iterable[Path] = ()) -> tuple[tuple[str, str], ...]:
    """Imported modules (name, file) that come from the head's files although the base's were to be imported."""
    head, base = tops(head, base)
    lent = [Path(os.path.realpath(link)) for link in links]
    found = []
    for name, module in sorted(modules.items()):
        for file in _files(module):
            path = Path(os.path.realpath(file))
            if _belongs(path, head, base) and not any(_under(path, link) for link in lent):
                found.append((name, str(path)))
    return tuple(found)


def from_elsewhere(modules: Mapping[str, ModuleType | None], root: Path) -> tuple[tuple[str, str], ...]:
    """Imported modules (name, file) of the project in ``root`` that do not come from its files: another copy of it is installed here."""
    found = []
    for folder in (root, root / "src"):
        names = {each.stem for each in folder.glob("*.py")} | {each.parent.name for each in folder.glob("*/__init__.py")}
        for name in sorted(names - NOT_IMPORTED):
            paths = [Path(os.path.realpath(file)) for file in _files(modules.get(name))]
            found += [(name, str(path)) for path in paths[:1] if not _under(path, Path(os.path.realpath(root)))]
    return tuple(found)


def _files(module: ModuleType | None) -> list[str]:
    try:
        file = getattr(module, "__file__", None)
        return [file] if isinstance(file, str) else [each for each in getattr(module, "__path__", ()) if isinstance(each, str)]
    except Exception:  # noqa: BLE001 - whatever object a library puts among the modules, and whatever it does when it is asked
        return []


def said(found: tuple[tuple[str, str], ...]) -> str:
    """The strangers in words."""
    named = ", ".join(f"{name} ({file})" for name, file in found[:NAMED])
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return f"it imported this side's code instead of its own: {named}{more}"


def main(argv: list[str]) -> None:
    """Redirect, then run what follows ``--`` as ``python`` would (``-m module …``)."""
    head, base = (Path(os.path.realpath(each)) for each in argv[1:3])
    if not getattr(sys.flags, "safe_path", False):
        # `python -m` puts the current folder first; the folder of this script, which came instead, must not shadow anything.
        sys.path[0] = str(Path.cwd())
    instead = redirect(head, base)
    paths = [each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([*instead, *(moved(each, head, base) for each in paths)]))
    rest = argv[argv.index("--") + 1 :]
    sys.argv = rest[1:]
    runpy.run_module(rest[1], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv)
