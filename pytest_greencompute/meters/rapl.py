"""RAPL: the energy counters of Intel and AMD processors, read through Linux's powercap files.

Zones and files are described in the kernel's ``Documentation/power/powercap/powercap.rst``: ``energy_uj`` counts
microjoules and starts again at zero past ``max_energy_range_uj`` (65 to 262 kJ). ``core`` and ``uncore`` lie inside the
package and ``psys`` overlaps it, so neither is ever read; ``intel-rapl-mmio`` shows the same counters a second time.

What is not known is not claimed: no study gives one error for all processors (Haswell servers measure, desktops of that
time and AMD's Zen model, memory may be off by a constant: Desrochers et al., MEMSYS 2016, doi 10.1145/2989081.2989088;
Schöne et al., CLUSTER 2021), so ``systematic`` is 0 and the note of each source says that it is unknown.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_greencompute.errors import MeterError, MeterLostError, NothingThereError
from pytest_greencompute.machine.facts import read_processor
from pytest_greencompute.meters.base import Ability, Condition, Counter, Dead, DeviceFacts, MeterOptions, Traits, abilities_of
from pytest_greencompute.values.readings import Reading, Source, spared

ROOT = Path("/sys/class/powercap")
# The most that one zone is taken to draw, watts: twice the 500 W of the largest server processors of 2025. Between two
# reads a zone cannot have used more than this times the time; what exceeds it is a reset, and where a further wrap would
# fit, the energy is not known.
HIGHEST_W = 1000.0
# The counter moves about every millisecond and two reads may be closer than that, so some energy is older than the read.
_SLACK_S = 0.1
# Two dies whose counters agree to this many microjoules show one counter twice (see _without_mirrors).
_MIRROR_UJ = 1_000_000
_ZONE = re.compile(r"intel-rapl:(\d+)(?::(\d+))?")
_DIE = re.compile(r"(package-\d+)-die-\d+")
_NO_RAPL = "RAPL needs Linux on an Intel or AMD processor and is mostly hidden in virtual machines: list another meter, such as 'cputime'."
_UNREADABLE = (
    "Since CVE-2020-8694 only root may read it: `sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj` until the next start, or for "
    'good the udev rule `ACTION=="add", SUBSYSTEM=="powercap", KERNEL=="intel-rapl:*", RUN+="/bin/chmod a+r %S%p/energy_uj"` '
    "in /etc/udev/rules.d/70-rapl.rules."
)
_BROKEN = "Run `greencompute doctor`; the powercap driver of this kernel gives no usable counter."
Read = Callable[[Path], str]


def _read_text(path: Path) -> str:
    return path.read_text(encoding="ascii")


@dataclass(frozen=True, slots=True)
class Zone:
    """One folder of powercap: its name (``package-0``, ``dram``), its place in the tree, and the range of its counter in microjoules.

    ``problem``: why the range is not known.
    """

    path: Path
    name: str
    package: int
    range_uj: int
    problem: MeterError | None = None

    @property
    def energy(self) -> Path:
        return self.path / "energy_uj"


def unwrap(last_uj: int, now_uj: int, range_uj: int, seconds: float) -> int:
    """Microjoules used between two values of a wrapping counter that were read ``seconds`` apart.

    A counter that shows less than before has wrapped or was reset. One wrap is taken only where it is the one explanation:
    the energy fits into the time at HIGHEST_W, and a whole further turn does not. Raises MeterLostError otherwise.
    The counter is taken to restart after ``range_uj``; the true modulus is one unit (61 microjoules) more, which is no matter.
    """
    used = (now_uj - last_uj) % range_uj if now_uj < last_uj else now_uj - last_uj
    most = HIGHEST_W * (seconds + _SLACK_S) * 1e6
    if used > most:
        raise MeterLostError(
            f"A RAPL counter went from {last_uj} to {now_uj} microjoules in {seconds:.3g} s, which no processor can use.",
            remedy="The counter was reset, as after a suspend; measure again.",
        )
    if used + range_uj <= most:
        raise MeterLostError(
            f"A RAPL counter was not read for {seconds:.0f} s and may have wrapped more than once (it wraps every {range_uj / 1e6:.0f} J).",
            remedy="The machine slept or was stopped; measure again.",
        )
    return used


class RaplCounter:
    """One zone as a domain. Unwraps; safe to read from two threads.

    It must be read more often than it can wrap at HIGHEST_W (65 s at the smallest range of 65 kJ). RaplMeter sees to that
    with a read in the background, so that callers may pause as long as they like.
    """

    __slots__ = ("_energy_uj", "_last_ns", "_last_uj", "_lock", "_lost", "_now_ns", "_on_close", "_read", "_source", "_zone")

    def __init__(self, zone: Zone, source: Source, now_ns: Callable[[], int], read: Read, on_close: Callable[[], None]) -> None:
        if zone.problem is not None:
            raise zone.problem
        self._zone = zone
        self._source = source
        self._now_ns = now_ns
        self._read = read
        self._on_close = on_close
        self._lock = threading.Lock()
        self._lost: MeterLostError | None = None
        self._last_uj = self._energy_uj = _number(zone.energy, read)
        self._last_ns = now_ns()

    @property
    def source(self) -> Source:
        """Domain ``cpu`` or ``dram``, method ``counter``; the tick of 1 ms is a hint."""
        return self._source

    @property
    def range_uj(self) -> int:
        return self._zone.range_uj

    def read(self) -> Reading:
        """Joules since this counter was opened. Raises MeterLostError where the file went or turned to nonsense, and as ``unwrap`` does."""
        with self._lock:
            lost, self._lost = self._lost, None
            if lost is not None:
                raise lost
            now_ns = self._advance()
            return Reading(self._energy_uj / 1e6, now_ns)

    def refresh(self) -> None:
        """A read in the background. What it loses, the next ``read`` raises, so that no gap goes unsaid."""
        with self._lock:
            try:
                self._advance()
            except MeterLostError as error:
                self._lost = error

    def _advance(self) -> int:
        try:
            now_uj = _number(self._zone.energy, self._read)
        except MeterError as error:
            raise MeterLostError(f"RAPL worked and stopped working: {error.message}", remedy=error.remedy) from error
        now_ns = self._now_ns()
        last_uj, seconds = self._last_uj, (now_ns - self._last_ns) / 1e9
        # Kept before unwrap can raise: after a loss the next difference is sound again.
        self._last_uj, self._last_ns = now_uj, now_ns
        self._energy_uj += unwrap(last_uj, now_uj, self._zone.range_uj, seconds)
        return now_ns

    def condition(self) -> Condition:
        """Nothing: powercap shows no throttling."""
        return Condition()

    def facts(self) -> DeviceFacts:
        """The zone's name and the range of its counter in joules."""
        return {"zone": self._zone.name, "wraps_at_j": self._zone.range_uj / 1e6}

    def close(self) -> None:
        """Nothing is held open between reads; the last counter to close ends the background read."""
        on_close, self._on_close = self._on_close, _nothing
        on_close()


