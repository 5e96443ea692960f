"""What a process that measures a side says is not trusted: nonsense leaves it unmeasured, with a reason, and goes no further."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from making import block, run

from pytest_greencompute.pairing import started
from pytest_greencompute.pairing.added import told_of
from pytest_greencompute.pairing.commits import Bases
from pytest_greencompute.pairing.process import Process
from pytest_greencompute.pairing.started import NotMeasuredError, NotServedError, Side, Started
from pytest_greencompute.pairing.told import Told
from pytest_greencompute.values.run import Run

# In place of pytest: says all that it is given to say, and stays until it is told nothing more.
SAYS = """
import os, socket, sys
end = socket.socket(fileno=int(os.environ["GREENCOMPUTE_SIDE"]))
end.sendall(sys.argv[1].encode("latin-1"))
while end.recv(1 << 16): pass
"""
COLLECTED = {"what": "collected", "asked": {}, "stops": []}
HERE = {"what": "here", "name": None}
LAYOUT = {"batches": 4, "batch_s": 0.01, "target_s": 0.2, "size": 1, "sets": 10, "timed": 0}
READY = {"what": "ready", "layout": LAYOUT, "turns": True}
MEASURED = {"what": "measured", **told_of(run([block(1.0)]), None)}


def without(message: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in message.items() if name != key}


def side(*said: object, script: str = SAYS) -> Side:
    lines = "".join(f"{each if isinstance(each, str) else json.dumps(each)}\n" for each in said)
    return Side("main", Path.cwd(), "tests/test_app.py::test_it", dict(os.environ), prepare=("-S", "-c", script, lines))


@pytest.fixture
def saying(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Process]]:
    made: list[Process] = []
    monkeypatch.setattr(started, "ANSWER_S", 5.0)  # what is waited for in vain below was taken for sense

    def start(*said: object) -> Process:
        made.append(Process(side(*said), Told(60.0)))
        return made[-1]

    yield start
    for each in made:
        each.close()


def first_set(process: Process) -> Run | None:
    process.wait_here(None)
    process.lay_out(process.prepare())
    return process.run_set(0)


@pytest.mark.parametrize(
    "said",
    [
        ("no JSON",),
        ("[" * 100_000,),
        ("\xff\xfe",),
        ([1, 2],),
        ({"said": 1},),
        ({"what": 3},),
        ({**COLLECTED, "asked": 3},),
        ({**COLLECTED, "asked": {"lines": [{}], "accept": []}},),
        ({**COLLECTED, "stops": 3},),
        ({**COLLECTED, "tests": ["a"]},),
        ({**COLLECTED, "test": "a", "tests": 3},),
        (COLLECTED, {"what": "ended"}),
        (COLLECTED, {"what": "ended", "outcome": "failed", "said": 3}),
        (COLLECTED, {"what": "here"}),
        (COLLECTED, {"what": "here", "name": [3]}),
        (COLLECTED, {"what": "sings"}),
        (COLLECTED, HERE, {"what": "ready"}),
        (COLLECTED, HERE, {**READY, "layout": 3}),
        (COLLECTED, HERE, {**READY, "layout": without(LAYOUT, "batch_s")}),
        *((COLLECTED, HERE, {**READY, "layout": {**LAYOUT, name: "3"}}) for name in LAYOUT),
        *((COLLECTED, HERE, {**READY, "layout": {**LAYOUT, name: -1}}) for name in LAYOUT),
        (COLLECTED, HERE, {"what": "done"}),
        (COLLECTED, HERE, {"what": "done", "run": None}),
        (COLLECTED, HERE, READY, {"what": "measured"}),
        (COLLECTED, HERE, READY, {"what": "measured", "run": 3}),
        (COLLECTED, HERE, READY, {**MEASURED, "run": without(MEASURED["run"], "raw")}),
        (COLLECTED, HERE, READY, {**MEASURED, "has": {"blocks": 3}}),
        (COLLECTED, HERE, READY, {**MEASURED, "has": 3}),
    ],
    ids=lambda said: str(said[-1])[:60],
)
def test_what_makes_no_sense_leaves_a_side_unmeasured(saying: Callable[..., Process], said: tuple[object, ...]) -> None:
    process = saying(*said)
    with pytest.raises(NotMeasuredError, match=r"(makes no sense|instead of|is no message) .*, and was ended$") as why:
        first_set(process)
    assert len(why.value.message) < 400
    start = time.monotonic()
    with pytest.raises(NotMeasuredError):  # nobody waits for it again
        process.wait_here("another")
    assert time.monotonic() - start < 10


def test_what_makes_sense_is_measured_and_what_is_not_known_passed_over(saying: Callable[..., Process]) -> None:
    process = saying({**COLLECTED, "dreams": 1}, HERE, {**READY, "layout": {**LAYOUT, "dreams": 1}}, MEASURED)
    measured = first_set(process)
    assert measured is not None
    assert len(measured.blocks) == 1


FORKS = """
import json, os, socket, sys, time
end = socket.socket(fileno=int(os.environ["GREENCOMPUTE_SIDE"]))
child = os.fork()
if child:
    end.sendall(json.dumps({"what": "collected", "asked": {}, "stops": [str(child)]}).encode() + b"\\n")
    os._exit(3)
