"""A torch module at another precision: a copy, converted; the user's own stays as it is.

int8 by torchao where that is installed, since torch's own dynamic quantisation is deprecated in its favour; else by the latter, where this
torch still has it. Nothing here imports torch: whoever has a module has loaded it.
"""

from __future__ import annotations

import copy
import difflib
import functools
import importlib.util
import inspect
import sys
import warnings
from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any

from pytest_greencompute.errors import CannotError, SettingsError, first_line
from pytest_greencompute.values.units import show_share

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "int8": "int8"}
# What torch says of a kernel that a device lacks, and hardly anybody else.
LACKING = ("not implemented for '", "could not run 'aten::", "low precision dtypes not supported")
LEAST_SHARE = 0.5  # of the weights that are multiplied: with fewer of them in a precision, a module is none of that precision


@dataclass(frozen=True, slots=True)
class Converted:
    """A copy of a torch module whose tensors of weights are in a precision, but for a part: ``weights`` is the share of them that are."""

    module: Any
    foreign: str  # the precision, where the module came in another one
    weights: float

    def __call__(self, batch: Any, **settings: Any) -> Any:
        with _Lacking(self.foreign), sys.modules["torch"].inference_mode():
            return self.module(batch, **settings)


def share_of(model: Callable[..., Any]) -> float | None:
    """The share of its weights that are in the precision that was asked for; None of a model that was not converted here."""
    called = model.func if isinstance(model, functools.partial) else model
    return called.weights if isinstance(called, Converted) else None


def check_precisions(precisions: Iterable[Any]) -> None:
    """Raises SettingsError for a precision that has no name here."""
    for precision in precisions:
        if precision not in PRECISIONS:
            near = difflib.get_close_matches(str(precision), PRECISIONS, n=1, cutoff=0.4)
            raise SettingsError(
                f"There is no precision {precision!r}.", remedy=f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(PRECISIONS)}."
            )


def is_module(model: object) -> bool:
    """Whether it is a torch module."""
    torch: Any = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def function_of(model: Callable[..., Any]) -> Callable[..., Any]:
    """What a call of the model ends in, whose arguments are the model's own: a module's ``forward``."""
    return getattr(model, "forward", model) if is_module(model) else model


def at_precision(model: Callable[..., Any], precision: str) -> Callable[..., Any]:
    """A copy of a torch module at ``precision``; any other callable that has an argument of that name gets it as a keyword.

    Raises CannotError where the device or the installed packages lack it, and where less than half of the weights would be in it;
    SettingsError for a callable that has no precision.
    """
    if not is_module(model):
        if _names_precision(model):
            return lambda batch, **settings: model(batch, precision=precision, **settings)
        raise SettingsError(
            f"The model is a {type(model).__name__}, which has no precision.",
            remedy="Pass the torch.nn.Module itself, or a function with the argument precision.",
        )
    found, weights = module_at(model, precision)
    _, before = _where(model)
    return Converted(found, precision if str(before) != f"torch.{PRECISIONS[precision]}" else "", weights)


def module_at(module: Any, precision: str) -> tuple[Any, float]:
    """A copy of a torch module at ``precision``, and the share of its weights that are in it. Raises CannotError as ``at_precision``."""
    torch: Any = sys.modules["torch"]
    device, _ = _where(module)
    if device == "cuda" and precision == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise CannotError("this GPU lacks bf16")
    with _Lacking(precision):
        converted = _int8(torch, module, device) if precision == "int8" else _cast(torch, module, getattr(torch, PRECISIONS[precision]))
    multiplied, weights = _shares(torch, module, converted, precision)
    if multiplied < LEAST_SHARE:
        those = "nn.Linear alone is converted" if precision == "int8" else "the others are packed"
        raise CannotError(
            f"no {precision}: {show_share(weights)} of its weights would be, {those}", remedy="(compare() takes a copy of your own)"
        )
    return converted, weights


def precision_of(module: Any) -> str | None:
    """The name here of the precision that a torch module is in; None of one that has none."""
    _, dtype = _where(module)
    return next((name for name, called in PRECISIONS.items() if str(dtype) == f"torch.{called}"), None)


def device_of(module: Any) -> str:
    """The kind of device that a torch module is on."""
    return _where(module)[0]