class RaplMeter:
    """CPU packages (``cpu``, or ``cpu:0``, ``cpu:1``, …) and memory (``dram``, …) by RAPL.

    ``root`` and ``read`` exist for tests. Domains are numbered in the order of the packages.
    """

    name = "rapl"
    traits = Traits(sees="machine", models=False)

    __slots__ = ("_read", "_root")

    def __init__(self, root: Path = ROOT, read: Read = _read_text) -> None:
        self._root = root
        self._read = read

    def find(self, options: MeterOptions) -> Sequence[Counter]:
        """A counter for each package and each memory zone. Raises MeterError where there are none or one that is needed cannot be read."""
        packages, memory = self._zones()
        keeper = _Keeper()
        device = read_processor().model
        counters: list[RaplCounter] = []
        dead: list[Dead] = []
        for family, zones in (("cpu", packages), ("dram", memory)):
            for zone in zones:
                source = _source(_domain(family, zone, packages), device, zone)
                try:
                    counters.append(RaplCounter(zone, source, options.clock.now_ns, self._read, keeper.one_less))
                except MeterError as error:
                    if not spared(source.domain, options.domains, [each.source.domain for each in counters]):
                        raise
                    dead.append(Dead(source, error))
        if not counters:
            raise dead[0].error
        # A quarter of the time in which the smallest counter can wrap.
        period_s = min(counter.range_uj for counter in counters) / 1e6 / HIGHEST_W / 4
        keeper.start(counters, lambda call: options.clock.every(period_s, call))
        return [*counters, *dead]

    def abilities(self, options: MeterOptions) -> Sequence[Ability]:
        """One line for each domain, or one that says why there is none."""
        return abilities_of(self, options, "cpu", lambda source: source.note)

    def _zones(self) -> tuple[list[Zone], list[Zone]]:
        """The package zones and the memory zones, in order, each package once."""
        places = [(match, path) for path in self._folders() if (match := _ZONE.fullmatch(path.name)) is not None]
        places.sort(key=lambda place: tuple(int(number or -1) for number in place[0].groups()))
        named = [(match, path, self._name(match, path)) for match, path in places]
        packages = [self._zone(match, path, name) for match, path, name in named if match[2] is None and name.startswith("package")]
        if not packages:
            raise NothingThereError(f"There is no RAPL counter of a processor in {self._root}.", remedy=_NO_RAPL)
        packages = _without_mirrors(packages, self._read)
        kept = {zone.package for zone in packages}
        memory = [self._memory(match, path, name) for match, path, name in named if name == "dram" and int(match[1]) in kept]
        return packages, memory

    def _name(self, match: re.Match[str], path: Path) -> str:
        try:
            return _text(path / "name", self._read)
        except MeterError:
            if match[2] is None:  # it may be a package
                raise
            return ""

    def _memory(self, match: re.Match[str], path: Path, name: str) -> Zone:
        try:
            return self._zone(match, path, name)
        except MeterError as error:
            return Zone(path, name, int(match[1]), 0, error)

    def _folders(self) -> list[Path]:
        try:
            return list(self._root.iterdir())
        except OSError as error:
            raise NothingThereError(f"There is no RAPL here: {self._root} cannot be listed ({error.strerror}).", remedy=_NO_RAPL) from error

    def _zone(self, match: re.Match[str], path: Path, name: str) -> Zone:
        range_uj = _number(path / "max_energy_range_uj", self._read)
        if range_uj <= 0:
            raise MeterError(f"{path / 'max_energy_range_uj'} says {range_uj}.", remedy=_BROKEN)
        return Zone(path=path, name=name, package=int(match[1]), range_uj=range_uj)


