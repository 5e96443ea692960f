"""What is advised, typed: what to do, what that saves and costs, and what was tried in vain."""

from __future__ import annotations

from dataclasses import dataclass, field

from pytest_greencompute.advising.levers import Configuration
from pytest_greencompute.advising.search import LEAST, Screened, Searched
from pytest_greencompute.judging.choice import Gain
from pytest_greencompute.stats.ratios import Ratio
from pytest_greencompute.values.footprint import Footprint, Year, show_year
from pytest_greencompute.values.units import show_share, show_traffic, significant

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Something to do, proven by fresh turns beside today's configuration.

    ``energy`` and ``latency`` (the median's; None where it is not known) are how many times today's, ``accuracy`` how many more of the
    queries are right (None where accuracy is not known). ``year`` is what a year of the traffic uses less, by ``footprint``, whose energy
    may be ``modelled``; None where no traffic is set.
    """

    configuration: Configuration
    energy: Ratio
    accuracy: Gain | None = None
    latency: Ratio | None = None
    year: Year | None = None
    footprint: Footprint = field(default_factory=Footprint)
    modelled: bool = False

    @property
    def code(self) -> tuple[str, ...]:
        """The lines to write."""
        return tuple(each.code for each in self.configuration.settings)

    @property
    def saving(self) -> tuple[float, float, float]:
        """The share of today's energy per query that it saves, and its interval."""
        return 1 - self.energy.value, 1 - self.energy.high, 1 - self.energy.low

    def __str__(self) -> str:
        value, low, high = (significant(100 * each, 3) for each in self.saving)
        said = [f"{self.configuration.name} saves {value} % [{low}, {high}] of the energy per query"]
        if self.accuracy is not None:
            said.append(f"accuracy {self.accuracy}")
        if self.latency is not None:
            said.append(f"a batch takes {significant(self.latency.value, 3)} times as long")
        if self.year is not None:
            less = show_year(self.year, self.footprint.currency, modelled=self.modelled)
            said.append(f"at {show_traffic(self.footprint.queries_per_s or 0.0)} {less} less a year")
        return f"{'; '.join(said)}: {'; '.join(self.code)}"


@dataclass(frozen=True, slots=True)
class InVain:
    """A lever, or one of its settings, that is not advised, and why."""

    name: str
    why: str

    def __str__(self) -> str:
        return f"{self.name}: {self.why}"


@dataclass(frozen=True, slots=True)
class Advice:
    """``do``: what to change, the best of it first; ``tried`` in vain; ``notes`` are what must be known of all of it."""

    do: tuple[Suggestion, ...]
    tried: tuple[InVain, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def lines(self) -> tuple[str, ...]:
        """All of it in sentences."""
        advised = [f"do this: {each}" for each in self.do] or ["nothing that was tried is known to save energy"]
        return (*self.notes, *advised, *(f"tried in vain: {each}" for each in self.tried))


def in_vain(found: Searched, refused: dict[str, str]) -> tuple[InVain, ...]:
    """What is not part of the best configuration, each with the reason."""
    best = found.best.configuration if found.best else Configuration()
    tried = [InVain(each.setting.name, _why(each)) for each in found.screened if each.setting not in best.settings]
    return (*tried, *(InVain(name, f"not here: {why}") for name, why in refused.items()))


def _why(screened: Screened) -> str:
    trial, base = screened.trial, screened.base
    if trial.problem or trial.missed or trial.ratio is None:
        return trial.problem or trial.missed or "it has no figure of energy"
    ratio = trial.ratio
    if ratio.value >= 1 - LEAST:
        low, high = significant(ratio.low, 3), significant(ratio.high, 3)
        return f"it uses {significant(ratio.value, 3)} times the energy{f' of {base.name}' if base.settings else ''} [{low}, {high}]"
    beside = f"beside {base.name}" if base.settings else "alone"
    return f"it saves {show_share(1 - ratio.value)} {beside}, and nothing more together with what is advised"
