"""NVIDIA GPUs through NVML, by way of the official Python binding ``pynvml`` (package nvidia-ml-py).

Every GPU that the process can see is metered, or the reason is raised: the energy of one that is left out would be missing in silence.
A GPU has its own energy counter (Volta and later); where only its power can be read, that is sampled and summed (``integrate.py``).
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_greencompute.errors import MeterError, MeterLostError, NothingThereError
from pytest_greencompute.machine.clock import Clock
from pytest_greencompute.machine.processes import descends
from pytest_greencompute.meters.base import Ability, Condition, Counter, Dead, MeterOptions, Traits, check_ticks
from pytest_greencompute.meters.integrate import PowerIntegrator
from pytest_greencompute.meters.visible import Visible, visible
from pytest_greencompute.values.readings import Reading, Source, counts, spared

_SYSTEMATIC = 0.05  # the gain error of a card, arXiv 2312.02741: -6.2 % to +11 %, mostly within 5 %
_POWER_PERIOD_S = 0.02  # the shortest update period of a power field, Volta and Pascal, arXiv 2312.02741
_POWER_WINDOW_S = 1.0  # the longest averaging window, H100, Ada and most Ampere, arXiv 2312.02741
_TICK_HINT_S = 0.1
_NOT_SUPPORTED = 3
_TOO_OLD = 13  # the driver's library has no such function
_HIDE = "or hide it with CUDA_VISIBLE_DEVICES"
# NVML's return codes (nvml.h, nvmlReturn_t): what is wrong, and what to do. "{gpu}" is the device, or the driver where none is at fault.
_SAID: Mapping[int, tuple[str, str]] = {
    _NOT_SUPPORTED: (
        "{gpu} gives neither its energy nor its power (a Tegra or a virtual GPU does not).",
        f"Measure on a GPU that does, {_HIDE}, or list another meter.",
    ),
    4: (
        "{gpu} may not be read by this user.",
        f"Join the group that owns /dev/nvidia* (`ls -l /dev/nvidia*`), or ask the administrator, {_HIDE}.",
    ),
    9: ("The NVIDIA driver is not loaded.", "Load it with `sudo modprobe nvidia`; in a container, start it with `--gpus all`."),
    12: (
        "NVIDIA's driver library libnvidia-ml.so.1 was not found.",
        "Install the NVIDIA driver; in a container, start it with `--gpus all`; without an NVIDIA GPU, list another meter.",
    ),
    _TOO_OLD: ("The NVIDIA driver is too old to be asked for {gpu}'s energy.", "Install a newer driver."),
    15: ("{gpu} is lost: it no longer answers the driver.", f"`sudo dmesg | grep Xid` says why; reboot, {_HIDE}."),
    16: ("{gpu} needs a reset.", f"Run `sudo nvidia-smi --gpu-reset` while nothing uses it, or reboot, {_HIDE}."),
    18: (
        "The NVIDIA driver and its library have different versions.",
        "Reboot, or reload the driver, which follows an update; restart a container that was running.",
    ),
}
# Bits of the clocks event (throttle) reasons (nvml.h). The power cap (0x4) and idling (0x1) are how a GPU is meant to work.
_HW_SLOWDOWN = 0x08
_REASONS: tuple[tuple[int, str], ...] = ((0x20 | 0x40, "thermal slowdown"), (0x80, "power brake"))
# What older drivers have in place of a function, under its own name.
_OLDER: Mapping[str, str] = {
    "DeviceGetCurrentClocksEventReasons": "DeviceGetCurrentClocksThrottleReasons",  # before driver 535
    "DeviceGetComputeRunningProcesses": "DeviceGetComputeRunningProcesses_v2",  # before driver 510
}
_CUDA_ORDER = """
import ctypes, uuid
cuda = ctypes.CDLL("libcuda.so.1")
count, device, raw = ctypes.c_int(), ctypes.c_int(), (ctypes.c_ubyte * 16)()
def check(error):
    if error:
        raise SystemExit("CUDA error %d" % error)
check(cuda.cuInit(0))
check(cuda.cuDeviceGetCount(ctypes.byref(count)))
for place in range(count.value):
    check(cuda.cuDeviceGet(ctypes.byref(device), place))
    check(cuda.cuDeviceGetUuid(raw, device))
    print("GPU-%s" % uuid.UUID(bytes=bytes(raw)))
