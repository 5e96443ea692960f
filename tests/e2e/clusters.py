"""A Ray cluster that the tests of fleets share, in place of the one that ``--ray local`` starts: logical nodes, without stand-ins.

The processes on a node have a card of its own by their environment, as ``world`` reads it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pytest_greencompute.testing.cluster import LocalCluster, LogicalCluster

NAMES = {"H100": "NVIDIA H100 80GB HBM3", "L4": "NVIDIA L4", "T4": "NVIDIA T4"}
OURS_ALONE = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "pytest_greencompute.plugin"}  # as all inner runs of these tests


class Shared:
    """The cluster; ``rooms`` is where its nodes lay out code, ``environs`` what processes on a node are told, by its name."""

    def __init__(self, folder: Path) -> None:
        self.rooms = folder / "rooms"
        self.rooms.mkdir()
        self.environs: dict[str, dict[str, str]] = {}
        with self._environ():
            self.cluster = LogicalCluster(folder)

    def add(self, kind: str, name: str, joules: float = 0.5) -> Any:
        card = {"WORLD_GPU": NAMES[kind], "WORLD_UUID": f"GPU-{name}", "WORLD_JOULES": str(joules)}
        self.environs[name] = {**card, **OURS_ALONE}
        with self._environ():
            return self.cluster.add(name, [kind])

    @contextmanager
    def _environ(self) -> Iterator[None]:
        """What nodes inherit: not what a test that starts one changes."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TMPDIR", str(self.rooms))
            for name in ("PYTEST_ADDOPTS", "CUDA_VISIBLE_DEVICES", *(name for name in os.environ if name.startswith("PYTEST_XDIST_"))):
                patch.delenv(name, raising=False)
            yield


SHARED: list[Shared] = []  # the one that there is


@contextmanager
def shared_cluster() -> Iterator[Shared]:
    with tempfile.TemporaryDirectory(prefix="fleet-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        shared = Shared(Path(folder))
        SHARED.append(shared)
        try:
            yield shared
        finally:
            SHARED.clear()
            shared.cluster.close()


@contextmanager
def local_cluster(hardware: Sequence[str]) -> Iterator[LocalCluster]:
    """That one, as ``--ray local`` would have it."""
    (shared,) = SHARED
    yield LocalCluster(shared.cluster.address, shared.environs)
