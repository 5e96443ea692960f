"""Energy per query, above idle, per token, in carbon and money, and average power: over sets, stretches of a load, or a window."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from pytest_greencompute.estimates.counted import tokens_of
from pytest_greencompute.estimates.domains import idle_watts, judged_sources, net_energy, why_spoiled
from pytest_greencompute.estimates.estimate import NOT_MEASURED, ONE_WINDOW, Aim, Estimate, Missing, Outcome, scaled
from pytest_greencompute.estimates.over_sets import (
    NO_USAGE,
    above_zero,
    busy_s_in,
    least_of,
    look_confidence,
    over_run,
    queries_in,
    tokens_of_server,
)
from pytest_greencompute.stats.distributions import normal_reach
from pytest_greencompute.stats.intervals import FINEST, positive_low
from pytest_greencompute.values.metrics import METRICS, Metric
from pytest_greencompute.values.readings import Block, Method, Source
from pytest_greencompute.values.run import Run
from pytest_greencompute.values.units import money, show

MIN_WINDOW_TICKS = 10
Later = Callable[[], Outcome]  # worked out only where it is needed
_OF_LOADS = "only a server under load tells the tokens of its prompts"
_NOT_SET = {
    "carbon": 'no carbon intensity is set: write country = "FRA" or carbon_intensity = "56 g/kWh" in the settings',
    "money": 'no price is set: write electricity_price = "0.25 EUR/kWh" in the settings',
}


def is_scaled(run: Run, metric: Metric) -> bool:
    """Whether the metric is the energy per query, divided by its tokens or turned into what it emits and costs."""
    return bool(metric.per) and not (metric.per == "token" and run.serving is not None)


def scaled_energy(metric: Metric, aim: Aim, energy_per_query: Later, tokens_per_query: Later) -> Outcome:
    """The figure of a metric that is the energy per query times a factor."""
    factor = _factor(metric, aim, tokens_per_query)
    if isinstance(factor, Missing):
        return factor
    energy = energy_per_query()
    dimension = money(aim.footprint.currency) if metric.per == "money" else metric.dimension
    if isinstance(energy, Missing):
        return energy if energy.coarse is None else replace(energy, coarse=scaled(energy.coarse, factor, dimension))
    return scaled(energy, factor, dimension)


def tokens_for(run: Run, metric: Metric, aim: Aim) -> Outcome:
    """The tokens of a query that the metric is per: generated ones, those of its prompt, or both."""
    generated = METRICS["tokens_per_query"]
    if metric.per == "token":
        return tokens_of(run, generated, aim)
    served = run.serving
    if served is None or not served.prompt_tokens or served.by_events or not served.answered:
        return Missing("only a server under load tells the tokens of its prompts, and this one did not" if served else _OF_LOADS)
    prompt = Estimate(served.prompt_tokens / served.answered, None, None, generated.dimension, served.answered, aim.confidence)
    if metric.per == "input token":
        return prompt
    found = tokens_of(run, generated, aim)
    return found if isinstance(found, Missing) else replace(prompt, value=prompt.value + found.value)


def _factor(metric: Metric, aim: Aim, tokens_per_query: Later) -> float | Missing:
    if metric.per.endswith("token"):
        tokens = tokens_per_query()
        if isinstance(tokens, Missing):
            return tokens
        return 1 / tokens.value if tokens.value else Missing("the model generated no token")
    found = aim.footprint.carbon if metric.per == "carbon" else aim.footprint.money
    why = aim.footprint.why_no_carbon.rstrip(".") if metric.per == "carbon" else ""
    return Missing(why or _NOT_SET[metric.per]) if found is None else found


def energy_of(run: Run, metric: Metric, aim: Aim) -> Outcome:
    """Joules per query or token, watts, or what a joule emits or costs: over sets, over the stretches of a load, or of a window."""
    if is_scaled(run, metric):
        per_query = METRICS["energy_per_query"]
        return scaled_energy(metric, aim, lambda: energy_of(run, per_query, aim), lambda: tokens_for(run, metric, aim))
    problem = run.problem or why_spoiled(run)
    if not run.metered or problem:
        return Missing(problem) if run.metered else NOT_MEASURED
    sources = judged_sources(run, aim)
    if isinstance(sources, Missing):
        return sources
    if not run.blocks:
        return Missing("no block was measured")
    idle = {source.domain: idle_watts(run, source.domain) for source in sources}
    over = _window_energy if run.window else _energy_over
    return over(run, metric, sources, idle, aim)


def _energy_over(run: Run, metric: Metric, sources: Sequence[Source], idle: Mapping[str, tuple[float, float]], aim: Aim) -> Outcome:
    blocks, amount_of = run.blocks, _amount_of(run, metric)
    if isinstance(amount_of, Missing):
        return amount_of

    def joules_of(group: Sequence[Block]) -> float:
        return _joules(metric, group, idle)

    value, low, high, n = over_run(run, joules_of, amount_of, look_confidence(run, aim))
    amount = amount_of(blocks)
    extra = _idle_error(metric, blocks, idle, look_confidence(run, aim)) / amount
    extra += sum(source.step_j for source in sources) * len(blocks) / amount
    extra += _stamping(run, sources) / amount + FINEST * abs(value)
    found = _widened(metric, value, low, high, extra, sources, n=n, aim=aim)
    return found if metric.signed else above_zero(found, lambda: least_of(run, joules_of, amount_of, look_confidence(run, aim)))


def _idle_error(metric: Metric, blocks: Sequence[Block], idle: Mapping[str, tuple[float, float]], confidence: float) -> float:
    """Half-width, in joules, that the uncertainty of idle power leaves: over the gaps, or over all of the time above idle."""
    whole = metric.name == "energy_above_idle_per_query"
    joules = 0.0
    for domain, (_, error) in idle.items():
        joules += error * sum(block.spans[domain].seconds - (0.0 if whole else block.busy_s) for block in blocks)
    return normal_reach(confidence) * joules


def _stamping(run: Run, sources: Sequence[Source]) -> float:
    """Energy, in joules, that the jitter of the ticks leaves open: at either end of each block, independent of one another.

    What a border of two stretches of a load takes from one it gives to the other.
    """
    open_j = 0.0
    for source in sources:
        spans = [block.spans[source.domain] for block in run.blocks]
        ends = 2 * len(spans)
        if run.serving is not None:
            ends = len({span.a_ns for span in spans} ^ {span.b_ns for span in spans})
        watts = sum(span.energy_j for span in spans) / max(sum(span.seconds for span in spans), 1e-9)
        open_j += watts * source.jitter_s * math.sqrt(ends)
    return open_j


def _joules(metric: Metric, group: Sequence[Block], idle: Mapping[str, tuple[float, float]]) -> float:
    joules = 0.0
    for domain, (watts, _) in idle.items():
        joules += sum(net_energy(block, domain, watts) for block in group)
        if metric.name == "energy_above_idle_per_query":
            joules -= watts * sum(block.busy_s for block in group)
    return joules


def _amount_of(run: Run, metric: Metric) -> Callable[[Sequence[Block]], float] | Missing:
    """What the energy of blocks is divided by: their seconds, queries, or the tokens that a server generated in them."""
    if metric.name == "average_power":
        return busy_s_in
    if metric.per != "token":
        return queries_in
    tokens = Missing(NO_USAGE) if run.serving is not None and run.serving.by_events else tokens_of_server(run)
    return tokens if isinstance(tokens, Missing) else lambda group: sum(tokens[block.set_index] for block in group)


def _widened(
    metric: Metric,
    value: float,
    low: float | None,
    high: float | None,
    extra: float,
    sources: Sequence[Source],
    *,
    n: int,
    aim: Aim,
    note: str = "",
) -> Estimate:
    """The estimate with ``extra`` (an independent half-width, SI) joined to its interval in quadrature."""
    if low is not None and high is not None:
        half = math.hypot((high - low) / 2, extra)
        low, high = value - half, value + half
    methods: list[Method] = [source.method for source in sources]
    weakest = next((method for method in ("modelled", "integrated", "counter") if method in methods), None)
    domain = "+".join(source.domain for source in sources)
    systematic = max(source.systematic for source in sources)
    return Estimate(value, low, high, metric.dimension, n, aim.confidence, domain, weakest, systematic, note)


def _window_energy(run: Run, metric: Metric, sources: Sequence[Source], idle: Mapping[str, tuple[float, float]], aim: Aim) -> Outcome:
    """One block: its interval is what the ticks leave open, the rise above idle power over half a tick at either end."""
    (block,) = run.blocks
    tick = max(source.tick_s for source in sources)
    amount = busy_s_in(run.blocks) if metric.name == "average_power" else queries_in(run.blocks)
    value = _joules(metric, run.blocks, idle) / amount
    if block.busy_s < MIN_WINDOW_TICKS * tick:
        need = show(MIN_WINDOW_TICKS * tick, METRICS["latency_p50"].dimension)
        coarse = _widened(metric, value, None, None, 0.0, sources, n=1, aim=aim, note=ONE_WINDOW)
        why = f"the window lasted {block.busy_s:.3g} s; with this meter's ticks it must last {need}"
        return Missing(why, unclear=True, coarse=above_zero(coarse, float) if block.busy_s >= tick and not metric.signed else None)
    half = 0.0
    for source in sources:
        power = net_energy(block, source.domain, idle[source.domain][0]) / max(block.busy_s, 1e-9)
        half += abs(power - idle[source.domain][0]) * source.tick_s + source.step_j
    half /= amount
    found = _widened(metric, value, value - half, value + half, 0.0, sources, n=1, aim=aim, note=ONE_WINDOW)
    return found if metric.signed else above_zero(found, lambda: positive_low([value], (1 - aim.confidence) / 2))
