"""The settings that a sweep tries: which values make sense, and the model at each of them."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pytest_greencompute.errors import CannotError, SettingsError
from pytest_greencompute.models.precision import at_precision, check_precisions, function_of
from pytest_greencompute.values.units import whole

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

COUNTED = ("batch_size", "max_new_tokens", "max_tokens", "max_length", "num_beams")  # positive whole numbers wherever they are known
OURS = ("batch_size", "precision")  # everything else is handed to the model
EXAMPLES = {**{name: [1, 4, 16] for name in COUNTED}, "precision": ["fp32", "bf16"]}


def checked_axes(model: Callable[..., Any], axes: Mapping[str, Iterable[Any]]) -> dict[str, list[Any]]:
    """The swept values as lists. Raises SettingsError for a sweep over nothing, for values that make no sense, and for a setting that
    the model does not take."""
    if not axes:
        raise SettingsError("A sweep needs something to sweep.", remedy="Pass batch_size=[1, 4, 16], or another list.")
    found = {name: _checked(name, values) for name, values in axes.items()}
    if math.prod(len(values) for values in found.values()) == 1:
        raise SettingsError("A sweep over one value compares nothing.", remedy="Name two or more: batch_size=[1, 4, 16].")
    for name in found:
        if name not in OURS and not takes(model, name):
            called = getattr(model, "__name__", type(model).__name__)
            raise SettingsError(f"The model {called} takes no argument {name!r}.", remedy=f"A sweep calls it as {called}(batch, {name}=…).")
    check_precisions(found.get("precision", []))
    return found


def _checked(name: str, values: Any) -> list[Any]:
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise SettingsError(
            f"{name} is {values!r}.", remedy=f"Pass the values to try as a list, such as {name}={EXAMPLES.get(name, [0, 1])}."
        )
    listed = [_value(name, value) for value in values]
    if not listed:
        raise SettingsError(f"{name} is an empty list.", remedy=f"Pass the values to try, such as {name}={EXAMPLES.get(name, [0, 1])}.")
    twice = [value for place, value in enumerate(listed) if repr(value) in map(repr, listed[:place])]
    if twice:
        raise SettingsError(f"{name} names {twice[0]!r} twice.", remedy="Name each value once.")
    return listed


def _value(name: str, value: Any) -> Any:
    if name in COUNTED:
        count = whole(value)
        if count is None:
            raise SettingsError(f"{name} has {value!r} in it.", remedy="Each must be a whole number of at least 1.")
        return count
    if isinstance(value, float) and not math.isfinite(value):
        raise SettingsError(f"{name} has {value!r} in it.", remedy="Each must be a finite number.")
    return value


def takes(model: Callable[..., Any], name: str) -> bool:
    """Whether a callable has an argument called ``name``, or takes any; so, too, where that cannot be told."""
    try:
        parameters = inspect.signature(function_of(model)).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(each.kind is each.VAR_KEYWORD or (each.name == name and each.kind is not each.POSITIONAL_ONLY) for each in parameters)


class Variants:
    """A model at any of the swept settings. It is converted once per precision, however many batch sizes share the copy."""

    __slots__ = ("_converted", "_model")

    def __init__(self, model: Callable[..., Any]) -> None:
        self._model = model
        self._converted: dict[str, Callable[..., Any] | CannotError] = {}

    def at(self, settings: Mapping[str, Any]) -> Callable[..., Any]:
        """The model at these settings: a copy in the ``precision`` that is named, called with the others as keywords.

        Raises CannotError and SettingsError as ``precision.at_precision`` does.
        """
        rest = {name: value for name, value in settings.items() if name not in OURS}
        model = self._at_precision(settings["precision"]) if "precision" in settings else self._model
        return functools.partial(model, **rest) if rest else model

    def _at_precision(self, precision: str) -> Callable[..., Any]:
        if precision not in self._converted:
            try:
                self._converted[precision] = at_precision(self._model, precision)
            except CannotError as error:
                self._converted[precision] = error
        found = self._converted[precision]
        if isinstance(found, CannotError):
            raise CannotError(found.message, remedy=found.remedy)
        return found
