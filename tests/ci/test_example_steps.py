"""The scripts of the workflows to copy and of the GitLab job, run as a runner runs them: what they decide, and what they refuse."""

from __future__ import annotations

import io
import itertools
import json
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.ci.conftest import Hub, git
from tests.ci.steps import GITLAB, ROOT, Done, Runner, Step, read, step

GPU = ROOT / "examples" / "github" / "energy-gpu.yml"
COMMENT = ROOT / "examples" / "github" / "energy-comment.yml"
DECIDE = step(GPU, "decide")
REVIEWERS = step(GPU, "See that the environment has reviewers")
JUDGE = step(GPU, "Judge")
TAKE = step(COMMENT, "take")
WRITE = step(COMMENT, "Write or update the comment")

# --- energy-gpu.yml: is the GPU needed? ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "needed"),
    [
        (["README.md"], "false"),
        (["docs/how-to/page.md", "CHANGELOG.md", "LICENSE"], "false"),
        (["README.md", "model.py"], "true"),
        (["docs/conf.py"], "true"),
        (["prompts/system.md"], "true"),  # what a model is told is not documentation
        ([".github/workflows/energy.yml"], "true"),
        (["a\n::error::b.py"], "true"),
        (["docs/$(touch pwned).md"], "false"),
        (["requirements.txt"], "true"),
    ],
    ids=str,
)
def test_only_a_change_of_documentation_alone_needs_no_gpu(runner: Runner, hub: Hub, changed: list[str], needed: str) -> None:
    hub.checkout(runner.workspace, hub.merged_with(*changed), depth=0)
    done = runner.run(DECIDE, {"EVENT": "pull_request", "GROUP_BASE": ""})
    assert done.status == 0, done.printed
    assert done.outputs == {"needed": needed}
    assert not [line for line in done.printed.splitlines() if line.startswith("::")]
    assert not (runner.workspace / "pwned").exists()


def test_a_file_that_was_moved_into_the_documentation_is_a_change(runner: Runner, hub: Hub) -> None:
    merge = hub.merged_with("README.md")
    hub.checkout(runner.workspace, merge, depth=0)
    git(runner.workspace, "checkout", "-q", "--detach", hub.base)
    git(runner.workspace, "mv", "model.py", "LICENSE")
    git(runner.workspace, "commit", "-qm", "move")
    done = runner.run(DECIDE, {"EVENT": "merge_group", "GROUP_BASE": hub.base})
    assert done.outputs == {"needed": "true"}


def test_a_merge_group_is_judged_by_all_that_it_brings(runner: Runner, hub: Hub) -> None:
    hub.checkout(runner.workspace, hub.merged_with("README.md"), depth=0)
    assert runner.run(DECIDE, {"EVENT": "merge_group", "GROUP_BASE": hub.base}).outputs == {"needed": "false"}
    assert runner.run(DECIDE, {"EVENT": "merge_group", "GROUP_BASE": hub.old_base}).outputs == {"needed": "true"}


@pytest.mark.parametrize(
    ("event", "base"),
    [
        ("push", ""),
        ("schedule", ""),
        ("merge_group", ""),
        ("merge_group", "deadbeef" * 5),
        ("merge_group", "--help"),
        ("merge_group", "HEAD"),
    ],
)
def test_what_is_unsure_is_needed(runner: Runner, hub: Hub, event: str, base: str) -> None:
    hub.checkout(runner.workspace, hub.merged_with("README.md"), depth=0)
    done = runner.run(DECIDE, {"EVENT": event, "GROUP_BASE": base})
    assert done.status == 0, done.printed
    assert done.outputs == {"needed": "true"}


def test_a_checkout_that_is_no_merge_is_needed(runner: Runner, hub: Hub) -> None:
    hub.checkout(runner.workspace, hub.head, depth=0)
    assert runner.run(DECIDE, {"EVENT": "pull_request", "GROUP_BASE": ""}).outputs == {"needed": "true"}


# --- energy-gpu.yml: the required check ----------------------------------------------------------------------------------------------

RESULTS = ("success", "failure", "cancelled", "skipped")
GREEN = {("success", "true", "success"), ("success", "false", "skipped")}


@pytest.mark.parametrize(("changes", "needed", "gate"), list(itertools.product(RESULTS, ("true", "false", ""), RESULTS)))
def test_the_required_check_is_green_for_a_passed_gate_or_a_written_decision_and_red_for_all_else(
    runner: Runner, changes: str, needed: str, gate: str
) -> None:
    done = runner.run(JUDGE, {"CHANGES": changes, "NEEDED": needed, "GATE": gate})
    assert done.status == (0 if (changes, needed, gate) in GREEN else 1)
    assert ("::error title=energy::The gate did not pass" in done.printed) == (done.status == 1)


