"""A stretch of a test's code read once: ``energy_meter.window``."""

from __future__ import annotations

from pytest_greencompute.measuring.window import Window
from pytest_greencompute.session.checks import Asking

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence


def window(asking: Asking, name: str | None, queries: int, tokens: int | None) -> Window:
    """A window that has not been opened yet. Raises SettingsError."""
    asking.check_name(name)
    asking.refuse_out_of_turn()
    test, mode = asking.test, asking.mode
    instruments, provenance = mode.around(test)
    made = Window(
        name,
        instruments,
        mode.aim(None),
        asking.unmetered,
        may_begin=asking.refuse_out_of_turn,
        queries=queries,
        tokens=tokens,
        watched=test.watched,
        test=test.node_id,
        provenance=provenance,
    )
    test.windows.append(made)
    return made
