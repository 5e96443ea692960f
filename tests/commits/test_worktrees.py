"""Other commits checked out beside the project: their files, what is lent to them, and that they go."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytest_greencompute.commits.git import GitError
from pytest_greencompute.commits.worktrees import Worktrees
from pytest_greencompute.errors import SettingsError
from tests.commits.conftest import Made

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'4d7a2146' * 8}\nsize 12345\n"
LASTING = """
import os, sys, tempfile
from pathlib import Path
from pytest_greencompute.commits.git import Repository
from pytest_greencompute.commits.worktrees import Worktrees

repository = Repository(Path(sys.argv[1]), os.environ)
print(Worktrees(repository).checked_out(repository.resolve("main")), flush=True)
sys.stdin.read()
"""

pytestmark = pytest.mark.usefixtures("rooms")


@contextmanager
def checked_out(made: Made, ref: str = "main", *, inside: str = ".", links: Sequence[str] = ()) -> Iterator[tuple[Path, Worktrees]]:
    repository = made.opened(inside)
    worktrees = Worktrees(repository, links)
    try:
        yield worktrees.checked_out(repository.resolve(ref)), worktrees
    finally:
        worktrees.close()


def nothing_is_left(made: Made, rooms: Path) -> bool:
    return made.worktrees() == [] and list(rooms.iterdir()) == [] and not list((made.path / ".git").glob("worktrees/*"))


# What is there, and that it goes


def test_the_files_are_those_of_the_commit(made: Made, rooms: Path) -> None:
    made.git("tag", "v1")
    made.write("app.py", "SIDE = 'second'\n")
    made.write("größe/neu.py", "1")
    made.commit("second")
    made.write("app.py", "edited\n")
    with checked_out(made, "v1") as (tree, _):
        assert rooms in tree.parents
        assert (tree / "app.py").read_text(encoding="utf-8") == "SIDE = 'first'\n"
        assert not (tree / "größe").exists()
    with checked_out(made, "main") as (tree, _):
        assert (tree / "app.py").read_text(encoding="utf-8") == "SIDE = 'second'\n"
        assert (tree / "größe" / "neu.py").is_file()
    assert (made.path / "app.py").read_text(encoding="utf-8") == "edited\n"
    assert nothing_is_left(made, rooms)


def test_two_refs_of_one_commit_share_a_worktree_and_two_commits_do_not(made: Made, rooms: Path) -> None:
    made.git("tag", "v1")
    repository = made.opened()
    worktrees = Worktrees(repository)
    first = worktrees.checked_out(repository.resolve("main"))
    assert worktrees.checked_out(repository.resolve("v1")) == first
    made.commit("second")
    assert worktrees.checked_out(repository.resolve("main")) != first
    assert len(made.worktrees()) == len(list(rooms.iterdir())) == 2
    worktrees.close()
    assert nothing_is_left(made, rooms)


def test_closing_twice_is_closing_once(made: Made, rooms: Path) -> None:
    with checked_out(made) as (_, worktrees):
        worktrees.close()
        assert nothing_is_left(made, rooms)
    assert nothing_is_left(made, rooms)


@pytest.mark.parametrize("gone", ["tree/.git", "tree", "."])
def test_closing_works_where_the_folder_is_already_gone(made: Made, rooms: Path, gone: str) -> None:
    with checked_out(made) as (tree, _):
        subprocess.run(["rm", "-rf", str((tree.parent / gone).resolve())], check=True)
    assert nothing_is_left(made, rooms)


def test_closing_removes_what_a_test_wrote_there(made: Made, rooms: Path) -> None:
    with checked_out(made) as (tree, _):
        (tree / "app.py").write_text("edited", encoding="utf-8")
        (tree / "cache").mkdir()
        (tree / "cache" / "x.bin").write_bytes(b"x")
        (tree / "outside").symlink_to(made.path)
    assert nothing_is_left(made, rooms)
    assert (made.path / "app.py").is_file()


def test_closing_leaves_the_users_own_worktrees_even_those_whose_drive_is_not_there(made: Made, tmp_path: Path) -> None:
    made.git("worktree", "add", "-q", "--detach", str(tmp_path / "drive" / "own"))
    (tmp_path / "drive").rename(tmp_path / "unplugged")
    with checked_out(made):
        pass
    assert made.worktrees() == [str(tmp_path / "drive" / "own")]


def test_hooks_of_the_repository_do_not_run(made: Made, tmp_path: Path) -> None:
    for hooks in (made.path / ".git" / "hooks", tmp_path / "hooks"):
        hooks.mkdir(exist_ok=True)
        (hooks / "post-checkout").write_text(f"#!/bin/sh\ntouch '{tmp_path}/ran'\nexit 1\n", encoding="utf-8")
        (hooks / "post-checkout").chmod(0o755)
    with checked_out(made):
        pass
    made.git("config", "core.hooksPath", str(tmp_path / "hooks"))
    with checked_out(made):
        pass
    assert not (tmp_path / "ran").exists()
    subprocess.run(["git", "checkout", "-q", "--detach"], cwd=made.path, env=made.environ, check=False)
    assert (tmp_path / "ran").exists(), "the hook of this test would never run"


def test_a_checkout_that_fails_leaves_nothing_and_fails_for_the_next_ref_of_the_commit_too(made: Made, rooms: Path) -> None:
    made.write(".gitattributes", "*.bin filter=broken\n")
    made.git("config", "filter.broken.smudge", "false")
    made.git("config", "filter.broken.clean", "cat")
    made.git("config", "filter.broken.required", "true")
    made.write("w.bin", "1")
    made.commit()
    made.git("tag", "v1")
    repository = made.opened()
    worktrees = Worktrees(repository)
    for ref in ("main", "v1"):
        with pytest.raises(GitError, match=r"^`git worktree add` failed: fatal: w\.bin: smudge filter broken failed\."):
            worktrees.checked_out(repository.resolve(ref))
    assert nothing_is_left(made, rooms)


@pytest.mark.parametrize("kind", ["missing", "a file", "read-only"])
def test_without_a_place_for_temporary_files_the_remedy_is_to_name_one(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    place = tmp_path / "place"
    if kind == "a file":
        place.write_text("", encoding="utf-8")
    elif kind == "read-only":
        if os.geteuid() == 0:
            pytest.skip("root may write into every folder")
        place.mkdir(mode=0o500)
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    with pytest.raises(GitError, match=r"There is no place for another commit's files: .*place.*Set TMPDIR to a folder"), checked_out(made):
        pass
    assert made.worktrees() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_a_repository_of_another_user_that_git_was_told_to_trust_can_be_checked_out(made: Made, rooms: Path) -> None:
    made.write(".gitattributes", "*.bin filter=lfs\n")
    made.write("small.bin", "its content")
    made.commit()
    for folder, _, files in os.walk(made.path):
        for path in (folder, *(str(Path(folder) / file) for file in files)):
            os.lchown(path, 12345, 12345)
    subprocess.run(["git", "config", "--global", "--add", "safe.directory", str(made.path)], env=made.environ, check=True)
    with checked_out(made) as (tree, _):
        assert (tree / "app.py").is_file()
    assert nothing_is_left(made, rooms)


# What a killed run left


@contextmanager
def another_process(made: Made, rooms: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process that has made a worktree and waits."""
    environ = made.environ | {"TMPDIR": str(rooms)}
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", LASTING, str(made.path)], env=environ, stdin=pipe, stdout=pipe, text=True)
    with process:
        assert process.stdout is not None
        try:
            yield process, Path(process.stdout.readline().strip())
        finally:
            process.kill()


