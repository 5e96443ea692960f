"""Candidates of one test, measured abreast: ``energy_meter.compare``, ``sweep`` and ``generate``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.estimates.measured_kinds import Generation
from pytest_greencompute.judging.choice import Candidate, Choice, asked_of, grid, sweep_name
from pytest_greencompute.levers.smaller import Candidates
from pytest_greencompute.measuring.by_turns import Entrant, measure_abreast, run_all_once
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.models.generator import PREFILL, WHOLE, Generator, apart
from pytest_greencompute.models.scoring import listed_references
from pytest_greencompute.models.sweeps import Variants, checked_axes
from pytest_greencompute.session.advised import Advised, Advising
from pytest_greencompute.session.candidates import Comparison, run_name
from pytest_greencompute.session.checks import Asking, by_candidate, check_name, repeatable
from pytest_greencompute.session.spread import SpreadOut, cards_of, with_note
from pytest_greencompute.session.under_meters import UnderMeters
from pytest_greencompute.values.names import checked_count
from pytest_greencompute.values.units import whole

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

Abreast = tuple[tuple[Candidate, ...], dict[str, list[Any]], int]  # candidates as they were measured, their answers, looks that were taken


@dataclass(frozen=True)
class Comparing:
    """A comparison that a test asks for: ``shared`` is what all candidates have alike, as the user gave it, with the comparison's name;
    ``floor`` and ``limits`` are what a candidate must meet. ``spread``: over equal GPUs, where there are several.
    """

    asking: Asking
    shared: Task
    floor: object = None
    limits: Mapping[str, object] | None = None
    spread: bool = False

    def among(self, candidates: Mapping[str, Callable[[Any], Any]], batch_size: object, tokens: object, repeats: object) -> Comparison:
        """Several models by name; ``batch_size``, ``tokens`` and ``repeats`` one for all or one by name. Raises SettingsError."""
        if not isinstance(candidates, Mapping) or not all(isinstance(each, str) and each for each in candidates):
            raise SettingsError("candidates must be named models.", remedy="Pass a dict such as {'large': f, 'small': g}.")
        candidates = {str.__str__(each): model for each, model in candidates.items()}  # plain, since names travel with the reports
        shared = self._listed()
        sizes, counted = by_candidate("batch_size", batch_size, candidates), by_candidate("tokens", tokens, candidates)
        repeated = by_candidate("repeats", repeats, candidates)

        def entrant(each: str) -> Entrant:
            own = {"batch_size": sizes[each], "tokens": counted[each], "repeats": repeated[each]}
            task = replace(shared, model=candidates[each], name=run_name(shared.name, each), **own)
            return Entrant(each, lambda: task, {})

        return self._abreast([entrant(each) for each in candidates], [*candidates.values()], scored=shared.references is not None)

    def over(self, batch_size: int | Iterable[int], axes: Mapping[str, Iterable[Any]]) -> Comparison:
        """The shared task's model at every combination of the settings. Raises SettingsError."""
        model = self.shared.model
        swept = checked_axes(model, {**({} if isinstance(batch_size, int) or whole(batch_size) else {"batch_size": batch_size}), **axes})
        variants, shared = Variants(model), self._listed()

        def entrant(values: Mapping[str, Any]) -> Entrant:
            size = values.get("batch_size", batch_size)
            called = sweep_name(values)

            def task() -> Task:  # built when it is its turn: a copy of the model may not fit beside another
                return replace(shared, model=variants.at(values), batch_size=size, name=run_name(shared.name, called))

            return Entrant(called, task, values)

        return self._abreast([entrant(values) for values in grid(swept)], [model], scored=shared.references is not None)

    def apart(self, generator: Generator, max_new_tokens: int) -> Generation:
        """Up to the first token, and to the end. Raises SettingsError, also where one of the two could not be measured."""
        two, shared = apart(generator, max_new_tokens), self._listed()

        def entrant(part: str) -> Entrant:
            answers = shared.references if part == WHOLE else None
            task = replace(shared, model=two[part], references=answers, name=run_name(shared.name, part), tokens=generator.tokens)
            return Entrant(part, lambda: task, {})

        comparison = self._abreast([entrant(part) for part in two], [], scored=False, told=False)
        runs = comparison.runs
        if missing := next((each for each in (PREFILL, WHOLE) if each not in runs), None):
            raise SettingsError(f"The {missing} could not be measured: {comparison.problems[missing]}.", remedy="Measure fewer at a time.")
        return Generation(runs[PREFILL], runs[WHOLE])

    def advice(self, levers: Iterable[str] | None, candidates: Candidates, *, students: bool, without_accuracy: bool) -> Advised:
        """What is proven to make the shared task cheaper. Raises SettingsError."""
        self.asking.refuse_out_of_turn()
        with self.asking.in_turn():
            return Advising(self.asking, self.shared, self.floor, self.limits or {}, without_accuracy, students).advise(levers, candidates)

    def _listed(self) -> Task:
        """What is shared, queries and references made such that every candidate can have them."""
        return replace(self.shared, queries=repeatable(self.shared.queries), references=listed_references(self.shared.references))

    def _abreast(self, entrants: Sequence[Entrant], models: Sequence[object], *, scored: bool, told: bool = True) -> Comparison:
        """``models``: as the user gave them. ``told``: the reports show the comparison, and not only its runs."""
        asking, test, name = self.asking, self.asking.test, self.shared.name
        asking.refuse_out_of_turn()
        counted = checked_count(self.shared.count)
        self._check(entrants)
        aim = asking.mode.aim(test)
        least, limited = asked_of(self.floor, self.limits or {}, scored=scored)
        unmeasured = tuple(Candidate(entrant.name, problem="not measured", values=entrant.values) for entrant in entrants)
        # What is asked is refused before anything is run.
        plain = Choice(unmeasured, aim, least, limited, subject=test.subject)
        with asking.in_turn():
            found, outputs, looks = self._measured([*entrants], plain, counted, models)
        for note in asking.mode.not_by_turns(test, "candidates are compared with each other, not with other commits"):
            found = with_note(found, note)
        comparison = Comparison(replace(plain, candidates=found, looks=looks), outputs, asking.unmetered, name)
        if told:
            test.comparisons.append(comparison)
        test.runs.extend(each.run for each in found if each.run is not None)
        return comparison

    def _check(self, entrants: Iterable[Entrant]) -> None:
        """Raises SettingsError where the comparison, or the run of one of its candidates, has a name that is none or is taken."""
        name = self.shared.name
        if name is not None:
            check_name(name, "a comparison", "name='models'")
        if any(each.name == name for each in self.asking.test.comparisons):
            which = f"named {name!r}" if name else "without a name"
            raise SettingsError(f"This test has a comparison {which} already.", remedy="Tell them apart: compare(..., name='precision').")
        for entrant in entrants:
            self.asking.check_name(run_name(name, entrant.name))

    def _measured(self, entrants: list[Entrant], plain: Choice, counted: tuple[str, ...], models: Sequence[object]) -> Abreast:
        """The candidates as they were measured, or run once where nothing is measured."""
        name, mode = self.shared.name, self.asking.mode

        def settled(candidates: Sequence[Candidate], looks: int) -> list[str]:
            ends = replace(plain, candidates=tuple(candidates), looks=looks).settled()
            return [each.name for each in candidates if ends]

        spread = SpreadOut(entrants, plain, counted, name, models, settled) if self.spread else None

        def metered(under: UnderMeters) -> Abreast:
            def effort_of(candidate: str) -> Any:
                return under.effort_of(candidate, run_name(name, candidate), plain.limits, counted)

            cards, why_not = ((), "") if spread is None else cards_of(under, len(entrants))
            if spread is not None and cards:
                found, looks = spread.over(cards, under)
                return found, {}, looks
            found, outputs, looks = measure_abreast(entrants, under.instruments, effort_of, settled, under.problem)
            return with_note(found, f"not spread over GPUs: {why_not}") if why_not else found, outputs, looks

        self.asking.run_nothing()
        return mode.either(self.asking.test, metered, lambda keep: (*run_all_once(entrants, mode.clock, keep), 1), spread)