"""


class NvmlMeter:
    """The meter ``nvml``: one counter per visible GPU, domain ``gpu:`` and its NVML index (the number that nvidia-smi shows)."""

    name = "nvml"
    traits = Traits(reads_gpus=True, per_worker=True, sees="gpus", models=False)

    def find(self, options: MeterOptions) -> Sequence[Counter]:
        """A counter for every visible GPU. Raises MeterError where there is none, or where one that is judged cannot be metered.

        Of several, one that cannot and says itself that nothing runs on it has a counter that fails: who reads it leaves it out.
        """
        library = _Library()
        counters: list[NvmlCounter | PowerIntegrator] = []
        dead: list[Dead] = []
        failing: list[MeterError] = []
        try:
            gpus = _visible_gpus(library, options.environ)
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
            library = _Library()
        except MeterError as error:
            return [_cannot("gpu", error)]
        try:
            return [_ability(library, gpu, options.clock) for gpu in _visible_gpus(library, options.environ)]
        except MeterError as error:
            return [_cannot("gpu", error)]
        finally:
            library.release()


@dataclass(frozen=True, slots=True)
class _Gpu:
    """One device of NVML. ``problem`` says why it could not even say who it is."""

    index: int
    handle: Any
    name: str = ""
    uuid: str = ""
    pci_id: str = ""
    problem: MeterError | None = None

    @property
    def domain(self) -> str:
        return f"gpu:{self.index}"

    @property
    def label(self) -> str:
        return f"{self.domain} ({self.name})" if self.name else self.domain


def visible_uuids(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The UUIDs of the GPUs that a process with this environment sees, in NVML's order. Raises MeterError where there is none."""
    library = _Library()
    try:
        gpus = _visible_gpus(library, environ)
    finally:
        library.release()
    for gpu in gpus:
        if not gpu.uuid:
            raise gpu.problem or MeterError(f"{gpu.label} does not tell its UUID.", remedy="Update the driver.")
    return tuple(gpu.uuid for gpu in gpus)


class _Library:
    """NVML, initialised, and closed once nobody holds it any more. Raises MeterError where it cannot be initialised."""

    def __init__(self) -> None:
        self.nvml = _pynvml()
        self._holders = 1
        self._lock = threading.Lock()
        with _errors(self.nvml, "The NVIDIA driver"):
            self.nvml.nvmlInit()

    def hold(self) -> None:
        with self._lock:
            self._holders += 1

    def release(self) -> None:
        with self._lock:
            self._holders -= 1
            if self._holders == 0:
                with contextlib.suppress(Exception):  # a lost GPU or driver cannot be closed, and need not be
                    self.nvml.nvmlShutdown()

    def ask(self, name: str, *args: Any) -> Any:
        """The answer to ``nvml<name>``, or to what older drivers have for it; None where this device, driver or binding has neither."""
        for each in (name, _OLDER.get(name)):
            function = getattr(self.nvml, f"nvml{each}", None)
            # What is asked for here is never needed, so nothing that the binding raises may end a test: beside NVMLError it has a
            # NVMLLibraryMismatchError of another family, and texts that do not decode.
            with contextlib.suppress(Exception):
                if function is not None and (answer := function(*args)) is not None:
                    return answer.decode(errors="replace") if isinstance(answer, bytes) else answer
        return None


def _pynvml() -> Any:
    try:
        with warnings.catch_warnings():
            # The old package called pynvml warns that it is deprecated; it works all the same.
            warnings.simplefilter("ignore")
            import pynvml
    except ImportError:
        raise NothingThereError("The Python package nvidia-ml-py is not installed.", remedy=f"Run `{_INSTALL}`.") from None
    return pynvml


_INSTALL = "pip install nvidia-ml-py"
_NOTHING_THERE = (9, 12)  # the driver is not loaded, its library is not installed


@contextlib.contextmanager
def _errors(nvml: Any, gpu: str, kind: type[MeterError] = MeterError) -> Iterator[None]:
    """Turns an error of NVML into ours, with what to do about it."""
    try:
        yield
    except nvml.NVMLError as error:
        code = int(error.value)
        message, remedy = _SAID.get(code, ("{gpu} could not be read: NVML says '" + str(error) + "'.", "`nvidia-smi` may say more."))
        raised = NothingThereError if code in _NOTHING_THERE and kind is MeterError else kind
        raise raised(message.replace("{gpu}", gpu), remedy=remedy) from error
    except MeterError:
        raise
    except Exception as error:
        raise kind(
            f"{gpu} could not be read: the package nvidia-ml-py says {type(error).__name__}: {error}.",
            remedy=f"Let the package and the driver fit each other: `{_INSTALL}`, or a newer driver.",
        ) from error


