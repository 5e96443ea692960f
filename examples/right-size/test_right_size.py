"""Gates on the choice of a model, of its precision and of its batch size: what is configured must not cost much more than what would do.

What is configured comes from the environment here, so that you can watch each gate turn red.
"""

import os

import candidates as ways
from module import leanest_precision

MODEL = os.environ.get("RIGHT_SIZE_MODEL", "student")
PRECISION = os.environ.get("RIGHT_SIZE_PRECISION", leanest_precision())
BATCH_SIZE = int(os.environ.get("RIGHT_SIZE_BATCH_SIZE", "16"))


def test_model(energy_meter, candidates, reviews, labels):
    comparison = energy_meter.compare(
        candidates, reviews, batch_size={name: ways.BATCH_SIZES[name] for name in candidates}, references=labels, floor=0.72
    )
    comparison.assert_right_sized(MODEL, margin="20%")


def test_precision(energy_meter, encoder, module, reviews, labels):
    sweep = energy_meter.sweep(
        module, reviews, precision=["fp32", "bf16", "int8"], batch_size=[1, 16], references=labels, collate=encoder.tokens, floor=0.65
    )
    sweep.assert_right_sized(precision=PRECISION, batch_size=BATCH_SIZE, margin="50%")


def test_batch_size(energy_meter, encoder, module, reviews):
    fewer = reviews[::3]  # of all lengths: few enough for whole passes, whose energy varies least
    sweep = energy_meter.sweep(module, fewer, batch_size=[1, 4, 16, 64], collate=encoder.tokens, limits={"latency_p95": "1 s"})
    sweep.assert_right_sized(batch_size=BATCH_SIZE, margin="30%")
