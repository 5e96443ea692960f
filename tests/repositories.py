"""A git repository out of an inner project's folder, for tests that only need a commit to compare with."""

from __future__ import annotations

import subprocess
from pathlib import Path

IGNORED = "*\n!*.py\n!*.toml\n"
AUTHOR = ("-c", "user.name=Tests", "-c", "user.email=tests@example.org")


def commit_all(folder: Path) -> None:
    """Commit the Python and TOML files of ``folder`` as its first commit."""
    (folder / ".gitignore").write_text(IGNORED, encoding="utf-8")
    for words in (("init", "-q"), ("add", "."), (*AUTHOR, "commit", "-qm", "base")):
        subprocess.run(["git", *words], cwd=folder, check=True)
