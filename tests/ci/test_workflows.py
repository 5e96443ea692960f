"""action.yml, the workflows and jobs to copy, and what ``greencompute init`` writes: linted, checked against their schemas, and pinned."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_greencompute.starting.found import Home, Remote
from pytest_greencompute.starting.libraries import LIBRARIES, PLAIN
from pytest_greencompute.starting.written import pipeline
from tests.ci.conftest import git
from tests.ci.steps import ACTION, GITLAB, GITLAB_FLEET, OURS, OWN, ROOT, SLURM, WORKFLOWS, read, steps_of

HOOKS = ROOT / ".pre-commit-hooks.yaml"
PAGES = [ROOT / "docs" / "how-to" / name for name in ("github-actions.md", "gitlab.md", "before-a-push.md", "fleet.md")]
PINNED = re.compile(r"uses: (?P<action>\S+)@(?P<commit>[0-9a-f]{40}) # v\d+\.\d+\.\d+(?:: .*)?")
NOT_RELEASED = "0" * 40  # stands for the commit of a release of this project

# actionlint's own list of keys ends before the one that GitHub added in May 2026. Its values are checked below.
NOT_KNOWN_TO_ACTIONLINT = 'unexpected key "queue" for "concurrency" section'


def tool(name: str) -> str:
    """A program of the environment that runs this suite, or of PATH."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed here; `make test` installs it (tests/requirements.txt)")
    return found


def check(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=folder, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8")


def init_writes(forge: str, folder: Path) -> list[Path]:
    """What init writes for a plain project at the top of its repository, and for one with all that it can name, in a folder of it."""
    rich = Home(
        requirements=("requirements.txt",), extras=frozenset({"test"}), groups=frozenset({"dev"}), pythons=">=3.13", installable=True
    )
    paths = []
    for name, home, inside in (("energy-init.yml", Home(), ""), ("energy-init-inside.yml", rich, "apps/shop")):
        paths.append(folder / f"{forge}-{name}" if forge == "GitLab" else folder / name)
        paths[-1].write_text(pipeline(home, Remote(forge, "", folder, inside), LIBRARIES[-1] if inside else PLAIN), encoding="utf-8")
    return paths


@pytest.fixture
def init_workflows(tmp_path: Path) -> list[Path]:
    return init_writes("GitHub", tmp_path)


@pytest.fixture
def everything(init_workflows: list[Path]) -> list[Path]:
    return [ACTION, *WORKFLOWS, *OURS, *init_workflows]


@pytest.fixture
def project(tmp_path: Path, init_workflows: list[Path]) -> Path:
    """A repository that has the workflows where GitHub looks, and this action as its own, so that actionlint knows the action's inputs."""
    folder = tmp_path / "project"
    (folder / ".github" / "workflows").mkdir(parents=True)
    git(folder, "init", "-q")
    shutil.copyfile(ACTION, folder / "action.yml")
    # As the page on GitHub Actions says: the labels of one's own runners are not GitHub's.
    (folder / ".github" / "actionlint.yaml").write_text("self-hosted-runner:\n  labels: [gpu]\n", encoding="utf-8")
    for path in [*WORKFLOWS, *OURS, *init_workflows]:
        text = re.sub(rf"uses: {OWN}@\S+", "uses: ./", path.read_text(encoding="utf-8"))
        (folder / ".github" / "workflows" / path.name).write_text(text, encoding="utf-8")
    return folder


# --- Linters -------------------------------------------------------------------------------------------------------------------------


def actionlint(project: Path) -> subprocess.CompletedProcess[str]:
    # Without shellcheck and pyflakes: what they find depends on the machine's versions of them, and the scripts are run by other tests.
    return check(
        tool("actionlint"), "-no-color", "-shellcheck=", "-pyflakes=", "-ignore", re.escape(NOT_KNOWN_TO_ACTIONLINT), folder=project
    )


def test_actionlint_finds_nothing(project: Path) -> None:
    done = actionlint(project)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        ("baseline: main", "base-line: main", '"base-line" is not defined'),
        ("needs: changes\n", "needs: change\n", "change"),
        ("steps.decide.outputs.needed", "steps.decided.outputs.needed", "decided"),
    ],
    ids=["an unknown input of the action", "an unknown job", "an unknown step"],
)
def test_actionlint_would_find_a_mistake(project: Path, right: str, wrong: str, words: str) -> None:
    path = project / ".github" / "workflows" / "energy-gpu.yml"
    text = path.read_text(encoding="utf-8")
    assert right in text
    path.write_text(text.replace(right, wrong), encoding="utf-8")
    done = actionlint(project)
    assert done.returncode == 1
    assert words in done.stdout


