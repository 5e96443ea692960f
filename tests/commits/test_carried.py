"""The code of a fleet, carried to a host: the commit and what it is compared with are there, and what would not be is refused by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from pytest_greencompute.commits.origin import from_elsewhere
from pytest_greencompute.errors import SettingsError
from pytest_greencompute.fleet import leash, node
from pytest_greencompute.fleet.code import Code
from pytest_greencompute.fleet.node import Errand, let_go, room_of, run_part
from pytest_greencompute.settings.build import build
from pytest_greencompute.settings.settings import Settings

from .conftest import Made

NODE = "0123456789abcdef"


def settings(**keys: object) -> Settings:
    return replace(build({}, (), {}, Path()), **keys)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _left() -> Iterator[None]:
    """What a test holds on this host is let go."""
    yield
    for room in list(node.USED):
        let_go(room)


def carried(made: Made, told: Settings | None = None, inside: str = ".") -> Path:
    """The project as a host has it."""
    code = Code(made.path / inside, told or settings(), made.environ)
    sent = code.sent("session")
    assert node._unfit(sent, room_of("session", NODE), lambda: code.archive(sent)) == ""
    return room_of("session", NODE) / "tree"


def archive(made: Made, told: Settings) -> Iterator[bytes]:
    code = Code(made.path, told, made.environ)
    return code.archive(code.sent("session"))


def git(tree: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=tree, capture_output=True, text=True, check=True).stdout.strip()


def test_a_host_has_the_commit_its_history_and_nothing_else(made: Made, rooms: Path) -> None:
    made.write("app.py", "SIDE = 'second'\n")
    head = made.commit("second")
    tree = carried(made)
    assert (tree / "app.py").read_text(encoding="utf-8") == "SIDE = 'second'\n"
    assert git(tree, "rev-parse", "HEAD") == head
    assert git(tree, "status", "--porcelain") == ""
    assert git(tree, "show", "HEAD~1:app.py") == "SIDE = 'first'"


def test_commits_to_compare_with_go_by_their_names_there(made: Made, rooms: Path) -> None:
    first = made.git("rev-parse", "HEAD")
    made.git("branch", "release/1.0")
    made.git("checkout", "-q", "-b", "side")
    made.write("app.py", "SIDE = 'side'\n")
    side = made.commit("side")
    made.git("checkout", "-q", "main")
    made.write("other.py", "")
    made.commit("main")
    tree = carried(made, settings(base_refs=("side", "merge-base:release/1.0", "HEAD~1", first[:12])))
    assert git(tree, "rev-parse", "side^{commit}") == side
    assert git(tree, "merge-base", "HEAD", "release/1.0") == first
    assert git(tree, "show", "side:app.py") == "SIDE = 'side'"
    with pytest.raises(SettingsError, match=r"main~1 cannot be named on other hosts\. Name a branch"):
        Code(made.path, settings(base_refs=("main~1",)), made.environ).sent("session")


def test_a_shallow_clone_as_in_ci_is_carried(made: Made, rooms: Path, tmp_path: Path) -> None:
    made.write("app.py", "SIDE = 'second'\n")
    head = made.commit("second")
    subprocess.run(
        ["git", "clone", "-q", "--depth=1", made.path.as_uri(), str(tmp_path / "shallow")],
        env=made.environ,
        check=True,
        capture_output=True,
    )
    tree = carried(Made(tmp_path / "shallow", made.environ))
    assert git(tree, "rev-parse", "HEAD") == head
    assert (tree / "app.py").exists()


def test_what_base_link_names_is_carried_and_the_project_may_be_a_folder_of_its_repository(made: Made, rooms: Path) -> None:
    made.write("service/app.py")
    made.write(".gitignore", "models/\n")
    made.commit()
    made.write("service/models/large.safetensors", "weights")
    made.write("service/models/more/small.bin", "weights")
    with pytest.raises(SettingsError, match=r'Git ignores models/large.safetensors, models/more/small.bin.*base_link = \["models/large'):
        carried(made, inside="service")
    tree = carried(made, settings(base_link=("models",)), inside="service")
    assert (tree / "service" / "models" / "more" / "small.bin").read_text(encoding="utf-8") == "weights"
    assert git(tree, "status", "--porcelain") == ""


@pytest.mark.parametrize("leads_to", ["nowhere", "."])
def test_a_link_that_cannot_be_followed_is_told_by_its_name(made: Made, rooms: Path, leads_to: str) -> None:
    made.write(".gitignore", "models/\n")
    made.commit()
    made.write("models/small.bin", "weights")
    (made.path / "models" / "latest").symlink_to(leads_to)
    with pytest.raises(SettingsError, match=r"models cannot be carried to hosts: .*latest"):
        next(archive(made, settings(base_link=("models",))))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("app.py", r"A fleet measures a commit, and app.py differ from it\. Commit or stash them\."),
        ("new.py", r"new.py are in no commit, and hosts would not have them\. Commit them, have git ignore them"),
        ("weights.gguf", "weights.gguf are in no commit"),
        (".greencompute/baselines/main/1.json", ""),
    ],
)
def test_what_is_in_no_commit_is_refused_by_its_name(made: Made, rooms: Path, name: str, says: str) -> None:
    made.write(name, "changed")
    if says:
        with pytest.raises(SettingsError, match=says):
            carried(made)
    else:
        carried(made)


def test_the_reports_of_the_fleet_before_do_not_stand_in_the_way_of_the_next(made: Made, rooms: Path) -> None:
    made.write("service/app.py")
    made.commit()
    report = made.write("service/energy.html")
    root = report.parent
    with pytest.raises(SettingsError, match=r"^energy.html are in no commit"):
        Code(root, settings(), made.environ)
    assert Code(root, settings(), made.environ, [root / "../service/energy.html"]).commit
    made.write("service/data.html")
    with pytest.raises(SettingsError, match=r"^data.html are in no commit"):
        Code(root, settings(), made.environ, [report])


def test_submodules_and_git_lfs_files_are_refused_by_their_names(made: Made, rooms: Path, tmp_path: Path) -> None:
    made.write(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n")
    made.write("model.bin", "version https://git-lfs.github.com/spec/v1\n")
    made.git("-c", "filter.lfs.clean=cat", "-c", "filter.lfs.required=false", "add", "-A")
    made.git("commit", "-q", "-m", "weights")
    with pytest.raises(SettingsError, match=r"does not carry Git LFS files, and there are model.bin.*greencompute gather"):
        carried(made)
    inner = Made(tmp_path / "inner", made.environ).init()
    inner.commit()
    made.git("rm", "-q", "--cached", "model.bin")
    (made.path / "model.bin").unlink()
    made.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner.path), "library")
    made.commit()
    with pytest.raises(SettingsError, match="does not carry submodules, and there are library"):
        carried(made)


def test_another_version_of_the_plugin_is_left_out(made: Made, rooms: Path) -> None:
    code = Code(made.path, settings(), made.environ)
    sent = replace(code.sent("session"), version="0.0.7")
    outcome = run_part(sent, NODE, Errand("test_app.py::test_it"), lambda: code.archive(sent))
    assert outcome.host_lost
    assert "and this is 0.0.7: install the same one there" in outcome.why
    assert list(rooms.iterdir()) == []


def test_what_was_carried_is_removed_when_the_last_process_that_uses_it_has_gone(made: Made, rooms: Path) -> None:
    room = carried(made).parent
    use = (
        f"import pathlib; from pytest_greencompute.fleet import node; node._use(pathlib.Path({str(room)!r})); print(1, flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", use], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline()
        let_go(room)
        time.sleep(0.2)
        assert (room / "tree").exists()
        other.kill()
    until = time.monotonic() + 10
    while list(rooms.iterdir()):
        assert time.monotonic() < until
        time.sleep(0.02)


# --- one part, in a process of its own ------------------------------------------------------------------------------------------------

FAKE_PYTEST = """
import json, os, pathlib, subprocess, sys, time
from app import SIDE

