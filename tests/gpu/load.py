"""Work of a wanted length on a GPU: matrix products on a real one, or a simulated GPU behind real pynvml whose true energy is known."""

from __future__ import annotations

import ctypes
import os
import time
import warnings
from pathlib import Path
from typing import Any, Protocol

from pytest_greencompute.testing.sensor import PROFILES
from pytest_greencompute.testing.standin import STATE_VARIABLE, StandIn, StandInDevice, compile_standin

SIZE = 2048  # rows of the square matrices: tens of microseconds on a data-centre GPU, half a millisecond on a small one
WARM_S = 2.0
CALIBRATION = 200  # products
BUSY_W = 350.0
EVENTS = 1 << 22  # power changes that the stand-in's log has room for: a full report makes some hundred thousand


class Load(Protocol):
    """Something that keeps GPU 0 busy. ``name`` says what it is."""

    name: str

    def busy(self, seconds: float) -> None:
        """Keep the GPU busy for about ``seconds``; returns when it has finished."""
        ...

    def truth_j(self, a_ns: int, b_ns: int) -> float | None:
        """True energy in joules between two times of the monotonic clock, or None where nobody knows."""
        ...


def cuda() -> Any | None:
    """The module torch if it is installed and sees a CUDA GPU, else None."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of other packages (an old pynvml, a missing numpy)
            import torch
    except ImportError:
        return None
    return torch if torch.cuda.is_available() else None


class Matmuls:
    """Products of half-precision matrices on CUDA's GPU 0, as many as fill the wanted time (one at least)."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._matrix = torch.randn(SIZE, SIZE, device="cuda:0", dtype=torch.float16)
        self._product = torch.empty_like(self._matrix)
        self._each_s = self._calibrated()
        self.name = f"products of {SIZE} x {SIZE} half-precision matrices, {self._each_s * 1e6:.1f} us each, torch {torch.__version__}"

    def _calibrated(self) -> float:
        """Seconds of one product, after a warm-up that lets clocks and temperature settle."""
        until = time.perf_counter() + WARM_S
        while time.perf_counter() < until:
            self._run(CALIBRATION)
        start = time.perf_counter()
        self._run(CALIBRATION)
        return (time.perf_counter() - start) / CALIBRATION

    def _run(self, times: int) -> None:
        for _ in range(times):
            self._torch.matmul(self._matrix, self._matrix, out=self._product)
        self._torch.cuda.synchronize(0)

    def busy(self, seconds: float) -> None:
        self._run(max(1, round(seconds / self._each_s)))

    def truth_j(self, a_ns: int, b_ns: int) -> float | None:
        return None


class Simulated:
    """A simulated GPU of one of the profiles, read by real pynvml through a library compiled into ``folder``.

    The library is loaded here, under the driver's name, so that pynvml, which looks for it by that name, finds it and no other.
    """

    def __init__(self, folder: Path, profile: str) -> None:
        device = StandInDevice(PROFILES[profile], name=f"stand-in with the sensor of {profile}", power_limit_w=400.0)
        self._standin = StandIn.create(folder, [device], library=compile_standin(folder), events=EVENTS)
        os.environ[STATE_VARIABLE] = str(self._standin.state)
        ctypes.CDLL(str(self._standin.library), mode=ctypes.RTLD_GLOBAL)
        self.name = f"{BUSY_W:g} W of a simulated GPU, {device.idle_w:g} W idle"

    def busy(self, seconds: float) -> None:
        self._standin.work(0, seconds, BUSY_W)

    def truth_j(self, a_ns: int, b_ns: int) -> float | None:
        return self._standin.true_energy_j(0, a_ns, b_ns)
