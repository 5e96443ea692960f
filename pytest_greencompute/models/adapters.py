"""Models of other libraries that are no function of a batch, or that do not do with a batch what its caller believes.

They are known by the names of their classes, so that no library is imported here. Nothing of a model is changed or moved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_greencompute.errors import SettingsError

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence


@dataclass(frozen=True, slots=True)
class Adapted:
    """What is called with a batch, and notes on what a reader should know of it."""

    call: Callable[[Any], Any]
    notes: tuple[str, ...] = ()


def adapted(model: Any, batch_size: int) -> Adapted:
    """``model`` as a function of a batch of ``batch_size`` queries: itself, where nothing here knows better."""
    for kind in type(model).__mro__:
        adapt = _ADAPTERS.get((kind.__module__.partition(".")[0], kind.__name__))
        if adapt is not None:
            return adapt(model, batch_size)
    return Adapted(model)


def _estimator(model: Any, _batch_size: int) -> Adapted:
    """scikit-learn: what predicts predicts, what only transforms transforms."""
    methods = (getattr(model, name, None) for name in ("predict", "transform"))
    return Adapted(model if callable(model) else next((each for each in methods if each is not None), model))


def _encoder(model: Any, batch_size: int) -> Adapted:
    """Whatever of sentence-transformers encodes: calling it wants tokens, ``encode`` takes texts. It would make batches of 32 by itself."""
    return Adapted(lambda batch: model.encode(list(batch), batch_size=batch_size, show_progress_bar=False))


def _cross_encoder(model: Any, batch_size: int) -> Adapted:
    return Adapted(lambda batch: model.predict(list(batch), batch_size=batch_size, show_progress_bar=False))


def _pipeline(model: Any, batch_size: int) -> Adapted:
    """A transformers pipeline takes a list, and works through it in batches of its own: one by one where nobody set another size."""
    own = getattr(model, "_batch_size", None) or 1
    if batch_size <= own:
        return Adapted(model)
    one = "one by one" if own == 1 else f"in batches of {own}"
    note = f"the pipeline works through each batch of {batch_size} {one}: pipeline(…, batch_size={batch_size}) makes it one batch"
    return Adapted(model, (note,))


def _session(model: Any, _batch_size: int) -> Adapted:
    """An ONNX Runtime session: rows are stacked into its inputs, and its answers are the rows of its outputs."""
    names = tuple(each.name for each in model.get_inputs())
    outputs = len(model.get_outputs())

    def run(batch: Any) -> Any:
        found = model.run(None, _feed(batch, names))
        return found[0] if outputs == 1 else list(zip(*found, strict=True))

    return Adapted(run, (f"ONNX Runtime ran on {', '.join(model.get_providers())}",))


def _feed(batch: Any, names: Sequence[str]) -> Mapping[str, Any]:
    """The inputs of a session: what ``collate`` made of the batch, the rows stacked, or for several inputs the rows of each stacked."""
    import numpy as np

    if isinstance(batch, Mapping):
        return batch
    if len(names) == 1:
        return {names[0]: np.asarray(batch)}
    if not all(isinstance(row, Mapping) and set(row) == set(names) for row in batch):
        raise SettingsError(
            f"The ONNX model has the inputs {', '.join(names)}.",
            remedy="Make each query a dict of arrays with these names, or pass collate=, which makes one such dict of a batch.",
        )
    return {name: np.array([row[name] for row in batch]) for name in names}


_ADAPTERS: Mapping[tuple[str, str], Callable[[Any, int], Adapted]] = {
    ("onnxruntime", "InferenceSession"): _session,
    ("sentence_transformers", "MultiVectorEncoder"): _encoder,
    ("sentence_transformers", "SentenceTransformer"): _encoder,
    ("sentence_transformers", "SparseEncoder"): _encoder,
    ("sentence_transformers", "CrossEncoder"): _cross_encoder,
    ("sklearn", "BaseEstimator"): _estimator,
    ("transformers", "Pipeline"): _pipeline,
}
