"""Which runs may be compared: one table with a row for each thing that two runs may differ in, and what a difference does. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from pytest_greencompute.values.footprint import Factors
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.provenance import PACKAGES, Device, Digests, Json, Provenance, Served
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
    "devices.host": "hosts of one kind, of which a server may have others each time",
    "devices.exporter": "passes on what the device's counter shows",
    "devices.read_at": "the address",
    "conditions": "temperatures and clocks, which come and go; what spoils a block marks it",
    "followed": "how many passes, and whose queries: these have their own row",
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


_NO_QUERIES, _NO_FACTORS, _NO_REQUESTS = Digests(), Factors(), Served()  # made once: each pair of runs is looked at again


@dataclass(frozen=True, slots=True)
class Unlike:
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
class Record:
    """What the rows look at: what a run ``said`` of where its figures come from, how it was measured, and the devices that are judged.

    ``number`` of queries is None where it is one of the figures.
    """

    said: Provenance
    measured_as: str | None = None
    number: int | None = None
    devices: Mapping[str, Device] = field(default_factory=dict)

    @property
    def queries(self) -> Digests:
        return self.said.queries or _NO_QUERIES

    @property
    def footprint(self) -> Factors:
        return self.said.footprint or _NO_FACTORS

    @property
    def served(self) -> Served:
        return self.said.served or _NO_REQUESTS

    @property
    def gpus(self) -> tuple[str | None, ...]:
        """The names of all GPUs, in order."""
        return tuple(device.device for domain, device in self.devices.items() if _family(domain) == "gpu")


@dataclass(frozen=True, slots=True)
class Same:
    """One row of the policy: a thing that two runs have the same or not, what it does if they do not, and ``why``.

    ``of`` looks it up in a record; or ``of_each`` in each device whose domain both runs have. ``blocks`` is ``always``, ``cpu`` (if a CPU
    domain is judged) or ``never``. ``metrics``: only these are concerned. ``late``: files of older versions lack it, so what only one side
    has is a warning.
    """

    name: str
    blocks: Literal["always", "cpu", "never"]
    why: str
    of: Callable[[Record], Json] = lambda _: None
    of_each: Callable[[Device], Json] | None = None
    absent: str = "unknown"
    unit: str = ""
    metrics: tuple[str, ...] = ()
    late: bool = False


def _of(*kinds: str, per: Sequence[str] = ()) -> tuple[str, ...]:
    return tuple(metric.name for metric in METRICS.values() if metric.kind in kinds or metric.per in per)


ENERGY = _of("energy")
ANSWERS = _of("score", "answers", "tokens", "calls")  # what depends on what the queries say, and not only on how large they are


def _fact(name: str) -> Callable[[Device], Json]:
    return lambda device: device.facts.get(name)


def _version(package: str) -> Callable[[Record], Json]:
    return lambda it: it.said.machine.versions.get(package)


RULES: tuple[Same, ...] = (
    Same("domain", "always", "other parts of the machine were read", lambda it: tuple(it.devices)),
    Same("GPU", "always", "another device", lambda it: it.gpus),
    Same("power limit", "always", "moves energy and time", of_each=_fact("power_limit_w"), unit=" W"),
    Same("meter", "always", "meters see other parts of the device", of_each=lambda device: device.meter),
    Same("method", "always", "a counter, a sum of samples and a model are not one scale", of_each=lambda device: device.method),
    Same("watts per core", "always", OTHER_MODEL, of_each=_fact("watts_per_core"), unit=" W", metrics=ENERGY, late=True),
    Same("CodeCarbon's CPU mode", "always", OTHER_MODEL, of_each=_fact("cpu_mode"), metrics=ENERGY, late=True),
    Same("CodeCarbon's tracking mode", "always", "other processes count", of_each=_fact("tracking_mode"), metrics=ENERGY, late=True),
    Same("rails", "always", "other parts of the board were read", of_each=_fact("rails"), metrics=ENERGY, late=True),
    Same("CodeCarbon's TDP", "always", OTHER_MODEL, of_each=_fact("tdp_w"), unit=" W", metrics=ENERGY, late=True),
    Same("measured as", "always", "a window, a load and a loop of queries bill other things", lambda it: it.measured_as),
    Same("batch size", "always", "moves energy and time; of a load it is the requests at a time", lambda it: it.said.batch_size),
    Same("number of queries", "always", "other queries", lambda it: it.number),
    Same("queries", "always", "other work", lambda it: it.queries.alike, late=True),
    Same("order and values of the queries", "always", "answers to them in pairs", lambda it: it.queries.exact, metrics=ANSWERS, late=True),
    Same("queries' type", "never", "shows nothing of what they hold", lambda it: it.queries.opaque, absent="known", late=True),
    Same(
        "references",
        "never",
        "a label that was corrected is no other task",
        lambda it: it.said.references,
        metrics=("accuracy",),
        late=True,
    ),
    Same("score", "always", "another scale", lambda it: it.said.score, metrics=("accuracy",), late=True),
    Same("tokens=", "always", "another count of the same text", lambda it: it.said.tokens, metrics=_of("tokens", per=["token"]), late=True),
    Same(
        "reasoning markers",
        "always",
        "other parts of the answer count as reasoning",
        lambda it: it.said.reasoning,
        metrics=("reasoning_tokens_per_query", "reasoning_default"),
        late=True,
    ),
    Same(
        "carbon of a joule",
        "always",
        "another scale",
        lambda it: it.footprint.carbon_kg_per_j,
        unit=" kg",
        metrics=_of(per=["carbon"]),
        late=True,
    ),
    Same("price of a joule", "always", "another scale", lambda it: it.footprint.money_per_j, metrics=_of(per=["money"]), late=True),
    Same("currency", "always", "another scale", lambda it: it.footprint.currency, metrics=_of(per=["money"]), late=True),
    Same("tracer", "always", "slows what it watches down", lambda it: it.said.traced, absent="none"),
    Same("repeats", "always", "a memory's answers are another figure than the model's", lambda it: it.said.repeats, absent="fresh"),
    Same("interface", "always", "other requests", lambda it: it.served.request),
    Same("streaming", "always", "other requests", lambda it: it.served.stream),
    Same("max_tokens", "always", "asks for longer answers", lambda it: it.served.max_tokens),
    Same("options of the requests", "always", "other requests", lambda it: it.served.options),
    Same("model of the server", "never", "which model serves is what is judged, and a path may be its name", lambda it: it.served.model),
    Same("CPU", "cpu", "another device", lambda it: it.said.machine.cpu),
    Same("number of cores", "never", "moves time, and a job's share of a machine varies", lambda it: it.said.machine.cores),
    Same("driver", "never", VERSION, of_each=_fact("driver")),
    Same("CUDA driver", "never", VERSION, of_each=_fact("cuda_driver")),
    Same("greatest clock", "never", "another card of that name", of_each=_fact("max_sm_clock_mhz"), unit=" MHz"),
    Same("operating system", "never", VERSION, lambda it: it.said.machine.os),
    Same("kernel", "never", VERSION, lambda it: it.said.machine.kernel),
    Same("Python", "never", VERSION, lambda it: it.said.machine.python),
    *(Same(package, "never", VERSION, _version(package), absent="not installed") for package in PACKAGES),
    Same("CodeCarbon", "never", VERSION, of_each=_fact("codecarbon")),
    Same("Zeus", "never", VERSION, of_each=_fact("zeus")),
)


def record(run: Run) -> Record:
    """What the rows look at of a run. How many queries a window or a load answers is one of its figures."""
    if run.window:
        return Record(run.provenance, "a window")
    return Record(run.provenance, "a load") if run.serving is not None else Record(run.provenance, "a loop of queries", run.queries)


def differences(ours: Record, theirs: Record, *, cpu_judged: bool = False) -> tuple[Unlike, ...]:
    """What differs between two runs, in the order of ``RULES``. Pure.

    ``cpu_judged`` says that the energy of a CPU or memory domain is judged: then those domains and the CPU's model must agree
    too. Without it only the domains of GPUs must, and another CPU is a warning. A value that one side lacks differs from any
    value: nothing is taken to be equal unseen; where older files lack it, that is a warning. Values that both lack are not compared.
    """
    left, right = (replace(each, devices=_judged(each.said.devices, cpu_judged=cpu_judged)) for each in (ours, theirs))
    common = [(left.devices[domain], right.devices[domain]) for domain in left.devices if domain in right.devices]
    found = []
    for row in RULES:
        if row.of_each is None:
            a, b = row.of(left), row.of(right)
        else:
            a, b = tuple(row.of_each(device) for device, _ in common), tuple(row.of_each(device) for _, device in common)
        if a != b:
            unknown = row.late and (_lacking(a) or _lacking(b))
            blocks = not unknown and (row.blocks == "always" or (row.blocks == "cpu" and cpu_judged))
            found.append(Unlike(row.name, _show(a, row), _show(b, row), blocks, row.metrics))
    return tuple(found)


def _lacking(value: Json) -> bool:
    return value is None or (isinstance(value, tuple) and None in value)


def _judged(devices: Mapping[str, Device], *, cpu_judged: bool) -> dict[str, Device]:
    counted = sorted((each for each in devices if cpu_judged or _family(each) not in ("cpu", "dram")), key=_by_number)
    return {_wherever(domain, counted): devices[domain] for domain in counted}


def _wherever(domain: str, order: Sequence[str]) -> str:
    """The domain; of a device on a host that is named (``gpu:node-1/0``), its place among all of its kind: a server may be moved."""
    family, _, place = domain.partition(":")
    if "/" not in place:
        return domain
    return f"{family}:any host, {[each for each in order if _family(each) == family].index(domain)}"


def _family(domain: str) -> str:
    return domain.partition(":")[0]


def _by_number(domain: str) -> tuple[str, int, str]:
    """Sorts ``gpu:2`` before ``gpu:10``."""
    family, _, index = domain.partition(":")
    return family, int(index) if index.isdecimal() else -1, index


def _show(value: Json, row: Same) -> str:
    """A value for people; several GPUs as ``2 × NVIDIA H100``, else a list, or one value where all are the same."""
    if not isinstance(value, tuple):
        return row.absent if value is None else f"{_number(value)}{row.unit}"
    shown = [_show(item, row) for item in value] or ["none"]
    if row.of_each is not None:
        return shown[0] if len(set(shown)) == 1 else ", ".join(shown)
    return ", ".join(f"{shown.count(kind)} × {kind}" if shown.count(kind) > 1 else kind for kind in dict.fromkeys(shown))


def _number(value: Json) -> str:
    """700.0 as 700; all else as it prints."""
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True, slots=True)
class Comparable:
    """The saved runs of one test that may be compared with a run, and why the others may not."""

    runs: tuple[Run, ...]
    refused: tuple[Unlike, ...]
    warnings: tuple[Unlike, ...]


def unlike(run: Run, sessions: Sequence[Sequence[Run]], *, cpu_judged: bool) -> list[tuple[Run, tuple[Unlike, ...]]]:
    """The metered runs of the same test and name in saved sessions, the oldest first, each with what it does not share with ``run``."""
    ours = record(run)
    same = [each for session in sessions for each in session if (each.test, each.name) == (run.test, run.name) and each.metered]
    return [(each, differences(ours, record(each), cpu_judged=cpu_judged)) for each in same]


def matching(found: Sequence[tuple[Run, tuple[Unlike, ...]]], metric: str | None = None) -> Comparable:
    """Of runs with what they do not share: whose ``metric`` (None: any) may be compared, measured alike on comparable hardware."""
    runs, refused, warnings = [], {}, {}
    for run, differing in found:
        concern = {each.name: each for each in differing if each.concerns(metric)}
        blocking = {name: each for name, each in concern.items() if each.blocks}
        if blocking:
            refused.update(blocking)
        else:
            runs.append(run)
            warnings.update(concern)
    return Comparable(tuple(runs), tuple(refused.values()), tuple(warnings.values()))
