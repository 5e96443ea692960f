"""A load on servers of other machines, in simulated time: two hosts whose true energy is known, seen through a Prometheus server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from pytest_greencompute.errors import MeterError, MeterLostError, SettingsError
from pytest_greencompute.estimates.by_host import energy_by_host, hosts_noted
from pytest_greencompute.estimates.by_metric import estimate
from pytest_greencompute.estimates.estimate import Aim, Estimate, Missing
from pytest_greencompute.estimates.measured_kinds import ServedRun
from pytest_greencompute.measuring.effort import Effort
from pytest_greencompute.meters.base import MeterOptions
from pytest_greencompute.meters.hosts import PrometheusMeter
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.serving.account import Done
from pytest_greencompute.serving.as_run import Load
from pytest_greencompute.serving.load import measure_load
from pytest_greencompute.serving.request import Request, request_of
from pytest_greencompute.testing.simulated import SimulatedClock, SimulatedCounter
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.run import Run
from tests.meters.exporters import StandInExporter, StandInPrometheus

URL = "http://llm.example:8000"
ENVIRON = {"ENERGY_PROMETHEUS_URL": "http://monitor:9090", "ENERGY_SERIES": 'host=~"node-.*"'}
SPREAD_S = (0.7, 0.9, 0.8, 1.1, 0.75, 0.95)  # what requests take, in turn


def wanted(**fields: Any) -> Request:
    return request_of(URL, ["a", "b", "c"], **{"meters_see_hosts": lambda: True, **fields})


class SimulatedClient:
    """A closed loop of requests, on a simulated clock; while it goes on, each host's first GPU draws ``watts``."""

    cpu_s = 0.0

    def __init__(self, clock: SimulatedClock, hosts: Sequence[StandInExporter], watts: Sequence[float] = (400.0, 500.0)) -> None:
        self._clock, self._hosts, self._watts = clock, hosts, watts
        self._answered: list[int] = []
        self._pending: list[Done] = []
        self._sent: list[int] = []

    def _power(self, *, on: bool) -> None:
        for host, watts in zip(self._hosts, self._watts, strict=False):
            host.gpus[0].set_power(watts if on else host.idle_w)

    def begin(self, concurrency: int) -> None:
        self._power(on=True)
        self._answered = [0] * concurrency
        self._sent = [self._clock.now_ns()] * concurrency

    def end(self, within_s: float = 0.0) -> None:
        if within_s:
            self._clock.sleep(1)
        self._power(on=False)

    def oldest_ns(self) -> int:
        self._pending += self._ended()
        return min(self._sent)

    def taken(self) -> list[Done]:
        found, self._pending = self._pending, []
        return [*found, *self._ended()]

    def _ended(self) -> list[Done]:
        found = []
        for slot, count in enumerate(self._answered):
            while True:
                ended_ns = self._sent[slot] + round(SPREAD_S[(slot + count) % len(SPREAD_S)] * 1e9)
                if ended_ns > self._clock.now_ns():
                    break
                found.append(Done(slot % 3, self._sent[slot], ended_ns, "yes", tokens=20, first_s=0.1, events=20))
                self._sent[slot], count = ended_ns, count + 1  # noqa: PLW2901
            self._answered[slot] = count
        return found


def two_hosts(
    scrape_s: float = 5.0, collect_s: float = 0.0
) -> tuple[SimulatedClock, list[StandInExporter], StandInPrometheus, Instruments]:
    clock = SimulatedClock()
    hosts = [
        StandInExporter(clock, count=2, collect_s=collect_s),
        StandInExporter(clock, "node-2", hostname="hostname", first=8, idle_w=80.0, collect_s=collect_s),
    ]
    prometheus = StandInPrometheus(clock, scrape_s, {f"{each.host}:9400": each.text for each in hosts})
    local = SimulatedCounter(clock, domain="cpu")
    counters = PrometheusMeter(prometheus).find(MeterOptions(clock, ENVIRON))
    elsewhere = frozenset(each.source.domain for each in counters)
    return clock, hosts, prometheus, Instruments([*counters, local], clock, elsewhere=elsewhere)


def loaded(clock: SimulatedClock, hosts: Sequence[StandInExporter], instruments: Instruments, seconds: float = 240.0) -> Run:
    client: Any = SimulatedClient(clock, hosts)
    return measure_load(client, wanted(), Load(8, "load"), instruments, Effort(seconds))[0]


def figure(run: Run, metric: str = "energy_per_query") -> Estimate:
    found = estimate(run, METRICS[metric], Aim())
    assert isinstance(found, Estimate), found
    return found


