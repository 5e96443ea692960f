"""The libraries that a first test is written for: how each is known, and a small model of it that needs no GPU and no network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pytest_greencompute.starting.found import Home


@dataclass(frozen=True, slots=True)
class ModelLibrary:
    """One kind of model.

    ``packages`` are what people install, the usual one first, and ``modules`` what they import; ``stands_in`` says what the test runs until
    theirs is in its place. ``imports``, ``model`` and ``test`` are the parts of the file, ``more`` is a test beside it. ``accuracy``: the
    test has references. ``extra`` is the one of ours that it needs.
    """

    name: str
    packages: tuple[str, ...]
    modules: tuple[str, ...]
    stands_in: str
    imports: str
    model: str
    test: str
    more: str = ""
    accuracy: bool = False
    extra: str = ""


_DEVICE = 'DEVICE = "cuda" if torch.cuda.is_available() else "cpu"'

_SENTENCES = ModelLibrary(
    "sentence-transformers",
    ("sentence-transformers",),
    ("sentence_transformers",),
    "a bag of words as a SentenceTransformer",
    """\
import pytest
from sentence_transformers import SentenceTransformer

try:
    from sentence_transformers.sentence_transformer.modules import BoW
except ImportError:  # older versions
    from sentence_transformers.models import BoW""",
    '''\
TEXTS = ["a quick brown fox", "the lazy dog", "more compute is not always better"]


def make_model():
    """Yours instead, such as SentenceTransformer("all-MiniLM-L6-v2")."""
    return SentenceTransformer(modules=[BoW(vocab=" ".join(TEXTS).split())])''',
    """\
    queries = [f"{text} {number}" for number in range(100) for text in TEXTS]
    model = make_model()  # its encode is called
    run = energy_meter.measure(model, queries, batch_size=10)
    assert len(run.outputs) == len(queries)""",
)
_TRANSFORMERS = ModelLibrary(
    "transformers",
    ("transformers",),
    ("transformers",),
    "a tiny BERT with random weights",
    "import pytest\nimport torch\nfrom transformers import BertConfig, BertForSequenceClassification",
    f'''\
{_DEVICE}


def make_model():
    """Yours instead, such as BertForSequenceClassification.from_pretrained(…)."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=1000,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
    )
    return BertForSequenceClassification(config).to(DEVICE).eval()''',
    """\
    model = make_model()
    queries = torch.randint(1, 1000, (256, 32), device=DEVICE)  # token ids

    def classify(batch):
        return model(input_ids=batch).logits.argmax(-1)

    with torch.inference_mode():
        run = energy_meter.measure(classify, queries, batch_size=16)
    assert len(run.outputs) == len(queries)""",
)
_ONNX = ModelLibrary(
    "ONNX Runtime",
    ("onnxruntime", "onnxruntime-gpu"),
    ("onnxruntime",),
    "an example model that onnxruntime brings",
    "import numpy as np\nimport onnxruntime\nimport pytest\nfrom onnxruntime.datasets import get_example",
    '''\
def make_model():
    """Yours instead: onnxruntime.InferenceSession("model.onnx")."""
    return onnxruntime.InferenceSession(get_example("sigmoid.onnx"))''',
    """\
    queries = np.random.default_rng(0).random((300, 4, 5), dtype=np.float32)
    model = make_model()  # this example takes three rows at a time
    run = energy_meter.measure(model, queries, batch_size=3)
    assert len(run.outputs) == len(queries)""",
)
_TORCH = ModelLibrary(
    "torch",
    ("torch", "lightning", "pytorch-lightning"),
    ("torch",),
    "a small torch module",
    "import pytest\nimport torch",
    f'''\
{_DEVICE}


def make_model():
    """Yours instead, loaded and in eval mode."""
    torch.manual_seed(0)
    layers = [torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 10)]
    return torch.nn.Sequential(*layers).to(DEVICE).eval()''',
    """\
    queries = torch.randn(512, 64, device=DEVICE)
    with torch.inference_mode():
        run = energy_meter.measure(make_model(), queries, batch_size=32)
    assert len(run.outputs) == len(queries)""",
)
_SKLEARN = ModelLibrary(
    "scikit-learn",
    ("scikit-learn",),
    ("sklearn",),
    "a small pipeline, fitted in the test",
    """\
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline""",
    '''\
TEXTS = ["a good film", "a very good play", "a bad film", "a very bad play"]
LABELS = ["good", "good", "bad", "bad"]