def test_the_required_check_always_runs_and_the_gate_never_without_its_two_conditions() -> None:
    jobs = read(GPU)["jobs"]
    assert jobs["energy"]["if"] == "${{ always() }}"
    assert jobs["energy"]["needs"] == ["changes", "approval", "gate"]
    assert jobs["gate"]["needs"] == ["changes", "approval"]
    for name in ("approval", "gate"):
        # Without a status function such as always(), a job also waits for the success of all that it needs.
        assert jobs[name]["if"] == "${{ needs.changes.outputs.needed == 'true' }}"
    assert "environment" not in jobs["gate"], "a job that waits for its approval would hold the GPU's place in line"
    assert jobs["gate"]["concurrency"] == {"group": "gpu-host-1", "cancel-in-progress": False, "queue": "max"}


# --- energy-gpu.yml: forks -----------------------------------------------------------------------------------------------------------

GH = """
import json, os, pathlib, sys
here = pathlib.Path(os.environ["GH_STAND_IN"])
answers = json.loads((here / "answers.json").read_text(encoding="utf-8"))
words = " ".join(sys.argv[1:])
given = json.loads(sys.stdin.read()) if "--input" in sys.argv else None
with (here / "calls.jsonl").open("a", encoding="utf-8") as file:
    file.write(json.dumps([words, given]) + "\\n")
if words not in answers:
    sys.exit(f"gh: Not Found (HTTP 404): {words}")
answer = answers[words]
is_file = isinstance(answer, str) and answer.startswith("@")
sys.stdout.buffer.write((here / answer[1:]).read_bytes() if is_file else json.dumps(answer).encode())
"""


