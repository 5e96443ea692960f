"""Torch modules at other precisions, with real torch on the CPU: a copy that answers alike, and a module that stays as it was."""

from __future__ import annotations

import copy
import sys
from collections import UserDict
from pathlib import Path
from typing import Any, NamedTuple

import pytest

torch = pytest.importorskip("torch")

from pytest_greencompute.errors import CannotError, SettingsError  # noqa: E402
from pytest_greencompute.measuring.by_turns import Entrant, run_all_once  # noqa: E402
from pytest_greencompute.measuring.task import Task  # noqa: E402
from pytest_greencompute.models.alike import share_alike  # noqa: E402
from pytest_greencompute.models.answers import digests  # noqa: E402
from pytest_greencompute.models.precision import PRECISIONS, at_precision, share_of  # noqa: E402
from pytest_greencompute.models.scoring import scores  # noqa: E402
from pytest_greencompute.models.sweeps import Variants, checked_axes  # noqa: E402
from pytest_greencompute.models.workload import is_out_of_memory  # noqa: E402
from pytest_greencompute.testing.simulated import SimulatedClock  # noqa: E402

nn: Any = torch.nn
QUERIES = 64


def network() -> Any:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 10)).eval()


def queries() -> Any:
    torch.manual_seed(4)
    return torch.randn(QUERIES, 32)


class Keywords(nn.Module):  # type: ignore[misc]
    """A module that takes its tensors by name, in a dict, or in whatever a tokenizer returns."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 32)
        self.head = nn.Linear(32, 3)
        self.seen: list[Any] = []

    def forward(self, batch: Any, *, scale: float = 1.0) -> Any:
        ids, mask = (batch["ids"], batch["mask"]) if hasattr(batch, "keys") else batch
        self.seen.append(mask.dtype)
        return self.head((self.embed(ids) * mask.unsqueeze(-1)).mean(1)) * scale


class Pair(NamedTuple):
    ids: Any
    mask: Any


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_copy_at_each_precision_answers_like_the_original(precision: str) -> None:
    model, batch = network(), queries()
    with torch.inference_mode():
        reference = list(model(batch))
    answers = list(at_precision(model, precision)(batch))
    assert len(answers) == QUERIES
    agreed = share_alike(answers, reference)
    assert agreed is not None
    assert agreed >= (1.0 if precision == "fp32" else 0.9)
    if precision in {"bf16", "fp16"}:
        assert answers[0].dtype == getattr(torch, PRECISIONS[precision])
        assert digests(answers) != digests(reference)  # by their digits nearly all answers would have changed


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_users_module_stays_as_it_is(precision: str) -> None:
    model = network().train()
    calls: list[int] = []
    model.register_forward_hook(lambda *_: calls.append(1))
    before = copy.deepcopy(model.state_dict())
    at_precision(model, precision)(queries())
    assert model.training
    assert [parameter.dtype for parameter in model.parameters()] == [torch.float32] * 4
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert len(model._forward_pre_hooks) == 0
    assert len(model._forward_hooks) == 1
    assert [type(each).__name__ for each in model] == ["Linear", "ReLU", "Linear"]


@pytest.mark.parametrize("precision", ["bf16", "fp16", "int8"])
@pytest.mark.parametrize("kind", [dict, UserDict, tuple, list, Pair], ids=lambda kind: kind.__name__)
def test_a_module_gets_its_tensors_in_its_own_precision_however_they_come(kind: Any, precision: str) -> None:
    ids, mask = torch.tensor([[1, 2, 3], [4, 5, 6]]), torch.ones(2, 3)
    named = {"ids": ids, "mask": mask}
    batch = kind(ids, mask) if kind is Pair else kind(named) if kind in {dict, UserDict} else kind((ids, mask))
    model = Keywords().eval()
    assert at_precision(model, precision)(batch, scale=2.0).shape == (2, 3)
    assert model.seen == []
    assert mask.dtype == torch.float32
    assert (batch["mask"] if kind in {dict, UserDict} else batch[1]) is mask


def test_scores_of_low_precision_answers_work() -> None:
    model, batch = network(), queries()
    with torch.inference_mode():
        labels = model(batch).argmax(1).tolist()
    answers = list(at_precision(model, "bf16")(batch))
    right = scores(answers, labels, lambda logits, label: float(logits.argmax() == label))
    assert sum(right) / QUERIES >= 0.9


class Pictures(nn.Sequential):  # type: ignore[misc]
    """A convolutional net: of its weights, a part ``linear`` is that of a linear layer."""

    def __init__(self, linear: int = 0) -> None:
        super().__init__(nn.Conv2d(1, 10, 10), nn.ReLU(), nn.Flatten(), *([nn.Linear(10, linear)] if linear else []))


class Lookups(nn.Module):  # type: ignore[misc]
    """A table to look up in, and one layer; ``tied``: the layer multiplies by the table."""

    def __init__(self, *, tied: bool = False) -> None:
        super().__init__()
        self.table = nn.Embedding(1000, 32)
        self.head = nn.Linear(32, 1000 if tied else 96, bias=False)
        if tied:
            self.head.weight = self.table.weight

    def forward(self, batch: Any) -> Any:
        return self.head(self.table(batch))


def language_model(kind: str) -> Any:
    """A tiny one with random weights: GPT-2 multiplies by weights of a class of its own, Mixtral's experts are one parameter."""
    transformers: Any = pytest.importorskip("transformers")
    torch.manual_seed(5)
    if kind == "gpt2":
        config = transformers.GPT2Config(vocab_size=500, n_layer=1, n_head=2, n_embd=32, n_positions=32, bos_token_id=0, eos_token_id=0)
        return transformers.GPT2LMHeadModel(config).eval()
    config = transformers.MixtralConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2
    )
    return transformers.MixtralForCausalLM(config).eval()


