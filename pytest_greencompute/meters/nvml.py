"""NVIDIA GPUs through NVML, by way of the official Python binding ``pynvml`` (package nvidia-ml-py).

Every GPU that the process can see is metered, or the reason is raised: the energy of one that is left out would be missing in silence.
A GPU has its own energy counter (Volta and later); where only its power can be read, that is sampled and summed (``integrate.py``).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from pytest_greencompute.errors import MeterError, MeterLostError
from pytest_greencompute.machine.clock import Clock
from pytest_greencompute.machine.processes import descends
from pytest_greencompute.meters.base import Ability, Condition, Counter, Dead, DeviceFacts, MeterOptions, Traits, check_ticks
from pytest_greencompute.meters.integrate import PowerIntegrator
from pytest_greencompute.meters.nvml_gpus import Gpu, mig_remedy, visible_gpus
from pytest_greencompute.meters.nvml_library import Library, errors, has_none
from pytest_greencompute.values.memory import Memory
from pytest_greencompute.values.powers import MAY_COVER_MODULE, PowerField
from pytest_greencompute.values.readings import Reading, Source, counts, spared

_SYSTEMATIC = 0.05  # the gain error of a card, arXiv 2312.02741: -6.2 % to +11 %, mostly within 5 %
_POWER_PERIOD_S = 0.02  # the shortest update period of a power field, Volta and Pascal, arXiv 2312.02741
_POWER_WINDOW_S = 1.0  # the longest averaging window, H100, Ada and most Ampere, arXiv 2312.02741
_TICK_HINT_S = 0.1
# Power fields (nvml.h): the number of the field, that of its scope (nvmlPowerScopeType_t), and what it shows. ``instant`` is a mean over
# 25 to 100 ms, and every GPU shows ``draw``, which may be one over a second (arXiv 2312.02741).
_INSTANT, _GPU, _MODULE = 186, 0, 1
_DRAW = PowerField("draw", window_s=_POWER_WINDOW_S)
_SCOPED: Mapping[int, PowerField] = {_GPU: PowerField("instant", window_s=0.1), _MODULE: PowerField("instant", "module", window_s=0.1)}
# Bits of the clocks event (throttle) reasons (nvml.h). The power cap (0x4) and idling (0x1) are how a GPU is meant to work.
_HW_SLOWDOWN = 0x08
_REASONS: tuple[tuple[int, str], ...] = ((0x20 | 0x40, "thermal slowdown"), (0x80, "power brake"))


class NvmlMeter:
    """The meter ``nvml``: one counter per visible GPU, domain ``gpu:`` and its NVML index (the number that nvidia-smi shows)."""

    name = "nvml"
    traits = Traits(reads_gpus=True, per_worker=True, sees="gpus", models=False)

    def find(self, options: MeterOptions) -> Sequence[Counter]:
        """A counter for every visible GPU. Raises MeterError where there is none, or where one that is judged cannot be metered.

        Of several, one that cannot and says itself that nothing runs on it has a counter that fails: who reads it leaves it out.
        """
        library = Library()
        counters: list[NvmlCounter | PowerIntegrator] = []
        dead: list[Dead] = []
        failing: list[MeterError] = []
        try:
            gpus = visible_gpus(library, options.environ)
            here = [gpu.domain for gpu in gpus]
            for gpu in gpus:
                try:
                    counters.append(_counter(library, gpu, options.clock, options.family))
                except MeterError as error:
                    if not counts(gpu.domain, options.domains, here):
                        dead.append(Dead(Source(NvmlMeter.name, gpu.domain, "counter", gpu.name, gpu.uuid), error))
                    elif gpu.problem is None and spared(gpu.domain, options.domains, here):
                        counters.append(silent := NvmlCounter(library, gpu, options.clock, options.family))
                        failing.append(error)
                        if silent.in_use():
                            raise
                    else:
                        raise
            if len(counters) == len(failing):
                raise (failing or [each.error for each in dead])[0]
        except BaseException:
            for counter in counters:
                counter.close()
            raise
        finally:
            library.release()  # each counter holds the library itself
        return [*counters, *dead]

    def abilities(self, options: MeterOptions) -> Sequence[Ability]:
        """One line for each visible GPU, or one that says why there is none."""
        try:
            library = Library()
        except MeterError as error:
            return [_cannot("gpu", error)]
        try:
            return [_ability(library, gpu, options.clock) for gpu in visible_gpus(library, options.environ)]
        except MeterError as error:
            return [_cannot("gpu", error)]
        finally:
            library.release()


def _counter(library: Library, gpu: Gpu, clock: Clock, family: int | None) -> NvmlCounter | PowerIntegrator:
    if _has_counter(library, gpu):
        return NvmlCounter(library, gpu, clock, family)
    return _power_counter(library, gpu, clock, family)


def _has_counter(library: Library, gpu: Gpu) -> bool:
    """Whether the GPU counts its energy; False where only its power can be read. Raises MeterError where neither can."""
    if gpu.problem is not None:
        raise gpu.problem
    mode = library.ask("DeviceGetMigMode", gpu.handle)
    if mode is not None and mode[0] == 1:
        raise MeterError(f"{gpu.label} is in MIG mode: its instances have no energy of their own.", remedy=mig_remedy(gpu))
    with errors(library.nvml, gpu.label):
        try:
            library.nvml.nvmlDeviceGetTotalEnergyConsumption(gpu.handle)
        except Exception as error:
            if not has_none(library.nvml, error):
                raise
        else:
            return True
        library.nvml.nvmlDeviceGetPowerUsage(gpu.handle)
        return False


def _power_counter(library: Library, gpu: Gpu, clock: Clock, family: int | None) -> PowerIntegrator:
    def read_w() -> float:
        with errors(library.nvml, gpu.label, MeterLostError):
            return float(library.nvml.nvmlDeviceGetPowerUsage(gpu.handle)) / 1000

    library.hold()
    try:
        return PowerIntegrator(
            read_w,
            clock=clock,
            meter=NvmlMeter.name,
            domain=gpu.domain,
            device=gpu.name,
            uuid=gpu.uuid,
            period_s=_POWER_PERIOD_S,
            window_s=_POWER_WINDOW_S,
            systematic=_SYSTEMATIC,
            note="no energy counter: power summed over time",
            condition=lambda: _condition(library, gpu, family),
            facts=lambda: _facts(library, gpu),
            on_close=library.release,
        )
    except BaseException:
        library.release()
        raise


class NvmlCounter:
    """The energy counter of one GPU: millijoules since the driver was loaded (nvml.h, nvmlDeviceGetTotalEnergyConsumption)."""

    def __init__(self, library: Library, gpu: Gpu, clock: Clock, family: int | None) -> None:
        library.hold()
        self._family = family
        self._library = library
        self._gpu = gpu
        self._now_ns: Callable[[], int] = clock.now_ns
        self._closed = False
        # The tick is only a hint that there is one; how long it is, nobody has published, so the measuring loop finds out.
        self._source = Source(
            meter=NvmlMeter.name,
            domain=gpu.domain,
            method="counter",
            device=gpu.name,
            uuid=gpu.uuid,
            tick_s=_TICK_HINT_S,
            step_j=0.001,
            systematic=_SYSTEMATIC,
            note=MAY_COVER_MODULE if _shows_module(library, gpu) else "",
        )

    @property
    def source(self) -> Source:
        """Its description, before probing."""
        return self._source

    def read(self) -> Reading:
        """Energy so far in joules, stamped when the answer is there. Raises MeterLostError: it worked when the counter was opened."""
        if self._closed:
            raise MeterError(f"The energy counter of {self._gpu.label} was closed.")
        nvml = self._library.nvml
        with errors(nvml, self._gpu.label, MeterLostError):
            millijoules = nvml.nvmlDeviceGetTotalEnergyConsumption(self._gpu.handle)
        return Reading(millijoules / 1000, self._now_ns())

    def power_fields(self) -> Mapping[PowerField, Callable[[], float]]:
        """What reads the power of the GPU, and of the module that it is a part of, each in watts."""
        nvml, gpu = self._library.nvml, self._gpu
        readers: dict[PowerField, Callable[[], float]] = {_DRAW: lambda: float(nvml.nvmlDeviceGetPowerUsage(gpu.handle)) / 1000}
        return readers | {field: partial(_instant_w, self._library, gpu, scope) for scope, field in _SCOPED.items()}

    def in_use(self) -> bool:
        """Whether something of ours runs on the GPU: by its processes, or where that list is empty or numbers them as the
        host of a container does, by its load.
        """
        pids = _processes(self._library, self._gpu)
        if pids and all(Path(f"/proc/{pid}").exists() for pid in pids):
            return any(descends(pid, self._family or os.getpid()) for pid in pids)
        load = self._library.ask("DeviceGetUtilizationRates", self._gpu.handle)
        return load is None or load.gpu > 0  # one that does not tell may be in use

    def memory(self) -> Memory | None:
        """The GPU's memory, in all and what of it this process holds; None where the driver does not tell."""
        memory = self._library.ask("DeviceGetMemoryInfo", self._gpu.handle)
        if memory is None:
            return None
        held = self._library.ask("DeviceGetComputeRunningProcesses", self._gpu.handle) or ()
        # In a container the list numbers processes as the host does, or is empty.
        own = sum(each.usedGpuMemory or 0 for each in held if each.pid == os.getpid())
        return Memory(memory.used, memory.free, min(own, memory.used))

    def condition(self) -> Condition:
        """Slowdowns, other processes, temperature and clock of this moment; whatever does not answer is left out."""
        return _condition(self._library, self._gpu, self._family)

    def facts(self) -> DeviceFacts:
        """Driver, identity, limits, modes and clocks."""
        return _facts(self._library, self._gpu)

    def close(self) -> None:
        """Let go of NVML, which is closed with its last counter."""
        if not self._closed:
            self._closed = True
            self._library.release()


