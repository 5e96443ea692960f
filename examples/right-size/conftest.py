"""What the tests share: models, loaded or fitted once, and labelled lines that none of them has been fitted on."""

import candidates as ways
import pytest
import sentiment
from module import fresh_or_rotten


@pytest.fixture(scope="session")
def encoder():
    return sentiment.Encoder()


@pytest.fixture(scope="session")
def candidates(encoder):
    return ways.Candidates(encoder).all()


@pytest.fixture(scope="session")
def module(encoder):
    return fresh_or_rotten(encoder)


@pytest.fixture(scope="session")
def held_out():
    return ways.measured_lines()


@pytest.fixture(scope="session")
def reviews(held_out):
    return held_out.lines


@pytest.fixture(scope="session")
def labels(held_out):
    return held_out.labels
