"""What a test sees: ``energy_meter``. Everything it uses is injected."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Mapping as MappingABC
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.session.checks import by_candidate, check_name, repeatable

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_greencompute.estimates.estimate import Aim, Estimate
    from pytest_greencompute.estimates.measured import Generation, MeasuredRun, ScoredRun, ServedRun
    from pytest_greencompute.estimates.stars import Asked as AskedScore
    from pytest_greencompute.judging.choice import Candidate, Choice
    from pytest_greencompute.measuring.by_turns import Entrant
    from pytest_greencompute.measuring.effort import Effort
    from pytest_greencompute.measuring.task import Task
    from pytest_greencompute.measuring.window import Window
    from pytest_greencompute.models.generator import Generator
    from pytest_greencompute.models.queries import Queries
    from pytest_greencompute.models.scoring import Score
    from pytest_greencompute.models.watching import WatchedModel
    from pytest_greencompute.pairing.runs import Pairing
    from pytest_greencompute.pairing.worker import Worker
    from pytest_greencompute.serving.as_run import Load
    from pytest_greencompute.serving.request import Request
    from pytest_greencompute.session.candidates import Comparison
    from pytest_greencompute.session.session import Session
    from pytest_greencompute.session.tests import MeteredTest
    from pytest_greencompute.values.run import Run

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence


class EnergyMeter:
    """Measures runs of one test.

    With ``--energy-budget`` it runs the whole protocol under the session's meters; without, each query once and unmetered.
    ``skip`` ends the test as skipped, with a reason.
    """

    def __init__(self, session: Session, test: MeteredTest, skip: Callable[[str], NoReturn]) -> None:
        self._session = session
        self._test = test
        self._skip = skip
        self._held = contextlib.ExitStack()
        self._locked = False

    def measure(
        self,
        model: Callable[[Any], Any],
        queries: Queries,
        *,
        batch_size: int = 1,
        references: Iterable[Any] | None = None,
        score: Score = "accuracy",
        collate: Callable[[Any], Any] | None = None,
        tokens: object = None,
        reasoning: Sequence[str] | None = None,
        count: Iterable[str] = (),
        name: str | None = None,
        repeats: str = "fresh",
    ) -> MeasuredRun:
        """Measure ``model``, any callable on a batch, on ``queries``.

        ``references`` are the right answers, one per query; ``score`` is "accuracy" or a function of (answer, reference).
        ``collate`` turns a slice of the queries into a batch. ``tokens`` counts what an answer holds: "ids" where answers are output
        ids, their model, a tokenizer, or a function of an answer; ``reasoning`` are the markers around reasoning. ``count`` names what is
        to be counted where no budget asks for it: "flops_per_query", "peak_memory", "page_faults_per_query". ``name`` tells the runs
        of one test apart. ``outputs`` of what is returned holds the model's answers in query order.

        The queries are asked again and again: where a model uses them up, ``queries`` is a function that makes them for each pass. A
        model that answers from memory when asked again is refused, unless ``repeats="cached"`` says that memory is part of the product.
        Raises SettingsError for bad input, MeterError where a meter fails while measuring, and what the model raises.
        """
        from pytest_greencompute.measuring.task import Task
        from pytest_greencompute.models.awaiting import finished

        test, markers = self._test, self._markers(reasoning)
        fields = (model, queries, batch_size, references, score, collate, name, test.node_id, tokens, markers, count, test.watched)
        return finished(self._measured(Task(*fields, repeats=repeats)))

    def measure_calls(
        self, call: Callable[[], object], *, together: int, batches: int, repeats: str = "fresh", notes: tuple[str, ...] = ()
    ) -> MeasuredRun:
        """``measure`` for something that is called without a query: each call is one. ``together`` calls make a batch.

        Of more than one together there is no latency, which would be that of all of them. Where commits are compared they come one by one:
        what is short on one side need not be so on the other, and both must measure alike.
        """
        from dataclasses import replace

        from pytest_greencompute.measuring.task import Task
        from pytest_greencompute.models.awaiting import finished

        def calls(batch: Sequence[int]) -> Sequence[int]:
            for _ in batch:
                call()
            return batch

        if self._session.bases is not None or self._session.worker is not None:
            together = 1
        task = Task(calls, range(together * batches), together, test=self._test.node_id, watched=self._test.watched, timed=together == 1)
        return finished(self._measured(replace(task, repeats=repeats, notes=notes)))

    async def ameasure(
        self,
        model: Callable[[Any], Any],
        queries: Queries,
        *,
        batch_size: int = 1,
        references: Iterable[Any] | None = None,
        score: Score = "accuracy",
        collate: Callable[[Any], Any] | None = None,
        tokens: object = None,
        reasoning: Sequence[str] | None = None,
        count: Iterable[str] = (),
        name: str | None = None,
        repeats: str = "fresh",
    ) -> MeasuredRun:
        """``measure`` for a model that is awaited: ``run = await energy_meter.ameasure(model, queries)`` in an async test.

        ``model`` is an async function of a batch (one that answers at once will do, too), awaited one batch after the other in the test's
        own event loop, asyncio's or another. A batch may be answered concurrently: ``await asyncio.gather(*map(ask, batch))`` with
        ``batch_size=8``. While counters are waited for, other tasks of the loop go on; what they use is in the figures. Otherwise as
        ``measure``.
        """
        from pytest_greencompute.measuring.task import Task

        test, markers = self._test, self._markers(reasoning)
        fields = (model, queries, batch_size, references, score, collate, name, test.node_id, tokens, markers, count, test.watched)
        return await self._measured(Task(*fields, awaits=True, repeats=repeats))

    async def _measured(self, task: Task) -> MeasuredRun:
        from pytest_greencompute.measuring.once import arun_once

        self._check_name(task.name)
        self._refuse_inside_a_window()
        settings = self._session.settings
        if self._session.worker is not None:
            raw, outputs = await self._measure_as_a_side(task, self._session.worker)
        elif settings.enabled:
            raw, outputs = await self._measure_metered(task)
        else:
            raw, outputs = await arun_once(task, self._session.clock, self._kept_unmetered())
        self._test.runs.append(raw)
        return self._result(raw, outputs)

    async def _measure_metered(self, task: Task) -> tuple[Run, list[Any]]:
        from pytest_greencompute.measuring.driver import arun_metered

        session = self._session
        self._lock()
        assert session.instruments is not None
        pairing = None if self._test.contest is None else self._test.contest.pairing(task.name)
        try:
            if pairing is not None:
                pairing.begin()
            raw, outputs = await arun_metered(task, session.instruments, self._effort(task.name, pairing), session.why_unmeasured)
            if pairing is not None:
                pairing.end(raw)
        finally:
            session.told()
        return raw, outputs

    async def _measure_as_a_side(self, task: Task, worker: Worker) -> tuple[Run, list[Any]]:
        """In the process of another side: measure when told to; the process that compares holds the device's lock."""
        from pytest_greencompute.measuring.driver import arun_metered
        from pytest_greencompute.measuring.effort import Effort
        from pytest_greencompute.measuring.once import arun_once

        session = self._session
        if not worker.wait_to_begin(task.name):
            return await arun_once(task, session.clock)
        assert session.instruments is not None
        effort = Effort(
            session.max_seconds,
            session.needs_p99,
            agree=worker.agree,
            turn=worker.turn,
            keep_answers=True,
            timing="none",  # latencies are compared by those that are timed after each set
            in_pairs=True,
            count=session.count,
            provenance=session.provenance(),
        )
        raw, outputs = await arun_metered(task, session.instruments, effort, session.why_unmeasured)
        worker.done(raw)
        return raw, outputs

    def compare(
        self,
        candidates: Mapping[str, Callable[[Any], Any]],
        queries: Queries,
        *,
        batch_size: int | Mapping[str, int] = 1,
        references: Iterable[Any] | None = None,
        score: Score = "accuracy",
        collate: Callable[[Any], Any] | None = None,
        tokens: object = None,
        reasoning: Sequence[str] | None = None,
        count: Iterable[str] = (),
        floor: object = None,
        name: str | None = None,
        repeats: str | Mapping[str, str] = "fresh",
        **limits: object,
    ) -> Comparison:
        """Measure ``candidates``, several models for one task by name, on the same ``queries``, their sets by turns.

        ``floor`` is the least accuracy that will do (a share, 0.72 or "72 %"), ``limits`` are what else a candidate must meet: latency_p50,
        latency_p95, latency_p99, throughput. ``batch_size``, ``tokens`` and ``repeats`` are one for all or one by name, the rest as for
        ``measure``. A candidate that raises has its reason in the table, and the others stand. Raises SettingsError for bad input,
        MeterError as ``measure`` does.
        """
        from pytest_greencompute.measuring.by_turns import Entrant
        from pytest_greencompute.models.scoring import listed_references
        from pytest_greencompute.session.candidates import run_name

        if not isinstance(candidates, MappingABC) or not all(isinstance(each, str) and each for each in candidates):
            raise SettingsError("candidates must be named models.", remedy="Pass a dict such as {'large': f, 'small': g}.")
        candidates = {str.__str__(each): model for each, model in candidates.items()}  # plain, since names travel with the reports
        listed, given = repeatable(queries), listed_references(references)
        sizes, counted = by_candidate("batch_size", batch_size, candidates), by_candidate("tokens", tokens, candidates)
        markers, repeated = self._markers(reasoning), by_candidate("repeats", repeats, candidates)

        def entrant(each: str) -> Entrant:
            run, again = run_name(name, each), repeated[each]
            task = self._task(candidates[each], listed, given, score, collate, sizes[each], run, counted[each], markers, again)
            return Entrant(each, lambda: task, {})

        return self._abreast([entrant(each) for each in candidates], floor, limits, name, scored=given is not None, count=count)

    def sweep(
        self,
        model: Callable[..., Any],
        queries: Queries,
        *,
        batch_size: int | Iterable[int] = 1,
        references: Iterable[Any] | None = None,
        score: Score = "accuracy",
        collate: Callable[[Any], Any] | None = None,
        tokens: object = None,
        count: Iterable[str] = (),
        floor: object = None,
        name: str | None = None,
        limits: Mapping[str, object] | None = None,
        repeats: str = "fresh",
        **axes: Iterable[Any],
    ) -> Comparison:
        """Measure ``model`` at every combination of the swept settings, their sets by turns.

        ``batch_size=[1, 4, 16]`` sweeps the batch size, ``precision=["fp32", "bf16", "int8"]`` the precision of a torch module (a copy
        each), and any other list is handed to the model as a keyword: ``max_new_tokens=[8, 32]`` calls ``model(batch, max_new_tokens=8)``.
        ``limits`` are what a setting must meet beside ``floor``, such as {"latency_p95": "40 ms"}. What does not fit into the memory, or
        this device cannot do, is a row that says so. Otherwise as ``compare``.
        """
        from pytest_greencompute.judging.choice import grid, sweep_name
        from pytest_greencompute.measuring.by_turns import Entrant
        from pytest_greencompute.models.scoring import listed_references
        from pytest_greencompute.models.sweeps import Variants, checked_axes
        from pytest_greencompute.session.candidates import run_name

        swept = checked_axes(model, {**({} if isinstance(batch_size, int) else {"batch_size": batch_size}), **axes})
        variants = Variants(model)
        listed, given = repeatable(queries), listed_references(references)

        def entrant(values: Mapping[str, Any]) -> Entrant:
            size = values.get("batch_size", batch_size)
            called = sweep_name(values)

            def task() -> Task:
                run, markers = run_name(name, called), self._markers(None)
                return self._task(variants.at(values), listed, given, score, collate, size, run, tokens, markers, repeats)

            return Entrant(called, task, values)

        entrants = [entrant(values) for values in grid(swept)]
        return self._abreast(entrants, floor, limits or {}, name, scored=given is not None, count=count)

    def generate(
        self,
        generator: Generator,
        prompts: Queries,
        *,
        max_new_tokens: int = 64,
        batch_size: int = 1,
        references: Iterable[Any] | None = None,
        score: Score = "accuracy",
        reasoning: Sequence[str] | None = None,
        count: Iterable[str] = (),
        name: str | None = None,
        repeats: str = "fresh",
    ) -> Generation:
        """Measure a ``Generator`` with prefill and decode apart: up to the first token, and to the end, their sets by turns.

        ``prefill`` and ``whole`` of what is returned are its two runs, and their names in budgets; ``decode_energy_per_token`` is what
        each token after the first costs. Otherwise as ``compare``.
        """
        from pytest_greencompute.estimates.measured import Generation
        from pytest_greencompute.measuring.by_turns import Entrant
        from pytest_greencompute.models.generator import PREFILL, WHOLE, apart
        from pytest_greencompute.models.scoring import listed_references
        from pytest_greencompute.session.candidates import run_name

        two, markers = apart(generator, max_new_tokens), self._markers(reasoning)
        listed, given = repeatable(prompts), listed_references(references)

        def entrant(part: str) -> Entrant:
            answers = given if part == WHOLE else None
            run, counter = run_name(name, part), generator.tokens
            task = self._task(two[part], listed, answers, score, None, batch_size, run, counter, markers, repeats)
            return Entrant(part, lambda: task, {})

        comparison = self._abreast([entrant(part) for part in two], None, {}, name, scored=False, count=count, told=False)
        runs = comparison.runs
        if missing := next((each for each in (PREFILL, WHOLE) if each not in runs), None):
            raise SettingsError(f"The {missing} could not be measured: {comparison.problems[missing]}.", remedy="Measure fewer at a time.")
        return Generation(runs[PREFILL], runs[WHOLE])

    def energy_score(
        self,
        model: Callable[[Any], Any],
        queries: Queries,
        *,
        task: str,
        model_class: str | None = None,
        collate: Callable[[Any], Any] | None = None,
        name: str | None = None,
        passes: int = 10,
        state: str | os.PathLike[str] | None = None,
        protocol_queries: bool = False,
        output_of_protocol: bool = False,
        repeats: str = "fresh",
    ) -> ScoredRun:
        """Measure ``model`` by the protocol of AI Energy Score, and rate it: ``.rating``, ``.wh_per_1000_queries``.

        Batch size 1, ``passes`` over all ``queries``, however long they take; the protocol has 1,000 queries and ten passes, and with
        others the stars are indicative. ``task`` and ``model_class`` as for ``rate``. ``protocol_queries``: these are the protocol's own
        for the task; ``output_of_protocol``: so is the length of the answers. After each pass the state is written to ``state`` (a file
        below the root; default: one for each test and name), and a session that was killed goes on there. Otherwise as ``measure``.
        """
        from dataclasses import replace

        from pytest_greencompute.estimates.measured import ScoredRun
        from pytest_greencompute.estimates.stars import Asked
        from pytest_greencompute.measuring.once import run_once
        from pytest_greencompute.measuring.task import Task
        from pytest_greencompute.models.queries import Batches, collected, plain
        from pytest_greencompute.store.score_state import path_of

        self._check_name(name)
        self._refuse_inside_a_window()
        session, test = self._session, self._test
        asked = Asked(task, model_class, passes, protocol_queries, output_of_protocol)
        listed, notes = collected(queries)
        loaded = plain(listed)
        if isinstance(loaded, Batches) and loaded.size != 1:
            raise SettingsError(
                f"The protocol asks one query at a time, and the DataLoader's batches hold {loaded.size}.", remedy="Pass its dataset."
            )
        path = path_of(session.home, state, test.node_id, name)
        work = Task(model, listed, collate=collate, name=name, test=test.node_id, watched=test.watched, repeats=repeats)
        if session.worker is None and session.settings.enabled:
            raw, outputs = self._score_metered(work, asked, path)
        else:
            raw, outputs = run_once(work, session.clock, self._kept_unmetered())
        if test.contest is not None:
            notes += ("an energy score is of this commit alone: it is not measured by turns with others",)
        raw = replace(raw, notes=notes + raw.notes)
        test.runs.append(raw)
        aim = self._aim()
        return ScoredRun(raw, outputs, aim, self._unmetered)

    def _score_metered(self, task: Task, asked: AskedScore, path: Path) -> tuple[Run, list[Any]]:
        from dataclasses import replace

        from pytest_greencompute.measuring.energy_score import measure_score
        from pytest_greencompute.models.contents import digest_of
        from pytest_greencompute.store.score_state import ScoreState, key_of

        session = self._session
        self._lock()
        assert session.instruments is not None
        effort, problem = self._effort(task.name), session.why_unmeasured
        if problem or not session.instruments.sources:
            return measure_score(task, asked, session.instruments, effort, problem=problem)
        queries: Any = task.queries
        key = key_of((task.test, task.name), asked, (digest_of(queries), len(queries)), session.instruments.facts(), session.machine)
        kept = ScoreState(path, key, session.home)
        earlier, said = kept.begin()
        try:
            raw, outputs = measure_score(task, asked, session.instruments, effort, earlier=earlier, keep=kept.keep, said=said)
        finally:
            session.told()
        return replace(raw, notes=raw.notes + kept.end()), outputs

    def _task(
        self,
        model: Callable[[Any], Any],
        queries: Any,
        references: list[Any] | None,
        score: Score,
        collate: Callable[[Any], Any] | None,
        batch_size: int,
        name: str,
        tokens: object,
        markers: Sequence[str] | None,
        repeats: str,
    ) -> Task:
        from pytest_greencompute.measuring.task import Task

        fields = (model, queries, batch_size, references, score, collate, name, self._test.node_id, tokens, markers)
        return Task(*fields, watched=self._test.watched, repeats=repeats)

    def _markers(self, reasoning: Sequence[str] | None) -> Sequence[str] | None:
        """The markers of reasoning: those of the call, else those of the settings; None: the usual ones."""
        return self._session.settings.reasoning_markers if reasoning is None else reasoning

    def _abreast(
        self,
        entrants: list[Entrant],
        floor: object,
        limits: Mapping[str, object],
        name: str | None,
        *,
        scored: bool,
        count: Iterable[str],
        told: bool = True,
    ) -> Comparison:
        """``told``: the reports show the comparison, and not only its runs."""
        from dataclasses import replace

        from pytest_greencompute.judging.choice import Candidate, Choice, asked_of
        from pytest_greencompute.session.candidates import Comparison
        from pytest_greencompute.values.names import checked_count

        self._refuse_inside_a_window()
        names = checked_count(count)
        self._check_comparison(name, entrants)
        test = self._test
        aim = self._aim()
        least, limited = asked_of(floor, limits, scored=scored)
        unmeasured = tuple(Candidate(entrant.name, problem="not measured", values=entrant.values) for entrant in entrants)
        plain = Choice(unmeasured, aim, least, limited, subject=test.subject)  # what is asked is refused before anything is run
        found, outputs, looks = self._measured_abreast(entrants, plain, name, names)
        if test.contest is not None:
            note = "candidates are compared with each other, not with other commits"
            found = tuple(
                each if each.run is None else replace(each, run=replace(each.run, notes=(*each.run.notes, note))) for each in found
            )
        comparison = Comparison(replace(plain, candidates=found, looks=looks), outputs, self._unmetered, name)
        if told:
            test.comparisons.append(comparison)
        test.runs.extend(each.run for each in found if each.run is not None)
        return comparison

    def _check_comparison(self, name: str | None, entrants: Iterable[Entrant]) -> None:
        """Raises SettingsError where the comparison, or the run of one of its candidates, has a name that is none or is taken."""
        from pytest_greencompute.session.candidates import run_name

        if name is not None:
            check_name(name, "a comparison", "name='models'")
        if any(each.name == name for each in self._test.comparisons):
            which = f"named {name!r}" if name else "without a name"
            raise SettingsError(f"This test has a comparison {which} already.", remedy="Tell them apart: compare(..., name='precision').")
        for entrant in entrants:
            self._check_name(run_name(name, entrant.name))

    def _measured_abreast(
        self, entrants: list[Entrant], plain: Choice, name: str | None, counted: tuple[str, ...]
    ) -> tuple[tuple[Candidate, ...], dict[str, list[Any]], int]:
        """The candidates as they were measured (or run once, where nothing is measured), their answers, and how often it was looked."""
        from dataclasses import replace

        from pytest_greencompute.measuring.by_turns import measure_abreast, run_all_once
        from pytest_greencompute.session.candidates import run_name
        from pytest_greencompute.values.names import asked_by

        session, test = self._session, self._test

        def settled(candidates: Sequence[Candidate], looks: int) -> bool:
            return replace(plain, candidates=tuple(candidates), looks=looks).settled()

        def effort_of(candidate: str) -> Effort:
            run = run_name(name, candidate)
            effort = self._effort_of(candidate, run, plain.limits)
            return replace(effort, count=tuple(dict.fromkeys((*asked_by(session.budget(test).limits.get(run, {})), *counted))))

        if session.worker is None and session.settings.enabled:
            self._lock()
            assert session.instruments is not None
            try:
                return measure_abreast(entrants, session.instruments, effort_of, settled, session.why_unmeasured)
            finally:
                session.told()
        return (*run_all_once(entrants, session.clock, self._kept_unmetered()), 1)

    def _effort_of(self, candidate: str, run: str, limits: Mapping[str, float]) -> Effort:
        """How a candidate, whose run is called ``run``, is measured: until the comparison is settled or its time is up."""
        from dataclasses import replace

        from pytest_greencompute.values.metrics import METRICS

        session = self._session
        tell = session.tell(self._test)
        effort = self._effort(run)
        effort = replace(effort, enough=lambda _: False, keep_answers=True)
        if any(METRICS[each].kind == "latency" for each in limits):
            effort = replace(effort, timing="whole", needs_p99=effort.needs_p99 or "latency_p99" in limits)
        return replace(effort, tell=lambda step: tell(replace(step, what=f"{candidate}: {step.what}")))

    def serve_load(
        self,
        url: str,
        prompts: Iterable[Any],
        *,
        concurrency: int | Iterable[int] = 8,
        request: str = "openai-chat",
        model: str | None = None,
        max_tokens: int = 64,
        stream: bool = True,
        options: Mapping[str, Any] | None = None,
        references: Iterable[Any] | None = None,
        score: Score = "accuracy",
        headers: Mapping[str, str] | None = None,
        api_key_env: str | None = None,
        timeout: float = 60.0,
        on_this_machine: bool = False,
        name: str | None = None,
    ) -> dict[int, ServedRun]:
        """Measure a running server of OpenAI's interface under load: ``concurrency`` requests at a time, all ``prompts`` in turn.

        ``url`` is its address on this machine's loopback; another name of this machine is taken with ``on_this_machine=True``. ``request``
        is "openai-chat" (prompts are texts or lists of messages) or "openai-completions". ``model`` is asked of the server where it has one
        only. ``options`` go into each request, such as {"temperature": 0}. ``api_key_env`` names the variable that holds the server's key.
        ``timeout`` (seconds) bounds a request. ``references`` and ``score`` as for ``measure``; a prompt without an answer is wrong.

        Only the steady part counts. Requests that fail are counted (``error_rate``), and what they used is in the bill. Returns the runs by
        load, one for each number of ``concurrency``; budgets name them "concurrency=8", after ``name`` where there is one. Raises
        SettingsError for bad input and for a server that does not answer, MeterError where a meter fails.
        """
        import os

        from pytest_greencompute.models.scoring import listed_references
        from pytest_greencompute.serving.as_run import Load
        from pytest_greencompute.serving.request import levels, request_of
        from pytest_greencompute.session.candidates import run_name

        self._refuse_inside_a_window()
        if name is not None:
            check_name(name, "loads", "name='chat'")
        several, given = levels(concurrency), listed_references(references)
        named = {each: run_name(name, f"concurrency={each}") for each in several}
        for called in named.values():
            self._check_name(called)
        wanted = request_of(
            url,
            prompts,
            request=request,
            environ=os.environ,
            api_key_env=api_key_env,
            headers=headers,
            options=options,
            on_this_machine=on_this_machine,
            max_tokens=max_tokens,
            stream=stream,
            timeout_s=timeout,
        )
        loads = [Load(each, called, test=self._test.node_id, references=given, score=score) for each, called in named.items()]
        return self._served(wanted, model, loads)

    def _served(self, wanted: Request, model: str | None, loads: Sequence[Load]) -> dict[int, ServedRun]:
        from dataclasses import replace

        from pytest_greencompute.estimates.measured import ServedRun
        from pytest_greencompute.serving.load import ask_once, check_answers, measure_load, open_client

        session, test = self._session, self._test
        metered = session.worker is None and session.settings.enabled
        keep = None if metered else self._kept_unmetered()
        client, answering = open_client(wanted, model, session.clock)
        loads = [replace(load, model=answering) for load in loads]
        aim = self._aim()
        note = () if test.contest is None else ("a server runs beside the commits: its load is not measured by turns with others",)
        found = {}
        with client:
            check_answers(client, wanted)
            for load in loads:
                if metered:
                    self._lock()
                    assert session.instruments is not None
                    try:
                        raw, outputs = measure_load(
                            client, wanted, load, session.instruments, self._effort(load.name), session.why_unmeasured
                        )
                    finally:
                        session.told()
                else:
                    raw, outputs = ask_once(client, wanted, load, keep)
                raw = replace(raw, notes=note + raw.notes)
                test.runs.append(raw)
                found[load.concurrency] = ServedRun(raw, outputs, aim, self._unmetered)
        return found

    def watch(
        self, function: Callable[..., Any], *, name: str | None = None, tokens: object = None, reasoning: Sequence[str] | None = None
    ) -> WatchedModel:
        """``function``, to be called in its place: a model whose calls, prompts, tokens and time inside are counted.

        ``energy_meter.watch(model.generate)``: a measured run of what calls it then has ``generative_share`` and ``model_calls_per_query``,
        and its tokens where ``tokens`` says how to count them (as for ``measure``; the ids of a ``generate`` are counted anyway). What is
        returned has ``calls``, ``prompts``, ``tokens``, ``reasoning_tokens``, ``seconds`` and ``energy``. Raises SettingsError for what
        cannot be called.
        """
        from pytest_greencompute.models.watching import watched

        test = self._test
        if name is not None:
            check_name(name, "a watched model", "name='large'")
        made = watched(
            function, self._session.clock, name=name, tokens=tokens, reasoning=self._markers(reasoning), energy=self._watched_energy
        )
        taken = [each.watched_name for each in test.watched]
        if made.watched_name in taken and name is not None:
            raise SettingsError(f"This test watches a model named {name!r} already.", remedy="Give each a name of its own.")
        plain, number = made.watched_name, 2
        while made.watched_name in taken:
            made.watched_name, number = f"{plain} {number}", number + 1
        test.watched.append(made)
        return made

    def _watched_energy(self, model: WatchedModel) -> Estimate:

        from pytest_greencompute.errors import MeterError
        from pytest_greencompute.estimates.estimate import Missing
        from pytest_greencompute.estimates.watched import energy_of

        session, test = self._session, self._test
        if not session.settings.enabled:
            self._unmetered("the energy of a watched model")
        aim = self._aim()
        windows = [window.raw() for window in test.windows if window.closed]
        found = energy_of([*test.runs, *windows], test.watched.index(model), aim)
        if isinstance(found, Missing):
            raise MeterError(f"There is no energy of {model.watched_name}: {found.reason}.")
        return found

    def window(self, name: str | None = None, *, queries: int = 1, tokens: int | None = None) -> Window:
        """``with energy_meter.window("prefill") as w: …`` for code that is not a loop of queries; then ``w.energy``.

        ``queries`` is how many queries the body answers and ``tokens`` how many tokens it generates; ``w.queries`` and ``w.tokens`` may be
        set in the body instead. Budgets are judged per query, and ``energy_per_token`` per token. Raises SettingsError for bad input.

        One window is read once: its interval is what the meter's ticks leave open, and one shorter than ten ticks is INCONCLUSIVE.
        """
        from pytest_greencompute.measuring.window import Window

        self._check_name(name)
        self._refuse_inside_a_window()
        instruments = None
        if self._session.settings.enabled and self._session.worker is None:
            self._lock()
            instruments = self._session.instruments
        session, test = self._session, self._test
        window = Window(
            name,
            instruments,
            session.bench().aim,
            self._unmetered,
            queries=queries,
            tokens=tokens,
            watched=test.watched,
            test=test.node_id,
            provenance=session.provenance(),
        )
        self._test.windows.append(window)
        return window

    def close(self) -> None:
        """Free the devices for other measured runs."""
        self._held.close()

    def _check_name(self, name: str | None) -> None:
        if name is not None:
            check_name(name, "a run", "name='prefill'")
        if name in [run.name for run in self._test.runs] + [window.name for window in self._test.windows]:
            which = f"a run named {name!r}" if name else "a run without a name"
            raise SettingsError(f"This test has measured {which} already.", remedy="Tell its runs apart: measure(..., name='large').")

    def _refuse_inside_a_window(self) -> None:
        if any(window.running for window in self._test.windows):
            raise SettingsError(
                "A window is open: what is measured inside it would be counted twice.", remedy="Measure before or after it."
            )

    def _lock(self) -> None:
        if not self._locked:
            self._session.open()
            self._held.enter_context(self._session.lock())
            self._locked = True

    def _effort(self, name: str | None, pairing: Pairing | None = None) -> Effort:
        from dataclasses import replace

        from pytest_greencompute.judging.judge import judge_run, limits_for, times_open
        from pytest_greencompute.measuring.effort import Effort
        from pytest_greencompute.measuring.script import precise_enough
        from pytest_greencompute.values.metrics import METRICS
        from pytest_greencompute.values.names import asked_by

        session, test = self._session, self._test
        budget, bench = session.budget(test), session.bench()
        test.planned[name] = test.plan(budget)
        # The figure is read by people too: certain of a distant limit, but known to a half only, is not worth printing.
        precise, presentable = precise_enough(bench.aim), precise_enough(bench.aim, 0.1)

        def enough(run: Run) -> bool:
            """Whether all that more blocks could make certain is certain."""
            key, figures = limits_for(run, budget, only=True), bench.figures(run, budget.confidence)
            verdicts = [
                each for each in judge_run(figures, key, budget, bench, test.subject) if METRICS[each.metric].kind in {"energy", "rate"}
            ]
            certain = all(each.word != "INCONCLUSIVE" for each in verdicts)
            # A run that others will be compared with must be precise, not only certain of its own verdicts.
            compared = session.settings.save or test.group is not None
            alone = not verdicts and pairing is None
            done = precise(run) if compared or alone else certain and presentable(run)
            done = done and not times_open(figures, key, budget, bench, test.subject)
            return done if pairing is None else pairing.may_end(certain=done)

        limits = {**budget.limits.get(None, {}), **budget.limits.get(name, {})}
        # A latency that nothing limits is only shown; what is saved may be held against a limit later.
        limited = {*limits, *(() if test.group is None else test.group.limits)}
        whole = bool(session.settings.save) or any(METRICS[each].kind == "latency" for each in limited)
        effort = Effort(
            budget.max_seconds,
            "latency_p99" in limited,
            timing="whole" if whole else "short",
            tell=session.tell(test),
            enough=enough,
            figure=lambda run: _figure(run, bench.aim),
            keep_answers=bool(pairing or session.settings.save or session.settings.baseline or test.group),
            count=asked_by(limits),
            provenance=session.provenance(),
        )
        if pairing is None:
            return effort
        return replace(effort, agree=pairing.agree, turn=pairing.turn, in_pairs=True)

    def _result(self, raw: Run, outputs: list[Any]) -> MeasuredRun:
        from pytest_greencompute.estimates.measured import MeasuredRun

        return MeasuredRun(raw, outputs, self._aim(), self._unmetered)

    def _aim(self) -> Aim:
        """What is asked of this test's runs: the session's, as sure as the test's budget wants it."""
        return self._session.bench().aim.at(self._session.budget(self._test).confidence)

    def _kept_unmetered(self) -> int | None:
        """How many queries run without a meter, None for all; where none is to run, the test is skipped."""
        unmetered = self._session.settings.unmetered
        if unmetered == "skip":
            self._skip('not measured: unmetered = "skip" and no --energy-budget')
        return unmetered if isinstance(unmetered, int) else None

    def _unmetered(self, metric: str) -> NoReturn:
        self._skip(f"{metric} was not measured: run pytest with --energy-budget")


def _figure(run: Run, aim: Aim) -> str:
    """The energy per query so far, for the progress line; nothing where there is none yet."""
    from pytest_greencompute.estimates.by_metric import estimate
    from pytest_greencompute.estimates.estimate import Estimate
    from pytest_greencompute.values.metrics import METRICS

    found = estimate(run, METRICS["energy_per_query"], aim)
    return f"{found} per query" if isinstance(found, Estimate) else ""
