"""Which tests another commit measures, as far as the files that have changed since show it: read, not run."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

from pytest_greencompute.commits.git import GitError, Repository

NAMES = ("energy_meter", "energy_budget")


def metered_at(sha: str, root: Path, repository: Repository) -> list[str]:
    """The tests of ``sha`` that name the fixture or the marker, without parameters, by their paths from ``root`` (``a.py::TestB::test_c``).

    Only those of files that are others here, or gone: all others are what they were.
    """
    top, found = repository.top, []
    try:
        speak = repository.ask("grep", "-lz", "-e", NAMES[0], "-e", NAMES[1], sha, "--", "*.py", folder=top).split("\0")
        changed = set(repository.ask("diff", "--name-only", "--no-renames", "-z", sha, "--", "*.py", folder=top).split("\0"))
    except GitError:  # no file speaks of us
        return []
    for path in (each.partition(":")[2] for each in speak):
        if path not in changed or not path:
            continue
        try:
            tree = ast.parse(repository.ask("show", f"{sha}:{path}"))
        except (GitError, SyntaxError, ValueError):
            continue
        shown = Path(os.path.relpath(top.resolve() / path, root.resolve())).as_posix()
        found += [f"{shown}::{name}" for name in _functions(tree)]
    return found


def _functions(tree: ast.AST) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from (f"{node.name}::{name}" for name in _functions(node))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test"):
            asked = [each.arg for each in (*node.args.args, *node.args.kwonlyargs)]
            if "energy_meter" in asked or any(name in ast.unparse(each) for name in NAMES for each in node.decorator_list):
                yield node.name
