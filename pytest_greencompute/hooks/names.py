"""Names that several hooks share: the markers, the fixture, the keys of stashes and reports; and the hook that a project may implement.

Every pytest start loads this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest

from pytest_greencompute.settings.options import OPTIONS

if TYPE_CHECKING:
    from pytest_greencompute.meters.base import Meter
    from pytest_greencompute.session.tests import MeteredTest

WORKER = "greencompute"  # where an xdist worker leaves for the controller what it measured with
METERED = "greencompute_metered"  # on the report of a test that uses the fixture, whatever became of it
PART = "context"  # what the report of a subtest has, and that of a whole test lacks
RERUN = "rerun"  # the outcome of an attempt that a plugin has another follow (pytest-rerunfailures)
CRASHED = "???"  # what xdist says of when a test ended whose worker crashed
MARKER = "energy_budget"
GROUP_MARKER = "energy_group"
FIXTURE = "energy_meter"
TEST: pytest.StashKey[MeteredTest] = pytest.StashKey()
LATE: pytest.StashKey[bool] = pytest.StashKey()  # a mark that came late


def is_worker(config: pytest.Config) -> bool:
    """Whether this process is one of xdist's workers."""
    return hasattr(config, "workerinput")


def options_given(config: pytest.Config) -> dict[str, Any]:
    """Option key -> value for what the command line (or addopts) really gave."""
    values = ((option.key, getattr(config.option, option.dest, None)) for option in OPTIONS)
    return {key: value for key, value in values if value is not None}


class Hooks:
    """Hooks that a project's conftest.py may implement."""

    @pytest.hookspec
    def pytest_greencompute_meters(self, config: pytest.Config) -> Mapping[str, Meter] | None:
        """Meters of the project's own, by name, for ``meters`` and ``--energy-meter``. See pytest_greencompute.meters.base.Meter."""
