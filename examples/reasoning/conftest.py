"""What the tests share: the model, loaded once, both ways to answer, and sums with their results."""

import os

import pytest
import sums as adding
from smollm2 import SmolLM2


@pytest.fixture(scope="session")
def model():
    return SmolLM2()


@pytest.fixture(scope="session")
def direct(model):
    return adding.Adder(model, adding.direct)


@pytest.fixture(scope="session")
def scratchpad(model):
    return adding.Adder(model, adding.scratchpad)


@pytest.fixture(scope="session")
def sums():
    return adding.some_sums(int(os.environ.get("REASONING_SUMS", "48")), seed=2)


@pytest.fixture(scope="session")
def results(sums):
    return [a + b for a, b in sums]
