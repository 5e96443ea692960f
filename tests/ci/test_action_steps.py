"""The shell steps of action.yml, run by bash as a runner runs them: in scratch repositories, with stand-ins for Python where it matters."""

from __future__ import annotations

import ast
import json
import os
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.ci.conftest import Hub, git
from tests.ci.steps import ACTION, ROOT, Done, Runner, step

PLAN = step(ACTION, "plan")
INSTALL = step(ACTION, "install")
MEASURE = step(ACTION, "pytest")
KEEP = step(ACTION, "Keep the newest runs of the baseline")

NO_SUCH_COMMIT = "deadbeef" * 5

# Each must come through as one plain word, or be refused, and never be run. `pwned` is what a test looks for.
HOSTILE = [
    "$(touch pwned)",
    "`touch pwned`",
    "; touch pwned",
    "&& touch pwned",
    "a b",
    "'",
    '"',
    "*",
    "-h",
    "${{ 1 }}",
    "$HOME",
    "\\",
    "ä\t",
]


def plan(runner: Runner, event: str, **more: str) -> Done:
    """The step "plan" for an event. ``more`` are its other values, by name, and GITHUB_SHA."""
    values = dict.fromkeys(("BASE_REF", "BASELINE", "PULL_BASE", "GROUP_BASE", "TOKEN"), "")
    values |= {"EVENT": event, "REF": "refs/pull/7/merge", "DEFAULT_BRANCH": "main"}
    also: dict[str, str] = {name: more.pop(name) for name in ("GITHUB_SHA", "GITHUB_SERVER_URL") if name in more}
    return runner.run(PLAN, values | more, also=also)


def test_every_script_of_the_action_stops_at_its_first_error() -> None:
    for each in (PLAN, INSTALL, MEASURE, KEEP):
        assert each.shell == "bash"
        assert each.script.startswith("set -euo pipefail\n"), each.where


# --- What a pull request is compared with --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, 0])
def test_a_pull_requests_merge_is_compared_with_its_first_parent_and_not_with_the_older_base_of_the_event(
    runner: Runner, hub: Hub, depth: int
) -> None:
    hub.checkout(runner.workspace, hub.merge, depth=depth)
    done = plan(runner, "pull_request", PULL_BASE=hub.old_base, GITHUB_SHA=hub.merge)
    assert done.status == 0, done.printed
    assert done.outputs == {"base": hub.base, "save": "false", "reports": str(runner.temp / "greencompute-reports")}
    assert git(runner.workspace, "cat-file", "-t", hub.base) == "commit"
    assert git(runner.workspace, "rev-parse", "--is-shallow-repository") == ("true" if depth else "false")


def test_a_pull_requests_head_is_compared_with_the_base_of_the_event(runner: Runner, hub: Hub) -> None:
    hub.checkout(runner.workspace, hub.head)
    done = plan(runner, "pull_request", PULL_BASE=hub.base, GITHUB_SHA=hub.merge)
    assert done.status == 0, done.printed
    assert done.outputs["base"] == hub.base
    assert git(runner.workspace, "cat-file", "-t", hub.base) == "commit"


def test_a_head_that_is_a_merge_itself_is_not_mistaken_for_the_pull_requests_merge(runner: Runner, hub: Hub) -> None:
    hub.checkout(runner.workspace, hub.merge)
    done = plan(runner, "pull_request", PULL_BASE=hub.old_base, GITHUB_SHA=hub.head)
    assert done.status == 0, done.printed
    assert done.outputs["base"] == hub.old_base


def test_a_merge_group_is_compared_with_what_it_builds_on(runner: Runner, hub: Hub) -> None:
    hub.checkout(runner.workspace, hub.merge)
    done = plan(runner, "merge_group", GROUP_BASE=hub.base, GITHUB_SHA=hub.merge, REF="refs/heads/gh-readonly-queue/main/pr-7")
    assert done.status == 0, done.printed
    assert done.outputs["base"] == hub.base
    assert git(runner.workspace, "cat-file", "-t", hub.base) == "commit"


