"""From a raw run to estimates: every figure with its interval, or the reason why there is none.

The unit of replication for energy is a complete *set* of blocks: within a set the blocks' phases are stratified, so they
are not independent. With five sets or more their own spread gives the interval; with fewer, a model of the phase does
(phase.py), and never less than the spread of the sets that are there.
"""

from __future__ import annotations

import itertools
import math
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist

from pytest_greencompute.distributions import binomial_interval, order_statistic_ranks, student_t_quantile
from pytest_greencompute.footprint import Footprint
from pytest_greencompute.metrics import METRICS, Metric
from pytest_greencompute.phase import PHASES, errors, half_width, weights
from pytest_greencompute.samples import ANSWER_DIGITS, WHOLES, Block, Method, Run, Source, beside_others, sets_of
from pytest_greencompute.sequential import share
from pytest_greencompute.units import SHARES, Dimension, Quantity, money, show, show_interval, show_share

MIN_SETS = 5
BATCHES = 10
MIN_WINDOW_TICKS = 10
UNLIKELY = 2.0  # standard errors of the noise, by which sets differ in one of twenty cases
ONE_WINDOW = "one window, read once: a sensor that looks part of the time may have missed some of it"
_ASKED_AGAIN = "in a batch, a query that is asked again cannot be told from another one; batch_size=1 makes it exact"
_NO_USAGE = "the server did not say how many tokens its answers have, and an event of a stream may bring several: let it send usage"
_RESAMPLES = 4000  # 20 of them beyond a bound that holds at 99.5 %
_DRAWS_AT_ONCE = 1_000_000
_RESAMPLING_SEED = 20_000
_OF_ZEROS = 0.1  # of the error, where a sample of a positive quantity is zero
_NOT_SET = {
    "carbon": 'no carbon intensity is set: write country = "FRA" or carbon_intensity = "56 g/kWh" in the settings',
    "money": 'no price is set: write electricity_price = "0.25 EUR/kWh" in the settings',
}
FAR = 1000.0  # no sample of a positive quantity is taken to be so many times what it is a sample of
FINEST = 1e-4  # time stamps and the quanta of power fields resolve nothing finer, however well the blocks agree


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Estimate(Quantity):
    """A figure with its interval, in SI units.

    ``low`` and ``high`` bound it at ``confidence``; None on a side that the data cannot bound. ``n`` independent samples.
    ``systematic`` is the sensor's relative error that no repetition removes, kept apart from the interval. ``note`` says
    what a reader should know of it. ``extremes``: the smallest and the largest sample of a positive quantity that has an open side.
    """

    value: float
    low: float | None
    high: float | None
    dimension: Dimension
    n: int
    confidence: float
    domain: str = ""
    method: Method | None = None
    systematic: float = 0.0
    note: str = ""
    extremes: tuple[float, float] | None = None

    def __repr__(self) -> str:
        where = f" on {self.domain}" if self.domain else ""
        return f"<{show_interval(self.value, self.low, self.high, self.dimension)}{where}>"

    def __str__(self) -> str:
        half = self.half_width
        if half is not None and self.dimension in SHARES:  # the interval of a share is lopsided: 1 of 20 is no 0.05 ±324 %
            return show_interval(self.value, self.low, self.high, self.dimension, 3)
        sure = f" ±{show_share(half / abs(self.value))}" if half is not None and self.value else ""
        return f"{show(self.value, self.dimension)}{sure}{' modelled' if self.method == 'modelled' else ''}"

    @property
    def half_width(self) -> float | None:
        """The larger distance from the figure to an end of its interval; None where a side is open."""
        if self.low is None or self.high is None:
            return None
        return max(self.high - self.value, self.value - self.low)

    @property
    def relative(self) -> float:
        """Half-width over value: how precise the figure is (0.01: 1 %). Infinite where a side is open."""
        half = self.half_width
        return math.inf if half is None or self.value == 0 else half / abs(self.value)


@dataclass(frozen=True, slots=True)
class Missing:
    """Why there is no figure. ``unclear`` is True where there is one that is too coarse to judge (a short window).

    ``coarse`` is that figure, where it is good enough to be told from a limit a thousand times below.
    """

    reason: str
    unclear: bool = False
    coarse: Estimate | None = None


Outcome = Estimate | Missing


