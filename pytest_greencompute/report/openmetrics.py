"""A session as OpenMetrics text, which GitLab shows in a merge request and Prometheus reads; written by ``prometheus_client``.

One family a metric, with the unit in its name, and one each for the ends of its interval and for its budget. A verdict is a state set.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_greencompute.judging.verdict import ORDER
from pytest_greencompute.report.escape import printable
from pytest_greencompute.results.result import Figure, Result
from pytest_greencompute.results.summary import Summary
from pytest_greencompute.store.files import write_atomically
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.units import ENERGY, MONEY, TIME, Dimension

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as Family

PREFIX = "greencompute"
PARTS = {"value": "", "low": "_low", "high": "_high"}
SAID = {"value": "{}", "low": "lower end of the interval: {}", "high": "upper end of the interval: {}"}


def make(summary: Summary, path: Path, _: Path) -> None:
    """Write the text of a session. Raises SettingsError."""
    write_atomically(path, write(summary))


def write(summary: Summary) -> str:
    """The text, with its end marker."""
    from prometheus_client import CollectorRegistry
    from prometheus_client.openmetrics.exposition import generate_latest
    from prometheus_client.registry import Collector

    class Once(Collector):
        def collect(self) -> Iterator[Family]:
            yield from _figures(summary)
            yield from _verdicts(summary)
            yield from _session(summary)

    registry = CollectorRegistry()
    registry.register(Once())
    text: bytes = generate_latest(registry)  # type: ignore[no-untyped-call]
    return text.decode()


def _labels(run: Result, figure: Figure | None = None) -> dict[str, str]:
    labels = {"test": run.test, "run": run.name or "", "domain": "", "method": "", **({"hardware": run.hardware} if run.hardware else {})}
    if figure is not None:
        labels |= {"domain": figure.domain, "method": figure.method}
        labels |= {"currency": figure.currency} if figure.unit == MONEY.si else {}
    return {name: printable(value) for name, value in labels.items()}


def _family(name: str, said: str, of: Dimension, samples: list[tuple[dict[str, str], float]]) -> Family:
    from prometheus_client.metrics_core import GaugeMetricFamily

    labels = list(samples[0][0])
    family = GaugeMetricFamily(f"{PREFIX}_{name}", said, labels=labels, unit=of.called.openmetrics)
    for values, value in {tuple(values.values()): value for values, value in samples}.items():  # a series has one value
        family.add_metric(list(values), value)
    return family


def _figures(summary: Summary) -> Iterator[Family]:
    for metric in METRICS.values():
        figures = [(run, run.metrics[metric.name]) for run in summary.results if metric.name in run.metrics]
        for part, ending in PARTS.items():
            ends = [(_labels(run, figure), getattr(figure, part)) for run, figure in figures]
            samples = [(labels, value) for labels, value in ends if value is not None]
            if samples:
                yield _family(f"{metric.name}{ending}", SAID[part].format(metric.label), metric.dimension, samples)
        limits = [
            (_labels(run), verdict.limit)
            for run in summary.results
            for verdict in run.verdicts
            if verdict.metric == metric.name and verdict.kind == "budget" and verdict.limit is not None
        ]
        if limits:
            yield _family(f"{metric.name}_budget", f"budget: {metric.label}", metric.dimension, limits)


def _verdicts(summary: Summary) -> Iterator[Family]:
    from prometheus_client.metrics_core import StateSetMetricFamily

    labels = ["test", "run", "metric", "kind", "against"]
    family = StateSetMetricFamily(f"{PREFIX}_verdict", "result of a budget", labels=labels)
    seen = set()
    for run in summary.results:
        for verdict in run.verdicts:
            against = "" if verdict.kind == "budget" else verdict.where
            values = tuple(map(printable, (run.test, run.name or "", verdict.metric, verdict.kind, against)))
            if values not in seen:
                seen.add(values)
                family.add_metric(list(values), {word: word == verdict.word for word in ORDER})
    if summary.total is not None:
        seen.add(("", "", "total", "budget", ""))
        family.add_metric(["", "", "total", "budget", ""], {word: word == summary.total.word for word in ORDER})
    if seen:
        yield family


def _session(summary: Summary) -> Iterator[Family]:
    from prometheus_client.metrics_core import InfoMetricFamily

    facts = summary.facts
    if facts.total_j is not None:
        yield _family("session_energy", "all that the meters saw", ENERGY, [({}, facts.total_j)])
    if summary.total is not None and summary.total.limit is not None:
        yield _family("session_energy_budget", "budget: all that the meters saw", ENERGY, [({}, summary.total.limit)])
    yield _family("session_duration", "from the first metered test to the end of the last", TIME, [({}, facts.seconds)])
    about = {
        "commit": facts.machine.commit,
        "cpu": facts.machine.cpu,
        "devices": ", ".join(each.device for each in facts.sources),
    }
    yield InfoMetricFamily(f"{PREFIX}_session", "what ran where", {name: printable(str(value)) for name, value in about.items() if value})
