"""Looking at torch models: whose time it was, what they work on, and that nothing of it is left behind."""

from __future__ import annotations

import hashlib
import json
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from pytest_greencompute.errors import CannotError
from pytest_greencompute.explaining.profile import OUTSIDE, Level, Profile
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.profiling.marks import OUT, Mark, Owned, owned, without_marking
from pytest_greencompute.profiling.modules import profile_modules
from pytest_greencompute.profiling.passes import LOOKS, LookFor, from_the_middle, profile

torch = pytest.importorskip("torch")
nn = torch.nn
MODULES = tuple(each for each in LOOKS if each.kind == "modules")


class Block(nn.Module):  # type: ignore[misc,name-defined]
    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(32, width), nn.Linear(width, 32)

    def forward(self, x: Any) -> Any:
        return x + self.down(self.up(x).relu())


class Encoder(nn.Module):  # type: ignore[misc,name-defined]
    def __init__(self, blocks: int = 2) -> None:
        super().__init__()
        self.embed = nn.Embedding(64, 32)
        self.layer = nn.ModuleList(Block() for _ in range(blocks))

    def forward(self, input_ids: Any, attention_mask: Any = None) -> Any:
        x = self.embed(input_ids)
        for each in self.layer:
            x = each(x)
        return x


def answering(encoder: Any) -> Callable[[list[str]], list[float]]:
    def model(batch: list[str]) -> list[float]:
        longest = max(map(len, batch))
        ids = torch.tensor([[ord(sign) % 64 for sign in each.ljust(longest)] for each in batch])
        mask = torch.tensor([[1] * len(each) + [0] * (longest - len(each)) for each in batch])
        with torch.no_grad():
            return [float(each) for each in encoder(input_ids=ids, attention_mask=mask).sum((1, 2))]

    return model


def looked_at(model: Any, queries: Any = ("abcd", "ef") * 4, **how: Any) -> Profile:
    return profile(Task(model, list(queries), 2), limit_s=how.pop("limit_s", 10.0), looks=how.pop("looks", MODULES), **how)


def modules_of(found: Profile) -> Level:
    level = found.level("modules")
    assert level is not None, found.notes
    return level


def digest(root: Any) -> str:
    """Of all that hooks and wrappers are kept in, in every module."""
    kept = [
        {name: sorted(map(str, value)) if isinstance(value, dict) else "" for name, value in vars(each).items() if "hook" in name}
        | {"names": sorted(vars(each))}
        for each in root.modules()
    ]
    globally = [
        sorted(map(str, value)) for name, value in vars(nn.modules.module).items() if name.startswith("_global") and "hooks" in name
    ]
    return hashlib.sha256(json.dumps([kept, globally]).encode()).hexdigest()


# Whose time it was


def marks(*said: tuple[int, bool, float]) -> list[Mark]:
    return [Mark(number, begins, 1, stamp) for number, begins, stamp in said]


def test_time_belongs_to_the_innermost_call() -> None:
    found = owned(marks((0, True, 1), (1, True, 2), (1, False, 5), (0, False, 9)), 0, 10)
    assert found.own == {OUT: 2.0, 0: 5.0, 1: 3.0}
    assert (found.calls, found.roots, found.inside) == (Counter({0: 1, 1: 1}), Counter({0: 1}), {0: OUT, 1: 0})


def test_a_call_within_itself_is_counted_once_a_moment() -> None:
    found = owned(marks((0, True, 1), (0, True, 2), (0, False, 4), (0, False, 5)), 0, 6)
    assert found.own == {OUT: 2.0, 0: 4.0}
    assert found.calls[0] == 2


def test_a_call_that_never_said_its_end_ends_with_the_one_around_it() -> None:
    found = owned(marks((0, True, 1), (1, True, 2), (0, False, 5)), 0, 6)
    assert found.own == {OUT: 2.0, 0: 1.0, 1: 3.0}


def test_only_the_busiest_thread_is_told_apart() -> None:
    other = [Mark(7, begins=True, thread=2, stamp=3)]
    found = owned([*marks((0, True, 1)), *other, *marks((0, False, 5))], 0, 6)
    assert (found.own, found.threads) == ({OUT: 2.0, 0: 4.0}, 2)


