"""``greencompute rate``: AI Energy Score stars of a figure, or of a run that was saved."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_greencompute.commands import Arguments
from pytest_greencompute.commands.compare import sessions_of
from pytest_greencompute.errors import NotRatedError, SettingsError
from pytest_greencompute.estimates.estimate import Aim, Estimate, Missing
from pytest_greencompute.estimates.star_scale import NEWEST, STARS, WH_PER_1000_QUERIES, Conditions, Leaderboard, Rating
from pytest_greencompute.estimates.star_scale import rate as stars_of
from pytest_greencompute.estimates.stars import followed, rated_energy, scale_of, stars_at
from pytest_greencompute.judging.saved_sessions import Sessions
from pytest_greencompute.report.escape import json_text
from pytest_greencompute.store.leaderboard import leaderboard_named
from pytest_greencompute.values.names import listed
from pytest_greencompute.values.provenance import Followed, Json
from pytest_greencompute.values.run import Run
from pytest_greencompute.values.units import ENERGY, parse, show, significant

NOT_RATED = 3
_LISTED = 8  # runs that an error names


@dataclass(frozen=True, slots=True)
class Rated:
    """A rating, and for a saved run its energy in joules per query (what cards differ by in its interval) and where it comes from."""

    rating: Rating
    energy: Estimate | None = None
    run: Run | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The ends of the energy's interval in Wh per 1,000 queries, none below zero; None where it has none."""
        if self.energy is None or self.energy.low is None or self.energy.high is None:
            return None
        return max(self.energy.low, 0.0) / WH_PER_1000_QUERIES, self.energy.high / WH_PER_1000_QUERIES

    @property
    def stars(self) -> tuple[int, int] | None:
        """The fewest and the most stars within the interval."""
        if self.energy is None or self.energy.low is None or self.energy.high is None:
            return None
        return stars_at(self.rating, self.energy.high), stars_at(self.rating, self.energy.low)


def run(given: Arguments, root: Path) -> int:
    """The command."""
    return rate(given["what"], root, given)


def rate(what: str, root: Path, given: Arguments) -> int:
    """Print the stars of a figure or a saved run. 0: rated; 3: there is no energy that is rated. Raises SettingsError."""
    try:
        found = rated(what, root, given)
    except NotRatedError as error:
        if given.get("json"):
            print(json_text({"stars": None, "reason": str(error)}, sys.stdout.encoding))
        else:
            print(error, file=sys.stderr)
        return NOT_RATED
    if given.get("json"):
        shown = [as_json(each) for each in found]
        print(json_text(shown if len(shown) > 1 else shown[0], sys.stdout.encoding))
    else:
        print("\n".join(told(found)))
    return 0


def rated(what: str, root: Path, given: Arguments) -> list[Rated]:
    """The rating of ``what`` on each reference: a number (Wh per 1,000 queries), a quantity (J per query, or "0.4 Wh/1000 queries"), or
    saved runs. Without a reference it is the one that the run was measured for, or else the newest here.

    Raises SettingsError for bad input, NotRatedError where there is no measured energy.
    """
    boards: Sequence[str | Leaderboard] = _references(root, given.get("reference") or ())
    figure = _figure(what)
    if figure is not None:
        if given.get("test") is not None or given.get("run") is not None:
            raise SettingsError(f"{what!r} is a figure; --test and --run choose among saved runs.", remedy="Leave them out.")
        task, its_class = _subject(given, None)
        return [Rated(stars_of(figure, task=task, model_class=its_class, reference=board)) for board in boards or (NEWEST,)]
    run = _chosen(_sessions(what, root), what, given.get("test"), given.get("run"))
    energy, conditions = _measured(run)
    kept = followed(run)
    task, its_class = _subject(given, kept)
    if not boards:
        boards = (scale_of(kept) if (task, its_class) == (kept.task, kept.model_class) else NEWEST,)
    wh = energy.value / WH_PER_1000_QUERIES
    ratings = [stars_of(wh, task=task, model_class=its_class, reference=board, conditions=conditions) for board in boards]
    return [Rated(rating, energy, run) for rating in ratings]


def _references(root: Path, named: Sequence[str]) -> list[Leaderboard]:
    """The leaderboards to rate on, as they are named. Raises SettingsError for one that is none, and for two of one date."""
    boards = [leaderboard_named(each, root) for each in named]
    dates = [board.date for board in boards]
    for place, date in enumerate(dates):
        if date in dates[:place]:
            what = f"Two references are of {date}: {named[dates.index(date)]} and {named[place]}."
            raise SettingsError(what, remedy="Stars name their leaderboard by its date: leave one out, or name its folder after its month.")
    return boards


def _figure(what: str) -> float | None:
    """Wh per 1,000 queries, if ``what`` is a number or an energy; None if it is not, so that it may name a file."""
    try:
        return float(what)
    except ValueError:
        pass
    try:
        return parse(what, ENERGY) / WH_PER_1000_QUERIES
    except SettingsError:
        if what.strip()[:1].isdigit() and not Path(what).exists():
            raise  # "3 Watt" is meant as a figure, and the error says what is wrong with it
        return None


