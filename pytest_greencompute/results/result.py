"""One run of one test as reports show it: typed and frozen, whether this process measured it or a file told of it.

Figures are SI. What a report needs of the samples is the run itself; nothing here is worked out from them again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pytest_greencompute.estimates.estimate import Estimate, Outcome
from pytest_greencompute.explaining.blaming import where
from pytest_greencompute.explaining.explanation import Explanation
from pytest_greencompute.explaining.profile import Profile
from pytest_greencompute.judging.verdict import ORDER, Effect, Verdict, Word
from pytest_greencompute.stats.ratios import Ratio
from pytest_greencompute.values.footprint import Amount, Footprint, Year, yearly
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.provenance import Provenance
from pytest_greencompute.values.run import Bound, Run
from pytest_greencompute.values.units import MONEY

ENERGY = "energy_per_query"


@dataclass(frozen=True, slots=True)
class Figure:
    """A metric's figure in SI ``unit``; ``low`` and ``high`` are None where the interval is open, ``domain`` empty where none has to do
    with it. ``currency`` is that of an amount of money."""

    value: float
    low: float | None
    high: float | None
    unit: str
    n: int
    confidence: float
    domain: str = ""
    method: str = ""
    systematic: float = 0.0
    currency: str = ""

    @classmethod
    def of(cls, found: Estimate) -> Figure:
        """The figure that an estimate is."""
        unit = found.dimension.si
        currency = found.dimension.prints[0][0] if unit == MONEY.si else ""
        where = (found.domain, found.method or "", found.systematic) if found.domain else ("", "", 0.0)
        return cls(found.value, found.low, found.high, unit, found.n, found.confidence, *where, currency)


@dataclass(frozen=True, slots=True)
class ShownVerdict:
    """A verdict and its ``effect`` on the build (empty where there is no build). Its other fields are those of ``Verdict``."""

    metric: str
    word: Word
    kind: str
    reason: str
    limit: float | None = None
    where: str = ""
    sees: float | None = None
    modelled: bool = False
    base: float | None = None
    ratio: Ratio | None = None
    effect: Effect | None = None

    @classmethod
    def of(cls, made: Verdict, effect: Effect | None = None) -> ShownVerdict:
        """What is shown of a verdict; its estimate stands among the figures of its run."""
        shown = (made.metric, made.word, made.kind, made.reason, made.limit, made.where, made.sees, made.modelled, made.base, made.ratio)
        return cls(*shown, effect)

    @property
    def unit(self) -> str:
        """Of its limit and its base; the total of a session is joules."""
        return METRICS[self.metric].dimension.si if self.metric in METRICS else "J"

    @property
    def short(self) -> str:
        """What it is about, in a word."""
        return METRICS[self.metric].short if self.metric in METRICS else self.metric


@dataclass(frozen=True, slots=True)
class Pairs:
    """What a run and the same test at ``ref`` showed side by side: (base, head) of each pair of the first launch, in SI units.

    ``again`` are the pairs of the fresh launches. The comparison was planned for ``most`` pairs, ``first`` of them in the first launch, and
    ``launches`` that agree on a PASS; 0: a file of another version does not say.
    """

    ref: str
    metric: str
    pairs: tuple[tuple[float, float], ...]
    again: tuple[tuple[tuple[float, float], ...], ...] = ()
    most: int = 0
    first: int = 0
    launches: int = 1

    @property
    def unit(self) -> str:
        return METRICS[self.metric].dimension.si


@dataclass(frozen=True, slots=True)
class Explained:
    """Why a run uses more, or less, than at ``ref``."""

    ref: str
    explanation: Explanation

    @property
    def where(self) -> str:
        """The sentence for people; empty where no place can be named."""
        return where(self.explanation)


@dataclass(frozen=True, slots=True)
class CandidateCount:
    """What was counted of a candidate without a meter (``values.run.Count``)."""

    value: float | None
    bound: Bound = ""


@dataclass(frozen=True, slots=True)
class AdvisedChange:
    """Something that is proven to save energy: ``energy`` and ``latency`` are how many times today's, ``accuracy`` is what is gained.

    ``name`` is that of its candidate, ``code`` the lines that do it for good. ``year`` is what one of the traffic uses less.
    """

    name: str
    code: tuple[str, ...]
    energy: Amount
    accuracy: Amount | None = None
    latency: Amount | None = None
    year: Year | None = None


@dataclass(frozen=True, slots=True)
class GivenAdvice:
    """What to ``do``, the best of it first; what was tried ``in_vain``, by name, and why; and what must be known of all of it."""

    do: tuple[AdvisedChange, ...]
    in_vain: Mapping[str, str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CandidateRow:
    """One of several that were compared. ``times`` is of the energy of ``times_of``, ``agreement`` of answers with ``agreement_with``.

    ``values`` are the settings of a sweep, ``weights`` the share of the model's in the precision that was swept; ``figures`` are SI values
    by metric, None where there is none. ``front``: on the Pareto front. ``shortfall`` says which demand is missed, ``problem`` why there is
    no run, and ``impossible`` that there can be none. ``everywhere``: energy is that of all domains. ``advice`` is what there is for this
    candidate: today's.
    """

    comparison: str | None
    candidate: str
    agreement_with: str
    values: Mapping[str, bool | float | str] = field(default_factory=dict)
    figures: Mapping[str, float | None] = field(default_factory=dict)
    counts: Mapping[str, CandidateCount] = field(default_factory=dict)
    domain: str = ""
    modelled: bool = False
    everywhere: bool = False
    times: Amount | None = None
    times_of: str | None = None
    accuracy_difference: Amount | None = None
    agreement: float | None = None
    weights: float | None = None
    front: bool = False
    right_sized: bool = False
    shortfall: str = ""
    problem: str = ""
    impossible: bool = False
    no_energy: str = ""
    floor: float | None = None
    by_turns: bool = True
    advice: GivenAdvice | None = None

    @property
    def energy(self) -> float | None:
        """Joules per query."""
        return self.figures.get(ENERGY)

    @property
    def accuracy(self) -> float | None:
        return self.figures.get("accuracy")


@dataclass(frozen=True, slots=True)
class Result:
    """One run of ``test``, or a run that a budget named and the test did not measure (``run`` is None, and there are no figures).

    ``blocks`` is how many were measured, ``against`` its pairs with other commits, ``bases`` the runs there, ``candidate`` its row where
    several were compared, and ``year`` what a year of the session's traffic would use. ``explained``: why it uses more than at a commit,
    ``profile`` what it was seen to do where nobody compares it. Where many hosts were gathered, it is the run of
    ``hosts`` of them (0: none has it) on one kind of ``hardware``. ``linked``: what the next card measured of the same candidate, where
    candidates were spread over several.
    """

    test: str
    name: str | None = None
    queries: int = 0
    blocks: int = 0
    seconds: float = 0.0
    metered: bool = False
    metrics: Mapping[str, Figure] = field(default_factory=dict)
    verdicts: tuple[ShownVerdict, ...] = ()
    notes: tuple[str, ...] = ()
    problem: str = ""
    provenance: Provenance = field(default_factory=Provenance)
    run: Run | None = None
    year: Year | None = None
    against: tuple[Pairs, ...] = ()
    candidate: CandidateRow | None = None
    bases: Mapping[str, Run] = field(default_factory=dict)
    hardware: str = ""
    hosts: int = 0
    explained: tuple[Explained, ...] = ()
    profile: Profile | None = None
    linked: Run | None = None

    @classmethod
    def of(
        cls,
        run: Run,
        outcomes: Mapping[str, Outcome],
        verdicts: Sequence[ShownVerdict] = (),
        *,
        footprint: Footprint | None = None,
        notes: Sequence[str] = (),
        against: Sequence[Pairs] = (),
        candidate: CandidateRow | None = None,
        bases: Mapping[str, Run] | None = None,
    ) -> Result:
        """What is shown of a run; ``notes`` are others than its own."""
        return cls(
            run.test,
            None if run.name is None else str.__str__(run.name),
            run.queries,
            len(run.blocks),
            run.seconds,
            run.metered,
            {name: Figure.of(outcome) for name, outcome in outcomes.items() if isinstance(outcome, Estimate)},
            tuple(verdicts),
            (*run.notes, *notes),
            run.problem,
            run.provenance,
            run,
            _year(run, outcomes.get(ENERGY), footprint),
            tuple(against),
            candidate,
            bases or {},
        )

    @property
    def called(self) -> str:
        """'test_chat[long] (prefill)': the test without its file, and the run's name; with its hardware where many hosts were gathered."""
        return f"{called(self.test, self.name)}{f' on {self.hardware}' if self.hardware else ''}"

    @property
    def word(self) -> str:
        """The worst word of its verdicts; '' where it has none."""
        return worst(self.verdicts)

    @property
    def red(self) -> bool:
        """Whether a verdict of it turns the build red."""
        return any(verdict.effect == "fail" for verdict in self.verdicts)


def called(test: str, name: str | None) -> str:
    """'test_chat[long] (prefill)': a test without its file, and the name of one of its runs."""
    node = test.partition("::")[2] or test
    return node if name is None else f"{node} ({name})"


def worst(verdicts: Sequence[ShownVerdict]) -> str:
    """The worst word; '' where there is none."""
    words = {verdict.word for verdict in verdicts}
    return next((word for word in ORDER if word in words), "")


def _year(run: Run, energy: Outcome | None, footprint: Footprint | None) -> Year | None:
    """What a year of the traffic would use; None where it was not asked for, and for a window, which is no query."""
    if footprint is None or run.window or not isinstance(energy, Estimate):
        return None
    return yearly(footprint, energy.value, energy.low, energy.high)
