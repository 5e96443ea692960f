"""The meter of last resort: CPU seconds of this process and its children times the watts of one busy core.

It models, it does not measure: memory, caches, clocks and idle cores are not in it, and a hardware thread counts as a
core. What it is good for is comparing two versions of one program on one machine. It is used only where it is listed.

CPU seconds are exact to the microsecond for this process and for children that were waited for (on Windows, which adds nothing up, these
count for what they had used when they were last seen). Running descendants are seen on Linux, to 1/100 s each, and elsewhere where psutil
is installed; without it, only once they have ended. A descendant that left for another parent (a daemon) is not seen.
"""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import math
import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.machine.facts import CPUINFO, Processor, read_processor
from pytest_greencompute.machine.processes import PROC, descendants
from pytest_greencompute.meters.base import Ability, Condition, Counter, DeviceFacts, MeterOptions, Traits
from pytest_greencompute.values.readings import Reading, Source

# A round figure between 3.75 W (EPYC 9654: TDP 360 W over 96 cores) and 13 W (Ryzen 7 5800X: 105 W over 8). It is stated
# wherever it is used.
DEFAULT_WATTS_PER_CORE = 10.0

# What a reading right after work may cost that no clock tells of: caches and page tables are the work's, and the kernel catches up with it.
# 0.1 to 0.3 ms were seen on virtual machines, where the same reading of an idle process takes 0.02 ms.
AFTER_WORK_S = 0.0003


class CpuTimeCounter:
    """Domain ``cpu``, method ``modelled``. ``cpu_ns`` gives the CPU nanoseconds so far. Never reports less than before."""

    __slots__ = ("_cpu_ns", "_high_ns", "_lost_ns", "_now_ns", "_source", "_watts")

    def __init__(self, source: Source, watts: float, now_ns: Callable[[], int], cpu_ns: Callable[[], int]) -> None:
        self._source = source
        self._watts = watts
        self._now_ns = now_ns
        self._cpu_ns = cpu_ns
        self._high_ns = 0
        self._lost_ns = 0

    @property
    def source(self) -> Source:
        """``tick_s`` 0: CPU time runs on continuously. The note says where the watts come from."""
        return self._source

    def read(self) -> Reading:
        """CPU seconds times watts, in joules."""
        now_ns = self._now_ns()
        total = self._cpu_ns() + self._lost_ns
        if total < self._high_ns:
            # A child may be between the list of the running and the sum of the ended: look once more.
            total = self._cpu_ns() + self._lost_ns
        if total < self._high_ns:
            # It is gone for good (a daemon now, or ended unwaited). Its time stays counted, and what is used from here on is added to it.
            self._lost_ns += self._high_ns - total
            total = self._high_ns
        self._high_ns = total
        return Reading(total / 1e9 * self._watts, now_ns)

    def condition(self) -> Condition:
        """Nothing is known of the processor."""
        return Condition()

    def facts(self) -> DeviceFacts:
        """The watts of the model and where they come from."""
        return {"watts_per_core": self._watts, "watts_from": self._source.note}

    def close(self) -> None:
        """Nothing is held open."""


class CpuTimeMeter:
    """Models the energy of the domain ``cpu`` from CPU seconds. ``cpuinfo`` and ``table`` (a CSV of Name, TDP) exist for tests."""

    name = "cputime"
    traits = Traits(sees="process", models=True)

    __slots__ = ("_cpuinfo", "_table")

    def __init__(self, cpuinfo: Path = CPUINFO, table: Path | None = None) -> None:
        self._cpuinfo = cpuinfo
        self._table = table

    def find(self, options: MeterOptions) -> Sequence[Counter]:
        """One counter; works everywhere. Raises SettingsError where the watts that were set are not a positive number."""
        processor = read_processor(self._cpuinfo)
        watts, origin = watts_per_core(options.cpu_watts_per_core, processor, self._table or codecarbon_table())
        source = Source(
            meter=self.name,
            domain="cpu",
            method="modelled",
            device=processor.model,
            step_j=AFTER_WORK_S * watts,
            note=f"{watts:.3g} W per core ({origin})",
        )
        return (CpuTimeCounter(source, watts, options.clock.now_ns, CpuTime()),)

    def abilities(self, options: MeterOptions) -> Sequence[Ability]:
        """One line: it models, with these watts."""
        try:
            (counter,) = self.find(options)
        except SettingsError as error:
            return (Ability("cpu", works=False, says=error.message, remedy=error.remedy),)
        return (Ability("cpu", works=True, says=f"modelled from CPU seconds: {counter.source.note}"),)


