"""A session as OpenTelemetry metrics: one gauge a metric, from the one table, and ``hw.energy`` of each component, sent at the end.

To the meter provider that the program has set; else by OTLP over HTTP to where the standard variables say
(``OTEL_EXPORTER_OTLP_ENDPOINT``, ``OTEL_EXPORTER_OTLP_HEADERS``, ``OTEL_SERVICE_NAME``, ``OTEL_RESOURCE_ATTRIBUTES``, …).
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.report.escape import printable
from pytest_greencompute.results.result import Figure, Result
from pytest_greencompute.results.session import Facts
from pytest_greencompute.results.summary import Summary
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.units import ENERGY, TIME

PREFIX = "greencompute"
PARTS = {"value": "", "low": ".low", "high": ".high"}
TIMEOUT_S = 10.0
HARDWARE = {"dram": "memory"}  # the values of hw.type that have another name than our domains (semantic conventions 1.44)


def make(summary: Summary, _: Any, __: Path) -> None:
    """Send the session. Raises SettingsError where nobody takes it within ten seconds."""
    from opentelemetry import metrics
    from opentelemetry.sdk.metrics import MeterProvider

    provider = metrics.get_meter_provider()
    if isinstance(provider, MeterProvider):
        _record(summary, provider)
        if not provider.force_flush(TIMEOUT_S * 1000):
            raise SettingsError("The meter provider of this program did not pass the figures on in time.")
        return
    _export(summary)


def _export(summary: Summary) -> None:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricExportResult
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource

    reader = InMemoryMetricReader()
    resource = Resource.create()
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):  # neither OTEL_SERVICE_NAME nor a detector names one
        resource = resource.merge(Resource({SERVICE_NAME: "pytest-greencompute"}))  # of two, the merged one's attributes hold
    provider = MeterProvider([reader], resource)
    exporter = OTLPMetricExporter()  # which tries for the ten seconds of OTEL_EXPORTER_OTLP_TIMEOUT, or as many as that says
    try:
        _record(summary, provider)
        data = reader.get_metrics_data()
        if data is not None and exporter.export(data) is not MetricExportResult.SUCCESS:
            raise SettingsError(
                f"No collector took the figures at {printable(exporter._endpoint)}.",
                remedy="OTEL_EXPORTER_OTLP_ENDPOINT says where one is.",
            )
    finally:
        exporter.shutdown()
        provider.shutdown()


def _record(summary: Summary, provider: Any) -> None:
    meter = provider.get_meter("pytest-greencompute", metadata.version("pytest-greencompute"))
    for metric in METRICS.values():
        figures = [(run, run.metrics[metric.name]) for run in summary.results if metric.name in run.metrics]
        for part, end in PARTS.items():
            values = [(run, figure, value) for run, figure in figures if (value := getattr(figure, part)) is not None]
            if values:
                gauge = meter.create_gauge(f"{PREFIX}.{metric.name}{end}", metric.dimension.called.ucum, metric.label)
                for run, figure, value in values:
                    gauge.set(value, _attributes(run, figure, metric.name))
    facts = summary.facts
    _record_hardware(meter, facts)
    if facts.total_j is not None:
        meter.create_gauge(f"{PREFIX}.session_energy", ENERGY.called.ucum, "all that the meters saw").set(facts.total_j)
    meter.create_gauge(f"{PREFIX}.session_duration", TIME.called.ucum, "from the first metered test to the end of the last").set(
        facts.seconds
    )


def _record_hardware(meter: Any, facts: Facts) -> None:
    """What each component used in the session, by the semantic conventions for hardware (``hw.energy``), where there is an honest total."""
    if not facts.by_domain:
        return
    counter = meter.create_counter("hw.energy", ENERGY.called.ucum, "Energy consumed by the component.")
    for source in facts.sources:
        if source.domain in facts.by_domain:
            kind = source.domain.partition(":")[0]
            named = {"hw.id": source.uuid or source.domain, "hw.type": HARDWARE.get(kind, kind), "hw.name": source.device or source.domain}
            counter.add(facts.by_domain[source.domain], {name: printable(value) for name, value in named.items()})


def _attributes(run: Result, figure: Figure, metric: str) -> dict[str, str]:
    words = [verdict.word for verdict in run.verdicts if verdict.metric == metric]
    found = {
        "test": run.test,
        "run": run.name or "",
        "domain": figure.domain,
        "method": figure.method,
        "verdict": ", ".join(dict.fromkeys(words)),
    }
    return {name: printable(value) for name, value in found.items() if value}
