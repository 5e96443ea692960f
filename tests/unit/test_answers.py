"""Answers as values: what equals a reference, what a digest tells apart, and what a model cannot overwrite once it has answered."""

from __future__ import annotations

import math
import time
from collections import OrderedDict, UserDict, deque, namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.estimates.answers import changed_answers
from pytest_greencompute.estimates.estimate import Estimate
from pytest_greencompute.measuring.driver import run_metered
from pytest_greencompute.measuring.effort import Effort
from pytest_greencompute.measuring.once import run_once
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.models.alike import alike, share_alike
from pytest_greencompute.models.answers import Keeper, digests, equal, unlike_shapes, untold
from pytest_greencompute.models.contents import digest_of
from pytest_greencompute.models.scoring import scores
from pytest_greencompute.models.workload import Workload
from pytest_greencompute.testing.simulated import SimulatedClock, SimulatedGpu
from pytest_greencompute.values.metrics import METRICS

torch: Any = pytest.importorskip("torch")
pandas: Any = pytest.importorskip("pandas")
sparse: Any = pytest.importorskip("scipy.sparse")

Pair = namedtuple("Pair", "left right")


@dataclass
class Box:
    label: str
    corners: Any


@dataclass(frozen=True)
class Frozen:
    scores: Any


class Broken:
    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no such comparison")

    __hash__ = None  # type: ignore[assignment]


class Neither:
    def __eq__(self, other: object) -> Any:
        return Spread()

    __hash__ = None  # type: ignore[assignment]


class Spread:
    shape = (3,)

    def all(self) -> bool:
        return True


class Shown:
    """A class without a __repr__ of its own."""

    def __init__(self, label: str) -> None:
        self.label = label


# --- equal: against a slow, obvious definition ------------------------------------------------------------------------


def spelt(value: Any) -> tuple[str, Any, Any]:
    """A value as its kind, its shape or keys, and all that is in it: of an array, that is its rows."""
    if isinstance(value, np.ndarray | torch.Tensor):
        return ("rows", tuple(value.shape), [spelt(each) for each in value]) if len(value.shape) else ("one", None, value.item())
    if isinstance(value, list | tuple):
        return type(value).__name__, (len(value),), [spelt(each) for each in value]
    if isinstance(value, dict):
        return "dict", sorted(value), [spelt(value[key]) for key in sorted(value)]
    return "one", None, value


def obviously(one: tuple[str, Any, Any], other: tuple[str, Any, Any]) -> bool:
    """``equal`` of two that are spelt out, value by value."""
    (kind, shape, inside), (other_kind, other_shape, other_inside) = one, other
    if kind == other_kind == "one":
        return bool(inside == other_inside)
    mixed = {kind, other_kind} in ({"rows", "list"}, {"rows", "tuple"})
    if kind != other_kind and not mixed:
        return False
    if shape != other_shape and not (mixed and inside and shape[0] == other_shape[0]):
        return False
    return all(obviously(*pair) for pair in zip(inside, other_inside, strict=True))


atoms = st.integers(0, 2) | st.sampled_from(["", "a", "ab"]) | st.booleans() | st.none() | st.sampled_from([0.5, 1.0, -0.0])
shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)


@st.composite
def arrays(draw: st.DrawFn) -> Any:
    shape = draw(shapes)
    size = math.prod(shape)
    array = np.array(draw(st.lists(st.integers(0, 1), min_size=size, max_size=size)), dtype=draw(st.sampled_from(["i8", "f4", "f8"])))
    array = array.reshape(shape)
    made: Any = draw(st.sampled_from([array, array.tolist(), torch.tensor(array), array.astype(object)]))
    return made


values = st.recursive(
    atoms | arrays(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.sampled_from("ab"), inner, max_size=2)
        | inner.map(lambda each: np.array(each) if isinstance(each, int | float) else each)
    ),
    max_leaves=6,
)


@given(values, values)
def test_equal_is_the_slow_obvious_definition(one: Any, other: Any) -> None:
    assert equal(one, other) == obviously(spelt(one), spelt(other))
    assert equal(other, one) == equal(one, other)
    assert equal(one, one)


