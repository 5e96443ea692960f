#!/bin/sh
# torch 2.13.0 (mended in 2.14.1): after one pass of FlopCounterMode over a warm compiled module, shapes that come later are never compiled again: the
# module goes on uncompiled, slower, without a word.
# Expected: counting FLOPs once leaves a compiled module as it was.
# Seen: frames compiled after batches of 4, 5, 6 and 1: without counting 3, with one counted pass after the first batch 1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0
"$folder/venv/bin/python" - <<'PY'
import torch
from torch._dynamo.testing import CompileCounter
from torch.utils.flop_counter import FlopCounterMode


def compiled(counting):
    torch._dynamo.reset()
    counter = CompileCounter()
    model = torch.compile(torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU()), backend=counter)
    model(torch.ones(4, 64))
    if counting:
        with FlopCounterMode(display=False):
            model(torch.ones(4, 64))
    for size in (5, 6, 1):
        model(torch.ones(size, 64))
    return counter.frame_count


plain, counted = compiled(False), compiled(True)
print(f"frames compiled: {plain} without counting, {counted} with one counted pass")
assert counted == 1 < plain
PY