@pytest.mark.parametrize("event", ["push", "schedule", "workflow_dispatch", "pull_request_target", "workflow_run"])
def test_other_events_are_compared_with_nothing(runner: Runner, hub: Hub, event: str) -> None:
    hub.checkout(runner.workspace, hub.base)
    done = plan(runner, event, REF="refs/heads/main", GITHUB_SHA=hub.base)
    assert done.status == 0, done.printed
    assert done.outputs["base"] == ""
    assert "compared with: no other commit" in done.printed


def test_base_ref_none_switches_the_comparison_off_and_needs_no_checkout(runner: Runner) -> None:
    done = plan(runner, "pull_request", BASE_REF="none", PULL_BASE=NO_SUCH_COMMIT, GITHUB_SHA=NO_SUCH_COMMIT)
    assert done.status == 0, done.printed
    assert done.outputs["base"] == ""


@pytest.mark.parametrize("ref", ["v1.4", "merge-base:origin/main,v1.4", "$(touch${IFS}pwned)", "-x", "';'"])
def test_a_base_ref_of_ones_own_is_handed_on_as_it_is(runner: Runner, ref: str) -> None:
    done = plan(runner, "pull_request", BASE_REF=ref, PULL_BASE=NO_SUCH_COMMIT, GITHUB_SHA=NO_SUCH_COMMIT)
    assert done.status == 0, done.printed
    assert done.outputs["base"] == ref
    assert not (runner.workspace / "pwned").exists()


# --- What cannot be compared is red --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("event", "name"), [("pull_request", "PULL_BASE"), ("merge_group", "GROUP_BASE")])
def test_a_base_that_cannot_be_fetched_is_red_with_a_remedy(runner: Runner, hub: Hub, event: str, name: str) -> None:
    hub.checkout(runner.workspace, hub.head)
    done = plan(runner, event, GITHUB_SHA=hub.merge, **{name: NO_SUCH_COMMIT})
    assert done.status == 1
    assert f"::error title=energy::The base commit {NO_SUCH_COMMIT} is not in this clone and could not be fetched" in done.printed
    assert "fetch-depth: 2" in done.printed
    assert done.outputs == {}


@pytest.mark.parametrize("event", ["pull_request", "merge_group"])
def test_an_event_without_a_base_is_red(runner: Runner, hub: Hub, event: str) -> None:
    hub.checkout(runner.workspace, hub.head)
    done = plan(runner, event, GITHUB_SHA=hub.merge)
    assert done.status == 1
    assert f"::error title=energy::This {event} event names no base commit." in done.printed


def test_a_folder_without_a_checkout_is_red_with_a_remedy(runner: Runner, hub: Hub) -> None:
    done = plan(runner, "pull_request", PULL_BASE=hub.base, GITHUB_SHA=hub.merge)
    assert done.status == 1
    assert "Run actions/checkout before this action" in done.printed


def test_a_base_ref_with_white_space_is_refused_since_a_line_break_would_be_another_output(runner: Runner) -> None:
    for ref in ("main\nsave=true", "main v1", "a\tb", "a\rb"):
        done = plan(runner, "push", BASE_REF=ref)
        assert done.status == 1
        assert "::error title=energy::The input base-ref holds white space." in done.printed
        assert done.outputs == {}