def _instant_w(library: Library, gpu: Gpu, scope: int) -> float:
    """The power of a scope. Raises MeterError where this device or driver does not show it."""
    (found,) = library.ask("DeviceGetFieldValues", gpu.handle, [(_INSTANT, scope)]) or (None,)
    if found is None or found.nvmlReturn != 0:
        raise MeterError(f"{gpu.label} does not show this power.")
    return float(found.value.uiVal) / 1000


def _shows_module(library: Library, gpu: Gpu) -> bool:
    """Whether the GPU shares a module with something else whose power is shown, as on a Grace Hopper: then its counter may be of both."""
    try:
        return _instant_w(library, gpu, _MODULE) > 0
    except MeterError:
        return False


def _condition(library: Library, gpu: Gpu, family: int | None) -> Condition:
    marks = _slowdowns(library.ask("DeviceGetCurrentClocksEventReasons", gpu.handle) or 0)
    pids = _processes(library, gpu)
    # In a container the list is empty, or numbers processes as the host does: then it says nothing about whose they are.
    known = os.getpid() in pids
    if known and not all(descends(pid, family or os.getpid()) for pid in pids):
        marks = (*marks, "another process")
    return Condition(
        marks=marks,
        facts={
            "temperature_c": library.ask("DeviceGetTemperature", gpu.handle, 0),
            "sm_clock_mhz": library.ask("DeviceGetClockInfo", gpu.handle, 1),
            "processes_known": known,
            "processes": " ".join(map(str, sorted(pids))),
        },
    )


