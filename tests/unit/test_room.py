"""Whether another side fits into memory beside this one, and where a side that loads beside another stops."""

from __future__ import annotations

import socket
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.machine.memory import host_memory
from pytest_greencompute.pairing.channel import Channel
from pytest_greencompute.pairing.holding import Hold, can_hold
from pytest_greencompute.pairing.room import MACHINE, Memories, Room, Watch
from pytest_greencompute.pairing.worker import NotWantedError, Worker
from pytest_greencompute.values.memory import Memory

GB = 10**9
FREE = Memory(1 * GB, 60 * GB)


def room(now: Memories, before: Memories) -> Room:
    return Room(lambda: now, before, before)


@pytest.mark.parametrize(
    ("used", "free", "sides", "fits"),
    [(30, 50, 1, True), (30, 37, 1, False), (30, 50, 2, False), (0, 1, 4, True)],
)
def test_there_is_room_for_what_this_side_has_taken_and_some_more(used: int, free: int, sides: int, fits: bool) -> None:
    there = room({"gpu:0": Memory((5 + used) * GB, free * GB)}, {"gpu:0": Memory(5 * GB, 99 * GB)})
    assert (there.short(sides) == "") is fits
    if not fits:
        assert there.short(sides) == f"this side has taken {used}.0 GB of gpu:0, and {free}.0 GB are free"


def test_what_this_process_itself_holds_counts_though_it_was_there_before_the_session_looked() -> None:
    full = {"gpu:0": Memory(50 * GB, 30 * GB, own=50 * GB)}
    assert room(full, full).short(1) == "this side has taken 50.0 GB of gpu:0, and 30.0 GB are free"


def test_memory_that_cannot_be_seen_any_more_is_no_room() -> None:
    assert room({"gpu:0": None}, {"gpu:0": FREE}).short(1) == "the memory of gpu:0 cannot be seen any more"
    assert (
        room({MACHINE: None}, {MACHINE: FREE}).runs_short() == "nothing that can be seen of the machine's memory was free while both loaded"
    )


def test_a_side_that_loads_is_ended_once_memory_runs_short_and_not_before() -> None:
    now = {MACHINE: FREE}
    ended = threading.Event()
    watch = Watch(room(now, {MACHINE: FREE}), lambda: True, ended.set)
    assert watch.wait_begun()
    assert not ended.wait(0.2)
    now[MACHINE] = Memory(1 * GB, 19 * GB)
    assert ended.wait(60)
    watch.stop()
    assert watch.why == "19.0 GB of the machine's memory was free while both loaded"


def test_the_memory_is_looked_at_once_more_when_this_side_has_loaded() -> None:
    ended = threading.Event()
    Watch(room({MACHINE: Memory(1 * GB, 19 * GB)}, {MACHINE: FREE}), lambda: True, ended.set).stop()
    assert ended.is_set()


def test_a_side_that_cannot_stop_is_not_watched() -> None:
    ended = threading.Event()
    watch = Watch(room({MACHINE: None}, {MACHINE: FREE}), lambda: False, ended.set)
    watch.stop()
    assert not ended.is_set()


@pytest.mark.parametrize("memory", [(-1, 0), (0, -1)])
def test_no_memory_is_below_nothing(memory: tuple[int, int]) -> None:
    with pytest.raises(SettingsError):
        Memory(*memory)


# The machine's memory


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    here = tmp_path / "proc" / "self"
    here.mkdir(parents=True)
    (here / "status").write_text("Name:\tpython\nVmRSS:\t  2000000 kB\n", encoding="ascii")
    (here / "cgroup").write_text("0::/job/step\n", encoding="ascii")
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 64000000 kB\nMemAvailable:   50000000 kB\n", encoding="ascii")
    return tmp_path / "proc"