class _Keeper:
    """Reads all counters in the background so that none wraps unseen; ends with the last counter."""

    __slots__ = ("_cancel", "_open")

    def __init__(self) -> None:
        self._open = 0
        self._cancel: Callable[[], None] = _nothing

    def start(self, counters: Sequence[RaplCounter], every: Callable[[Callable[[], None]], Callable[[], None]]) -> None:
        def look() -> None:
            for counter in counters:
                counter.refresh()

        self._open = len(counters)
        self._cancel = every(look)

    def one_less(self) -> None:
        self._open -= 1
        if self._open == 0:
            self._cancel()


def _nothing() -> None:
    return None


def _source(domain: str, device: str, zone: Zone) -> Source:
    return Source(
        meter="rapl",
        domain=domain,
        method="counter",
        device=device,
        tick_s=0.001,
        step_j=1e-6,
        note=f"{zone.name}, wraps at {zone.range_uj / 1e9:.0f} kJ; absolute error of this processor unknown",
    )


def _domain(family: str, zone: Zone, packages: Sequence[Zone]) -> str:
    if len(packages) == 1:
        return family
    return f"{family}:{[package.package for package in packages].index(zone.package)}"


def _without_mirrors(packages: Sequence[Zone], read: Read) -> list[Zone]:
    """The package zones, less those of a die that show another die's counter again.

    Zen 1 and 2 have one zone for each die, and every die's zone is the counter of the whole socket: their sum would be too high
    by the number of dies (codecarbon issues 1274 and 1379). Dies with counters of their own (Cascade Lake AP) are kept: the
    chance that two of those agree to 1 J of at least 65 kJ is 3 in 100,000.
    """
    kept: list[tuple[Zone, str, int]] = []
    for zone in packages:
        die = _DIE.fullmatch(zone.name)
        package, energy = (die[1], _number(zone.energy, read)) if die else ("", 0)
        if not (die and any(package == other and abs(energy - seen) <= _MIRROR_UJ for _, other, seen in kept)):
            kept.append((zone, package, energy))
    return [zone for zone, _, _ in kept]


def _text(path: Path, read: Read) -> str:
    try:
        return read(path).strip()
    except PermissionError as error:
        raise MeterError(f"{path} may not be read.", remedy=_UNREADABLE) from error
    except (OSError, UnicodeDecodeError) as error:
        raise MeterError(f"{path} cannot be read: {error}.", remedy=_BROKEN) from error


def _number(path: Path, read: Read) -> int:
    text = _text(path, read)
    # str.isdecimal takes digits of other scripts too, but the file was read as ASCII.
    if not text.isdecimal():
        raise MeterError(f"{path} holds {text[:40]!r} where a number of microjoules should be.", remedy=_BROKEN)
    return int(text)
