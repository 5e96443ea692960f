"""A fleet on a Ray cluster: parts are tasks, each on a node of its kind with a GPU of its own. A thin edge: it decides nothing.

Whoever calls decides which node a part goes to, so that it is known where a part was lost, and repetitions are spread over nodes. Ray holds
the GPUs: a task waits for one where others use the cluster, too.
"""

from __future__ import annotations

import logging
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.fleet.driving import EngineLostError, PartEnd
from pytest_greencompute.fleet.expected import is_meant
from pytest_greencompute.fleet.node import Errand, Sent, run_part
from pytest_greencompute.fleet.schedule import Host, PlannedPart
from pytest_greencompute.machine.processes import last_line

TYPE = "accelerator_type:"  # how the resources of a node begin that say which kind its GPUs are
LOOK_S = 2.0  # between two looks at which nodes there are
STEP_S, CANCEL_S = 1.0, 2.0
ANSWERS_S, SILENT_S = 10.0, 30.0
CLUSTER_LOST = "the Ray cluster was lost"
DIED, KILLED = "the node died", "what ran it was killed, as where the memory is full"
# What Ray raises for a part whose node, worker or result was lost; all else is the part's own.
LOST = {
    **dict.fromkeys(("NodeDiedError", "LocalRayletDiedError", "TaskUnschedulableError", "ObjectLostError", "OwnerDiedError"), DIED),
    **dict.fromkeys(("WorkerCrashedError", "OutOfMemoryError"), KILLED),
}