def group(folder: Path, names: tuple[str, str], limit: str, usage: int, inactive: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n", encoding="ascii")
    (folder / names[1]).write_text(f"{usage}\n", encoding="ascii")
    (folder / "memory.stat").write_text(f"anon 5\n{inactive} 1000000000\n", encoding="ascii")


def test_the_machines_memory_is_what_the_kernel_says(proc: Path, tmp_path: Path) -> None:
    assert host_memory(proc, tmp_path / "none") == Memory(2048 * 10**6, 51200 * 10**6, 2048 * 10**6)


def test_a_container_has_what_its_groups_leave_it(proc: Path, tmp_path: Path) -> None:
    groups = tmp_path / "cgroup"
    names = ("memory.max", "memory.current")
    group(groups / "job" / "step", names, "max", 3 * GB, "inactive_file")
    group(groups / "job", names, str(8 * GB), 5 * GB, "inactive_file")
    found = host_memory(proc, groups)
    assert found is not None
    assert found.free == 4 * GB
    (proc / "self" / "cgroup").write_text("5:cpu,memory:/job\n", encoding="ascii")
    group(groups / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes"), str(4 * GB), 3 * GB, "total_inactive_file")
    found = host_memory(proc, groups)
    assert found is not None
    assert found.free == 2 * GB


@pytest.mark.parametrize("gone", ["self/status", "meminfo"])
def test_memory_that_the_kernel_does_not_tell_is_not_known(proc: Path, tmp_path: Path, gone: str) -> None:
    (proc / gone).unlink()
    assert host_memory(proc, tmp_path) is None


def test_here_the_kernel_tells() -> None:
    found = host_memory()
    assert sys.platform != "linux" or (found is not None and found.used > 10**6 and found.free > 0)


# A side that stops before its first use of a device


class Torch(types.ModuleType):
    """As much of torch as is looked at."""

    def __init__(self) -> None:
        super().__init__("torch")
        self.cuda = types.SimpleNamespace(_lazy_init=self.begin, is_initialized=lambda: self.begun)
        self.begun = False

    def begin(self) -> None:
        self.begun = True


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> Torch:
    made = Torch()
    monkeypatch.setitem(sys.modules, "torch", made)
    for name in ("onnxruntime", "llama_cpp", "tensorflow", "vllm"):  # which other tests may have loaded
        monkeypatch.delitem(sys.modules, name, raising=False)
    return made


def test_a_side_stops_once_before_the_first_use_of_a_device(torch: Torch) -> None:
    seen: list[bool] = []
    Hold(lambda: seen.append(torch.begun))
    torch.cuda._lazy_init()
    torch.cuda._lazy_init()
    assert seen == [False]
    assert torch.begun


def test_a_side_that_has_come_to_its_run_does_not_stop_any_more(torch: Torch) -> None:
    seen: list[int] = []
    hold = Hold(lambda: seen.append(1))
    hold.lift()
    torch.cuda._lazy_init()
    assert torch.begun
    assert not seen


def test_only_torch_before_it_has_used_a_device_can_be_stopped(torch: Torch, monkeypatch: pytest.MonkeyPatch) -> None:
    assert can_hold()
    with monkeypatch.context() as other:
        other.setitem(sys.modules, "onnxruntime", types.ModuleType("onnxruntime"))
        assert not can_hold()
    torch.begun = True
    assert not can_hold()
    monkeypatch.delitem(sys.modules, "torch")
    assert not can_hold()


@pytest.fixture
def talk() -> Iterator[tuple[Worker, Channel]]:
    ours, theirs = map(Channel, socket.socketpair())
    yield Worker(theirs), ours
    ours.close()
    theirs.close()


def test_a_side_that_loads_with_stops_says_where_it_stands_and_waits(torch: Torch, talk: tuple[Worker, Channel]) -> None:
    worker, comparing = talk
    for said in ({"what": "load", "stops": True}, {"what": "go"}, {"what": "go"}):
        comparing.send(**said)
    assert worker.wait_to_load("t.py::test_it", None) is None
    torch.cuda._lazy_init()
    worker.wait_to_run()
    heard = [comparing.receive() for _ in range(3)]
    assert [each["what"] for each in heard] == ["collected", "device", "loaded"]
    assert heard[0]["stops"] == ["set-up", "device"]


def test_a_side_that_loads_as_it_always_did_stops_nowhere(torch: Torch, talk: tuple[Worker, Channel]) -> None:
    worker, comparing = talk
    comparing.send(what="load")
    worker.wait_to_load("t.py::test_it", None)
    torch.cuda._lazy_init()
    worker.wait_to_run()
    assert comparing.receive()["what"] == "collected"
    assert not comparing.has_more()


def test_a_side_that_stands_and_is_not_asked_for_after_all_does_not_run(talk: tuple[Worker, Channel]) -> None:
    worker, comparing = talk
    comparing.send(what="load", stops=True)
    comparing.send(what="next")
    worker.wait_to_load("t.py::test_it", None)
    with pytest.raises(NotWantedError):
        worker.wait_to_run()
    worker.ended("skipped", "")
    assert [comparing.receive()["what"] for _ in range(2)] == ["collected", "loaded"]
    assert not comparing.has_more()