def test_worktrees_of_a_killed_process_are_removed_by_the_next_and_those_of_a_living_one_stay(made: Made, rooms: Path) -> None:
    with another_process(made, rooms) as (process, tree):
        Worktrees(made.opened())
        assert (tree / "app.py").is_file()
        assert made.worktrees() == [str(tree)]
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (tree / "app.py").is_file()
        Worktrees(made.opened())
        assert nothing_is_left(made, rooms)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the state of a process is read from /proc")
def test_a_killed_process_that_nobody_has_waited_for_is_gone_too(made: Made, rooms: Path) -> None:
    with another_process(made, rooms) as (process, _):
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and stays in the table
        Worktrees(made.opened())
        assert nothing_is_left(made, rooms)


def test_a_later_process_with_the_number_of_the_killed_one_does_not_own_its_worktree(made: Made, rooms: Path) -> None:
    with another_process(made, rooms) as (process, tree):
        process.kill()
    (tree.parent / "owner.json").write_text(json.dumps({"pid": os.getpid(), "started": "long ago"}), encoding="utf-8")
    Worktrees(made.opened())
    assert nothing_is_left(made, rooms)


@pytest.mark.parametrize("note", [None, "", "{}", "[1]", '{"pid": "x", "started": 1}'])
def test_a_worktree_whose_note_was_lost_has_no_owner(made: Made, rooms: Path, note: str | None) -> None:
    with another_process(made, rooms) as (process, tree):
        process.kill()
    (tree.parent / "owner.json").unlink()
    if note is not None:
        (tree.parent / "owner.json").write_text(note, encoding="utf-8")
    Worktrees(made.opened())
    assert nothing_is_left(made, rooms)


