"""What a test gets back: the answers, and every figure of the run as a quantity that can be asserted on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NoReturn

from pytest_greencompute.errors import MeterError
from pytest_greencompute.estimates.by_metric import estimate
from pytest_greencompute.estimates.estimate import Aim, Estimate, Missing, Outcome, figure, is_bound, scaled
from pytest_greencompute.estimates.star_scale import WH_PER_1000_QUERIES, Rating
from pytest_greencompute.estimates.stars import rated_energy, rating_of
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.run import Run

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence


class MeasuredRun:
    """One measured run. Figures compare with SI numbers and with strings: ``run.energy_per_query < "0.8 J"``.

    Such a comparison uses the point estimate; budgets use the whole interval. Asking a run that was not metered
    (no ``--energy-budget``) for a figure that needs a meter calls ``unmetered``, which in a test skips the rest, saying why.
    Asking a metered run for a figure that could not be had, or is only a bound, raises MeterError with the reason.
    """

    __slots__ = ("_aim", "_unmetered", "outputs", "raw")

    def __init__(self, raw: Run, outputs: list[Any], aim: Aim, unmetered: Callable[[str], NoReturn]) -> None:
        self.raw = raw
        self.outputs = outputs
        self._aim = aim
        self._unmetered = unmetered

    def __repr__(self) -> str:
        return (
            f"<MeasuredRun {self.raw.name or self.raw.test or ''} {self.raw.queries} queries{'' if self.raw.metered else ', not metered'}>"
        )

    def outcome(self, metric: str) -> Outcome:
        """The estimate of a metric by name, or the reason why there is none."""
        return estimate(self.raw, METRICS[metric], self._aim)

    def _figure(self, metric: str) -> Estimate:
        if METRICS[metric].needs_meter and not self.raw.metered:
            self._unmetered(metric)
        outcome = self.outcome(metric)
        if isinstance(outcome, Missing):
            raise MeterError(f"There is no {metric}: {outcome.reason}.")
        if METRICS[metric].exact and is_bound(outcome):  # an assert would take it for the whole
            raise MeterError(f"There is no certain {metric}: {figure(METRICS[metric], outcome)} ({outcome.note}).")
        return outcome

    @property
    def queries(self) -> int:
        """How many queries the run was given."""
        return self.raw.queries

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about this run for people: a generator collected, a set lost, a warm-up cut short."""
        return self.raw.notes

    @property
    def energy_per_query(self) -> Estimate:
        """Joules per query, idle power while busy included."""
        return self._figure("energy_per_query")

    @property
    def energy_above_idle_per_query(self) -> Estimate:
        """Joules per query beyond what the device would have drawn idle in the same time."""
        return self._figure("energy_above_idle_per_query")

    @property
    def average_power(self) -> Estimate:
        """Watts while busy."""
        return self._figure("average_power")

    @property
    def latency_p50(self) -> Estimate:
        """Seconds; a query's latency is that of its batch."""
        return self._figure("latency_p50")

    @property
    def latency_p95(self) -> Estimate:
        """Seconds; the interval needs 104 batches to be closed on both sides."""
        return self._figure("latency_p95")

    @property
    def latency_p99(self) -> Estimate:
        """Seconds; the interval needs 528 batches to be closed on both sides."""
        return self._figure("latency_p99")

    @property
    def throughput(self) -> Estimate:
        """Queries per second while busy."""
        return self._figure("throughput")

    @property
    def energy_per_token(self) -> Estimate:
        """Joules per generated token; needs ``tokens=`` of ``measure``."""
        return self._figure("energy_per_token")

    @property
    def tokens_per_query(self) -> Estimate:
        """Generated tokens per query; needs ``tokens=`` of ``measure``, or of ``watch``."""
        return self._figure("tokens_per_query")

    @property
    def reasoning_tokens_per_query(self) -> Estimate:
        """Generated tokens per query between the reasoning markers."""
        return self._figure("reasoning_tokens_per_query")

    @property
    def reasoning_default(self) -> Estimate:
        """The same tokens, of an application that sets no flag; ``notes`` name the flags that it did set."""
        return self._figure("reasoning_default")

    @property
    def generative_share(self) -> Estimate:
        """The share of the queries that reached a watched model."""
        return self._figure("generative_share")

    @property
    def model_calls_per_query(self) -> Estimate:
        """Calls of watched models per query."""
        return self._figure("model_calls_per_query")

    @property
    def carbon_per_query(self) -> Estimate:
        """kg of CO2e per query; needs ``country`` or ``carbon_intensity`` in the settings."""
        return self._figure("carbon_per_query")

    @property
    def cost_per_query(self) -> Estimate:
        """Cost of the electricity of a query, in the currency of ``electricity_price`` in the settings."""
        return self._figure("cost_per_query")

    @property
    def flops_per_query(self) -> Estimate:
        """Floating-point operations per query, as torch counts them; needs a budget on it, or ``count=`` of ``measure``."""
        return self._figure("flops_per_query")

    @property
    def peak_memory(self) -> Estimate:
        """Bytes held at most, of the GPUs where one is used, else of the process; needs a budget on it, or ``count=``."""
        return self._figure("peak_memory")

    @property
    def page_faults_per_query(self) -> Estimate:
        """Pages that a query made the system map; needs a budget on it, or ``count=``."""
        return self._figure("page_faults_per_query")

    @property
    def padding_share(self) -> Estimate:
        """The share of the positions of a Generator's batches that was padding; needs a budget on it, or ``count=`` of ``measure``."""
        return self._figure("padding_share")

    @property
    def accuracy(self) -> Estimate:
        """Mean score of the queries, each counted once."""
        return self._figure("accuracy")