def make_model():
    """Yours instead, fitted or loaded."""
    return make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(TEXTS, LABELS)''',
    """\
    queries, references = TEXTS * 50, LABELS * 50
    model = make_model()  # its predict is called
    run = energy_meter.measure(model, queries, batch_size=20, references=references)
    assert len(run.outputs) == len(queries)""",
    accuracy=True,
)
_PLAIN = ModelLibrary(
    "plain Python",
    (),
    (),
    "a function that sorts words",
    "import pytest",
    '''\
def model(batch):
    """Yours instead."""
    answers = []
    for query in batch:
        for _ in range(1000):  # stands for a model's work
            words = sorted(query.split())
        answers.append(words[-1])
    return answers''',
    """\
    texts = ["a quick brown fox", "the lazy dog", "more compute is not always better"]
    queries, references = texts * 100, ["quick", "the", "not"] * 100
    run = energy_meter.measure(model, queries, batch_size=10, references=references)
    assert len(run.outputs) == len(queries)""",
    accuracy=True,
)
_SERVER = ModelLibrary(
    "a model server",
    ("openai", "vllm", "llama-cpp-python", "sglang", "ollama"),
    ("openai", "vllm", "llama_cpp", "sglang", "ollama"),
    "a function that sorts words; beside it a test of your server, skipped until it has an address",
    "import os\n\nimport pytest",
    '''\
# The address of your server on this machine, such as http://127.0.0.1:8000
SERVER = os.environ.get("MODEL_SERVER", "")


def model(batch):
    """What your application does around the server."""
    return [max(sorted(query.split()) * 1000) for query in batch]''',
    """\
    texts = ["a quick brown fox", "the lazy dog", "more compute is not always better"]
    queries, references = texts * 100, ["quick", "the", "not"] * 100
    run = energy_meter.measure(model, queries, batch_size=10, references=references)
    assert len(run.outputs) == len(queries)""",
    """\
# Its limits are wide: nothing was measured. `pytest --energy-budget --energy-update tighten` says what to write instead.
# Without a GPU or RAPL there is no energy of it: `cputime` sees only what the test itself has started.
@pytest.mark.skipif(not SERVER, reason="no server yet: set MODEL_SERVER to its address")
@pytest.mark.energy_budget(
    **{"concurrency=8": {"latency_p95": "30 s", "error_rate": "1 %"}}
)
def test_server(energy_meter):
    prompts = ["Why is the sky blue?", "Name three rivers.", "What is 17 times 4?"]
    loads = energy_meter.serve_load(SERVER, prompts, concurrency=[8])
    assert loads[8].outputs""",
    accuracy=True,
    extra="serving",
)
# The first that a project has is the one: what builds on another stands before it.
LIBRARIES = (_SENTENCES, _TRANSFORMERS, _ONNX, _TORCH, _SKLEARN, _SERVER)
PLAIN = _PLAIN
BENCHMARKS = {"pytest-benchmark": "pytest_benchmark", "pytest-codspeed": "pytest_codspeed"}


def had(home: Home, installed: Callable[[str], bool]) -> tuple[ModelLibrary, ...]:
    """The libraries that the project uses, else those that are installed: where it has no list of packages, and no code of its own."""
    if found := used(home):
        return found
    empty = home.declared is None and not home.code
    return tuple(each for each in LIBRARIES if any(map(installed, each.modules))) if empty else ()


def used(home: Home) -> tuple[ModelLibrary, ...]:
    """Those first that its code imports: a list of pinned packages names many that it does not."""
    imported = [each for each in LIBRARIES if home.imported.intersection(each.modules)]
    declared = [each for each in LIBRARIES if each not in imported and (home.declared or frozenset()).intersection(each.packages)]
    return (*imported, *declared)


def chosen(libraries: tuple[ModelLibrary, ...], installed: Callable[[str], bool]) -> ModelLibrary:
    """The one that the first test is of: one that is installed here, wherever there is one."""
    usable = [each for each in libraries if each.name == _SERVER.name or any(map(installed, each.modules))]
    return next(iter([*usable, *libraries]), PLAIN)


def missing(library: ModelLibrary, installed: Callable[[str], bool]) -> str:
    """What must be installed before the test of ``library`` runs; empty where all is there. A server's client is not needed."""
    gone = library.modules and library.name != _SERVER.name and not any(map(installed, library.modules))
    return library.packages[0] if gone else ""


def meters_benchmarks(home: Home, installed: Callable[[str], bool]) -> bool:
    """Whether it has benchmarks that can be metered as they are."""
    plugin = any(name in (home.declared or ()) or installed(module) for name, module in BENCHMARKS.items())
    return bool(home.benchmarks) and plugin
