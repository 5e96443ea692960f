"""The levers: which apply to what, what each does to a task, and that the user's model, queries and process stay as they are."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from pytest_greencompute.advising.levers import Configuration, Lever, Setting
from pytest_greencompute.errors import CannotError, SettingsError
from pytest_greencompute.levers.changed import Changed, LeverRow, changed, in_users_order, run_in_users_order
from pytest_greencompute.levers.process import as_it_was
from pytest_greencompute.levers.table import rows, settings_of
from pytest_greencompute.measuring.once import run_once
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.models.copies import modules_of
from pytest_greencompute.models.generator import Generator
from pytest_greencompute.testing.simulated import SimulatedClock

torch: Any = pytest.importorskip("torch")

WORDS = ["a", "bbbb", "cc", "a", "ddddddddd", "bbbb", "eeee", "f"]


def upper(batch: Sequence[str]) -> list[str]:
    return [query.upper() for query in batch]


def task(model: Callable[..., Any] = upper, queries: Any = WORDS, **fields: Any) -> Task:
    return Task(model, queries, **fields)


def pulled(name: str, value: Any = True, given: Task | None = None, candidates: Any = None) -> Changed:
    """The task with one lever at a value."""
    table = rows([name], candidates or {})
    return changed(given or task(), Configuration((Setting(table[0].lever, value),)), table)


def values(name: str, given: Task) -> list[Any]:
    found, refused = settings_of(rows([name], {}), given)
    return [each.value for each in found] or [refused[name]]


def answers(found: Changed) -> list[Any]:
    _, outputs = run_once(found.ready(), SimulatedClock())
    return in_users_order(outputs, found.order)


# Queries


def test_sorted_queries_keep_their_references_and_everything_comes_back_in_the_users_order() -> None:
    found = pulled("by_length", given=task(references=[word.upper() for word in WORDS]))
    assert found.task.queries == sorted(WORDS, key=len)
    run, outputs = run_once(found.ready(), SimulatedClock())
    assert run.scores == (1.0,) * len(WORDS)
    assert in_users_order(outputs, found.order) == upper(WORDS)
    wrong = pulled("by_length", given=task(references=["A"] * len(WORDS)))
    assert run_in_users_order(run_once(wrong.ready(), SimulatedClock())[0], wrong.order).scores == (1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0)


def test_a_query_that_comes_again_is_answered_without_the_model_in_every_pass_and_any_batch() -> None:
    asked: list[str] = []

    def model(batch: Sequence[str]) -> list[str]:
        asked.extend(batch)
        return upper(batch)

    found = pulled("answer_once", given=task(model, batch_size=3))
    ready = found.ready()
    for _ in range(2):
        asked.clear()
        _, outputs = run_once(ready, SimulatedClock())
        assert outputs == upper(WORDS)
        assert sorted(asked) == sorted(set(WORDS))


def test_queries_are_cut_to_what_most_of_them_need() -> None:
    lengths = values("truncate", task())
    assert lengths == [2, 4]
    assert answers(pulled("truncate", 4))[4] == "DDDD"


@pytest.mark.parametrize(
    ("name", "queries", "why"),
    [
        ("by_length", sorted(WORDS, key=len), "in order of length already"),
        ("by_length", [1, 2, 3], "no length"),
        ("truncate", [1, 2, 3], "no texts"),
        ("truncate", ["ab", "cd"], "about as long"),
        ("answer_once", ["ab", "cd"], "no query comes again"),
        ("answer_once", [[1], [1]], "keys of a table"),
        ("max_new_tokens", WORDS, "no Generator"),
        ("precision", WORDS, "no torch module"),
        ("attention", WORDS, "no torch module"),
        ("threads", WORDS, "no torch module"),
        ("inference_mode", WORDS, "no torch module"),
        ("model", WORDS, "no candidates="),
    ],
)
def test_what_a_lever_needs_and_lacks_is_said(name: str, queries: Any, why: str) -> None:
    assert why in values(name, task(queries=queries))[0]


def test_batch_sizes_are_others_than_todays_and_no_larger_than_the_queries() -> None:
    assert values("batch_size", task(queries=list(range(40)), batch_size=8)) == [32]


def test_another_model_comes_first_and_the_other_levers_are_pulled_on_it() -> None:
    table = rows(["model", "answer_once"], {"small": lambda batch: [query.lower() for query in batch]})
    both = Configuration((Setting(table[1].lever), Setting(table[0].lever, "small")))
    assert answers(changed(task(), both, table)) == WORDS


# Modules


class Net(torch.nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 4)

    def forward(self, batch: Any) -> Any:
        return self.layer(batch)


class Holding:
    """A model that is no module and has one."""

    __slots__ = ("net",)

    def __init__(self, net: Net) -> None:
        self.net = net

    def __call__(self, batch: Sequence[float]) -> list[list[float]]:
        return [*self.net(torch.full((len(batch), 4), 0.5)).tolist()]


def closing(net: Net) -> Callable[[Sequence[float]], list[list[float]]]:
    def through(batch: Sequence[float]) -> Any:
        return net(torch.full((len(batch), 4), 0.5))

    return lambda batch: [*through(batch).tolist()]


def with_net(net: Net, batch: Sequence[float]) -> list[list[float]]:
    return [*net(torch.full((len(batch), 4), 0.5)).tolist()]


KINDS = {
    "an object": Holding,
    "a closure": closing,
    "a method": lambda net: Holding(net).__call__,
    "a partial": lambda net: functools.partial(with_net, net),
}


def state(net: Net) -> str:
    """A digest of a module and of what of the process a lever may change."""
    held = [*(each.detach().numpy().tobytes() for each in net.parameters()), *(str(each.dtype).encode() for each in net.parameters())]
    hooks = [(len(part._forward_pre_hooks), len(part._forward_hooks), part.training) for part in net.modules()]
    of_process = (torch.get_num_threads(), torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype())
    luck = (random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state().numpy().tobytes())  # type: ignore[union-attr]
    return hashlib.sha256(repr((held, hooks, of_process, luck)).encode()).hexdigest()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "value"), [("precision", "bf16"), ("precision", "int8"), ("threads", 1), ("inference_mode", True)])
def test_a_lever_is_pulled_on_a_copy_and_leaves_model_and_process_as_they_were(kind: str, name: str, value: Any) -> None:
    net = Net()
    model = KINDS[kind](net)
    given = task(model, [0.0] * 8, batch_size=4)
    exact, before = run_once(given, SimulatedClock())[1], state(net)
    assert value in values(name, given) or name == "threads"
    found = answers(pulled(name, value, given))
    assert np.allclose(found, exact, atol=0.02)
    assert (found != exact) == (name == "precision")
    assert state(net) == before


def test_a_model_that_calls_its_module_where_no_copy_can_be_put_is_refused() -> None:
    net = Net()
    table = {"net": [net]}

    class Looking:
        def __call__(self, batch: Sequence[float]) -> Any:
            return with_net(HIDDEN["net"], batch)

        def __init__(self) -> None:
            self.table = table

    HIDDEN["net"] = net
    with pytest.raises(CannotError, match="cannot be copied: a copy of it calls"):
        pulled("precision", "bf16", task(Looking(), [0.0] * 4))


HIDDEN: dict[str, Any] = {}


class Uncopyable(Holding):
    def __deepcopy__(self, _memo: Any) -> Any:
        raise TypeError("cannot pickle 'socket' object")


def test_a_model_that_cannot_be_copied_is_said() -> None:
    with pytest.raises(CannotError, match=r"the model cannot be copied .TypeError: cannot pickle 'socket' object"):
        pulled("precision", "bf16", task(Uncopyable(Net()), [0.0] * 4))


def test_a_module_that_is_called_without_gradients_needs_no_inference_mode() -> None:
    def model(batch: Sequence[float]) -> Any:
        with torch.no_grad():
            return with_net(NET, batch)

    assert values("inference_mode", task(model, [0.0] * 4)) == ["the model is called without gradients already"]
    assert values("inference_mode", task(closing(NET), [0.0] * 4)) == [True]


NET = Net()


def test_the_process_is_put_back_as_it_was_even_after_an_error() -> None:
    def spoil() -> None:
        torch.set_num_threads(torch.get_num_threads() + 1)
        torch.set_grad_enabled(False)
        torch.rand(1), random.random(), np.random.rand()
        raise ZeroDivisionError

    before = state(NET)
    with pytest.raises(ZeroDivisionError), as_it_was():
        spoil()
    assert state(NET) == before


def test_attention_is_another_in_a_copy_that_shares_the_weights() -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 32}
    model = transformers.BertModel(transformers.BertConfig(**sizes)).eval()

    def embed(batch: Sequence[int]) -> list[list[float]]:
        return [*model(torch.tensor([[1, each] for each in batch])).last_hidden_state[:, 0].tolist()]

    given = task(embed, [2, 3, 4, 5], batch_size=2)
    assert values("attention", given) == ["eager"]
    found = pulled("attention", "eager", given)
    assert np.allclose(answers(found), run_once(given, SimulatedClock())[1], atol=1e-5)
    (copied,) = modules_of(found.task.model)
    assert (copied.config._attn_implementation, model.config._attn_implementation) == ("eager", "sdpa")
    assert [each.data_ptr() for each in copied.parameters()] == [each.data_ptr() for each in model.parameters()]


# Generators


class Writing:
    """What a Generator needs of a model; it says what it was asked for."""

    def generate(self, **options: Any) -> Any:
        raise AssertionError(options)


class Tokenizer:
    pad_token_id = 0

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise AssertionError

    def decode(self, *_: Any, **__: Any) -> str:
        return ""


def test_a_generators_limit_is_halved_and_quartered_and_its_other_options_stay() -> None:
    generator = Generator(Writing(), Tokenizer(), max_new_tokens=20, answers="text", do_sample=False)
    given = task(generator, ["a prompt"])
    assert values("max_new_tokens", given) == [10, 5]
    shorter: Any = pulled("max_new_tokens", 5, given).task.model
    assert dict(shorter.options) == {"max_new_tokens": 5, "do_sample": False}
    line: Any = pulled("stop_at_line", True, task(shorter, ["a prompt"])).task.model
    assert dict(line.options) == {"max_new_tokens": 5, "do_sample": False, "stop_strings": ["\n"]}
    assert values("stop_at_line", task(line, ["a prompt"])) == ["the generator has stop sequences already"]
    assert dict(generator.options) == {"max_new_tokens": 20, "do_sample": False}


# Rows of others


def entry(row: Any) -> Any:
    return type("Entry", (), {"name": "mine", "load": lambda _: row})()


def test_a_lever_of_another_package_that_does_not_load_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_: Any) -> Any:
        raise ImportError("no module named mine")

    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [type("Entry", (), {"name": "mine", "load": load})()])
    with pytest.raises(SettingsError, match="The lever 'mine' does not load: ImportError: no module named mine"):
        rows(None, {})


def test_another_package_adds_a_row_and_what_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = Lever("shout", "input", "texts", "query = query.upper()")

    def broken(_: Changed) -> Sequence[Any]:
        raise RuntimeError("not today")

    given: list[Any] = [entry(LeverRow(mine, broken, lambda changed, _: changed))]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: given)
    found, refused = settings_of(rows(None, {}), task())
    assert "shout" not in {each.lever.name for each in found}
    assert refused["shout"] == "it raised RuntimeError: not today"
    given[:] = [entry(object())]
    with pytest.raises(SettingsError, match=r"'mine' of greencompute\.levers gives a object"):
        rows(None, {})


def test_candidates_that_are_no_models_by_name_are_refused() -> None:
    with pytest.raises(SettingsError, match="named models"):
        rows(None, {"small": 3})  # type: ignore[dict-item]
