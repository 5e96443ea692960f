"""The commits between a good one and a bad one, and the branches of merges."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_greencompute.commits.between import between, merged
from pytest_greencompute.commits.git import GitError, Repository
from tests.commits.conftest import Made


def subjects(repository: Repository, good: str, bad: str = "HEAD") -> list[str]:
    return [each.subject for each in between(repository, repository.resolve(good), repository.resolve(bad))]


def with_a_merge(made: Made) -> str:
    """A history with a branch of two commits that a merge brings in; the good commit's sha."""
    good = made.git("rev-parse", "HEAD")
    made.git("switch", "-q", "-c", "side")
    for name in ("one", "two"):
        made.write(f"{name}.py")
        made.commit(f"side {name}")
    made.git("switch", "-q", "main")
    made.write("main.py")
    made.commit("on main")
    made.git("merge", "-q", "--no-ff", "-m", "the merge", "side")
    made.commit("after it")
    return good


def test_the_commits_come_in_order_and_a_branch_is_its_merge(made: Made) -> None:
    good = with_a_merge(made)
    assert subjects(made.opened(), good) == ["first", "on main", "the merge", "after it"]
    ends = between(made.opened(), made.opened().resolve(good), made.opened().resolve("HEAD"))
    assert (ends[0].ref, ends[-1].ref) == (good, "HEAD")


def test_a_subject_may_be_empty_or_hold_anything(made: Made) -> None:
    good = made.git("rev-parse", "HEAD")
    made.git("commit", "-q", "--allow-empty", "--allow-empty-message", "-m", "")
    made.commit("a  change: 100 % — Zoë\u2028and so on")
    assert subjects(made.opened(), good) == ["first", "", "a  change: 100 % — Zoë\u2028and so on"]


def test_a_merge_leads_to_where_its_branch_forked_and_to_its_end(made: Made) -> None:
    good = with_a_merge(made)
    repository = made.opened()
    branch = merged(repository, repository.resolve("HEAD~1"))
    assert branch is not None
    assert [each.subject for each in between(repository, *branch)] == ["first", "side one", "side two"]
    assert branch[0].sha == good
    assert merged(repository, repository.resolve("HEAD")) is None
    assert merged(repository, repository.resolve(good)) is None


def test_the_same_commit_twice_is_refused(made: Made) -> None:
    with pytest.raises(GitError, match=r"--good main and --bad HEAD are the same commit\. Name an older commit"):
        subjects(made.opened(), "main")


def test_good_after_bad_is_refused(made: Made) -> None:
    made.commit("second")
    with pytest.raises(GitError, match=r"--good HEAD came after --bad HEAD~1\. Swap them\."):
        subjects(made.opened(), "HEAD", "HEAD~1")


def test_commits_of_two_branches_are_refused_with_the_commit_where_they_part(made: Made) -> None:
    fork = made.git("rev-parse", "HEAD")
    made.git("switch", "-q", "-c", "side")
    made.commit("on side")
    made.git("switch", "-q", "main")
    made.commit("on main")
    with pytest.raises(GitError, match=rf"--good side: it is no ancestor of main\. Begin where they part: --good {fork[:10]}\."):
        subjects(made.opened(), "side", "main")
    made.git("switch", "-q", "--orphan", "apart")
    made.commit("of no one")
    with pytest.raises(GitError, match=r"--good apart: it is no ancestor of main\. Name a good commit that is in the history"):
        subjects(made.opened(), "apart", "main")


def test_a_shallow_clone_has_its_remedy(made: Made, tmp_path: Path) -> None:
    good = made.git("rev-parse", "HEAD")
    for name in ("second", "third"):
        made.commit(name)
    made.git("clone", "-q", "--depth", "1", made.path.as_uri(), str(tmp_path / "shallow"))
    shallow = Made(tmp_path / "shallow", made.environ).opened()
    with pytest.raises(GitError, match=r"^--good [0-9a-f]+: there is no commit .* The clone is shallow: set fetch-depth: 0"):
        shallow.resolve(good, "--good")
