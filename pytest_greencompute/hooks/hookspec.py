"""Hooks that a project's conftest.py may implement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_greencompute.meters.base import Meter


@pytest.hookspec
def pytest_greencompute_meters(config: pytest.Config) -> Mapping[str, Meter] | None:
    """Meters of the project's own, by name, for ``meters`` and ``--energy-meter``. See pytest_greencompute.meters.base.Meter."""
