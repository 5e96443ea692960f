"""Names that several hooks share: the marker, the fixture, the keys of stashes and reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_greencompute.session.tests import MeteredTest

WORKER = "greencompute"  # where an xdist worker leaves for the controller what it measured with
METERED = "greencompute_metered"  # on the report of a test that uses the fixture, whatever became of it
PART = "context"  # what the report of a subtest has, and that of a whole test lacks
RERUN = "rerun"  # the outcome of an attempt that a plugin has another follow (pytest-rerunfailures)
CRASHED = "???"  # what xdist says of when a test ended whose worker crashed
MARKER = "energy_budget"
FIXTURE = "energy_meter"
TEST: pytest.StashKey[MeteredTest] = pytest.StashKey()
LATE: pytest.StashKey[bool] = pytest.StashKey()  # a mark that came late
SIDE = "GREENCOMPUTE_SIDE"  # set in a process that another pytest has started to measure one side of a comparison (pairing.worker)


def is_worker(config: pytest.Config) -> bool:
    """Whether this process is one of xdist's workers."""
    return hasattr(config, "workerinput")
