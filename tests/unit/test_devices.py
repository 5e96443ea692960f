"""Waiting for accelerators: only those that a loaded torch has started, found without importing anything."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_greencompute.models.devices import synchronizer, wait_for_all


def torch_like(waited: list[str], *, cuda: int | None = None, mps: bool | None = None, xpu: int | None = None) -> Any:
    """What of torch is asked, of the kinds of build there are: None means that the build has no such part."""
    made: dict[str, Any] = {}
    if cuda is not None:
        made["cuda"] = SimpleNamespace(
            is_initialized=lambda: cuda > 0, device_count=lambda: cuda, synchronize=lambda index: waited.append(f"cuda:{index}")
        )
    if mps is not None:
        made["backends"] = SimpleNamespace(mps=SimpleNamespace(is_available=lambda: mps))
        made["mps"] = SimpleNamespace(synchronize=lambda: waited.append("mps"))
    if xpu is not None:
        made["xpu"] = SimpleNamespace(
            is_initialized=lambda: xpu > 0, device_count=lambda: xpu, synchronize=lambda index: waited.append(f"xpu:{index}")
        )
    return SimpleNamespace(**made)


def test_without_torch_there_is_nothing_to_wait_for_and_torch_is_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    synchronizer()()
    assert "torch" not in sys.modules


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({}, []),
        ({"cuda": 0}, []),
        ({"cuda": 1}, ["cuda:0"]),
        ({"cuda": 3}, ["cuda:0", "cuda:1", "cuda:2"]),
        ({"mps": True}, ["mps"]),
        ({"mps": False, "cuda": 0, "xpu": 0}, []),
        ({"xpu": 2}, ["xpu:0", "xpu:1"]),
        ({"cuda": 1, "mps": True, "xpu": 1}, ["cuda:0", "mps", "xpu:0"]),
    ],
)
def test_every_accelerator_that_is_in_use_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, parts: dict[str, Any], expected: list[str]
) -> None:
    waited: list[str] = []
    monkeypatch.setitem(sys.modules, "torch", torch_like(waited, **parts))
    synchronizer()()
    assert waited == expected


def test_a_window_waits_for_whatever_jax_has_still_to_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[str] = []
    arrays = [SimpleNamespace(block_until_ready=lambda name=name: waited.append(name)) for name in ("one", "other")]
    monkeypatch.setitem(sys.modules, "torch", torch_like(waited, cuda=1))
    monkeypatch.setitem(sys.modules, "jax", SimpleNamespace(live_arrays=lambda: arrays))
    wait_for_all()
    assert waited == ["cuda:0", "one", "other"]