def test_what_marking_costs_is_taken_off_by_calls() -> None:
    found = owned(marks((0, True, 10), (1, True, 20), (1, False, 50), (1, True, 60), (1, False, 90), (0, False, 100)), 0, 110)
    assert found.whole == 110
    own = without_marking(found, 6.0)  # 2 a call
    assert own == {OUT: 20 - 1, 0: 30 - 1 - 2, 1: 60 - 2}
    assert sum(own.values()) == pytest.approx(104)


def test_marking_that_cost_more_than_a_call_took_leaves_nothing() -> None:
    assert without_marking(Owned({OUT: 5.0, 0: 1.0}, Counter({0: 4}), inside={0: OUT}), 8.0)[0] == 0.0


# Modules


def test_modules_are_told_by_name_with_their_calls_and_work() -> None:
    encoder = Encoder()
    found = looked_at(answering(encoder))
    rows = {each.name: each for each in modules_of(found).costs}
    blocks = {f"Encoder.layer.{number}{part}" for number in range(2) for part in ("", ".up", ".down")}
    assert set(rows) == {OUTSIDE, "Encoder", "Encoder.embed", *blocks}
    assert (rows["Encoder.layer.0.up"].calls, rows["Encoder.layer.0.up"].inside) == (0.5, "Encoder.layer.0")
    assert rows["Encoder.layer.0.up"].flops == 2 * 4 * 32 * 128
    assert (rows["Encoder.layer.0.up"].dtype, rows["Encoder.layer.0.up"].device) == ("float32", "cpu")
    assert rows["Encoder.layer.1"].inside == "Encoder"


def test_what_a_pass_works_on_is_counted() -> None:
    found = looked_at(answering(Encoder()), limit_s=100.0)  # so that a busy machine looks at all of the queries, too
    assert (found.factor("tokens per query"), found.factor("padding")) == (4.0, 0.25)
    assert (found.factor("calls per query"), found.factor("items per call"), found.factor("batch size")) == (0.5, 2.0, 2.0)
    assert (found.factor("dtype"), found.factor("gradients"), found.factor("training")) == ("float32", "off", "on")
    assert found.factor("flops per query") == 2 * 2 * 2 * 4 * 32 * 128
    assert found.queries == 8


def test_gradients_that_are_on_are_seen() -> None:
    encoder = Encoder()

    def model(batch: list[str]) -> list[float]:
        return [float(encoder(input_ids=torch.tensor([[ord(each[0]) % 64]])).sum().detach()) for each in batch]

    assert looked_at(model).factor("gradients") == "on"


@pytest.mark.parametrize("how", ["fine", "raises", "swallows"])
def test_nothing_is_left_in_the_model(how: str) -> None:
    encoder = Encoder()
    encoder.layer[0].register_forward_hook(lambda *_: None)
    encoder.layer[1].register_forward_pre_hook(lambda *_: None)
    inner, calls = answering(encoder), Counter[str]()

    def model(batch: list[str]) -> list[float]:
        calls["model"] += 1
        if how == "raises" and calls["model"] > 9:
            raise RuntimeError("out of memory")
        if how == "swallows":
            with pytest.raises(IndexError):
                encoder(input_ids=torch.tensor([[99]]))  # raises in the midst of a module
        return inner(batch)

    before = digest(encoder), [each.clone() for each in encoder.state_dict().values()]
    found = looked_at(model)
    assert digest(encoder) == before[0]
    assert all(torch.equal(one, other) for one, other in zip(before[1], encoder.state_dict().values(), strict=True))
    assert any("out of memory" in note for note in found.notes) == (how == "raises")
    if how == "swallows":
        assert found.level("modules") is not None


def test_a_hook_of_the_users_own_is_part_of_its_module_and_works_on() -> None:
    encoder, seen = Encoder(), Counter[str]()

    def hook(*_: Any) -> None:
        seen["calls"] += 1
        end = time.process_time() + 0.004
        while time.process_time() < end:
            pass

    encoder.layer[1].up.register_forward_hook(hook)
    level = modules_of(looked_at(answering(encoder)))
    # The middle of its passes: in one of them a busy machine may have taken a turn elsewhere.
    longest = max(level.costs, key=lambda each: statistics.median(each.seconds))
    assert longest.name == "Encoder.layer.1.up"
    assert statistics.median(longest.seconds) > 0.001
    before = seen["calls"]
    answering(encoder)(["a"])
    assert seen["calls"] == before + 1


