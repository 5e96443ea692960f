"""Systems on a chip that Zeus knows: Apple silicon (an energy counter for each part) and Jetson boards (the power of each rail).

Each is one domain. ``board`` is all that a Jetson module draws. ``soc`` is the parts of the chip that its note names, and leaves the
rest of the machine out. They are not told apart as ``cpu`` and ``gpu``: parts share memory and rails, and a GPU that is switched off
stands still.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from pytest_greencompute.errors import MeterError, MeterLostError
from pytest_greencompute.machine.clock import Clock
from pytest_greencompute.machine.facts import read_processor
from pytest_greencompute.meters.base import Condition, Counter, DeviceFacts, trouble
from pytest_greencompute.meters.integrate import PowerIntegrator
from pytest_greencompute.meters.zeus_figures import REMEDY, Rising, figure
from pytest_greencompute.values.readings import Reading, Source

_SYSTEMATIC = 0.05  # neither maker says how far off its sensors are: that of NVIDIA's cards is assumed
_TICK_HINT_S = 0.1
# What is billed: Zeus's name, ours. "GPU SRAM" is left out, since nobody says whether the GPU's own figure holds it.
PARTS: Mapping[str, str] = {"cpu_total_mj": "CPU", "gpu_mj": "GPU", "ane_mj": "Neural Engine", "dram_mj": "memory"}
NEEDED = ("cpu_total_mj", "gpu_mj")


def apple_counter(apple: Any, clock: Clock) -> Counter:
    """The counter of this Mac. Raises MeterError where Zeus cannot tell what CPU and GPU draw."""
    processor = read_processor().model
    if "Ultra" in processor:
        # Its CPU counters have names of their own (DIE_0_…, DIE_1_…), of which zeus-apple-silicon 1.1 keeps the last alone.
        raise MeterError(f"Of the {processor} Zeus reads one of its two dies.", remedy="Measure on another Mac, or list cputime.")
    with trouble("Zeus", "read this Mac's energy counters", remedy=REMEDY):
        chip = apple.AppleSilicon()
        told = chip.get_total_energy_consumption()
    parts = [part for part in PARTS if getattr(told, part, None) is not None]
    missing = " and ".join(PARTS[part] for part in NEEDED if part not in parts)
    if missing:
        raise MeterError(f"Zeus does not tell the energy of this Mac's {missing} (in a virtual machine there is none).", remedy=REMEDY)
    return AppleCounter(chip, parts, processor, clock)


class AppleCounter:
    """All parts of an Apple chip that Zeus tells, summed; domain ``soc``. What else a Mac draws, such as its screen, is not in it."""

    __slots__ = ("_chip", "_now_ns", "_open", "_rising", "_source")

    def __init__(self, chip: Any, parts: list[str], processor: str, clock: Clock) -> None:
        self._chip = chip
        self._now_ns = clock.now_ns
        self._open = True
        # Whoever reads keeps the CPU moving. The other parts may be switched off.
        self._rising = {part: Rising(f"The energy of this Mac's {PARTS[part]}", always=part == "cpu_total_mj") for part in parts}
        self._source = Source(
            meter="zeus",
            domain="soc",
            method="counter",
            device=processor,
            tick_s=_TICK_HINT_S,
            step_j=0.001,
            systematic=_SYSTEMATIC,
            note=f"{', '.join(PARTS[part] for part in parts)}; not the rest of the machine",
        )

    @property
    def source(self) -> Source:
        """Its description, before probing."""
        return self._source

    def read(self) -> Reading:
        """Energy so far in joules. Raises MeterLostError for a part that is no figure, fell, or (the CPU) stands still."""
        if not self._open:
            raise MeterError("This Mac's energy counter was closed.")
        with trouble("Zeus", "read this Mac's energy counters", kind=MeterLostError, remedy=REMEDY):
            told = self._chip.get_total_energy_consumption()
        t_ns = self._now_ns()
        total_mj = 0.0
        for part, rising in self._rising.items():
            millijoules = figure(f"The energy of this Mac's {PARTS[part]}", lambda part=part: getattr(told, part), kind=MeterLostError)  # type: ignore[misc]
            rising.see(millijoules, t_ns)
            total_mj += millijoules
        return Reading(total_mj / 1000, t_ns)

    def condition(self) -> Condition:
        """Nothing is known."""
        return Condition()

    def facts(self) -> DeviceFacts:
        """Zeus's version."""
        return {"zeus": metadata.version("zeus")}

    def close(self) -> None:
        """Nothing to give back."""
        self._open = False


