"""The benchmarks as modules, so that tests run slices of them."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def load(folder: str, name: str) -> ModuleType:
    """A benchmark's module; its siblings lie beside it."""
    beside = str(BENCHMARKS / folder)
    sys.path.insert(0, beside)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(beside)
