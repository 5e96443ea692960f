"""The commits between two, in the order in which they came."""

from __future__ import annotations

from pytest_greencompute.commits.git import Commit, GitError, Repository


def between(repository: Repository, good: Commit, bad: Commit) -> tuple[Commit, ...]:
    """``good``, then the first parents up to ``bad``. Raises GitError where ``good`` is no ancestor of ``bad``, with a remedy."""
    if good.sha == bad.sha:
        raise GitError(f"--good {good.ref} and --bad {bad.ref} are the same commit.", remedy="Name an older commit as the good one.")
    if not _is_ancestor(repository, good, bad):
        if _is_ancestor(repository, bad, good):
            raise GitError(f"--good {good.ref} came after --bad {bad.ref}.", remedy="Swap them.")
        try:
            fork = repository.ask("merge-base", good.sha, bad.sha).strip()
            remedy = f"Begin where they part: --good {fork[:10]}."
        except GitError:
            remedy = "Name a good commit that is in the history of the bad one."
        raise repository.missing("--good", good.ref, f"it is no ancestor of {bad.ref}", remedy)
    rows = repository.ask("log", "--first-parent", "--reverse", "--format=%H %s", f"{good.sha}..{bad.sha}").rstrip("\n").split("\n")
    found = (row.partition(" ") for row in rows[:-1])
    return (good, *(Commit(sha[:10], sha, subject) for sha, _, subject in found), bad)


def merged(repository: Repository, commit: Commit) -> tuple[Commit, Commit] | None:
    """Where the branch that a merge brought in forked, and its last commit; None where it is no merge of two."""
    parents = repository.ask("log", "-1", "--format=%P", commit.sha).split()
    if len(parents) != 2:
        return None
    fork = repository.ask("merge-base", *parents).strip()
    return (repository.resolve(fork), repository.resolve(parents[1])) if fork != parents[1] else None


def _is_ancestor(repository: Repository, one: Commit, other: Commit) -> bool:
    return not repository.ask("rev-list", "--max-count=1", one.sha, f"^{other.sha}").strip()