def test_a_module_that_is_shared_or_calls_itself_is_one_row() -> None:
    class Twice(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Linear(8, 8)
            self.other = self.one
            self.depth = 0

        def forward(self, x: Any) -> Any:
            self.depth += 1
            x = self.other(self.one(x))
            if self.depth < 3:
                x = self(x)
            self.depth -= 1
            return x

    twice = Twice()
    rows = {
        each.name: each
        for each in modules_of(looked_at(lambda batch: [float(twice(torch.ones(1, 8)).sum().detach()) for _ in batch])).costs
    }
    assert set(rows) == {OUTSIDE, "Twice", "Twice.one"}
    assert (rows["Twice"].calls, rows["Twice.one"].calls) == (3.0, 6.0)


def test_several_outermost_modules_are_told_apart() -> None:
    one, other = Block(), Block()
    rows = modules_of(looked_at(lambda batch: [float(other(one(torch.ones(1, 32))).sum().detach()) for _ in batch])).costs
    assert {"Block", "Block.up", "Block#2", "Block#2.up"} <= {each.name for each in rows}


def test_a_layer_of_torchs_own_takes_its_fast_path_all_the_same() -> None:
    layer, ways = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval(), Counter[str]()
    fast = torch._transformer_encoder_layer_fwd

    def counted(*args: Any, **kwargs: Any) -> Any:
        ways["fast"] += 1
        return fast(*args, **kwargs)

    def model(batch: list[str]) -> list[float]:
        ways["all"] += 1
        with torch.inference_mode():
            return [float(each) for each in layer(torch.ones(len(batch), 4, 8)).sum((1, 2))]

    before = digest(layer)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch, "_transformer_encoder_layer_fwd", counted)
        found = looked_at(model)
    assert ways["fast"] == ways["all"] > 0
    assert digest(layer) == before
    assert "TransformerEncoderLayer" in {each.name for each in modules_of(found).costs}
    assert any("one row" in note for note in found.notes)


def test_compiled_modules_are_one_row_and_are_not_compiled_anew() -> None:
    compiled: list[Any] = []

    def backend(graph: Any, _: Any) -> Any:
        compiled.append(graph)
        return graph.forward

    block = Block()
    fast = torch.compile(block, backend=backend)
    found = looked_at(lambda batch: [float(fast(torch.ones(1, 32)).sum().detach()) for _ in batch])
    assert {each.name for each in modules_of(found).costs} == {OUTSIDE, "Block"}
    assert len(compiled) == 1
    assert any("compiled" in note for note in found.notes)


def test_modules_in_other_threads_are_said() -> None:
    one, other = Block(), Block()

    def model(batch: list[str]) -> list[float]:
        thread = threading.Thread(target=lambda: other(torch.ones(1, 32)))
        thread.start()
        one(torch.ones(1, 32))
        one(torch.ones(1, 32))
        thread.join()
        return [0.0 for _ in batch]

    assert any("more than one thread" in note for note in modules_of(looked_at(model, limit_s=60.0)).notes)


def test_a_model_without_modules_has_no_such_level() -> None:
    found = looked_at(lambda batch: [each.upper() for each in batch])
    assert found.level("modules") is None
    assert any("No torch module is called" in note for note in found.notes)


def test_the_rows_are_what_a_pass_takes_without_marks() -> None:
    """Each mark costs: a model of many small modules must not take longer for being looked at."""
    net = nn.Sequential(*(nn.Identity() for _ in range(500)))
    x = torch.ones(1)

    def run() -> None:
        for _ in range(4):
            net(x)

    level = profile_modules(run, 4, 0.5)
    begun = time.process_time()
    for _ in range(5):
        run()
    assert level.seconds[0] * 4 < 3 * (time.process_time() - begun) / 5
    with pytest.raises(CannotError):
        profile_modules(lambda: None, 1, 0.1)


# Passes


def test_a_pass_is_over_the_queries_that_it_was_told() -> None:
    assert looked_at(lambda batch: batch, range(100), some=6, looks=()).queries == 6