def test_a_killed_runs_worktree_is_forgotten_where_the_machine_has_cleared_its_temporary_files(made: Made, rooms: Path) -> None:
    with another_process(made, rooms) as (process, tree):
        process.kill()
    subprocess.run(["rm", "-rf", str(tree.parent)], check=True)
    assert made.worktrees() == [str(tree)]
    Worktrees(made.opened())
    assert nothing_is_left(made, rooms)


def test_worktrees_of_another_repository_and_of_the_user_are_left_alone(made: Made, rooms: Path, tmp_path: Path) -> None:
    other = Made(tmp_path / "other", made.environ).init()
    other.commit("another repository")
    made.git("worktree", "add", "-q", "--detach", str(tmp_path / "own"))
    with another_process(other, rooms) as (process, tree):
        process.kill()
    Worktrees(made.opened())
    assert other.worktrees() == [str(tree)]
    assert (tree / ".git").is_file()
    assert made.worktrees() == [str(tmp_path / "own")]


# Submodules


@pytest.fixture
def with_submodule(made: Made, tmp_path: Path) -> Made:
    """``made`` with a submodule in a submodule, both filled; the first commit with them is ``v1``, and main has newer ones."""
    inner, outer = (Made(tmp_path / name, made.environ).init() for name in ("inner", "outer"))
    inner.write("weights.txt", "inner at v1")
    inner.commit()
    allowed = ("-c", "protocol.file.allow=always")
    outer.git(*allowed, "submodule", "--quiet", "add", str(inner.path), "deep/inner module")
    outer.write("code.py", "outer at v1")
    outer.commit()
    made.git(*allowed, "submodule", "--quiet", "add", str(outer.path), "vendor/outer")
    made.git(*allowed, "submodule", "--quiet", "update", "--init", "--recursive")
    made.commit("with a submodule")
    made.git("tag", "v1")
    outer.write("code.py", "outer at main")
    outer.commit()
    Made(made.path / "vendor" / "outer", made.environ).git("pull", "-q")
    made.commit("with a newer one")
    return made


def test_submodules_are_checked_out_as_the_commit_has_them(with_submodule: Made, rooms: Path) -> None:
    configuration = (with_submodule.path / ".git" / "config").read_bytes()
    for ref, code in (("v1", "outer at v1"), ("main", "outer at main")):
        with checked_out(with_submodule, ref) as (tree, _):
            assert (tree / "vendor/outer/code.py").read_text(encoding="utf-8") == code
            assert (tree / "vendor/outer/deep/inner module/weights.txt").read_text(encoding="utf-8") == "inner at v1"
    assert (with_submodule.path / "vendor/outer/code.py").read_text(encoding="utf-8") == "outer at main"
    assert (with_submodule.path / ".git" / "config").read_bytes() == configuration
    assert nothing_is_left(with_submodule, rooms)


