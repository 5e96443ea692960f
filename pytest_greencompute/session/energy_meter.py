"""What a test sees: ``energy_meter``. Each method checks what it was given and hands it on: how it is measured is the session's mode."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_greencompute.estimates.measured import MeasuredRun
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.models.awaiting import finished
from pytest_greencompute.models.queries import Queries
from pytest_greencompute.models.scoring import Score
from pytest_greencompute.session.checks import Asking, check_seconds
from pytest_greencompute.session.tests import MeteredTest

if TYPE_CHECKING:  # what a session that only measures runs, or measures nothing, does not load
    from pytest_greencompute.estimates.measured_kinds import Generation, ScoredRun, ServedRun
    from pytest_greencompute.explaining.profile import Profile
    from pytest_greencompute.measuring.window import Window
    from pytest_greencompute.models.generator import Generator
    from pytest_greencompute.models.watching import WatchedModel
    from pytest_greencompute.session.advised import Advised
    from pytest_greencompute.session.candidates import Comparison
    from pytest_greencompute.session.compared import Comparing
    from pytest_greencompute.session.modes import Mode

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence


class EnergyMeter:
    """Measures runs of one test.

    With ``--energy-budget`` it runs the whole protocol under the session's meters; without, each query once and unmetered: asking such a
    run for a figure that needs a meter skips the rest of the test, saying why.
    """

    def __init__(self, mode: Mode, test: MeteredTest, skip: Callable[[str], NoReturn]) -> None:
        self._asking = Asking(mode, test, skip)

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
        common = (model, queries, batch_size, references, score, collate, name)
        return finished(self._measured(self._asking.task(*common, tokens=tokens, reasoning=reasoning, count=count, repeats=repeats)))

    def explain(
        self,
        model: Callable[[Any], Any],
        queries: Queries,
        *,
        batch_size: int = 1,
        collate: Callable[[Any], Any] | None = None,
        name: str | None = None,
        seconds: float = 15.0,
    ) -> Profile | None:
        """See what ``model`` does while it answers some of ``queries``, for at most ``seconds``: the time of its modules, operators and
        Python functions, FLOPs, types, padding; modules that are too short for a clock are replayed under the meter. Reports show it beside
        the run called ``name``. Without ``--energy-budget`` the answer is None. Other arguments and errors as for ``measure``.
        """
        check_seconds(seconds)
        self._asking.refuse_out_of_turn()
        return self._asking.mode.look(self._asking.test, self._asking.task(model, queries, batch_size, collate=collate, name=name), seconds)

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
        ``batch_size=8``. While counters are waited for, other tasks of the loop go on, and are in the figures. Otherwise as ``measure``.
        """
        common = (model, queries, batch_size, references, score, collate, name)
        task = self._asking.task(*common, tokens=tokens, reasoning=reasoning, count=count, repeats=repeats, awaits=True)
        return await self._measured(task)

    async def _measured(self, task: Task) -> MeasuredRun:
        asking = self._asking
        asking.check_name(task.name)
        asking.refuse_out_of_turn()
        asking.run_nothing()
        with asking.in_turn():
            raw, outputs = await asking.mode.measure(asking.test, task)
        asking.test.runs.append(raw)
        return MeasuredRun(raw, outputs, partial(asking.mode.aim, asking.test), asking.unmetered)

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
        spread: bool = False,
        **limits: object,
    ) -> Comparison:
        """Measure ``candidates``, several models for one task by name, on the same ``queries``, their sets by turns.

        ``floor`` is the least accuracy that will do (a share, 0.72 or "72 %"), ``limits`` are what else a candidate must meet: throughput,
        and latency_p50, p90, p95 and p99. ``batch_size``, ``tokens`` and ``repeats`` are one for all or one by name, the rest and errors as
        for ``measure``. A candidate that raises has its reason in the table, and the others stand. ``spread``: three or more are measured
        on equal GPUs side by side, neighbours on one card; the test is run once more for each card.
        """
        shared = self._asking.task(None, queries, 1, references, score, collate, name, reasoning=reasoning, count=count)
        return self._comparing(shared, floor, limits, spread=spread).among(candidates, batch_size, tokens, repeats)

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
        spread: bool = False,
        **axes: Iterable[Any],
    ) -> Comparison:
        """Measure ``model`` at every combination of the swept settings, their sets by turns.

        ``batch_size=[1, 4, 16]`` sweeps the batch size, ``precision=["fp32", "bf16", "int8"]`` the precision of a torch module (a copy
        each), and any other list is handed to the model as a keyword: ``max_new_tokens=[8, 32]`` calls ``model(batch, max_new_tokens=8)``.
        ``limits`` are what a setting must meet beside ``floor``, such as {"latency_p95": "40 ms"}. What does not fit into the memory, or
        this device cannot do, is a row that says so. Otherwise as ``compare``.
        """
        shared = self._asking.task(model, queries, 1, references, score, collate, name, tokens=tokens, count=count, repeats=repeats)
        return self._comparing(shared, floor, limits or {}, spread=spread).over(batch_size, axes)

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
        common = (None, prompts, batch_size, references, score, None, name)
        shared = self._asking.task(*common, reasoning=reasoning, count=count, repeats=repeats)
        return self._comparing(shared, None, {}).apart(generator, max_new_tokens)

    def _comparing(self, shared: Task, floor: object, limits: Mapping[str, object], *, spread: bool = False) -> Comparing:
        from pytest_greencompute.session.compared import Comparing

        return Comparing(self._asking, shared, floor, limits, spread)

    def advise(
        self,
        model: Callable[[Any], Any],
        queries: Queries,
        *,
        batch_size: int = 1,
        references: Iterable[Any] | None = None,
        score: Score = "accuracy",
        collate: Callable[[Any], Any] | None = None,
        tokens: object = None,
        floor: object = None,
        limits: Mapping[str, object] | None = None,
        candidates: Mapping[str, Callable[[Any], Any]] | None = None,
        levers: Iterable[str] | None = None,
        students: bool = False,
        without_accuracy: bool = False,
    ) -> Advised:
        """Try the known levers on ``model`` and ``queries``, and say what to change and what that saves: ``print(advised)``.

        ``batch_size`` and the rest are today's. ``floor`` is the least accuracy that will do (default: half a point less than today's),
        ``limits`` as for ``sweep``. Without ``references`` the share of answers that are today's stands for accuracy. ``candidates`` are
        smaller models by name, with ``students`` some more that are fitted on today's answers; ``levers`` names those to try (default: what
        is quick). What is advised was confirmed by fresh turns. Model and process are as they were. Raises SettingsError, also for under
        30 queries without ``without_accuracy``.
        """
        shared = self._asking.task(model, queries, batch_size, references, score, collate, None, tokens=tokens)
        advice = self._comparing(shared, floor, limits or {}).advice
        return advice(levers, candidates or {}, students=students, without_accuracy=without_accuracy)

    def energy_score(
        self,
        model: Callable[[Any], Any],
        queries: Queries,
        *,
        task: str,
        model_class: str | None = None,
        collate: Callable[[Any], Any] | None = None,
        tokens: object = None,
        name: str | None = None,
        reference: str | os.PathLike[str] | None = None,
        passes: int = 10,
        state: str | os.PathLike[str] | None = None,
        protocol_queries: bool = False,
        output_of_protocol: bool = False,
        repeats: str = "fresh",
    ) -> ScoredRun:
        """Measure ``model`` by the protocol of AI Energy Score, and rate it: ``.rating``, ``.wh_per_1000_queries``.

        Batch size 1, ``passes`` over all ``queries``; with others than the protocol's 1,000 queries and ten passes stars are indicative.
        ``task`` and ``model_class`` as for ``rate``; ``reference``: a leaderboard's date, file or folder. ``protocol_queries``: these are
        the protocol's own for the task; ``output_of_protocol``: so are the answers' lengths, where ``tokens`` counts none. Passes are kept
        in ``state`` (a file below the root), where a session that was killed goes on. Otherwise as ``measure``.
        """
        from pytest_greencompute.session.scored import score

        work = self._asking.task(model, queries, collate=collate, name=name, tokens=tokens, repeats=repeats)
        return score(self._asking, work, (task, model_class, passes, protocol_queries, output_of_protocol), reference, state)

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

        ``url`` is its address: on this machine's loopback, another name of this machine with ``on_this_machine=True``, or that of another
        machine where a meter sees that one (``prometheus``, ``dcgm``), and then each run has ``energy_by_host``. ``request``
        is "openai-chat" (prompts are texts or lists of messages) or "openai-completions". ``model`` is asked of the server where it has one
        only. ``options`` go into each request, such as {"temperature": 0}. ``api_key_env`` names the variable that holds the server's key.
        ``timeout`` (seconds) bounds a request. ``references`` and ``score`` as for ``measure``; a prompt without an answer is wrong.

        Only the steady part counts. Requests that fail are counted (``error_rate``), and what they used is in the bill. Returns the runs by
        load, one for each number of ``concurrency``; budgets name them "concurrency=8", after ``name`` where there is one. Raises
        SettingsError for bad input and for a server that does not answer, MeterError where a meter fails.
        """
        from pytest_greencompute.session.served import Loads

        loads = Loads.of(self._asking, concurrency, references, score, name)
        sent = {"request": request, "api_key_env": api_key_env, "headers": headers, "options": options, "max_tokens": max_tokens}
        return loads.serve(url, prompts, model, on_this_machine=on_this_machine, stream=stream, timeout_s=timeout, **sent)

    def watch(
        self, function: Callable[..., Any], *, name: str | None = None, tokens: object = None, reasoning: Sequence[str] | None = None
    ) -> WatchedModel:
        """``function``, to be called in its place: a model whose calls, prompts, tokens and time inside are counted.

        ``energy_meter.watch(model.generate)``: a measured run of what calls it then has ``generative_share`` and ``model_calls_per_query``,
        and its tokens where ``tokens`` says how to count them (as for ``measure``; the ids of a ``generate`` are counted anyway). What is
        returned has ``calls``, ``prompts``, ``tokens``, ``reasoning_tokens``, ``seconds`` and ``energy``. Raises SettingsError for what
        cannot be called.
        """
        from pytest_greencompute.session.watched import watch

        return watch(self._asking, function, name, tokens, reasoning)

    def window(self, name: str | None = None, *, queries: int = 1, tokens: int | None = None) -> Window:
        """``with energy_meter.window("prefill") as w: …`` for code that is not a loop of queries; then ``w.energy``.

        ``queries`` is how many queries the body answers and ``tokens`` how many tokens it generates; ``w.queries`` and ``w.tokens`` may be
        set in the body instead. Budgets are judged per query, and ``energy_per_token`` per token. One window is read once: its interval is
        what the meter's ticks leave open, and one shorter than ten ticks is INCONCLUSIVE. Raises SettingsError for bad input.
        """
        from pytest_greencompute.session.windows import window

        return window(self._asking, name, queries, tokens)

    def close(self) -> None:
        """Free the devices for other measured runs."""
        self._asking.mode.release(self._asking.test)


def measure_calls(
    meter: EnergyMeter, call: Callable[[], object], *, together: int, batches: int, repeats: str = "fresh", notes: tuple[str, ...] = ()
) -> MeasuredRun:
    """``measure`` for something that is called without a query: each call is one. ``together`` calls make a batch.

    Of more than one together there is no latency, which would be that of all of them. Where commits are compared they come one by one:
    what is short on one side need not be so on the other, and both must measure alike.
    """

    def calls(batch: Sequence[int]) -> Sequence[int]:
        for _ in batch:
            call()
        return batch

    asking = meter._asking
    together = 1 if asking.mode.in_pairs else together
    queries, timed = range(together * batches), together == 1
    return finished(meter._measured(asking.task(calls, queries, together, timed=timed, repeats=repeats, notes=notes)))
