"""The gate: what a query may cost, how long it may take, and how often it must be right."""

import pytest


@pytest.mark.energy_budget(energy_per_query="0.5 J", latency_p95="400 ms", accuracy=0.70)
def test_sentiment(energy_meter, classifier, reviews, labels):
    run = energy_meter.measure(classifier, reviews, batch_size=4, references=labels)
    assert len(run.outputs) == len(reviews)
