"""A stand-in for NVIDIA's driver library, so that real ``pynvml`` reads a simulated GPU in real time.

``compile_standin`` builds it from ``nvml_standin.c`` with gcc; ``StandIn`` makes the file that describes the devices and steers them:

>>> standin = StandIn.create(folder, [StandInDevice(PROFILES["A100"], name="NVIDIA A100-SXM4-80GB")])    # doctest: +SKIP
>>> subprocess.run([sys.executable, "-m", "pytest"], env={**os.environ, **standin.env})                  # doctest: +SKIP

and in the workload, in whatever process: ``StandIn.attach().set_power(0, 350.0)``.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_greencompute.errors import MeterError, SettingsError
from pytest_greencompute.testing.sensor import PROFILES, Sensor, Sensors, sensors_of
from pytest_greencompute.testing.simulated import PowerCurve

STATE_VARIABLE = "NVML_STANDIN"
_SOURCE = Path(__file__).with_name("nvml_standin.c")
_LIBRARY = "libnvidia-ml.so.1"
_CUDA_LIBRARY = "libcuda.so.1"
_MAGIC = 0x3153504D43475247
_MAX_DEVICES = 16
_MAX_HOLDERS = 32
# In the order of their bits in nvml_standin.c.
_DEVICE_FAULTS = (
    "lost",
    "not supported",
    "no energy",
    "throttled",
    "software thermal",
    "power brake",
    "power cap",
    "foreign",
    "no own pid",
    "mig",
    "slow read",
    "no permission",
)
_MOMENTS = ("reset", "stuck")
_INIT_FAULTS: Mapping[str, int] = {"no driver": 9, "no permission at init": 4, "driver mismatch": 18}
STANDIN_FAULTS: tuple[str, ...] = (*_DEVICE_FAULTS, *_MOMENTS, *_INIT_FAULTS)


"""What can go wrong, by name. Of a device: ``lost`` (every call says so), ``not supported`` (as on Tegra: every call says so), ``no
energy`` (power works, energy does not), ``throttled`` and ``software thermal`` (slowdown for heat, by hardware or software), ``power
brake``, ``power cap`` (which is no fault of a measurement), ``foreign`` (another process works there), ``no own pid`` (the process list
does not show one's own), ``mig`` (MIG mode is on), ``slow read`` (a read takes 300 ms), ``no permission`` (energy and power), ``reset``
(the counter restarts at zero, once), ``stuck`` (it stands still). Of the whole library, at nvmlInit: ``no driver``, ``no permission at
init``, ``driver mismatch``."""


class _Header(ctypes.Structure):
    _fields_ = (
        ("magic", ctypes.c_uint64),
        ("start_ns", ctypes.c_int64),
        ("devices_at", ctypes.c_uint64),
        ("device_size", ctypes.c_uint64),
        ("events_at", ctypes.c_uint64),
        ("events_per_device", ctypes.c_uint64),
        ("devices", ctypes.c_uint32),
        ("init_error", ctypes.c_int32),
        ("cuda_version", ctypes.c_int32),
        ("unused", ctypes.c_uint32),
        ("driver", ctypes.c_char * 80),
        ("nvml", ctypes.c_char * 80),
    )


_SENSOR_FIELDS = (
    "update_s",
    "window_s",
    "gain",
    "offset_w",
    "quantum_j",
    "quantum_w",
    "jitter_s",
    "rise_s",
    "phase_s",
    "read_s",
)
_CHANNELS = 5  # counter, draw, average, instant, module


class _Channel(ctypes.Structure):
    _fields_ = (*((name, ctypes.c_double) for name in _SENSOR_FIELDS), ("exists", ctypes.c_uint32), ("read_busy", ctypes.c_uint32))


class _DeviceState(ctypes.Structure):
    _fields_ = (
        ("channels", _Channel * _CHANNELS),
        ("power_limit_w", ctypes.c_double),
        ("faults", ctypes.c_uint64),
        ("reset_ns", ctypes.c_int64),
        ("stuck_ns", ctypes.c_int64),
        ("events", ctypes.c_uint64),
        ("cuda_rank", ctypes.c_int32),
        ("bus", ctypes.c_uint32),
        ("name", ctypes.c_char * 96),
        ("uuid", ctypes.c_char * 96),
        ("bus_id", ctypes.c_char * 32),
        ("holders", ctypes.c_uint32 * _MAX_HOLDERS),
    )


class _Event(ctypes.Structure):
    _fields_ = (("t_ns", ctypes.c_int64), ("watts", ctypes.c_double))


@dataclass(frozen=True, slots=True)
class StandInDevice:
    """One device of the stand-in. Power in watts; ``uuid`` empty: one in the real format is made up from its place.

    ``sensor`` describes its channels, all alike (a ``Sensor``) or each by itself (``Sensors``, such as those of PROFILES).
    ``cuda_rank`` is its place in CUDA's own order (None: the same as in NVML's).
    """

    sensor: Sensor | Sensors = PROFILES["H100"]
    name: str = "NVIDIA H100 80GB HBM3"
    uuid: str = ""
    idle_w: float = 60.0
    power_limit_w: float = 700.0
    cuda_rank: int | None = None

    def uuid_at(self, index: int) -> str:
        """Its UUID as the device at ``index``."""
        return self.uuid or f"GPU-{0x8D0A1C3E + index:08x}-5b7f-4e21-9c64-2f1d7a90b3{index:02x}"


def compile_standin(folder: Path) -> Path:
    """Build the library into ``folder``, as libnvidia-ml.so.1, and as cuda/libcuda.so.1 for CUDA's order. Returns the former's path.

    Raises MeterError where there is no C compiler or it fails.
    """
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise MeterError("The stand-in for the NVIDIA driver library needs a C compiler.", remedy="Install gcc (apt-get install gcc).")
    library = folder / _LIBRARY
    (folder / "cuda").mkdir(parents=True, exist_ok=True)
    # No fused multiply-add: the results are to be those of the simulation in Python, to the last bit.
    flags = ["-shared", "-fPIC", "-O2", "-ffp-contract=off", "-Wall", f"-Wl,-soname,{_LIBRARY}"]
    command = [compiler, *flags, "-o", str(library), str(_SOURCE), "-lm", "-lpthread"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise MeterError(
            f"{' '.join(command)} failed: {done.stderr.strip()[-500:]}",
            remedy="Install gcc and the C headers (apt-get install gcc libc6-dev).",
        )
    shutil.copyfile(library, folder / "cuda" / _CUDA_LIBRARY)
    return library


class StandIn:
    """The file that describes and steers the stand-in's devices. Use ``create`` or ``attach``.

    Any process may hold one; changes are seen at once by all. Safe to use from several threads.
    """

    def __init__(self, state: Path, library: Path | None = None) -> None:
        self.state = state
        self.library = library
        self._lock = threading.Lock()
        with state.open("rb") as file:
            start = file.read(ctypes.sizeof(_Header))
        if not _is_header(start):
            raise SettingsError(f"{state} is not a state file of this stand-in.", remedy="Make one with StandIn.create().")
        # Kept open for the lock between processes; mmap has its own copy of the descriptor.
        self._file = os.open(state, os.O_RDWR)
        self._map = mmap.mmap(self._file, 0)
        self._head = _Header.from_buffer(self._map)
        self._devices = (_DeviceState * self._head.devices).from_buffer(self._map, self._head.devices_at)
        room = self._head.events_per_device
        self._logs = [
            (_Event * room).from_buffer(self._map, self._head.events_at + i * room * ctypes.sizeof(_Event))
            for i in range(len(self._devices))
        ]

    @classmethod
    def create(
        cls,
        folder: Path,
        devices: Sequence[StandInDevice] = (StandInDevice(),),
        *,
        library: Path | None = None,
        driver: str = "550.54.15",
        cuda_version: int = 12040,
        events: int = 1 << 18,
    ) -> StandIn:
        """Make a new state file in ``folder``; compile the library there too, unless ``library`` names one.

        ``events`` is how many power changes a device's log has room for (16 bytes each, of which the file takes only what is used).
        """
        if len(devices) > _MAX_DEVICES:
            raise SettingsError(f"The stand-in has room for {_MAX_DEVICES} devices, not {len(devices)}.")
        folder.mkdir(parents=True, exist_ok=True)
        library = library or compile_standin(folder)
        state = folder / f"standin-{os.getpid()}-{time.monotonic_ns()}"
        devices_at = ctypes.sizeof(_Header)
        events_at = devices_at + len(devices) * ctypes.sizeof(_DeviceState)
        start_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        header = _Header(
            magic=_MAGIC,
            start_ns=start_ns,
            devices_at=devices_at,
            device_size=ctypes.sizeof(_DeviceState),
            events_at=events_at,
            events_per_device=events,
            devices=len(devices),
            cuda_version=cuda_version,
            driver=driver.encode(),
            nvml=f"12.{driver}".encode(),
        )
        with state.open("wb") as file:
            file.write(bytes(header))
            for index, device in enumerate(devices):
                file.write(bytes(_device_state(device, index)))
            file.truncate(events_at + len(devices) * events * ctypes.sizeof(_Event))
        standin = cls(state, library)
        for index, device in enumerate(devices):
            standin.set_power(index, device.idle_w, t_ns=start_ns - 1)
        return standin

    @classmethod
    def attach(cls, environ: Mapping[str, str] = os.environ) -> StandIn:
        """The stand-in that the environment names. Raises SettingsError where it names none."""
        path = environ.get(STATE_VARIABLE)
        if not path:
            raise SettingsError(f"{STATE_VARIABLE} is not set.", remedy="Start this process with the env of a StandIn.")
        library = next((p for f in environ.get("LD_LIBRARY_PATH", "").split(":") if f and (p := Path(f) / _LIBRARY).exists()), None)
        return cls(Path(path), library)

    @property
    def env(self) -> dict[str, str]:
        """What a process needs in its environment so that its NVML is this stand-in."""
        return self._env(cuda=False)

    @property
    def cuda_env(self) -> dict[str, str]:
        """The same, with CUDA's driver library also replaced, which can say CUDA's order of the devices and nothing else."""
        return self._env(cuda=True)

    def _env(self, *, cuda: bool) -> dict[str, str]:
        if self.library is None:
            return {STATE_VARIABLE: str(self.state)}
        folders = [str(self.library.parent)] + ([str(self.library.parent / "cuda")] if cuda else [])
        before = os.environ.get("LD_LIBRARY_PATH")
        return {STATE_VARIABLE: str(self.state), "LD_LIBRARY_PATH": ":".join(folders + ([before] if before else []))}

    @property
    def start_ns(self) -> int:
        """When the sensors started, in nanoseconds of CLOCK_MONOTONIC (that of time.perf_counter_ns on Linux)."""
        return int(self._head.start_ns)

    def uuid(self, device: int) -> str:
        """The UUID of a device."""
        return bytes(self._devices[device].uuid).decode()

    def set_power(self, device: int, watts: float, *, t_ns: int | None = None) -> None:
        """True power of ``device`` from now on (or from ``t_ns``, not before the last change), in watts."""
        if not 0 <= watts < float("inf"):
            raise SettingsError(f"A power of {watts!r} W.", remedy="It must be finite and not negative.")
        state, log = self._devices[device], self._logs[device]
        with self._alone():
            count = state.events
            if count >= len(log):
                raise SettingsError("The stand-in's log of power changes is full.", remedy="Create it with more events.")
            # Stamped under the lock, so that the log of all processes together is in order.
            at_ns = _now_ns() if t_ns is None else t_ns
            if count and at_ns < log[count - 1].t_ns:
                raise SettingsError("Power cannot be changed in the past.")
            log[count].t_ns, log[count].watts = at_ns, watts
            state.events = count + 1  # published: the library reads no further

    def work(self, device: int, seconds: float, watts: float) -> None:
        """Draw ``watts`` for ``seconds`` of real time, then what was drawn before.

        From then on NVML lists this process among those that use the device, to every process, until it ends.
        """
        self._hold(device)
        before = self._logs[device][self._devices[device].events - 1].watts
        self.set_power(device, watts)
        time.sleep(seconds)
        self.set_power(device, before)

    def _hold(self, device: int) -> None:
        holders, own = self._devices[device].holders, os.getpid()
        if own in holders:
            return
        with self._alone():
            free = next((place for place, pid in enumerate(holders) if not _is_alive(pid)), None)
            if free is None:
                raise SettingsError(f"The stand-in has room for {_MAX_HOLDERS} processes that work on a device.")
            holders[free] = own

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """No other thread or process writes meanwhile."""
        with self._lock:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def true_energy_j(self, device: int, t0_ns: int, t1_ns: int) -> float:
        """The exact energy in joules that ``device`` drew from ``t0_ns`` to ``t1_ns``."""
        log = self._logs[device]
        curve = PowerCurve(log[0].t_ns + 1, log[0].watts)
        for i in range(1, self._devices[device].events):
            curve.set_power(log[i].t_ns, log[i].watts)
        return curve.energy_j(t0_ns, t1_ns)

    def fault(self, name: str, device: int = 0) -> None:
        """Let something go wrong from now on; ``name`` is one of STANDIN_FAULTS. Those of nvmlInit act at the next nvmlInit."""
        if name in _INIT_FAULTS:
            self._head.init_error = _INIT_FAULTS[name]
        elif name == "reset":
            self._devices[device].reset_ns = _now_ns()
        elif name == "stuck":
            self._devices[device].stuck_ns = _now_ns()
        elif name in _DEVICE_FAULTS:
            self._devices[device].faults |= 1 << _DEVICE_FAULTS.index(name)
        else:
            raise SettingsError(f"There is no fault {name!r}.", remedy=f"Use one of {', '.join(STANDIN_FAULTS)}.")

    def clear_faults(self) -> None:
        """All is well again from now on, on every device. A counter that was reset stays reset."""
        self._head.init_error = 0
        for state in self._devices:
            state.faults = 0
            state.stuck_ns = 0

    def close(self) -> None:
        """Let go of the file, which stays for other processes. May be called twice."""
        if self._file < 0:
            return
        self._logs = []
        del self._devices, self._head  # the map cannot be closed while they look into it
        self._map.close()
        os.close(self._file)
        self._file = -1


def _is_header(start: bytes) -> bool:
    if len(start) < ctypes.sizeof(_Header):
        return False
    header = _Header.from_buffer_copy(start)
    return bool(header.magic == _MAGIC and header.device_size == ctypes.sizeof(_DeviceState))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except ProcessLookupError:
        return False
    return pid != 0  # 0 is an empty place, and would ask for our own group


def _now_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def _device_state(device: StandInDevice, index: int) -> _DeviceState:
    state = _DeviceState(
        power_limit_w=device.power_limit_w,
        cuda_rank=index if device.cuda_rank is None else device.cuda_rank,
        bus=index + 1,
        name=device.name.encode(),
        uuid=device.uuid_at(index).encode(),
        bus_id=f"00000000:{index + 1:02X}:00.0".encode(),
    )
    for place, sensor in enumerate(sensors_of(device.sensor).channels.values()):
        if sensor is not None:
            state.channels[place] = _channel(sensor)
    return state


def _channel(sensor: Sensor) -> _Channel:
    return _Channel(**{name: getattr(sensor, name) for name in _SENSOR_FIELDS}, exists=1, read_busy=int(sensor.read_busy))
