"""NVML itself, by way of ``pynvml``: opened once, asked for what may be missing, its errors turned into ours."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from pytest_greencompute.errors import MeterError, NothingThereError

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
# What older drivers have in place of a function, under its own name.
_OLDER: Mapping[str, str] = {
    "DeviceGetCurrentClocksEventReasons": "DeviceGetCurrentClocksThrottleReasons",  # before driver 535
    "DeviceGetComputeRunningProcesses": "DeviceGetComputeRunningProcesses_v2",  # before driver 510
}


class Library:
    """NVML, initialised, and closed once nobody holds it any more. Raises MeterError where it cannot be initialised."""

    def __init__(self) -> None:
        self.nvml = _pynvml()
        self._holders = 1
        self._lock = threading.Lock()
        with errors(self.nvml, "The NVIDIA driver"):
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
def errors(nvml: Any, gpu: str, kind: type[MeterError] = MeterError) -> Iterator[None]:
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


def has_none(nvml: Any, error: Exception) -> bool:
    """Whether this device, this driver or this version of the binding does not know of what was asked."""
    if isinstance(error, nvml.NVMLError):
        return int(error.value) in (_NOT_SUPPORTED, _TOO_OLD)
    return isinstance(error, AttributeError) or type(error).__name__ == "NVMLLibraryMismatchError"