def _subject(given: Arguments, of_run: Followed | None) -> tuple[str, str | None]:
    """The task and class that are asked for, or else those that the run was measured for."""
    task, its_class = given.get("task"), given.get("model_class")
    if of_run is not None and task in (None, of_run.task):
        task, its_class = of_run.task, its_class or of_run.model_class
    if not task:
        raise SettingsError("Stars belong to a task, and none is given.", remedy="Add --task, such as --task text_classification.")
    return task, its_class


def _sessions(what: str, root: Path) -> Sessions:
    try:
        return sessions_of(what, root)
    except OSError as error:
        raise SettingsError(f"{what[:80]!r} cannot be read: {error.strerror}.") from error


def _chosen(sessions: Sessions, what: str, test: str | None, name: str | None) -> Run:
    """The newest run of the test and name that are asked for. Raises SettingsError where that leaves none, or several."""
    newest: dict[tuple[str, str | None], Run] = {}
    for session in sessions:
        for run in session:
            if run.metered or (run.test, run.name) not in newest:
                newest[run.test, run.name] = run
    if not newest:
        raise NotRatedError(f"{what} holds no run.", remedy="pytest --energy-budget --energy-json PATH writes what it measures.")
    found = [key for key in newest if test in (None, key[0]) and name in (None, key[1])]
    if test is not None and name is None and (test, None) in found:
        found = [(test, None)]
    if len(found) == 1:
        return newest[found[0]]
    wanted = " ".join(f"{option} {word}" for option, word in (("--test", test), ("--run", name)) if word is not None)
    problem = f"{what} holds {len(found) or 'no'} runs{f' for {wanted}' if wanted else ''}."
    raise SettingsError(problem, remedy=f"Choose one by --test and --run: {_listed(found or list(newest))}.")


def _listed(keys: Sequence[tuple[str, str | None]]) -> str:
    return listed([test if name is None else f"{test} --run {name}" for test, name in keys], _LISTED)


def _measured(run: Run) -> tuple[Estimate, Conditions]:
    """Energy per query in joules, what cards differ by in its interval, and how it came about. Raises NotRatedError where there is none."""
    found = rated_energy(run, Aim())
    if isinstance(found, Missing):
        raise NotRatedError(f"{run.test} has no energy that could be rated: {found.reason}.")
    return found


def told(found: Sequence[Rated]) -> list[str]:
    """The lines for people: what is rated, and in what it is only indicative, are the same on every leaderboard, and said once."""
    first, *others = found
    lines = _told(first)
    for each in others:
        lines += ["", *_told(each, again=True)]
    if first.rating.indicative:
        lines += [*([""] if others else []), "indicative only:", *(f"  - {reason}" for reason in first.rating.indicative)]
    return lines


def _told(found: Rated, *, again: bool = False) -> list[str]:
    """The stars on one leaderboard; ``again``: what is rated has been said."""
    rating = found.rating
    wh = significant(rating.wh_per_1000_queries, 4)
    if found.energy is None and "." in wh:
        wh = wh.rstrip("0").rstrip(".")  # a figure that was typed has the digits that were typed
    spread = "" if found.interval is None else " [{}, {}]".format(*(significant(end, 4) for end in found.interval))
    joules = show(rating.wh_per_1000_queries * WH_PER_1000_QUERIES, ENERGY)
    lowest, highest = (significant(end, 4) for end in (rating.scale.lowest, rating.scale.highest))
    lines = [
        f"{'★' * rating.stars}{'☆' * (STARS - rating.stars)}  {rating.stars} of {STARS} stars for {rating.subject}",
        *([] if again else [*_run_told(found.run), f"energy: {wh}{spread} Wh per 1,000 queries ({joules} per query)"]),
        f"scale: {lowest} (best) to {highest} (worst) Wh per 1,000 queries, {rating.scale.models} models{_beyond(rating)}",
        f"reference: AI Energy Score, {rating.reference}, {rating.source}",
    ]
    if found.stars is not None and found.stars[0] < found.stars[1]:
        lines.insert(-2, f"within its interval: {found.stars[0]} to {found.stars[1]} stars")
    return lines


def _run_told(run: Run | None) -> list[str]:
    return [] if run is None else [f"run: {run.test}{f' ({run.name})' if run.name else ''}"]


def _beyond(rating: Rating) -> str:
    if rating.wh_per_1000_queries < rating.scale.lowest:
        return "; less than any of them"
    return "; more than any of them" if rating.wh_per_1000_queries > rating.scale.highest else ""


def as_json(found: Rated) -> dict[str, Json]:
    """The rating as plain JSON values; energies in Wh per 1,000 queries."""
    rating = found.rating
    low, high = found.interval or (None, None)
    fewest, most = found.stars or (None, None)
    return {
        "stars": rating.stars,
        "of": STARS,
        "stars_low": fewest,
        "stars_high": most,
        "task": rating.task,
        "model_class": rating.model_class,
        "wh_per_1000_queries": {"value": rating.wh_per_1000_queries, "low": low, "high": high},
        "scale": {"lowest": rating.scale.lowest, "highest": rating.scale.highest, "models": rating.scale.models},
        "reference": rating.reference,
        "source": rating.source,
        "indicative": list(rating.indicative),
        "test": found.run.test if found.run else None,
        "name": found.run.name if found.run else None,
    }
