"""What the command line does: one module for each of its larger commands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Arguments = Mapping[str, Any]  # what argparse has read of a command, by name
BROKE = 4  # the exit code of a command that broke, so that nobody takes it for a result
