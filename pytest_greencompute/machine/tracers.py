"""What watches every line or call of this process while a model runs: it makes pure Python several times as slow, and as dear.

Coverage, debuggers and profilers say so to the interpreter. What runs outside of Python (torch, numpy, a GPU) hardly notices.
"""

from __future__ import annotations

import sys
from typing import Any


def tracers() -> tuple[str, ...]:
    """The names of what traces this thread now, such as ('coverage',); empty where nothing does."""
    hooks = [hook for hook in (sys.gettrace(), sys.getprofile()) if hook is not None]
    return tuple(dict.fromkeys([*map(_called, hooks), *_monitors()]))


def _called(hook: Any) -> str:
    module = getattr(hook, "__module__", None) or type(hook).__module__
    return str(module).partition(".")[0].lstrip("_") or "a tracer"


def _monitors() -> list[str]:
    """The tools of ``sys.monitoring`` (Python 3.12 and newer) that wait for events of any code."""
    monitoring: Any = getattr(sys, "monitoring", None)
    if monitoring is None:
        return []
    found = [(monitoring.get_tool(number), number) for number in range(6)]
    return [str(name).partition(".")[0] for name, number in found if name is not None and monitoring.get_events(number)]