def test_submodules_that_are_here_are_not_fetched_again(with_submodule: Made, tmp_path: Path) -> None:
    for name in ("inner", "outer"):
        (tmp_path / name).rename(tmp_path / f"unreachable {name}")
    with checked_out(with_submodule, "v1") as (tree, _):
        assert (tree / "vendor/outer/code.py").read_text(encoding="utf-8") == "outer at v1"
        assert (tree / "vendor/outer/deep/inner module/weights.txt").is_file()


def test_submodules_whose_files_are_not_here_are_not_there_either(with_submodule: Made, tmp_path: Path) -> None:
    with_submodule.git("clone", "-q", str(with_submodule.path), str(tmp_path / "clone"))
    clone = Made(tmp_path / "clone", with_submodule.environ)
    configuration = (clone.path / ".git" / "config").read_bytes()
    with checked_out(clone, "v1") as (tree, _):
        assert list((tree / "vendor/outer").iterdir()) == []
    assert (clone.path / ".git" / "config").read_bytes() == configuration


@pytest.fixture
def without_copy(with_submodule: Made, tmp_path: Path) -> Made:
    """A clone whose main has the submodule no more, in a configuration that lets git clone from folders."""
    with_submodule.git("rm", "-q", "vendor/outer")
    with_submodule.commit("without the submodule")
    with_submodule.git("clone", "-q", str(with_submodule.path), str(tmp_path / "clone"))
    clone = Made(tmp_path / "clone", with_submodule.environ)
    clone.git("config", "--global", "protocol.file.allow", "always")
    return clone


def test_submodules_that_this_side_has_no_more_are_fetched(without_copy: Made, rooms: Path) -> None:
    with checked_out(without_copy, "v1") as (tree, _):
        assert (tree / "vendor/outer/code.py").read_text(encoding="utf-8") == "outer at v1"
        assert (tree / "vendor/outer/deep/inner module/weights.txt").is_file()
    assert nothing_is_left(without_copy, rooms)


def test_a_submodule_that_cannot_be_had_names_the_remedy(without_copy: Made, tmp_path: Path, rooms: Path) -> None:
    (tmp_path / "outer").rename(tmp_path / "unreachable")
    with pytest.raises(GitError) as raised, checked_out(without_copy, "v1"):
        pass
    assert re.match(r"The submodules of v1 \(\w{10}\) could not be checked out: `git submodule update` failed: ", raised.value.message)
    assert raised.value.remedy.startswith("Fetch them first: `git submodule update --init --recursive`")
    assert nothing_is_left(without_copy, rooms)


def test_a_submodules_commit_that_is_not_here_names_the_remedy(with_submodule: Made, tmp_path: Path) -> None:
    allowed = ("-c", "protocol.file.allow=always")
    with_submodule.git("clone", "-q", str(with_submodule.path), str(tmp_path / "clone"))
    clone = Made(tmp_path / "clone", with_submodule.environ)
    clone.git("config", "submodule.vendor/outer.url", f"file://{tmp_path / 'outer'}")
    clone.git(*allowed, "submodule", "--quiet", "update", "--init", "--depth", "1")
    with pytest.raises(GitError, match=r"The submodules of v1 .*set submodules: recursive and fetch-depth: 0\."), checked_out(clone, "v1"):
        pass


def test_a_list_of_submodules_that_the_commit_does_not_have_is_no_error(made: Made) -> None:
    made.write(".gitmodules", '[submodule "gone"]\n\tpath = gone\n\turl = ./nowhere\n')
    made.commit()
    made.git("tag", "v1")
    made.write(".gitmodules", "")
    made.commit()
    for ref in ("v1", "main"):
        with checked_out(made, ref) as (tree, _):
            assert (tree / "app.py").is_file()


