"""What exporters show of the energy of hosts, as labelled series: which metrics count, what each is of, and which are chosen. Pure.

Names and labels: DCGM exporter's ``etc/default-counters.csv`` (its label ``Hostname`` is ``hostname`` from 4.5.3 on), node exporter's
collector ``rapl``, and Kepler 0.10 and later (``docs/user/metrics.md``).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pytest_greencompute.errors import MeterError, SettingsError

WHICH = "ENERGY_SERIES"  # the variable that says which series are meant
LONGEST_TEXT = 80  # characters of a label that a report repeats
Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class EnergyMetric:
    """A metric of an exporter. ``unit`` is how many joules (``is_power``: watts) its 1 is; ``kind`` the kind of domain.

    ``zone`` is the label that says instead which part of a processor it is of, ``part`` that which tells the devices of a host apart.
    """

    exporter: str
    unit: float
    kind: str = ""
    zone: str = ""
    part: str = ""
    is_power: bool = False

    def kind_of(self, labels: Labels) -> str:
        """The kind of domain; empty for what lies inside another, such as the cores of a package."""
        return self.kind or _ZONES.get(labels.get(self.zone, "").partition("-")[0], "")


_ZONES = {"package": "cpu", "dram": "dram"}
# Of several metrics of one thing the first counts: a counter before power, and node exporter, which passes on what the kernel says.
METRICS_OF_HOSTS: Mapping[str, EnergyMetric] = {
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": EnergyMetric("DCGM exporter", 1e-3, "gpu", part="gpu"),
    "DCGM_FI_DEV_POWER_USAGE": EnergyMetric("DCGM exporter", 1.0, "gpu", part="gpu", is_power=True),
    "node_rapl_package_joules_total": EnergyMetric("node exporter", 1.0, "cpu", part="index"),
    "node_rapl_dram_joules_total": EnergyMetric("node exporter", 1.0, "dram", part="index"),
    "node_rapl_joules_total": EnergyMetric("node exporter", 1.0, zone="rapl_zone", part="path"),
    "kepler_node_cpu_joules_total": EnergyMetric("Kepler", 1.0, zone="zone", part="path"),
}
_HOST_LABELS = ("hostname", "Hostname", "node_name", "nodename", "node", "instance")
_PORT = re.compile(r"(\[.*\]|[^:]*):\d+")
_MATCHER = re.compile(r'\s*([A-Za-z_]\w*)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"\s*(?:,|$)')
_SUCH = f'Write {WHICH} as Prometheus has it: host="gpu-1",namespace=~"llm-.*".'


@dataclass(frozen=True, slots=True)
class Series:
    """One series: the name of its metric, its labels, and its samples in order of time, each a value and when it was taken (ns)."""

    name: str
    labels: Labels
    samples: tuple[tuple[float, int], ...] = ()


@dataclass(frozen=True, slots=True)
class HostDevice:
    """A device of a host: the domain that it is here, and the series (``name``, ``key``) that show it."""

    domain: str
    name: str
    key: tuple[str, ...]
    host: str
    device: str = ""
    uuid: str = ""
    driver: str = ""
    instances: tuple[str, ...] = field(default=())

    @property
    def metric(self) -> EnergyMetric:
        return METRICS_OF_HOSTS[self.name]


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on a label, as in PromQL; a pattern must fit the whole of it."""

    label: str
    operator: str
    value: str

    def fits(self, labels: Labels) -> bool:
        """Whether a series with these labels is meant; a label that it does not have is empty."""
        found = _value(labels, self.label)
        same = re.fullmatch(self.value, found) is not None if "~" in self.operator else found == self.value
        return same is not self.operator.startswith("!")