@pytest.mark.parametrize(
    ("make", "share"),
    [
        (Pictures, "0.0 %"),
        (lambda: Pictures(96), "49 %"),
        (lambda: Lookups(tied=True), "0.0 %"),
        (lambda: language_model("gpt2"), "0.0 %"),
        (lambda: language_model("mixtral"), "11 %"),
        (lambda: nn.LSTM(8, 8), "0.0 %"),
        (lambda: nn.Sequential(nn.Softmax(1)), "0.0 %"),
    ],
    ids=["convolutions", "half", "tied", "gpt2", "mixtral", "lstm", "nothing"],
)
def test_what_is_no_int8_for_the_most_part_is_not_called_so(make: Any, share: str) -> None:
    with pytest.raises(CannotError) as refused:
        at_precision(make(), "int8")
    assert (
        str(refused.value) == f"no int8: {share} of its weights would be, nn.Linear alone is converted (compare() takes a copy of your own)"
    )


@pytest.mark.parametrize(
    ("make", "precision", "share"),
    [
        (network, "int8", 1.0),
        (network, "bf16", 1.0),
        (lambda: Pictures(104), "int8", 1040 / 2040),
        (Lookups, "int8", 3072 / 35072),  # what is only looked up in is multiplied by nothing
        (Pictures, "bf16", 1.0),
        (lambda: nn.Sequential(nn.Softmax(1)), "bf16", 1.0),
    ],
)
def test_the_share_of_the_weights_in_a_precision_is_known(make: Any, precision: str, share: float) -> None:
    variants = Variants(make())
    for settings in ({"precision": precision}, {"precision": precision, "scale": 2.0}):
        assert share_of(variants.at(settings)) == pytest.approx(share)


def test_a_module_of_packed_int8_is_in_no_other_precision() -> None:
    packed = at_precision(network(), "int8").module  # type: ignore[attr-defined]
    assert share_of(at_precision(packed, "int8")) == 1.0
    for precision in ("fp32", "bf16"):
        with pytest.raises(CannotError, match=f"no {precision}: 0.0 % of its weights would be, the others are packed"):
            at_precision(packed, precision)
    assert share_of(network) is None


def test_an_unchanged_net_is_a_row_that_says_so_and_never_the_right_size() -> None:
    clock = SimulatedClock()
    variants = Variants(Pictures())
    pictures = torch.ones(4, 1, 10, 10)
    entrants = [
        Entrant(name, lambda name=name: Task(variants.at({"precision": name}), pictures), {"precision": name})  # type: ignore[misc]
        for name in ("fp32", "int8")
    ]
    (full, none), _ = run_all_once(entrants, clock, None)
    assert full.run is not None
    assert full.weights == 1.0
    assert (none.run, none.impossible) == (None, True)
    assert none.problem.startswith("no int8: 0.0 % of its weights")


