"""Reads a step out of a workflow, an action or what ``greencompute init`` writes, and runs its script as a runner of GitHub would.

A runner puts the values of a step's ``env`` into its environment and hands the script, as it stands in the file, to the shell. Expressions
(``${{ … }}``) are worked out by GitHub, so a test says what they are worth, one value for each: a key too many or too few is an error, and
no expression is left without a test that knows of it.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
ACTION = ROOT / "action.yml"
WORKFLOWS = sorted((ROOT / "examples" / "github").glob("*.yml"))
OURS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))  # this project's own
GITLAB = ROOT / "examples" / "gitlab" / "energy.gitlab-ci.yml"
GITLAB_FLEET = GITLAB.with_name("energy-fleet.gitlab-ci.yml")
SLURM = sorted((ROOT / "examples" / "slurm").glob("*.sbatch"))
OWN = "OWNER/pytest-greencompute"  # stands for the place where this project is published

# What GitHub runs for `shell: bash` and `shell: python`.
SHELLS = {"bash": ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail"], "python": [sys.executable]}


@dataclass(frozen=True)
class Step:
    """A step with a script, and its file for messages."""

    where: str
    shell: str
    script: str
    env: Mapping[str, str]


@dataclass(frozen=True)
class Done:
    """What a script did: its exit status, all it printed, and what it wrote to GITHUB_OUTPUT."""

    status: int
    printed: str
    outputs: Mapping[str, str]


def read(path: Path) -> dict[Any, Any]:
    loaded: dict[Any, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded


def steps_of(data: Mapping[Any, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Every step of a composite action or of all jobs of a workflow, each with the name of its job."""
    if "runs" in data:
        return [("action", step) for step in data["runs"]["steps"]]
    return [(name, step) for name, job in data["jobs"].items() for step in job["steps"]]


def step(path: Path, key: str, *, job: str | None = None) -> Step:
    """The step whose id or name is ``key``."""
    found = [each for name, each in steps_of(read(path)) if key in (each.get("id"), each.get("name")) and job in (None, name)]
    assert len(found) == 1, f"{path.name} has {len(found)} steps {key!r}"
    (each,) = found
    env = {name: str(value) for name, value in each.get("env", {}).items()}
    return Step(f"{path.name}: {key}", each.get("shell", "bash"), each["run"], env)


class Runner:
    """A runner's folders in ``tmp``; ``bin`` comes first on PATH, for stand-ins."""

    def __init__(self, tmp: Path) -> None:
        self.workspace = tmp / "workspace"
        self.temp = tmp / "runner-temp"
        self.bin = tmp / "bin"
        self.tmpdir = tmp / "tmp"  # device locks lie here, and no measurement elsewhere on this machine is waited for
        for folder in (self.workspace, self.temp, self.bin, self.tmpdir):
            folder.mkdir()

    def stand_in(self, name: str, python: str) -> Path:
        """A program ``name`` on PATH, written in Python."""
        path = self.bin / name
        path.write_text(f"#!{sys.executable} -I\n{python}", encoding="utf-8")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    def run(self, the_step: Step, values: Mapping[str, str], *, also: Mapping[str, str] | None = None, timeout: float = 120) -> Done:
        """Run a step. ``values``: what its expressions are worth; ``also``: what else the runner's environment holds."""
        asked = {name for name, value in the_step.env.items() if "${{" in value}
        assert asked == set(values), f"{the_step.where}: its expressions are {sorted(asked)}, and the test gives {sorted(values)}"
        script, output = self.temp / "_script", self.temp / "_output"
        script.write_text(the_step.script, encoding="utf-8")
        output.write_text("", encoding="utf-8")
        environ = {
            "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.temp),
            "LANG": "C.UTF-8",
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_OUTPUT": str(output),
            "GITHUB_STEP_SUMMARY": str(self.temp / "_summary"),
            "GITHUB_WORKSPACE": str(self.workspace),
            "GITHUB_SERVER_URL": "https://github.com",
            "GITHUB_ACTION_PATH": str(ROOT),
            "RUNNER_TEMP": str(self.temp),
            "TMPDIR": str(self.tmpdir),
            # The tests' repositories belong to this user alone, and know no other settings of git.
            "GIT_CONFIG_NOSYSTEM": "1",
            **the_step.env,
            **values,
            **(also or {}),
        }
        done = subprocess.run(
            [*SHELLS[the_step.shell], str(script)], cwd=self.workspace, env=environ, timeout=timeout, check=False, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="backslashreplace",
        )  # fmt: skip
        return Done(done.returncode, done.stdout, outputs_in(output))


def outputs_in(path: Path) -> dict[str, str]:
    """What a script wrote to GITHUB_OUTPUT: ``name=value``, or ``name<<END``, lines, ``END``. GitHub takes no other line."""
    outputs: dict[str, str] = {}
    lines = iter(path.read_text(encoding="utf-8").splitlines())
    for line in lines:
        name, sign, value = re.split("(=|<<)", line, maxsplit=1)
        outputs[name] = value if sign == "=" else "\n".join(iter(lambda: next(lines), value))
    return outputs
