"""The JSON report of a session, for machines (``results.document`` has its form)."""

from __future__ import annotations

from pathlib import Path

from pytest_greencompute.results.document import document
from pytest_greencompute.results.summary import Summary
from pytest_greencompute.store.files import to_json, write_atomically


def make(summary: Summary, path: Path, _: Path) -> None:
    """Write it. Raises SettingsError."""
    write_atomically(path, to_json(document(summary)) + "\n")
