"""The examples as they are run from the checkout, in a copy: tests write nothing into it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_greencompute.machine.ci import VARIABLES

EXAMPLES = Path(__file__).parents[2] / "examples"

Ran = tuple[int, str, dict[str, Any]]


@pytest.fixture(scope="session")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of all examples, with what they have fitted and unpacked where there is any: half a gigabyte, so it is linked to."""

    def copied(source: str, target: str) -> None:
        if ".cache" in Path(source).parts:
            Path(target).symlink_to(source)  # never written through: what is kept there is moved into place under a new name
        else:
            shutil.copy2(source, target)

    folder = tmp_path_factory.mktemp("examples") / "examples"
    ignored = shutil.ignore_patterns(".greencompute", "__pycache__", ".pytest_cache", ".benchmarks")
    shutil.copytree(EXAMPLES, folder, ignore=ignored, copy_function=copied)
    return folder


@pytest.fixture(scope="session")
def preloaded() -> Iterator[subprocess.Popen[str]]:
    """One process for all examples: each would import torch, transformers and scikit-learn for five seconds otherwise."""
    command = [sys.executable, "-m", "tests.examples.preloaded"]
    with subprocess.Popen(command, cwd=EXAMPLES.parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.stdin.close()  # type: ignore[union-attr]  # it ends with its input


@pytest.fixture
def run_example(examples: Path, preloaded: subprocess.Popen[str], tmp_path: Path) -> Callable[..., Ran]:
    """Exit status, output and JSON report of pytest in the example that is named first; keywords are its environment."""

    def run(name: str, *options: str, **environ: str) -> Ran:
        folder, output = examples / name, tmp_path / "output"
        inherited = {name: value for name, value in os.environ.items() if name not in ("CI", *VARIABLES)}
        inherited["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # some have been imported already by what is preloaded, which pytest warns of
        words = ["-p", "pytest_greencompute.plugin", "-p", "no:cacheprovider", "--energy-json", "energy.json", *options]
        asked = {"folder": str(folder), "options": words, "environ": {**inherited, **environ}, "output": str(output)}
        assert preloaded.stdin is not None
        assert preloaded.stdout is not None
        preloaded.stdin.write(json.dumps(asked) + "\n")
        preloaded.stdin.flush()
        status = int(preloaded.stdout.readline())
        return status, output.read_text(encoding="utf-8"), json.loads((folder / "energy.json").read_text(encoding="utf-8"))

    return run
