"""The energy per query of each host, where what is judged is the sum of several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pytest_greencompute.estimates.by_metric import estimate
from pytest_greencompute.estimates.domains import judged_sources
from pytest_greencompute.estimates.estimate import Aim, Missing, Outcome
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.run import Run


def energy_by_host(run: Run, aim: Aim) -> Mapping[str, Outcome]:
    """Joules per query, of all queries, that each host used, by its name; the domains of a host are those that are judged.

    Empty where no host but this one is metered, or nothing is judged.
    """
    sources = judged_sources(run, aim)
    hosts: dict[str, list[str]] = {}
    for source in () if isinstance(sources, Missing) else sources:
        device, slash, _ = source.domain.rpartition("/")
        if slash:
            hosts.setdefault(device.partition(":")[2], []).append(source.domain)
    return {host: estimate(run, METRICS["energy_per_query"], replace(aim, domains=tuple(domains))) for host, domains in hosts.items()}


def hosts_noted(run: Run, aim: Aim) -> tuple[str, ...]:
    """What each of several hosts used, as a note."""
    found = energy_by_host(run, aim)
    said = ", ".join(f"{host} {outcome}" for host, outcome in found.items())
    return (f"energy per query by host: {said}",) if len(found) > 1 else ()