def with_systematic(estimate: Estimate) -> Estimate:
    """The estimate with the sensor's systematic share joined to its interval, as an error independent of it."""
    share_of_it = estimate.systematic * abs(estimate.value)

    def side(end: float | None, sign: int) -> float | None:
        if end is None:
            return None
        joined = estimate.value + sign * math.hypot(abs(end - estimate.value), share_of_it)
        return max(joined, end * (1 - estimate.systematic)) if sign < 0 < end else joined  # a share of it leaves a positive end positive

    return replace(estimate, low=side(estimate.low, -1), high=side(estimate.high, +1))


def scaled(estimate: Estimate, factor: float, dimension: Dimension | None = None) -> Estimate:
    """The estimate times a number that is known exactly and is greater than zero."""
    low, high = (None if end is None else end * factor for end in (estimate.low, estimate.high))
    seen = None if estimate.extremes is None else (estimate.extremes[0] * factor, estimate.extremes[1] * factor)
    return replace(estimate, value=estimate.value * factor, low=low, high=high, extremes=seen, dimension=dimension or estimate.dimension)


@dataclass(frozen=True, slots=True)
class Aim:
    """What is asked of a run: how sure, and which domains energy counts ("auto", "gpu", "cpu", "dram", "all", or several).

    ``footprint`` says what a joule emits and costs.
    """

    confidence: float = 0.99
    domains: tuple[str, ...] = ("auto",)
    footprint: Footprint = field(default_factory=Footprint)


def judged_sources(run: Run, aim: Aim) -> tuple[Source, ...] | Missing:
    """The sources whose energy counts: GPUs wherever one is metered, unless ``domains`` says otherwise; idle GPUs left out."""
    kinds = {source: source.domain.partition(":")[0] for source in run.sources}
    wanted = set(aim.domains)
    if "all" in wanted:
        chosen = list(run.sources)
    elif wanted == {"auto"}:
        chosen = [source for source in run.sources if kinds[source] == "gpu"] or list(run.sources)
    else:
        absent = sorted(want for want in wanted if not any(want in (kinds[source], source.domain) for source in run.sources))
        if absent:
            here = ", ".join(source.domain for source in run.sources) or "nothing"
            return Missing(f"no meter reads {' or '.join(absent)} here (metered: {here})")
        chosen = [source for source in run.sources if kinds[source] in wanted or source.domain in wanted]
    if not chosen:
        return Missing("no energy meter works here; `greencompute doctor` says why")
    return _working(run, chosen)


def judges_processor(run: Run, aim: Aim) -> bool:
    """Whether the processor is part of what is judged; without a figure of energy it is what latency depends on."""
    sources = judged_sources(run, aim)
    return isinstance(sources, Missing) or any(not source.domain.startswith("gpu") for source in sources)


def _working(run: Run, chosen: Sequence[Source]) -> tuple[Source, ...] | Missing:
    working = tuple(source for source in chosen if not (_shows_work(source.domain) and stood_idle(run, source)))
    if working:
        return working
    names = ", ".join(source.domain for source in chosen)
    return Missing(f"{names} drew no more than idle power while the queries ran: {_idle_because(chosen)}")


def _shows_work(domain: str) -> bool:
    """Whether a model that runs in this domain draws more than idle power for certain, unless the sensor is stuck."""
    return domain.startswith("gpu") or domain in WHOLES


def _idle_because(chosen: Sequence[Source]) -> str:
    whole = any(source.domain in WHOLES for source in chosen)
    return "the queries wait for something elsewhere, or its sensor is stuck" if whole else "the model did not run there"


def idle_watts(run: Run, domain: str) -> tuple[float, float]:
    """Idle power of a domain in watts and its standard error, from the readings between blocks; (0, 0) if there are none.

    A domain without idle readings is one that is read without gaps, so nothing is subtracted for it.
    """
    readings = [idle for idle in run.idles if idle.domain == domain]
    if not readings:
        return 0.0, 0.0
    watts = sum(idle.energy_j for idle in readings) / sum(idle.seconds for idle in readings)
    spread = statistics.stdev(idle.watts for idle in readings) if len(readings) > 1 else 0.02 * watts
    return watts, spread / math.sqrt(len(readings))


