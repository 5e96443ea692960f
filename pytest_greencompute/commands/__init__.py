"""What the command line does: one module for each of its larger commands."""

from __future__ import annotations

BROKE = 4  # the exit code of a command that broke, so that nobody takes it for a result