def _shares(torch: Any, model: Any, converted: Any, precision: str) -> tuple[float, float]:
    """The share of a copy's weights that are in ``precision``: of those that something is multiplied by, and of all.

    Tables that are only looked up in stay as they are, and nobody expects otherwise; one that is an output layer, too, is multiplied by.
    Biases and the scales of norms are no weights here. A module without any can be in any precision but int8.
    """
    own = [(part, weight) for part in model.modules() for weight in part.parameters(recurse=False)]
    multiplied = {id(weight) for part, weight in own if not isinstance(part, torch.nn.Embedding | torch.nn.EmbeddingBag)}
    now = dict(converted.named_parameters(remove_duplicate=False))
    sizes = [
        (each.numel(), id(each) in multiplied, _is_in(torch, now.get(name), precision, type(each)))
        for name, each in model.named_parameters()
        if each.ndim > 1
    ]
    # Torch's own quantised layers, whose weights are no parameters.
    layers = (part for part in model.modules() if type(part).__module__.startswith("torch.ao.nn."))
    packed = sum(part.weight().numel() for part in layers if callable(getattr(part, "weight", None)))
    sizes += [(packed, True, precision == "int8")]

    def share(*kinds: bool) -> float:
        every = sum(size for size, each, _ in sizes if each in kinds)
        return sum(size for size, each, done in sizes if each in kinds and done) / every if every else float(precision != "int8")

    return share(True), share(True, False)


def _is_in(torch: Any, weight: Any, precision: str, came_as: type) -> bool:
    """Whether a parameter of a copy (None: it has gone into a packed layer) is in the precision."""
    if precision == "int8":  # torchao makes it a tensor of another class, which says that it is float32
        return weight is None or weight.dtype == torch.int8 or type(weight) is not came_as
    return weight is not None and weight.dtype == getattr(torch, PRECISIONS[precision])


class _Lacking:
    """Turns torch's refusal of a kernel into the row that says so. Without a precision, an error is the model's own, and passes."""

    __slots__ = ("_precision",)

    def __init__(self, precision: str) -> None:
        self._precision = precision

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        if self._precision and isinstance(error, RuntimeError) and any(words in str(error).lower() for words in LACKING):
            raise CannotError(f"this device lacks {self._precision} ({first_line(str(error))})") from error


def _names_precision(model: Callable[..., Any]) -> bool:
    try:
        return "precision" in inspect.signature(model).parameters
    except (TypeError, ValueError):
        return False


def _where(model: Any) -> tuple[str, Any]:
    """The kind of device that a module is on, and the type of its numbers with a fraction; of its first weight, "cpu" and None without."""
    for first in (*model.parameters(), *model.buffers()):
        if first.is_floating_point():
            return first.device.type, first.dtype
    return "cpu", None


def _cast(torch: Any, model: Any, dtype: Any) -> Any:
    """A copy with all its weights in ``dtype``, which turns what it is given into that."""
    converted = copy.deepcopy(model).to(dtype)
    converted.register_forward_pre_hook(_casting(torch, dtype), with_kwargs=True)
    return converted


def _casting(torch: Any, dtype: Any) -> Callable[..., Any]:
    """Turns the floating-point tensors that a module is given into its own precision, wherever they are in its arguments."""

    def cast(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.to(dtype) if value.is_floating_point() else value
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*map(cast, value))
        if type(value) in {list, tuple}:
            return type(value)(map(cast, value))
        if not isinstance(value, MutableMapping):
            return value
        changed = copy.copy(value)  # a dict, or a tokenizer's own kind of one
        for key, each in value.items():
            changed[key] = cast(each)
        return changed

    return lambda _module, args, kwargs: (cast(args), cast(kwargs))


def _int8(torch: Any, model: Any, device: str) -> Any:
    """A copy with the weights of its linear layers in int8, and what comes into them quantised as it comes."""
    if importlib.util.find_spec("torchao") is not None:
        # It warns of its own plans at every call, which pytest may turn into errors. In force until pytest restores the filters: one
        # around each call would cost as much as a small model.
        warnings.filterwarnings("ignore", module="torchao")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of whatever it imports, too
            quantization = importlib.import_module("torchao.quantization")
        converted = copy.deepcopy(model)
        quantization.quantize_(converted, quantization.Int8DynamicActivationInt8WeightConfig())
        return converted
    dynamic = getattr(getattr(torch.ao, "quantization", None), "quantize_dynamic", None)
    if dynamic is None:
        raise CannotError("int8 needs torchao: pip install torchao")
    if device != "cpu":
        raise CannotError("int8 on this device needs torchao: pip install torchao")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it will be replaced by torchao is said here, where it can be acted on
        return dynamic(_cast(torch, model, torch.float32), {torch.nn.Linear}, dtype=torch.qint8)
