"""What libraries log of our own calls is not in a test's log; what they log of the user's, and their warnings, is."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import filelock
import pytest

from pytest_greencompute.machine.logs import quiet
from pytest_greencompute.meters.locks import locked


def test_only_what_is_below_a_warning_and_of_our_own_call_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("somebody")
    with caplog.at_level(logging.DEBUG):
        logger.debug("before")
        with quiet("somebody"), quiet("somebody"):
            logger.info("of ours")
            logger.warning("a warning")
            other = threading.Thread(target=logger.info, args=("of another thread",))
            other.start()
            other.join()
        logger.debug("after")
    assert [record.getMessage() for record in caplog.records] == ["before", "a warning", "of another thread", "after"]
    assert len(logger.filters) == 1


def test_locks_of_devices_log_nothing_and_those_of_the_user_do(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        with locked(["GPU-1", "GPU-2"], tmp_path / "locks", pytest.fail):
            assert caplog.records == []
            with filelock.FileLock(str(tmp_path / "mine")):
                mine = len(caplog.records)
        assert len(caplog.records) > mine > 0
        assert {"mine" in record.getMessage() for record in caplog.records} == {True}
