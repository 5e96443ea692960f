"""What a ref means, what has changed, and what is said where git refuses."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from pytest_greencompute.commits.between import between
from pytest_greencompute.commits.git import GitError, Repository
from tests.commits.conftest import Made

# Refs


def test_a_branch_a_tag_and_a_sha_name_the_same_commit(made: Made) -> None:
    sha = made.git("rev-parse", "HEAD")
    made.git("branch", "release/1.x")
    made.git("tag", "v1")
    made.git("tag", "-a", "v1-annotated", "-m", "a tag is an object of its own")
    made.git("checkout", "-q", "--detach")
    repository = made.opened()
    for ref in ("main", "release/1.x", "v1", "v1-annotated", sha, sha[:8], "HEAD", "main~0", "refs/heads/main"):
        commit = repository.resolve(ref)
        assert (commit.ref, commit.sha, commit.subject) == (ref, sha, "first"), ref
    assert repository.resolve("v1-annotated").label == f"v1-annotated ({sha[:10]})"


def test_names_may_have_letters_that_are_not_ascii(tmp_path: Path, environ: dict[str, str]) -> None:
    made = Made(tmp_path / "Maße und Größen", environ).init()
    made.write("Größe.py", "1")
    sha = made.commit("Zoë misst")
    made.git("branch", "größe")
    repository = made.opened()
    assert repository.top == made.path
    assert repository.resolve("größe").sha == sha
    assert repository.resolve("größe").subject == "Zoë misst"
    made.write("Größe.py", "2")
    made.write("ein ordner/mit leerzeichen.txt", "")
    assert sorted(repository.changed_files()) == ["Größe.py", "ein ordner/mit leerzeichen.txt"]


def test_a_branch_that_only_the_remote_has_is_found_there_and_the_local_one_goes_first(made: Made, tmp_path: Path) -> None:
    made.git("branch", "next")
    made.git("clone", "-q", str(made.path), str(tmp_path / "clone"))
    clone = Made(tmp_path / "clone", made.environ)
    first = clone.git("rev-parse", "HEAD")
    second = clone.commit("second")
    assert clone.opened().resolve("next").sha == first
    assert clone.opened().resolve("main").sha == second


def test_merge_base_is_where_the_branch_left(made: Made) -> None:
    left = made.git("rev-parse", "HEAD")
    made.git("checkout", "-q", "-b", "topic")
    made.commit("on the topic")
    made.git("checkout", "-q", "main")
    made.commit("on main")
    made.git("checkout", "-q", "topic")
    commit = made.opened().resolve("merge-base:main")
    assert (commit.ref, commit.sha) == ("merge-base:main", left)


def test_merge_base_without_common_history_says_so(made: Made) -> None:
    made.git("checkout", "-q", "--orphan", "other")
    made.commit("unrelated")
    with pytest.raises(GitError, match=r"^--energy-base-ref merge-base:main: HEAD and main have no common commit here\. Compare with main"):
        made.opened().resolve("merge-base:main")


@pytest.mark.parametrize(
    "ref", ["", " ", "-", "--all", "main ", "two words", "main\n", "merge-base:", "merge-base:--all", "merge-base: main", "^main"]
)
def test_what_can_name_no_commit_is_refused_before_git_sees_it(made: Made, ref: str) -> None:
    with pytest.raises(GitError, match=r"names no commit\. Write a branch, a tag, a commit or merge-base:BRANCH\."):
        made.opened().resolve(ref)


@pytest.mark.parametrize("ref", ["main..main", "app.py", "HEAD:app.py", "main^{tree}", "merge-base:nothing", "feedbeefcafe", ":/no such"])
def test_what_names_no_commit_is_no_commit(made: Made, ref: str) -> None:
    with pytest.raises(GitError, match="no commit"):
        made.opened().resolve(ref)


def test_a_ref_that_is_unknown_suggests_near_names_local_and_remote(made: Made, tmp_path: Path) -> None:
    made.git("branch", "release-2024")
    made.git("clone", "-q", str(made.path), str(tmp_path / "clone"))
    with pytest.raises(GitError, match=r"there is no commit 'mian' here, near: main\. Fetch it, for example with `git fetch origin`\."):
        made.opened().resolve("mian")
    with pytest.raises(GitError, match=r"near: release-2024, "):
        Made(tmp_path / "clone", made.environ).opened().resolve("release2024")
    with pytest.raises(GitError, match=r"there is no commit 'zzz' here\."):
        made.opened().resolve("zzz")


def test_a_repository_without_a_commit_says_so(tmp_path: Path, environ: dict[str, str]) -> None:
    repository = Made(tmp_path / "empty", environ).init().opened()
    assert repository.head() == ""
    for ref in ("main", "HEAD", "merge-base:main"):
        with pytest.raises(GitError, match=r"the repository has no commit yet\. Commit first\."):
            repository.resolve(ref)


def test_a_branch_without_a_commit_can_be_compared_with_another(made: Made) -> None:
    made.git("checkout", "-q", "--orphan", "unborn")
    repository = made.opened()
    assert repository.head() == ""
    assert repository.resolve("main").subject == "first"


@pytest.mark.parametrize("ref", ["v1", "merge-base:old", "no-such-branch"])
def test_in_a_shallow_clone_the_remedy_is_the_depth(made: Made, tmp_path: Path, ref: str) -> None:
    made.git("tag", "v1")
    made.git("branch", "old")
    made.write("app.py", "2")
    made.commit("second")
    made.git("clone", "-q", "--depth", "1", "--no-single-branch", f"file://{made.path}", str(tmp_path / "shallow"))
    shallow = Made(tmp_path / "shallow", made.environ)
    shallow.git("tag", "-d", "v1")
    with pytest.raises(GitError) as raised:
        shallow.opened().resolve(ref)
    assert raised.value.remedy == "The clone is shallow: set fetch-depth: 0 in actions/checkout, or run `git fetch --unshallow`."


# Where git refuses


def test_a_folder_that_is_in_no_repository_is_named(tmp_path: Path, environ: dict[str, str]) -> None:
    with pytest.raises(GitError, match=r"is in no git repository.*Use --energy-baseline; .*--rootdir=DIR\."):
        Repository(tmp_path, {**environ, "GIT_CEILING_DIRECTORIES": "/"})


def test_a_repository_without_a_working_tree_is_none_to_measure_in(made: Made, tmp_path: Path) -> None:
    made.git("clone", "-q", "--bare", str(made.path), str(tmp_path / "bare"))
    with pytest.raises(GitError, match="is in no git repository"):
        Repository(tmp_path / "bare", made.environ)


def test_without_git_the_remedy_is_to_install_it(made: Made, tmp_path: Path) -> None:
    with pytest.raises(GitError, match=r"^git is not installed, and other commits cannot be had without it\. Install git\.$"):
        made.opened(PATH=str(tmp_path))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
@pytest.mark.parametrize("inside", [".", "services/api"])
def test_a_repository_of_another_user_names_the_folder_to_trust(made: Made, inside: str) -> None:
    (made.path / "services" / "api").mkdir(parents=True)
    for folder, _, files in os.walk(made.path):
        for path in (folder, *(str(Path(folder) / file) for file in files)):
            os.chown(path, 12345, 12345)
    with pytest.raises(GitError, match="belongs to another user") as raised:
        made.opened(inside)
    words = raised.value.remedy.partition("`git ")[2].partition("`")[0].split()
    assert words == ["config", "--global", "--add", "safe.directory", str(made.path)]
    made.git(*words)
    assert made.opened(inside).resolve("main").subject == "first"


def test_what_git_says_is_handed_on_in_one_line(made: Made) -> None:
    with pytest.raises(GitError, match=r"^`git cat-file -t` failed: fatal: Not a valid object name nothing\.$"):
        made.opened().ask("cat-file", "-t", "nothing")


# The environment


def test_variables_of_a_hook_do_not_lead_to_its_repository(made: Made, tmp_path: Path) -> None:
    other = Made(tmp_path / "other", made.environ).init()
    other.write("other.py", "1")
    other.commit("another repository")
    repository = made.opened(
        GIT_DIR=str(other.path / ".git"),
        GIT_WORK_TREE=str(other.path),
        GIT_INDEX_FILE=str(other.path / ".git" / "index"),
        GIT_OBJECT_DIRECTORY=str(other.path / ".git" / "objects"),
        GIT_COMMON_DIR=str(other.path / ".git"),
        GIT_PREFIX="somewhere/",
        GIT_CONFIG_PARAMETERS="'greencompute.word'='of the hook'",
        GIT_TRACE="1",
    )
    assert repository.top == made.path
    assert repository.resolve("main").subject == "first"
    assert repository.changed_files() == ()
    assert repository.ask("config", "--default", "none", "greencompute.word").strip() == "none"


def test_the_users_own_configuration_is_kept(made: Made) -> None:
    configured = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "greencompute.word", "GIT_CONFIG_VALUE_0": "kept"}
    assert made.opened(**configured).ask("config", "greencompute.word").strip() == "kept"
    assert made.opened().ask("config", "user.name").strip() == "Tests"


SIGNS = """#!/bin/sh
case "$*" in
  *--verify*) echo "gpg: Signature made today" >&2; printf "\\n[GNUPG:] GOODSIG 0123456789ABCDEF Tests\\n" ;;
  *) cat >/dev/null; printf "\\n[GNUPG:] SIG_CREATED D 1 8 00 0 0\\n" >&2
     printf -- "-----BEGIN PGP SIGNATURE-----\\n\\nAAAA\\n-----END PGP SIGNATURE-----\\n" ;;
