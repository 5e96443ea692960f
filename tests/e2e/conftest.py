"""What the end-to-end tests share: an inner project with a device of its own, run by pytester.

Runs in this process get the simulated clock, so that a measurement of a minute takes milliseconds and every figure is exact.
Runs in a process of their own (signals, xdist, the stand-in GPU, imports) measure in real time.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

# Loaded here once: pytester forgets what was imported during an inner run, and numpy must not be loaded twice.
import filelock  # noqa: F401
import jsonschema
import numpy as np  # noqa: F401
import prometheus_client  # noqa: F401
import pytest
import tabulate  # noqa: F401
from _pytest.fixtures import FixtureManager

import pytest_greencompute.cli
import pytest_greencompute.hooks.beginning
import pytest_greencompute.hooks.collecting
import pytest_greencompute.hooks.ending
import pytest_greencompute.hooks.judged
import pytest_greencompute.hooks.missing
import pytest_greencompute.hooks.running
import pytest_greencompute.machine.ci
import pytest_greencompute.measuring.by_turns
import pytest_greencompute.measuring.driver
import pytest_greencompute.models.sweeps
import pytest_greencompute.pairing.started
import pytest_greencompute.plugin
import pytest_greencompute.report.html
import pytest_greencompute.session.advised
import pytest_greencompute.session.as_advised
import pytest_greencompute.session.compared
import pytest_greencompute.session.metered
import pytest_greencompute.session.under_meters
from pytest_greencompute.machine.ci import VARIABLES
from pytest_greencompute.machine.clock import RealClock
from pytest_greencompute.results.run_json import schema
from pytest_greencompute.testing.simulated import SimulatedClock
from pytest_greencompute.testing.standin import compile_standin
from tests.e2e.preloaded import Preloaded, parse

CONFTEST = """
import pytest
from world import WorldMeter, world as the_world

def pytest_greencompute_meters(config):
    return {"world": WorldMeter()}

@pytest.fixture
def world():
    return the_world
"""

# Where a module of tests has all plugins: Hypothesis's imports all of Hypothesis at the end of every inner run, a second each.
WITHOUT = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest")


@dataclass
class Project:
    """An inner project. ``run`` runs it in this process in simulated time, ``run_apart`` in a process of its own in real time."""

    pytester: pytest.Pytester
    monkeypatch: pytest.MonkeyPatch

    @property
    def path(self) -> Path:
        return self.pytester.path

    def write(self, name: str, text: str) -> Path:
        """A file of the project. Texts are dedented by pytester's rules."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_dedented(text), encoding="utf-8")
        return path

    def toml(self, text: str) -> Path:
        """pyproject.toml with [tool.greencompute]; the meter is the world's unless the text lists others."""
        meters = "" if re.search(r"^\s*meters\s*=", text, re.MULTILINE) else 'meters = ["world"]\n'
        return self.write("pyproject.toml", f"[tool.greencompute]\n{meters}{_dedented(text)}")

    def run(self, *args: str) -> pytest.RunResult:
        # One that is named in the environment alone is looked for among all that is installed, by each run anew.
        ours = [pytest_greencompute.plugin] if "PYTEST_PLUGINS" in os.environ else []
        return self.pytester.runpytest_inprocess(*WITHOUT, *self._unexplained(args), *args, plugins=ours)

    def measure(self, *args: str) -> pytest.RunResult:
        return self.run("--energy-budget", *args)

    def run_apart(self, *args: str, timeout: float = 60) -> pytest.RunResult:
        return self.pytester.runpytest_subprocess(*WITHOUT, *self._unexplained(args), *args, timeout=timeout)

    def _unexplained(self, args: Sequence[str]) -> tuple[str, ...]:
        """What is measured is not explained, which takes seconds, unless the settings say so or the options that follow."""
        settings = self.path / "pyproject.toml"
        says = settings.exists() and re.search(r"^\s*explain\s*=", settings.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
        return () if says or "--energy-budget" not in args or "no:greencompute" in args else ("--energy-explain=off",)

    def report(self, name: str = "energy.json") -> dict[str, Any]:
        """The JSON report, checked against the schema that ships, and for numbers that are none."""
        text = (self.path / name).read_text(encoding="utf-8")

        def refuse(word: str) -> float:
            raise AssertionError(f"{word} in {name}")

        data: dict[str, Any] = json.loads(text, parse_constant=refuse)
        jsonschema.validate(data, schema(), cls=jsonschema.Draft202012Validator)
        return data


def _dedented(text: str) -> str:
    return textwrap.dedent(text).lstrip("\n")


@pytest.fixture(autouse=True)
def _unaware_of_the_outer_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Inner runs see no CI, no GPU selection, no options and no lock of whoever runs this suite, and load no plugins but ours.

    All that are installed take longer to load than most inner runs last, and each process of a comparison loads them anew. Tests that are
    about one name it in their module, in ``PLUGINS``; None are all that are installed, as users have them.
    """
    outer = [name for name in os.environ if name.startswith(("GITHUB_", "PYTEST_XDIST_"))]
    outer += ["CI", *VARIABLES, "PYTEST_ADDOPTS", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "NVML_STANDIN", "COLUMNS", "FORCE_COLOR"]
    for name in (*outer, "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("COLUMNS", "200")
    # A file that is written twice in a second, as long as before, is taken for the one that was compiled.
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(FixtureManager, "parsefactories", parse)
    plugins: Sequence[str] | None = getattr(request.module, "PLUGINS", ())
    if plugins is not None:
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        monkeypatch.setenv("PYTEST_PLUGINS", ",".join(["pytest_greencompute.plugin", *plugins]))


@pytest.fixture(scope="session")
def preloaded() -> Iterator[Preloaded]:
    made = Preloaded()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _sides_are_forked(preloaded: Preloaded, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Sides are forks of a process that has loaded what they need, but for modules that say ``ANEW = True``, and for sessions apart."""
    if not getattr(request.module, "ANEW", False):
        started = SimpleNamespace(**{**vars(subprocess), "Popen": preloaded.start})
        monkeypatch.setattr(pytest_greencompute.pairing.started, "subprocess", started)


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project with the world's device and no settings but its meter."""
    # The one seam: no option may hand a session another clock, since a gate whose time can be bent is none.
    clock = SimulatedClock()
    # Not the name in its module: whoever has imported that by name would go on with real time.
    monkeypatch.setattr(RealClock, "__new__", lambda cls: clock)
    shutil.copyfile(Path(__file__).with_name("world.py"), pytester.path / "world.py")
    made = Project(pytester, monkeypatch)
    made.write("conftest.py", CONFTEST)
    made.toml("")
    return made


@pytest.fixture(scope="session")
def standin_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None and shutil.which("cc") is None:
        pytest.skip("the stand-in for the NVIDIA driver library needs a C compiler")
    return compile_standin(tmp_path_factory.mktemp("standin"))
