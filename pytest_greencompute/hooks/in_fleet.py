"""In a process of a fleet (``-p pytest_greencompute.hooks.in_fleet``): what the fleet asks for by its environment, and nothing else of us.

``TEST``: the only test that is collected, whatever the command line names; its options hold. The project's own modules must come from the
files that were carried there. ``LIST``: the file that gets the ids of the collected tests and pytest's ``addopts``, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from pytest_greencompute.commits.origin import from_elsewhere
from pytest_greencompute.fleet.asked import LIST, NOT_THE_COMMIT, TEST

ASKED = {name: os.environ.pop(name, "") for name in (TEST, LIST)}  # not for the processes that this one starts


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if ASKED[TEST]:
        config.args[:] = [f"{config.rootpath}/{ASKED[TEST]}"]  # no Path: it would tidy up what stands in brackets


def pytest_collection_finish(session: pytest.Session) -> None:
    if ASKED[LIST]:
        found = {"tests": [item.nodeid for item in session.items], "addopts": session.config.getini("addopts")}
        Path(ASKED[LIST]).write_text(json.dumps(found), encoding="utf-8")
    _check_origin(session)


def pytest_sessionfinish(session: pytest.Session) -> None:
    _check_origin(session)


def _check_origin(session: pytest.Session) -> None:
    """A node may have another version of the project installed: what is measured then is not the commit."""
    if ASKED[TEST] and (found := from_elsewhere(sys.modules, session.config.rootpath)):
        name, file = found[0]
        pytest.exit(f"{name} came from {file}, not from the commit that is measured. Uninstall it on this node.", NOT_THE_COMMIT)