# Rails that feed the whole module (NVIDIA, Jetson Linux Developer Guide, power sections). Zeus takes any rail with "_in" in its name for
# one, and a carrier's slot (VDD_M2_IN) is none.
WHOLE = ("VDD_IN", "POM_5V_IN")


def jetson_counter(jetson: Any, clock: Clock) -> Counter:
    """The counter of this Jetson. Raises MeterError where its rails do not tell what it draws.

    Zeus finds the rails; it does not sum them here. Its sum is up to 0.1 s old, and where its process was held up it counts the power of
    the next moment for all of the time that it missed.
    """
    with trouble("Zeus", "look for this Jetson's power rails", remedy=REMEDY):
        rails = jetson.Jetson._discover_available_metrics(jetson.Jetson.__new__(jetson.Jetson))
        named = {_rail_name(rail): _in_milliwatts(jetson, rail) for rail in rails.values()}
        kept = {str(key).partition("_")[0]: _rail_name(rail) for key, rail in rails.items()}
    if kept.get("total", "").upper() in WHOLE:
        return _rails_counter("board", {kept["total"]: named[kept["total"]]}, "the whole module, CPU, GPU and memory", clock)
    chosen = {name: named[name] for part, name in kept.items() if part in {"cpu", "gpu"}}
    together = " ".join(chosen).upper()
    if "CPU" not in together or "GPU" not in together:
        found = ", ".join(named) or "none"
        raise MeterError(f"Zeus finds no rail here that feeds the module, nor those of CPU and GPU (found: {found}).", remedy=REMEDY)
    return _rails_counter("soc", chosen, "CPU and GPU alone: the rest of the board is not billed", clock)


def _rail_name(rail: Any) -> str:
    """The name that the board's makers gave a rail, from the file beside its readings."""
    path = _file(rail)
    number = "".join(re.findall(r"\d+", path.name))
    for label in (path.with_name(f"in{number}_label"), path.with_name(f"rail_name_{number}")):
        if label.is_file():
            return label.read_text(encoding="utf-8").strip()
    raise MeterError(f"The power rail {path} has no name.", remedy=REMEDY)


def _file(rail: Any) -> Path:
    return Path(getattr(rail, "power_path", None) or rail.voltage_path)


def _in_milliwatts(jetson: Any, rail: Any) -> Callable[[], Any]:
    """What reads the rail. Zeus takes all power files for milliwatts, but the kernel's own ``power1_input`` holds microwatts."""
    path = _file(rail)
    if path.name.startswith("power"):
        volts, amperes = (path.with_name(path.name.replace("power", kind)) for kind in ("in", "curr"))
        if not (volts.is_file() and amperes.is_file()):
            raise MeterError(f"The unit of {path} is not certain.", remedy=REMEDY)
        rail = jetson.VoltageCurrentProduct(volts, amperes)
    return rail.measure_power  # type: ignore[no-any-return]


def _rails_counter(domain: str, rails: Mapping[str, Callable[[], Any]], what: str, clock: Clock) -> PowerIntegrator:
    def read_w() -> float:
        return sum(figure(f"The power of the rail {name}", read, kind=MeterLostError) for name, read in rails.items()) / 1000

    return PowerIntegrator(
        read_w,
        clock=clock,
        meter="zeus",
        domain=domain,
        device="Jetson",
        systematic=_SYSTEMATIC,
        note=f"power of {' and '.join(rails)} summed over time: {what}",
        facts=lambda: {"zeus": metadata.version("zeus"), "rails": ", ".join(rails)},
    )
