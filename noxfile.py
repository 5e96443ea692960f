"""The matrix: each Python, each pytest, the oldest and the newest of each dependency. `make test` is the whole suite on one of them.

    nox --list
    nox --session unit-3.13
    nox --session "pytest(version='8.0')"
    nox --session oldest-3.10

A session installs the plugin and little else, so what needs a model, a server or a browser is not run here: the unit tests of what decides,
and budgets end to end. Where an interpreter is missing the session counts as skipped; CI says --error-on-missing-interpreters.
"""

from __future__ import annotations

import re
from pathlib import Path

import nox

ROOT = Path(__file__).parent
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14", "3.15")
PYTESTS = ("8.0", "8.2", "8.4", "9.0", "9.1", "9.2")
NEEDED = ("hypothesis", "scipy", "jsonschema", "prometheus-client", "psutil")  # what the tests below import
TESTS = (
    *(
        f"tests/unit/test_{name}.py"
        for name in ("units", "metrics", "budget", "settings", "verdict", "pairs", "judging", "protocol", "ratios")
    ),
    *(f"tests/e2e/test_{name}.py" for name in ("budget", "on_lines", "unmeasured", "late_marks", "unmetered")),
)

nox.options.sessions = ["unit"]
nox.options.error_on_missing_interpreters = False


def lowest() -> list[str]:
    """The plugin's dependencies at their lower bounds; of >=12.535 the newest 12.535, since that number alone is no release."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"^dependencies = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    if listed is None:
        raise ValueError("pyproject.toml has no list of dependencies")
    return [re.sub(r">=([\d.]+)", r"==\1.*", each) for each in re.findall(r'"([^"]+)"', listed[1])]


def run(session: nox.Session, *installed: str) -> None:
    """Install the plugin with those packages, and run the tests of the matrix."""
    session.install(".", *NEEDED, *installed)
    session.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *(session.posargs or TESTS))


@nox.session(python=PYTHONS)
def unit(session: nox.Session) -> None:
    """The newest of each dependency."""
    run(session)


@nox.session(python=PYTHONS[:1])
def oldest(session: nox.Session) -> None:
    """The oldest of each dependency that pyproject.toml allows."""
    run(session, *lowest())


@nox.session
@nox.parametrize("version", PYTESTS)
def pytest(session: nox.Session, version: str) -> None:
    """One minor version of pytest after the other."""
    run(session, f"pytest=={version}.*")
