"""unittest.TestCase: what the body of such a test raised does not reach pytest's hooks; unittest hands it to the item, which keeps it."""

from __future__ import annotations

from typing import Literal

import pytest

Ending = Literal["end", "skip", "break"]


def _kept(item: pytest.Item) -> list[BaseException]:
    return [info.value for info in getattr(item, "_excinfo", None) or ()]


def ending(item: pytest.Item) -> Ending:
    """How the body of a test that raised nothing ended: for a TestCase it may have been skipped, or broken, all the same."""
    kept = _kept(item)
    if not kept or unexpected_success(item):
        return "end"
    return "skip" if all(isinstance(each, pytest.skip.Exception) for each in kept) else "break"


def unexpected_success(item: pytest.Item) -> bool:
    """Whether the test is marked with ``unittest.expectedFailure``, and its body found nothing wrong."""
    kept = _kept(item)
    return len(kept) == 1 and isinstance(kept[0], pytest.fail.Exception) and str(kept[0]).startswith("Unexpected success")


def forget(item: pytest.Item) -> None:
    """Make pytest show what a hook raises, in place of what unittest has kept."""
    if _kept(item):
        item._excinfo = None  # type: ignore[attr-defined]