pathlib.Path(os.environ["SEEN"]).write_text(json.dumps([os.getpid(), os.getcwd(), SIDE, os.environ.get("OMP_NUM_THREADS"), sys.argv[1:]]))
exec(os.environ.get("DOES", ""))
"""


@pytest.fixture
def fake(made: Made, rooms: Path) -> Made:
    """A project whose ``pytest`` is a module of its own, which does what a test says; the parts of the real one take seconds."""
    made.write("pytest.py", FAKE_PYTEST)
    made.commit()
    return made


def ran(fake: Made, tmp_path: Path, does: str, longest_s: float = 60.0) -> node.PartEnd:
    code = Code(fake.path, settings(), fake.environ)
    sent = code.sent("session")
    environ = {"SEEN": str(tmp_path / "seen"), "DOES": does}
    return run_part(sent, NODE, Errand("test_app.py::test_it", ("-k", "it"), environ, longest_s), lambda: code.archive(sent))


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_until_gone(pid: int) -> None:
    until = time.monotonic() + 10
    while is_alive(pid):
        assert time.monotonic() < until, f"{pid} still runs"
        time.sleep(0.02)


WRITES = "pathlib.Path(next(a for a in sys.argv if a.startswith('--energy-json=')).partition('=')[2]).write_text('{}')"


def test_a_part_is_run_in_the_commit_with_the_users_options_and_its_report_comes_back(
    fake: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # not what this process was started with: Ray sets it in the process that runs a task
    outcome = ran(fake, tmp_path, f"{WRITES}; print('measured')")
    assert outcome.report == b"{}"
    assert outcome.said == "measured\n"
    _, folder, side, threads, options = json.loads((tmp_path / "seen").read_text(encoding="utf-8"))
    assert folder == str(room_of("session", NODE) / "tree")
    assert (side, threads) == ("first", os.environ["OMP_NUM_THREADS"] if "OMP_NUM_THREADS" in node._began_with() else None)
    assert options[:2] == ["-k", "it"]
    assert {"--energy-budget", "--energy-only", "--energy-github=off"} < {*options}


@pytest.mark.parametrize(
    ("does", "why"),
    [
        ("print('no such file'); sys.exit(4)", "pytest ended with exit status 4, without a report: no such file"),
        ("import signal; os.kill(os.getpid(), signal.SIGSEGV)", "pytest was ended by SIGSEGV, without a report: it said nothing"),
        (f"{WRITES}; sys.exit(6)", "pytest ended with exit status 6"),
    ],
)
def test_a_part_without_a_report_says_how_it_ended(fake: Made, tmp_path: Path, does: str, why: str) -> None:
    outcome = ran(fake, tmp_path, does)
    assert outcome.report is None
    assert outcome.why.startswith(why)
    assert not outcome.host_lost


@pytest.mark.parametrize("apart", [False, True])
def test_a_part_that_hangs_is_ended_with_all_that_it_started(fake: Made, tmp_path: Path, *, apart: bool) -> None:
    child = tmp_path / "child"
    started = f"p = subprocess.Popen(['sleep', '60'], start_new_session={apart})"
    does = f"{started}; pathlib.Path({str(child)!r}).write_text(str(p.pid)); time.sleep(60)"
    outcome = ran(fake, tmp_path, does, longest_s=1.5)
    assert outcome.why == "it had not ended after 1.5 s, and was ended"
    wait_until_gone(int(child.read_text(encoding="utf-8")))
    wait_until_gone(json.loads((tmp_path / "seen").read_text(encoding="utf-8"))[0])


def test_a_part_ends_when_whoever_runs_it_is_killed(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    server = "p = subprocess.Popen(['sleep', '60'], start_new_session=True)"
    tells = f"pathlib.Path({str(seen)!r}).write_text(f'{{os.getpid()}} {{p.pid}}')"
    part = f"import os, pathlib, subprocess, time; {server}; {tells}; time.sleep(60)"
    command = [sys.executable, leash.__file__, sys.executable, "-c", part]
    held = f"import subprocess, time; p = subprocess.Popen({command!r}, stdin=subprocess.PIPE); time.sleep(60)"
    worker = subprocess.Popen([sys.executable, "-c", held])
    until = time.monotonic() + 20
    while not (seen.exists() and seen.read_text(encoding="utf-8")):
        assert time.monotonic() < until
        time.sleep(0.02)
    worker.kill()
    worker.wait()
    for pid in seen.read_text(encoding="utf-8").split():
        wait_until_gone(int(pid))


def test_another_copy_of_the_project_is_seen(tmp_path: Path) -> None:
    (tmp_path / "src" / "model").mkdir(parents=True)
    (tmp_path / "src" / "model" / "__init__.py").touch()
    (tmp_path / "conftest.py").touch()
    ours, theirs = ModuleType("model"), ModuleType("model")
    ours.__file__ = str(tmp_path / "src" / "model" / "__init__.py")
    theirs.__file__ = "/usr/lib/python3/site-packages/model/__init__.py"
    other = ModuleType("conftest")
    other.__file__ = "/elsewhere/conftest.py"
    assert from_elsewhere({"model": ours, "conftest": other}, tmp_path) == ()
    assert from_elsewhere({"model": theirs}, tmp_path) == (("model", theirs.__file__),)
