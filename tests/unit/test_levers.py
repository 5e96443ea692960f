"""The levers: which apply to what, what each does to a task, and that the user's model, queries and process stay as they are."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_greencompute.advising.levers import LEVERS, Configuration, Lever, Setting
from pytest_greencompute.errors import CannotError, SettingsError
from pytest_greencompute.levers import table as levers_table
from pytest_greencompute.levers.changed import Changed, LeverRow, changed, in_users_order, run_in_users_order
from pytest_greencompute.levers.sample import sample
from pytest_greencompute.levers.students import students
from pytest_greencompute.levers.table import rows, settings_of
from pytest_greencompute.measuring.once import run_once
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.models.copies import modules_of
from pytest_greencompute.models.generator import Generator
from pytest_greencompute.models.held import held_by
from pytest_greencompute.models.process import as_it_was
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
    return values_with(name, given, {})


def values_with(name: str, given: Task, candidates: Any) -> list[Any]:
    found, refused = settings_of(rows([name], candidates), given)
    return [each.value for each in found] or [refused[name]]


def answers(found: Changed) -> list[Any]:
    _, outputs = run_once(found.ready(), SimulatedClock())
    return in_users_order(outputs, found.order)


def test_every_lever_has_a_row_that_does_it_and_one_in_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "advise.md").read_text(encoding="utf-8")
    assert {row.lever.name for row in rows([*LEVERS], {})} == set(LEVERS)
    assert [name for name in LEVERS if f"`{name}`" not in page] == []


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
        ("answer_once", [("ab", ["c"]), ("ab", ["c"])], "keys of a table"),
        ("max_new_tokens", WORDS, "no Generator"),
        ("precision", WORDS, "no torch module"),
        ("attention", WORDS, "no torch module"),
        ("threads", WORDS, "no torch module"),
        ("inference_mode", WORDS, "no torch module"),
        ("model", WORDS, "no candidates="),
        ("cascade", WORDS, "no candidate says how sure"),
        ("reasoning_off", WORDS, "no Generator"),
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


# A sample


def test_a_sample_is_the_same_each_time_in_order_and_of_as_many_queries_as_a_second_is_enough_for() -> None:
    queries = [f"query {number}" for number in range(1000)]
    places = sample(queries, 10.0)
    assert places == tuple(sorted(places)) == sample(queries, 10.0)
    assert len(set(places)) == len(places) == 100
    assert len(sample(queries, 1000.0)) == 32
    assert sample(queries, 1.5) == tuple(range(1000))
    assert sample(queries[:60], 1000.0) == tuple(range(60))
    assert sample(range(1000), 10.0) == tuple(range(1000))  # which nobody can take a part of as a list


def test_of_a_sample_as_many_queries_come_again_as_of_all() -> None:
    queries = [f"query {number % 250}" for number in range(1000)]
    chosen = [queries[place] for place in sample(queries, 5.0)]
    assert len(chosen) == 200
    assert len(set(chosen)) == 50


def test_queries_that_cannot_be_keys_are_sampled_and_each_is_another() -> None:
    passages = [(f"query {number}", ["a passage", "another"]) for number in range(400)]  # a tuple, which says that it can be hashed
    assert len(sample(passages, 10.0)) == 40
    mixed = [[place] if place % 2 else place - 1 for place in range(400)]  # each number is the place of the list beside it
    assert len(sample(mixed, 10.0)) == 40


# Smaller models


class Small:
    """It knows short queries, and says so."""

    def __call__(self, batch: Sequence[str]) -> list[str]:
        return self.with_confidence(batch)[0]

    def with_confidence(self, batch: Sequence[str]) -> tuple[list[str], list[float]]:
        return [query.upper() if len(query) < 4 else "?" for query in batch], [1 / len(query) for query in batch]


def test_a_smaller_model_answers_what_it_is_sure_of_and_the_model_is_asked_the_rest_together() -> None:
    asked: list[list[str]] = []

    def model(batch: Sequence[str]) -> list[str]:
        asked.append([*batch])
        return upper(batch)

    given = task(model, batch_size=4, collate=list)
    assert values_with("cascade", given, {"small": Small(), "unsure": upper}) == ["small@0.5", "small@0.25"]
    assert answers(pulled("cascade", "small@0.5", given, {"small": Small()})) == upper(WORDS)
    assert asked == [["bbbb"], ["ddddddddd", "bbbb", "eeee"]]


def test_a_cascade_remembers_answers_around_both_models() -> None:
    table = rows(["cascade", "answer_once"], {"small": Small()})
    both = Configuration((Setting(table[1].lever), Setting(table[0].lever, "small@0.5")))
    assert answers(changed(task(batch_size=3), both, table)) == upper(WORDS)


def test_a_candidate_that_is_as_sure_of_all_or_gives_too_few_shares_makes_no_cascade() -> None:
    small = Small()
    assert values_with("cascade", task(queries=["ab", "cd"]), {"small": small}) == [
        "the candidates are as sure of each query as of any other"
    ]
    small.with_confidence = lambda batch: (upper(batch), [1.0])  # type: ignore[method-assign]
    assert values_with("cascade", task(batch_size=8), {"small": small}) == ["with_confidence gives 8 answers and 1 shares for 8 queries"]


# Students


def test_a_student_learns_todays_answers_and_says_how_sure_it_is() -> None:
    pytest.importorskip("sklearn")
    queries = [f"{'good' if number % 3 else 'bad'} film {number % 7}" for number in range(60)]
    today = ["fresh" if "good" in query else "rotten" for query in queries]
    (name, student), *_ = students(task(queries=queries), today).items()
    found, sure = student.with_confidence(queries[:9])
    assert (name, found) == ("student_words", today[:9])
    assert all(0.5 < each < 1 for each in sure)
    assert "TfidfVectorizer" in Setting(rows(["model"], {name: student})[0].lever, name).code
    assert Setting(rows(["cascade"], {name: student})[0].lever, f"{name}@0.9").code.startswith("student_words = make_pipeline(")
    # Or a student that is asked again would be held for one that keeps answers.
    assert not any(query in table for table in held_by(student) if isinstance(table, dict) for query in queries)
    with pytest.raises(CannotError, match="on the queries as they are"):
        student(["another"])


def test_a_student_is_fitted_on_other_queries_than_it_answers() -> None:
    """Answers that follow from nothing are learnt by heart where a student has seen them, and guessed where it has not."""
    pytest.importorskip("sklearn")
    luck = random.Random(1)
    queries = [f"{luck.random()} {luck.random()} film" for _ in range(200)]
    queries = [f"{query} {query}" for query in queries]  # each word comes twice, in one query alone
    today = [luck.choice(["fresh", "rotten"]) for _ in queries]
    student = students(task(queries=queries + queries, batch_size=8), today + today)["student_words"]
    right = sum(map(str.__eq__, student(queries), today)) / len(queries)
    assert 0.35 < right < 0.65


def test_a_student_of_features_runs_the_first_layers_alone() -> None:
    pytest.importorskip("sklearn")
    ran: list[int] = []

    class Layer(torch.nn.Linear):  # type: ignore[misc]
        def forward(self, rows: Any) -> Any:
            ran.append(len(rows))
            return super().forward(rows)

    net = torch.nn.Sequential(*(Layer(2, 2, bias=False) for _ in range(6)))
    for layer in net:
        torch.nn.init.eye_(layer.weight)
    queries = [[float(number % 2), float(number)] for number in range(40)]
    given = task(lambda batch: net(torch.tensor(batch))[:, 0].tolist(), queries, batch_size=8)
    today = [number % 2 for number in range(40)]
    student = students(given, today)["student_layers"]
    ran.clear()
    before = state_of_hooks(net)
    assert student(queries[:20]) == today[:20]
    assert ran == [20, 20]  # of six layers two
    assert state_of_hooks(net) == before


def state_of_hooks(net: Any) -> list[tuple[int, int]]:
    return [(len(part._forward_pre_hooks), len(part._forward_hooks)) for part in net.modules()]


@pytest.mark.parametrize(
    ("answers", "why"),
    [([0.5] * 8, "no labels"), (["a"] * 8, "nothing to learn"), ([*"abcdefgh"], "nothing to learn")],
)
def test_answers_that_nothing_can_be_learnt_from_make_no_student(answers: list[Any], why: str) -> None:
    pytest.importorskip("sklearn")
    with pytest.raises(CannotError, match=why):
        students(task(), answers)


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


def test_onnx_runtime_says_which_packages_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name.startswith("onnx") else name)
    assert values("onnx", task(closing(NET), [0.0] * 4)) == [
        "it needs onnxruntime and onnx and onnxscript: pip install onnxruntime onnx onnxscript"
    ]


def test_a_module_runs_in_onnx_runtime_for_other_batches_than_it_was_shown() -> None:
    for name in ("onnxruntime", "onnx", "onnxscript"):
        pytest.importorskip(name)
    net = Net()
    given, before = task(closing(net), [0.0] * 7, batch_size=3), state(net)
    exact = run_once(given, SimulatedClock())[1]
    found = pulled("onnx", True, given)
    assert np.allclose(answers(found), exact, atol=1e-5)
    assert state(net) == before
    (copied,) = modules_of(found.task.model)
    assert "forward" in vars(copied)


# Generators


class Writing:
    """What a Generator needs of a model; it says what it was asked for."""

    def generate(self, **options: Any) -> Any:
        raise AssertionError(options)


class Tokenizer:
    pad_token_id = 0
    chat_template = ""

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


def test_reasoning_is_off_where_the_chat_template_can_do_that() -> None:
    tokenizer = Tokenizer()
    given = task(Generator(Writing(), tokenizer), ["a prompt"])
    assert values("reasoning_off", given) == ["the tokenizer's chat template has no enable_thinking"]
    tokenizer.chat_template = "{% if enable_thinking is false %}<think></think>{% endif %}"
    assert values("reasoning_off", given) == [True]
    off: Any = pulled("reasoning_off", True, given).task.model
    assert off.template == {"enable_thinking": False}
    assert off.having(max_new_tokens=3).template == off.template
    assert values("reasoning_off", task(off, ["a prompt"])) == ["the generator's reasoning is off already"]
    assert given.model.template == {}  # type: ignore[attr-defined]


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


def test_a_row_that_hangs_while_it_looks_for_its_values_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging(Small):
        def with_confidence(self, batch: Sequence[str]) -> tuple[list[str], list[float]]:
            time.sleep(3600)
            return super().with_confidence(batch)

    monkeypatch.setattr(levers_table, "VALUES_S", 0.1)
    assert values_with("cascade", task(), {"small": Hanging()}) == ["what to try was not known within 0 s"]
