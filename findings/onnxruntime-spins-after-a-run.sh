#!/bin/sh
# onnxruntime 1.32.0: after a run its idle worker threads spin on and burn CPU time for tens of milliseconds, by default. A program that sleeps between
# requests, or that meters CPU energy of what comes next, pays for that.
# Expected: a process that sleeps uses no CPU time.
# Seen (two cores): CPU time in the 100 ms of sleep after a run: 20 to 60 ms; with session.intra_op.allow_spinning = 0: below 2 ms.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check onnx==1.19.1 onnxruntime==1.32.0
"$folder/venv/bin/python" - <<'PY'
import statistics
import time

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

SIZE = 512
table = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [SIZE, SIZE]) for name in "xy"]
graph = helper.make_graph([helper.make_node("MatMul", ["x", "x"], ["y"])], "square", table[:1], table[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()


def slept(spins):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    if not spins:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    found = []
    for _ in range(15):
        session.run(None, {"x": np.ones((SIZE, SIZE), dtype="f4")})
        began = time.process_time()
        time.sleep(0.1)
        found.append(time.process_time() - began)
    return statistics.median(found)


default, stopped = slept(True), slept(False)
print(f"CPU time in 100 ms of sleep: {default * 1e3:.1f} ms by default, {stopped * 1e3:.1f} ms with spinning off")
assert default > 0.01 and stopped < 0.3 * default
PY
