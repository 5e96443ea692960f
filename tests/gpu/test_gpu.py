"""The plugin on a real CUDA GPU. ``make gpu`` runs this and writes docs/gpu-report.md."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_greencompute.machine.clock import RealClock
from pytest_greencompute.measuring.script import measure, open_instruments
from pytest_greencompute.models.awaiting import finished
from pytest_greencompute.models.counting import FLOPS, MEMORY, count_figures
from pytest_greencompute.models.workload import Workload
from pytest_greencompute.values.readings import Source
from tests.gpu.bench import Bench, of_load
from tests.gpu.load import Matmuls, cuda
from tests.repositories import commit_all

pytestmark = pytest.mark.alone

ROOT = Path(__file__).resolve().parents[2]
QUERY_S = 0.005
DUTY = 0.5  # a full load may sit at the power limit, and draws less there than it does in blocks (1.5 % on an H200)
REFERENCE_S = 30.0


@pytest.fixture(scope="module", autouse=True)
def one_gpu() -> Iterator[None]:
    """GPU 0 and no other, the same for NVML and CUDA, in this process and in those that it starts; skipped where there is none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
        patch.setenv("CUDA_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES", "0"))
        # Asked in another process: one that has touched CUDA may be listed by the driver, and is a stranger to the inner runs then.
        asked = [sys.executable, "-c", "from tests.gpu.load import cuda; raise SystemExit(cuda() is None)"]
        if subprocess.run(asked, cwd=ROOT, check=False).returncode != 0:
            pytest.skip("needs a CUDA GPU and torch")
        yield


@pytest.fixture
def gpu() -> Source:
    """What the plugin's counter of the GPU says of itself."""
    instruments = open_instruments(["nvml"])
    instruments.close()
    return instruments.sources[0]


