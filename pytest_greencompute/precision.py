"""A torch module at another precision: a copy, converted; the user's own stays as it is.

int8 by torchao where that is installed, since torch's own dynamic quantisation is deprecated in its favour; else by the latter, where this
torch still has it. Nothing here imports torch: whoever has a module has loaded it.
"""

from __future__ import annotations

import copy
import difflib
import importlib
import importlib.util
import inspect
import sys
import warnings
from collections.abc import Callable, Iterable
from typing import Any

from pytest_greencompute.errors import CannotError, SettingsError

PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "int8": "int8"}
LACKING = ("not implemented for", "not supported", "unsupported", "is not available")  # what torch says of a kernel that a device lacks


def check_precisions(precisions: Iterable[Any]) -> None:
    """Raises SettingsError for a precision that has no name here."""
    for precision in precisions:
        if precision not in PRECISIONS:
            near = difflib.get_close_matches(str(precision), PRECISIONS, n=1, cutoff=0.4)
            raise SettingsError(
                f"There is no precision {precision!r}.", remedy=f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(PRECISIONS)}."
            )


def at_precision(model: Callable[..., Any], precision: str) -> Callable[[Any], Any]:
    """A copy of a torch module at ``precision``; any other callable that takes one gets it as a keyword.

    Raises CannotError where the device or the installed packages lack it, SettingsError for a callable that has no precision.
    """
    torch: Any = sys.modules.get("torch")
    if torch is None or not isinstance(model, torch.nn.Module):
        if _takes(model, "precision"):
            return lambda batch: model(batch, precision=precision)
        raise SettingsError(
            f"The model is a {type(model).__name__}, which has no precision.",
            remedy="Pass the torch.nn.Module itself, or a function with the argument precision.",
        )
    _check_device(torch, model, precision)
    converted = copy.deepcopy(model)
    if precision == "int8":
        converted = _int8(torch, converted)
    else:
        dtype = getattr(torch, PRECISIONS[precision])
        converted = converted.to(dtype)
        converted.register_forward_pre_hook(_casting(torch, dtype), with_kwargs=True)

    def run(batch: Any) -> Any:
        try:
            with torch.inference_mode():
                return converted(batch)
        except RuntimeError as error:
            if any(words in str(error).lower() for words in LACKING):
                raise CannotError(f"this device lacks {precision} ({str(error).splitlines()[0]})") from error
            raise

    return run


def _takes(model: Callable[..., Any], name: str) -> bool:
    try:
        parameters = inspect.signature(model).parameters
    except (TypeError, ValueError):
        return False
    return name in parameters


def _check_device(torch: Any, model: Any, precision: str) -> None:
    first = next(iter(model.parameters()), None)
    if (
        first is not None
        and first.device.type == "cuda"
        and precision == "bf16"
        and not torch.cuda.is_bf16_supported(including_emulation=False)
    ):
        raise CannotError("this GPU lacks bf16")


def _casting(torch: Any, dtype: Any) -> Callable[..., Any]:
    """Turns the floating-point tensors that a module is given into its own precision."""

    def cast(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.to(dtype) if value.is_floating_point() else value
        if isinstance(value, list | tuple):
            return type(value)(map(cast, value)) if type(value) in {list, tuple} else value
        return {key: cast(each) for key, each in value.items()} if type(value) is dict else value

    return lambda _module, args, kwargs: (cast(args), cast(kwargs))


def _int8(torch: Any, model: Any) -> Any:
    """Weights in int8 and activations quantised as they come, in the linear layers."""
    if importlib.util.find_spec("torchao") is not None:
        quantization = importlib.import_module("torchao.quantization")
        quantization.quantize_(model, quantization.Int8DynamicActivationInt8WeightConfig())
        return model
    dynamic = getattr(getattr(torch.ao, "quantization", None), "quantize_dynamic", None)
    if dynamic is None:
        raise CannotError("int8 needs torchao: pip install torchao")
    first = next(iter(model.parameters()), None)
    if first is not None and first.device.type != "cpu":
        raise CannotError("int8 on this device needs torchao: pip install torchao")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it will be replaced by torchao is said here, where it can be acted on
        return dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