def test_a_kernel_that_the_device_lacks_is_no_fault_of_the_model() -> None:
    class Inverse(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.eye(4))

        def forward(self, batch: Any) -> Any:
            return torch.linalg.inv(self.weight) @ batch.to(self.weight.dtype).T

    batch = torch.ones(2, 4)
    assert at_precision(Inverse(), "fp32")(batch).shape == (4, 2)
    with pytest.raises(CannotError, match=r"this device lacks fp16 \("):
        at_precision(Inverse(), "fp16")(batch)


def test_what_a_model_says_itself_is_its_own_error_at_any_precision() -> None:
    class Refusing(nn.Sequential):  # type: ignore[misc]
        def forward(self, batch: Any) -> Any:
            raise RuntimeError("batches of this kind are not supported")

    for precision in ("fp32", "bf16"):
        with pytest.raises(RuntimeError, match="not supported"):
            at_precision(Refusing(nn.Linear(2, 2)), precision)(torch.ones(1, 2))


def test_a_low_precision_module_becomes_int8_too() -> None:
    model = network().to(torch.bfloat16)
    assert at_precision(model, "int8")(queries()).shape == (QUERIES, 10)
    assert next(model.parameters()).dtype == torch.bfloat16


def test_int8_without_torchao_and_without_torchs_own_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.delattr(torch.ao.quantization, "quantize_dynamic")
    with pytest.raises(CannotError, match=r"int8 needs torchao: pip install torchao"):
        at_precision(network(), "int8")


TORCHAO = """
import warnings
import torch

class Int8Weight(torch.nn.Parameter):
    pass

class Int8DynamicActivationInt8WeightConfig:
    pass

def quantize_(model, config):
    assert isinstance(config, Int8DynamicActivationInt8WeightConfig)
    model.register_forward_pre_hook(lambda *_: warnings.warn("this layout will be removed"))
    for part in model.modules():
        if isinstance(part, torch.nn.Linear):
            part.weight = Int8Weight(part.weight.data)
    warnings.warn("this configuration will be removed")
"""


def test_torchao_makes_int8_where_it_is_installed_and_what_it_warns_of_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package in torchao's place, which warns as torchao 0.17 does: when it converts, and at every call."""
    (tmp_path / "torchao").mkdir()
    (tmp_path / "torchao/__init__.py").write_text("import warnings\nwarnings.warn('an older torch')", encoding="utf-8")
    (tmp_path / "torchao/quantization.py").write_text(TORCHAO, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    model = network()
    try:
        converted = at_precision(model, "int8")
        assert torch.equal(converted(queries()), model(queries()))
    finally:
        for name in ("torchao", "torchao.quantization"):
            sys.modules.pop(name, None)


def test_a_module_on_another_device_needs_torchao_for_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(CannotError, match="int8 on this device needs torchao"):
        at_precision(network().to("meta"), "int8")


def test_no_gradient_is_kept() -> None:
    assert not at_precision(network(), "fp32")(queries()).requires_grad


def test_a_function_has_no_precision() -> None:
    with pytest.raises(SettingsError, match=r"The model is a function, which has no precision\. Pass the torch\.nn\.Module itself, or a"):
        at_precision(lambda batch: batch, "bf16")


def test_a_sweep_shares_one_copy_among_the_batch_sizes_and_hands_settings_to_forward() -> None:
    model = Keywords()
    assert checked_axes(model, {"precision": ["fp32", "bf16"], "scale": [1.0, 2.0]})
    with pytest.raises(SettingsError, match="The model Keywords takes no argument 'scales'"):
        checked_axes(model, {"scales": [1.0, 2.0]})
    variants = Variants(network())
    assert variants.at({"precision": "bf16", "batch_size": 1}) is variants.at({"precision": "bf16", "batch_size": 4})


def test_torchs_out_of_memory_is_known_by_name() -> None:
    assert is_out_of_memory(f"{torch.OutOfMemoryError.__name__}: tried to allocate")
