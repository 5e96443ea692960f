"""What the tests of loads share."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_greencompute.testing.standin import compile_standin


@pytest.fixture(scope="session")
def standin_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in for the driver's library, compiled once."""
    return compile_standin(tmp_path_factory.mktemp("nvml"))
