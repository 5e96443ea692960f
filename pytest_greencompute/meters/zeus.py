"""Zeus as a meter, for hardware that no meter of ours reads: AMD GPUs, Apple silicon and Jetson boards.

NVIDIA's GPUs are refused: the meter ``nvml`` reads them itself. Zeus is imported when its counters are looked for, and what breaks
inside it, or is no number, is a MeterError. ``zeus_amd.py`` and ``zeus_soc.py`` say what is read and what Zeus is not relied on for.
"""

from __future__ import annotations

import importlib.util
import platform
import sys
from collections.abc import Sequence
from typing import Any

from pytest_greencompute.errors import MeterError, NothingThereError
from pytest_greencompute.machine.logs import quiet
from pytest_greencompute.meters import zeus_amd, zeus_soc
from pytest_greencompute.meters.base import Ability, Counter, MeterOptions, Traits, abilities_of, trouble
from pytest_greencompute.meters.nvml import NvmlMeter

INSTALL = 'pip install "pytest-greencompute[zeus]"'
LOGGERS = ("zeus.device.common", "zeus.device.gpu.amd", "zeus.device.gpu.common", "zeus.device.gpu.nvidia")


class ZeusMeter:
    """The meter ``zeus``: a counter for each visible AMD GPU (domain ``gpu:`` and its HIP number), or one for all of a system on a chip."""

    name = "zeus"
    traits = Traits(reads_gpus=True, sees="machine", models=False)

    __slots__ = ()

    def find(self, options: MeterOptions) -> Sequence[Counter]:
        """What Zeus reads here; takes half a second where that is an AMD GPU.

        Raises MeterError where Zeus is not installed or reads nothing, and where a visible GPU cannot be metered.
        """
        with quiet(*LOGGERS):
            chip = _chip(options)
            return [chip] if chip is not None else zeus_amd.counters(_amd_gpus(options), options)

    def abilities(self, options: MeterOptions) -> Sequence[Ability]:
        """One line for each AMD GPU or for the chip, or one that says why there is none."""
        try:
            if _chip_is_here():
                return abilities_of(self, options, "soc", lambda source: f"{source.device}: {source.note}")
            gpus = _amd_gpus(options)
        except MeterError as error:
            return [_cannot("gpu", error)]
        return [_ability(each) for each in zeus_amd.tried(gpus, options.clock, options.environ)]


def _installed() -> bool:
    return importlib.util.find_spec("zeus") is not None


def _zeus(module: str) -> Any:
    """A module of ``zeus.device``. Raises MeterError where it is not installed or does not load."""
    if not _installed():
        # An AMD GPU that is here draws energy that nobody would count; elsewhere nothing is known to be missing.
        kind = MeterError if zeus_amd.driver_is_here() else NothingThereError
        raise kind("Zeus is not installed.", remedy=INSTALL)
    with trouble("Zeus", "be loaded", remedy=f"It takes zeus 0.16 or newer: {INSTALL}"):
        return importlib.import_module(f"zeus.device.{module}")


def _chip_is_here() -> bool:
    return bool(_zeus("soc.apple").apple_silicon_is_available() or _zeus("soc.jetson").jetson_is_available())


def _chip(options: MeterOptions) -> Counter | None:
    """The counter of this Mac or Jetson; None where it is neither."""
    apple, jetson = _zeus("soc.apple"), _zeus("soc.jetson")
    if apple.apple_silicon_is_available():
        return zeus_soc.apple_counter(apple, options.clock)
    if jetson.jetson_is_available():
        return zeus_soc.jetson_counter(jetson, options.clock)
    return None


def _amd_gpus(options: MeterOptions) -> list[zeus_amd.AmdGpu]:
    if sys.platform == "darwin" and platform.machine() == "arm64":
        raise MeterError("Zeus reads Apple silicon by the package zeus-apple-silicon, which does not load here.", remedy=INSTALL)
    try:
        gpus = zeus_amd.visible_gpus(_zeus("gpu.amd"), options.environ)
    except NothingThereError as error:
        raise (_nvidia_instead(options) if _installed() else None) or error from None
    _refuse_beside_nvidia(options)
    return gpus


def _nvidia(options: MeterOptions) -> list[Ability]:
    """The visible NVIDIA GPUs, in the words of their own meter."""
    return [ability for ability in NvmlMeter().abilities(options) if ability.domain.startswith("gpu:")]


def _said(gpus: Sequence[Ability]) -> str:
    return "; ".join(gpu.says for gpu in gpus)


def _nvidia_instead(options: MeterOptions) -> NothingThereError | None:
    """What to say where there is nothing for Zeus but NVIDIA GPUs that their own meter reads."""
    gpus = [gpu for gpu in _nvidia(options) if gpu.works]
    if not gpus:
        return None
    return NothingThereError(
        f"There is nothing here for Zeus but NVIDIA GPUs ({_said(gpus)}), which the meter 'nvml' reads itself, to the tick.",
        remedy="--energy-meter nvml",
    )


def _refuse_beside_nvidia(options: MeterOptions) -> None:
    """Raises MeterError where both makers' GPUs are visible: both are numbered from gpu:0, and one would pass for the other."""
    gpus = _nvidia(options)
    if gpus:
        raise MeterError(
            f"Beside AMD GPUs there are NVIDIA's here ({_said(gpus)}), and both are numbered from gpu:0.",
            remedy="Hide the AMD GPUs (HIP_VISIBLE_DEVICES=-1) and use --energy-meter nvml, or hide NVIDIA's:"
            " CUDA_VISIBLE_DEVICES=-1 with HIP_VISIBLE_DEVICES=0.",
        )


def _ability(tried: zeus_amd.Tried) -> Ability:
    gpu = tried.gpu
    if tried.problem is not None:
        return _cannot(gpu.domain, tried.problem)
    return Ability(gpu.domain, works=True, says=f"{gpu.name or 'AMD GPU'} {gpu.uuid}: {tried.note}".replace(" :", ":"))


def _cannot(domain: str, error: MeterError) -> Ability:
    return Ability(domain, works=False, says=error.message, remedy=error.remedy)
