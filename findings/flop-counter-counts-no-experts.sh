#!/bin/sh
# transformers 5.23.0 on torch 2.13.0: torch's FlopCounterMode counts none of what the experts of a mixture do, since transformers runs them by
# `torch._grouped_mm`, for which torch has no formula; it says nothing. Run one by one ("eager"), the same model's experts count.
# Expected: one model's FLOPs do not depend on which of its equal ways of running is chosen.
# Seen: grouped_mm (the default) 606208, eager 1785856, for this Mixtral of random weights: 0.34 of them.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 transformers==5.23.0
"$folder/venv/bin/python" - <<'PY'
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import MixtralConfig, MixtralForCausalLM

sizes = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
model = MixtralForCausalLM(MixtralConfig(vocab_size=64, num_local_experts=4, num_experts_per_tok=2, **sizes)).eval()
model.set_attn_implementation("eager")
default = model.config._experts_implementation
found = {}
for way in ("grouped_mm", "eager"):
    model.set_experts_implementation(way)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.arange(32).reshape(4, 8))
    found[way] = counter.get_total_flops()
share = found["grouped_mm"] / found["eager"]
print(f"the default is {default}; FLOPs: {found}; grouped_mm / eager: {share:.2f}")
assert default == "grouped_mm" and share < 0.8
PY
