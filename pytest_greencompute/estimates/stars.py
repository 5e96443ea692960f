"""The stars of a run: what its provenance says of how the energy came about, and the rating that follows. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pytest_greencompute.errors import NotRatedError, SettingsError
from pytest_greencompute.estimates.domains import judged_sources
from pytest_greencompute.estimates.energy import energy_of
from pytest_greencompute.estimates.estimate import Aim, Estimate, Missing, Outcome, with_systematic
from pytest_greencompute.estimates.star_scale import (
    NEWEST,
    PASSES,
    WH_PER_1000_QUERIES,
    Conditions,
    Leaderboard,
    Range,
    Rating,
    leaderboard_of,
    rate,
)
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.provenance import Followed
from pytest_greencompute.values.readings import Source
from pytest_greencompute.values.run import Run
from pytest_greencompute.values.units import ENERGY, show, whole

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

BATCH_SIZE = 1
NO_PROTOCOL = "it did not follow the protocol of AI Energy Score: energy_meter.energy_score() does"


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """What a call asked for: the task and class to be rated in, how many passes, what the user claims of queries and answers, and on which
    leaderboard it is rated (one, or the date of one in this package).

    Invariant: the leaderboard has the task and class, there is at least one pass, a claim is True or False. Raises SettingsError.
    """

    task: str
    model_class: str | None = None
    passes: int = PASSES
    protocol_queries: bool = False
    output_of_protocol: bool = False
    reference: str | Leaderboard = NEWEST

    def __post_init__(self) -> None:
        scale = leaderboard_of(self.reference).range_of(self.task, self.model_class)
        scale.stars(scale.lowest)  # one model alone makes no scale, which is to be known before hours of passes
        passes = whole(self.passes)
        if passes is None:
            raise SettingsError(f"passes is {self.passes!r}.", remedy=f"Write a whole number of at least 1; the protocol has {PASSES}.")
        object.__setattr__(self, "passes", passes)
        for name in ("protocol_queries", "output_of_protocol"):
            claim = getattr(self, name)
            if type(claim) is not bool:  # any text would be taken for a yes
                raise SettingsError(f"{name} is {claim!r}.", remedy="Write True if it holds, else False.")

    @property
    def followed(self) -> Followed:
        """What the run's provenance is to say."""
        queries_of, output_of = (self.task if claim else "" for claim in (self.protocol_queries, self.output_of_protocol))
        board = leaderboard_of(self.reference)
        scale = board.range_of(self.task, self.model_class)
        on = (board.date, board.source, scale.lowest, scale.highest, scale.models)
        return Followed(self.task, self.model_class, queries_of, output_of, *on)


def followed(run: Run) -> Followed:
    """What the run kept to; the task is that of its queries where none is named."""
    kept = run.provenance.followed or Followed()
    return kept if kept.task else replace(kept, task=kept.queries_of)


def scale_of(kept: Followed) -> str | Leaderboard:
    """The leaderboard that a run was measured for, with the one scale that its provenance says; the newest here where it says none.

    Raises SettingsError for a scale of which a part is missing or makes no sense.
    """
    if not kept.reference:
        return NEWEST
    if kept.lowest is None or kept.highest is None or kept.models is None:
        raise SettingsError(f"The scale of {kept.reference} that the run is rated on is not told whole.")
    scale = Range(kept.lowest, kept.highest, kept.models)
    return Leaderboard(kept.reference, kept.source, {(kept.task, kept.model_class): scale})


def conditions_of(run: Run, sources: Sequence[Source], energy: Estimate) -> Conditions:
    """How the energy of a run came about, as far as is known: ``sources`` are those whose energy counts.

    A pass is one sample over all queries: a short one that a block repeats for its meter's ticks is one pass, and so is a long one that is
    measured in several blocks.
    """
    kept = followed(run)
    return Conditions(
        method=energy.method,
        devices=tuple(source.device or "a GPU without a name" for source in sources if source.domain.startswith("gpu")),
        domains=tuple(source.domain for source in sources),
        batch_size=run.batch_size,
        queries=run.queries,
        passes=min(len(run.blocks), int(sum(block.queries for block in run.blocks) // run.queries)),
        queries_of=kept.queries_of,
        output_of=kept.output_of,
        tokens=(min(run.tokens), max(run.tokens)) if run.tokens and len(run.tokens) == run.queries else None,
        reasoning=None if run.reasoning is None else sum(run.reasoning),
    )


def rated_energy(run: Run, aim: Aim) -> tuple[Estimate, Conditions] | Missing:
    """Energy per query in joules, what cards differ by in its interval, and how it came about; or why there is none.

    GPUs alone count wherever one is metered, whatever domains ``aim`` names: a rating is of those.
    """
    aim = replace(aim, domains=Aim().domains)
    energy, sources = energy_of(run, METRICS["energy_per_query"], aim), judged_sources(run, aim)
    if isinstance(energy, Missing):
        return energy
    if isinstance(sources, Missing):
        return sources
    if energy.value <= 0:
        return Missing(f"it came out as {show(energy.value, ENERGY)} per query")
    return with_systematic(energy), conditions_of(run, sources, energy)


def rating_of(run: Run, aim: Aim) -> tuple[Rating, Estimate]:
    """The rating of a run in the task and on the scale that its provenance names, indicative or not, and the energy per query (J) of it.

    Raises NotRatedError where the energy was modelled, where there is none, or where nothing says the task; SettingsError for an
    unknown task or class, and for half a scale.
    """
    kept = followed(run)
    if not kept.task:
        raise NotRatedError(f"{run.test} has no task to be rated in: {NO_PROTOCOL}.")
    found = rated_energy(run, aim)
    if isinstance(found, Missing):
        raise NotRatedError(f"{run.test} has no energy that could be rated: {found.reason}.")
    energy, conditions = found
    wh = energy.value / WH_PER_1000_QUERIES
    return rate(wh, task=kept.task, model_class=kept.model_class, reference=scale_of(kept), conditions=conditions), energy


def stars_of(run: Run, aim: Aim) -> Outcome:
    """The stars of a run that was measured as the leaderboard's were, fewest and most within the energy's interval; or why it has none.

    Stars that are only indicative are no figure to be judged: the reasons are given instead.
    """
    if not followed(run).task:
        return Missing(NO_PROTOCOL)
    try:
        rating, energy = rating_of(run, aim)
    except NotRatedError as error:
        return Missing(error.message.rstrip("."))
    except SettingsError as error:
        return Missing(str(error).rstrip("."))
    if rating.indicative:
        return Missing(f"its {rating.stars} stars are only indicative: {'; '.join(rating.indicative)}")
    if energy.low is None or energy.high is None:
        return Missing("the passes are too few for an interval of its energy")
    fewest, most = (float(stars_at(rating, end)) for end in (energy.high, energy.low))
    return replace(energy, value=float(rating.stars), low=fewest, high=most, dimension=METRICS["stars"].dimension, systematic=0.0)


def stars_at(rating: Rating, joules: float) -> int:
    """The stars on the scale of ``rating`` of an end of its interval, in joules per query; the end may be zero or less."""
    return rating.scale.stars(max(joules, 0.0) / WH_PER_1000_QUERIES or rating.scale.lowest)