def zizmor(*paths: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    words = (tool("zizmor"), "--offline", "--no-progress", "--no-config", "--persona=pedantic", "--color=never", "--format=plain")
    return check(*words, *map(str, paths), folder=folder)


def test_zizmor_finds_nothing(everything: list[Path], tmp_path: Path) -> None:
    done = zizmor(*everything, folder=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "No findings to report" in done.stdout


@pytest.mark.parametrize(
    ("right", "wrong", "audit"),
    [
        ('"$PYTHON" -m pytest "${args[@]}"', '"$PYTHON" -m pytest ${{ inputs.pytest-args }}', "template-injection"),
        ("actions/setup-python@a309ff8b426b58ec0e2a45f0f869d46889d02405 # v6.2.0", "actions/setup-python@v6", "unpinned-uses"),
    ],
)
def test_zizmor_would_find_a_hole(tmp_path: Path, right: str, wrong: str, audit: str) -> None:
    text = ACTION.read_text(encoding="utf-8")
    assert right in text
    (tmp_path / "action.yml").write_text(text.replace(right, wrong), encoding="utf-8")
    done = zizmor(tmp_path / "action.yml", folder=tmp_path)
    assert done.returncode != 0
    assert audit in done.stdout


# --- Schemas -------------------------------------------------------------------------------------------------------------------------


def check_schema(name: str, *paths: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    if importlib.util.find_spec("check_jsonschema") is None:
        pytest.skip("check-jsonschema is not installed here; `make test` installs it (tests/requirements.txt)")
    words = (sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{name}", "--color", "never")
    return check(*words, *map(str, paths), folder=folder)


def test_every_file_follows_the_schema_of_its_kind(tmp_path: Path, init_workflows: list[Path]) -> None:
    kinds = {
        "github-actions": [ACTION],
        "github-workflows": [*WORKFLOWS, *OURS, *init_workflows],
        "gitlab-ci": [GITLAB, GITLAB_FLEET, *init_writes("GitLab", tmp_path)],
    }
    for name, paths in kinds.items():
        done = check_schema(name, *paths, folder=tmp_path)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("name", "path", "right", "wrong"),
    [
        ("github-actions", ACTION, "using: composite", "using: composed"),
        ("github-workflows", WORKFLOWS[0], "runs-on:", "run-on:"),
        ("gitlab-ci", GITLAB, "when: always # a red", "when: allways # a red"),
    ],
)
def test_the_schemas_would_find_a_mistake(tmp_path: Path, name: str, path: Path, right: str, wrong: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert right in text
    (tmp_path / path.name).write_text(text.replace(right, wrong), encoding="utf-8")
    assert check_schema(name, tmp_path / path.name, folder=tmp_path).returncode == 1


# --- Pins, permissions, scripts ------------------------------------------------------------------------------------------------------


def test_every_action_is_pinned_to_a_commit_with_its_version_beside_it(everything: list[Path]) -> None:
    commits: dict[str, set[str]] = {}
    for path in [*everything, *PAGES]:
        for line in re.findall(r"uses: .*", path.read_text(encoding="utf-8")):
            found = PINNED.fullmatch(line)
            assert found, f"{path.name}: {line}"
            commits.setdefault(found["action"].split("/restore")[0].split("/save")[0], set()).add(found["commit"])
    # One version of each, wherever it is used; and only our own, which has no release yet, is left to be filled in.
    assert {action: len(found) for action, found in commits.items()} == dict.fromkeys(commits, 1)
    assert {action for action, found in commits.items() if found == {NOT_RELEASED}} == {OWN}
    assert len(commits) >= 5


def test_the_code_that_may_write_comments_is_pinned_as_well() -> None:
    (own,) = [
        each
        for _, each in steps_of(read(ROOT / "examples" / "github" / "energy-comment.yml"))
        if each.get("with", {}).get("repository") == OWN
    ]
    assert own["with"]["ref"] == NOT_RELEASED


def test_no_expression_stands_in_a_script_and_every_shell_is_named(everything: list[Path]) -> None:
    for path in everything:
        for _, each in steps_of(read(path)):
            assert "${{" not in each.get("run", ""), f"{path.name}: {each}"
            if "\n" in each.get("run", ""):
                assert each["shell"] in ("bash", "python"), f"{path.name}: {each}"
                assert each["shell"] == "python" or each["run"].startswith("set -euo pipefail\n"), f"{path.name}: {each}"


PERMISSIONS = {
    "energy-gpu.yml": {"changes": {"contents": "read"}, "approval": {"actions": "read"}, "gate": {"contents": "read"}, "energy": {}},
    "energy-hosted.yml": {"energy": {"contents": "read"}},
    "energy-fleet.yml": {"part": {"contents": "read"}, "energy": {"contents": "read"}},
    "energy-comment.yml": {"render": {"actions": "read"}, "comment": {"pull-requests": "write"}},
    "energy-init.yml": {"energy": {"contents": "read"}},
    "energy-init-inside.yml": {"energy": {"contents": "read"}},
    "ci.yml": {"checks": {"contents": "read"}, "matrix": {"contents": "read"}},
    "dependency-review.yml": {"review": {"contents": "read"}},
    "release.yml": {
        "build": {"contents": "read"},
        "test": {"contents": "read"},
        "attest": {"id-token": "write", "attestations": "write"},
        "publish": {"id-token": "write"},
    },
}


def test_no_job_has_a_permission_more_than_it_needs(everything: list[Path]) -> None:
    for path in everything[1:]:
        workflow = read(path)
        assert workflow["permissions"] == {}, path.name
        assert {name: job["permissions"] for name, job in workflow["jobs"].items()} == PERMISSIONS[path.name]


def test_no_job_can_hang_for_hours_and_no_checkout_keeps_its_token(everything: list[Path]) -> None:
    for path in everything[1:]:
        workflow = read(path)
        assert all(job["timeout-minutes"] <= 60 for job in workflow["jobs"].values()), path.name
        for _, each in steps_of(workflow):
            if each.get("uses", "").startswith("actions/checkout@"):
                assert each["with"]["persist-credentials"] is False, path.name


def concurrencies(data: Any) -> Iterator[dict[str, Any]]:
    if isinstance(data, dict):
        for key, value in data.items():
            if key == "concurrency":
                yield value
            yield from concurrencies(value)


def test_queues_have_values_that_github_knows() -> None:
    """actionlint does not check them yet: single or max, and max never where a newer run ends the one in progress."""
    found = [each for path in WORKFLOWS for each in concurrencies(read(path)) if "queue" in each]
    assert found
    assert all(each["queue"] in ("single", "max") and each["cancel-in-progress"] is False for each in found)


def test_the_comment_runs_no_code_of_the_pull_request() -> None:
    workflow = read(ROOT / "examples" / "github" / "energy-comment.yml")
    assert list(workflow[True]) == ["workflow_run"]  # YAML 1.1 reads the key `on` as true
    assert workflow[True]["workflow_run"]["workflows"] == [read(ROOT / "examples" / "github" / "energy-gpu.yml")["name"]]
    checkouts = [each for _, each in steps_of(workflow) if each.get("uses", "").startswith("actions/checkout@")]
    assert [each["with"]["repository"] for each in checkouts] == [OWN]
    assert "head_sha" not in str(checkouts)


# --- Our own: checks, and the release ------------------------------------------------------------------------------------------------


def test_a_release_is_built_once_and_nothing_that_was_not_tested_and_attested_is_uploaded() -> None:
    workflow = read(ROOT / ".github" / "workflows" / "release.yml")
    jobs = workflow["jobs"]
    assert workflow[True] == {"push": {"tags": ["v*"]}}
    assert {name: job.get("needs") for name, job in jobs.items()} == {
        "build": None,
        "test": "build",
        "attest": ["build", "test"],
        "publish": "attest",
    }
    (publish,) = [each for each in jobs["publish"]["steps"] if each["uses"].startswith("pypa/")]
    assert "with" not in publish  # no token: trusted publishing, by this environment alone
    assert jobs["publish"]["environment"] == "pypi"
    assert "secrets." not in str(workflow)
    assert [name for name, job in jobs.items() if "id-token" in job["permissions"]] == ["attest", "publish"]
    assert not any("run" in each for name in ("attest", "publish") for each in jobs[name]["steps"])  # whoever may sign runs no code of ours


def test_our_checks_are_those_that_anybody_runs_and_the_matrix_is_that_of_nox() -> None:
    jobs = read(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]
    assert [each["run"] for each in jobs["checks"]["steps"] if "run" in each] == ["bash .ci/run"]
    done = check(tool("nox"), "--list", "--sessions", *jobs["matrix"]["strategy"]["matrix"]["session"], folder=ROOT)
    assert done.returncode == 0, done.stdout


FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.name)
def test_every_issue_form_asks_for_what_doctor_says(form: Path) -> None:
    data = read(form)
    assert {"name", "description", "body"} <= data.keys()
    fields = {each["id"]: each for each in data["body"]}
    assert len(fields) == len(data["body"])
    assert fields["doctor"]["attributes"]["label"] == "greencompute doctor --json"
    assert fields["doctor"]["attributes"]["render"] == "json"


# --- action.yml ----------------------------------------------------------------------------------------------------------------------


def test_every_input_of_the_action_is_described_used_and_optional() -> None:
    action = read(ACTION)
    text = ACTION.read_text(encoding="utf-8").split("runs:\n", 1)[1]
    for name, given in action["inputs"].items():
        assert given["description"].strip(), name
        assert isinstance(given["default"], str), name
        assert re.search(rf"inputs\.{name}\b(?!-)", text), name
    assert {name: value for name, value in action["inputs"].items() if value.get("required")} == {}


def test_the_outputs_that_the_plugin_writes_are_passed_through() -> None:
    outputs = {name: given["value"] for name, given in read(ACTION)["outputs"].items()}
    for name in ("verdict", "energy_j", "worst_regression"):
        assert outputs[name] == f"${{{{ steps.pytest.outputs.{name} }}}}"


def test_reports_are_uploaded_red_or_green_and_baselines_saved_by_the_decision_of_the_first_step_alone() -> None:
    by_name = {each["name"]: each for _, each in steps_of(read(ACTION))}
    assert by_name["Upload the reports"]["if"].startswith("${{ always() && inputs.upload == 'true'")
    saving = [name for name, each in by_name.items() if each.get("uses", "").startswith("actions/cache/save@")]
    assert saving == ["Save the baseline"]
    assert by_name["Save the baseline"]["if"] == "${{ !cancelled() && steps.plan.outputs.save == 'true' }}"
    restored, saved = by_name["Restore the baseline"]["with"], by_name["Save the baseline"]["with"]
    assert restored["path"] == saved["path"]  # the path is part of a cache's identity
    assert restored["key"] == saved["key"]
    assert restored["key"].startswith(restored["restore-keys"].strip())


# --- GitLab --------------------------------------------------------------------------------------------------------------------------


def test_the_gitlab_job_has_what_a_gate_needs() -> None:
    job = read(GITLAB)["energy"]
    assert job["tags"] == ["gpu"]
    assert job["resource_group"] == "gpu-host-1"
    assert job["variables"]["GIT_DEPTH"] == "0"
    assert "allow_failure" not in job
    assert [rule["if"] for rule in job["rules"]] == [
        '$CI_PIPELINE_SOURCE == "merge_request_event"',
        "$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH",
    ]
    assert job["artifacts"]["when"] == "always"
    assert job["artifacts"]["reports"] == {"junit": "energy/junit.xml", "metrics": "energy/metrics.txt"}
    assert job["cache"] == {
        "key": "greencompute-gpu-host-1",
        "paths": [".greencompute/baselines"],
        "policy": "$ENERGY_CACHE",
        "when": "always",
        "unprotect": True,
    }


def test_the_gitlab_job_that_init_writes_can_turn_a_merge_request_red(tmp_path: Path) -> None:
    ((_, plain),), ((name, inside),) = (read(path).items() for path in init_writes("GitLab", tmp_path))
    assert name == "energy-apps-shop-budget"  # each project of a repository has its own
    for job in (plain, inside):
        assert "allow_failure" not in job
        assert [rule["if"] for rule in job["rules"]] == [rule["if"] for rule in read(GITLAB)["energy"]["rules"]]
        assert "--energy-budget" in job["script"][-1]
        assert job["artifacts"]["when"] == "always"
        assert "${" not in str(job["script"])
    assert (plain["image"], plain["artifacts"]["reports"]) == ("python:3.12", {"junit": "energy-junit.xml"})
    assert (inside["image"], inside["artifacts"]["paths"]) == ("python:3.13", ["apps/shop/energy.json"])
    assert inside["script"][0] == (
        "cd apps/shop && python -m pip install 'pip>=25.1'"
        " && python -m pip install 'pytest-greencompute[serving]' -e '.[test]' --group dev -r requirements.txt"
    )


# --- A fleet -------------------------------------------------------------------------------------------------------------------------


def test_the_gathering_job_always_runs_after_every_part_and_a_red_part_stops_no_other() -> None:
    jobs = read(ROOT / "examples" / "github" / "energy-fleet.yml")["jobs"]
    assert (jobs["energy"]["needs"], jobs["energy"]["if"]) == ("part", "${{ always() }}")
    assert jobs["part"]["strategy"]["fail-fast"] is False
    assert jobs["part"]["concurrency"] == {"group": "gpu-host-${{ matrix.host }}", "cancel-in-progress": False, "queue": "max"}
    part, energy = (read(GITLAB_FLEET)[name] for name in ("energy-part", "energy"))
    assert (part["allow_failure"], part["resource_group"], part["artifacts"]["when"]) == (True, "gpu-host-$HOST", "always")
    assert energy["needs"] == [{"job": "energy-part", "artifacts": True}]
    assert [rule["when"] for rule in energy["rules"]] == ["always"]
    assert "allow_failure" not in energy


@pytest.mark.parametrize("script", SLURM, ids=lambda path: path.name)
def test_the_scripts_for_slurm_run_the_gate_and_hand_its_status_on(script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = tmp_path / "python"
    stand_in.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > asked\nexit 3\n', encoding="utf-8")
    stand_in.chmod(0o755)
    for name, value in {"PYTHON": stand_in, "SLURM_SUBMIT_DIR": tmp_path, "SLURM_ARRAY_JOB_ID": 7, "SLURM_ARRAY_TASK_ID": 2}.items():
        monkeypatch.setenv(name, str(value))
    done = check("bash", str(script), folder=tmp_path)
    assert done.returncode == 3, done.stdout
    asked = (tmp_path / "asked").read_text(encoding="utf-8").split()
    if script.name == "energy-part.sbatch":
        assert asked == ["-m", "pytest", "--energy-budget", "--energy-only", "--energy-json=parts/7-2.json"]
        assert (tmp_path / "parts").is_dir()
    else:
        assert asked[:4] == ["-m", "pytest_greencompute.cli", "gather", "parts"]
    assert len(SLURM) == 2


# --- Before a push -------------------------------------------------------------------------------------------------------------------


def test_the_pre_commit_hook_is_valid_and_measures_at_a_push() -> None:
    done = check(tool("pre-commit"), "validate-manifest", str(HOOKS), folder=ROOT)
    assert done.returncode == 0, done.stdout
    (hook,) = yaml.safe_load(HOOKS.read_text(encoding="utf-8"))
    wanted = {"id": "energy-budget", "language": "system", "entry": "pytest --energy-budget --energy-only", "stages": ["pre-push"]}
    assert {key: hook[key] for key in wanted} == wanted
    assert (hook["pass_filenames"], hook["always_run"]) == (False, True)


@pytest.mark.parametrize("status", [0, 1, 5])
def test_a_push_runs_the_hook_and_a_red_gate_stops_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """A real push, by way of the real pre-commit, with a stand-in for pytest that writes down what it was asked."""
    pre_commit = tool("pre-commit")
    plugin, project, server, bin_ = (tmp_path / name for name in ("plugin", "project", "server.git", "bin"))
    for folder in (plugin, project, server, bin_):
        folder.mkdir()
    for name in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("PRE_COMMIT_HOME", str(tmp_path / "cache"))
    shutil.copyfile(HOOKS, plugin / HOOKS.name)
    git(plugin, "init", "-q")
    git(plugin, "add", ".")
    git(plugin, "commit", "-qm", "hooks")
    log = tmp_path / "asked"
    (bin_ / "pytest").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{log}"\nexit {status}\n', encoding="utf-8")
    (bin_ / "pytest").chmod(0o755)
    monkeypatch.setenv("PATH", str(bin_), prepend=":")
    config = f"""
        repos:
          - repo: {plugin.as_uri()}
            rev: {git(plugin, "rev-parse", "HEAD")}
            hooks:
              - id: energy-budget
                args: [--energy-base-ref, "merge-base:origin/main"]
    """
    git(server, "init", "-q", "--bare")
    git(project, "init", "-q")
    (project / ".pre-commit-config.yaml").write_text(textwrap.dedent(config), encoding="utf-8")
    git(project, "add", ".")
    git(project, "commit", "-qm", "first")
    git(project, "remote", "add", "origin", server.as_uri())
    done = check(pre_commit, "install", "--hook-type", "pre-push", folder=project)
    assert done.returncode == 0, done.stdout
    assert not log.exists()
    pushed = check("git", "push", "origin", "HEAD:refs/heads/main", folder=project)
    assert log.exists(), pushed.stdout
    assert log.read_text(encoding="utf-8").split() == ["--energy-budget", "--energy-only", "--energy-base-ref", "merge-base:origin/main"]
    assert (pushed.returncode == 0) == (status == 0), pushed.stdout
    assert "energy budgets" in pushed.stdout


# --- The pages -----------------------------------------------------------------------------------------------------------------------


def snippets(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def test_the_snippets_of_the_pages_can_be_read() -> None:
    import tomli

    counted = 0
    for page in PAGES:
        for text in snippets(page, "yaml"):
            assert yaml.safe_load(textwrap.dedent(text))
            counted += 1
        for text in snippets(page, "toml"):
            assert tomli.loads(text)
            counted += 1
        for text in snippets(page, "python"):
            compile(text, page.name, "exec")
            counted += 1
    assert counted >= 6


def test_every_message_that_the_page_explains_is_one_that_the_action_prints() -> None:
    text = ACTION.read_text(encoding="utf-8")
    table = PAGES[0].read_text(encoding="utf-8").split("## When something is in the way", 1)[1]
    named = [words.split(" …")[0] for words in re.findall(r"^\| `([^`]+)` \|", table, flags=re.MULTILINE)]
    assert len(named) >= 4
    for words in named:
        # That of the plugin is in its own page.
        assert words in text or words == "environment changes are not compared", words


def test_the_workflow_that_init_writes_uploads_its_report_red_or_green(init_workflows: list[Path]) -> None:
    workflow = read(init_workflows[0])
    assert workflow[True] == "pull_request"
    (upload,) = [each for _, each in steps_of(workflow) if each.get("uses", "").startswith("actions/upload-artifact@")]
    assert upload["if"] == "always()"