def _processes(library: Library, gpu: Gpu) -> set[int]:
    return {process.pid for process in library.ask("DeviceGetComputeRunningProcesses", gpu.handle) or ()}


def _slowdowns(reasons: int) -> tuple[str, ...]:
    marks = tuple(mark for bits, mark in _REASONS if reasons & bits)
    if not marks and reasons & _HW_SLOWDOWN:  # the hardware slowed down and does not say why
        return ("hardware slowdown",)
    return marks


def _facts(library: Library, gpu: Gpu) -> DeviceFacts:
    limit_mw = library.ask("DeviceGetEnforcedPowerLimit", gpu.handle)
    cuda = library.ask("SystemGetCudaDriverVersion")
    persistence = library.ask("DeviceGetPersistenceMode", gpu.handle)
    return {
        "gpu": gpu.name,
        "uuid": gpu.uuid,
        "pci_id": gpu.pci_id,
        "driver": library.ask("SystemGetDriverVersion"),
        "cuda_driver": None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
        "power_limit_w": None if limit_mw is None else limit_mw / 1000,
        "persistence_mode": None if persistence is None else persistence == 1,
        "sm_clock_mhz": library.ask("DeviceGetClockInfo", gpu.handle, 1),
        "memory_clock_mhz": library.ask("DeviceGetClockInfo", gpu.handle, 2),
        "max_sm_clock_mhz": library.ask("DeviceGetMaxClockInfo", gpu.handle, 1),
        "temperature_c": library.ask("DeviceGetTemperature", gpu.handle, 0),
    }


def _ability(library: Library, gpu: Gpu, clock: Clock) -> Ability:
    try:
        has_counter = _has_counter(library, gpu)
        if has_counter:
            with contextlib.closing(NvmlCounter(library, gpu, clock, None)) as counter:
                check_ticks(counter, clock)
    except MeterError as error:
        return _cannot(gpu.domain, error)
    how = "energy counter" if has_counter else "power only, summed over time"
    return Ability(gpu.domain, works=True, says=f"{gpu.name or 'GPU'} {gpu.uuid}: {how}".replace(" :", ":"))


def _cannot(domain: str, error: MeterError) -> Ability:
    return Ability(domain, works=False, says=error.message, remedy=error.remedy)
