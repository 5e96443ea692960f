"""A small Ray cluster in this process, for trying a fleet without one: a logical node for each kind of GPU, with stand-in GPUs.

Everything is on 127.0.0.1. The figures are those of the stand-ins, and their names say so.
"""

from __future__ import annotations

import os
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.fleet.on_ray import TYPE, ray_module
from pytest_greencompute.testing.sensor import PROFILES
from pytest_greencompute.testing.standin import StandIn, StandInDevice, compile_standin

LOOPBACK = "127.0.0.1"
FOLDER = "RAY_TMPDIR"
# For Ray, before it is imported: it reports to nobody that it was started, and takes the loopback for this machine's address, as it does
# where there are no clusters of several machines; else whoever connects is sent to the machine's outer address, where nothing listens.
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
STORE_BYTES = 80 * 1024 * 1024  # the least that Ray takes is 75 MiB
LONGEST_FOLDER = 34  # characters: sockets lie below it, and Linux has 107 for their paths


class LogicalCluster:
    """A Ray cluster whose nodes are all this machine. Nodes that are added have their GPUs and kinds by their word alone."""

    def __init__(self, folder: Path) -> None:
        os.environ.update(QUIET)
        from ray.cluster_utils import Cluster

        self._before = os.environ.get(FOLDER)
        if len(str(folder)) <= LONGEST_FOLDER:  # where the file is, too, by which `ray.init("auto")` finds the user's own cluster
            os.environ[FOLDER] = str(folder)
        self._common = {"node_ip_address": LOOPBACK, "object_store_memory": STORE_BYTES}
        self._cluster = Cluster(initialize_head=True, head_node_args={**self._common, "num_cpus": 0, "include_dashboard": False})

    @property
    def address(self) -> str:
        """What ``ray.init`` takes."""
        return str(self._cluster.address)

    def add(self, name: str, kinds: Sequence[str], gpus: int = 1) -> Any:
        """Start a node with so many GPUs, which are of all of these kinds; Ray's object for it."""
        resources = {f"{TYPE}{kind}": 1 for kind in kinds}
        return self._cluster.add_node(**self._common, num_cpus=gpus, num_gpus=gpus, resources=resources, node_name=name)

    def kill(self, node: Any) -> None:
        """End a node as a power cut does."""
        self._cluster.remove_node(node, allow_graceful=False)

    def close(self) -> None:
        """End all of it."""
        self._cluster.shutdown()
        if self._before is None:
            os.environ.pop(FOLDER, None)
        else:
            os.environ[FOLDER] = self._before


@dataclass(frozen=True, slots=True)
class LocalCluster:
    """``address`` is what ``ray.init`` takes; ``environs``, by a node's name, make its stand-ins the GPUs of a process."""

    address: str
    environs: Mapping[str, Mapping[str, str]]


@contextmanager
def local_cluster(kinds: Sequence[str]) -> Iterator[LocalCluster]:
    """A logical node of each kind, with one stand-in GPU. Raises SettingsError where Ray is not installed, MeterError where there is no C
    compiler.
    """
    os.environ.update(QUIET)
    ray_module()
    if wild := [kind for kind in kinds if not kind.replace("-", "").replace(" ", "").isalnum()]:
        raise SettingsError(f"{wild[0]!r} names no single kind of GPU.", remedy="Here a kind is a name, such as H100.")
    with tempfile.TemporaryDirectory(prefix="greencompute-ray-", ignore_cleanup_errors=True) as folder:
        library = compile_standin(Path(folder))
        environs = {f"{kind}-1": _standin(Path(folder), library, kind) for kind in kinds}
        cluster = LogicalCluster(Path(folder))
        try:
            for kind in kinds:
                cluster.add(f"{kind}-1", [kind])
            yield LocalCluster(cluster.address, environs)
        finally:
            cluster.close()


def _standin(folder: Path, library: Path, kind: str) -> dict[str, str]:
    # Each kind's own: what is remembered of a device is found by this.
    uuid = f"GPU-{zlib.crc32(kind.encode()):08x}-5b7f-4e21-9c64-2f1d7a90b300"
    device = StandInDevice(PROFILES.get(kind, PROFILES["T4"]), f"NVIDIA {kind} (stand-in)", uuid)
    standin = StandIn.create(folder, [device], library=library)
    standin.close()
    return standin.env
