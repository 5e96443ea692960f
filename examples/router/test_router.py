"""The gate: how many queries may reach the language model, and what it may write when it is asked."""

import pytest


@pytest.mark.energy_budget(generative_share="20%", model_calls_per_query=0.2, reasoning_default=0, accuracy=0.65)
def test_router(energy_meter, router, traffic, monkeypatch):
    monkeypatch.setattr(router, "generate", energy_meter.watch(router.generate, name="smollm2", tokens=router.tokenizer))
    run = energy_meter.measure(router, traffic.queries, references=traffic.references)
    assert len(run.outputs) == len(traffic)
