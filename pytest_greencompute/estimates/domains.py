"""Which domains' energy counts in a run, their idle power, and what of a block is its work."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from pytest_greencompute.estimates.estimate import Aim, Missing
from pytest_greencompute.values.readings import STILL_S, WHOLES, Block, Source, beside_others, names_of
from pytest_greencompute.values.run import Run


def judged_sources(run: Run, aim: Aim) -> tuple[Source, ...] | Missing:
    """The sources whose energy counts: GPUs wherever one is metered, unless ``domains`` says otherwise; idle GPUs left out."""
    names = {source: names_of(source.domain) for source in run.sources}
    wanted = set(aim.domains)
    if "all" in wanted:
        chosen = list(run.sources)
    elif wanted == {"auto"}:
        chosen = [source for source in run.sources if "gpu" in names[source]] or list(run.sources)
    else:
        absent = sorted(want for want in wanted if not any(want in each for each in names.values()))
        if absent:
            here = ", ".join(source.domain for source in run.sources) or "nothing"
            return Missing(f"no meter reads {' or '.join(absent)} here (metered: {here})")
        chosen = [source for source in run.sources if wanted.intersection(names[source])]
    if not chosen:
        return Missing("no energy meter works here; `greencompute doctor` says why")
    return _working(run, chosen)


def judges_processor(run: Run, aim: Aim) -> bool:
    """Whether the processor is part of what is judged; without a figure of energy it is what latency depends on."""
    sources = judged_sources(run, aim)
    return isinstance(sources, Missing) or any(not source.domain.startswith("gpu") for source in sources)


def _working(run: Run, chosen: Sequence[Source]) -> tuple[Source, ...] | Missing:
    if still := [source.domain for source in chosen if _stood_still(run, source)]:
        return Missing(f"the counter of {', '.join(still)} stood still while the queries ran: 0 J, which nothing that is switched on uses")
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
    seconds = sum(idle.seconds for idle in readings)
    watts = sum(idle.energy_j for idle in readings) / seconds
    if len(readings) > 1:
        return watts, statistics.stdev(idle.watts for idle in readings) / math.sqrt(len(readings))
    jitter_s = max((source.jitter_s for source in run.sources if source.domain == domain), default=0.0)
    return watts, max(0.02, jitter_s / seconds) * watts


def stood_idle(run: Run, source: Source) -> bool:
    """Whether a domain's power in the blocks did not rise above its idle power (by 2 %, or three standard errors)."""
    watts, error = idle_watts(run, source.domain)
    blocks = run.blocks
    busy = sum(block.busy_s for block in blocks)
    if watts == 0 or busy == 0:
        return False
    power = sum(net_energy(block, source.domain, watts) for block in blocks) / busy
    return power - watts <= max(0.02 * watts, 3 * error)


def _stood_still(run: Run, source: Source) -> bool:
    """Whether the counter of a device has counted nothing for longer than one may; a model counts what was worked, which may be nothing."""
    spans = [block.spans[source.domain] for block in run.blocks]
    return source.method != "modelled" and not any(span.energy_j for span in spans) and sum(span.seconds for span in spans) > STILL_S


def net_energy(block: Block, domain: str, idle_w: float) -> float:
    """Energy of the block's work in joules: between its ticks, less idle power for the time that was not busy."""
    span = block.spans[domain]
    return span.energy_j - idle_w * (span.seconds - block.busy_s)


def why_spoiled(run: Run) -> str:
    """Why the marks of the blocks leave no energy figure; empty if they leave one."""
    marked = [block for block in run.blocks if block.marks]
    if foreign := beside_others(marked):
        return f"another process used the GPU during {foreign} of {len(run.blocks)} blocks"
    if len(marked) * 2 > len(run.blocks):
        seen = sorted({mark for block in marked for mark in block.marks})
        return f"{len(marked)} of {len(run.blocks)} blocks were spoiled ({', '.join(seen)})"
    return ""
