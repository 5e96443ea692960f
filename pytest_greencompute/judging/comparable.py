"""Which runs may be compared: one table with a row for each thing that two runs may differ in, and what a difference does. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.provenance import PACKAGES, TRACED
from pytest_greencompute.values.run import Run

OTHER_MODEL = "another model of the same watts gives another figure for the same work"
VERSION = "may move a figure, which is what an update is judged for"
# What a run and its provenance hold besides, and why it may differ: every field is in one of the two tables.
NO_MATTER: Mapping[str, str] = {
    "machine.virtual_machine": "tells where the default of watts per core comes from, which has its own row",
    "machine.ci": "the same code on the same device",
    "machine.commit": "what is compared",
    "machine.dirty": "what is compared",
    "devices.uuid": "cards of one kind; what they differ by is in the interval",
    "devices.gpu": "the row GPU has it",
    "devices.pci_id": "the slot that the card is in",
    "devices.persistence_mode": "moves the start of the first process, which is not measured",
    "devices.sm_clock_mhz": "of that moment; a slowdown marks its blocks",
    "devices.memory_clock_mhz": "of that moment",
    "devices.temperature_c": "of that moment; a slowdown marks its blocks",
    "devices.watts_from": "where the watts come from; how many they are has its own row",
    "devices.zone": "the name of the counter",
    "devices.wraps_at_j": "the counter's range",
    "conditions": "temperatures and clocks, which come and go; what spoils a block marks it",
    "ai_energy_score": "how many passes, and whose queries: these have their own row",
    "served.url": "the port differs from one start to the next",
    "test": "what runs are matched by",
    "name": "what runs are matched by",
    "metered": "only metered runs are compared",
    "seconds": "how long it was measured: the intervals tell what that gave",
    "sources": "domain, meter, method and device have their rows; tick, step and lag are in the intervals",
    "blocks": "the figures themselves",
    "warmup": "not in any figure",
    "idles": "the figures themselves",
    "latencies": "the figures themselves",
    "scores": "the figures themselves",
    "answers": "the figures themselves",
    "counts": "the figures themselves",
    "watching": "the figures themselves",
    "notes": "for people",
    "problem": "says why there is no figure, which is judged itself",
    "looks": "shares the error among the looks, on both sides",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that two runs do not share. ``blocks``: figures of ``metrics`` (empty: all) must not be compared; else it is a warning."""

    name: str
    ours: str
    theirs: str
    blocks: bool
    metrics: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}: {self.ours} here, {self.theirs} in the baseline"

    @property
    def unknown(self) -> bool:
        """Whether one side does not say."""
        return "unknown" in (self.ours, self.theirs)

    def concerns(self, metric: str | None) -> bool:
        """Whether it is about the metric of that name; None: about all of them."""
        return not self.metrics or metric in self.metrics


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the policy: where a value lies in the provenance, what it means if it differs, and ``why``.

    ``part`` is ``machine``, ``run`` (top level, a dot leads further down), ``domains`` (the set of domains), ``gpus`` (all GPUs, in order)
    or ``devices`` (each domain that both runs have). ``blocks`` is ``always``, ``cpu`` (if a CPU domain is judged) or ``never``.
    ``metrics``: only these are concerned. ``late``: files of older versions lack it, so what only one side has is a warning.
    """

    name: str
    part: Literal["machine", "run", "domains", "gpus", "devices"]
    key: str
    blocks: Literal["always", "cpu", "never"]
    why: str
    absent: str = "unknown"
    unit: str = ""
    metrics: tuple[str, ...] = ()
    late: bool = False


def _of(*kinds: str, per: Sequence[str] = ()) -> tuple[str, ...]:
    return tuple(metric.name for metric in METRICS.values() if metric.kind in kinds or metric.per in per)


ENERGY = _of("energy")
ANSWERS = _of("score", "answers", "tokens", "calls")  # what depends on what the queries say, and not only on how large they are
RULES: tuple[Rule, ...] = (
    Rule("domain", "domains", "", "always", "other parts of the machine were read", absent="none"),
    Rule("GPU", "gpus", "device", "always", "another device"),
    Rule("power limit", "devices", "power_limit_w", "always", "moves energy and time", unit=" W"),
    Rule("meter", "devices", "meter", "always", "meters see other parts of the device"),
    Rule("method", "devices", "method", "always", "a counter, a sum of samples and a model are not one scale"),
    Rule("watts per core", "devices", "watts_per_core", "always", OTHER_MODEL, unit=" W", metrics=ENERGY, late=True),
    Rule("CodeCarbon's CPU mode", "devices", "cpu_mode", "always", OTHER_MODEL, metrics=ENERGY, late=True),
    Rule("CodeCarbon's tracking mode", "devices", "tracking_mode", "always", "other processes count", metrics=ENERGY, late=True),
    Rule("CodeCarbon's TDP", "devices", "tdp_w", "always", OTHER_MODEL, unit=" W", metrics=ENERGY, late=True),
    Rule("measured as", "run", "measured_as", "always", "a window, a load and a loop of queries bill other things"),
    Rule("batch size", "run", "batch_size", "always", "moves energy and time; of a load it is the requests at a time"),
    Rule("number of queries", "run", "number", "always", "other queries"),
    Rule("queries", "run", "queries.alike", "always", "other work", late=True),
    Rule("order and values of the queries", "run", "queries.exact", "always", "answers to them in pairs", metrics=ANSWERS, late=True),
    Rule("queries' type", "run", "queries.opaque", "never", "shows nothing of what they hold", absent="known", late=True),
    Rule("references", "run", "references", "never", "a label that was corrected is no other task", metrics=("accuracy",), late=True),
    Rule("score", "run", "score", "always", "another scale", metrics=("accuracy",), late=True),
    Rule("tokens=", "run", "tokens", "always", "another count of the same text", metrics=_of("tokens", per=["token"]), late=True),
    Rule(
        "reasoning markers",
        "run",
        "reasoning",
        "always",
        "other parts of the answer count as reasoning",
        metrics=("reasoning_tokens_per_query", "reasoning_default"),
        late=True,
    ),
    Rule(
        "carbon of a joule",
        "run",
        "footprint.carbon_kg_per_j",
        "always",
        "another scale",
        unit=" kg",
        metrics=_of(per=["carbon"]),
        late=True,
    ),
    Rule("price of a joule", "run", "footprint.money_per_j", "always", "another scale", metrics=_of(per=["money"]), late=True),
    Rule("currency", "run", "footprint.currency", "always", "another scale", metrics=_of(per=["money"]), late=True),
    Rule("tracer", "run", TRACED, "always", "slows what it watches down", absent="none"),
    Rule("repeats", "run", "repeats", "always", "a memory's answers are another figure than the model's", absent="fresh"),
    Rule("interface", "run", "served.request", "always", "other requests"),
    Rule("streaming", "run", "served.stream", "always", "other requests"),
    Rule("max_tokens", "run", "served.max_tokens", "always", "asks for longer answers"),
    Rule("options of the requests", "run", "served.options", "always", "other requests"),
    Rule("model of the server", "run", "served.model", "never", "which model serves is what is judged, and a path may be its name"),
    Rule("CPU", "machine", "cpu", "cpu", "another device"),
    Rule("number of cores", "machine", "cores", "never", "moves time, and a job's share of a machine varies"),
    Rule("driver", "devices", "driver", "never", VERSION),
    Rule("CUDA driver", "devices", "cuda_driver", "never", VERSION),
    Rule("greatest clock", "devices", "max_sm_clock_mhz", "never", "another card of that name", unit=" MHz"),
    Rule("operating system", "machine", "os", "never", VERSION),
    Rule("kernel", "machine", "kernel", "never", VERSION),
    Rule("Python", "machine", "python", "never", VERSION),
    *(Rule(package, "machine", package, "never", VERSION, absent="not installed") for package in PACKAGES),
    Rule("CodeCarbon", "devices", "codecarbon", "never", VERSION),
    Rule("Zeus", "devices", "zeus", "never", VERSION),
)


def record(run: Run) -> dict[str, Any]:
    """What the rules look at: a run's provenance, and what the run itself says of how it was measured."""
    kind = "a window" if run.window else "a load" if run.serving is not None else "a loop of queries"
    # How many queries a window or a load answers is one of its figures.
    return {**run.provenance, "measured_as": kind, "number": None if run.window or run.serving is not None else run.queries}


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any], *, cpu_judged: bool = False) -> tuple[Difference, ...]:
    """What differs between the provenance (or ``record``) of two runs, in the order of ``RULES``. Pure.

    ``cpu_judged`` says that the energy of a CPU or memory domain is judged: then those domains and the CPU's model must agree
    too. Without it only the domains of GPUs must, and another CPU is a warning. A value that one side lacks differs from any
    value: nothing is taken to be equal unseen; where older files lack it, that is a warning. Values that both lack are not compared.
    """
    left, right = _devices(ours, cpu_judged=cpu_judged), _devices(theirs, cpu_judged=cpu_judged)
    found = []
    for rule in RULES:
        if rule.part == "devices":
            common = [domain for domain in left if domain in right]
            a: Any = tuple(left[domain].get(rule.key) for domain in common)
            b: Any = tuple(right[domain].get(rule.key) for domain in common)
        else:
            a, b = _look(rule, ours, left), _look(rule, theirs, right)
        if a != b:
            unknown = rule.late and (_lacking(a) or _lacking(b))
            blocks = not unknown and (rule.blocks == "always" or (rule.blocks == "cpu" and cpu_judged))
            found.append(Difference(rule.name, _show(a, rule), _show(b, rule), blocks, rule.metrics))
    return tuple(found)


