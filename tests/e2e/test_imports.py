"""What a pytest start pays for the plugin: nothing heavy is imported before a test measures."""

from __future__ import annotations

import subprocess
import sys

import pytest

from .conftest import Project

PLUGINS = None

HEAVY = {"numpy", "torch", "scipy", "codecarbon", "pynvml", "tabulate", "filelock"}
OURS = "pytest_greencompute"
CORE = {
    f"{OURS}.{name}"
    for name in (
        "session.session",
        "settings.settings",
        "judging.budget",
        "values.units",
        "judging.verdict",
        "measuring.driver",
        "estimates.estimate",
        "session.energy_meter",
    )
}
CHOICE = {f"{OURS}.{name}" for name in ("session.groups", "judging.choice", "session.candidates", "models.counting", "models.watching")}
FEW = 13  # modules of ours in a session without metered tests
SOME = 40  # and in one whose metered test runs once, packages included


def imported(project: Project, *args: str) -> set[str]:
    """The modules that a pytest run imports, by their full names. Without capturing, which would swallow the list."""
    command = [
        sys.executable,
        "-X",
        "importtime",
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:hypothesispytest",
        "-p",
        "no:benchmark",
    ]
    done = subprocess.run([*command, *args], cwd=project.path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}


def ours(modules: set[str]) -> list[str]:
    return sorted(name for name in modules if top({name}) == {OURS})


def top(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


@pytest.mark.parametrize("options", [[], ["--energy-budget"], ["--help"], ["--collect-only"]], ids=["plain", "budget", "help", "collect"])
def test_a_session_without_metered_tests_imports_nothing_heavy(project: Project, options: list[str]) -> None:
    for name in ("conftest.py", "pyproject.toml"):
        (project.path / name).unlink()
    project.write("test_it.py", "def test_plain(): pass")
    modules = imported(project, *options)
    assert "pytest_greencompute.settings.options" in modules, "the plugin is there"
    assert top(modules) & (HEAVY - ({"tabulate"} if "--energy-budget" in options else set())) == set()
    if options != ["--energy-budget"]:
        assert modules & CORE == set()
        assert len(ours(modules)) <= FEW


def test_settings_in_a_file_without_a_metered_test_bring_no_choice_along(project: Project) -> None:
    project.write("conftest.py", "")
    project.toml('meters = ["cputime"]')
    project.write("test_it.py", "def test_plain(): pass")
    modules = imported(project)
    assert "pytest_greencompute.settings.build" in modules, "the file was read"
    assert modules & CHOICE == set()


def test_an_unmetered_run_imports_nothing_heavy_either(project: Project) -> None:
    project.write("conftest.py", "")
    project.write(
        "test_it.py",
        """
        def test_it(energy_meter):
            energy_meter.measure(list, [1, 2, 3], references=[1, 2, 3], name="a")
            nested = [{"words": ["abc", 1]}]
            energy_meter.measure(lambda batch: [{"words": [each, None]} for each in batch], ["abc"], references=nested, name="b")
        """,
    )
    assert top(imported(project)) & HEAVY == set()


def test_a_test_that_runs_once_loads_few_modules(project: Project) -> None:
    for name in ("conftest.py", "pyproject.toml"):
        (project.path / name).unlink()
    project.write("test_it.py", "def test_it(energy_meter):\n    assert energy_meter.measure(list, [1, 2, 3]).outputs == [1, 2, 3]\n")
    modules = imported(project)
    assert len(ours(modules)) <= SOME, ours(modules)
    assert top(modules) & HEAVY == set()


def test_the_package_itself_imports_nothing_heavy_and_its_names_load_lazily() -> None:
    code = f"import sys, pytest_greencompute as p; assert not set(sys.modules) & {HEAVY}; p.judge_limit; p.measure"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
