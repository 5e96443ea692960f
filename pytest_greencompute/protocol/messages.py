"""What the measuring protocol asks for and is told: the vocabulary between it and whoever drives it. Values only, no I/O."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_greencompute.protocol.layout import PERCENTILE, TURN_SECONDS, Layout, Timing
from pytest_greencompute.protocol.parts import Part
from pytest_greencompute.values.readings import Block, Idle, Reading, Source
from pytest_greencompute.values.run import Latency


@dataclass(frozen=True, slots=True)
class Probe:
    """Find each ticking counter's tick while the device idles. Answer: Probed. ``again``: also of those that were probed before."""

    again: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """Run a part, device synchronised at both ends (``timed``: and around every batch). Answer: Worked.

    ``again``: the first batches as timed, their answers and times held against those of the first pass.
    """

    part: Part
    timed: bool = False
    seconds: float | None = None
    again: bool = False


@dataclass(frozen=True, slots=True)
class Ticks:
    """Wait until every ticking counter has changed. Answer: Mapping[domain, Reading], each at its own tick.

    ``since``: readings at the last tick, which are the answer as long as they are fresh.
    """

    since: Mapping[str, Reading] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Phase:
    """Wait until ``fraction`` of a tick of the slowest counter has passed since one of its ticks. Answer: None."""

    fraction: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait so many seconds. Answer: None."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Rest:
    """Wait until idle workers have gone to sleep. Answer: None."""


@dataclass(frozen=True, slots=True)
class Spun:
    """Did idle workers spin since the last Work? Answer: bool."""


@dataclass(frozen=True, slots=True)
class Marks:
    """What would spoil a block right now. Answer: tuple of marks."""


@dataclass(frozen=True, slots=True)
class Learn:
    """Keep what was found out about the sources for the session's later runs. Answer: None.

    ``lags``: the domains whose work drew enough to show what lag they have. ``whole``: whether the sources see all of the time, where that
    was looked at. ``quiet``: their idle power, where it was seen once more.
    """

    sources: tuple[Source, ...]
    lags: frozenset[str] = frozenset()
    whole: bool | None = None
    quiet: tuple[Idle, ...] = ()


@dataclass(frozen=True, slots=True)
class Agree:
    """The sets are about to begin, laid out like this. Answer: Layout, the same one or one that suits another side as well."""

    layout: Layout


@dataclass(frozen=True, slots=True)
class Turn:
    """May turn number ``index`` run now (a set, or a block of one: ``Layout.turns``)? Answer: bool; False ends the measurement.

    ``measured``: what was measured so far; None in the middle of a set.
    """

    index: int
    measured: Measured | None


@dataclass(frozen=True, slots=True)
class Enough:
    """A planned look: are the verdicts certain on what has been measured so far? Answer: bool."""

    measured: Measured


@dataclass(frozen=True, slots=True)
class Tell:
    """Say how far it is. Answer: None.

    ``least_s`` to ``most_s``: seconds left until the verdicts may first be certain, and until the time limit; both 0 where not known yet.
    ``measured``: what there is so far. ``figure``: that in words, and ``outlook``, what the verdicts will still take, filled in by whoever
    drives the protocol.
    """

    what: str
    least_s: float = 0.0
    most_s: float = 0.0
    measured: Measured | None = None
    figure: str = ""
    outlook: str = ""


Ask = Probe | Work | Ticks | Phase | Wait | Rest | Spun | Marks | Learn | Agree | Turn | Enough | Tell
Steps = Generator[Ask, Any, "Measured"]


@dataclass(frozen=True, slots=True)
class Probed:
    """The sources with tick and jitter as seen, and what each domain drew meanwhile: the idle power that later gaps are held against.

    ``surprised``: a counter does not tick as another process has told, so nothing is known of any. ``seen``: the readings at the ticks that
    were watched. ``dear``: a read costs much CPU.
    """

    sources: tuple[Source, ...]
    quiet: tuple[Idle, ...] = ()
    surprised: bool = False
    dear: bool = False
    seen: Mapping[str, tuple[Reading, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure: batches in a pass, the sources found, the limits of effort.

    The highest percentile of latencies that must be bounded, whether a lag is to be looked for, the marks that the user allowed, and the
    idle power seen by the probe.
    ``timing``: how much of the latency pass is wanted (``layout.Timing``). ``in_pairs``: set by set another side runs the same queries.
    ``turn_s``: how short a turn may be where nothing ticks. ``uncounted``: domains whose energy is in no figure that is judged.
    ``settle``: some counter's tick is to be found, so the device must have come to rest; ``before``: what the only counter that may hide a
    lag showed before the first pass, so that tick and lag are found while the device comes to rest. ``whole``: the counters are known to
    see all of the time; ``find_whole``: whether they do is to be looked at; ``whole_before``: in an earlier session they did. ``dear``: a
    read costs much CPU. ``faint``: by domain, the idle power of those whose lag was looked for in vain, since no work drew enough to show
    it; they are looked at again where this one does. ``rough``: it is only ranked among others, so that a short warm-up will do.
    """

    batches: int
    sources: tuple[Source, ...]
    max_seconds: float = 60.0
    percentile: float = PERCENTILE
    find_lag: bool = False
    allowed: frozenset[str] = frozenset()
    uncounted: frozenset[str] = frozenset()
    quiet: tuple[Idle, ...] = ()
    timing: Timing = "whole"
    in_pairs: bool = False
    turn_s: float = TURN_SECONDS
    settle: bool = True
    before: Mapping[str, Reading] = field(default_factory=dict)
    whole: bool = False
    find_whole: bool = False
    whole_before: bool = False
    dear: bool = False
    faint: Mapping[str, float] = field(default_factory=dict)
    rough: bool = False

    @property
    def ticking(self) -> bool:
        return any(source.tick_s > 0 for source in self.sources)

    @property
    def idles_of_processor(self) -> bool:
        """Whether idle power is read of more than GPUs."""
        return any(source.tick_s > 0 and not source.domain.startswith("gpu") for source in self.sources)

    @property
    def tick_s(self) -> float:
        """The slowest counter's tick; 0 where none ticks."""
        return max((source.tick_s for source in self.sources), default=0.0)

    @property
    def lag_s(self) -> float:
        """The longest lag of any counter."""
        return max((source.lag_s for source in self.sources), default=0.0)


@dataclass(frozen=True, slots=True)
class Measured:
    """The raw samples of one measurement, as Run holds them."""

    sources: tuple[Source, ...]
    blocks: tuple[Block, ...] = ()
    warmup: tuple[Block, ...] = ()
    idles: tuple[Idle, ...] = ()
    latencies: tuple[Latency, ...] = ()
    notes: tuple[str, ...] = ()
    looks: int = 1
