"""Candidates of one comparison spread over equal GPUs (``spread=True``): a process for each card, which runs the test up to there.

Such a process sees one card (``CUDA_VISIBLE_DEVICES``), so a model comes to it as to any other, no card waits for another's Python, and its
meter reads its own card. All neighbours are on one card, and each card begins with the candidate that the one before ends with, so every
ratio is made of ratios of one card each (``judging.choice``). The processor works for all cards, so nobody meters it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.judging.choice import Candidate, Choice, overlapping, reference_of
from pytest_greencompute.measuring.by_turns import Decided, Entrant, check_some, measure_abreast
from pytest_greencompute.measuring.effort import Effort
from pytest_greencompute.meters.base import traits_of
from pytest_greencompute.meters.registry import meter, names
from pytest_greencompute.models.devices import fixed_place
from pytest_greencompute.pairing.added import heard, told_of
from pytest_greencompute.pairing.channel import Message
from pytest_greencompute.pairing.commits import environ_of_side
from pytest_greencompute.pairing.process import Process
from pytest_greencompute.pairing.started import ANSWER_S, NotMeasuredError, Side
from pytest_greencompute.pairing.told import Told
from pytest_greencompute.pairing.worker import Worker
from pytest_greencompute.protocol.messages import Tell
from pytest_greencompute.session.candidates import run_name
from pytest_greencompute.session.session import Session
from pytest_greencompute.session.under_meters import UnderMeters
from pytest_greencompute.settings.sides import told_to_sides
from pytest_greencompute.values.readings import Source
from pytest_greencompute.values.run import Run

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

SENT = ("name", "problem", "impossible", "weights", "alike")  # of a candidate, beside its run


@dataclass(frozen=True)
class SpreadOut:
    """A comparison that may be spread: its ``entrants``, the ``plain`` choice between them, what is to be ``counted`` of all, its ``name``,
    and the ``models`` as the user gave them. ``enough`` as for ``measure_abreast``.
    """

    entrants: Sequence[Entrant]
    plain: Choice
    counted: tuple[str, ...]
    name: str | None
    models: Sequence[object]
    enough: Decided

    @property
    def key(self) -> str:
        """What the processes call it."""
        return f"spread {self.name or ''}"

    # --- in the test's own process ---

    def over(self, cards: Sequence[Source], under: UnderMeters) -> tuple[tuple[Candidate, ...], int]:
        """Measure the candidates on these cards, side by side: all of them, and how many looks were planned at the ratios of a card.

        Raises SettingsError for a model that cannot move, and where no candidate could be measured.
        """
        for place in filter(None, map(fixed_place, self.models)):
            raise SettingsError(
                f"A model is on {place}, and the process of each card sees that card alone, as cuda:0.",
                remedy="Put it on 'cuda' in the test or its fixtures, or leave spread=True out.",
            )
        session, test = under.session, under.test
        session.tell(test)(Tell(f"{len(self.entrants)} candidates on {len(cards)} cards"))
        told = replace(
            told_to_sides(session.settings, session.budget(test), session.root, session.home),
            meters=tuple({each.meter: None for each in cards}),
            spread=self.key,
        )
        groups = overlapping([each.name for each in self.entrants], len(cards))
        with ExitStack() as started:
            parts = []
            for group, card in zip(groups, cards, strict=False):
                parts.append(CardPart(group, card, partial(self._process, card, told, under)))
                started.callback(parts[-1].close)
            with session.limit(test).apart():
                for part in parts:
                    part.attempt(lambda process, _: process.wait_here(self.key))
            learnt, most_s = under.instruments.behaviours, ANSWER_S + session.limit(test).seconds
            for part in parts:
                part.attempt(lambda process, part: process.share(self._told(part.names, under), learnt))
            for part in parts:
                part.attempt(lambda process, part: process.shared(most_s, part.understand))
        found = self.joined(parts)
        check_some(found)
        return found, max(part.looks for part in parts)

    def _process(self, card: Source, told: Told, under: UnderMeters) -> Process:
        session = under.session
        environ = {**environ_of_side(session.environ), "CUDA_VISIBLE_DEVICES": card.uuid}
        return Process(Side(card.domain, session.root, under.test.node_id, environ, options=session.side_options), told)

    def _told(self, group: Sequence[str], under: UnderMeters) -> Message:
        """How a card is to measure its candidates."""
        efforts = {each: under.effort_of(each, run_name(self.name, each), self.plain.limits, self.counted) for each in group}
        return {
            name: {"max_seconds": each.max_seconds, "percentile": each.percentile, "timing": each.timing, "count": each.count}
            for name, each in efforts.items()
        }

    def joined(self, parts: Sequence[CardPart]) -> tuple[Candidate, ...]:
        """The candidates of all cards. Behind a candidate that was to join two cards and has no run, nothing can be compared."""
        found: dict[str, Candidate] = {}
        values, broken = {each.name: each.values for each in self.entrants}, ""
        reference = reference_of(self.plain.candidates).name
        for card, part in enumerate(parts):
            for each in part.candidates:
                own = replace(each, values=values[each.name], card=card, alike=each.alike if reference in part.names else None)
                before = found.get(each.name)
                if before is None:
                    found[each.name] = replace(own, run=None, problem=own.problem or broken) if broken else own
                elif before.run is None or own.run is None:
                    broken = f"not comparable, since {each.name}, which was to join the cards, has no figure on both"
                else:
                    found[each.name] = replace(before, linked=own.run)
        return tuple(found.values())

    # --- in the process of a card ---

    def share(self, session: Session, worker: Worker) -> None:
        """Measure those candidates that the test's own process asks for. Raises NotWantedError when that is done."""
        assert session.instruments is not None
        session.instruments.expect(worker.learnt)
        told = worker.share or {}
        efforts = {
            name: Effort(**{**each, "count": tuple(each["count"])}, keep_answers=True, provenance=session.provenance())
            for name, each in told.items()
        }
        asked = [each for each in self.entrants if each.name in efforts]
        found, _, looks = measure_abreast(asked, session.instruments, efforts.__getitem__, self.enough, session.why_unmeasured, some=False)
        said = [{name: getattr(each, name) for name in SENT} | ({} if each.run is None else told_of(each.run, None)) for each in found]
        worker.shared({"looks": looks, "candidates": said})


