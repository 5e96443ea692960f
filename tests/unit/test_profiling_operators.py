"""The profile of torch's operators."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import pytest

from pytest_greencompute.errors import CannotError
from pytest_greencompute.profiling import operators
from pytest_greencompute.profiling.operators import profile_operators

torch = pytest.importorskip("torch")


def run() -> None:
    given, weights = torch.ones(32, 64, dtype=torch.bfloat16), torch.ones(64, 128, dtype=torch.bfloat16)
    for _ in range(4):
        torch.mm(given, weights)
    torch.ones(8).exp()


def test_operators_have_calls_flops_types_and_shapes() -> None:
    level = profile_operators(run, 2, 1.0)
    rows = {each.name: each for each in level.costs}
    product = rows["aten::mm"]
    assert (product.calls, product.flops) == (2.0, 2 * 2 * 32 * 64 * 128)
    assert (product.dtype, product.shape, product.device) == ("c10::BFloat16", "32x64, 64x128", "cpu")
    assert rows["aten::exp"].calls == 0.5
    assert 1 <= len(level.seconds) <= 4


def test_the_profiler_prints_nothing_and_leaves_nothing_in_the_environment(capfd: pytest.CaptureFixture[str]) -> None:
    before = dict(os.environ)
    profile_operators(run, 2, 1.0)
    assert dict(os.environ) == before
    assert capfd.readouterr() == ("", "")


def test_what_the_profiler_takes_to_start_does_not_count() -> None:
    calls = []
    level = profile_operators(lambda: (calls.append(1), run()), 1, 5.0)
    assert len(calls) == len(level.seconds) + 1


def test_a_profiler_that_takes_long_to_start_is_no_pass_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    profiled, calls = operators._profiled, []

    def slow_at_first(*given: Any) -> Any:
        calls.append(time.sleep(0.0 if calls else 1.0))
        return profiled(*given)

    monkeypatch.setattr(operators, "_profiled", slow_at_first)
    assert profile_operators(run, 2, 0.9).costs


def test_a_pass_that_takes_too_long_is_not_looked_at_again() -> None:
    with pytest.raises(CannotError, match="too long"):
        profile_operators(run, 1, 0.0)


def test_a_pass_without_operators_is_no_profile() -> None:
    with pytest.raises(CannotError, match="No operator"):
        profile_operators(lambda: None, 1, 5.0)


def test_too_many_operators_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "MOST_EVENTS", 3)
    with pytest.raises(CannotError, match="fewer queries"):
        profile_operators(run, 1, 5.0)


def test_without_torch_there_is_nothing_to_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    with pytest.raises(CannotError, match="torch is not loaded"):
        profile_operators(run, 1, 0.0)
