"""``greencompute explain TEST`` or ``A B``: what a test is seen to do, here or beside another commit, or by two reports that carry it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pytest_greencompute.commands import Arguments
from pytest_greencompute.commands.saying import fit, say, tell, waiting
from pytest_greencompute.errors import SettingsError
from pytest_greencompute.estimates.estimate import Estimate
from pytest_greencompute.explaining.explanation import explain, explained
from pytest_greencompute.explaining.profile import Profile, Ticking, ticking_of
from pytest_greencompute.explaining.risen import Risen
from pytest_greencompute.judging.comparable import Record, differences
from pytest_greencompute.measuring.time_limit import TimeLimit
from pytest_greencompute.pairing.beside_good import launch_beside
from pytest_greencompute.pairing.commits import Bases
from pytest_greencompute.pairing.looking import for_both, looked_at, profiles
from pytest_greencompute.pairing.process import Process
from pytest_greencompute.pairing.started import Side
from pytest_greencompute.pairing.told import Explaining, Told
from pytest_greencompute.report import room
from pytest_greencompute.report.columns import INDENT
from pytest_greencompute.report.escape import json_text
from pytest_greencompute.report.explained import lines, profile_lines
from pytest_greencompute.results.profile_json import explained_to_json, profile_to_json
from pytest_greencompute.results.result import ENERGY, Explained, Result
from pytest_greencompute.session.session import Session
from pytest_greencompute.session.tests import MeteredTest
from pytest_greencompute.settings.build import build
from pytest_greencompute.settings.finding import home_of, read_nearest
from pytest_greencompute.settings.sides import lent_to_sides, told_to_sides
from pytest_greencompute.store.runs import saved_as, store_of
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.provenance import Json

PAIRS = 6  # of base and head, that say by how much they differ
SCALE = {"domain", "GPU", "CPU", "meter", "method"}  # rows of ``comparable.RULES`` whose joules have no difference to be explained


def run(given: Arguments, root: Path) -> int:
    """The command. 0: explained. Raises GreencomputeError, also where no run carries what it takes."""
    what, ref = given["what"], given["base_ref"]
    if len(what) > 2 or (len(what) == 2 and ref):
        raise SettingsError("explain takes one test, or two reports.", remedy="greencompute explain TEST [--base-ref REF], or A B.")
    if len(what) == 2:
        return _saved(what[0], what[1], root, given)
    with _opened(what[0], root, given) as here:
        return _alone(here, given) if ref is None else _against(here, ref, given)


# --- reports ----------------------------------------------------------------------------------------------------------------------------


def _saved(a: str, b: str, root: Path, given: Arguments) -> int:
    """What the runs of two reports were seen to do, one against the other."""
    before, now = ({(each.test, each.name): each for each in _results(name, root)} for name in (a, b))
    found: list[tuple[Result, Explained]] = []
    apart: list[str] = []
    for key, result in now.items():
        if (other := before.get(key)) is None:
            continue
        base, head, base_j, head_j = profile_of(other), profile_of(result), _energy(other), _energy(result)
        if base is None or head is None or base_j is None or head_j is None:
            continue
        if why := _apart(result, other):
            apart.append(f"{result.called} is not explained: its energy is of another scale than in {a}: {why}.")
            continue
        found.append((result, Explained(a, explain(base, head, base_j, head_j))))
    if apart and not found:
        raise SettingsError(apart[0], remedy="Measure both on the same device, with the same meter.")
    for line in apart:
        say(line)
    if not found:
        raise SettingsError(
            f"No run of {b} carries what it was seen to do, and is in {a}, too.",
            remedy="pytest --energy-budget --energy-base-ref REF --energy-explain always --energy-json PATH writes one that does.",
        )
    if given["json"]:
        shown = [_json_of(made, result.test, result.name) for result, made in found]
        print(json_text(shown if len(shown) > 1 else shown[0], sys.stdout.encoding))
        return 0
    for result, made in found:
        _tell(made, result.called)
    return 0


def _results(name: str, root: Path) -> Sequence[Result]:
    return [result for session in saved_as(name, root, store_of(home_of(root))).sessions() for result in session.results]


def profile_of(result: Result) -> Profile | None:
    """What a run was seen to do, alone or beside another."""
    return result.profile or next((each.explanation.head for each in result.explained), None)


def _apart(result: Result, other: Result) -> str:
    """What makes the joules of two results no figures of one scale; empty where nothing does."""
    now, before = (Record(each.provenance) for each in (result, other))
    by_cpu = not all(each.startswith("gpu") for each in result.metrics[ENERGY].domain.split("+"))
    unlike = [each for each in differences(now, before, cpu_judged=by_cpu) if each.blocks and each.name in SCALE]
    return ", ".join(f"{each.name} {each.ours}, was {each.theirs}" for each in unlike)


def _energy(result: Result) -> Estimate | None:
    told = result.metrics.get(ENERGY)
    if told is None or told.value <= 0:
        return None
    return Estimate(told.value, told.low, told.high, METRICS[ENERGY].dimension, told.n, told.confidence, told.domain)


# --- tests ------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Here:
    """A test of this tree under open meters."""

    test: str
    session: Session
    told: Told
    confidence: float

    @property
    def ticking(self) -> Ticking:
        """The clock that the first meter pays for."""
        sources = self.session.instruments.sources if self.session.instruments is not None else ()
        return ticking_of(each.domain for each in sources)


@contextlib.contextmanager
def _opened(test: str, root: Path, given: Arguments) -> Iterator[_Here]:
    options = {"meter": given["meter"]} if given.get("meter") is not None else {}
    settings = build({"budget": True, **options}, read_nearest(root, test), os.environ, root)
    session = Session(replace(settings, base_refs=(), baseline=None), root, os.environ, waiting=waiting)
    with contextlib.ExitStack() as opened:
        opened.callback(session.close)
        session.open()
        budget = session.budget(MeteredTest(test, test, settings.lines_for(test)))
        if not session.problem:  # else a meter of the project's own, which only the sides know
            opened.enter_context(session.lock())
        yield _Here(test, session, replace(told_to_sides(session.settings, budget, root, session.home), count=()), budget.confidence)


def _alone(here: _Here, given: Arguments) -> int:
    """One side, without a difference."""
    side = Bases(here.session.root, os.environ, ()).head(here.test)
    found = looked_at(lambda: Process(side, here.told), given["run"], Explaining(given["seconds"], here.ticking))
    if given["json"]:
        print(json_text(profile_to_json(found), sys.stdout.encoding))
    else:
        _tell_below(f"{here.test}:", profile_lines(found, _width(), fit))
    return 0


def _against(here: _Here, ref: str, given: Arguments) -> int:
    """Both sides: measured in some pairs, and then looked at."""
    session, settings = here.session, here.session.settings
    links = lent_to_sides(settings, session.root, session.home)
    bases = Bases(session.root, os.environ, [ref], settings.base_python, links, (), session.home)
    with contextlib.closing(bases):
        bases.resolve()
        bases.open()
        (base,) = bases.of_test(here.test)
        if base.side is None or base.problem:
            raise SettingsError(f"{base.label}: {base.problem}.")
        made = explained_between(bases, base.side, bases.head(here.test), here, given)
    if given["json"]:
        print(json_text(_json_of(made, here.test, given["run"]), sys.stdout.encoding))
    else:
        _tell(made, here.test)
    return 0


def explained_between(bases: Bases, base: Side, head: Side, here: _Here, given: Arguments) -> Explained:
    """Base and head in pairs, and what both are seen to do. Raises NotMeasuredError."""

    name, before, now = given["run"], partial(bases.launch, base, here.told), partial(bases.launch, head, here.told)
    say(f"measuring {PAIRS} pairs beside {base.label}")
    measured = launch_beside(before, now, METRICS[ENERGY], here.session.bench().aim, here.session.clock, pairs=PAIRS, name=name)
    sides = profiles(before, now, name, for_both(here.ticking, given["seconds"]), TimeLimit(here.session.clock), say=say)
    return Explained(base.label, explained(*sides, Risen.of_pairs(measured.pairs, here.confidence)))


def _json_of(made: Explained, test: str, run: str | None) -> Mapping[str, Json]:
    return {"test": test, "run": run, **explained_to_json(made)}


def _tell(made: Explained, subject: str) -> None:
    _tell_below(f"{subject}: {made.where or 'no place can be told'}", lines(made, _width(), fit))


def _width() -> int:
    """What a table has below its title."""
    return room.for_tables() - INDENT


def _tell_below(title: str, said: Iterable[str]) -> None:
    tell(title)
    for line in said:
        tell(f"{' ' * INDENT}{line}")