def _lacking(value: Any) -> bool:
    return value is None or (isinstance(value, tuple) and None in value)


def _look(rule: Rule, provenance: Mapping[str, Any], devices: Mapping[str, Mapping[str, Any]]) -> Any:
    if rule.part == "domains":
        return tuple(devices)
    if rule.part == "gpus":
        return tuple(device.get(rule.key) for domain, device in devices.items() if _family(domain) == "gpu")
    *path, last = rule.key.split(".") if rule.part == "run" else [rule.key]
    for name in ("machine",) if rule.part == "machine" else path:
        provenance = _mapping(provenance.get(name))
    return provenance.get(last)


def _devices(provenance: Mapping[str, Any], *, cpu_judged: bool) -> dict[str, Mapping[str, Any]]:
    devices = _mapping(provenance.get("devices"))
    counted = [domain for domain in devices if cpu_judged or _family(domain) not in ("cpu", "dram")]
    return {domain: _mapping(devices[domain]) for domain in sorted(counted, key=_by_number)}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _family(domain: str) -> str:
    return domain.partition(":")[0]


def _by_number(domain: str) -> tuple[str, int, str]:
    """Sorts ``gpu:2`` before ``gpu:10``."""
    family, _, index = domain.partition(":")
    return family, int(index) if index.isdecimal() else -1, index