# --- The token -----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def refusing_server() -> Iterator[tuple[str, list[list[str]]]]:
    """A server that refuses everything; its address, and the Authorization headers of each request."""
    seen: list[list[str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get_all("Authorization", []))
            self.send_error(404)

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", seen
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("kept", [False, True], ids=["persist-credentials: false", "persist-credentials: true"])
def test_the_token_is_sent_once_for_the_fetch_and_stored_nowhere(
    runner: Runner, hub: Hub, refusing_server: tuple[str, list[list[str]]], kept: bool
) -> None:
    url, seen = refusing_server
    hub.checkout(runner.workspace, hub.head)
    git(runner.workspace, "remote", "set-url", "origin", f"{url}/owner/repository.git")
    if kept:
        git(runner.workspace, "config", f"http.{url}/.extraheader", "AUTHORIZATION: basic a2VwdA==")
    before = (runner.workspace / ".git" / "config").read_text(encoding="utf-8")
    done = plan(runner, "pull_request", PULL_BASE=NO_SUCH_COMMIT, GITHUB_SHA=hub.merge, TOKEN="s3cret", GITHUB_SERVER_URL=url)
    assert done.status == 1
    assert seen == [["basic eC1hY2Nlc3MtdG9rZW46czNjcmV0"]]  # x-access-token:s3cret
    assert (runner.workspace / ".git" / "config").read_text(encoding="utf-8") == before
    assert "s3cret" not in done.printed
    assert done.printed.count("eC1hY2Nlc3MtdG9rZW46czNjcmV0") == done.printed.count("::add-mask::eC1hY2Nlc3MtdG9rZW46czNjcmV0") == 1


# --- Baselines -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "ref", "saves"),
    [
        ("push", "refs/heads/main", True),
        ("schedule", "refs/heads/main", True),
        ("workflow_dispatch", "refs/heads/main", True),
        ("push", "refs/heads/topic", False),
        ("push", "refs/tags/main", False),
        ("workflow_dispatch", "refs/heads/topic", False),
        ("merge_group", "refs/heads/gh-readonly-queue/main/pr-7", False),
        # Both run what somebody else wrote, with the name of the default branch.
        ("pull_request_target", "refs/heads/main", False),
        ("workflow_run", "refs/heads/main", False),
    ],
)
def test_only_runs_of_the_default_branch_are_saved(runner: Runner, event: str, ref: str, saves: bool) -> None:
    done = plan(runner, event, REF=ref, BASELINE="main", BASE_REF="none")
    assert done.status == 0, done.printed
    assert done.outputs["save"] == str(saves).lower()


def test_without_a_baseline_or_a_known_default_branch_nothing_is_saved(runner: Runner) -> None:
    assert plan(runner, "push", REF="refs/heads/main").outputs["save"] == "false"
    assert plan(runner, "push", REF="refs/heads/", BASELINE="main", DEFAULT_BRANCH="").outputs["save"] == "false"


@pytest.mark.parametrize("name", [*HOSTILE, "../main", ".", "..", ".git", "a/b", "a\nb", "-x"])
def test_a_name_that_leads_elsewhere_cannot_name_a_baseline(runner: Runner, name: str) -> None:
    done = plan(runner, "push", BASELINE=name)
    assert done.status == 1
    assert '::error title=energy::The input baseline cannot name a baseline. Use letters, digits, ".", "-" and "_".' in done.printed
    assert not (runner.workspace / "pwned").exists()


def test_reports_of_an_earlier_step_are_not_uploaded_again(runner: Runner) -> None:
    old = runner.temp / "greencompute-reports" / "energy.json"
    old.parent.mkdir()
    old.write_text("{}", encoding="utf-8")
    assert plan(runner, "push").status == 0
    assert old.parent.is_dir()
    assert not old.exists()


def test_the_newest_runs_are_kept_and_nothing_else_is_touched(runner: Runner) -> None:
    folder = runner.workspace / ".greencompute" / "baselines" / "main"
    folder.mkdir(parents=True)
    names = [f"202611{day:02}T203846Z.json" for day in range(1, 10)]
    for name in [*names, "notes.txt"]:
        (folder / name).write_text("", encoding="utf-8")
    done = runner.run(KEEP, {"BASELINE": "main"}, also={"KEPT": "3"})
    assert done.status == 0, done.printed
    assert sorted(path.name for path in folder.iterdir()) == [*names[-3:], "notes.txt"]
    assert runner.run(KEEP, {"BASELINE": "other"}).status == 0  # nothing was saved under it


# --- Installing ----------------------------------------------------------------------------------------------------------------------

# Stands for the runner's Python, which is in no virtual environment: pip and venv are written down, everything else is the real one's.
PYTHON = f"""
import os, pathlib, shutil, subprocess, sys
words = sys.argv[1:]
log = pathlib.Path({{log!r}})
if words[:2] == ["-m", "pip"]:
    with log.open("a", encoding="utf-8") as file:
        file.write(repr([sys.argv[0], *words[2:]]) + "\\n")
elif words[:3] == ["-I", "-m", "venv"]:
    inner = pathlib.Path(words[-1]) / "bin" / "python"
    inner.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(sys.argv[0], inner)
elif "sys.prefix != sys.base_prefix" in words[-1]:
    sys.exit(0)
elif "sys.executable" in words[-1]:
    print(sys.argv[0])
else:
    sys.exit(subprocess.call([{sys.executable!r}, *words]))
"""


