"""CodeCarbon's figures as a meter: its offline tracker, asked whenever a reading is wanted.

Only its public interface does the measuring: ``flush()`` measures at once and hands the totals to an output handler, which
here keeps them in memory. Nothing is written, printed or sent. Two things about CodeCarbon shape this module:

* It does not measure again within 50 ms of the last time, and its CPU load comes from counters of 10 ms. A reading that comes too
  early therefore waits until 60 ms have gone by; each reading is then exact for its own time.
* It swallows its own exceptions and logs them. Here its log goes to a list, and a measurement that left no result is a MeterError
  that quotes the log. A sensor that fails *inside* CodeCarbon it may still count as 0; that cannot be seen from here.

The user's own CodeCarbon settings (``tracking_mode``, ``force_cpu_power``, …) hold, except those that would write, send or
multiply. Its default, ``machine``, counts the load of the whole machine, that of others too.
"""

from __future__ import annotations

import importlib.util
import inspect
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from pytest_greencompute.errors import MeterError, MeterLostError
from pytest_greencompute.meters.base import Ability, Condition, Counter, DeviceFacts, MeterOptions, Sees, Traits, abilities_of, trouble
from pytest_greencompute.values.readings import Method, Reading, Source

_J_PER_KWH = 3.6e6
# 10 ms more than the 50 ms within which CodeCarbon does not measure again.
_SPACING_S = 0.06
# Counters of several domains that are read in one breath share a measurement this fresh.
_SHARED_S = 0.005
# Longer than any session: only readings measure, so that no background measurement runs into one.
_NEVER_S = 86_400.0
_INSTALL = 'pip install "pytest-greencompute[codecarbon]"'
_REPORT = "Try `codecarbon monitor --offline --country-iso-code USA`; if that works, report it with the version of CodeCarbon."
# What each way of CodeCarbon's to measure a CPU amounts to. Those that read watts now and then and multiply by time integrate.
_CPU_METHODS: Mapping[str, Method] = {
    "intel_rapl": "counter",
    "windows_emi": "counter",
    "intel_power_gadget": "integrated",
    "AppleSiliconChip": "integrated",
    "Raspberry": "integrated",
}


class _Sink:
    """An output handler (CodeCarbon's word) that keeps the last totals."""

    def __init__(self) -> None:
        self.totals: Any = None

    def out(self, total: Any, delta: Any) -> None:  # noqa: ARG002 - CodeCarbon's signature
        self.totals = total

    def live_out(self, total: Any, delta: Any) -> None:
        """Called by its periodic measurements, of which there are none."""

    def task_out(self, data: Any, experiment_name: str) -> None:
        """Called for tasks, of which there are none."""

    def exit(self) -> None:
        """Called at the end."""


class _Log(logging.Handler):
    """Takes CodeCarbon's log in place of the terminal and remembers the last exception in it."""

    def __init__(self) -> None:
        super().__init__()
        self.error: BaseException | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            self.error = record.exc_info[1]

    def reason(self) -> str:
        return f" ({type(self.error).__name__}: {self.error})" if self.error is not None else ""


@dataclass(frozen=True, slots=True)
class _Totals:
    """One forced measurement: CodeCarbon's totals, the time it was asked for, and which one it is."""

    totals: Any
    t_ns: int
    number: int


