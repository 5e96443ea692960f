"""ONNX Runtime in the place of a torch module that exports: the copy's ``forward`` runs a session."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import io
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_greencompute.advising.levers import LEVERS, Value
from pytest_greencompute.errors import CannotError, first_line
from pytest_greencompute.levers.changed import Changed, LeverRow
from pytest_greencompute.levers.runtime import copied, modules, with_others
from pytest_greencompute.models.precision import device_of

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

NEEDED = ("onnxruntime", "onnx", "onnxscript")
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def _values(changed: Changed) -> Sequence[Value]:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise CannotError(f"it needs {' and '.join(missing)}: pip install {' '.join(missing)}")
    runtime = importlib.import_module("onnxruntime")
    for module in modules(changed):
        if PROVIDERS.get(device := device_of(module)) not in runtime.get_available_providers():
            raise CannotError(f"this onnxruntime has no provider for {device}")
    return [True]


def _exported(changed: Changed, _: Value) -> Changed:
    def other(module: Any) -> Any:
        return _run_by_onnx(module, _first_call(changed, module))

    return with_others(changed, other)


def _first_call(changed: Changed, module: Any) -> Mapping[str, Any]:
    """What a module is given first, by the names of its arguments. Raises CannotError for what is no tensor."""
    seen: list[Mapping[str, Any]] = []
    named = _naming(module)

    def see(_: Any, args: Sequence[Any], keywords: Mapping[str, Any]) -> None:
        seen.append({name: each for name, each in named(args, keywords).items() if each is not None})

    hook = module.register_forward_pre_hook(see, with_kwargs=True)
    try:
        changed.call(changed.first_batch)
    finally:
        hook.remove()
    if not seen:
        raise CannotError("the model calls its module otherwise than by a call")
    tensor = sys.modules["torch"].Tensor
    if others := [name for name, each in seen[0].items() if not isinstance(each, tensor)]:
        raise CannotError(f"it does not export: {', '.join(others)} is no tensor")
    return seen[0]


def _naming(module: Any) -> Callable[[Sequence[Any], Mapping[str, Any]], dict[str, Any]]:
    """What gives the arguments of a call their names in a module's ``forward``, as it is now."""
    names = [*inspect.signature(module.forward).parameters]
    return lambda args, keywords: {**dict(zip(names, args, strict=False)), **keywords}


def _run_by_onnx(module: Any, given: Mapping[str, Any]) -> Any:
    torch: Any = sys.modules["torch"]
    # Of a batch of one query it would be exported for batches of one.
    given = {name: torch.cat([each, each]) if each.ndim and len(each) == 1 else each for name, each in given.items()}
    with torch.inference_mode():
        shown = module(**given)
    parts, rebuilt = _taken_apart(torch, shown)
    session, fed = _session(torch, module, given)
    named = _naming(module)
    if len(session.get_outputs()) != len(parts):
        raise CannotError(f"it does not export: {len(session.get_outputs())} outputs of {len(parts)}")

    def forward(*args: Any, **keywords: Any) -> Any:
        by_name = named(args, keywords)
        found = session.run(None, {name: by_name[name].detach().cpu().numpy() for name in fed})
        return rebuilt([torch.from_numpy(each).to(parts[0].device) for each in found])

    other = copied(module)
    other.forward = forward
    return other


def _taken_apart(torch: Any, shown: Any) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    """The tensors of an output, and what makes an output of others. Raises CannotError."""
    if isinstance(shown, torch.Tensor):
        return [shown], lambda found: found[0]
    if isinstance(shown, Mapping) and all(isinstance(each, torch.Tensor) for each in shown.values()):
        kind, keys = type(shown), [*shown]
        return [*shown.values()], lambda found: kind(**dict(zip(keys, found, strict=True)))
    if isinstance(shown, tuple) and shown and all(isinstance(each, torch.Tensor) for each in shown):
        return [*shown], tuple
    raise CannotError(f"it does not export: its output is a {type(shown).__name__} of more than tensors")


def _session(torch: Any, module: Any, given: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """A session that computes what a module does, and the names of its inputs."""
    free = torch.export.Dim.AUTO
    shapes = {name: dict.fromkeys(range(each.ndim), free) for name, each in given.items()}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # of the exporter's own plans
        path = Path(folder, "model.onnx")
        try:
            torch.onnx.export(module, (), str(path), kwargs=dict(given), dynamic_shapes=shapes, dynamo=True, verbose=False)
            runtime = importlib.import_module("onnxruntime")
            options = runtime.SessionOptions()
            options.intra_op_num_threads = torch.get_num_threads()  # as many as today
            session = runtime.InferenceSession(str(path), options, providers=[PROVIDERS[device_of(module)]])
        except Exception as error:
            raise CannotError(f"it does not export ({type(error).__name__}: {first_line(str(error))})") from error
    return session, [each.name for each in session.get_inputs()]


ROWS = (LeverRow(LEVERS["onnx"], _values, _exported),)
