"""Real pynvml against the stand-in for NVIDIA's driver library, compiled once per session."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator
from pathlib import Path

import pynvml
import pytest

from pytest_greencompute.testing.standin import STATE_VARIABLE, StandIn, StandInDevice, compile_standin

MakeStandIn = Callable[..., StandIn]


@pytest.fixture(scope="session")
def standin_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_standin(tmp_path_factory.mktemp("standin"))


@pytest.fixture
def standin_lib(standin_library: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ctypes.CDLL]:
    """The stand-in, loaded, and in the place of whatever library pynvml has (on a machine with a GPU: the real one)."""
    lib = ctypes.CDLL(str(standin_library))
    monkeypatch.setattr(pynvml, "nvmlLib", lib)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    yield lib
    while lib.nvmlShutdown() == 0:  # so that the next test's nvmlInit maps its own state, whatever this one left open
        pass


@pytest.fixture
def make_standin(standin_lib: ctypes.CDLL, standin_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeStandIn]:
    """Makes a stand-in with the given devices, which is this process's NVML until the test ends."""
    with contextlib.ExitStack() as stack:

        def make(*devices: StandInDevice, **options: object) -> StandIn:
            standin = StandIn.create(tmp_path, devices or (StandInDevice(),), library=standin_library, **options)  # type: ignore[arg-type]
            stack.callback(standin.close)
            monkeypatch.setenv(STATE_VARIABLE, str(standin.state))
            return standin

        yield make