@given(st.recursive(atoms, lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text(max_size=1), inner), max_leaves=8))
def test_of_plain_values_equal_is_what_python_says(value: Any) -> None:
    assert equal(value, value)
    for other in (0, "", [], (), {}, [value], (value,), {"a": value}):
        assert equal(value, other) == (value == other)


FIVES = [5, 5, 5]
KINDS: list[Callable[[Any], Any]] = [list, np.array, torch.tensor]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reference", KINDS)
@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: [x], lambda x: {"a": (x,)}, lambda x: Box("a", x), lambda x: SimpleNamespace(a=x)])
def test_nothing_is_broadcast_however_deep_it_lies(kind: Any, reference: Any, wrap: Any) -> None:
    def right(answer: Any) -> float:
        return scores([wrap(answer)], [wrap(reference(FIVES))], "accuracy")[0]

    assert right(kind(FIVES)) == 1.0
    assert [right(kind(each)) for each in ([], [5], [[5, 5, 5]], [5, 5, 4])] == [0.0] * 4
    assert right(5) == 0.0
    assert right(np.float64(5)) == 0.0


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        (np.float32(0.1), 0.1),
        (np.array([0.1], dtype="f4"), [0.1]),
        (torch.tensor(3), 3),
        (np.array("ab"), "ab"),
        (torch.tensor([1.5, 2.0], dtype=torch.bfloat16), [1.5, 2.0]),
        (torch.tensor([1.5], requires_grad=True), np.array([1.5])),
        (torch.tensor([[0.0, 2.0]]).to_sparse(), [[0.0, 2.0]]),
        (sparse.csr_array([[0.0, 2.0]]), np.array([[0.0, 2.0]])),
        (torch.nested.nested_tensor([torch.ones(1), torch.ones(2)], layout=torch.jagged), [[1.0], [1.0, 1.0]]),
        (np.array([[1, 2], [3]], dtype=object), [[1, 2], [3]]),
        (np.array(["a", None], dtype=object), ["a", None]),
        (np.array(["2020-01-01"], dtype="M8[D]"), np.array(["2020-01-01"], dtype="M8[s]")),
        (np.ma.array([1, 2], mask=[0, 1]), np.ma.array([1, 3], mask=[0, 1])),
        (pandas.DataFrame({"a": [1, 2]}), pandas.DataFrame({"a": [1.0, 2.0]})),
        (pandas.Series([1, 2]), [1, 2]),
        (pandas.Index(["a"]), ["a"]),
        (range(3), np.arange(3)),
        (Pair(1, np.arange(2)), (1, np.arange(2))),
        (deque([np.arange(2)]), deque([[0, 1]])),
        (OrderedDict(a=np.arange(2)), {"a": [0, 1]}),
        (UserDict({"a": [1]}), {"a": np.array([1])}),
        (Frozen(np.arange(2)), Frozen([0, 1])),
        (np.array([(1, 0.5)], dtype="i4,f8"), [(1, 0.5)]),
        (-0.0, 0.0),
        (True, 1),
        ({1, 2}, frozenset((2, 1))),
        (np.zeros((0, 3)), np.zeros((0, 3))),
        (np.zeros((2, 0)), [[], []]),
    ],
    ids=repr,
)
def test_the_same_values_in_the_same_shape_are_equal_whatever_holds_them(answer: Any, reference: Any) -> None:
    assert equal(answer, reference)
    assert equal(reference, answer)


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("ab", ["a", "b"]),
        ("a", np.array(["a"])),
        ("", []),
        ([], np.zeros((0, 3))),
        (np.zeros((0, 3)), np.zeros((0,))),
        (np.zeros((0, 3)), np.zeros((3, 0))),
        (np.array([5]), 5),
        (torch.tensor([5]), 5),
        ([1, 2], (1, 2)),
        (np.arange(2), {0, 1}),
        (np.arange(2), {"0": 0, "1": 1}),
        (np.array([1, 2]), None),
        (math.nan, math.nan),
        ([np.nan], [np.nan]),
        (np.array([math.nan]), np.array([math.nan])),
        ({math.nan}, {math.nan}),
        (torch.tensor([math.nan]), torch.tensor([math.nan])),
        (pandas.Series([1, None], dtype="Int64"), pandas.Series([1, 2], dtype="Int64")),
        (pandas.NA, 1),
        (pandas.NA, pandas.NA),
        (pandas.DataFrame({"a": [1]}), pandas.DataFrame({"b": [1]})),
        (pandas.DataFrame({"a": [1]}), pandas.DataFrame({"a": [1]}, index=[7])),
        (pandas.DataFrame({"a": []}), pandas.DataFrame({"a": [1]})),
        (pandas.Series([], dtype=float), pandas.Series([1.0])),
        (np.ma.array([1, 2], mask=[0, 1]), np.ma.array([1, 2], mask=[0, 0])),
        (np.ma.array([1], mask=[1]), [1]),
        (np.ma.masked, 1),
        (sparse.csr_array((1, 3)), sparse.csr_array((1, 2))),
        (torch.nested.nested_tensor([torch.ones(1), torch.ones(2)], layout=torch.jagged), [[1.0, 1.0], [1.0]]),
        (np.array(["1"]), np.array([1])),
        (Box("a", np.array([])), Box("a", FIVES)),
        (Box("a", 1), Frozen(1)),
        (np.float64(5), FIVES),
        (np.float64(5), [[5], 5]),
        (b"ab", "ab"),
        ("1", 1),
    ],
    ids=repr,
)
def test_what_differs_in_shape_kind_or_value_is_not_equal(answer: Any, reference: Any) -> None:
    assert not equal(answer, reference)
    assert not equal(reference, answer)