@pytest.mark.parametrize("collected", [0.0, 0.7])
@pytest.mark.parametrize("scrape_s", [1.0, 5.0, 15.0])
def test_two_hosts_sum_to_the_truth_and_each_is_told(scrape_s: float, collected: float) -> None:
    clock, hosts, _, instruments = two_hosts(scrape_s, collected * scrape_s)
    run = loaded(clock, hosts, instruments)
    seconds = (run.blocks[-1].end_ns - run.blocks[0].start_ns) / 1e9
    answered = sum(block.queries for block in run.blocks)
    found = figure(run)
    assert found.domain == "gpu:node-1/0+gpu:node-2/0"  # the second GPU of node-1 idles
    assert found.value == pytest.approx(900 * seconds / answered, rel=0.02)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= 900 * seconds / answered <= found.high
    each = energy_by_host(run, Aim())
    assert list(each) == ["node-1", "node-2"]
    values = [outcome.value for outcome in each.values() if isinstance(outcome, Estimate)]
    assert values == pytest.approx([400 * seconds / answered, 500 * seconds / answered], rel=0.02)
    assert sum(values) == pytest.approx(found.value)
    assert ServedRun(run, [], Aim(), lambda _: pytest.fail("it was measured")).energy_by_host == each
    (note,) = hosts_noted(run, Aim())
    assert note.startswith("energy per query by host: node-1 ")
    assert any("does not see the server, which is on another machine" in note for note in run.notes)
    assert len(run.blocks) >= 6


def test_a_prometheus_that_is_down_at_the_end_costs_the_energy_and_nothing_else() -> None:
    clock, hosts, prometheus, instruments = two_hosts()
    down_ns = clock.now_ns() + 100e9

    def end() -> None:
        prometheus.down = clock.now_ns() > down_ns

    clock.every(1.0, end)
    run = loaded(clock, hosts, instruments)
    found = estimate(run, METRICS["energy_per_query"], Aim())
    assert isinstance(found, Missing)
    assert "stretches were lost" in found.reason
    assert "has shown nothing new" in found.reason
    assert "does not answer" in found.reason
    with pytest.raises(MeterError, match="has shown nothing new"):
        _ = ServedRun(run, [], Aim(), lambda _: pytest.fail("it was measured")).energy_by_host
    assert run.serving is not None
    assert run.serving.answered > 1500  # to the end
    assert figure(run, "latency_p50").value == pytest.approx(0.85, rel=0.1)
    assert figure(run, "throughput").value == pytest.approx(8 / 0.867, rel=0.05)
    assert figure(run, "tokens_per_query").value == pytest.approx(20)


def test_a_prometheus_that_is_down_for_a_moment_costs_nothing() -> None:
    clock, hosts, prometheus, instruments = two_hosts()
    down_ns = clock.now_ns() + 100e9

    def end() -> None:
        prometheus.down = down_ns < clock.now_ns() < down_ns + 8e9

    clock.every(1.0, end)
    run = loaded(clock, hosts, instruments)
    seconds = (run.blocks[-1].end_ns - run.blocks[0].start_ns) / 1e9
    assert figure(run).value == pytest.approx(900 * seconds / sum(block.queries for block in run.blocks), rel=0.02)
    assert not any("lost" in note for note in run.notes)


def test_a_host_that_is_lost_under_load_leaves_no_figure_of_the_others() -> None:
    clock, hosts, _, instruments = two_hosts()
    gone_ns = clock.now_ns() + 100e9

    def end() -> None:
        hosts[1].down = clock.now_ns() > gone_ns

    clock.every(1.0, end)
    found = estimate(loaded(clock, hosts, instruments), METRICS["energy_per_query"], Aim())
    assert isinstance(found, Missing)
    assert "gpu:node-2/0 has shown nothing new" in found.reason


def test_a_meter_of_this_machine_alone_sees_no_server_of_another() -> None:
    clock, hosts, _, _ = two_hosts()
    run = loaded(clock, hosts, Instruments([SimulatedCounter(clock, domain="cpu")], clock), 30.0)
    found = estimate(run, METRICS["energy_per_query"], Aim())
    assert isinstance(found, Missing)
    assert "use a meter of that host" in found.reason
    assert figure(run, "latency_p50").value > 0


def test_another_machine_is_loaded_where_a_meter_sees_it() -> None:
    assert wanted().elsewhere
    assert not request_of("http://127.0.0.1:8000", ["a"], meters_see_hosts=lambda: pytest.fail("nobody needs to know")).elsewhere
    assert not wanted(on_this_machine=True).elsewhere
    with pytest.raises(SettingsError, match=r"llm\.example may be another machine.*--energy-meter prometheus"):
        wanted(meters_see_hosts=lambda: False)


def test_a_lost_meter_of_this_machine_is_an_error_as_before() -> None:
    clock, hosts, _, _ = two_hosts()
    cpu = SimulatedCounter(clock, domain="cpu")
    lost_ns = clock.now_ns() + 20e9
    clock.every(1.0, lambda: cpu.fault("lost") if clock.now_ns() > lost_ns else None)
    client: Any = SimulatedClient(clock, hosts)
    here = request_of("http://127.0.0.1:8000", ["a", "b", "c"])
    with pytest.raises(MeterLostError):
        measure_load(client, here, Load(8, "load"), Instruments([cpu], clock), Effort(60.0))
