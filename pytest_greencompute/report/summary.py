"""What the end of a session is told from, and the sentences around its table; as it is, and as the JSON report keeps it."""

from __future__ import annotations

import shlex

from pytest_greencompute.results.result import ENERGY as FIRST
from pytest_greencompute.results.result import Result
from pytest_greencompute.results.summary import Summary
from pytest_greencompute.values.footprint import Footprint, show_year
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.units import ENERGY, INTENSITY, TIME, show, show_limit, show_share, show_traffic


def heading(summary: Summary) -> str:
    """'nvml gpu:0 NVIDIA H100 80GB HBM3, counter, tick 100 ms', one part a source."""
    if not summary.facts.sources:
        return "no meter" if summary.facts.problem or summary.metered else "nothing measured"
    parts = []
    for source in summary.facts.sources:
        tick = f", tick {show(source.tick_s, TIME)}" if source.tick_s else ""
        parts.append(f"{source.meter} {source.domain} {source.device}".rstrip() + f", {source.method}{tick}")
    return "; ".join(parts)


def commit(summary: Summary) -> str:
    """'commit 0123abcdef with local changes'; empty where it is not known."""
    return f"commit {summary.commit[:10]}{' with local changes' if summary.dirty else ''}" if summary.commit else ""


def unmetered(summary: Summary) -> str:
    """Where nothing was measured: how many tests could have been, so that nobody takes a green run for a measured one; else empty."""
    ran = len({run.test for run in summary.results})
    if summary.enabled or not ran:
        return ""
    return f"{ran} {'test' if ran == 1 else 'tests'} ran unmetered; pytest --energy-budget measures {'it' if ran == 1 else 'them'}"


def years(summary: Summary) -> list[str]:
    """A line a run: what a year of the traffic would use, emit and cost, and by which factors."""
    footprint = summary.footprint
    if footprint is None or footprint.queries_per_s is None:
        return []
    intensity = "" if footprint.kg_per_j is None else f"{show(footprint.kg_per_j, INTENSITY)}, {footprint.carbon_source}"
    factors = "; ".join(each for each in (f"PUE {footprint.pue:g}", intensity) if each)
    traffic = show_traffic(footprint.queries_per_s)
    amounts = [(run, _amounts(run, footprint)) for run in summary.results]
    return [f"{run.called} at {traffic}: {said} a year ({factors})" for run, said in amounts if said]


def _amounts(run: Result, footprint: Footprint) -> str:
    if run.year is None:
        return ""
    return show_year(run.year, footprint.currency, modelled=FIRST in run.metrics and run.metrics[FIRST].method == "modelled")


def loosened(summary: Summary) -> list[str]:
    """A sentence for each limit that is laxer here than at the commit that is compared with."""
    return [f"loosened: {each}" for each in summary.facts.loosened]


def warnings(summary: Summary) -> list[str]:
    """What a verdict that turned nothing red has to say, and which candidates of a comparison broke."""
    found = [f"warning: {verdict.reason}" for run in summary.results for verdict in run.verdicts if verdict.effect == "warn"]
    for run in summary.results:
        row = run.candidate
        if row is not None and row.by_turns and row.problem and not row.impossible:
            found.append(f"warning: {run.called} was not measured: {row.problem}")
    if summary.total and summary.total.effect == "warn":
        found.append(f"warning: {summary.total.reason}")
    return found


def remarks(summary: Summary) -> list[str]:
    """Sentences under the table: why something is unmeasured or not certain, what was noted, which meters were not used."""
    found = warnings(summary)
    for run in summary.results:
        # What is noted of each of several candidates is said once; each load has its own.
        whose = run.called if run.candidate is None else run.test.partition("::")[2]
        found += [f"note: {whose}: {note}" for note in run.notes]
    traced = dict.fromkeys(run.provenance.traced for run in summary.results if run.provenance.traced is not None)
    found += [f"note: measured while {each} watched every line: pure Python takes several times its energy then" for each in traced]
    modelled = [source for source in summary.facts.sources if source.method == "modelled"]
    found += [f"{each.domain} energy is modelled, not measured: {each.note or each.meter}" for each in modelled]
    if summary.facts.problem:
        found.append(f"no meter: {summary.facts.problem}")
    else:
        absent = [each.meter for each in summary.facts.refusals if each.absent]
        if absent:
            found.append(f"not used: {', '.join(absent)}, not here (`greencompute doctor` says why)")
        found += [f"not used: {each.meter}: {each.reason}" for each in summary.facts.refusals if not each.absent]
    if summary.footprint is not None and summary.footprint.why_no_carbon:
        found.append(f"no carbon: {summary.footprint.why_no_carbon}")
    if summary.footprint is not None and not summary.footprint.applies:
        found.append("pue changes nothing here: it applies to country, carbon_intensity, electricity_price and traffic, and none is set")
    return list(dict.fromkeys(found))


def look_closer(summary: Summary) -> list[str]:
    """The command that shows where the energy goes of the first run that is red for it; none where that was shown beside another commit."""
    for run in summary.results:
        budgets = [each for each in run.verdicts if each.effect == "fail" and each.word == "FAIL" and METRICS[each.metric].kind == "energy"]
        whole = run.run is None or not run.run.window
        if whole and run.candidate is None and not run.explained and any(each.kind in ("budget", "baseline") for each in budgets):
            words = ["greencompute", "explain", run.test, *([] if run.name is None else ["--run", run.name])]
            since = " (--base-ref HEAD: what is new in it since the last commit)" if summary.dirty else ""
            return [f"where its energy goes: {shlex.join(words)}{since}"]
    return []


def totals(summary: Summary) -> str:
    """'total 3.1 kJ in 41 s · smallest regression visible 1.7 % · 14.4 s of device time a metered test, 6.1 s more for loading and for
    getting the other side ready, 76.0 J a second · 1 budget failed'.
    """
    parts = []
    if summary.facts.total_j is not None:
        modelled = " modelled" if summary.facts.total_modelled else ""
        limit = f" of {show_limit(summary.total.limit, ENERGY)}" if summary.total and summary.total.limit is not None else ""
        parts.append(f"total {show(summary.facts.total_j, ENERGY, 2)}{modelled}{limit} in {summary.facts.seconds:.0f} s")
    else:
        parts.append("total not measured")
    energies = [each for run in summary.results for each in run.verdicts if METRICS[each.metric].kind == "energy"]
    seen = [verdict.sees for verdict in energies if verdict.sees is not None]
    if seen:
        parts.append(f"smallest regression visible {show_share(max(seen))}")
    parts += _price(summary)
    failed = sum(verdict.word == "FAIL" for verdict in summary.verdicts)
    parts.append(f"{failed} budget{'' if failed == 1 else 's'} failed")
    return " · ".join(parts)


def _price(summary: Summary) -> list[str]:
    """What the gate took: device time for each metered test, what the sides at other commits took to load and get ready beside, and the
    joules of a second.
    """
    tests, facts = len({run.test for run in summary.results if run.metered}), summary.facts
    if not tests or facts.device_s <= 0:
        return []
    device = " of device time" if facts.sources else ""
    said = [f"{show(facts.device_s / tests, TIME)}{device} a metered test"]
    if facts.apart_s > 0:
        said.append(f"{show(facts.apart_s / tests, TIME)} more for loading and for getting the other side ready")
    return [", ".join([*said, *([] if facts.mean_w is None else [f"{show(facts.mean_w, ENERGY)} a second"])])]
