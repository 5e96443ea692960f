"""Where the figures of a run come from, as far as names need to be agreed on."""

from __future__ import annotations

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

# The distributions whose version can change what a run costs.
PACKAGES = ("torch", "transformers", "numpy", "onnxruntime", "pytest-greencompute")
# Where a run's provenance says what of the protocol it kept to: {"queries_of": task, "output_of": task}. Only what follows it writes this.
PROTOCOL = "ai_energy_score"
TRACED = "traced"  # the key in a run's provenance
