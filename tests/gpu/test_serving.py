"""A real server on a real GPU under load: ``transformers serve`` with a language model of random weights, since none can be fetched."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from pytest_greencompute.estimates.estimate import Aim
from pytest_greencompute.estimates.measured_kinds import ServedRun
from pytest_greencompute.machine.clock import RealClock
from pytest_greencompute.measuring.effort import Effort
from pytest_greencompute.measuring.script import open_instruments
from pytest_greencompute.serving.as_run import Load
from pytest_greencompute.serving.load import check_answers, measure_load, open_client
from pytest_greencompute.serving.request import request_of
from tests.gpu.load import cuda
from tests.serving.real_server import NEEDED, transformers_serve

pytestmark = pytest.mark.alone

TEMPLATE = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
TOKENS = 32
SECONDS = 8.0

MODEL = """
import sys, torch, transformers
from tests.gpu.test_stacks import tokenizer
torch.manual_seed(0)
words = tokenizer()
words.chat_template = {template!r}
words.save_pretrained(sys.argv[1])
config = transformers.LlamaConfig(
    vocab_size=100, hidden_size=1024, intermediate_size=4096, num_hidden_layers=12, num_attention_heads=16, eos_token_id=None,
    pad_token_id=0,
)
transformers.LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(sys.argv[1])
"""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of the model, by whose path the server knows it."""
    if missing := [each for each in NEEDED if importlib.util.find_spec(each) is None]:
        pytest.skip(f"needs {', '.join(missing)}")
    if cuda() is None:
        pytest.skip("needs a CUDA GPU and torch")
    folder = str(tmp_path_factory.mktemp("model"))
    subprocess.run([sys.executable, "-c", MODEL.format(template=TEMPLATE), folder], cwd=Path(__file__).parents[2], check=True)
    return folder


def measured(url: str, weights: str, loads: Sequence[int]) -> dict[int, ServedRun]:
    prompts = [" ".join(f"w{(each + place) % 98}" for place in range(16 + each)) for each in range(16)]
    wanted = request_of(url, prompts, options={"temperature": 0}, max_tokens=TOKENS)
    instruments = open_instruments(["nvml"])
    client, _ = open_client(wanted, weights, RealClock())
    runs = {}
    with client:
        check_answers(client, wanted)
        for concurrency in loads:
            raw, outputs = measure_load(client, wanted, Load(concurrency, str(concurrency)), instruments, Effort(SECONDS))
            runs[concurrency] = ServedRun(raw, outputs, Aim(), pytest.fail)
    return runs


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("flags", [("--continuous-batching",), ()])
def test_what_a_request_costs_at_some_loads(weights: str, flags: tuple[str, ...]) -> None:
    with transformers_serve(weights, "--device", "cuda:0", *flags, CUDA_VISIBLE_DEVICES="0", CUDA_DEVICE_ORDER="PCI_BUS_ID") as url:
        runs = measured(url, weights, (1, 8, 32) if flags else (4,))
    for concurrency, run in runs.items():
        figures = run.energy_per_query, run.energy_per_token, run.average_power, run.throughput, run.latency_p50
        streamed = run.time_to_first_token_p50, run.inter_token_latency_p50, run.tokens_per_query
        sys.stderr.write(f"{concurrency:3d} at a time: {', '.join(map(str, (*figures, *streamed)))}; {run.failed} {run.notes}\n")
        assert run.failed == {}
        assert run.energy_per_query.domain.startswith("gpu")
        assert run.tokens_per_query.value == pytest.approx(TOKENS, rel=0.1)
    if flags:  # requests are worked on together
        assert runs[8].energy_per_query.value < 0.7 * runs[1].energy_per_query.value
        assert runs[32].energy_per_query.value < runs[8].energy_per_query.value
