"""What the tests share: one loaded model, and labelled lines that it has not been fitted on."""

import pytest
import sentiment

MEASURED_LINES = 512


@pytest.fixture(scope="session")
def classifier() -> sentiment.SentimentClassifier:
    return sentiment.load_classifier()


@pytest.fixture(scope="session")
def held_out() -> sentiment.Reviews:
    _, held_out = sentiment.load_reviews()
    return sentiment.by_length(sentiment.Reviews(held_out.lines[:MEASURED_LINES], held_out.labels[:MEASURED_LINES]))


@pytest.fixture(scope="session")
def reviews(held_out: sentiment.Reviews) -> list[str]:
    return held_out.lines


@pytest.fixture(scope="session")
def labels(held_out: sentiment.Reviews) -> list[int]:
    return held_out.labels