def matchers(text: str) -> tuple[Matcher, ...]:
    """The conditions that a text such as ``host="gpu-1",pod=~"llm-.*"`` holds, in braces or not. Raises SettingsError."""
    left, found = text.strip().removeprefix("{").removesuffix("}").strip(), []
    while left:
        match = _MATCHER.match(left)
        if match is None:
            raise SettingsError(f"{WHICH} is {text!r}, which cannot be read from {left[:40]!r} on.", remedy=_SUCH)
        label, operator, value = match.groups()
        value = re.sub(r"\\(.)", r"\1", value) if "~" not in operator else value.replace('\\"', '"').replace("\\\\", "\\")
        if "~" in operator:
            _check_pattern(value)
        found.append(Matcher(label, operator, value))
        left = left[match.end() :].strip()
    return tuple(found)


def _check_pattern(value: str) -> None:
    try:
        re.compile(value)
    except re.error as error:
        raise SettingsError(f"{WHICH} has the pattern {value!r}: {error}.", remedy=_SUCH) from error


def _value(labels: Labels, name: str) -> str:
    """What the exporter said under that name. ``host`` is the host, whatever label says it.

    Where a server puts a label of its own in the place of one of the exporter's, as ``pod``, it keeps that as ``exported_pod``.
    """
    if name == "host":
        return host_of(labels)
    if name.lower() == "hostname":
        return next((said for each in ("hostname", "Hostname") if (said := _said(labels, each))), "")
    return _said(labels, name)


def _said(labels: Labels, name: str) -> str:
    return labels.get(f"exported_{name}") or labels.get(name, "")


def host_of(labels: Labels) -> str:
    """The host that a series is of: as its exporter calls it, else the address that was scraped, without its port."""
    said = _host_as_said(labels)
    with_port = _PORT.fullmatch(said)
    return with_port[1] if with_port else said


def _host_as_said(labels: Labels) -> str:
    return next((said for each in _HOST_LABELS if (said := _said(labels, each))), "")


def key_of(one: Series) -> tuple[str, ...]:
    """What all series of one device have in common, whatever pod or job they are labelled with: a GPU's UUID, where it has one.

    Else an address keeps its port: the ends of tunnels to several hosts have one name.
    """
    metric, uuid = METRICS_OF_HOSTS[one.name], _said(one.labels, "UUID")
    kind = metric.kind_of(one.labels)
    return (kind, uuid) if kind == "gpu" and uuid else (kind, _host_as_said(one.labels), one.labels.get(metric.part, ""))


def chosen(listed: Iterable[Series], wanted: Sequence[Matcher]) -> list[Series]:
    """The series that show the energy of something and fit all of ``wanted``. Raises MeterError for parts of a GPU, which have none."""
    found = []
    for each in listed:
        metric = METRICS_OF_HOSTS.get(each.name)
        if metric is None or not metric.kind_of(each.labels) or not all(matcher.fits(each.labels) for matcher in wanted):
            continue
        if each.labels.get("GPU_I_ID"):
            raise MeterError(
                f"{host_of(each.labels)} shows GPU {as_text(key_of(each)[1])} in parts (MIG), and each with the energy of the whole.",
                remedy=f"Turn MIG off there, or choose other GPUs: {WHICH}.",
            )
        found.append(each)
    return found


def check_one_counter(series: Iterable[Series]) -> None:
    """Raises MeterError for a device without a UUID that series of several hosts seem to show, as where two clusters have a ``node-1``:
    together they run backwards again and again, and one of them would be left out.
    """
    by_device: dict[tuple[str, tuple[str, ...]], list[Series]] = {}
    for each in series:
        if not METRICS_OF_HOSTS[each.name].is_power and not _said(each.labels, "UUID"):
            by_device.setdefault((each.name, key_of(each)), []).append(each)
    for several in by_device.values():
        together = sorted((sample for each in several for sample in each.samples), key=lambda sample: sample[1])
        if _falls(together) > 1 + sum(_falls(each.samples) for each in several):
            differ = sorted(name for name in several[0].labels if len({each.labels.get(name) for each in several}) > 1)
            raise MeterError(
                f"{as_text(host_of(several[0].labels))} is {len(several)} hosts of one name, or counts in {len(several)} ways.",
                remedy=f"Choose one by {as_text(' or '.join(differ))}: {WHICH}.",
            )


def _falls(samples: Sequence[tuple[float, int]]) -> int:
    return sum(after < before for (before, _), (after, _) in itertools.pairwise(samples))