class CardPart:
    """The candidates of one card, and its process."""

    def __init__(self, group: Sequence[str], card: Source, start: Callable[[], Process]) -> None:
        self.names, self.looks = group, 1
        self.candidates = tuple(Candidate(name, problem=f"not measured on {card.domain}") for name in group)
        self._process: Process | None = None
        try:
            self._process = start()
        except NotMeasuredError as error:
            self._failed(error)

    def attempt(self, step: Callable[[Process, CardPart], object]) -> None:
        """The next step, where all went well until now."""
        if self._process is not None:
            try:
                step(self._process, self)
            except NotMeasuredError as error:
                self.close()
                self._failed(error)

    def _failed(self, error: NotMeasuredError) -> None:
        self.candidates = tuple(replace(each, problem=f"{each.problem}: {error.message.rstrip('.')}") for each in self.candidates)

    def close(self) -> None:
        """End the process; may be called twice."""
        process, self._process = self._process, None
        if process is not None:
            process.close()

    def understand(self, message: Message) -> None:
        """Take what its process has measured. Raises KeyError, TypeError, ValueError or GreencomputeError where that makes no sense."""
        found = [(each, heard(each, None) if "run" in each else None) for each in message["candidates"]]
        candidates = tuple(Candidate(**{name: each[name] for name in SENT}, run=run) for each, run in found)
        if tuple(each.name for each in candidates) != tuple(self.names):
            raise SettingsError("It measured other candidates.")
        self.looks, self.candidates = int(message["looks"]), candidates


def cards_of(under: UnderMeters, candidates: int) -> tuple[tuple[Source, ...], str]:
    """The equal GPUs that so many candidates can be spread over; or none, and why."""
    gpus = tuple(each for each in under.instruments.sources if each.domain.startswith("gpu"))
    why_not = next(_hindrances(under, gpus, candidates), "")
    return () if why_not else gpus, why_not


def _hindrances(under: UnderMeters, gpus: Sequence[Source], candidates: int) -> Iterator[str]:
    session = under.session
    if candidates < 3:
        yield "two candidates are one pair of neighbours"
    if len(gpus) < 2:
        yield f"{'one GPU' if gpus else 'no GPU'} is metered"
    if under.test.contest is not None:
        yield "the test is compared with other commits, too"
    if not set(session.settings.domains) <= {"auto", "gpu"}:
        yield f"domains = {', '.join(session.settings.domains)}, and only a GPU's energy is one card's"
    known = names(session.extra_meters)
    for each in gpus:
        if each.meter not in known or not traits_of(meter(each.meter, session.extra_meters)).per_worker or not each.uuid:
            yield f"the meter {each.meter} does not read one GPU by itself"
    facts, memory = under.instruments.facts(), under.instruments.memory()
    for what, of in _EQUAL.items():
        seen = {str(of(each, facts[each.domain].facts, memory[each.domain])) for each in gpus}
        if len(seen) > 1:
            yield f"the GPUs are unlike: {what} {', '.join(sorted(seen))}"


# What equal cards have alike, of a card, its facts and its memory. One in MIG mode has no counter, and is no card here.
_EQUAL: dict[str, Callable[[Source, Any, Any], object]] = {
    "name": lambda card, _facts, _memory: card.device,
    "driver": lambda _card, facts, _memory: facts.get("driver"),
    "power limit (W)": lambda _card, facts, _memory: facts.get("power_limit_w"),
    "memory (B)": lambda _card, _facts, memory: None if memory is None else memory.used + memory.free,
}


def with_note(candidates: Sequence[Candidate], note: str) -> tuple[Candidate, ...]:
    """The candidates, with a sentence on each run."""

    def noted(run: Run) -> Run:
        return replace(run, notes=(*run.notes, note))

    return tuple(each if each.run is None else replace(each, run=noted(each.run)) for each in candidates)
