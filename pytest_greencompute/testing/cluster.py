"""A small Ray cluster in this process, for trying a fleet without one: a logical node for each kind of GPU, with stand-in GPUs.

Everything is on 127.0.0.1. The figures are those of the stand-ins, and their names say so.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.fleet.on_ray import ray_module
from pytest_greencompute.testing.sensor import PROFILES
from pytest_greencompute.testing.standin import StandIn, StandInDevice, compile_standin

LOOPBACK = "127.0.0.1"
STORE_BYTES = 80 * 1024 * 1024  # the least that Ray takes is 75 MiB


@dataclass(frozen=True, slots=True)
class LocalCluster:
    """``address`` is what ``ray.init`` takes; ``environs``, by a node's name, make its stand-ins the GPUs of a process."""

    address: str
    environs: Mapping[str, Mapping[str, str]]
    cluster: Any


@contextmanager
def local_cluster(kinds: Sequence[str], *, nodes: int = 1, gpus: int = 1) -> Iterator[LocalCluster]:
    """So many logical ``nodes`` of each kind, with ``gpus`` stand-ins each. Raises SettingsError where Ray is not installed, MeterError
    where there is no C compiler.
    """
    ray_module()
    if wild := [kind for kind in kinds if not kind.replace("-", "").replace(" ", "").isalnum()]:
        raise SettingsError(f"{wild[0]!r} names no single kind of GPU.", remedy="Here a kind is a name, such as H100.")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # else Ray asks, and reports that it was started
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory(prefix="greencompute-ray-", ignore_cleanup_errors=True) as folder:
        library = compile_standin(Path(folder))
        places = [(kind, f"{kind}-{number}") for kind in kinds for number in range(1, nodes + 1)]
        environs = {name: _standins(Path(folder), library, kind, place, gpus) for place, (kind, name) in enumerate(places)}
        common = {"node_ip_address": LOOPBACK, "object_store_memory": STORE_BYTES}
        cluster = Cluster(initialize_head=True, head_node_args={**common, "num_cpus": 0, "include_dashboard": False})
        try:
            for kind, name in places:
                cluster.add_node(**common, num_cpus=gpus, num_gpus=gpus, resources={f"accelerator_type:{kind}": 1}, node_name=name)
            yield LocalCluster(cluster.address, environs, cluster)
        finally:
            cluster.shutdown()


def _standins(folder: Path, library: Path, kind: str, place: int, gpus: int) -> dict[str, str]:
    sensor = PROFILES.get(kind, PROFILES["T4"])
    name = f"NVIDIA {kind} (stand-in)"
    devices = [
        StandInDevice(sensor, name, uuid=f"GPU-{place:04x}{index:04x}-5b7f-4e21-9c64-2f1d7a90b3{index:02x}") for index in range(gpus)
    ]
    standin = StandIn.create(folder, devices, library=library)
    standin.close()
    return standin.env