def devices_of(series: Sequence[Series]) -> tuple[HostDevice, ...]:
    """The devices of those series, in order: each once, by the first metric of the table that shows it. Raises MeterError."""
    by_rank = sorted(series, key=lambda each: list(METRICS_OF_HOSTS).index(each.name))
    exporters: dict[str, str] = {}  # of each kind of domain, so that no processor counts twice under two names
    first: dict[tuple[str, ...], Series] = {}
    instances: dict[tuple[str, ...], list[str]] = {}
    for each in by_rank:
        metric, key = METRICS_OF_HOSTS[each.name], key_of(each)
        if exporters.setdefault(key[0], metric.exporter) == metric.exporter:
            first.setdefault(key, each)
            instances.setdefault(key, []).append(each.labels.get("instance", ""))
    if not first:
        raise MeterError(
            "There is no energy of a GPU or a processor among the series that are meant.",
            remedy=f"Let DCGM exporter show DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION, as it does by default, and look at {WHICH}.",
        )
    _check_left_out(series, first.values())
    order = sorted(first.values(), key=lambda one: (host_of(one.labels), key_of(one)[0] != "gpu", *_place(one), _host_as_said(one.labels)))
    names = _domains(order)
    return tuple(_device(each, name, tuple(instances[key_of(each)])) for each, name in zip(order, names, strict=True))


def _check_left_out(series: Iterable[Series], counted: Iterable[Series]) -> None:
    """Raises MeterError for a host whose processors only another exporter shows, since two may call one host by two names. Where there are
    GPUs, they are what is judged.
    """
    seen = {(key_of(each)[0], host_of(each.labels)) for each in counted}
    left = sorted({host_of(each.labels) for each in series if (key_of(each)[0], host_of(each.labels)) not in seen})
    if left and not any(kind == "gpu" for kind, _ in seen):
        raise MeterError(
            f"The processors of {', '.join(map(as_text, left[:5]))} are shown by another exporter than those of the other hosts.",
            remedy=f"Choose the series of one exporter, or one host: {WHICH}.",
        )


def _place(one: Series) -> tuple[str, int, str]:
    """Where a device stands among those of its kind on its host."""
    part = one.labels.get(METRICS_OF_HOSTS[one.name].part, "")
    return key_of(one)[0], int(part) if part.isdecimal() and len(part) < LONGEST_TEXT else 0, part


def _domains(order: Sequence[Series]) -> list[str]:
    """A name for each: its kind, its host, and its number there; a GPU whose number is not its own alone has the start of its UUID."""
    found: list[str] = []
    for each in order:
        kind, number, part = _place(each)
        if kind != "gpu":
            number = sum(key_of(other)[0] == kind and host_of(other.labels) == host_of(each.labels) for other in order[: len(found)])
        name = f"{kind}:{_name(host_of(each.labels))}/{number if kind != 'gpu' or part else _name(key_of(each)[-1])}"
        found.append(name if name not in found else f"{kind}:{_name(host_of(each.labels))}/{_name(key_of(each)[-1])}")
    return found


def _device(one: Series, domain: str, instances: tuple[str, ...]) -> HostDevice:
    labels = one.labels
    is_gpu = METRICS_OF_HOSTS[one.name].kind == "gpu"
    return HostDevice(
        domain,
        one.name,
        key_of(one),
        as_text(host_of(labels)),
        as_text(_said(labels, "modelName")) if is_gpu else f"processor of {as_text(host_of(labels))}",
        as_text(_said(labels, "UUID")) if is_gpu else "",
        as_text(labels.get("DCGM_FI_DRIVER_VERSION", "")),
        instances,
    )


def _name(text: str) -> str:
    """A host or a part as it may stand in the name of a domain."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", text)[:LONGEST_TEXT] or "unknown"


def as_text(text: str) -> str:
    """What somebody else wrote, fit for a terminal: short, and without what steers one."""
    return "".join(each if each.isprintable() else "?" for each in text[:LONGEST_TEXT])
