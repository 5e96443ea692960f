"""What an exporter shows at its address: the series of one moment, in Prometheus's text format. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection

from pytest_greencompute.errors import MeterError
from pytest_greencompute.meters.series import Series

MOST_SERIES = 20_000  # of energy: a cluster of some thousand GPUs
LONGEST_LINE = 8_192  # bytes, one series with all of its labels
HOSTILE = "Is it the address of an exporter? An answer like this is not read."


def exposed(content: bytes, names: Collection[str], where: str) -> list[Series]:
    """The series of those metrics, each with one sample, at the time 0. Only their lines are read.

    ``where`` is the address, for people. Raises MeterError for what is no text of that format, or more of it than anybody shows.
    """
    from prometheus_client.parser import text_string_to_metric_families

    prefixes = tuple(name.encode() for name in names)
    lines = [line for line in content.split(b"\n") if line.startswith(prefixes)]
    check_amount(len(lines), where)
    if any(len(line) > LONGEST_LINE for line in lines):
        raise MeterError(f"{where} shows a series of more than {LONGEST_LINE} bytes.", remedy=HOSTILE)
    try:
        text = b"\n".join([*lines, b""]).decode("utf-8")
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples if sample.name in names]
    except Exception as error:  # whatever its parser stumbles over
        raise MeterError(f"{where} shows what is not Prometheus's text format ({type(error).__name__}).", remedy=HOSTILE) from error
    return [Series(each.name, each.labels, ((finite(each.value, each.name, where), 0),)) for each in samples]


def check_amount(count: int, where: str) -> None:
    """Raises MeterError for more series than anybody shows."""
    if count > MOST_SERIES:
        raise MeterError(f"{where} shows {count} series of energy, more than {MOST_SERIES}.", remedy=HOSTILE)


def finite(value: float, name: str, where: str) -> float:
    """Raises MeterError for a value that is no energy."""
    try:
        number = float(value)
    except OverflowError:  # a whole number may be too large for a float
        number = math.inf
    if not math.isfinite(number) or number < 0:
        raise MeterError(f"{where} shows {name} as {number!r}.", remedy="Its exporter does not get it from the device: look at its log.")
    return number