def _has_none(nvml: Any, error: Exception) -> bool:
    """Whether this device, this driver or this version of the binding does not know of what was asked."""
    if isinstance(error, nvml.NVMLError):
        return int(error.value) in (_NOT_SUPPORTED, _TOO_OLD)
    return isinstance(error, AttributeError) or type(error).__name__ == "NVMLLibraryMismatchError"


def _visible_gpus(library: _Library, environ: Mapping[str, str]) -> list[_Gpu]:
    """The visible GPUs in NVML's order. Raises MeterError where there are none, or where they are MIG instances."""
    with _errors(library.nvml, "The NVIDIA driver"):
        count = int(library.nvml.nvmlDeviceGetCount())
    if count == 0:
        raise NothingThereError("The NVIDIA driver sees no GPU.", remedy="Check `nvidia-smi`; in a container, start it with `--gpus all`.")
    gpus = [_identify(library, index) for index in range(count)]
    value = environ.get("CUDA_VISIBLE_DEVICES")
    seen, order = _seen(gpus, value, environ)
    if seen.mig:
        raise MeterError(f"CUDA_VISIBLE_DEVICES={value} names a MIG instance, which has no energy of its own.", remedy=_mig_remedy(None))
    # A device that could not even give its UUID may be the one that an entry means.
    unmatched = value is not None and len(seen.gpus) < len(value.split(","))
    problem = next((gpu.problem for gpu in gpus if gpu.problem is not None), None)
    if problem is not None and unmatched and not seen.by_index:
        raise problem
    if not seen.gpus:
        raise NothingThereError(f"CUDA_VISIBLE_DEVICES={value!r} hides every GPU.", remedy=_hidden_remedy(gpus))
    return sorted((order[place] for place in seen.gpus), key=lambda gpu: gpu.index)


def _identify(library: _Library, index: int) -> _Gpu:
    try:
        with _errors(library.nvml, f"gpu:{index}"):
            handle = library.nvml.nvmlDeviceGetHandleByIndex(index)
            try:
                uuid = _text(library.nvml.nvmlDeviceGetUUID(handle))
            except Exception as error:
                if not _has_none(library.nvml, error):  # a Tegra has no UUID to give
                    raise
                uuid = ""
    except MeterError as error:
        return _Gpu(index, None, problem=error)
    pci = library.ask("DeviceGetPciInfo", handle)
    return _Gpu(index, handle, library.ask("DeviceGetName", handle) or "", uuid, _text(pci.busId) if pci is not None else "")


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _seen(gpus: Sequence[_Gpu], value: str | None, environ: Mapping[str, str]) -> tuple[Visible, Sequence[_Gpu]]:
    """What is visible, and the order of devices that its places refer to.

    NVML orders devices by PCI address, CUDA by a guess at their speed unless CUDA_DEVICE_ORDER=PCI_BUS_ID (CUDA C++ Programming Guide, as
    above). Where all are of one model the two agree. Otherwise the driver is asked, unless the order cannot change the answer.
    """
    by_pci = sorted(gpus, key=lambda gpu: gpu.pci_id.upper()) if all(gpu.pci_id for gpu in gpus) else gpus
    seen = visible(value, [gpu.uuid for gpu in by_pci])
    decided = not seen.by_index or len(seen.gpus) in (0, len(gpus))
    if decided or environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID" or len({gpu.name for gpu in gpus if not gpu.problem}) <= 1:
        return seen, by_pci
    by_uuid = {gpu.uuid: gpu for gpu in gpus}
    order = [by_uuid[uuid] for uuid in _cuda_order(environ) if uuid in by_uuid]
    return visible(value, [gpu.uuid for gpu in order]), order


