"""How many characters a line has room for where it is printed."""

from __future__ import annotations

import shutil
from typing import TextIO

from pytest_greencompute.report.columns import UNLIMITED


def for_tables() -> int:
    """The columns of the terminal; 80 where there is none, since a log is read in a window, too."""
    return shutil.get_terminal_size().columns


def for_sentences(stream: TextIO | None) -> int:
    """The same on a terminal. Elsewhere a sentence is one line, so that a log can be searched for it."""
    return for_tables() if stream is not None and stream.isatty() else UNLIMITED