@pytest.mark.parametrize("batches", range(1, 40))
def test_batches_are_taken_from_the_middle_of_a_list_on(batches: int) -> None:
    """A sorted list's middle has usual queries; all of them are once each."""
    assert list(from_the_middle(batches, 1)) == [batches // 2]
    assert sorted(from_the_middle(batches, batches)) == list(range(batches))


def test_more_queries_are_counted_than_are_timed() -> None:
    """Sorted by length: of what is counted, the mean is that of the list."""
    encoder = Encoder()

    def model(batch: list[str]) -> list[float]:
        time.sleep(0.01)
        return answering(encoder)(batch)

    found = looked_at(model, ["a" * (1 + number // 2) for number in range(64)], limit_s=2.0, some=8)
    assert found.queries == 8
    assert 14 < found.factor("tokens per query") < 19


def test_a_slower_side_counts_over_the_queries_that_the_other_counted_over() -> None:
    """Else two sides that are asked for the same would seem to have another number of tokens per query."""
    encoder = Encoder()

    def model(batch: list[str]) -> list[float]:
        time.sleep(pause_s)
        return answering(encoder)(batch)

    queries, pause_s = ["a" * (1 + number // 2) for number in range(64)], 0.005
    one = looked_at(model, queries, limit_s=2.0, looks=())
    pause_s *= 2.5
    other = looked_at(model, queries, limit_s=2.0, some=one.queries, counted=one.counted, looks=())
    assert one.counted > one.queries
    assert (other.queries, other.counted) == (one.queries, one.counted)
    assert other.factor("tokens per query") == one.factor("tokens per query")
    assert looked_at(model, queries, limit_s=0.2, some=one.queries, counted=64, looks=()).counted < 64


def test_a_long_list_is_looked_at_in_part_and_that_is_said() -> None:
    def model(batch: list[int]) -> list[int]:
        time.sleep(0.02)
        return batch

    found = looked_at(model, range(64), looks=(), limit_s=1.0)
    assert 2 <= found.queries < 64
    assert any(f"looked at over {found.queries} of 64" in note for note in found.notes)


def test_a_model_that_raises_at_once_leaves_a_profile_that_says_so() -> None:
    def broken(_: object) -> list[object]:
        raise ValueError("no weights")

    found = profile(Task(broken, [1, 2], 2), limit_s=1.0)
    assert found.notes == ("the queries: not looked at (ValueError: no weights)",)
    assert found.levels == ()


def test_the_time_for_it_ends() -> None:
    def model(batch: list[int]) -> list[int]:
        time.sleep(0.5)  # three passes come before the first look: more than there is time for
        return batch

    begun = time.monotonic()
    found = looked_at(model, range(8), limit_s=1.0)
    assert time.monotonic() - begun < 4.0
    assert any("time for explaining was over" in note for note in found.notes), found.notes


def test_what_a_pass_works_on_is_counted_however_slow_the_model_is() -> None:
    """By then the time may be over, and without it nothing could be blamed."""
    encoder = Encoder()

    def model(batch: list[str]) -> list[float]:
        time.sleep(0.3)
        return answering(encoder)(batch)

    found = looked_at(model, ["ab"] * 4, limit_s=0.5)
    assert found.factor("tokens per query") == 2
    assert not found.levels


async def answers(batch: list[int]) -> list[int]:
    return batch


def test_a_model_that_is_awaited_is_not_taken_apart() -> None:
    found = profile(Task(answers, [1, 2], awaits=True))
    assert (found.levels, len(found.notes)) == ((), 1)


def test_what_a_kind_of_look_cannot_do_is_a_note_and_the_others_stand() -> None:
    def breaks(*_: Any) -> Level:
        raise MemoryError("no room")

    found = looked_at(answering(Encoder()), looks=(LookFor("operators", breaks, 0.5), *MODULES))
    assert [each.kind for each in found.levels] == ["modules"]
    assert any("operators: out of memory" in note for note in found.notes)


def test_without_a_device_of_cuda_the_clock_is_the_walls() -> None:
    found = looked_at(answering(Encoder()), ticking="device")
    assert modules_of(found).clock == "wall"
    assert any("no CUDA device" in note for note in found.notes)
