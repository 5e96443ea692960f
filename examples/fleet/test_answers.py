"""Two tests of one model, which are measured on every kind of card that the fleet has."""

import pytest

QUESTIONS = [f"question {number}" for number in range(8)]
ANSWERS = [question.upper() for question in QUESTIONS]


@pytest.mark.energy_budget(accuracy=0.95)
def test_one_by_one(energy_meter, model):
    energy_meter.measure(model, QUESTIONS, references=ANSWERS)


@pytest.mark.energy_budget(accuracy=0.95)
def test_in_batches(energy_meter, model):
    energy_meter.measure(model, QUESTIONS, references=ANSWERS, batch_size=4)