# Git LFS


def with_pointers(made: Made, *names: str, attributes: str = ".gitattributes") -> None:
    """A commit v1 whose files of these names are pointers, as where git-lfs is not set up."""
    made.write(attributes, "*.bin filter=lfs diff=lfs merge=lfs -text\n")
    for name in names:
        made.write(name, POINTER)
    made.commit()
    made.git("tag", "v1")


@pytest.mark.parametrize("attributes", [".gitattributes", "models/.gitattributes", "models/large/.gitattributes"])
def test_pointers_whose_content_is_here_but_not_there_are_an_error(made: Made, rooms: Path, attributes: str) -> None:
    with_pointers(made, "models/large/w.bin", attributes=attributes)
    made.write("models/large/w.bin", "the content")
    with pytest.raises(GitError) as raised, checked_out(made, "v1"):
        pass
    sha = made.git("rev-parse", "v1")
    assert raised.value.message == f"At v1 ({sha[:10]}) these files are Git LFS pointers without their content: models/large/w.bin."
    assert raised.value.remedy == f"Run `git lfs fetch origin {sha}` first; in actions/checkout set lfs: true."
    assert nothing_is_left(made, rooms)


def test_many_pointers_are_not_all_named(made: Made) -> None:
    names = [f"w{number}.bin" for number in range(8)]
    with_pointers(made, *names)
    for name in names:
        made.write(name, "the content")
    with pytest.raises(GitError, match=r": w0\.bin, w1\.bin, w2\.bin, w3\.bin, w4\.bin and 3 more\. Run"), checked_out(made, "v1"):
        pass


def test_pointers_that_are_pointers_here_too_are_left_alone(made: Made) -> None:
    with_pointers(made, "w.bin", "renamed.bin")
    made.git("mv", "renamed.bin", "new_name.bin")
    with checked_out(made, "v1") as (tree, _):
        assert (tree / "w.bin").read_text(encoding="utf-8") == POINTER


@pytest.mark.parametrize("others", [[], ["w.bin"]])
def test_a_pointer_that_this_side_has_under_another_name_is_missed(made: Made, others: list[str]) -> None:
    with_pointers(made, "old_name.bin", *others)
    made.git("mv", "old_name.bin", "new_name.bin")
    for name in ("new_name.bin", *others):
        made.write(name, "the content")
    with pytest.raises(GitError, match=r"without their content: old_name\.bin"), checked_out(made, "v1"):
        pass


def test_pointers_in_a_submodule_are_missed_too(made: Made, tmp_path: Path) -> None:
    models = Made(tmp_path / "models", made.environ).init()
    with_pointers(models, "w.bin")
    made.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(models.path), "models")
    made.commit()
    made.write("models/w.bin", "the content")
    with pytest.raises(GitError, match=r"without their content: models/w\.bin"), checked_out(made):
        pass


def test_content_in_the_commit_itself_and_words_about_pointers_are_no_pointers(made: Made) -> None:
    with_pointers(made)
    made.write("w.bin", "content that was committed as it is")
    made.write("notes.txt", f"a pointer begins like this: {POINTER}")
    (made.path / "to_nowhere").symlink_to("nowhere")
    made.commit()
    with checked_out(made):
        pass


def test_a_filter_of_lfs_that_fails_names_the_remedy(made: Made) -> None:
    with_pointers(made, "w.bin")
    made.git("config", "filter.lfs.smudge", "false")
    made.git("config", "filter.lfs.required", "true")
    with pytest.raises(GitError, match=r"w\.bin: smudge filter lfs failed\. Run `git lfs install`.*lfs: true"), checked_out(made, "v1"):
        pass


# Files that are lent