@pytest.mark.parametrize("answer", [Broken(), Neither(), [{"a": Broken()}], torch.ones(2, device="meta")])
def test_what_cannot_be_compared_is_refused_and_named(answer: Any) -> None:
    with pytest.raises(SettingsError, match=r"^Answer 1, a \w+, cannot be compared with its reference, a \w+: .*Pass score=, a function"):
        scores(["a", answer], ["a", answer if isinstance(answer, list) else np.ones(2) if torch.is_tensor(answer) else 1], "accuracy")


def test_a_score_of_ones_own_is_asked_as_before() -> None:
    assert scores([Broken()], [1], lambda answer, reference: 1) == (1.0,)


def test_a_note_says_where_no_answer_has_the_shape_of_its_reference() -> None:
    def model(batch: Any) -> Any:
        return np.array(batch).reshape(-1, 1)  # as many a network returns what is one number

    run, _ = run_once(Task(model, [1, 2, 3, 4], 2, references=[1, 2, 3, 4]), SimulatedClock())
    assert run.scores == (0.0,) * 4
    assert run.notes == ("no answer has the shape of its reference, the first (1,) instead of (): none can equal it",)
    for fine in ([[1], [2, 3]], ["a", "b"], [{"a": 1}] * 2, [None, 1]):
        assert unlike_shapes(fine, [[2], [1]] if isinstance(fine[0], list) else fine) == ()
    assert unlike_shapes([], []) == ()


# --- told apart -------------------------------------------------------------------------------------------------------

ORDINARY = [
    *("positive", "", 3, -1, 0.73124, 1e-9, math.nan, True, None, [1, 2.5, "a"], [], (1, (2,)), {"label": "pos", "score": 0.991}, b"ab"),
    *(np.arange(3), np.zeros((2, 2), dtype=np.float32), np.float32(0.1), np.array(["a", "b"]), np.int64(7), {1}),
]
AS_BEFORE = (
    "863429055fd88e0068846f458a5390889e251905a6d98e011f5738ea708b00e61babb29f7c2b92072ac63393a26f38a6e3f0bf10b8cc44882dec20237ee10e83"
    "536fd5a56c585c00ebc4970c3fe56d5d71857576257465c79c6880bd1b88bf334e283cecea159bd1ff5ed37c332ee7d9ba407a50500f8506ee45ec8bd648e16a"
    "c547ab77f51614d18e4e3069f5d4a8e6e75017cace788f82b5f691bd32d5547f"
)


