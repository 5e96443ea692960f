"""Stand-ins for exporters and for the Prometheus server that scrapes them, on the simulated clock: what they show follows devices whose
true energy is known.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pytest_greencompute.errors import MeterError
from pytest_greencompute.testing.sensor import Sensor
from pytest_greencompute.testing.simulated import SimulatedClock, SimulatedGpu

FULL = Sensor(update_s=0.1, window_s=0.1)
COUNTED_BEFORE_J = 8.1e6  # since the driver was loaded
ENERGY, POWER = "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "DCGM_FI_DEV_POWER_USAGE"
KEPT = 700
Labels = dict[str, str]


def uuid_of(number: int) -> str:
    return f"GPU-4c226d4d-8129-a7cf-fecd-{number:012x}"


@dataclass
class StandInExporter:
    """DCGM exporter on a host with simulated GPUs, which it asks every ``collect_s`` (0: whenever it is scraped).

    What may go wrong is set from outside: ``missing`` GPUs, an exporter that is ``down`` or ``frozen``, counters that were ``reset_j``
    lower before.
    """

    clock: SimulatedClock
    host: str = "node-1"
    count: int = 1
    collect_s: float = 0.0
    metrics: Sequence[str] = (ENERGY, POWER)
    hostname: str = "Hostname"
    idle_w: float = 60.0
    labels: Labels = field(default_factory=dict)
    missing: set[int] = field(default_factory=set)
    down: bool = False
    frozen: bool = False
    reset_j: float = 0.0
    first: int = 0

    def __post_init__(self) -> None:
        self.gpus = [
            SimulatedGpu(self.clock, sensor=FULL, idle_w=self.idle_w, uuid=uuid_of(self.first + number)) for number in range(self.count)
        ]
        self._text = self._collected()
        if self.collect_s:
            self.clock.every(self.collect_s, self._collect)

    def _collect(self) -> None:
        if not self.frozen:
            self._text = self._collected()

    def text(self) -> str:
        """What a scrape gets."""
        if self.down:
            raise MeterError("node-1 does not answer (no connection).")
        if not self.collect_s:
            self._collect()
        return self._text

    def _collected(self) -> str:
        lines = []
        for metric in self.metrics:
            kind = "counter" if metric == ENERGY else "gauge"
            lines += [f"# HELP {metric} (in mJ or W).", f"# TYPE {metric} {kind}"]
            lines += [self._line(metric, number) for number in range(self.count) if number not in self.missing]
        return "\n".join([*lines, "# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %).", 'DCGM_FI_DEV_GPU_UTIL{gpu="0"} 3', ""])

    def _line(self, metric: str, number: int) -> str:
        gpu = self.gpus[number]
        labels = {"gpu": str(number), "UUID": gpu.uuid, "device": f"nvidia{number}", "modelName": "NVIDIA H100 80GB HBM3"}
        labels |= {self.hostname: self.host, "DCGM_FI_DRIVER_VERSION": "580.65.06", **self.labels}
        value = COUNTED_BEFORE_J - self.reset_j + gpu.read_energy().energy_j
        shown = f"{value * 1000:.0f}" if metric == ENERGY else f"{gpu.read_power_w():.3f}"
        return f"{metric}{{{','.join(f'{name}={json.dumps(said)}' for name, said in labels.items())}}} {shown}"

    def true_j(self, start_ns: int, end_ns: int) -> float:
        """What its GPUs drew."""
        return sum(gpu.true_energy_j(start_ns, end_ns) for gpu in self.gpus)


class Exporters:
    """Gets what exporters show, by address or at the usual one of a host, as ``meters.http_get.Getter`` does. ``scrapes`` counts."""

    def __init__(self, by_address: Mapping[str, Callable[[], str]] | None = None, **by_host: Callable[[], str]) -> None:
        usual = {f"http://{host.replace('_', '-')}:9400/metrics": text for host, text in by_host.items()}
        self._by_address = {**usual, **(by_address or {})}
        self.scrapes = 0

    def __call__(self, url: str, asked: Mapping[str, str], /) -> bytes:
        self.scrapes += 1
        return self._by_address[url]().encode()

    def close(self) -> None:
        pass


_SAMPLE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_QUERY = re.compile(r'\{__name__=~"([^"]*)"(?:,(\w+)=~("(?:[^"\\]|\\.)*"))?\}\[(\d+)s\]')
Relabel = Callable[[Labels], Sequence[Labels]]


class StandInPrometheus:
    """A Prometheus server that scrapes ``targets`` (by the label ``instance``) every ``interval_s``, each at a time of its own, and answers
    the queries that ``meters.promql`` writes.

    ``relabel`` gives the label sets under which a series is kept. Its clock is ``ahead_s``; what it scraped is there ``delay_s`` later.
    """

    def __init__(
        self,
        clock: SimulatedClock,
        interval_s: float,
        targets: Mapping[str, Callable[[], str]],
        *,
        relabel: Relabel = lambda labels: [labels],
        ahead_s: float = 1.7e9,
        delay_s: float = 0.0,
    ) -> None:
        self.clock, self.relabel, self.down, self.asked = clock, relabel, False, 0
        self._ahead_s, self._delay_s = ahead_s, delay_s
        self._kept: dict[tuple[str, frozenset[tuple[str, str]]], list[tuple[float, str]]] = {}
        for number, (instance, text) in enumerate(targets.items()):
            clock.sleep(interval_s * (0.31 + 0.17 * number) / (1 + number))
            clock.every(interval_s, self._scraping(instance, text))
        clock.sleep(10 * interval_s)

    def now_s(self) -> float:
        return self.clock.now_ns() / 1e9 + self._ahead_s

    def _scraping(self, instance: str, text: Callable[[], str]) -> Callable[[], None]:
        def scrape() -> None:
            try:
                shown = text()
            except MeterError:
                return
            for name, listed, value in (match.groups() for match in map(_SAMPLE.fullmatch, shown.splitlines()) if match):
                labels = {key: json.loads(f'"{said}"') for key, said in _LABEL.findall(listed or "")}
                for kept in self.relabel({**labels, "instance": instance, "job": "dcgm"}):
                    samples = self._kept.setdefault((name, frozenset(kept.items())), [])
                    samples.append((round(self.now_s(), 3), value))
                    del samples[:-KEPT]

        return scrape

    def __call__(self, url: str, asked: Mapping[str, str], /) -> bytes:
        self.asked += 1
        if self.down:
            raise MeterError(f"{url} does not answer (no connection).", remedy="Is it up?")
        assert url == "http://monitor:9090/api/v1/query"
        if asked["query"] == "time()":
            return json.dumps({"status": "success", "data": {"resultType": "scalar", "result": [self.now_s(), f"{self.now_s()}"]}}).encode()
        match = _QUERY.fullmatch(asked["query"])
        assert match is not None, asked
        names, label, values, seconds = match.groups()
        return json.dumps(
            {"status": "success", "data": {"resultType": "matrix", "result": self._matrix(names, label, values, float(seconds))}}
        ).encode()

    def _matrix(self, names: str, label: str | None, values: str | None, seconds: float) -> list[object]:
        until = self.now_s() - self._delay_s
        found = []
        for (name, kept), samples in self._kept.items():
            labels = dict(kept)
            if re.fullmatch(names, name) and (label is None or re.fullmatch(json.loads(values or '""'), labels.get(label, ""))):
                within = [[t, value] for t, value in samples if self.now_s() - seconds < t <= until]
                if within:
                    found.append({"metric": {"__name__": name, **labels}, "values": within})
        return found

    def close(self) -> None:
        pass