@pytest.fixture
def inner(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project whose energy is that of the GPU, with locks of its own."""
    pytester.makepyprojecttoml('[tool.greencompute]\nmeters = ["nvml"]\nunmeasured = "fail"')
    monkeypatch.setenv("TMPDIR", tempfile.mkdtemp(dir=pytester.path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
    monkeypatch.setenv("COLUMNS", "200")
    return pytester


def run(inner: pytest.Pytester, *args: str) -> pytest.RunResult:
    return inner.runpytest_subprocess("-p", "no:cacheprovider", "--energy-budget", *args, timeout=300)


# Projects of their own come first: once this process has worked on the GPU, it is another process there to them.


def test_a_model_on_the_cpu_is_unmeasured_where_energy_means_the_gpu(inner: pytest.Pytester) -> None:
    inner.makepyfile(
        """
        import pytest

        @pytest.mark.energy_budget(energy_per_query="1 kJ")
        def test_on_cpu(energy_meter):
            energy_meter.measure(lambda batch: [sum(range(20_000)) for _ in batch], list(range(8)))
        """
    )
    result = run(inner, "--energy-max-seconds=10")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["test_on_cpu has no energy_per_query to judge: gpu:* drew no more than idle power*the model did not run there*"]
    )


def test_a_model_on_the_gpu_is_judged_and_the_header_names_the_gpu(inner: pytest.Pytester, gpu: Source) -> None:
    inner.makepyfile(
        f"""
        import pytest
        from tests.gpu.load import Matmuls, cuda

        @pytest.mark.energy_budget(energy_per_query="1 kJ")
        def test_it(energy_meter):
            load = Matmuls(cuda())
            energy_meter.measure(lambda batch: load.busy({QUERY_S}) or batch, list(range(8)))
        """
    )
    result = run(inner, "--energy-max-seconds=10")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"*energy: nvml {gpu.domain} {gpu.device}, *", "test_it * PASS *"])


SWEEP = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(*(torch.nn.Linear(4096, 4096) for _ in range(8)))

    def forward(self, batch):
        torch.empty(len(batch) << 31, dtype=torch.uint8, device=batch.device)  # 2 GiB a query: 256 fit into no GPU
        return self.layers(batch).argmax(1)

def test_sweep(energy_meter):
    torch.manual_seed(0)
    queries = torch.randn(256, 4096, device="cuda")
    sweep = energy_meter.sweep(Net().cuda().eval(), queries, batch_size=[4, 16, 256], precision=["fp32", "bf16", "fp16", "int8"])
    assert set(sweep.outputs["batch_size=16 precision=bf16"]) <= set(range(4096))
"""


def test_a_sweep_has_a_row_for_each_precision_and_for_a_batch_that_does_not_fit(inner: pytest.Pytester) -> None:
    inner.makepyfile(SWEEP)
    result = run(inner, "--energy-max-seconds=50")
    result.assert_outcomes(passed=1)
    rows = {tuple(words[:2]): " ".join(words[2:]) for line in result.outlines if len(words := line.split()) > 2}
    for precision in ("fp32", "bf16", "fp16", "int8"):
        assert "out of memory" in rows["256", precision] or (precision == "int8" and "torchao" in rows["256", precision])
    for precision in ("fp32", "bf16", "fp16"):
        assert "J" in rows["16", precision]
    assert "J" in rows["16", "int8"] or "torchao" in rows["16", "int8"]


COMPARED = """
import torch
from work import PRODUCTS

def test_it(energy_meter):
    matrix = torch.randn(2048, 2048, device="cuda", dtype=torch.float16)

    def model(batch):
        for _ in range(PRODUCTS):
            torch.matmul(matrix, matrix)
        torch.cuda.synchronize()
        return batch

    energy_meter.measure(model, list(range(8)))
"""


def test_the_same_code_at_the_base_passes(inner: pytest.Pytester, gpu: Source) -> None:
    inner.makepyfile(test_work=COMPARED, work="PRODUCTS = 200")
    commit_all(inner.path)
    same = run(inner, "--energy-base-ref=HEAD", "--energy-max-seconds=60")
    same.assert_outcomes(passed=1)
    same.stdout.fnmatch_lines([f"*energy: nvml {gpu.domain} *", "test_it * PASS *"])


def test_15_per_cent_more_work_than_at_the_base_fails(inner: pytest.Pytester) -> None:
    inner.makepyfile(test_work=COMPARED, work="PRODUCTS = 200")
    commit_all(inner.path)
    inner.makepyfile(work="PRODUCTS = 230")
    more = run(inner, "--energy-base-ref=HEAD", "--energy-max-seconds=60")
    more.assert_outcomes(failed=1)
    more.stdout.fnmatch_lines(["test_it used * J per query * against HEAD *: +1* % *"])


# In this process


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    """GPU 0 under matrix products, its tick found."""
    torch = cuda()
    assert torch is not None
    made = of_load(Matmuls(torch))
    made.ready()
    yield made
    made.instruments.close()


def test_the_tick_found_is_one_of_a_real_counter(bench: Bench) -> None:
    assert 0.005 <= bench.source.tick_s <= 0.2
    assert bench.source.jitter_s < bench.source.tick_s


def test_energy_per_query_is_that_of_a_long_reference_to_within_three_per_cent(bench: Bench) -> None:
    def model(batch: list[int]) -> list[int]:
        bench.query(QUERY_S, DUTY)
        return batch

    before = bench.steady(QUERY_S, DUTY, REFERENCE_S / 2)
    found = measure(model, list(range(8)), instruments=bench.instruments, max_seconds=15).energy_per_query
    after = bench.steady(QUERY_S, DUTY, REFERENCE_S / 2)  # on both sides, since clocks and leakage drift with temperature
    assert found.value == pytest.approx((before.joules + after.joules) / 2, rel=0.03)
    assert found.domain == bench.source.domain


@pytest.mark.usefixtures("bench")
def test_memory_is_that_of_the_gpu_and_products_are_counted_there() -> None:
    torch = cuda()
    width, queries = 256, 4

    def model(batch: list[int]) -> list[int]:
        taken = torch.ones(200_000_000, dtype=torch.uint8, device="cuda")
        heads = torch.ones(len(batch), 4, width, 64, dtype=torch.float16, device="cuda")
        torch.nn.functional.scaled_dot_product_attention(heads, heads, heads)
        return batch if len(taken) else []

    before = torch.cuda.memory_allocated()
    counts = finished(count_figures((FLOPS, MEMORY), Workload(model, list(range(queries)), 2, None), RealClock()))
    assert counts[FLOPS].value == 2 * 2 * 4 * width * width * 64
    assert counts[FLOPS].bound == ""
    assert counts[MEMORY].where == "cuda:0"
    assert counts[MEMORY].value is not None
    assert counts[MEMORY].value - before == pytest.approx(200_000_000, rel=0.03)
