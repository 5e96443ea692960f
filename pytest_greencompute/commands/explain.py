"""``greencompute explain TEST`` or ``A B``: what a test is seen to do, here or beside another commit, or by two reports that carry it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pytest_greencompute.commands import Arguments
from pytest_greencompute.errors import SettingsError
from pytest_greencompute.estimates.estimate import Estimate
from pytest_greencompute.explaining.explanation import explain, explained
from pytest_greencompute.explaining.profile import Profile, Ticking
from pytest_greencompute.explaining.risen import Risen
from pytest_greencompute.measuring.time_limit import TimeLimit
from pytest_greencompute.pairing.beside_good import launch_beside
from pytest_greencompute.pairing.commits import Bases
from pytest_greencompute.pairing.looking import for_both, looked_at, profiles
from pytest_greencompute.pairing.process import Process
from pytest_greencompute.pairing.started import Side
from pytest_greencompute.pairing.told import Explaining, Told
from pytest_greencompute.report.escape import json_text, printable
from pytest_greencompute.report.explained import lines, profile_lines
from pytest_greencompute.results.profile_json import explained_to_json, profile_to_json
from pytest_greencompute.results.result import ENERGY, Explained, Result
from pytest_greencompute.session.session import Session
from pytest_greencompute.session.tests import MeteredTest
from pytest_greencompute.settings.build import build
from pytest_greencompute.settings.finding import home_of, read_nearest
from pytest_greencompute.settings.sides import told_to_sides
from pytest_greencompute.store.runs import saved_as, store_of
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.provenance import Json

PAIRS = 6  # of base and head, that say by how much they differ
NOTHING = 3  # exit status: there was nothing that could be explained


def run(given: Arguments, root: Path) -> int:
    """The command. 0: explained; 3: no run carries what it takes. Raises GreencomputeError."""
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
    for key, result in now.items():
        other = before.get(key)
        sides = None if other is None else (profile_of(other), profile_of(result), _energy(other), _energy(result))
        if sides is not None and all(each is not None for each in sides):
            base, head, base_j, head_j = sides
            assert base is not None
            assert head is not None
            assert base_j is not None
            assert head_j is not None
            found.append((result, Explained(a, explain(base, head, base_j, head_j))))
    if not found:
        raise SettingsError(
            f"No run of {b} carries what it was seen to do, and is in {a}, too.",
            remedy="pytest --energy-budget --energy-base-ref REF --energy-explain always --energy-json PATH writes one that does.",
        )
    for result, made in found:
        _show(made, result.called, given)
    return 0


def _results(name: str, root: Path) -> Sequence[Result]:
    return [result for session in saved_as(name, root, store_of(home_of(root))).sessions() for result in session.results]


def profile_of(result: Result) -> Profile | None:
    """What a run was seen to do, alone or beside another."""
    return result.profile or next((each.explanation.head for each in result.explained), None)


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
        return "device" if any(each.domain.startswith("gpu") for each in sources) else "cpu"


@contextlib.contextmanager
def _opened(test: str, root: Path, given: Arguments) -> Iterator[_Here]:
    options = {"meter": given["meter"]} if given.get("meter") is not None else {}
    settings = build({"budget": True, **options}, read_nearest(root, test), os.environ, root)
    session = Session(replace(settings, base_refs=(), baseline=None), root, os.environ)
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
        print(f"{here.test}:")
        print("\n".join(f"  {line}" for line in profile_lines(found)))
    return 0


def _against(here: _Here, ref: str, given: Arguments) -> int:
    """Both sides: measured in some pairs, and then looked at."""
    session, settings = here.session, here.session.settings
    links = settings.base_link if session.home == session.root else [str(session.home / link) for link in settings.base_link]
    bases = Bases(session.root, os.environ, [ref], settings.base_python, links, (), session.home)
    with contextlib.closing(bases):
        bases.resolve()
        bases.open()
        (base,) = bases.of_test(here.test)
        if base.side is None or base.problem:
            raise SettingsError(f"{base.label}: {base.problem}.")
        made = explained_between(bases, base.side, bases.head(here.test), here, given)
    _show(made, here.test, given)
    return 0


def explained_between(bases: Bases, base: Side, head: Side, here: _Here, given: Arguments) -> Explained:
    """Base and head in pairs, and what both are seen to do. Raises NotMeasuredError."""

    name, before, now = given["run"], partial(bases.launch, base, here.told), partial(bases.launch, head, here.told)
    _say(f"measuring {PAIRS} pairs beside {base.label}")
    measured = launch_beside(before, now, METRICS[ENERGY], here.session.bench().aim, here.session.clock, pairs=PAIRS, name=name)
    sides = profiles(before, now, name, for_both(here.ticking, given["seconds"]), TimeLimit(here.session.clock), say=_say)
    return Explained(base.label, explained(*sides, Risen.of_pairs(measured.pairs, here.confidence)))


def _show(made: Explained, subject: str, given: Arguments) -> None:
    if given["json"]:
        told: Mapping[str, Json] = {"test": subject, **explained_to_json(made)}
        print(json_text(told, sys.stdout.encoding))
        return
    print(printable(f"{subject}: {made.where or 'no place can be told'}"))
    print("\n".join(f"  {line}" for line in lines(made)))


def _say(what: str) -> None:
    print(printable(what), file=sys.stderr, flush=True)