class GitHub:
    """A stand-in for ``gh``: what it answers to which words (``@name`` is a file's bytes), and what it was asked."""

    def __init__(self, runner: Runner, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        runner.stand_in("gh", GH)
        self.answers: dict[str, Any] = {}

    @property
    def environ(self) -> dict[str, str]:
        (self._folder / "answers.json").write_text(json.dumps(self.answers), encoding="utf-8")
        return {"GH_STAND_IN": str(self._folder)}

    def file(self, name: str, content: bytes) -> str:
        (self._folder / name).write_bytes(content)
        return f"@{name}"

    @property
    def calls(self) -> list[tuple[str, Any]]:
        log = self._folder / "calls.jsonl"
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        return [(words, given) for words, given in map(json.loads, lines)]


@pytest.fixture
def github(runner: Runner, tmp_path: Path) -> GitHub:
    return GitHub(runner, tmp_path / "gh")


@pytest.mark.parametrize(
    ("environment", "status"),
    [
        ({"name": "energy-forks", "protection_rules": [{"id": 1, "type": "required_reviewers"}]}, 0),
        ({"name": "energy-forks", "protection_rules": [{"id": 1, "type": "wait_timer"}]}, 1),
        ({"name": "energy-forks", "protection_rules": []}, 1),
        (None, 1),
    ],
    ids=["reviewers", "a timer alone", "no rules", "no environment"],
)
def test_a_fork_is_held_back_by_an_environment_with_reviewers_alone(
    runner: Runner, github: GitHub, environment: dict[str, Any] | None, status: int
) -> None:
    if environment is not None:
        github.answers["api repos/us/model/environments/energy-forks"] = environment
    done = runner.run(REVIEWERS, {"GH_TOKEN": "token", "REPOSITORY": "us/model"}, also=github.environ)
    assert done.status == status
    assert ("has no required reviewers" in done.printed) == (status == 1)


# --- energy-comment.yml: the untrusted artifact --------------------------------------------------------------------------------------

REPORT = json.dumps({"schema": "greencompute.report/1", "runs": []}).encode()
ARTIFACTS = "api repos/us/model/actions/runs/42/artifacts?per_page=100"
ZIP = "api repos/us/model/actions/artifacts/{}/zip"


def zipped(*files: tuple[str, bytes], mode: int = 0, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        for name, content in files:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            archive.writestr(entry, content, method)
    return packed.getvalue()


def artifact(number: int, name: str = "energy", *, size: int = 1000, expired: bool = False) -> dict[str, Any]:
    return {"id": number, "name": name, "size_in_bytes": size, "expired": expired}


def take(runner: Runner, github: GitHub, packed: bytes | None, *listed: dict[str, Any]) -> Done:
    """The step "take", for a run with these artifacts, of which number 1 holds ``packed``."""
    github.answers[ARTIFACTS] = {"artifacts": list(listed or [artifact(1)])}
    if packed is not None:
        github.answers[ZIP.format(1)] = github.file("artifact.zip", packed)
    values = {"GH_TOKEN": "token", "REPOSITORY": "us/model", "RUN": "42"}
    return runner.run(TAKE, values, also={**github.environ, "LIMIT_MB": "1"})


def test_the_report_is_taken_out_of_the_artifact_and_nothing_else(runner: Runner, github: GitHub) -> None:
    evil = [("../escaped", b"x"), ("/tmp/escaped-energy", b"x"), ("energy.html", b"<script>")]
    done = take(runner, github, zipped(("energy.json", REPORT), *evil, mode=stat.S_IFREG | 0o644))
    assert done.status == 0, done.printed
    assert done.outputs == {"found": "true"}
    assert (runner.temp / "energy.json").read_bytes() == REPORT
    assert {path.name for path in runner.temp.iterdir()} == {"energy.json", "_script", "_output"}
    assert not (runner.temp.parent / "escaped").exists()
    assert not Path("/tmp/escaped-energy").exists()


def test_the_newest_artifact_of_that_name_is_taken(runner: Runner, github: GitHub) -> None:
    others = [artifact(9, "other"), artifact(8, expired=True), artifact(0)]
    assert take(runner, github, zipped(("energy.json", REPORT)), artifact(1), *others).outputs == {"found": "true"}


def test_a_run_without_a_report_ends_green_and_without_a_comment(runner: Runner, github: GitHub) -> None:
    done = take(runner, github, None, artifact(9, "other"))
    assert done.status == 0, done.printed
    assert done.outputs == {"found": "false"}


BOMB = zipped(("energy.json", b'{"a": "' + b"x" * 2_000_000 + b'"}'))


@pytest.mark.parametrize(
    ("packed", "words"),
    [
        (zipped(("energy.json", b"/etc/passwd"), mode=stat.S_IFLNK | 0o777), "is not a regular file"),
        (zipped(("energy.json", b""), mode=stat.S_IFDIR | 0o755), "is not a regular file"),
        (zipped(("energy.json", b""), mode=stat.S_IFIFO | 0o644), "is not a regular file"),
        (zipped(("energy.json", b"x" * 2_000_000), method=zipfile.ZIP_STORED), "it has more than 1000000 bytes"),
        (BOMB, "energy.json in it has more than 1000000 bytes"),
        (zipped(("../energy.json", REPORT)), "it holds 0 files energy.json instead of one"),
        (zipped(("other/energy.json", REPORT)), "it holds 0 files energy.json instead of one"),
        (zipped(("energy.json", REPORT), method=zipfile.ZIP_LZMA), "packed in an unusual way"),
        (zipped(("energy.json", b"# not JSON")), "no zip file with a JSON file"),
        (zipped(("energy.json", b'{"a": "\xff"}')), "no zip file with a JSON file"),
        (zipped(("energy.json", b"[" * 200_000)), "no zip file with a JSON file"),
        (zipped(("energy.json", b"[1]")), "holds no JSON object"),
        (b"", "no zip file with a JSON file"),
        (b"<html>gateway timeout</html>", "no zip file with a JSON file"),
        (zipped(("energy.json", REPORT))[:-30], "no zip file with a JSON file"),
    ],
    ids=[
        "a link", "a folder", "a pipe", "too big", "a bomb", "a path upwards", "in a folder", "an unusual packing", "not JSON", "not UTF-8",
        "too deep", "a list", "empty", "not a zip", "cut off",
    ],
)  # fmt: skip
def test_an_artifact_that_is_not_one_small_json_file_is_refused(runner: Runner, github: GitHub, packed: bytes, words: str) -> None:
    done = take(runner, github, packed)
    assert done.status == 1
    assert "::error title=energy comment::The artifact is refused: " in done.printed
    assert words in done.printed
    assert "Traceback" not in done.printed
    assert done.outputs == {}
    assert not (runner.temp / "energy.json").exists()


def test_two_files_of_that_name_are_refused(runner: Runner, github: GitHub) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        packed = zipped(("energy.json", REPORT), ("energy.json", REPORT))
    assert "it holds 2 files energy.json instead of one" in take(runner, github, packed).printed


def test_a_damaged_file_in_the_artifact_is_refused(runner: Runner, github: GitHub) -> None:
    packed = bytearray(zipped(("energy.json", REPORT), method=zipfile.ZIP_STORED))
    packed[packed.index(b"runs")] ^= 1
    assert "The artifact is refused" in take(runner, github, bytes(packed)).printed


def test_an_artifact_that_says_it_is_too_big_is_not_even_downloaded(runner: Runner, github: GitHub) -> None:
    done = take(runner, github, None, artifact(1, size=1_000_001))
    assert done.status == 1
    assert "it has more than 1000000 bytes" in done.printed
    assert [words for words, _ in github.calls] == [ARTIFACTS]


def test_a_download_that_fails_is_red_and_says_so(runner: Runner, github: GitHub) -> None:
    done = take(runner, github, None)
    assert done.status == 1
    assert "The artifact could not be downloaded. Run this job again." in done.printed


# --- energy-comment.yml: the comment -------------------------------------------------------------------------------------------------

MARK = "<!-- pytest-greencompute -->"
SHA = "c0ffee" * 6 + "c0ff"
LISTED = "api --method GET repos/us/model/pulls -f state=open -f per_page=100 -f head=them:topic"
POSTED = "api --method POST repos/us/model/issues/7/comments --input -"


def pull(number: int, *, sha: str = SHA, repository: str | None = "them/model", state: str = "open") -> dict[str, Any]:
    return {"number": number, "state": state, "head": {"sha": sha, "repo": None if repository is None else {"full_name": repository}}}


def comments_page(number: int, page: int = 1) -> str:
    return f"api repos/us/model/issues/{number}/comments?per_page=100&page={page}"


def comment(number: int, body: str, login: str = "github-actions[bot]") -> dict[str, Any]:
    return {"id": number, "body": body, "user": {"login": login}}


def write(runner: Runner, github: GitHub, *, number: str = "", text: str = "**PASS**", branch: str = "topic") -> Done:
    (runner.temp / "comment.md").write_text(text, encoding="utf-8")
    values = {
        "GH_TOKEN": "token", "REPOSITORY": "us/model", "NUMBER": number, "HEAD_SHA": SHA, "HEAD_BRANCH": branch, "HEAD_OWNER": "them",
        "HEAD_REPOSITORY": "them/model",
    }  # fmt: skip
    return runner.run(WRITE, values, also=github.environ)


def test_the_pull_request_of_the_event_gets_a_first_comment(runner: Runner, github: GitHub) -> None:
    github.answers = {"api repos/us/model/pulls/7": pull(7), comments_page(7): [], POSTED: {}}
    done = write(runner, github, number="7")
    assert done.status == 0, done.printed
    assert github.calls[-1] == (POSTED, {"body": f"{MARK}\n**PASS**"})


def test_a_fork_is_looked_up_by_its_branch_and_commit(runner: Runner, github: GitHub) -> None:
    others = [pull(5, sha="0" * 40), pull(6, repository="them/other"), pull(8, repository=None)]
    github.answers = {LISTED: [*others, pull(7)], comments_page(7): [], POSTED: {}}
    done = write(runner, github)
    assert done.status == 0, done.printed
    assert github.calls[-1] == (POSTED, {"body": f"{MARK}\n**PASS**"})


@pytest.mark.parametrize("branch", ["a&state=closed", "$(touch pwned)", "a b", "-f x=y", "@file"])
def test_the_name_of_a_branch_is_one_word_to_gh(runner: Runner, github: GitHub, branch: str) -> None:
    github.answers = {LISTED.replace("topic", branch): []}
    done = write(runner, github, branch=branch)
    assert done.status == 0, done.printed
    assert not (runner.workspace / "pwned").exists()


@pytest.mark.parametrize(
    "found",
    [[], [pull(7, sha="0" * 40)], [pull(7, state="closed")], [pull(7, repository="them/other")], [pull(7), pull(8)]],
    ids=["none", "a newer commit", "closed", "another repository", "two"],
)
def test_without_exactly_one_open_pull_request_at_that_commit_nothing_is_written(
    runner: Runner, github: GitHub, found: list[dict[str, Any]]
) -> None:
    github.answers = {LISTED: found}
    done = write(runner, github)
    assert done.status == 0, done.printed
    assert "::notice title=energy comment::No comment: " in done.printed
    assert [words for words, _ in github.calls] == [LISTED]


def test_a_comment_of_ones_own_is_updated_even_on_a_later_page_and_one_with_a_forged_mark_is_left_alone(
    runner: Runner, github: GitHub
) -> None:
    patched = "api --method PATCH repos/us/model/issues/comments/300 --input -"
    first = [comment(1, f"{MARK}\nforged", "mallory"), *(comment(number, "talk", "alice") for number in range(2, 101))]
    second = [comment(200, "another workflow's"), comment(300, f"{MARK}\nold")]
    github.answers = {
        "api repos/us/model/pulls/7": pull(7),
        comments_page(7): first,
        comments_page(7, 2): second,
        patched: {},
    }
    done = write(runner, github, number="7", text="**FAIL**")
    assert done.status == 0, done.printed
    assert github.calls[-1] == (patched, {"body": f"{MARK}\n**FAIL**"})


def test_a_text_that_github_would_not_take_is_red(runner: Runner, github: GitHub) -> None:
    github.answers = {"api repos/us/model/pulls/7": pull(7)}
    done = write(runner, github, number="7", text="x" * 65_536)
    assert done.status == 1
    assert "::error title=energy comment::The comment has 65565 characters, and GitHub takes 65536." in done.printed


def test_a_github_that_refuses_is_red(runner: Runner, github: GitHub) -> None:
    github.answers = {"api repos/us/model/pulls/7": pull(7), comments_page(7): []}
    assert write(runner, github, number="7").status == 1


# --- GitLab --------------------------------------------------------------------------------------------------------------------------

PYTHON = """
import json, os, pathlib, sys
pathlib.Path("argv.json").write_text(json.dumps(sys.argv[1:]), encoding="utf-8")
sys.exit(int(os.environ.get("STATUS", "0")))
"""


def gitlab(runner: Runner, **environ: str) -> tuple[Done, list[str]]:
    """The script of the GitLab job, with a stand-in for its Python; and pytest's arguments, without those for the reports."""
    python = runner.stand_in("python", PYTHON)
    script = "\n".join(read(GITLAB)["energy"]["script"])
    assert script.count("/tmp/energy/bin/python") == 1
    done = runner.run(Step("gitlab", "bash", script.replace("/tmp/energy/bin/python", str(python)), {}), {}, also=environ)
    argv = runner.workspace / "argv.json"
    words = json.loads(argv.read_text(encoding="utf-8")) if argv.exists() else []
    argv.unlink(missing_ok=True)
    reports = ["json=energy/energy.json", "markdown=energy/energy.md", "html=energy/energy.html"]
    expected = [
        "-m",
        "pytest",
        "--energy-budget",
        "--energy-only",
        "--junitxml=energy/junit.xml",
        "--energy-openmetrics=energy/metrics.txt",
    ]
    expected += [f"--energy-{report}" for report in reports]
    if words:
        assert words[: len(expected)] == expected
    return done, words[len(expected) :]


def test_a_merge_request_is_compared_with_its_target_or_with_where_it_left() -> None:
    (request, default) = read(GITLAB)["energy"]["rules"]
    assert request["variables"] == {"ENERGY_AGAINST_BASE": "true", "ENERGY_CACHE": "pull"}
    assert default["variables"] == {"ENERGY_AGAINST_BASE": "false", "ENERGY_CACHE": "pull-push"}


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"ENERGY_AGAINST_BASE": "true", "CI_MERGE_REQUEST_DIFF_BASE_SHA": "abc"}, ["--energy-base-ref=abc", "--energy-baseline=main"]),
        (
            {"ENERGY_AGAINST_BASE": "true", "CI_MERGE_REQUEST_DIFF_BASE_SHA": "abc", "CI_MERGE_REQUEST_TARGET_BRANCH_SHA": "def"},
            ["--energy-base-ref=def", "--energy-baseline=main"],
        ),
        ({"ENERGY_AGAINST_BASE": "false", "CI_MERGE_REQUEST_DIFF_BASE_SHA": "abc"}, ["--energy-save=main"]),
    ],
    ids=["source branch", "merged result", "default branch"],
)
def test_the_gitlab_job_compares_merge_requests_and_saves_the_default_branch(
    runner: Runner, environ: dict[str, str], words: list[str]
) -> None:
    done, got = gitlab(runner, **environ)
    assert done.status == 0, done.printed
    assert got == words


def test_the_gitlab_job_is_red_where_no_base_commit_is_named_and_where_pytest_is(runner: Runner) -> None:
    done, words = gitlab(runner, ENERGY_AGAINST_BASE="true")
    assert done.status == 1
    assert "GitLab named no base commit for this merge request" in done.printed
    assert words == []
    for status in (1, 4, 5):
        assert gitlab(runner, ENERGY_AGAINST_BASE="false", STATUS=str(status))[0].status == status