def _show(value: Any, rule: Rule) -> str:
    """A value for people; several devices as ``2 × NVIDIA H100`` or as a list."""
    if not isinstance(value, tuple):
        return rule.absent if value is None else f"{_number(value)}{rule.unit}"
    if not value:
        return "none"
    shown = [_show(item, rule) for item in value]
    if rule.part == "gpus":
        kinds = list(dict.fromkeys(shown))
        return ", ".join(f"{shown.count(kind)} × {kind}" if shown.count(kind) > 1 else kind for kind in kinds)
    return shown[0] if len(set(shown)) == 1 else ", ".join(shown)


def _number(value: Any) -> str:
    """700.0 as 700; all else as it prints."""
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True, slots=True)
class Match:
    """The saved runs of one test that may be compared with a run, and why the others may not."""

    runs: tuple[Run, ...]
    refused: tuple[Difference, ...]
    warnings: tuple[Difference, ...]


def matching(run: Run, sessions: Sequence[Sequence[Run]], *, cpu_judged: bool, metric: str | None = None) -> Match:
    """The saved runs of the same test and name whose ``metric`` (None: any) may be compared: measured alike, on comparable hardware."""
    runs, refused, warnings = [], {}, {}
    for session in sessions:
        for other in session:
            if (other.test, other.name) != (run.test, run.name) or not other.metered:
                continue
            found = [each for each in differences(record(run), record(other), cpu_judged=cpu_judged) if each.concerns(metric)]
            blocking = [each for each in found if each.blocks]
            if blocking:
                refused.update({each.name: each for each in blocking})
            else:
                runs.append(other)
                warnings.update({each.name: each for each in found})
    return Match(tuple(runs), tuple(refused.values()), tuple(warnings.values()))
