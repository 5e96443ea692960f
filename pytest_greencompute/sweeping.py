"""The settings that a sweep tries: which values make sense, and the model at each of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pytest_greencompute.errors import SettingsError

COUNTED = ("batch_size", "max_new_tokens", "max_tokens", "max_length", "num_beams")  # positive whole numbers wherever they are known


def checked_axes(axes: Mapping[str, Iterable[Any]]) -> dict[str, list[Any]]:
    """The swept values as lists. Raises SettingsError for a sweep over nothing and for values that make no sense."""
    if not axes:
        raise SettingsError("A sweep needs something to sweep.", remedy="Pass batch_size=[1, 4, 16], or another list.")
    found: dict[str, list[Any]] = {}
    for name, values in axes.items():
        if isinstance(values, str | bytes) or not isinstance(values, Iterable):
            raise SettingsError(f"{name} is {values!r}.", remedy=f"Pass the values to try as a list, such as {name}=[{values!r}].")
        found[name] = list(values)
        for value in found[name] if name in COUNTED else ():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise SettingsError(f"{name} has {value!r} in it.", remedy="Each must be a whole number of at least 1.")
    from pytest_greencompute.precision import check_precisions

    check_precisions(found.get("precision", []))
    return found


def with_settings(model: Callable[..., Any], settings: Mapping[str, Any]) -> Callable[[Any], Any]:
    """The model at these settings: a copy in the ``precision`` that is named, called with the others as keywords."""
    rest = dict(settings)
    precision = rest.pop("precision", None)
    if precision is not None:
        from pytest_greencompute.precision import at_precision

        model = at_precision(model, precision)
    return functools.partial(model, **rest) if rest else model