def _cuda_order(environ: Mapping[str, str]) -> list[str]:
    """UUIDs of all devices in CUDA's order, asked for in a process of its own, so that this one stays free of CUDA (and may fork)."""
    remedy = "Set CUDA_DEVICE_ORDER=PCI_BUS_ID, or name GPUs by UUID in CUDA_VISIBLE_DEVICES (`nvidia-smi -L` lists them)."
    problem = "The GPUs are of several models, and the order in which CUDA numbers them could not be found out"
    env = {name: text for name, text in environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    command = [sys.executable, "-I", "-c", _CUDA_ORDER]
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MeterError(f"{problem}: {error}.", remedy=remedy) from error
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise MeterError(f"{problem}: {said[0]}.", remedy=remedy)
    return done.stdout.split()


def _hidden_remedy(gpus: Sequence[_Gpu]) -> str:
    return f"Unset it, or name a GPU that is here, such as CUDA_VISIBLE_DEVICES={gpus[0].uuid or '0'}."


def _mig_remedy(gpu: _Gpu | None) -> str:
    which = str(gpu.index) if gpu is not None else "<index>"
    return f"Turn MIG off with `sudo nvidia-smi -i {which} -mig 0`, or measure on a whole GPU named in CUDA_VISIBLE_DEVICES."


def _counter(library: _Library, gpu: _Gpu, clock: Clock, family: int | None) -> NvmlCounter | PowerIntegrator:
    if _has_counter(library, gpu):
        return NvmlCounter(library, gpu, clock, family)
    return _power_counter(library, gpu, clock, family)


def _has_counter(library: _Library, gpu: _Gpu) -> bool:
    """Whether the GPU counts its energy; False where only its power can be read. Raises MeterError where neither can."""
    if gpu.problem is not None:
        raise gpu.problem
    mode = library.ask("DeviceGetMigMode", gpu.handle)
    if mode is not None and mode[0] == 1:
        raise MeterError(f"{gpu.label} is in MIG mode: its instances have no energy of their own.", remedy=_mig_remedy(gpu))
    with _errors(library.nvml, gpu.label):
        try:
            library.nvml.nvmlDeviceGetTotalEnergyConsumption(gpu.handle)
        except Exception as error:
            if not _has_none(library.nvml, error):
                raise
        else:
            return True
        library.nvml.nvmlDeviceGetPowerUsage(gpu.handle)
        return False


def _power_counter(library: _Library, gpu: _Gpu, clock: Clock, family: int | None) -> PowerIntegrator:
    def read_w() -> float:
        with _errors(library.nvml, gpu.label, MeterLostError):
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

    def __init__(self, library: _Library, gpu: _Gpu, clock: Clock, family: int | None) -> None:
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
            note="the counter covers the whole module" if "GH200" in gpu.name else "",
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
        with _errors(nvml, self._gpu.label, MeterLostError):
            millijoules = nvml.nvmlDeviceGetTotalEnergyConsumption(self._gpu.handle)
        return Reading(millijoules / 1000, self._now_ns())

    def in_use(self) -> bool:
        """Whether something of ours runs on the GPU: by its processes, or where that list is empty or numbers them as the
        host of a container does, by its load.
        """
        pids = _processes(self._library, self._gpu)
        if pids and all(Path(f"/proc/{pid}").exists() for pid in pids):
            return any(descends(pid, self._family or os.getpid()) for pid in pids)
        load = self._library.ask("DeviceGetUtilizationRates", self._gpu.handle)
        return load is None or load.gpu > 0  # one that does not tell may be in use

    def condition(self) -> Condition:
        """Slowdowns, other processes, temperature and clock of this moment; whatever does not answer is left out."""
        return _condition(self._library, self._gpu, self._family)

    def facts(self) -> Mapping[str, str | float | int | bool | None]:
        """Driver, identity, limits, modes and clocks."""
        return _facts(self._library, self._gpu)

    def close(self) -> None:
        """Let go of NVML, which is closed with its last counter."""
        if not self._closed:
            self._closed = True
            self._library.release()


def _condition(library: _Library, gpu: _Gpu, family: int | None) -> Condition:
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


def _processes(library: _Library, gpu: _Gpu) -> set[int]:
    return {process.pid for process in library.ask("DeviceGetComputeRunningProcesses", gpu.handle) or ()}


def _slowdowns(reasons: int) -> tuple[str, ...]:
    marks = tuple(mark for bits, mark in _REASONS if reasons & bits)
    if not marks and reasons & _HW_SLOWDOWN:  # the hardware slowed down and does not say why
        return ("hardware slowdown",)
    return marks


def _facts(library: _Library, gpu: _Gpu) -> dict[str, str | float | int | bool | None]:
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


def _ability(library: _Library, gpu: _Gpu, clock: Clock) -> Ability:
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
