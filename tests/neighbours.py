"""Other pytest plugins to be tried beside this one: kept apart, since every pytest run would load them where they are importable."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

FOLDER = Path(sys.prefix) / "neighbours"


def environment(*modules: str) -> dict[str, str]:
    """The environment of a pytest process that finds ``modules`` there and loads no plugin by itself; skips where they are not there."""
    if not all((FOLDER / module).exists() or (FOLDER / f"{module}.py").exists() for module in modules):
        pytest.skip(f"{', '.join(modules)}: not installed beside the tests (`make test` installs them)")
    path = os.pathsep.join([str(FOLDER), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {"PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
