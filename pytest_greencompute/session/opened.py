"""Ending a session early, and checking meters before one begins."""

from __future__ import annotations

from collections.abc import Mapping
from types import FrameType
from typing import Any

from pytest_greencompute.errors import MeterError, SettingsError
from pytest_greencompute.settings.settings import Settings


class _Terminated(KeyboardInterrupt):
    """SIGTERM, in the clothes that pytest already knows how to end a session for."""


def terminate(_: int, __: FrameType | None) -> None:
    raise _Terminated("terminated (SIGTERM)")


def check_meters(settings: Settings, extra: Mapping[str, Any]) -> None:
    """Raises SettingsError for a meter name that nobody registered."""
    from pytest_greencompute.meters.registry import meter

    for name in settings.meters:
        try:
            meter(name, extra)
        except MeterError as error:
            raise SettingsError(error.message, remedy=error.remedy) from error
