"""A page on one device, for people to publish: as Markdown, as one HTML file, and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date
from html import escape

from pytest_greencompute.estimates.against_power import BEYOND, NOTED, Agreement
from pytest_greencompute.estimates.estimate import Estimate
from pytest_greencompute.measuring.device import DeviceLook
from pytest_greencompute.report.escape import markdown as safe
from pytest_greencompute.report.escape import printable
from pytest_greencompute.results.provenance_json import machine_to_json
from pytest_greencompute.values.provenance import Json, Machine, plain
from pytest_greencompute.values.units import show_share

SCHEMA = "greencompute.device/1"
SHOWN = ("driver", "cuda_driver", "power_limit_w", "persistence_mode", "sm_clock_mhz", "max_sm_clock_mhz", "temperature_c")
_STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem;color:#1b1f24;background:#fff}
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2rem}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.3rem 1rem .3rem 0;border-bottom:1px solid #d5d9df;vertical-align:top}.grid{overflow-x:auto}
@media(prefers-color-scheme:dark){body{color:#e8eaed;background:#14171a}th,td{border-color:#363c44}}"""


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, sentences, and a table (no rows: none)."""

    title: str
    said: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


def title(look: DeviceLook) -> str:
    """What the page is about."""
    return f"{look.source.device or look.source.domain}: its energy counter"


def sections(look: DeviceLook, machine: Machine, version: str, day: date) -> Iterator[Section]:
    """All that the page shows, in its order."""
    about = {"meter": f"{look.source.meter}, {look.source.method}", **_facts(look), "load": look.load or "none"}
    about |= {"machine": f"{machine.cpu or 'unknown processor'}, {machine.os}, Python {machine.python}"}
    about |= {"plugin": version, "date": day.isoformat(), "took": f"{look.seconds:.0f} s"}
    yield Section(
        "Device", (look.source.note,) if look.source.note else (), ("", ""), tuple((key, str(each)) for key, each in about.items())
    )
    yield Section("Tick, lag and coverage", (), ("", ""), tuple(_behaviour(look)))
    costs = tuple((each.what, *map(_micro, (each.median_s, each.most_s, each.cpu_s))) for each in look.costs)
    yield Section("What a read costs", (), ("read", "median", "longest", "CPU, median"), costs)
    rows = tuple(map(_beside, look.agreements))
    yield Section("Counter against power", (_agrees(look),), ("power field", "over", "counted", "shown", "the counter differs by"), rows)
    if look.energy is not None:
        yield Section("One run, and the same work against itself", tuple(_compared(look)))
    if look.left_out or look.notes:
        yield Section("Left out, and noted", (*look.left_out, *look.notes))


def _facts(look: DeviceLook) -> dict[str, Json]:
    """Those that tell nobody whose device it is."""
    return {name: look.device.facts[name] for name in SHOWN if look.device.facts.get(name) is not None}


def _behaviour(look: DeviceLook) -> Iterator[tuple[str, str]]:
    source, seen = look.source, look.behaviour
    yield "tick", f"{source.tick_s * 1e3:.4g} ms, jitter {source.jitter_s * 1e3:.3g} ms"
    if look.idle is not None:
        yield "idle power", f"{look.idle.watts:.4g} W"
    lagging = "not looked for" if not look.load else f"{source.lag_s * 1e3:.0f} ms" if source.lag_s else "none beyond two ticks"
    yield "lag", lagging
    whole = None if seen is None else seen.whole
    yield "sees all of the time", {True: "yes", False: "not for certain: sets of nine phases are measured", None: "not looked at"}[whole]


def _beside(each: Agreement) -> tuple[str, ...]:
    low, off, high = (f"{100 * (share - 1):+.1f}" for share in (each.low, each.ratio, each.high))
    watts = f"{each.counted_w:.4g} W", f"{each.shown_w:.4g} W"
    return f"{each.field.name}, {each.field.scope}", f"{each.seconds:.1f} s", *watts, f"{off} % [{low}, {high}]"


def _micro(seconds: float) -> str:
    return f"{seconds * 1e6:.0f} µs"


def _agrees(look: DeviceLook) -> str:
    found = look.against
    if found is None:
        return "That could not be told: no power field could be sampled well enough, or they contradict each other."
    what = f"the power of the {'GPU' if found.scope == 'gpu' else found.scope}" if found.sure else "the power that is shown"
    if found.off > BEYOND:
        return f"The counter cannot be believed: it differs from {what} by more than {show_share(BEYOND)}. Runs here are UNMEASURED."
    if found.off > NOTED:
        return f"The counter differs from {what} by more than {show_share(NOTED)}: each run here has a note."
    if found.high - found.low > 2 * NOTED:
        return f"The counter may agree with {what}; the look was too unsteady to say so to within {show_share(NOTED)}."
    return f"The counter agrees with {what}."


def _compared(look: DeviceLook) -> Iterator[str]:
    yield f"Energy per query: {look.energy}." if isinstance(look.energy, Estimate) else f"No energy: {getattr(look.energy, 'reason', '')}."
    if look.itself is not None:
        yield f"Its sets, each held against the next: {look.itself.word}, {look.itself.reason}"
        if look.itself.sees is not None:
            yield f"The smallest rise that this would have shown: {show_share(look.itself.sees)}."


def as_markdown(look: DeviceLook, machine: Machine, version: str, day: date) -> str:
    """The page as Markdown."""
    lines = [f"# {safe(title(look))}", "", "Made by `greencompute doctor --deep`.", ""]
    for each in sections(look, machine, version, day):
        lines += [f"## {each.title}", ""]
        for said in each.said:
            lines += [safe(said), ""]
        if each.rows:
            lines += [_row(each.heads), _row(("---",) * len(each.heads)), *(_row(tuple(map(safe, row))) for row in each.rows), ""]
    return "\n".join(lines)


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def as_html(look: DeviceLook, machine: Machine, version: str, day: date) -> str:
    """The page as one HTML file that works offline."""
    body = [f"<h1>{_text(title(look))}</h1>", "<p>Made by <code>greencompute doctor --deep</code>.</p>"]
    for each in sections(look, machine, version, day):
        body += [f"<h2>{_text(each.title)}</h2>", *(f"<p>{_text(said)}</p>" for said in each.said)]
        if each.rows:
            head = "".join(f"<th>{_text(cell)}</th>" for cell in each.heads)
            rows = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in each.rows)
            body.append(f'<div class="grid"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>')
    viewport = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    top = f'<!doctype html><html lang="en"><head><meta charset="utf-8">{viewport}<title>{_text(title(look))}</title>'
    return "\n".join([f"{top}<style>{_STYLE}</style></head><body>", *body, "</body></html>", ""])


def _text(said: str) -> str:
    return escape(printable(said))


def as_json(look: DeviceLook, machine: Machine, version: str, day: date) -> Mapping[str, Json]:
    """The same for scripts: SI units, and the shares of the counter as its ratio to the power."""
    energy, itself = look.energy, look.itself
    told: dict[str, object] = {
        "schema": SCHEMA,
        "version": version,
        "date": day.isoformat(),
        "machine": machine_to_json(replace(machine, commit=None, dirty=None)),
        "device": {"name": look.source.device, "facts": _facts(look)},
        "source": asdict(replace(look.source, uuid="")),
        "idle_w": None if look.idle is None else look.idle.watts,
        "behaviour": None if look.behaviour is None else asdict(replace(look.behaviour, uuid="")),
        "reads": [asdict(each) for each in look.costs],
        "against_power": [{**asdict(each), "ratio": each.ratio} for each in look.agreements],
        "covers": None if look.against is None or not look.against.sure else look.against.scope,
        "off": None if look.against is None else look.against.off,
        "load": look.load,
        "energy_per_query_j": [energy.low, energy.value, energy.high] if isinstance(energy, Estimate) else None,
        "against_itself": None if itself is None else {"verdict": itself.word, "reason": itself.reason, "sees": itself.sees},
        "left_out": list(look.left_out),
        "notes": list(look.notes),
        "seconds": look.seconds,
    }
    return {name: plain(each) for name, each in told.items()}
