"""A test's run by the protocol of AI Energy Score: ``energy_meter.energy_score``."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.estimates.measured_kinds import ScoredRun
from pytest_greencompute.estimates.star_scale import LEADERBOARDS, NEWEST, Leaderboard
from pytest_greencompute.estimates.stars import ScoreRequest
from pytest_greencompute.measuring.energy_score import measure_score
from pytest_greencompute.measuring.once import run_once
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.models.contents import digest_of
from pytest_greencompute.models.queries import Batches, collected, plain
from pytest_greencompute.session.checks import Asking
from pytest_greencompute.session.under_meters import UnderMeters
from pytest_greencompute.store.leaderboard import leaderboard_named
from pytest_greencompute.store.score_state import ScoreState, key_of, path_of
from pytest_greencompute.values.run import Run

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence


def score(
    asking: Asking,
    task: Task,
    of_protocol: tuple[str, str | None, int, bool, bool],
    reference: str | os.PathLike[str] | None,
    state: str | os.PathLike[str] | None,
) -> ScoredRun:
    """The rated run of ``task``, whose state is kept in the file ``state``. ``of_protocol`` are the first fields of ``stars.ScoreRequest``,
    ``reference`` the leaderboard's date, file or folder.

    Raises SettingsError, MeterError.
    """
    mode, test = asking.mode, asking.test
    asking.check_name(task.name)
    asking.refuse_out_of_turn()
    asked = ScoreRequest(*of_protocol, _leaderboard(reference, mode.home))
    listed, notes = collected(task.queries)
    loaded = plain(listed)
    if isinstance(loaded, Batches) and loaded.size != 1:
        raise SettingsError(
            f"The protocol asks one query at a time, and the DataLoader's batches hold {loaded.size}.", remedy="Pass its dataset."
        )
    path = path_of(mode.home, state, test.node_id, task.name)
    work = replace(task, queries=listed)
    asking.run_nothing()
    with asking.in_turn():
        raw, outputs = mode.either(test, lambda under: _metered(under, work, asked, path), lambda keep: run_once(work, mode.clock, keep))
    notes += mode.not_by_turns(test, "an energy score is of this commit alone: it is not measured by turns with others")
    raw = replace(raw, notes=notes + raw.notes)
    test.runs.append(raw)
    return ScoredRun(raw, outputs, partial(mode.aim, test), asking.unmetered)


def _leaderboard(named: str | os.PathLike[str] | None, root: Path) -> Leaderboard:
    """The leaderboard to rate on, whose source is told as the test names it: a run may be kept where the folder is another."""
    if named is None:
        return LEADERBOARDS[NEWEST]
    board = leaderboard_named(named, root)
    return board if board in LEADERBOARDS.values() else replace(board, source=os.fsdecode(named))


def _metered(under: UnderMeters, task: Task, asked: ScoreRequest, path: Path) -> tuple[Run, list[Any]]:
    instruments, session = under.instruments, under.session
    # Its passes have no time limit, and are not judged before the last.
    effort = replace(under.effort(task.name), tell=session.tell(under.test), outlook=lambda _: "")
    if under.problem or not instruments.sources:
        return measure_score(task, asked, instruments, effort, problem=under.problem)
    queries: Any = task.queries
    key = key_of((task.test, task.name), asked, (digest_of(queries), len(queries)), instruments.facts(), session.machine)
    kept = ScoreState(path, key, session.home)
    earlier, said = kept.begin()
    raw, outputs = measure_score(task, asked, instruments, effort, earlier=earlier, keep=kept.keep, said=said)
    return replace(raw, notes=raw.notes + kept.end()), outputs