esac
"""


def test_signatures_that_the_user_has_shown_are_no_part_of_a_commit(made: Made) -> None:
    program = made.write("gpg", SIGNS)
    program.chmod(0o755)
    for name, value in (("gpg.program", str(program)), ("commit.gpgSign", "true"), ("log.showSignature", "true")):
        made.git("config", name, value)
    good, bad = made.commit("signed"), made.commit("signed, too")
    assert "Signature made" in made.git("log", "-1", "--format=%s")
    assert made.opened().resolve("HEAD").subject == "signed, too"
    assert [each.sha for each in between(made.opened(), made.opened().resolve(good), made.opened().resolve("HEAD"))] == [good, bad]


def test_git_speaks_english_and_asks_for_no_password(made: Made) -> None:
    made.git("config", "alias.say", '!echo "$LC_ALL $GIT_TERMINAL_PROMPT"')
    assert made.opened(LC_ALL="de_DE.UTF-8", LANG="de_DE.UTF-8", GIT_TERMINAL_PROMPT="1").ask("say") == "C 0\n"


# The project's place


@pytest.mark.parametrize("inside", ["services/api", "a folder/größe"])
def test_a_project_in_a_folder_of_the_repository_has_the_repositorys_top(made: Made, inside: str) -> None:
    made.write(f"{inside}/app.py", "1")
    repository = made.opened(inside)
    assert repository.top == made.path
    assert repository.folder == made.path / inside
    assert repository.changed_files() == (f"{inside}/app.py",)


def test_a_checkout_that_is_itself_a_worktree_knows_its_own_folder(made: Made, tmp_path: Path) -> None:
    made.git("worktree", "add", "-q", "--detach", str(tmp_path / "linked"))
    repository = Repository(tmp_path / "linked", made.environ)
    assert repository.top == tmp_path / "linked"
    assert repository.git_folder() == made.path / ".git" / "worktrees" / "linked"
    assert made.opened().git_folder() == made.path / ".git"


# Changed files


def test_changed_files_are_edits_and_new_files_and_none_that_git_ignores(made: Made) -> None:
    made.write(".gitignore", "*.log\nbuild/\n")
    made.write("gone.py", "1")
    made.commit()
    assert made.opened().changed_files() == ()
    made.write("app.py", "edited")
    made.write("new/one.py", "")
    made.write("new/two.py", "")
    made.write("staged.py", "")
    made.git("add", "staged.py")
    made.write("x.log", "")
    made.write("build/x.py", "")
    (made.path / "gone.py").unlink()
    assert sorted(made.opened().changed_files()) == ["app.py", "gone.py", "new/one.py", "new/two.py", "staged.py"]


def test_new_files_count_even_where_the_user_hides_them_from_git_status(made: Made) -> None:
    made.git("config", "status.showUntrackedFiles", "no")
    made.write("new.py", "")
    assert made.opened().changed_files() == ("new.py",)


def test_a_renamed_file_counts_once_under_its_new_name(made: Made) -> None:
    made.write("long_name_of_a_module.py", "one\ntwo\nthree\nfour\n")
    made.write("b.py", "unlike the other one in every line\n" * 9)
    made.commit()
    made.git("mv", "long_name_of_a_module.py", "renamed.py")
    made.git("mv", "b.py", "c.py")
    made.write("app.py", "edited")
    assert sorted(made.opened().changed_files()) == ["app.py", "c.py", "renamed.py"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no names that are no text")
def test_a_name_that_is_no_text_is_a_name(made: Made) -> None:
    name = os.fsdecode(b"gr\xf6\xdfe.txt")
    (made.path / name).touch()
    assert made.opened().changed_files() == (name,)


def test_nothing_is_written_by_asking(made: Made) -> None:
    index = made.path / ".git" / "index"
    before = index.stat().st_mtime_ns
    os.utime(made.path / "app.py", (1, 1))  # times that differ from the index's, and the same content: git would note that
    made.opened().changed_files()
    assert index.stat().st_mtime_ns == before
