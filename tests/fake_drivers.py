"""The drivers' libraries that Zeus reads, made up over simulated devices, so that the true energy is known.

``AmdSmi`` has the functions of ``amdsmi`` 7.0 that are used, with its units, and handles that die when it is shut down.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_greencompute.testing.sensor import Sensor
from pytest_greencompute.testing.simulated import SimulatedClock, SimulatedGpu

FAST = Sensor(update_s=0.02, window_s=0.02)
RESOLUTION_UJ = 15.259  # what most AMD GPUs give


def amd_gpu(clock: SimulatedClock, sensor: Sensor = FAST) -> SimulatedGpu:
    return SimulatedGpu(clock, sensor=sensor, idle_w=60)


@dataclass
class AmdCard:
    """One card. ``answers`` are given in place of the truth, by the end of the function's name; an exception is raised."""

    gpu: SimulatedGpu
    hip_id: int = 0
    name: str = "AMD Instinct MI300X"
    resolution_uj: float = RESOLUTION_UJ
    energy_key: str = "energy_accumulator"
    answers: dict[str, Any] = field(default_factory=dict)


class AmdSmiException(Exception):  # noqa: N818 - its own name
    pass


class AmdSmiLibraryException(AmdSmiException):
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code

    def get_error_code(self) -> int:
        return self.code

    def get_error_info(self, detailed: bool = True) -> str:
        return f"AMDSMI_STATUS {self.code}"


class AmdSmi:
    """Stands in for the module ``amdsmi``."""

    AmdSmiInitFlags = SimpleNamespace(INIT_AMD_GPUS=2)
    AmdSmiException = AmdSmiException
    AmdSmiLibraryException = AmdSmiLibraryException

    def __init__(self, *cards: AmdCard) -> None:
        self.cards = cards
        self.up = False
        self.started = self.ended = 0
        self.init_error: Exception | None = None

    def amdsmi_init(self, flag: int) -> None:
        if self.init_error is not None:
            raise self.init_error
        if not self.up:
            self.up, self.started = True, self.started + 1

    def amdsmi_shut_down(self) -> None:
        self.up, self.ended = False, self.ended + 1

    def amdsmi_get_processor_handles(self) -> list[tuple[int, int]]:
        self._check()
        return [(self.started, place) for place in range(len(self.cards))]

    def amdsmi_get_gpu_enumeration_info(self, handle: tuple[int, int]) -> Any:
        def truth(card: AmdCard) -> Mapping[str, Any]:
            return {"drm_card": 0, "hsa_id": card.hip_id + 1, "hip_id": card.hip_id, "hip_uuid": f"GPU-{card.hip_id}0c0ffee15dead"}

        return self._answer(handle, "enumeration_info", truth)

    def amdsmi_get_gpu_asic_info(self, handle: tuple[int, int]) -> Any:
        return self._answer(handle, "asic_info", lambda card: {"market_name": card.name})

    def amdsmi_get_power_info(self, handle: tuple[int, int]) -> Any:
        def truth(card: AmdCard) -> Mapping[str, Any]:
            return {"current_socket_power": "N/A", "average_socket_power": round(card.gpu.read_power_w("average"))}

        return self._answer(handle, "power_info", truth)

    def amdsmi_get_power_cap_info(self, handle: tuple[int, int]) -> Any:
        return self._answer(handle, "power_cap_info", lambda card: {"power_cap": 750_000_000})

    def amdsmi_get_energy_count(self, handle: tuple[int, int]) -> Any:
        def truth(card: AmdCard) -> Mapping[str, Any]:
            count = int(card.gpu.read_energy().energy_j * 1e6 / card.resolution_uj)
            return {card.energy_key: count, "counter_resolution": card.resolution_uj, "timestamp": 1}

        return self._answer(handle, "energy_count", truth)

    def _check(self, started: int | None = None) -> None:
        if not self.up or (started is not None and started != self.started):
            raise AmdSmiLibraryException(32)

    def _answer(self, handle: tuple[int, int], name: str, truth: Callable[[AmdCard], Any]) -> Any:
        started, place = handle
        self._check(started)
        card = self.cards[place]
        answer = card.answers[name] if name in card.answers else truth(card)
        if isinstance(answer, Exception):
            raise answer
        return answer


class MockAMDSMI:
    """What Zeus takes in the place of an ``amdsmi`` that does not load."""

    def __getattr__(self, name: str) -> None:
        raise RuntimeError(f"amdsmi.{name} shouldn't have been called.")


def install_amdsmi(monkeypatch: pytest.MonkeyPatch, amdsmi: AmdSmi) -> None:
    """Put it where Zeus finds it, on a machine that has nothing else that Zeus or NVML reads."""
    hide_all(monkeypatch)
    monkeypatch.setitem(sys.modules, "amdsmi", amdsmi)  # type: ignore[arg-type]
    monkeypatch.setattr("zeus.device.gpu.amd.amdsmi", amdsmi)


def hide_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """No AMD GPU, no Apple chip and no Jetson, whatever the machine of these tests is."""
    import zeus.device.gpu.amd
    import zeus.device.soc.apple
    import zeus.device.soc.jetson

    monkeypatch.setattr(zeus.device.gpu.amd, "amdsmi", MockAMDSMI())
    monkeypatch.setattr(zeus.device.soc.apple, "apple_silicon_is_available", lambda: False)
    monkeypatch.setattr(zeus.device.soc.jetson, "jetson_is_available", lambda: False)
    monkeypatch.setattr("pytest_greencompute.meters.zeus.sys", SimpleNamespace(platform="linux"))
    monkeypatch.setattr("pytest_greencompute.meters.zeus_amd.KFD", Path("/nonexistent/kfd"))


def hide_nvidia(monkeypatch: pytest.MonkeyPatch) -> None:
    """No NVIDIA driver."""
    import pynvml

    def fail() -> None:
        raise pynvml.NVMLError(12)

    monkeypatch.setattr(pynvml, "nvmlInit", fail)