class ScoredRun(MeasuredRun):
    """A measured run with its stars. GPUs alone count wherever one is metered."""

    __slots__ = ()

    @property
    def rating(self) -> Rating:
        """The stars, and in what they are only indicative. Not metered: the rest of the test is skipped, saying why.

        Raises NotRatedError where the energy was modelled, or where there is none.
        """
        if not self.raw.metered:
            self._unmetered("rating")
        return rating_of(self.raw, self._aim)[0]

    @property
    def wh_per_1000_queries(self) -> float:
        """Wh of GPU energy per 1,000 queries, modelled energy included. Raises MeterError, with the reason, where there is none."""
        if not self.raw.metered:
            self._unmetered("wh_per_1000_queries")
        found = rated_energy(self.raw, self._aim)
        if isinstance(found, Missing):
            raise MeterError(f"There is no wh_per_1000_queries: {found.reason}.")
        return found[0].value / WH_PER_1000_QUERIES


class Generation:
    """Prefill and decode of one workload: ``prefill`` is the run up to the first token, ``whole`` the run to the end, measured by turns."""

    __slots__ = ("outputs", "prefill", "whole")

    def __init__(self, prefill: MeasuredRun, whole: MeasuredRun) -> None:
        self.prefill = prefill
        self.whole = whole
        self.outputs = whole.outputs

    @property
    def decode_energy_per_query(self) -> Estimate:
        """Joules per query after its first token: the whole less the prefill, their errors taken as independent."""
        whole, first = self.whole.energy_per_query, self.prefill.energy_per_query
        return _less(whole, first)

    @property
    def decode_energy_per_token(self) -> Estimate:
        """Joules per token after the first. Raises MeterError where no query has a second token."""
        more = self.whole.tokens_per_query.value - self.prefill.tokens_per_query.value
        if more <= 0:
            raise MeterError("There is no decode_energy_per_token: no query had a second token.")
        return scaled(self.decode_energy_per_query, 1 / more)


class ServedRun(MeasuredRun):
    """A server under load, measured. ``outputs`` are the answers in the order of the prompts; None for a prompt that none came for."""

    __slots__ = ()

    @property
    def time_to_first_token_p50(self) -> Estimate:
        """Seconds from sending a request to its first token."""
        return self._figure("time_to_first_token_p50")

    @property
    def time_to_first_token_p95(self) -> Estimate:
        """Seconds; the interval needs 104 requests to be closed on both sides."""
        return self._figure("time_to_first_token_p95")

    @property
    def time_to_first_token_p99(self) -> Estimate:
        """Seconds; the interval needs 528 requests to be closed on both sides."""
        return self._figure("time_to_first_token_p99")

    @property
    def inter_token_latency_p50(self) -> Estimate:
        """Seconds from one token of an answer to its next."""
        return self._figure("inter_token_latency_p50")

    @property
    def inter_token_latency_p95(self) -> Estimate:
        """Seconds from one token of an answer to its next."""
        return self._figure("inter_token_latency_p95")

    @property
    def error_rate(self) -> Estimate:
        """The share of the requests that were not answered; ``failed`` says why."""
        return self._figure("error_rate")

    @property
    def reconnected(self) -> int:
        """How many requests found closed the connection that the server keeps, and went over a new one; these are no failures."""
        return 0 if self.raw.serving is None else self.raw.serving.reconnected

    @property
    def cached_share(self) -> float | None:
        """The share of the prompts' tokens that the server had in a cache; None where it does not say."""
        serving = self.raw.serving
        if serving is None or serving.cached_tokens is None or not serving.prompt_tokens:
            return None
        return serving.cached_tokens / serving.prompt_tokens

    @property
    def failed(self) -> Mapping[str, int]:
        """How many requests failed, by reason ("status 429", "connection dropped"); empty where none did, or nothing was measured."""
        return {} if self.raw.serving is None else self.raw.serving.failed


def _less(whole: Estimate, part: Estimate) -> Estimate:
    halves = whole.half_width, part.half_width
    half = None if None in halves else math.hypot(*(each or 0.0 for each in halves))
    value = whole.value - part.value
    low, high = (None, None) if half is None else (max(value - half, min(value, 0.0)), value + half)  # noise alone goes below zero
    return replace(whole, value=value, low=low, high=high, n=min(whole.n, part.n), note="the whole less the prefill", extremes=None)