def test_ordinary_answers_have_the_digests_that_saved_baselines_hold() -> None:
    assert digests(ORDINARY) == AS_BEFORE
    assert digests([torch.arange(3), torch.tensor(7), pandas.Series([1, 2.5])]) == digests([np.arange(3), np.int64(7), [1.0, 2.5]])


LONG = 10_000


@dataclass(eq=False)
class Plain:
    """As many write one that holds arrays, whose == says neither yes nor no."""

    of: Any


class Spelled:
    """Its repr leaves out most of a long array."""

    def __init__(self, of: Any) -> None:
        self.of = of

    def __repr__(self) -> str:
        return f"Spelled({self.of})"


class OnGpu:
    """As an array of CuPy's: it is copied by ``get``, and never without being asked."""

    def __init__(self, values: Any) -> None:
        self._values, self.__cuda_array_interface__ = np.array(values), {"version": 3}

    def __array__(self) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def get(self) -> Any:
        return self._values


def long_frame(last: int) -> Any:
    return pandas.DataFrame({"a": [*range(LONG), last]})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (long_frame(1), long_frame(2)),
        (Box("a", np.arange(LONG)), Box("a", np.arange(LONG) * np.int64(1) + (np.arange(LONG) == LONG // 2))),
        (np.zeros((0, 3)), np.zeros((0,))),
        (np.zeros((0, 3)), np.zeros((0, 5))),
        (np.zeros((3, 0)), np.zeros((3, 0, 2))),
        (pandas.DataFrame({"a": [1]}), pandas.DataFrame({"b": [1]})),
        (pandas.Series([1], index=["x"]), pandas.Series([1], index=["y"])),
        (torch.eye(3).to_sparse(), torch.eye(3).flip(0).to_sparse()),
        (sparse.csr_array(np.eye(3)), sparse.csr_array(np.eye(3)[::-1])),
        (sparse.csr_array((1, 3)), sparse.csr_array((1, 4))),
        ("jump at 0xdead", "jump at 0xbeef"),
        (memoryview(b"a"), memoryview(b"b")),
        (SimpleNamespace(a=np.arange(LONG)), SimpleNamespace(a=np.arange(LONG) + (np.arange(LONG) == 5000))),
        (UserDict(a=np.arange(LONG)), UserDict(a=np.arange(LONG) + (np.arange(LONG) == 5000))),
        (deque([np.arange(LONG)]), deque([np.arange(LONG) + (np.arange(LONG) == 5000)])),
        ({"a": 1, "b": 2}, {"a": 2, "b": 1}),
        ({0.12341: "a", 0.12342: "b"}, {0.12341: "b", 0.12342: "a"}),
        (Plain(np.arange(LONG)), Plain(np.arange(LONG) + (np.arange(LONG) == 5000))),
        (Spelled(np.arange(LONG)), Spelled(np.arange(LONG) + (np.arange(LONG) == 5000))),
        (Spelled([torch.zeros(LONG)]), Spelled([torch.arange(LONG) == 5000])),
        (OnGpu([1.0, 2.0]), OnGpu([3.0, 2.0])),
    ],
    ids=[
        *("frame", "dataclass", "empty", "empty", "empty", "columns", "index", "torch", "scipy", "shape", "hex", "view"),
        *("names", "user", "deque", "dict", "keys", "plain dataclass", "repr", "repr of list", "cupy"),
    ],
)
def test_what_differs_has_another_digest_and_is_not_alike(one: Any, other: Any) -> None:
    assert digests([one]) == digests([one])
    assert digests([one]) != digests([other])
    assert not alike(one, other)
    assert not equal(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (-0.0, 0.0),
        ({"b", "a", "c"}, {"c", "b", "a"}),
        (Box("a", 0.123456), Box("a", 0.123461)),
        (torch.tensor([0.5], dtype=torch.bfloat16), np.array([0.5])),
        (torch.nested.nested_tensor([torch.ones(1)], layout=torch.jagged), [[1.0]]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ([{"label": "pos", "all": {"x": {1, 2}, "y": []}}], [{"all": {"y": [], "x": {2, 1}}, "label": "pos"}]),
        (Box("a", {"a": 1, "b": 2}), Box("a", {"b": 2, "a": 1})),
        (SimpleNamespace(a=1, b=2), SimpleNamespace(b=2, a=1)),
        (UserDict(a=1, b=2), {"b": 2, "a": 1}),
        (np.array([{"a": 1, "b": 2}, None], dtype=object), np.array([{"b": 2, "a": 1}, None], dtype=object)),
        ({1: "a", 0.5: "b"}, {np.float64(0.5): "b", 1.0: "a"}),
        ({np.int64(1): "a"}, {1: "a"}),
        (set(), frozenset()),
        (Plain([0.123456, 1 + 0.123456j]), Plain([0.123461, 1 + 0.123461j])),
        (np.array([1.0000001 + 2j]), np.array([1 + 2j])),
        (dict.fromkeys("ab").keys(), {"b", "a"}),
    ],
)
def test_what_is_the_same_has_the_same_digest(one: Any, other: Any) -> None:
    assert digests([one]) == digests([other])


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
def test_complex_numbers_of_half_precision_keep_their_imaginary_part() -> None:
    half = torch.tensor([1 + 2j]).to(torch.complex32)
    assert equal(half, [1 + 2j])
    assert not equal(half, [1 + 0j])
    assert digests([half]) == digests([[1 + 2j]])


def test_a_set_of_texts_has_one_digest_in_every_order() -> None:
    class Turned(set):  # type: ignore[type-arg]
        def __iter__(self) -> Iterator[Any]:
            return iter(sorted(super().__iter__(), reverse=True))

    assert digests([Turned("abc")]) == digests([{"a", "b", "c"}])


def test_objects_that_show_nothing_of_what_is_in_them_have_no_digest_and_a_note_says_so() -> None:
    for hidden in (
        Shown("a"),
        [1, Shown("a")],
        {"a": Shown("a")},
        lambda: 1,
        (each for each in ""),
        np.array([Shown("a")], dtype=object),
    ):
        assert digests([hidden]) == ""
        assert untold([hidden]) in {"Shown", "function", "generator"}
        assert share_alike([hidden], [hidden]) is None
    assert digests([{Shown("a"): 1}]) == ""
    assert untold([1, "a", Box("a", None)]) == ""
    missing = changed_answers("", "", METRICS["answers_changed"], 0.95)
    assert not isinstance(missing, Estimate)


def test_what_shows_nothing_within_another_object_has_no_digest_either() -> None:
    assert digests([Spelled(Shown("a")), 1]) == ""
    assert untold([1, Spelled([Shown("a")])]) == "Shown"
    assert digests([Spelled(len)]) != ""


def test_a_note_names_queries_that_cannot_be_told_apart_where_they_are_to_be_compared() -> None:
    clock = SimulatedClock()
    gpu = SimulatedGpu(clock, idle_w=10.0)

    def model(batch: Any) -> Any:
        gpu.work(0.01, 100.0)
        return [1 for _ in batch]

    def run(queries: list[Any]) -> Any:
        return run_metered(Task(model, queries), Instruments([gpu.energy_counter()], clock), Effort(max_seconds=3, keep_answers=True))[0]

    hidden, shown = run([(each for each in "a"), 1]), run([Box("a", 1), 1])
    assert "queries are generator objects, which show nothing of what is in them: others would not be noticed" in hidden.notes
    assert not any("queries are" in each for each in shown.notes)
    assert shown.provenance.queries != run([Box("b", 1), 1]).provenance.queries


def test_logits_that_are_no_numbers_are_not_alike_to_ones_that_are() -> None:
    assert not alike([math.nan, math.nan], [0.9, 0.1])  # the largest of NaNs stands at the first place
    assert not alike(np.array([math.nan, 1.0]), np.array([0.2, 0.1]))
    assert alike([math.nan, 1.0], [math.nan, 1.0])


def test_tables_as_queries_of_an_energy_score_are_told_apart() -> None:
    one, other = (pandas.DataFrame({"a": [1, last], "b": ["x", "y"]}) for last in (2, 3))
    assert digest_of([one.iloc[0], one.iloc[1]]) != digest_of([other.iloc[0], other.iloc[1]])
    assert digest_of([one]) == digest_of([one.copy()])
    assert digest_of([torch.eye(2).to_sparse()]) != digest_of([(torch.eye(2) * 2).to_sparse()])


# --- kept -------------------------------------------------------------------------------------------------------------


class Reusing:
    """A model that answers from memory of its own, which the next batch overwrites."""

    def __init__(self, memory: Any, put: Callable[[Any, int], None], give: Callable[[Any], Any]) -> None:
        self.memory, self.put, self.give = memory, put, give

    def __call__(self, batch: Any) -> Any:
        self.put(self.memory, batch[0])
        return [self.give(self.memory)]


def fill(memory: Any, value: int) -> None:
    memory[:] = value if hasattr(memory, "dtype") else [value]


def name(memory: Any, value: int) -> None:
    memory.corners = value


REUSED = {
    "buffer": (np.zeros(1, dtype=int), fill, lambda memory: memory, np.array),
    "view": (np.zeros(4, dtype=int), fill, lambda memory: memory[1:2], np.array),
    "tensor": (torch.zeros(1), fill, lambda memory: memory, torch.tensor),
    "detached": (torch.zeros(1), fill, lambda memory: memory.view(1, 1)[0].detach(), torch.tensor),
    "numpy of a tensor": (torch.zeros(1), fill, lambda memory: memory.numpy(), np.array),
    "list": ([0], fill, lambda memory: memory, list),
    "nested": ([0], fill, lambda memory: {"ids": (memory,)}, lambda value: {"ids": (value,)}),
    "dict": ({}, lambda memory, value: memory.update(a=value), lambda memory: memory, lambda value: {"a": value[0]}),
    "dataclass": (Box("a", 0), name, lambda memory: memory, lambda value: Box("a", value[0])),
    "inside": (np.zeros(1, dtype=int), fill, Frozen, lambda value: Frozen(np.array(value))),
    "pair": (np.zeros(1, dtype=int), fill, lambda memory: Pair("a", memory), lambda value: Pair("a", value)),
    "objects": (np.array([0], dtype=object), fill, lambda memory: memory, np.array),
    "set": (set(), lambda memory, value: (memory.clear(), memory.add(value)), lambda memory: memory, set),
    "series": (
        pandas.Series([0]),
        lambda memory, value: memory.__setitem__(0, value),
        lambda memory: {"a": memory},
        lambda value: {"a": value},
    ),
}


@pytest.mark.parametrize("kind", REUSED)
def test_an_answer_is_what_it_was_when_it_came(kind: str) -> None:
    memory, put, give, made = REUSED[kind]
    model, queries = Reusing(memory, put, give), list(range(1, 6))
    references = [made([each]) for each in queries]
    run, outputs = run_once(Task(model, queries, references=references), SimulatedClock())
    assert run.scores == (1.0,) * 5
    model([99])  # as a later pass does, metered or not
    assert all(map(equal, outputs, references))


def test_a_batch_of_one_array_that_is_filled_again_is_kept_with_its_rows() -> None:
    memory = np.zeros((2, 3))

    def model(batch: Any) -> Any:
        memory[: len(batch)] = np.array(batch)[:, None]
        return memory[: len(batch)]

    outputs, _ = Workload(model, [1, 2, 3, 4, 5], 2, None).first_pass(SimulatedClock())
    assert [row.tolist() for row in outputs] == [[each] * 3 for each in (1, 2, 3, 4, 5)]


def test_one_object_given_again_with_something_else_in_it_is_refused() -> None:
    result = Shown("")

    def model(batch: Any) -> Any:
        result.label = f"{batch[0]}"
        return [result]

    with pytest.raises(SettingsError, match=r"returned the same Shown again, with something else in it.*Return a new one each time"):
        run_once(Task(model, [1, 2]), SimulatedClock())
    assert len(run_once(Task(model, [1, 1]), SimulatedClock())[1]) == 2


def test_what_is_the_same_by_being_itself_stays_itself() -> None:
    catalogue = [Shown(str(each)) for each in range(3)]
    run, outputs = run_once(
        Task(lambda batch: [catalogue[each % 3] for each in batch], range(6), 2, references=catalogue * 2), SimulatedClock()
    )
    assert run.scores == (1.0,) * 6
    assert all(one is other for one, other in zip(outputs, catalogue * 2, strict=True))


def test_gradients_types_and_containers_are_as_they_came() -> None:
    keep = Keeper().keep
    weight = torch.ones(2, requires_grad=True)
    kept = keep({"out": weight * 2, "pair": Pair([1], 2), "masked": np.ma.array([1], mask=[1])})
    assert kept["out"].requires_grad
    assert type(kept["pair"]) is Pair
    assert np.ma.isMaskedArray(kept["masked"])
    for each in ("a", 1, None, (1, "a"), frozenset("a"), range(3), Shown, len):
        assert keep(each) is each
    top = torch.topk(torch.arange(4.0), 2)
    assert type(keep(top)) is type(top)


def test_keeping_costs_less_than_making_the_answers() -> None:
    """Against the leanest thing that any model does with its answers: numbers are put in order. By the median of pairs."""
    rows = np.random.default_rng(1).random((64, 1000))
    keep = Keeper().rows
    shares = []
    for _ in range(101):
        start = time.perf_counter()
        made = np.sort(rows, axis=1)
        between = time.perf_counter()
        keep(made)
        shares.append((time.perf_counter() - between) / (between - start))
    assert sorted(shares)[50] < 1


def onnx_model() -> bytes:
    """An ONNX model that adds its input, a table of float32 with rows of two, to itself: its few bytes, since onnx is not installed."""

    def number(place: int, value: int) -> bytes:
        return bytes([place << 3, value])

    def field(place: int, *held: bytes) -> bytes:
        return bytes([place << 3 | 2, len(b"".join(held))]) + b"".join(held)

    def table(name: bytes) -> bytes:
        return field(1, name) + field(2, field(1, number(1, 1), field(2, field(1, field(2, b"rows")), field(1, number(1, 2)))))

    node = field(1, field(1, b"x"), field(1, b"x"), field(2, b"y"), field(4, b"Add"))
    return number(1, 8) + field(7, node, field(2, b"g"), field(11, table(b"x")), field(12, table(b"y"))) + field(8, number(2, 13))


@pytest.mark.parametrize("reads", ["views", "values"])
@pytest.mark.parametrize("bound", ["once", "to memory", "each time"])
def test_answers_of_onnx_runtime_are_those_of_their_own_run_however_the_output_is_bound(bound: str, reads: str) -> None:
    runtime: Any = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(onnx_model(), providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    if bound == "to memory":
        binding.bind_ortvalue_output("y", runtime.OrtValue.ortvalue_from_numpy(np.zeros((1, 2), dtype="f4")))
    elif bound == "once":
        binding.bind_output("y")

    def model(batch: Any) -> Any:
        binding.bind_cpu_input("x", np.full((1, 2), batch[0], dtype="f4"))
        if bound == "each time":
            binding.bind_output("y")
        session.run_with_iobinding(binding)
        (found,) = binding.get_outputs()
        return found.numpy() if reads == "views" else [found]

    references = [[2.0 * each] * 2 if reads == "views" else [[2.0 * each] * 2] for each in range(8)]
    run, outputs = run_once(Task(model, range(8), references=references), SimulatedClock())
    assert run.scores == (1.0,) * 8  # an eighth of it, before answers were kept as they came
    model([99])
    assert all(map(equal, outputs, references))
    assert len({digests([each]) for each in outputs}) == 8
