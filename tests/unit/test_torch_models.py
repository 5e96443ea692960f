"""Torch models as production runs them: compiled, in inference mode; nothing is moved or changed on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pytest_greencompute.measuring.driver import run_metered
from pytest_greencompute.measuring.effort import Effort
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.testing.simulated import SimulatedClock, SimulatedGpu
from pytest_greencompute.values.run import Run

torch: Any = pytest.importorskip("torch")

ROWS = torch.arange(24.0).reshape(12, 2)


class Bench:
    """A simulated GPU that is busy whenever a batch has been answered."""

    def __init__(self) -> None:
        self.clock = SimulatedClock()
        self.gpu = SimulatedGpu(self.clock, idle_w=10.0)

    def run(self, answer: Callable[[Any], Any]) -> tuple[Run, list[Any]]:
        def model(batch: Any) -> Any:
            found = answer(batch)
            self.gpu.work(0.01, 100.0)
            return found

        return run_metered(Task(model, ROWS, 4), Instruments([self.gpu.energy_counter()], self.clock), Effort(max_seconds=3))


def test_compilation_is_over_before_the_first_block() -> None:
    bench, compiled_ns = Bench(), []
    torch._dynamo.reset()  # torch may have given up compiling in a test before this one

    def backend(graph: Any, _inputs: Any) -> Any:
        compiled_ns.append(bench.clock.now_ns())
        return graph.forward

    module = torch.compile(torch.nn.Linear(2, 3), backend=backend)
    run, outputs = bench.run(module)
    assert compiled_ns
    assert max(compiled_ns) < min(block.start_ns for block in (*run.warmup, *run.blocks))
    assert len(outputs) == 12
    torch._dynamo.reset()


def test_inference_mode_and_gradients_are_as_the_test_left_them() -> None:
    module = torch.nn.Linear(2, 3)
    seen: set[tuple[bool, bool]] = set()

    def answer(batch: Any) -> Any:
        seen.add((torch.is_inference_mode_enabled(), torch.is_grad_enabled()))
        return module(batch)

    Bench().run(answer)
    assert seen == {(False, True)}
    seen.clear()
    with torch.inference_mode():
        Bench().run(answer)
    assert seen == {(True, False)}


def test_a_module_is_neither_moved_nor_put_into_another_mode_nor_grown() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Dropout())
    before = {name: weight.clone() for name, weight in module.state_dict().items()}
    places = [weight.data_ptr() for weight in module.parameters()]
    Bench().run(module)
    assert module.training
    assert [weight.data_ptr() for weight in module.parameters()] == places
    assert all(torch.equal(weight, before[name]) for name, weight in module.state_dict().items())
    assert not any(each._forward_hooks or each._forward_pre_hooks for each in module.modules())
