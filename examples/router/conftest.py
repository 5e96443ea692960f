"""What the tests share: the router with its two models, loaded once, and the traffic to replay."""

import os

import pytest
import router as routing
import sentiment
import smollm2
import traffic as sample

from pytest_greencompute import read_traffic


@pytest.fixture(scope="session")
def router():
    unsure = routing.configured()
    return routing.Router(sentiment.load_classifier(), smollm2.SmolLM2(), unsure=unsure)


@pytest.fixture(scope="session")
def traffic():
    limit = int(os.environ.get("ROUTER_LINES", "200"))
    return read_traffic(sample.recorded(), query="text", reference="label", limit=limit)
