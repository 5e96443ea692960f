"""Inner runs with other plugins that are kept apart from the tests' own environment (tests/neighbours.py)."""

from __future__ import annotations

import pytest

from tests import neighbours

from .conftest import Project


class Beside:
    """A project whose runs load ``modules`` beside this plugin, and no other plugin."""

    def __init__(self, project: Project, monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
        for name, value in neighbours.environment(*(module.partition(".")[0] for module in modules if module != "xdist")).items():
            monkeypatch.setenv(name, value)
        monkeypatch.syspath_prepend(neighbours.FOLDER)
        self.project = project
        self._plugins = tuple(word for name in ("pytest_greencompute.plugin", *modules) for word in ("-p", name))

    def run(self, *args: str) -> pytest.RunResult:
        """In this process, in simulated time."""
        return self.project.run(*self._plugins, *args)

    def measure(self, *args: str) -> pytest.RunResult:
        """The same, under meters."""
        return self.run("--energy-budget", *args)

    def run_apart(self, *args: str, timeout: float = 60) -> pytest.RunResult:
        """In a process of its own, in real time."""
        return self.project.run_apart(*self._plugins, *args, timeout=timeout)
