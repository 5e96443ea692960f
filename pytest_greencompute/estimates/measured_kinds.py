"""Measured runs of other kinds: rated, in two parts, of a server under load."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from pytest_greencompute.errors import MeterError
from pytest_greencompute.estimates.by_host import energy_by_host
from pytest_greencompute.estimates.estimate import Estimate, Missing, scaled
from pytest_greencompute.estimates.measured import MeasuredRun, MetricProperty
from pytest_greencompute.estimates.star_scale import WH_PER_1000_QUERIES, Rating
from pytest_greencompute.estimates.stars import rated_energy, rating_of

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence


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

    energy_per_input_token = MetricProperty("Joules per token of the prompts: all of the energy, over these alone.")
    energy_per_total_token = MetricProperty("Joules per token, of the prompts and of the answers.")
    time_to_first_token_p50 = MetricProperty("Seconds from sending a request to its first token.")
    time_to_first_token_p90 = MetricProperty("Seconds; the interval needs 51 requests to be closed on both sides.")
    time_to_first_token_p95 = MetricProperty("Seconds; the interval needs 104 requests to be closed on both sides.")
    time_to_first_token_p99 = MetricProperty("Seconds; the interval needs 528 requests to be closed on both sides.")
    inter_token_latency_p50 = MetricProperty("Seconds from one token of an answer to its next.")
    inter_token_latency_p90 = MetricProperty("Seconds from one token of an answer to its next.")
    inter_token_latency_p95 = MetricProperty("Seconds from one token of an answer to its next.")
    error_rate = MetricProperty("The share of the requests that were not answered; ``failed`` says why.")

    @property
    def energy_by_host(self) -> dict[str, Estimate]:
        """Joules per query that each host used, by its name, where other hosts are metered: of all queries, so that they add up.

        Not metered: the rest of the test is skipped, saying why. Raises MeterError, with the reason, where one has no figure, or their sum.
        """
        if not self.raw.metered:
            self._unmetered("energy_by_host")
        _ = self.energy_per_query  # which says why there is none, if there is none
        found = {}
        for host, outcome in energy_by_host(self.raw, self._aim).items():
            if isinstance(outcome, Missing):
                raise MeterError(f"There is no energy of {host}: {outcome.reason}.")
            found[host] = outcome
        return found

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
        """How many requests failed, by reason ("status 429", "connection dropped"); empty where none did."""
        return {} if self.raw.serving is None else self.raw.serving.failed


def _less(whole: Estimate, part: Estimate) -> Estimate:
    halves = whole.half_width, part.half_width
    half = None if None in halves else math.hypot(*(each or 0.0 for each in halves))
    value = whole.value - part.value
    low, high = (None, None) if half is None else (max(value - half, min(value, 0.0)), value + half)  # noise alone goes below zero
    return replace(whole, value=value, low=low, high=high, n=min(whole.n, part.n), note="the whole less the prefill", extremes=None)