def stood_idle(run: Run, source: Source) -> bool:
    """Whether a domain's power in the blocks did not rise above its idle power (by 2 %, or three standard errors)."""
    watts, error = idle_watts(run, source.domain)
    blocks = run.blocks
    busy = sum(block.busy_s for block in blocks)
    if watts == 0 or busy == 0:
        return False
    power = sum(net_energy(block, source.domain, watts) for block in blocks) / busy
    return power - watts <= max(0.02 * watts, 3 * error)


def net_energy(block: Block, domain: str, idle_w: float) -> float:
    """Energy of the block's work in joules: between its ticks, less idle power for the time that was not busy."""
    span = block.spans[domain]
    return span.energy_j - idle_w * (span.seconds - block.busy_s)


def _spoiled(run: Run) -> str:
    """Why the marks of the blocks leave no energy figure; empty if they leave one."""
    marked = [block for block in run.blocks if block.marks]
    if foreign := beside_others(marked):
        return f"another process used the GPU during {foreign} of {len(run.blocks)} blocks"
    if len(marked) * 2 > len(run.blocks):
        seen = sorted({mark for block in marked for mark in block.marks})
        return f"{len(marked)} of {len(run.blocks)} blocks were spoiled ({', '.join(seen)})"
    return ""


def _confidence(run: Run, aim: Aim) -> float:
    """The confidence of one look, so that all planned looks together err with probability 1 - aim.confidence (Bonferroni)."""
    return 1 - share(1 - aim.confidence, run.looks)