def ray_module() -> Any:
    """Ray. Raises SettingsError where it is not installed."""
    try:
        import ray
    except ImportError as error:
        raise SettingsError("Ray is not installed here.", remedy="pip install 'pytest-greencompute[ray]'") from error
    return ray


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Ray, connected to the cluster at ``address``. Raises SettingsError where there is none."""
    ray = ray_module()
    try:
        if found := re.fullmatch(r"(?:ray://)?\[?([^/\[\]]+)\]?:(\d+)", address):
            socket.create_connection((found[1], int(found[2])), ANSWERS_S).close()  # Ray itself would try for minutes
        # Its workers' output is that of other people's tasks, and of parts it is kept anyway.
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, OverflowError, ValueError, RuntimeError) as error:
        said = str(error).strip().splitlines()[:1]
        raise SettingsError(
            f"No Ray cluster answers at {address!r}: {''.join(said)}",
            remedy="`ray start --head` starts one; --ray auto finds the one of this machine, --ray local tries it without GPUs.",
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


class RayFleet:
    """The nodes of a cluster that are of the wanted ``hardware``. ``errand`` makes what is run of a part on a node, with ``gpus`` of its
    GPUs. Raises SettingsError for a kind that no node has so many of.
    """

    def __init__(self, ray: Any, hardware: Sequence[str], errand: Callable[[PlannedPart, Host], Errand], gpus: int = 1) -> None:
        self._ray, self._hardware, self._errand, self._gpus = ray, hardware, errand, gpus
        self._task = ray.remote(_run_part)
        self._hosts: dict[str, Host] = {}
        self._running: dict[Any, tuple[PlannedPart, Host]] = {}
        self._code: tuple[Sent | None, list[Any]] = None, []
        self._alive: list[Mapping[str, Any]] = []
        self._looked = self._answered = time.monotonic() - LOOK_S
        self._head = str(ray.get_runtime_context().gcs_address)
        self._head = self._head if self._answers() else ""  # not from everywhere, as by way of ray://
        self._look()
        self._check_kinds()

    def carry(self, sent: Sent, chunks: Iterable[bytes]) -> None:
        """The code, for nodes to fetch when their first part begins."""
        self._code = sent, [self._ray.put(chunk) for chunk in chunks]

    # --- which nodes there are ---

    def _look(self) -> None:
        if time.monotonic() - self._looked < LOOK_S:
            return
        if self._head and not self._answers():  # Ray would wait for a minute, and end this process
            if time.monotonic() - self._answered > SILENT_S:
                raise EngineLostError(f"{CLUSTER_LOST}: its head node has not answered for {SILENT_S:.0f} s")
            return
        self._answered = time.monotonic()
        with _held():
            self._alive = [node for node in self._ray.nodes() if node["Alive"]]
        self._looked = time.monotonic()
        for node in self._alive:
            if node["NodeID"] not in self._hosts:
                self._hosts[node["NodeID"]] = self._host(node)

    def _answers(self) -> bool:
        """Whether the head node does."""
        host, _, port = self._head.rpartition(":")
        with suppress(OSError, ValueError):
            socket.create_connection((host.strip("[]"), int(port)), STEP_S).close()
            return True
        return False

    def _host(self, node: Mapping[str, Any]) -> Host:
        kinds = tuple(kind for kind in self._hardware if _type_of(node, kind))
        name = node.get("NodeName") or node["NodeManagerAddress"]
        if any(host.name == name for host in self._hosts.values()):
            name = f"{name}/{node['NodeID'][:6]}"
        return Host(node["NodeID"], name, kinds, int(node["Resources"].get("GPU", 0)) // self._gpus)

    def _living(self) -> list[Host]:
        return [self._hosts[node["NodeID"]] for node in self._alive]

    def _check_kinds(self) -> None:
        """Raises SettingsError for a kind that no node has."""
        missing = [kind for kind in self._hardware if not any(kind in host.kinds and host.rooms for host in self._living())]
        if missing:
            types = sorted({each for node in self._alive for each in _types(node)})
            there = f"Their kinds are {', '.join(types)}." if types else "None of them says which GPU it has."
            many = f"{self._gpus} × " if self._gpus > 1 else ""
            raise SettingsError(
                f"No node of this Ray cluster has {many}{' or '.join(missing)}, of {len(self._alive)} that live. {there}",
                remedy="Name a kind as Ray does (ray.util.accelerators), and start its node first.",
            )

    def hosts(self) -> list[Host]:
        """The nodes that live and are of a wanted kind."""
        self._look()
        return [host for host in self._living() if host.kinds and host.rooms]

    # --- parts ---

    def start(self, part: PlannedPart, host: Host) -> None:
        """Have it run on that node; it waits there for a GPU."""
        node = next(node for node in self._alive if node["NodeID"] == host.id)
        kind = {"accelerator_type": _type_of(node, part.hardware)}
        with _held():
            task = self._task.options(**_on(host), **kind, num_gpus=self._gpus, max_retries=0)
            self._running[task.remote(*self._code, host.id, self._errand(part, host))] = part, host

    def wait(self) -> Iterator[tuple[PlannedPart, PartEnd]]:
        """What has ended, within a second."""
        with _held():
            ended, _ = self._ray.wait([*self._running], num_returns=1, timeout=STEP_S)
            more, _ = self._ray.wait([*self._running], num_returns=len(self._running), timeout=0) if ended else ([], [])
        for each in more or ended:
            yield self._running[each][0], self._outcome(each)

    def _outcome(self, ended: Any) -> PartEnd:
        _, host = self._running.pop(ended)
        try:
            found: PartEnd = self._ray.get(ended)
        except Exception as error:
            if not self._ray.is_initialized():
                raise EngineLostError(f"{CLUSTER_LOST}: {_last_words(error)}") from error
            why = next((LOST[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in LOST), "")
            found = PartEnd(why=why or _last_words(error), host_lost=bool(why))
        if found.host_lost and found.why != KILLED:  # one that died is listed until it has missed some heartbeats
            self._hosts[host.id] = Host(host.id, host.name, (), 0)
        return found

    def close(self) -> None:
        """End what runs."""
        with suppress(Exception):
            for each in self._running:
                self._ray.cancel(each, force=False)
            if self._running:
                self._ray.wait([*self._running], num_returns=len(self._running), timeout=CANCEL_S)


@contextmanager
def _held() -> Iterator[None]:
    """Whatever Ray raises where it is asked for nothing that may fail: the connection is gone."""
    try:
        yield
    except Exception as error:
        raise EngineLostError(f"{CLUSTER_LOST}: {_last_words(error)}") from error


def _run_part(sent: Sent, chunks: Sequence[Any], node: str, errand: Errand) -> PartEnd:
    """On the node: the pieces of the archive are fetched one by one, so that they need not fit into memory."""
    return run_part(sent, node, errand, lambda: map(ray_module().get, chunks))


def _on(host: Host) -> dict[str, Any]:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node_id=host.id, soft=False)}


def _types(node: Mapping[str, Any]) -> list[str]:
    return [name.removeprefix(TYPE) for name in node["Resources"] if name.startswith(TYPE)]


def _type_of(node: Mapping[str, Any], wanted: str) -> str:
    """What Ray calls the wanted kind on that node; empty where it is another."""
    return next((each for each in _types(node) if each.casefold() == wanted.casefold() or is_meant(wanted, each)), "")


def _last_words(error: BaseException) -> str:
    """What an error says, without the traceback that Ray puts before it."""
    return f"{type(error).__name__}: {last_line(str(error))}"[:500]