def install(runner: Runner, *, requirements: str = "", requirement: str = "") -> tuple[Done, list[list[str]]]:
    """The step "install", and the calls of pip: the Python that ran it, then the words."""
    log = runner.temp / "pip.log"
    log.write_text("", encoding="utf-8")
    runner.stand_in("python", PYTHON.replace("{log!r}", repr(str(log))))
    done = runner.run(INSTALL, {"REQUIREMENTS": requirements, "REQUIREMENT": requirement})
    return done, [ast.literal_eval(line) for line in log.read_text(encoding="utf-8").splitlines()]


def test_the_plugin_is_installed_from_the_actions_own_commit_into_an_environment_of_the_job(runner: Runner) -> None:
    done, calls = install(runner)
    assert done.status == 0, done.printed
    python = str(runner.temp / "greencompute-venv" / "bin" / "python")
    assert calls == [[python, "install", "--", f"{ROOT}[report,openmetrics]"]]
    assert done.outputs == {"python": python}


def test_the_projects_requirements_are_resolved_together_with_the_plugin(runner: Runner) -> None:
    (runner.workspace / "needs.txt").write_text("", encoding="utf-8")
    done, calls = install(runner, requirements="needs.txt", requirement="pytest-greencompute[report,openmetrics]==0.1.0")
    assert done.status == 0, done.printed
    assert [call[1:] for call in calls] == [["install", "--requirement=needs.txt", "--", "pytest-greencompute[report,openmetrics]==0.1.0"]]


def test_requirement_none_installs_no_plugin(runner: Runner) -> None:
    assert install(runner, requirement="none")[1] == []
    (runner.workspace / "needs.txt").write_text("", encoding="utf-8")
    _, calls = install(runner, requirements="needs.txt", requirement="none")
    assert [call[1:] for call in calls] == [["install", "--requirement=needs.txt"]]


def test_a_requirements_file_that_is_not_there_is_red(runner: Runner) -> None:
    done, calls = install(runner, requirements="requirements.txt")
    assert done.status == 1
    assert "::error title=energy::The input requirements names no file below working-directory." in done.printed
    assert calls == []


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_words_reach_pip_as_one_word_each(runner: Runner, text: str) -> None:
    (runner.workspace / text).write_text("", encoding="utf-8")
    done, calls = install(runner, requirements=text, requirement=text)
    assert done.status == 0, done.printed
    assert [call[1:] for call in calls] == [["install", f"--requirement={text}", "--", text]]
    assert not (runner.workspace / "pwned").exists()


def test_a_runner_without_a_new_enough_python_is_told_what_to_do(runner: Runner) -> None:
    for name in ("python", "python3"):
        runner.stand_in(name, "raise SystemExit(1)")
    done = runner.run(INSTALL, {"REQUIREMENTS": "", "REQUIREMENT": "none"})
    assert done.status == 1
    assert (
        "::error title=energy::There is no Python 3.10 or newer on this runner. Set the input python-version, or install one."
        in done.printed
    )


def test_where_the_virtual_environment_cannot_be_made_the_remedy_is_said(runner: Runner) -> None:
    runner.stand_in("python", 'import sys\nsys.exit("no ensurepip" if "venv" in sys.argv else 0)')
    done = runner.run(INSTALL, {"REQUIREMENTS": "", "REQUIREMENT": "none"})
    assert done.status == 1
    assert "Install its venv module (Debian, Ubuntu: python3-venv), or set the input python-version." in done.printed


def test_a_real_environment_sees_the_packages_below_it_and_one_that_is_active_is_used_as_it_is(runner: Runner) -> None:
    below = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    (runner.bin / "python").symlink_to(below)
    first = runner.run(INSTALL, {"REQUIREMENTS": "", "REQUIREMENT": "none"})
    assert first.status == 0, first.printed
    made = Path(first.outputs["python"])
    assert made == runner.temp / "greencompute-venv" / "bin" / "python"
    assert "include-system-site-packages = true" in (made.parents[1] / "pyvenv.cfg").read_text(encoding="utf-8")
    second = runner.run(INSTALL, {"REQUIREMENTS": "", "REQUIREMENT": "none"}, also={"PATH": f"{made.parent}:{os.environ['PATH']}"})
    assert second.status == 0, second.printed
    assert second.outputs["python"] == str(made)


