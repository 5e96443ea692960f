#!/bin/sh
# onnxruntime 1.32.0: with an output bound to memory of the caller's, the array that one run returned has the figures of the next run: `.numpy()` of the
# bound value is a view, and copies nothing. Without binding, each run returns an array of its own.
# Expected: what `get_outputs()[0].numpy()` returned for the first query is still the answer to the first query after the second.
# Seen: bound to memory: first answer reads [4. 4.] after the second run (it was [2. 2.]); session.run: [2. 2.] as it was.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check onnx==1.19.1 onnxruntime==1.32.0
"$folder/venv/bin/python" - <<'PY'
import numpy as np
import onnxruntime
from onnx import TensorProto, helper

table = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in "xy"]
graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "double", table[:1], table[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

binding = session.io_binding()
binding.bind_ortvalue_output("y", onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros((1, 2), dtype="f4")))


def bound(value):
    binding.bind_cpu_input("x", np.full((1, 2), value, dtype="f4"))
    session.run_with_iobinding(binding)
    return binding.get_outputs()[0].numpy()


def plain(value):
    return session.run(None, {"x": np.full((1, 2), value, dtype="f4")})[0]


for called, answer in (("bound to memory", bound), ("session.run", plain)):
    first = answer(1)
    was = first.copy()
    answer(2)
    print(f"{called}: {was[0]} became {first[0]}")
    assert (was == 2).all() and (first == (4 if answer is bound else 2)).all()
PY