class _Tracker:
    """One running CodeCarbon tracker, shared by the counters of its domains; stops with the last of them."""

    def __init__(self, module: Any, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._sink = _Sink()
        self._log = _Log()
        self._logger = logging.getLogger("codecarbon")
        self._logger_was = (self._logger.level, list(self._logger.handlers))
        self._folder = tempfile.mkdtemp(prefix="greencompute-codecarbon-")
        self._users = 0
        self._last: _Totals | None = None
        self._last_s = 0.0
        try:
            self._quiet()
            self.tracker = module.OfflineEmissionsTracker(**_settings(module, self._sink, self._folder))
            self.tracker.start()
            # start() measures too, and swallows it if that fails: only a measurement after the spacing proves that it can.
            self._last_s = time.perf_counter()
            self.measure()
        except BaseException:
            self._end()
            raise

    def measure(self) -> _Totals:
        """Measures now. Raises MeterError where CodeCarbon gives no result."""
        # CodeCarbon's clock, whatever clock the readings are stamped with: it is CodeCarbon that would skip a measurement.
        time.sleep(max(0.0, self._last_s + _SPACING_S - time.perf_counter()))
        self._sink.totals = self._log.error = None
        # Every tracker sets up the one logger anew, and the test may start one of its own.
        self._quiet()
        now_ns = self._now_ns()
        self.tracker.flush()
        self._last_s = time.perf_counter()
        if self._sink.totals is None:
            raise MeterError(f"CodeCarbon did not measure{self._log.reason()}.", remedy=_REPORT)
        self._last = _Totals(self._sink.totals, now_ns, self._last.number + 1 if self._last else 1)
        return self._last

    def latest(self, seen: int) -> _Totals:
        """A measurement after number ``seen``: one that another domain forced a moment ago, or a new one."""
        last = self._last
        if last is not None and last.number > seen and time.perf_counter() - self._last_s < _SHARED_S:
            return last
        return self.measure()

    def opened(self) -> None:
        self._users += 1

    def closed(self) -> None:
        self._users -= 1
        if self._users == 0:
            self._end()

    def _quiet(self) -> None:
        self._logger.handlers = [self._log]
        self._logger.setLevel(logging.WARNING)

    def _end(self) -> None:
        tracker = getattr(self, "tracker", None)
        if tracker is not None:
            tracker.stop()
        level, handlers = self._logger_was
        self._logger.setLevel(level)
        self._logger.handlers = handlers
        shutil.rmtree(self._folder, ignore_errors=True)


class CodeCarbonCounter:
    """One domain of CodeCarbon: the total in ``field`` of its data, kWh, as joules."""

    __slots__ = ("_facts", "_field", "_open", "_seen", "_source", "_tracker", "sees")

    def __init__(self, tracker: _Tracker, field: str, source: Source, facts: DeviceFacts) -> None:
        self.sees: Sees = "process" if facts["tracking_mode"] == "process" and field != "gpu_energy" else "machine"
        self._tracker = tracker
        self._field = field
        self._source = source
        self._facts = facts
        self._seen = 0
        self._open = True
        tracker.opened()

    @property
    def source(self) -> Source:
        """Domain ``cpu``, ``dram`` or ``gpu`` (all GPUs together); the note says what CodeCarbon does for it."""
        return self._source

    def read(self) -> Reading:
        """Joules since the tracker's start, measured now. May wait up to 60 ms. Raises MeterLostError where CodeCarbon gives none."""
        if not self._open:
            raise MeterLostError("This counter of CodeCarbon was closed.")
        try:
            measured = self._tracker.latest(self._seen)
        except MeterError as error:
            raise MeterLostError(error.message, remedy=error.remedy) from error
        self._seen = measured.number
        return Reading(_joules(measured.totals, self._field), measured.t_ns)

    def condition(self) -> Condition:
        """Nothing is known."""
        return Condition()

    def facts(self) -> DeviceFacts:
        """CodeCarbon's version and the ways it measures."""
        return self._facts

    def close(self) -> None:
        """The last counter to close stops the tracker, which writes nothing."""
        if self._open:
            self._open = False
            self._tracker.closed()


class CodeCarbonMeter:
    """CPU, memory and GPU energy as CodeCarbon tells it."""

    name = "codecarbon"
    traits = Traits(sees="machine")

    __slots__ = ()

    def find(self, options: MeterOptions) -> Sequence[Counter]:
        """Starts one offline tracker (about a second). Raises MeterError where CodeCarbon is not installed or does not measure."""
        if importlib.util.find_spec("codecarbon") is None:
            raise MeterError("CodeCarbon is not installed.", remedy=_INSTALL)
        with trouble("CodeCarbon", "be started", remedy=_REPORT):
            tracker = _Tracker(importlib.import_module("codecarbon"), options.clock.now_ns)
            try:
                return _counters(tracker)
            except BaseException:
                tracker._end()
                raise

    def abilities(self, options: MeterOptions) -> Sequence[Ability]:
        """One line for each domain, with what CodeCarbon does for it."""
        return abilities_of(self, options, "cpu", lambda source: f"{source.method}: {source.note}")


def _settings(module: Any, sink: _Sink, folder: str) -> dict[str, Any]:
    """Arguments under which a tracker neither writes, prints nor sends, and counts the machine's energy as it is.

    They are passed even where they are CodeCarbon's defaults, since a configuration file or variable of the user's could set
    them otherwise. Those that this version of CodeCarbon does not know are left out.
    """
    known = inspect.signature(module.EmissionsTracker).parameters
    wanted: dict[str, Any] = {
        "allow_multiple_runs": True,
        "api_call_interval": -1,
        "electricitymaps_api_token": "",
        "emissions_endpoint": None,
        "force_carbon_intensity_g_co2e_kwh": 0.0,
        "log_level": "critical",
        "measure_power_secs": _NEVER_S,
        "output_dir": folder,
        "output_handlers": [sink],
        "pue": 1.0,
        "rapl_include_dram": False,
        "rapl_prefer_psys": False,
        "send_telemetry": False,  # to come, on by default (mlco2/codecarbon, pull request 1200)
    }
    if "output_methods" in known:
        wanted["output_methods"] = []
    else:
        wanted |= dict.fromkeys(("save_to_file", "save_to_api", "save_to_logger", "save_to_prometheus", "save_to_logfire"), False)
    if "electricitymaps_api_token" not in known:
        wanted["co2_signal_api_token"] = ""  # its name in older versions; with a token they ask a server for the carbon of a kWh
    settings = {name: value for name, value in wanted.items() if name in known}
    # These belong to the offline tracker alone. The country only matters for grams of carbon, which are not read here.
    return settings | {"country_iso_code": "USA", "cloud_provider": None, "cloud_region": None, "region": None}


def _joules(totals: Any, field: str) -> float:
    value = getattr(totals, field, None)
    if not isinstance(value, int | float):
        raise MeterLostError(f"CodeCarbon gives {value!r} for {field}.", remedy=_REPORT)
    return float(value) * _J_PER_KWH


def _said(totals: Any, field: str) -> str:
    return str(getattr(totals, field, None) or "")


def _counters(tracker: _Tracker) -> list[Counter]:
    mode, tdp_w = _cpu_mode(tracker.tracker)
    totals = tracker.latest(0).totals
    for field in ("cpu_energy", "ram_energy", "gpu_energy"):
        _joules(totals, field)
    tracking = _said(totals, "tracking_mode") or "machine"
    facts = {"codecarbon": metadata.version("codecarbon"), "tracking_mode": tracking, "cpu_mode": mode, "tdp_w": tdp_w}
    cpu = Source(
        meter="codecarbon",
        domain="cpu",
        method=_CPU_METHODS.get(mode, "modelled"),
        device=_said(totals, "cpu_model"),
        note=_cpu_note(mode, tdp_w, tracking),
    )
    memory: Method = "integrated" if mode == "Raspberry" else "modelled"
    dram = Source(
        meter="codecarbon",
        domain="dram",
        method=memory,
        note="watts by the size of the memory, whatever the load: time × a constant" if memory == "modelled" else "power sensor × time",
    )
    counters: list[Counter] = [
        CodeCarbonCounter(tracker, "cpu_energy", cpu, facts),
        CodeCarbonCounter(tracker, "ram_energy", dram, facts),
    ]
    if getattr(totals, "gpu_count", 0):
        counters.append(CodeCarbonCounter(tracker, "gpu_energy", _gpu_source(totals, mode), facts))
    return counters


def _gpu_source(totals: Any, mode: str) -> Source:
    apple = mode == "AppleSiliconChip"
    return Source(
        meter="codecarbon",
        domain="gpu",
        method="integrated" if apple else "counter",
        device=_said(totals, "gpu_model"),
        # The counters of GPUs move every 20 to 100 ms (gpu-facts); readings here are 60 ms apart at best, so a tick is known to that.
        tick_s=0.0 if apple else 0.1,
        jitter_s=0.0 if apple else _SPACING_S,
        note=f"sum of {totals.gpu_count} GPU(s), ticks seen only every 60 ms: the meter 'nvml' is finer",
    )


def _cpu_mode(tracker: Any) -> tuple[str, float | None]:
    """How CodeCarbon measures the CPU, in its own word, and the TDP in watts that it models with.

    No public name tells it, so its list of hardware is looked at. Where a later version has none, the mode is ``unknown``, and
    ``unknown`` counts as modelled: too little is claimed, never too much.
    """
    for part in getattr(tracker, "_hardware", None) or ():
        kind = type(part).__name__
        if kind == "CPU":
            tdp_w = getattr(part, "_tdp", None)
            return str(getattr(part, "_mode", "unknown")), float(tdp_w) if isinstance(tdp_w, int | float) else None
        if kind in _CPU_METHODS:
            return kind, None
    return "unknown", None


def _cpu_note(mode: str, tdp_w: float | None, tracking: str) -> str:
    if mode == "cpu_load":
        load = "load of this process and its children" if tracking == "process" else "cubed load of the whole machine, at least 10 %,"
        return f"{load} × TDP of {tdp_w or 0:g} W"
    if mode == "constant":
        return f"half of a TDP of {tdp_w or 0:g} W, whatever the load: time × a constant"
    if mode in _CPU_METHODS:
        return f"read by CodeCarbon's {mode}, whole machine"
    return "CodeCarbon does not say how"
