"""A Ray cluster that the tests of fleets share, in place of the one that ``--ray local`` starts: logical nodes, without stand-ins.

Each node's processes get a card of their own by their environment, as ``world`` reads it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pytest_greencompute.testing.cluster import LOOPBACK, STORE_BYTES, LocalCluster

NAMES = {"H100": "NVIDIA H100 80GB HBM3", "L4": "NVIDIA L4", "T4": "NVIDIA T4"}


class Shared:
    """The cluster. ``add`` starts a node, ``kill`` ends one as a power cut does."""

    def __init__(self) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        from ray.cluster_utils import Cluster

        self._common = {"node_ip_address": LOOPBACK, "object_store_memory": STORE_BYTES}
        self.cluster: Any = Cluster(initialize_head=True, head_node_args={**self._common, "num_cpus": 0, "include_dashboard": False})
        self.environs: dict[str, dict[str, str]] = {}

    def add(self, kind: str, name: str, joules: float = 0.5) -> Any:
        self.environs[name] = {"WORLD_GPU": NAMES[kind], "WORLD_UUID": f"GPU-{name}", "WORLD_JOULES": str(joules)}
        resources = {f"accelerator_type:{kind}": 1}
        return self.cluster.add_node(**self._common, num_cpus=1, num_gpus=1, resources=resources, node_name=name)

    def kill(self, node: Any) -> None:
        self.cluster.remove_node(node, allow_graceful=False)


SHARED: list[Shared] = []  # the one that is there


@contextmanager
def local_cluster(hardware: Sequence[str]) -> Iterator[LocalCluster]:
    """That one, as ``--ray local`` would have it."""
    (shared,) = SHARED
    yield LocalCluster(shared.cluster.address, shared.environs, shared.cluster)
