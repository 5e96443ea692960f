"""What people run on a GPU, measured there: CUDA graphs, streams, torch.compile, generate, ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_greencompute.estimates.measured import MeasuredRun
from pytest_greencompute.measuring.script import measure, open_instruments
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.models.counting import MEMORY
from pytest_greencompute.models.generator import Generator
from tests.gpu.load import cuda

pytestmark = pytest.mark.alone

SIZE = 2048
SECONDS = 4.0


@pytest.fixture(scope="module")
def torch() -> Iterator[Any]:
    """GPU 0 and no other, the same for NVML and CUDA; skipped where there is none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
        patch.setenv("CUDA_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES", "0"))
        found = cuda()
        if found is None:
            pytest.skip("needs a CUDA GPU and torch")
        yield found


@pytest.fixture(scope="module")
def instruments(torch: Any) -> Iterator[Instruments]:
    opened = open_instruments(["nvml"])
    yield opened
    opened.close()


class Products:
    """Some products of matrices, by the default stream, by another one, or replayed from a graph."""

    def __init__(self, torch: Any, count: int = 40) -> None:
        self.torch, self.count = torch, count
        self.matrix = torch.randn(SIZE, SIZE, device="cuda", dtype=torch.float16)
        self.product = torch.empty_like(self.matrix)
        self.stream = torch.cuda.Stream()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(self.stream):
            self.all()
        torch.cuda.synchronize()
        with torch.cuda.graph(self.graph):
            self.all()

    def all(self) -> None:
        for _ in range(self.count):
            self.torch.matmul(self.matrix, self.matrix, out=self.product)

    def plain(self, batch: list[int]) -> list[int]:
        self.all()
        return batch

    def streamed(self, batch: list[int]) -> list[int]:
        with self.torch.cuda.stream(self.stream):
            self.all()
        return batch

    def replayed(self, batch: list[int]) -> list[int]:
        self.graph.replay()
        return batch


def test_work_on_another_stream_or_replayed_from_a_graph_costs_what_it_costs_on_the_default_one(
    torch: Any, instruments: Instruments
) -> None:
    products = Products(torch)

    def measured(model: Any) -> MeasuredRun:
        return measure(model, list(range(16)), instruments=instruments, max_seconds=SECONDS)

    plain, streamed, replayed = measured(products.plain), measured(products.streamed), measured(products.replayed)
    for other in (streamed, replayed):
        assert other.energy_per_query.value == pytest.approx(plain.energy_per_query.value, rel=0.1)
        assert other.latency_p50.value == pytest.approx(plain.latency_p50.value, rel=0.15)


@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiling_is_warm_up_and_the_answers_and_the_module_stay(torch: Any, instruments: Instruments) -> None:
    torch.manual_seed(0)
    plain = torch.nn.Sequential(torch.nn.Linear(1024, 4096), torch.nn.GELU(), torch.nn.Linear(4096, 16)).cuda().eval()
    queries = torch.randn(64, 1024, device="cuda")
    before = {name: (value.data_ptr(), value.dtype) for name, value in plain.state_dict().items()}
    compiled = torch.compile(plain)

    def asked(batch: Any) -> list[int]:
        with torch.inference_mode():
            return compiled(batch).argmax(1).tolist()  # type: ignore[no-any-return]

    run = measure(asked, queries, batch_size=16, instruments=instruments, max_seconds=SECONDS, count=[MEMORY])
    with torch.inference_mode():
        assert run.outputs == plain(queries).argmax(1).tolist()
    slowest = max(latency.seconds for latency in run.raw.latencies)
    assert slowest < 0.1, "the compiler's seconds are in no latency"
    assert {name: (value.data_ptr(), value.dtype) for name, value in plain.state_dict().items()} == before
    assert run.raw.counts[MEMORY].where == "cuda:0"


def tokenizer() -> Any:
    """A tokenizer of a hundred words, since no model can be fetched here."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {word: index for index, word in enumerate(["<pad>", "<unk>", *(f"w{number}" for number in range(98))])}
    made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", unk_token="<unk>")


@pytest.mark.filterwarnings("ignore")
def test_a_token_costs_less_in_a_batch_and_prefill_and_decode_are_told_apart(torch: Any, instruments: Instruments) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    words = tokenizer()
    config = transformers.LlamaConfig(
        vocab_size=100,
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=12,
        num_attention_heads=16,
        eos_token_id=None,
        pad_token_id=0,
    )
    model = transformers.LlamaForCausalLM(config).to("cuda", torch.bfloat16).eval()
    generator = Generator(model, words, max_new_tokens=24, do_sample=False)
    prompts = [" ".join(f"w{(each + place) % 98}" for place in range(8 + each)) for each in range(8)]
    per_token = {}
    for size in (1, 8):
        run = measure(
            generator, prompts, batch_size=size, tokens="ids", instruments=instruments, max_seconds=2 * SECONDS, count=["padding_share"]
        )
        assert run.tokens_per_query.value == 24
        per_token[size] = run.energy_per_token
    first = measure(lambda batch: generator(batch, max_new_tokens=1), prompts, instruments=instruments, max_seconds=SECONDS)
    assert per_token[8].value < 0.5 * per_token[1].value
    assert first.energy_per_query.value < 24 * per_token[1].value
    assert run.padding_share.value > 0


@pytest.mark.filterwarnings("ignore")
def test_an_onnx_session_on_its_cuda_provider_is_metered_on_the_gpu(torch: Any, instruments: Instruments) -> None:
    runtime, onnx = pytest.importorskip("onnxruntime"), pytest.importorskip("onnx")
    if "CUDAExecutionProvider" not in runtime.get_available_providers():
        pytest.skip(f"this ONNX Runtime has {', '.join(runtime.get_available_providers())}")
    width = 4096
    weights = onnx.numpy_helper.from_array((torch.randn(width, width) / width).numpy(), "w")
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, width]) for name in ("x", "y")]
    nodes = [onnx.helper.make_node("MatMul", ["x", "w"], ["h"]), onnx.helper.make_node("MatMul", ["h", "w"], ["y"])]
    graph = onnx.helper.make_graph(nodes, "two", ends[:1], ends[1:], [weights])
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    session = runtime.InferenceSession(made.SerializeToString(), providers=["CUDAExecutionProvider"])
    run = measure(session, torch.randn(512, width).numpy(), batch_size=256, instruments=instruments, max_seconds=SECONDS)
    assert run.energy_per_query.domain.startswith("gpu")
    assert any("CUDAExecutionProvider" in note for note in run.notes)


@pytest.mark.filterwarnings("ignore")
def test_a_sentence_transformer_is_metered_on_the_gpu(torch: Any, instruments: Instruments, tmp_path: Path) -> None:
    library, transformers = pytest.importorskip("sentence_transformers"), pytest.importorskip("transformers")
    modules = pytest.importorskip("sentence_transformers.models")
    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=100, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    transformers.BertModel(config).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    body = modules.Transformer(str(tmp_path), max_seq_length=32)
    model = library.SentenceTransformer(modules=[body, modules.Pooling(384)], device="cuda")
    texts = [" ".join(f"w{(each + place) % 98}" for place in range(16)) for each in range(64)]
    run = measure(model, texts, batch_size=32, instruments=instruments, max_seconds=SECONDS)
    assert len(run.outputs) == len(texts)
    assert run.energy_per_query.domain.startswith("gpu")