# --- Running pytest ------------------------------------------------------------------------------------------------------------------

# Stands for the Python of the environment: pytest's arguments are written down, everything else is the real one's.
NO_PYTEST = f"""
import os, pathlib, subprocess, sys
if sys.argv[1:3] == ["-m", "pytest"]:
    pathlib.Path({{log!r}}).write_bytes(b"".join(os.fsencode(word) + b"\\0" for word in sys.argv[3:]))
    sys.exit({{status}})
sys.exit(subprocess.call([{sys.executable!r}, *sys.argv[1:]]))
"""


def measure(
    runner: Runner, text: str = "", *, base: str = "", baseline: str = "", save: str = "false", status: int = 0
) -> tuple[Done, list[str]]:
    """The step "pytest", and the arguments that pytest got, without those for the reports."""
    log = runner.temp / "pytest.log"
    log.unlink(missing_ok=True)
    python = runner.stand_in("not-pytest", NO_PYTEST.replace("{log!r}", repr(str(log))).replace("{status}", str(status)))
    reports = runner.temp / "reports"
    values = {"PYTEST_ARGS": text, "BASELINE": baseline, "BASE": base, "SAVE": save, "REPORTS": str(reports), "PYTHON": str(python)}
    done = runner.run(MEASURE, values)
    words = [os.fsdecode(word) for word in log.read_bytes().split(b"\0")[:-1]] if log.exists() else []
    written = [
        f"--energy-json={reports}/energy.json", f"--energy-html={reports}/energy.html", f"--energy-markdown={reports}/energy.md",
        f"--energy-openmetrics={reports}/energy.openmetrics.txt", f"--junitxml={reports}/junit.xml",
    ]  # fmt: skip
    if words:
        assert words[:7] == ["--energy-budget", "--energy-only", *written]
    return done, words[7:]


def test_pytest_gets_the_base_and_the_baseline(runner: Runner) -> None:
    assert measure(runner)[1] == []
    assert measure(runner, base="abc")[1] == ["--energy-base-ref=abc"]
    assert measure(runner, base="abc", baseline="main")[1] == ["--energy-base-ref=abc", "--energy-baseline=main"]
    assert measure(runner, baseline="main", save="true")[1] == ["--energy-save=main"]


def test_a_baseline_that_the_cache_did_not_hold_is_said_aloud(runner: Runner) -> None:
    words = "::warning title=energy::No saved runs of baseline main were found in the cache."
    assert words in measure(runner, baseline="main")[0].printed
    assert words not in measure(runner, baseline="main", save="true")[0].printed
    folder = runner.workspace / ".greencompute" / "baselines" / "main"
    folder.mkdir(parents=True)
    (folder / "20261123T203846Z.json").write_text("{}", encoding="utf-8")
    assert words not in measure(runner, baseline="main")[0].printed


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("  tests/energy   -x  ", ["tests/energy", "-x"]),
        ('-k "small or large" --energy-tolerance="3 %"', ["-k", "small or large", "--energy-tolerance=3 %"]),
        (r"'a b' a\ b \"c", ["a b", "a b", '"c']),
        ("one\ntwo\n", ["one", "two"]),
        ("$(touch pwned)", ["$(touch", "pwned)"]),
        ('"$(touch pwned)" `touch`', ["$(touch pwned)", "`touch`"]),
        ("; touch pwned & | > pwned #x", [";", "touch", "pwned", "&", "|", ">", "pwned", "#x"]),
        ("* ~ $HOME ${PATH} a{b,c} !! ''", ["*", "~", "$HOME", "${PATH}", "a{b,c}", "!!", ""]),
        ("tests/prüfung.py::test[ß-€]", ["tests/prüfung.py::test[ß-€]"]),
    ],
)
def test_arguments_are_split_by_their_quotes_and_nothing_in_them_is_run(runner: Runner, text: str, words: list[str]) -> None:
    done, got = measure(runner, text)
    assert done.status == 0, done.printed
    assert got == words
    assert not (runner.workspace / "pwned").exists()


