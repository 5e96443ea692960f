"""The table, the sentences and the totals line at the end of a pytest session. Works on the results' plain dicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pytest_greencompute.errors import MeterError, NothingThereError
from pytest_greencompute.footprint import J_PER_KWH, Footprint
from pytest_greencompute.metrics import METRICS, Metric
from pytest_greencompute.samples import Source
from pytest_greencompute.units import CONSUMPTION, ENERGY, INTENSITY, MASS, TIME, money, show, show_limit, show_share, show_traffic

SHOWN_ALWAYS = ("energy_per_query", "latency_p95", "accuracy")
ORDER = ("FAIL", "UNMEASURED", "INCONCLUSIVE", "ACCEPTED", "PASS")
COLOURS = {"FAIL": "red", "UNMEASURED": "yellow", "INCONCLUSIVE": "yellow", "ACCEPTED": "yellow", "PASS": "green"}


@dataclass(frozen=True, slots=True)
class Summary:
    """What the end of a session is told from."""

    enabled: bool
    sources: Sequence[Source]
    refusals: Sequence[tuple[str, MeterError]]
    problem: str
    results: Sequence[Mapping[str, Any]]
    metered: int
    not_measured: Sequence[tuple[str, str]]
    total_j: float | None
    total_modelled: bool
    total: Mapping[str, Any] | None
    seconds: float
    said: Sequence[tuple[str, bool]]
    footprint: Footprint | None = None

    @property
    def currency(self) -> str:
        """Of the amounts of money; empty where nobody asked for any."""
        return "" if self.footprint is None else self.footprint.currency


def show_nothing_metered(reporter: Any, summary: Summary) -> None:
    """Without --energy-budget: one quiet line, so that nobody takes a green run for a measured one."""
    ran = len({run["test"] for run in summary.results})
    if ran:
        for sentence in _warnings(summary):
            reporter.write_line(sentence)
        tests = "test" if ran == 1 else "tests"
        reporter.write_line(f"energy: {ran} {tests} ran unmetered; pytest --energy-budget measures {'it' if ran == 1 else 'them'}")
    for sentence, bad in summary.said:
        reporter.write_line(f"energy: {sentence}", red=bad)


def show_summary(reporter: Any, summary: Summary) -> None:
    """The whole section."""
    reporter.write_sep(_dash(reporter), f"energy: {heading(summary)}")
    shown = [run for run in summary.results if run["verdicts"] or not _only_in_a_comparison(run)]
    if shown:
        for line, word in table(shown, summary.currency):
            reporter.write_line(line, **({COLOURS[word]: True} if word in COLOURS else {}))
    for line in comparisons(summary.results):
        reporter.write_line(line)
    for test, reason in summary.not_measured:
        reporter.write_line(f"not measured: {test} ({reason})")
    for sentence in (*years(summary), *remarks(summary)):
        reporter.write_line(sentence)
    for sentence, bad in summary.said:
        reporter.write_line(sentence, red=bad)
    reporter.write_line(totals(summary))


def write(reporter: Any, summary: Summary) -> None:
    """Print what there is to say at the end of a session."""
    (show_summary if summary.enabled else show_nothing_metered)(reporter, summary)


def _dash(reporter: Any) -> str:
    encoding = getattr(getattr(reporter, "_tw", None), "_file", None)
    name = (getattr(encoding, "encoding", "") or "").lower()
    return "─" if "utf" in name else "-"


def heading(summary: Summary) -> str:
    """'nvml gpu:0 NVIDIA H100 80GB HBM3, counter, tick 100 ms', one part a source."""
    if not summary.sources:
        return "no meter" if summary.problem or summary.metered else "nothing measured"
    parts = []
    for source in summary.sources:
        tick = f", tick {show(source.tick_s, TIME)}" if source.tick_s else ""
        parts.append(f"{source.meter} {source.domain} {source.device}".rstrip() + f", {source.method}{tick}")
    return "; ".join(parts)


def table(results: Sequence[Mapping[str, Any]], currency: str = "") -> list[tuple[str, str]]:
    """The lines of the table, heading first, each with the worst verdict word of its run. Money is in ``currency``."""
    from tabulate import tabulate

    metrics = [_in(currency, metric) for metric in METRICS.values() if _has_column(metric, results)]
    limited = {metric.name for metric in metrics if any(_budget(run, metric) for run in results)}
    heads = ["test"]
    for metric in metrics:
        heads += [metric.label, "budget"] if metric.name in limited and metric.kind != "score" else [metric.label]
    heads += ["verdict", "limits from"]
    rows = [_row(run, metrics, limited) for run in results]
    if not any(row[-1] for row in rows):
        heads, rows = heads[:-1], [row[:-1] for row in rows]
    lines = tabulate(rows, headers=heads, tablefmt="plain", disable_numparse=True).splitlines()
    return [(line.rstrip(), word) for line, word in zip(lines, ["", *map(_worst, results)], strict=True)]


def _only_in_a_comparison(run: Mapping[str, Any]) -> bool:
    """Whether the table of its comparison shows all there is; a member of a group has a test of its own."""
    return "candidate" in run and (run["candidate"]["by_turns"] or not run["metered"])


def comparisons(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """The tables of candidates that were compared, each under a heading."""
    from pytest_greencompute.report.candidates import headline, lines

    by_comparison: dict[tuple[str, str | None], list[Mapping[str, Any]]] = {}
    for run in results:
        if "candidate" in run:
            by_comparison.setdefault((run["test"], run["candidate"]["comparison"]), []).append(run["candidate"])
    found = []
    for (test, _), rows in by_comparison.items():
        found += [headline(test.partition("::")[2] or test, rows), *(f"  {line}".rstrip() for line in lines(rows))]
    return found


def _in(currency: str, metric: Metric) -> Metric:
    return replace(metric, dimension=money(currency)) if metric.per == "money" else metric


def _has_column(metric: Metric, results: Sequence[Mapping[str, Any]]) -> bool:
    judged = any(verdict["metric"] == metric.name for run in results for verdict in run["verdicts"])
    always = metric.name in SHOWN_ALWAYS or metric.per in {"carbon", "money"}  # the latter exist only where they were asked for
    return judged or (always and any(metric.name in run["metrics"] for run in results))


def _budget(run: Mapping[str, Any], metric: Metric) -> Mapping[str, Any] | None:
    for verdict in run["verdicts"]:
        if verdict["metric"] == metric.name and verdict["kind"] == "budget" and verdict["limit"] is not None:
            found: Mapping[str, Any] = verdict
            return found
    return None


def _row(run: Mapping[str, Any], metrics: Sequence[Metric], limited: set[str]) -> list[str]:
    cells = [_called(run)]
    for metric in metrics:
        figure, budget = run["metrics"].get(metric.name), _budget(run, metric)
        limit = show_limit(budget["limit"], metric.dimension) if budget else ""
        if metric.kind == "score":
            cells.append(f"{_figure(metric, figure)}{f' ≥ {limit}' if limit else ''}")
        else:
            cells += [_figure(metric, figure), limit] if metric.name in limited else [_figure(metric, figure)]
    sources = dict.fromkeys(_place(verdict) for verdict in run["verdicts"] if verdict["where"])
    return [*cells, _verdict(run), ", ".join(_folded(sources))]


def _folded(places: Iterable[str]) -> list[str]:
    """Places with the lines of one file as one: "pyproject.toml:7-19"."""
    lines: dict[str, list[int]] = {}
    for place in places:
        file, _, line = place.rpartition(":")
        lines.setdefault(file if line.isdigit() else place, []).extend([int(line)] if line.isdigit() else [])
    return [_with_lines(file, sorted(set(numbers))) for file, numbers in lines.items()]


def _with_lines(file: str, lines: Sequence[int]) -> str:
    if not lines:
        return file
    return f"{file}:{lines[0]}" if len(lines) == 1 else f"{file}:{lines[0]}-{lines[-1]}"


def _called(run: Mapping[str, Any]) -> str:
    node: str = run["test"].partition("::")[2] or run["test"]
    return node if run["name"] is None else f"{node} ({run['name']})"


def _place(verdict: Mapping[str, Any]) -> str:
    where: str = verdict["where"]
    if verdict["kind"] == "baseline":
        return f"baseline {where}"
    return "marker" if where.startswith("the marker") else where


def _figure(metric: Metric, figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return "-"
    text = show(figure["value"], metric.dimension, 1 if metric.whole else 3)
    if metric.exact and (figure["low"] is None) != (figure["high"] is None):
        return f"{'≥' if figure['high'] is None else '≤'} {text}"
    if metric.kind != "energy":
        return text
    if figure["low"] is not None and figure["high"] is not None and figure["value"]:
        half = max(figure["high"] - figure["value"], figure["value"] - figure["low"])
        text += f" ±{show_share(half / abs(figure['value']))}"
    return f"{text} modelled" if figure["method"] == "modelled" else text


def _worst(run: Mapping[str, Any]) -> str:
    words = {verdict["verdict"] for verdict in run["verdicts"]}
    return next((word for word in ORDER if word in words), "")


def _verdict(run: Mapping[str, Any]) -> str:
    word = _worst(run)
    if word == "PASS" and any(verdict["effect"] == "fail" for verdict in run["verdicts"]):
        return "PASS, red: modelled"
    if word in {"", "PASS"}:
        return word or "no budget"
    named = dict.fromkeys(METRICS[verdict["metric"]].short for verdict in run["verdicts"] if verdict["verdict"] == word)
    return f"{word} {', '.join(named)}"


def years(summary: Summary) -> list[str]:
    """A line a run: what a year of the traffic would use, emit and cost, and by which factors."""
    footprint = summary.footprint
    if footprint is None or footprint.queries_per_s is None:
        return []
    intensity = "" if footprint.kg_per_j is None else f"{show(footprint.kg_per_j, INTENSITY)}, {footprint.carbon_source}"
    factors = "; ".join(each for each in (f"PUE {footprint.pue:g}", intensity) if each)
    traffic = show_traffic(footprint.queries_per_s)
    with_one = [run for run in summary.results if "year" in run]
    return [f"{_called(run)} at {traffic}: {_amounts(run['year'], footprint)} a year ({factors})" for run in with_one]


def _amounts(year: Mapping[str, Any], footprint: Footprint) -> str:
    """'2.5 MWh ±0.8 %, 140 kg CO2e and 620 EUR': the share holds for all three, since the factors have no interval of their own."""
    energy, parts = year["energy_kwh"], []
    sides = [abs(end - energy["value"]) for end in (energy["low"], energy["high"]) if end is not None]
    sure = f" ±{show_share(max(sides) / energy['value'])}" if len(sides) == 2 and energy["value"] else ""
    modelled = " modelled" if year["method"] == "modelled" else ""
    parts.append(f"{show(energy['value'] * J_PER_KWH, CONSUMPTION)}{sure}{modelled}")
    if "carbon_kg" in year:
        parts.append(f"{show(year['carbon_kg']['value'], MASS)} CO2e")
    if "money" in year:
        parts.append(show(year["money"]["value"], money(footprint.currency)))
    return " and ".join((", ".join(parts[:-1]), parts[-1])) if len(parts) > 1 else parts[0]


def _warnings(summary: Summary) -> list[str]:
    """What a verdict that turned nothing red has to say, and which candidates of a comparison broke."""
    found = [f"warning: {verdict['reason']}" for run in summary.results for verdict in run["verdicts"] if verdict["effect"] == "warn"]
    for run in summary.results:
        row = run.get("candidate")
        if row is not None and row["by_turns"] and row["problem"] and not row["impossible"]:
            found.append(f"warning: {_called(run)} was not measured: {row['problem']}")
    return found


def remarks(summary: Summary) -> list[str]:
    """Sentences under the table: why something is unmeasured or not certain, what was noted, which meters were not used."""
    found = _warnings(summary)
    for run in summary.results:
        found += [f"note: {run['test'].partition('::')[2]}: {note}" for note in run["notes"]]
    modelled = [source for source in summary.sources if source.method == "modelled"]
    found += [f"{each.domain} energy is modelled, not measured: {each.note or each.meter}" for each in modelled]
    absent = [name for name, error in summary.refusals if isinstance(error, NothingThereError)]
    if absent and not summary.problem:
        found.append(f"not used: {', '.join(absent)}, not here (`greencompute doctor` says why)")
    found += [f"not used: {name}: {error}" for name, error in summary.refusals if name not in absent and not summary.problem]
    if summary.problem:
        found.append(f"no meter: {summary.problem}")
    if summary.footprint is not None and summary.footprint.why_no_carbon:
        found.append(f"no carbon: {summary.footprint.why_no_carbon}")
    if summary.footprint is not None and not summary.footprint.applies:
        found.append("pue changes nothing here: it applies to country, carbon_intensity, electricity_price and traffic, and none is set")
    return list(dict.fromkeys(found))  # what is noted of each of several candidates is said once


def totals(summary: Summary) -> str:
    """'total 3.1 kJ in 41 s · smallest regression visible 1.7 % · 1 budget failed'."""
    parts = []
    if summary.total_j is not None:
        modelled = " modelled" if summary.total_modelled else ""
        limit = f" of {show_limit(summary.total['limit'], ENERGY)}" if summary.total else ""
        parts.append(f"total {show(summary.total_j, ENERGY, 2)}{modelled}{limit} in {summary.seconds:.0f} s")
    else:
        parts.append("total not measured")
    verdicts = [verdict for run in summary.results for verdict in run["verdicts"]]
    seen = [verdict["sees"] for verdict in verdicts if verdict["sees"] is not None and METRICS[verdict["metric"]].kind == "energy"]
    if seen:
        parts.append(f"smallest regression visible {show_share(max(seen))}")
    failed = sum(verdict["verdict"] == "FAIL" for verdict in verdicts) + bool(summary.total and summary.total["verdict"] == "FAIL")
    parts.append(f"{failed} budget{'' if failed == 1 else 's'} failed")
    return " · ".join(parts)