@pytest.mark.parametrize("link", ["models", "models/", "./models", "models/w.bin", "models/deep/w.bin", "models/deep"])
def test_ignored_folders_and_files_are_lent(made: Made, rooms: Path, link: str) -> None:
    made.write(".gitignore", "models\n")
    made.commit()
    made.write("models/w.bin", "weights")
    made.write("models/deep/w.bin", "weights")
    with checked_out(made, links=[link]) as (tree, worktrees):
        assert (tree / link).is_symlink()
        assert os.path.realpath(tree / link) == os.path.realpath(made.path / link)
        assert worktrees.notes == []
    assert (made.path / "models" / "deep" / "w.bin").read_text(encoding="utf-8") == "weights"
    assert nothing_is_left(made, rooms)


def test_what_is_lent_is_named_as_the_project_sees_it(made: Made) -> None:
    made.write("services/api/app.py", "1")
    made.write(".gitignore", "models\n")
    made.commit()
    made.write("models/shared.bin", "1")
    made.write("services/api/models/w.bin", "1")
    with checked_out(made, inside="services/api", links=["models", "../../models"]) as (tree, _):
        assert (tree / "services/api/models/w.bin").is_file()
        assert (tree / "models/shared.bin").is_file()


def test_a_link_of_the_project_is_lent_as_what_it_leads_to(made: Made, tmp_path: Path) -> None:
    (tmp_path / "large drive").mkdir()
    (tmp_path / "large drive" / "w.bin").write_text("weights", encoding="utf-8")
    (made.path / "models").symlink_to(tmp_path / "large drive")
    with checked_out(made, links=["models"]) as (tree, _):
        assert (tree / "models" / "w.bin").read_text(encoding="utf-8") == "weights"
    assert (tmp_path / "large drive" / "w.bin").is_file()


def test_a_project_that_is_reached_by_a_link_lends_too(made: Made, tmp_path: Path) -> None:
    made.write("api/models/w.bin", "1")
    (tmp_path / "project").symlink_to(made.path / "api")
    repository = Made(tmp_path / "project", made.environ).opened()
    worktrees = Worktrees(repository, ["models"])
    assert (worktrees.checked_out(repository.resolve("main")) / "api" / "models" / "w.bin").is_file()
    worktrees.close()


@pytest.mark.parametrize("link", ["../x", "models/../../x", "/", ".", "", "{outside}"])
def test_what_is_outside_the_repository_is_not_lent(made: Made, tmp_path: Path, rooms: Path, link: str) -> None:
    (tmp_path / "x").mkdir()
    with (
        pytest.raises(SettingsError, match=r"leads out of the repository\. Name a path inside it"),
        checked_out(made, links=[link.format(outside=tmp_path / "x")]),
    ):
        pass
    assert nothing_is_left(made, rooms)


def test_what_does_not_exist_is_not_lent(made: Made, rooms: Path) -> None:
    with pytest.raises(SettingsError, match=r"base_link 'models/' does not exist in "), checked_out(made, links=["models/"]):
        pass
    assert nothing_is_left(made, rooms)


def test_what_the_commit_has_itself_is_left_as_it_is_and_said(made: Made) -> None:
    made.write("models/w.bin", "first")
    (made.path / "latest").symlink_to("nowhere yet")
    made.commit()
    made.write("models/w.bin", "edited")
    made.write("nowhere yet", "")
    with checked_out(made, links=["models", "latest"]) as (tree, worktrees):
        assert (tree / "models" / "w.bin").read_text(encoding="utf-8") == "first"
        assert (tree / "latest").readlink() == Path("nowhere yet")
        assert worktrees.notes == [f"base_link {link!r} was left as the base commit has it" for link in ("models", "latest")]


def test_a_link_whose_folder_is_a_file_of_the_commit_is_an_error(made: Made, rooms: Path) -> None:
    made.write("models", "a file once")
    made.commit()
    made.git("tag", "v1")
    (made.path / "models").unlink()
    made.write("models/w.bin", "1")
    with pytest.raises(SettingsError, match=r"base_link 'models/w\.bin' has no place"), checked_out(made, "v1", links=["models/w.bin"]):
        pass
    assert nothing_is_left(made, rooms)