@pytest.mark.parametrize("text", ["-k 'open", '"', "end\\"])
def test_arguments_with_an_open_quote_are_red_before_anything_is_measured(runner: Runner, text: str) -> None:
    done, words = measure(runner, text)
    assert done.status == 1
    assert "::error title=energy::The input pytest-args cannot be split into words: No " in done.printed
    assert words == []


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_refs_and_names_reach_pytest_as_one_word_each(runner: Runner, text: str) -> None:
    done, words = measure(runner, base=text, baseline=text)
    assert done.status == 0, done.printed
    assert words == [f"--energy-base-ref={text}", f"--energy-baseline={text}"]
    assert not (runner.workspace / "pwned").exists()


@pytest.mark.parametrize("status", [0, 1, 2, 3, 4, 5, 130])
def test_the_exit_status_of_pytest_is_the_steps(runner: Runner, status: int) -> None:
    assert measure(runner, "-x", status=status)[0].status == status


# --- For real ------------------------------------------------------------------------------------------------------------------------

TEST = """
import pytest

def model(batch):
    return [sum(n * n for n in range(4_000 + query)) % 2 for query in batch]

@pytest.mark.energy_budget(energy_per_query="LIMIT")
def test_model(energy_meter):
    assert len(energy_meter.measure(model, list(range(64)), batch_size=8).outputs) == 64
"""
EFFORT = "--energy-meter cputime --energy-max-seconds 30 --energy-tolerance '100 %' -p no:cacheprovider"


def measure_for_real(runner: Runner, base: str) -> tuple[Done, dict[str, Any]]:
    reports = runner.temp / "reports"
    reports.mkdir(exist_ok=True)
    values = {"PYTEST_ARGS": EFFORT, "BASELINE": "", "BASE": base, "SAVE": "false", "REPORTS": str(reports), "PYTHON": sys.executable}
    done = runner.run(MEASURE, values, also={"PYTHONPATH": str(ROOT)})
    return done, json.loads((reports / "energy.json").read_text(encoding="utf-8"))


def test_a_shallow_merge_checkout_is_planned_and_measured_against_its_base(runner: Runner, hub: Hub) -> None:
    for name, text in {"test_model.py": TEST.replace("LIMIT", "50 J"), "pyproject.toml": ""}.items():
        hub.commit(name, text)  # on top of the merge, so that both sides have the test
    base = git(hub.work, "rev-parse", "HEAD")
    git(hub.work, "checkout", "-q", "-b", "third")
    hub.commit("third.py", "")
    git(hub.work, "checkout", "-q", "--detach", base)
    git(hub.work, "merge", "-q", "--no-ff", "-m", "merge", "third")
    merge = git(hub.work, "rev-parse", "HEAD")
    git(hub.work, "push", "-q", str(hub.bare), f"{merge}:refs/pull/9/merge")
    hub.checkout(runner.workspace, merge)
    planned = plan(runner, "pull_request", PULL_BASE=hub.old_base, GITHUB_SHA=merge)
    assert planned.outputs["base"] == base
    done, report = measure_for_real(runner, planned.outputs["base"])
    assert done.status == 0, done.printed
    (run,) = report["runs"]
    assert {(each["kind"], each["verdict"]) for each in run["verdicts"]} == {("budget", "PASS"), ("base_ref", "PASS")}
    assert (runner.temp / "reports" / "junit.xml").is_file()
    assert done.outputs["verdict"] == "PASS"
    assert float(done.outputs["energy_j"]) > 0


def test_a_test_over_its_budget_makes_the_step_red(runner: Runner) -> None:
    for name, text in {"test_model.py": TEST.replace("LIMIT", "1 nJ"), "pyproject.toml": ""}.items():
        (runner.workspace / name).write_text(text, encoding="utf-8")
    done, report = measure_for_real(runner, "")
    assert done.status == 1, done.printed
    assert "over its budget of" in done.printed
    assert report["runs"][0]["verdicts"][0]["verdict"] == "FAIL"
    assert done.outputs["verdict"] == "FAIL"


def test_no_metered_test_at_all_is_red(runner: Runner) -> None:
    values = {"PYTEST_ARGS": EFFORT, "BASELINE": "", "BASE": "", "SAVE": "false", "REPORTS": str(runner.temp), "PYTHON": sys.executable}
    assert runner.run(MEASURE, values, also={"PYTHONPATH": str(ROOT)}).status == pytest.ExitCode.NO_TESTS_COLLECTED
