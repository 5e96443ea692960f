"""What is asked of a Prometheus server, and what it answers: the samples of series as it has scraped them. Pure.

HTTP API: https://prometheus.io/docs/prometheus/latest/querying/api/ ("Instant queries" and the results that they have).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pytest_greencompute.errors import MeterError
from pytest_greencompute.meters.exposition import HOSTILE, LONGEST_LINE, check_amount, finite
from pytest_greencompute.meters.series import Series, as_text

PATH = "/api/v1/query"
_PARTIAL = "A host that is missing now would never be missed: mend that, or ask the server that scrapes the exporters."
NOW = "time()"  # answered with the server's own clock


def samples_within(names: Iterable[str], seconds: float, label: str = "", values: Iterable[str] = ()) -> str:
    """The query for all samples of the last ``seconds`` of these metrics, where ``label`` is one of ``values`` if it is given."""
    wanted = [f'__name__=~"{"|".join(names)}"']
    if label:
        wanted.append(f"{label}=~{json.dumps('|'.join(map(re.escape, values)))}")
    return f"{{{','.join(wanted)}}}[{seconds:.0f}s]"


def server_seconds(content: bytes, where: str) -> float:
    """The server's clock in seconds, as ``NOW`` is answered. Raises MeterError."""
    _, result = _answer(content, where)
    try:
        return finite(float(result[1]), NOW, where)
    except (TypeError, ValueError, IndexError, KeyError) as error:
        raise _malformed(where) from error


def series_of(content: bytes, where: str, *, whole: bool = False) -> list[Series]:
    """The series that ``samples_within`` is answered with; times are the server's, in nanoseconds. Raises MeterError; where they are to
    be the ``whole`` of it, for an answer that may leave some out, too.
    """
    kind, result = _answer(content, where, whole=whole)
    if kind != "matrix" or not isinstance(result, list):
        raise _malformed(where)
    check_amount(len(result), where)
    try:
        return [_series(each["metric"], each["values"], where) for each in result]
    except (TypeError, ValueError, KeyError, OverflowError, AttributeError) as error:
        raise _malformed(where) from error


def _series(metric: Mapping[str, str], values: Iterable[tuple[float, str]], where: str) -> Series:
    labels = {str(name): str(value) for name, value in metric.items()}
    if sum(map(len, labels.values())) > LONGEST_LINE:
        raise MeterError(f"{where} shows a series of more than {LONGEST_LINE} characters.", remedy=HOSTILE)
    name = labels.pop("__name__")
    samples = ((finite(float(value), name, where), round(t_s * 1e9)) for t_s, value in values)
    return Series(name, labels, tuple(sorted(samples, key=lambda each: each[1])))


def _answer(content: bytes, where: str, *, whole: bool = False) -> tuple[str, Any]:
    """The kind of a result, and the result. Prometheus and Thanos warn of what they could not ask; VictoriaMetrics calls it partial."""
    try:
        found = json.loads(content)
        if found["status"] != "success":
            said = as_text(str(found.get("error", "")))
            raise MeterError(f"{where} refused a query: {said or 'it does not say why'}.", remedy="Is it a Prometheus server's address?")
        if whole and (found.get("warnings") or found.get("isPartial")):
            said = as_text(str((found.get("warnings") or ["it says that it is partial"])[0]))
            raise MeterError(f"{where} could not ask all that it reads: {said}.", remedy=_PARTIAL)
        return found["data"]["resultType"], found["data"]["result"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _malformed(where) from error


def _malformed(where: str) -> MeterError:
    return MeterError(f"{where} does not answer as Prometheus does.", remedy=HOSTILE)