def mean_interval(values: Sequence[float], confidence: float) -> tuple[float, float | None, float | None]:
    """Mean of independent values with Student's t interval; a single value has no interval."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, None, None
    half = student_t_quantile((1 + confidence) / 2, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def positive_low(samples: Sequence[float], chance: float, *, alike: float = 1.0, base: Sequence[float] = ()) -> float:
    """A bound that lies above the mean of independent positive values with probability at most ``chance``, whatever their distribution.

    The product of values over their means is 1 on average, so it exceeds 1 / chance at most that often (Markov's inequality). That holds
    where the means differ too, since their geometric mean is below their mean. No lower than a ``FAR``-th of the smallest value, so that
    what is that far beyond a limit in every sample fails however few they are; 0 where a value is negative. ``alike``: how many
    neighbours tell no more than one value. ``base``: the values themselves, where ``samples`` are lower bounds of them.
    """
    if min(samples) < 0:
        return 0.0
    if min(samples) == 0:  # the product says nothing; the mean over the true mean is 1 on average, too, and gets a tenth of the error
        return chance * _OF_ZEROS * math.fsum(samples) / len(samples)
    middle = math.fsum(map(math.log, samples)) / len(samples)
    return max(math.exp(middle + math.log(chance) * alike / len(samples)), min(base or samples) / FAR)


def bootstrap_low(values: Sequence[float], chance: float) -> float:
    """A bound that lies above the true mean of independent ``values`` with probability about ``chance``, whatever their distribution.

    By the studentised bootstrap (Efron and Tibshirani 1993, chapter 12), from a fixed seed, so that the same values give the same
    bound. Minus infinity where they are too few or too coarse for one. At least one value.
    """
    import numpy as np

    data = np.asarray(values, dtype=float)
    n, mean = len(data), float(data.mean())
    error = float(data.std(ddof=1)) / math.sqrt(n) if n > 1 else math.inf
    if error <= sys.float_info.epsilon * abs(mean):
        return mean
    rng = np.random.default_rng(_RESAMPLING_SEED)
    rows = max(1, _DRAWS_AT_ONCE // n)
    shifts: list[float] = []
    while len(shifts) < _RESAMPLES and n > 1:
        drawn = data[rng.integers(0, n, size=(min(rows, _RESAMPLES - len(shifts)), n))]
        spreads = drawn.std(axis=1, ddof=1) / math.sqrt(n)
        apart = drawn.mean(axis=1) - mean
        flat = spreads <= sys.float_info.epsilon * abs(mean)
        shifts += np.where(flat, np.copysign(np.inf, apart), apart / np.where(flat, 1.0, spreads)).tolist()
    shifts.sort()
    worst = shifts[math.ceil((1 - chance) * len(shifts)) - 1] if shifts else math.inf
    return mean - worst * error if math.isfinite(worst) else -math.inf


def interval_over_sets(
    blocks: Sequence[Block], value: Callable[[Sequence[Block]], float], confidence: float
) -> tuple[float, float | None, float | None, int]:
    """Mean, interval and number of samples of a figure, given how to compute it for a group of blocks."""
    groups = [sorted(group, key=lambda block: block.phase) for group in sets_of(blocks)]
    samples = [_over_phases(group, value) for group in groups]
    mean, low, high = mean_interval(samples, confidence)
    if len(groups) >= MIN_SETS or any(len(group) != PHASES for group in groups):
        return mean, low, high, len(samples)
    in_order = [[value((block,)) for block in group] for group in groups]
    half = half_width(in_order, confidence)
    if low is not None and high is not None and statistics.stdev(samples) > UNLIKELY * errors(in_order).noise + errors(in_order).aliased:
        half = max(half, (high - low) / 2)  # the sets differ by more than noise and phase explain: only their own spread is honest
    return mean, mean - half, mean + half, len(samples)


def _over_phases(group: Sequence[Block], value: Callable[[Sequence[Block]], float]) -> float:
    """A set's figure: its blocks weighed by the share of the tick that each stands for; other sets are summed."""
    if len(group) != PHASES:
        return value(group)
    shares = weights([block.phase for block in group])
    return sum(share * value((block,)) for share, block in zip(shares, group, strict=True))


def _scaled(run: Run, metric: Metric, aim: Aim) -> Outcome:
    """Energy per query, divided by its tokens or turned into what it emits and costs."""
    factor = _factor(run, metric, aim)
    if isinstance(factor, Missing):
        return factor
    energy = _energy(run, METRICS["energy_per_query"], aim)
    dimension = money(aim.footprint.currency) if metric.per == "money" else metric.dimension
    if isinstance(energy, Missing):
        return energy if energy.coarse is None else replace(energy, coarse=scaled(energy.coarse, factor, dimension))
    return scaled(energy, factor, dimension)


def _factor(run: Run, metric: Metric, aim: Aim) -> float | Missing:
    if metric.per == "token":
        tokens = _tokens(run, METRICS["tokens_per_query"], aim)
        if isinstance(tokens, Missing):
            return tokens
        return 1 / tokens.value if tokens.value else Missing("the model generated no token")
    found = aim.footprint.carbon if metric.per == "carbon" else aim.footprint.money
    why = aim.footprint.why_no_carbon.rstrip(".") if metric.per == "carbon" else ""
    return Missing(why or _NOT_SET[metric.per]) if found is None else found


def _energy(run: Run, metric: Metric, aim: Aim) -> Outcome:
    if metric.per and not (metric.per == "token" and run.serving is not None):
        return _scaled(run, metric, aim)
    problem = run.problem or _spoiled(run)
    if problem:
        return Missing(problem)
    sources = judged_sources(run, aim)
    if isinstance(sources, Missing):
        return sources
    blocks = run.blocks
    if not blocks:
        return Missing("no block was measured")
    idle = {source.domain: idle_watts(run, source.domain) for source in sources}
    if run.window:
        return _window_energy(run, metric, sources, idle, aim)
    return _energy_over(run, metric, sources, idle, aim)


def _energy_over(run: Run, metric: Metric, sources: Sequence[Source], idle: Mapping[str, tuple[float, float]], aim: Aim) -> Outcome:
    blocks, amount_of = run.blocks, _amount_of(run, metric)
    if isinstance(amount_of, Missing):
        return amount_of

    def joules_of(group: Sequence[Block]) -> float:
        return _joules(metric, group, idle)

    value, low, high, n = _over_run(run, joules_of, amount_of, _confidence(run, aim))
    amount = amount_of(blocks)
    extra = _idle_error(metric, blocks, idle, _confidence(run, aim)) / amount
    extra += sum(source.step_j for source in sources) * len(blocks) / amount
    extra += _stamping(blocks, sources) / amount + FINEST * abs(value)
    found = _widened(metric, value, low, high, extra, sources, n=n, aim=aim)
    return found if metric.signed else _above_zero(found, lambda: _least(run, joules_of, amount_of, _confidence(run, aim)))


def _over_run(
    run: Run, above: Callable[[Sequence[Block]], float], below: Callable[[Sequence[Block]], float], confidence: float
) -> tuple[float, float | None, float | None, int]:
    """The ratio of two sums over blocks, with its interval and number of samples: over sets, or over the stretches of a server's load."""
    if run.serving is not None:
        return ratio_interval([above((block,)) for block in run.blocks], [below((block,)) for block in run.blocks], confidence)
    return interval_over_sets(run.blocks, lambda group: above(group) / below(group), confidence)


def _above_zero(found: Estimate, least: Callable[[], float]) -> Estimate:
    """The estimate of a positive quantity, its low end no lower than ``least()``. That is not worked out where it could change nothing."""
    if found.low is None:
        return replace(found, extremes=(found.value, found.value)) if found.n == 1 and found.value > 0 else found
    most = found.value * max(((1 - found.confidence) / 2) ** (1 / found.n), 1 / FAR)  # least() is that or less: looks only lower it
    return found if found.low >= most else replace(found, low=max(found.low, least()))


def _least(run: Run, above: Callable[[Sequence[Block]], float], below: Callable[[Sequence[Block]], float], confidence: float) -> float:
    """The least that the ratio of two positive sums over blocks may be, whatever the distribution of its samples."""
    chance = (1 - confidence) / 2
    if any(above((block,)) < 0 for block in run.blocks):
        return 0.0
    if run.serving is None:
        return positive_low([_over_phases(group, lambda part: above(part) / below(part)) for group in sets_of(run.blocks)], chance)
    batches = _batches([above((block,)) for block in run.blocks], [below((block,)) for block in run.blocks])
    most = max(lower for _, lower in batches)
    return positive_low(
        [upper / most for upper, _ in batches],
        chance,
        alike=_alike(batches) ** 2,
        base=[upper / lower for upper, lower in batches if lower],
    )


def _batches(above: Sequence[float], below: Sequence[float]) -> list[tuple[float, float]]:
    """Two series over stretches of time as sums over ``BATCHES`` batches of it, or as they are where they are few."""
    count = len(above) if len(above) < 2 * BATCHES else BATCHES
    ends = [round(len(above) * part / count) for part in range(count + 1)]
    return [(math.fsum(above[a:b]), math.fsum(below[a:b])) for a, b in itertools.pairwise(ends)]


def _residuals(batches: Sequence[tuple[float, float]]) -> list[float]:
    """How far each batch is from the common ratio; their sum is zero."""
    value = math.fsum(upper for upper, _ in batches) / math.fsum(lower for _, lower in batches)
    return [upper - value * lower for upper, lower in batches]


def _alike(batches: Sequence[tuple[float, float]]) -> float:
    """By how much an interval is wider for what still drifts from batch to batch."""
    residuals = _residuals(batches)
    squares = math.fsum(each * each for each in residuals)
    alike = math.fsum(a * b for a, b in itertools.pairwise(residuals)) / squares if squares else 0.0
    return math.sqrt((1 + alike) / (1 - alike)) if alike > 0 else 1.0


def ratio_interval(above: Sequence[float], below: Sequence[float], confidence: float) -> tuple[float, float | None, float | None, int]:
    """The ratio of the sums of two series over stretches of time, its interval, and how many samples that rests on.

    Neighbouring stretches are not independent, so from ``2 * BATCHES`` on they are put together into ``BATCHES`` batches of time (the
    method of batch means: Law, Simulation Modeling and Analysis, 9.5.3), and where these are still alike from one to the next, the interval
    is widened as for a process with that correlation. It is Student's t over the batches' residuals from the common ratio (Cochran,
    Sampling Techniques, 6.3). A single stretch has none. The sum of ``below`` must not be zero.
    """
    value, batches = math.fsum(above) / math.fsum(below), _batches(above, below)
    count = len(batches)
    if count < 2:
        return value, None, None, count
    squares = math.fsum(each * each for each in _residuals(batches))
    error = _alike(batches) * math.sqrt(squares / (count - 1) * count) / math.fsum(below)
    half = student_t_quantile((1 + confidence) / 2, count - 1) * error
    return value, value - half, value + half, count


def _idle_error(metric: Metric, blocks: Sequence[Block], idle: Mapping[str, tuple[float, float]], confidence: float) -> float:
    """Half-width, in joules, that the uncertainty of idle power leaves: over the gaps, or over all of the time above idle."""
    whole = metric.name == "energy_above_idle_per_query"
    joules = 0.0
    for domain, (_, error) in idle.items():
        joules += error * sum(block.spans[domain].seconds - (0.0 if whole else block.busy_s) for block in blocks)
    return NormalDist().inv_cdf((1 + confidence) / 2) * joules


def _stamping(blocks: Sequence[Block], sources: Sequence[Source]) -> float:
    """Energy, in joules, that the jitter of the ticks leaves open: at either end of each block, independent of one another."""
    open_j = 0.0
    for source in sources:
        spans = [block.spans[source.domain] for block in blocks]
        watts = sum(span.energy_j for span in spans) / max(sum(span.seconds for span in spans), 1e-9)
        open_j += watts * source.jitter_s * math.sqrt(2 * len(blocks))
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
        return _busy_s
    if metric.per != "token":
        return _queries
    tokens = Missing(_NO_USAGE) if run.serving is not None and run.serving.by_events else _tokens_of_server(run)
    return tokens if isinstance(tokens, Missing) else lambda group: sum(tokens[block.set_index] for block in group)


def _busy_s(group: Sequence[Block]) -> float:
    return max(sum(block.busy_s for block in group), 1e-9)


def _queries(group: Sequence[Block]) -> float:
    return sum(block.queries for block in group)


def _tokens_of_server(run: Run) -> Mapping[int, float] | Missing:
    """Tokens of each stretch by its number, or why there are none."""
    if run.serving is None or run.serving.tokens is None:
        return Missing("the server did not say how many tokens it generated")
    if not sum(run.serving.tokens):
        return Missing("the server generated no token")
    return {block.set_index: tokens for block, tokens in zip(run.blocks, run.serving.tokens, strict=True)}


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
    amount = _busy_s(run.blocks) if metric.name == "average_power" else _queries(run.blocks)
    value = _joules(metric, run.blocks, idle) / amount
    if block.busy_s < MIN_WINDOW_TICKS * tick:
        need = show(MIN_WINDOW_TICKS * tick, METRICS["latency_p50"].dimension)
        coarse = _widened(metric, value, None, None, 0.0, sources, n=1, aim=aim, note=ONE_WINDOW)
        why = f"the window lasted {block.busy_s:.3g} s; with this meter's ticks it must last {need}"
        return Missing(why, unclear=True, coarse=_above_zero(coarse, float) if block.busy_s >= tick and not metric.signed else None)
    half = 0.0
    for source in sources:
        power = net_energy(block, source.domain, idle[source.domain][0]) / max(block.busy_s, 1e-9)
        half += abs(power - idle[source.domain][0]) * source.tick_s + source.step_j
    half /= amount
    found = _widened(metric, value, value - half, value + half, 0.0, sources, n=1, aim=aim, note=ONE_WINDOW)
    return found if metric.signed else _above_zero(found, lambda: positive_low([value], (1 - aim.confidence) / 2))


def _latency(run: Run, metric: Metric, aim: Aim) -> Outcome:
    """A percentile over batches: a query's latency is that of its batch, so batches are the independent samples."""
    if not run.latencies:
        return Missing("no latency was measured" if not run.window else "a window has no latency per query; use measure()")
    what = "batches" if run.serving is None else "requests"
    return _percentile([latency.seconds for latency in run.latencies], metric, aim, what)


def _percentile(seconds: Sequence[float], metric: Metric, aim: Aim, what: str) -> Estimate:
    """A percentile of independent values by order statistics; where they are too few, one side is open."""
    ordered = sorted(seconds)
    fraction = metric.fraction or 0.0
    value = ordered[max(math.ceil(len(ordered) * fraction), 1) - 1]
    low, high = order_statistic_ranks(len(ordered), fraction, aim.confidence)
    note = "" if low and high else f"{len(ordered)} {what} bound only one side; more queries or --energy-max-seconds bound both"
    return Estimate(
        value,
        ordered[low - 1] if low else None,
        ordered[high - 1] if high else None,
        metric.dimension,
        len(ordered),
        aim.confidence,
        note=note,
        extremes=(ordered[0], ordered[-1]) if note else None,
    )


def _streamed(run: Run, metric: Metric, aim: Aim) -> Outcome:
    """A percentile of the times to the first token, or from one to the next, of what a server streamed."""
    if run.serving is None:
        return Missing("only serve_load() sees when tokens arrive")
    seconds = run.serving.first_tokens if metric.kind == "first token" else run.serving.token_gaps
    if not seconds and run.serving.by_events and metric.kind == "token gap":
        return Missing(_NO_USAGE)
    if not seconds:
        return Missing("no token was streamed" if run.serving.answered else "no request was answered")
    return _percentile(seconds, metric, aim, "requests" if metric.kind == "first token" else "tokens")


def _errors(run: Run, metric: Metric, aim: Aim) -> Outcome:
    """The share of the requests that failed, with its binomial interval. What is judged is the figure: failures come in bursts."""
    if run.serving is None:
        return Missing("only serve_load() counts failed requests")
    failed = sum(run.serving.failed.values())
    n = failed + run.serving.answered
    if not n:
        return Missing("no request ended while it was measured")
    low, high = binomial_interval(failed, n, aim.confidence)
    return Estimate(failed / n, low, high, metric.dimension, n, aim.confidence)


def _throughput(run: Run, metric: Metric, aim: Aim) -> Outcome:
    blocks = run.blocks
    if not blocks:
        return Missing(run.problem or "no block was measured")
    value, low, high, n = _over_run(run, _queries, _busy_s, _confidence(run, aim))
    found = Estimate(value, low, high, metric.dimension, n, aim.confidence)
    found = _above_zero(found, lambda: _least(run, _queries, _busy_s, _confidence(run, aim)))
    if high is None:
        return found
    time = Estimate(1 / value, 1 / high, None, metric.dimension, n, aim.confidence)  # of a query, which is positive too
    least = _above_zero(time, lambda: _least(run, _busy_s, _queries, _confidence(run, aim))).low or 0.0
    return replace(found, high=1 / least) if least > 1 / high else found


def _score(run: Run, metric: Metric, aim: Aim) -> Outcome:
    """Mean score of the fixed queries; exact binomial interval where every score is 0 or 1, Student's t otherwise."""
    if not run.scores:
        return Missing("no references were given to measure(), so there is no accuracy")
    n = len(run.scores)
    value = statistics.fmean(run.scores)
    if all(score in (0.0, 1.0) for score in run.scores):
        low, high = binomial_interval(round(sum(run.scores)), n, aim.confidence)
        return Estimate(value, low, high, metric.dimension, n, aim.confidence)
    _, t_low, t_high = mean_interval(run.scores, aim.confidence)
    return Estimate(value, t_low, t_high, metric.dimension, n, aim.confidence)


def _tokens(run: Run, metric: Metric, aim: Aim) -> Outcome:
    """Mean of the tokens that were counted in each answer; where answers were not counted, those of the watched models.

    Of reasoning the larger of the two: an application may show its answers without it.
    """
    whole = metric.name == "tokens_per_query"
    if run.serving is not None and whole:
        return _tokens_served(run, metric, aim)
    in_answers, watched = _tokens_of_answers(run, metric, aim), _tokens_of_watched(run, metric, aim)
    if in_answers is None or watched is None:
        found = watched if in_answers is None else in_answers
        if found is not None:
            return found
        if not whole and run.tokens:
            return Missing("reasoning cannot be told from ids: pass the tokenizer, tokens=tokenizer, to measure()")
        what = "tokens" if whole else "reasoning tokens"
        return Missing(f"no {what} were counted: pass tokens= to measure() or to watch()")
    return in_answers if whole or in_answers.value >= watched.value else watched


def _tokens_served(run: Run, metric: Metric, aim: Aim) -> Outcome:
    tokens = _tokens_of_server(run)
    if isinstance(tokens, Missing):
        return tokens
    value, low, high, n = _over_run(run, lambda group: sum(tokens[each.set_index] for each in group), _queries, _confidence(run, aim))
    if run.serving is not None and run.serving.by_events:
        return Estimate(value, value, None, metric.dimension, n, aim.confidence, note=_NO_USAGE)
    return Estimate(value, None if low is None else max(0.0, low), high, metric.dimension, n, aim.confidence)


def _tokens_of_answers(run: Run, metric: Metric, aim: Aim) -> Estimate | None:
    counted = run.tokens if metric.name == "tokens_per_query" else run.reasoning
    if not counted:
        return None
    if run.window:  # all that was generated in it, as one number
        return Estimate(sum(counted) / run.queries, None, None, metric.dimension, 1, aim.confidence)
    mean, low, high = mean_interval(counted, aim.confidence)
    return Estimate(mean, None if low is None else max(0.0, low), high, metric.dimension, len(counted), aim.confidence)


def _tokens_of_watched(run: Run, metric: Metric, aim: Aim) -> Estimate | None:
    if run.watching is None:
        return None
    counted = [each.tokens if metric.name == "tokens_per_query" else each.reasoning for each in run.watching.models]
    seen = [each for each in counted if each is not None]
    if len(seen) < len(counted):
        return None
    return Estimate(sum(seen) / run.watching.queries, None, None, metric.dimension, run.watching.queries, aim.confidence)


def _calls(run: Run, metric: Metric, aim: Aim) -> Outcome:
    """Calls of watched models, or the share of queries that reached one, with its exact binomial interval."""
    watching = run.watching
    if watching is None:
        return Missing("no model is watched: call energy_meter.watch(model) in the test and use what it returns")
    if metric.name == "generative_share":
        share = watching.reached / watching.queries
        if watching.bound:
            return Estimate(share, None, share, metric.dimension, watching.queries, aim.confidence, note=_ASKED_AGAIN)
        low, high = binomial_interval(watching.reached, watching.queries, aim.confidence)
        return Estimate(share, low, high, metric.dimension, watching.queries, aim.confidence)
    calls = sum(each.calls for each in watching.models)
    return Estimate(calls / watching.queries, None, None, metric.dimension, watching.queries, aim.confidence)


def _compute(run: Run, metric: Metric, aim: Aim) -> Outcome:
    """What was counted in a pass of its own; of a figure that is only a bound, the other side is open."""
    count = run.counts.get(metric.name)
    if count is None and run.serving is not None:
        return Missing("what a server computes and holds is not counted")
    if count is None and run.window:
        return Missing("a window has no queries that could be counted over; use measure()")
    if count is None:
        return Missing(f"it was not counted: a budget on {metric.name}, or count=[{metric.name!r}] of measure(), asks for it")
    if count.value is None:
        return Missing(count.note)
    low, high = (count.value if count.bound == side else None for side in ("least", "most"))
    return Estimate(count.value, low, high, metric.dimension, max(1, count.queries), aim.confidence, note=count.note)


def _rating(run: Run, _metric: Metric, aim: Aim) -> Outcome:
    from pytest_greencompute.rated import stars_of

    return stars_of(run, aim)


def changed_answers(before: str, now: str, metric: Metric, confidence: float) -> Outcome:
    """The share of answers that differ, by their digests (``Run.answers``), with its exact binomial interval."""
    if not before or not now:
        return Missing("the answers were not kept, or they cannot be told apart")
    if len(before) != len(now):
        return Missing(f"there are answers to {len(before) // ANSWER_DIGITS} queries there and to {len(now) // ANSWER_DIGITS} here")
    n = len(now) // ANSWER_DIGITS
    places = range(0, len(now), ANSWER_DIGITS)
    count = sum(before[place : place + ANSWER_DIGITS] != now[place : place + ANSWER_DIGITS] for place in places)
    low, high = binomial_interval(count, n, confidence)
    return Estimate(count / n, low, high, metric.dimension, n, confidence)


_BY_KIND: Mapping[str, Callable[[Run, Metric, Aim], Outcome]] = {
    "energy": _energy,
    "latency": _latency,
    "rate": _throughput,
    "score": _score,
    "tokens": _tokens,
    "calls": _calls,
    "compute": _compute,
    "rating": _rating,
    "first token": _streamed,
    "token gap": _streamed,
    "errors": _errors,
    "answers": lambda *_: Missing("there are no other answers to compare with; --energy-base-ref or --energy-baseline brings some"),
}


def estimate(run: Run, metric: Metric, aim: Aim) -> Outcome:
    """The estimate of one metric of a run, or why there is none."""
    if metric.needs_meter and not run.metered:
        return Missing("not measured: run pytest with --energy-budget")
    return _BY_KIND[metric.kind](run, metric, aim)


def estimates(run: Run, aim: Aim) -> dict[str, Outcome]:
    """Every metric of the run by name."""
    return {name: estimate(run, metric, aim) for name, metric in METRICS.items()}


def of_set(run: Run, metric: Metric, index: int, aim: Aim) -> float | None:
    """A metric of one complete set, summed over its blocks; None where the set was lost or spoiled."""
    blocks = tuple(block for block in run.blocks if block.set_index == index)
    found = estimate(replace(run, blocks=blocks, looks=1), metric, aim) if blocks else None
    return found.value if isinstance(found, Estimate) else None
