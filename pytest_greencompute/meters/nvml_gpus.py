"""The NVIDIA GPUs that a process sees, as NVML numbers them: what ``CUDA_VISIBLE_DEVICES`` leaves of those that are here."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_greencompute.errors import MeterError, NothingThereError
from pytest_greencompute.meters.nvml_library import Library, errors, has_none
from pytest_greencompute.meters.visible import Visible, visible

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


@dataclass(frozen=True, slots=True)
class Gpu:
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
    library = Library()
    try:
        gpus = visible_gpus(library, environ)
    finally:
        library.release()
    for gpu in gpus:
        if not gpu.uuid:
            raise gpu.problem or MeterError(f"{gpu.label} does not tell its UUID.", remedy="Update the driver.")
    return tuple(gpu.uuid for gpu in gpus)


def visible_gpus(library: Library, environ: Mapping[str, str]) -> list[Gpu]:
    """The visible GPUs in NVML's order. Raises MeterError where there are none, or where they are MIG instances."""
    with errors(library.nvml, "The NVIDIA driver"):
        count = int(library.nvml.nvmlDeviceGetCount())
    if count == 0:
        raise NothingThereError("The NVIDIA driver sees no GPU.", remedy="Check `nvidia-smi`; in a container, start it with `--gpus all`.")
    gpus = [_identify(library, index) for index in range(count)]
    value = environ.get("CUDA_VISIBLE_DEVICES")
    seen, order = _seen(gpus, value, environ)
    if seen.mig:
        raise MeterError(f"CUDA_VISIBLE_DEVICES={value} names a MIG instance, which has no energy of its own.", remedy=mig_remedy(None))
    # A device that could not even give its UUID may be the one that an entry means.
    unmatched = value is not None and len(seen.gpus) < len(value.split(","))
    problem = next((gpu.problem for gpu in gpus if gpu.problem is not None), None)
    if problem is not None and unmatched and not seen.by_index:
        raise problem
    if not seen.gpus:
        raise NothingThereError(f"CUDA_VISIBLE_DEVICES={value!r} hides every GPU.", remedy=_hidden_remedy(gpus))
    return sorted((order[place] for place in seen.gpus), key=lambda gpu: gpu.index)


def _identify(library: Library, index: int) -> Gpu:
    try:
        with errors(library.nvml, f"gpu:{index}"):
            handle = library.nvml.nvmlDeviceGetHandleByIndex(index)
            try:
                uuid = _text(library.nvml.nvmlDeviceGetUUID(handle))
            except Exception as error:
                if not has_none(library.nvml, error):  # a Tegra has no UUID to give
                    raise
                uuid = ""
    except MeterError as error:
        return Gpu(index, None, problem=error)
    pci = library.ask("DeviceGetPciInfo", handle)
    return Gpu(index, handle, library.ask("DeviceGetName", handle) or "", uuid, _text(pci.busId) if pci is not None else "")


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _seen(gpus: Sequence[Gpu], value: str | None, environ: Mapping[str, str]) -> tuple[Visible, Sequence[Gpu]]:
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


def _hidden_remedy(gpus: Sequence[Gpu]) -> str:
    return f"Unset it, or name a GPU that is here, such as CUDA_VISIBLE_DEVICES={gpus[0].uuid or '0'}."


def mig_remedy(gpu: Gpu | None) -> str:
    which = str(gpu.index) if gpu is not None else "<index>"
    return f"Turn MIG off with `sudo nvidia-smi -i {which} -mig 0`, or measure on a whole GPU named in CUDA_VISIBLE_DEVICES."