time.sleep(60)
"""


def is_at_work(pid: str) -> bool:
    state = Path("/proc", pid, "stat")
    with contextlib.suppress(OSError):
        return state.read_text(encoding="utf-8").rpartition(")")[2].split()[0] not in "ZX"
    return False


def is_gone(pid: str) -> bool:
    """Whether it is within ten seconds."""
    until = time.monotonic() + 10
    while is_at_work(pid) and time.monotonic() < until:
        time.sleep(0.01)
    return not is_at_work(pid)


def test_what_a_side_that_dies_has_forked_neither_keeps_anybody_waiting_nor_outlives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(started, "ANSWER_S", 20.0)
    with closing(Process(side(script=FORKS), Told(60.0))) as process:
        process.wait_until_collected()
        (child,) = process.stops
        with pytest.raises(NotMeasuredError, match="exit status 3"):
            process.wait_here(None)
    assert is_gone(child)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="the system lists no children of a process")
@pytest.mark.parametrize("end", [Started.kill, Started.close])
def test_a_server_that_a_side_has_started_in_a_group_of_its_own_ends_with_it(tmp_path: Path, end: Callable[[Started], None]) -> None:
    starts = f"""
import subprocess, time
server = subprocess.Popen(["sleep", "100"], start_new_session=True)
open({str(tmp_path / "server")!r}, "w").write(str(server.pid))
print("loading", flush=True)
time.sleep(100)
"""
    begun = Started(side(script=starts), Told(60.0))
    while not (tmp_path / "server").exists() or not (pid := (tmp_path / "server").read_text(encoding="ascii")):
        time.sleep(0.01)
    end(begun)
    begun.close()
    assert is_gone(pid)


def test_a_test_that_fails_at_the_base_while_its_answers_are_asked_for_says_why_and_spoils_no_later_one() -> None:
    of_a, of_b = ({**COLLECTED, "test": test, "tests": [*after]} for test, after in (("a", "b"), ("b", "")))
    said = (of_a, HERE, {"what": "ended", "outcome": "failed", "said": "E boom"}, of_b, HERE)
    with closing(Started(side(*said), Told(60.0), ["a", "b"])) as serving:
        first, second = (Process(replace(serving.side, node_id=each), Told(60.0), serving) for each in "ab")
        with pytest.raises(NotMeasuredError, match=r"its test failed \(boom\)"):
            first.answers_of(None)
        first.close()
        second.wait_here(None)


def test_a_side_that_ends_without_a_test_of_several_is_asked_for_one_alone() -> None:
    ends = "import sys; sys.exit(5)"
    with closing(Started(side(script=ends), Told(60.0), ["a", "b"])) as serving, pytest.raises(NotServedError):
        serving.stand_before("a")


def test_a_side_that_cannot_be_started_is_unmeasured_and_leaves_nothing_open() -> None:
    there = len([*Path("/proc/self/fd").glob("*")])
    with pytest.raises(NotMeasuredError, match=r"its process could not be started \(No such file or directory\)"):
        Process(replace(side(), python="/no/such/python"), Told(60.0))
    assert len([*Path("/proc/self/fd").glob("*")]) == there


def test_processes_that_have_ended_are_closed_when_others_are_started(tmp_path: Path) -> None:
    bases = Bases(tmp_path, {}, ())
    with closing(bases.launch(side(script="pass"), Told(60.0))) as process:
        with pytest.raises(NotMeasuredError):
            process.wait_until_collected()
        with closing(bases.launch(side(), Told(60.0))):
            assert process._started._output.closed