def watts_per_core(chosen: float | None, processor: Processor, table: Path | None) -> tuple[float, str]:
    """Watts of one busy core and, in words, where they come from.

    The user's figure; else the chip's TDP in CodeCarbon's table divided by its cores, where both are known (a virtual machine
    hides the cores); else DEFAULT_WATTS_PER_CORE.
    """
    if chosen is not None:
        if not math.isfinite(chosen) or chosen <= 0:
            raise SettingsError(f"cpu_watts_per_core is {chosen!r}.", remedy="It must be a finite number of watts above zero.")
        return float(chosen), "set by you"
    if processor.virtual:
        return DEFAULT_WATTS_PER_CORE, "default; virtual machine"
    if processor.virtual is None or processor.cores is None:
        return DEFAULT_WATTS_PER_CORE, "default; the cores of the chip are not known"
    if table is None:
        return DEFAULT_WATTS_PER_CORE, "default; CodeCarbon's table of processors is not installed"
    tdp_w = look_up(processor.model, table)
    if tdp_w is None:
        return DEFAULT_WATTS_PER_CORE, f"default; CodeCarbon's table has no {processor.model or 'such processor'}"
    return tdp_w / processor.cores, f"{tdp_w:g} W TDP in CodeCarbon's table over {processor.cores} cores"


def codecarbon_table() -> Path | None:
    """CodeCarbon's table of processors, found without importing CodeCarbon; None where it is not installed."""
    spec = importlib.util.find_spec("codecarbon")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        table = Path(folder, "data", "hardware", "cpu_power.csv")
        if table.is_file():
            return table
    return None


def look_up(model: str, table: Path) -> float | None:
    """TDP in watts of the processor of this name; None where the table cannot be read, lacks it, or contradicts itself.

    Names are compared whole, after what makers add to them is dropped; a near name is another processor.
    """
    wanted = _plain(model)
    try:
        with table.open(encoding="utf-8", newline="") as file:
            found = {row.get("TDP") for row in csv.DictReader(file) if _plain(row.get("Name") or "") == wanted}
    except (OSError, UnicodeDecodeError, csv.Error):
        return None
    if not wanted or len(found) != 1:
        return None
    try:
        watts = float(found.pop() or "")
    except ValueError:
        return None
    return watts if math.isfinite(watts) and watts > 0 else None


def _plain(name: str) -> str:
    """``Intel(R) Xeon(R) Gold 6248 CPU @ 2.50GHz`` and ``Intel Xeon Gold 6248`` as one."""
    name = re.sub(r"\((?:r|tm)\)", " ", name.lower())
    name = re.sub(r"@.*| with radeon .*|^\d+th gen |\b\d+-core\b|\b(?:cpu|processor)\b", " ", name)
    return " ".join(name.split())


class CpuTime:
    """CPU nanoseconds of this process (all threads), of children waited for, and of running descendants where they can be seen.

    To look for descendants takes a tenth of a millisecond, and more where there are some, as on one side of a comparison alone: it is
    left out.
    """

    __slots__ = ("_looking_ns",)

    def __init__(self) -> None:
        self._looking_ns = 0

    def __call__(self) -> int:
        # The ended before the running: a child that ends in between is missed for a moment, never counted twice.
        found = _ended_children_ns() + time.process_time_ns() - self._looking_ns
        looked = time.thread_time_ns()
        found += running_descendants_ns()
        self._looking_ns += time.thread_time_ns() - looked
        return found


def _ended_children_ns() -> int:
    try:
        import resource
    except ImportError:
        times = os.times()
        return round((times.children_user + times.children_system) * 1e9)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return round((usage.ru_utime + usage.ru_stime) * 1e9)


def running_descendants_ns(proc: Path = PROC) -> int:
    """CPU nanoseconds of all living descendants of this process, and of those that they have waited for; 0 where nothing shows any."""
    if not proc.is_dir():
        return _seen_by_psutil_ns()
    # Its own figures, with those of the children that it has waited for, before its list of children: as in CpuTime.
    ticks = sum(_stat_ticks(proc / pid / "stat") for pid in descendants(proc))
    return ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK") if ticks else 0


def _seen_by_psutil_ns() -> int:
    """The same, where there is no /proc; psutil is nothing that this package asks for."""
    try:
        import psutil
    except ImportError:
        return 0
    found_s = 0.0
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has ended meanwhile, or is another user's by now
            found_s += sum(child.cpu_times()[:4])  # user, system, and both of the children that it has waited for
    return round(found_s * 1e9)


def _stat_ticks(stat: Path) -> int:
    """User and system time of a process and of its waited-for children: fields 14 to 17 of proc(5), in clock ticks."""
    try:
        # The second field is the command in brackets, which may itself hold spaces and brackets.
        after = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return sum(int(number) for number in after[11:15])
    except (OSError, ValueError):
        return 0
