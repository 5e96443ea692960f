"""The meters of other hosts, on a simulated clock: stand-in exporters follow GPUs whose true energy is known."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from pytest_greencompute.errors import MeterError, MeterLostError, SettingsError
from pytest_greencompute.estimates.by_metric import estimate
from pytest_greencompute.estimates.estimate import Aim, Estimate, Missing
from pytest_greencompute.measuring.driver import run_metered
from pytest_greencompute.measuring.effort import Effort
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.meters.base import MeterOptions
from pytest_greencompute.meters.hosts import DcgmMeter, PrometheusMeter
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.meters.registry import open_counters
from pytest_greencompute.meters.series import Series, devices_of
from pytest_greencompute.meters.servers import Server
from pytest_greencompute.meters.tracks import Track
from pytest_greencompute.testing.simulated import SimulatedClock, SimulatedCounter
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.run import Run
from tests.meters.exporters import COUNTED_BEFORE_J, ENERGY, POWER, Exporters, StandInExporter, StandInPrometheus

MONITOR = {"ENERGY_PROMETHEUS_URL": "http://monitor:9090"}
LOAD_S, LOAD_W = 20.0, 300.0


def instruments_of(meter: Any, clock: SimulatedClock, environ: Mapping[str, str], domains: Sequence[str] = ("auto",)) -> Instruments:
    opened = open_counters(["theirs"], MeterOptions(clock, environ, domains=tuple(domains)), {"theirs": meter})
    return Instruments(opened.counters, clock, elsewhere=opened.elsewhere, domains=domains)


def through_prometheus(interval_s: float, *exporters: StandInExporter, **server: Any) -> tuple[StandInPrometheus, Instruments]:
    clock, environ = exporters[0].clock, {**MONITOR, **server.pop("environ", {})}
    targets = {f"{each.host}:9400": each.text for each in exporters}
    prometheus = StandInPrometheus(clock, interval_s, targets, **server)
    return prometheus, instruments_of(PrometheusMeter(prometheus), clock, environ)


def scraped_here(*exporters: StandInExporter, **environ: str) -> tuple[Exporters, Instruments]:
    get = Exporters(**{each.host.replace("-", "_"): each.text for each in exporters})
    environ["ENERGY_EXPORTER_URLS"] = ",".join(f"http://{each.host}:9400" for each in exporters)
    return get, instruments_of(DcgmMeter(get), exporters[0].clock, environ)


def measured(
    instruments: Instruments,
    exporter: StandInExporter,
    *others: StandInExporter,
    load_s: float = LOAD_S,
    called: Callable[[], None] = lambda: None,
    **effort: Any,
) -> Run:
    """A model whose query takes ``load_s`` on the first GPU of each exporter's host."""

    def model(batch: list[int]) -> list[int]:
        for each in (exporter, *others):
            each.gpus[0].set_power(LOAD_W)
        called()
        exporter.clock.sleep(load_s)
        for each in (exporter, *others):
            each.gpus[0].set_power(each.idle_w)
        return batch

    return run_metered(Task(model, [1]), instruments, Effort(**{"max_seconds": 400.0, "seed": 1, **effort}))[0]


def figure(run: Run, metric: str = "energy_per_query") -> Estimate:
    found = estimate(run, METRICS[metric], Aim())
    assert isinstance(found, Estimate), found
    return found


@pytest.mark.parametrize("load_s", [20.0, 47.0])
@pytest.mark.parametrize("collected", [0.02, 0.7])
@pytest.mark.parametrize("scrape_s", [1.0, 5.0, 15.0])
def test_a_load_that_prometheus_scrapes_is_within_two_per_cent_and_its_interval_covers(
    scrape_s: float, collected: float, load_s: float
) -> None:
    """The exporter asks its GPUs at times of its own, often or (0.7) as seldom as makes a sample old by most of a period, or not at all."""
    exporter = StandInExporter(SimulatedClock(), collect_s=collected * scrape_s)
    _, instruments = through_prometheus(scrape_s, exporter)
    found = figure(measured(instruments, exporter, load_s=load_s))
    assert found.value == pytest.approx(LOAD_W * load_s, rel=0.02)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= LOAD_W * load_s <= found.high
    assert found.domain == "gpu:node-1/0"
    assert found.method == "counter"
    (source,) = instruments.sources
    assert source.tick_s == pytest.approx(scrape_s, rel=0.01)
    assert source.device == "NVIDIA H100 80GB HBM3"


@pytest.mark.parametrize("scrape_s", [1.0, 5.0, 15.0])
def test_a_load_that_is_scraped_here_is_within_two_per_cent_and_its_interval_covers(scrape_s: float) -> None:
    """The exporter asks its GPUs every ``scrape_s``; when, nobody says: that is seen."""
    exporter = StandInExporter(SimulatedClock(), collect_s=scrape_s)
    get, instruments = scraped_here(exporter)
    found = figure(measured(instruments, exporter))
    assert found.value == pytest.approx(LOAD_W * LOAD_S, rel=0.02)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= LOAD_W * LOAD_S <= found.high
    (source,) = instruments.sources
    assert source.tick_s == pytest.approx(scrape_s, rel=0.02)
    seconds = exporter.clock.now_ns() / 1e9
    assert get.scrapes < 6 * seconds / scrape_s + 10 * scrape_s * 3 + 20  # dense around the ticks alone, once they are known


def test_an_exporter_that_reads_its_gpus_whenever_it_is_scraped_is_scraped_once_a_second() -> None:
    exporter = StandInExporter(SimulatedClock())
    get, instruments = scraped_here(exporter)
    found = figure(measured(instruments, exporter))
    assert found.value == pytest.approx(LOAD_W * LOAD_S, rel=0.02)
    assert get.scrapes == pytest.approx(exporter.clock.now_ns() / 1e9, rel=0.05)


@pytest.mark.parametrize(("direct", "collect_s"), [(False, 0.0), (True, 0.0), (True, 5.0)])
def test_a_reading_has_the_time_at_which_it_was_sampled(*, direct: bool, collect_s: float) -> None:
    exporter = StandInExporter(SimulatedClock(), collect_s=collect_s)
    start_ns = exporter.clock.now_ns()
    instruments = scraped_here(exporter)[1] if direct else through_prometheus(5.0, exporter)[1]
    instruments.probe()
    seen = set()
    for watts in (60, 700, 100, 400, 650, 60) * 3:
        exporter.gpus[0].set_power(watts)
        exporter.clock.sleep(7.3)
        reading = instruments.read()["gpu:node-1/0"]
        seen.add(reading.t_ns)
        true_j = exporter.true_j(start_ns, reading.t_ns)
        assert abs(reading.energy_j - COUNTED_BEFORE_J - true_j) <= 0.2 * 700  # a tenth of a second of the counter, and one of the looks
    assert len(seen) > 8


def test_of_two_jobs_that_scrape_one_exporter_one_is_followed_until_it_ends() -> None:
    """Mixed, their samples would tick at two times, and each might be older than it seems by as much as it likes."""
    clock = SimulatedClock()
    server = Server(Exporters(), "http://monitor:9090", (), clock)

    def by(job: str, *seconds: float) -> Series:
        return Series(ENERGY, {"UUID": "GPU-1", "gpu": "0", "job": job}, tuple((1000.0 * each, round(each * 1e9)) for each in seconds))

    (device,) = devices_of([by("a", 1)])
    track = Track(device, 5.0)

    def times(*series: Series) -> list[float]:
        for each in server.seen(series, [track]):
            track.take(each.samples, clock.now_ns())
        return [reading.t_ns / 1e9 for reading in track.readings]

    assert times(by("a", 1, 6, 11), by("b", 2, 7)) == [1, 6, 11]
    assert times(by("a", 6, 11), by("b", 7, 12)) == [1, 6, 11]
    assert times(by("a", 11, 16), by("b", 12, 17)) == [1, 6, 11, 16]
    assert times(by("a", 11, 16), by("b", 17, 22, 27)) == [1, 6, 11, 16, 17, 22, 27]


def test_power_is_summed_where_an_exporter_shows_no_energy() -> None:
    exporter = StandInExporter(SimulatedClock(), metrics=[POWER])
    _, instruments = through_prometheus(1.0, exporter)
    found = figure(measured(instruments, exporter))
    assert found.method == "integrated"
    assert found.value == pytest.approx(LOAD_W * LOAD_S, rel=0.02)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= LOAD_W * LOAD_S <= found.high


def test_two_hosts_are_summed_to_the_truth() -> None:
    clock = SimulatedClock()
    first, second = StandInExporter(clock), StandInExporter(clock, "node-2", first=8, hostname="hostname", idle_w=80.0)
    _, instruments = through_prometheus(5.0, first, second, environ={"ENERGY_SERIES": 'hostname=~"node-.*"'})
    found = figure(measured(instruments, first, second))
    assert found.domain == "gpu:node-1/0+gpu:node-2/0"
    assert found.value == pytest.approx(2 * LOAD_W * LOAD_S, rel=0.02)
    of_one = estimate(measured(instruments, first, second), METRICS["energy_per_query"], Aim(domains=("gpu:node-2",)))
    assert isinstance(of_one, Estimate)
    assert of_one.value == pytest.approx(LOAD_W * LOAD_S, rel=0.02)


# What is there


def found_by(environ: Mapping[str, str], *exporters: StandInExporter, **server: Any) -> list[str]:
    _, instruments = through_prometheus(5.0, *exporters, environ=environ, **server)
    return [source.domain for source in instruments.sources]


def test_gpus_are_chosen_by_host_uuid_pod_and_namespace() -> None:
    clock = SimulatedClock()
    first = StandInExporter(clock, count=2, labels={"pod": "llm-0", "namespace": "chat"})
    second = StandInExporter(clock, "node-2", hostname="hostname", first=8, labels={"pod": "llm-1", "namespace": "search"})

    def found(chosen: str) -> list[str]:
        return found_by({"ENERGY_SERIES": chosen}, first, second)

    assert found('Hostname="node-1"') == found('hostname="node-1"') == found('host="node-1"') == ["gpu:node-1/0", "gpu:node-1/1"]
    assert found('{hostname="node-2"}') == found('namespace!="chat"') == found('pod=~".*-1"') == ["gpu:node-2/0"]
    assert found(f'UUID="{first.gpus[1].uuid}"') == ["gpu:node-1/1"]
    assert found('gpu="0", namespace=~"chat|search"') == ["gpu:node-1/0", "gpu:node-2/0"]


def test_a_pod_that_the_server_has_renamed_is_found_under_its_own_name() -> None:
    exporter = StandInExporter(SimulatedClock(), labels={"pod": "llm-0", "namespace": "chat"})

    def relabelled(labels: dict[str, str]) -> list[dict[str, str]]:
        theirs = {"exported_pod": labels.get("pod", ""), "exported_namespace": labels.get("namespace", "")}
        return [{**labels, **theirs, "pod": "dcgm-exporter-x7k", "namespace": "monitoring"}]

    assert found_by({"ENERGY_SERIES": 'pod="llm-0",namespace="chat"'}, exporter, relabel=relabelled) == ["gpu:node-1/0"]
    with pytest.raises(MeterError, match="no energy of a GPU or a processor"):
        found_by({"ENERGY_SERIES": 'pod="dcgm-exporter-x7k"'}, exporter, relabel=relabelled)


def test_several_hosts_are_not_taken_without_being_named() -> None:
    clock = SimulatedClock()
    with pytest.raises(MeterError, match="has the energy of 2 hosts: node-1, node-2"):
        found_by({}, StandInExporter(clock), StandInExporter(clock, "node-2", first=8))


def test_without_an_address_there_is_nothing_and_the_variable_is_named() -> None:
    for meter, variable in ((PrometheusMeter(), "ENERGY_PROMETHEUS_URL"), (DcgmMeter(), "ENERGY_EXPORTER_URLS")):
        options = MeterOptions(SimulatedClock(), {})
        with pytest.raises(MeterError, match=f"{variable} is not set"):
            meter.find(options)
        (ability,) = meter.abilities(options)
        assert not ability.works
        assert variable in ability.remedy


def test_abilities_name_each_gpu_and_where_it_is_read() -> None:
    exporter = StandInExporter(SimulatedClock(), count=2)
    prometheus = StandInPrometheus(exporter.clock, 5.0, {"node-1:9400": exporter.text})
    abilities = PrometheusMeter(prometheus).abilities(MeterOptions(exporter.clock, MONITOR))
    assert [each.domain for each in abilities] == ["gpu:node-1/0", "gpu:node-1/1"]
    assert all(each.works and "DCGM exporter on node-1" in each.says and "GPU-4c226d4d" in each.says for each in abilities)


def test_a_gpu_that_nvml_reads_is_not_counted_a_second_time() -> None:
    exporter = StandInExporter(SimulatedClock(), count=2)
    prometheus = StandInPrometheus(exporter.clock, 5.0, {"node-1:9400": exporter.text})

    class Here:
        name = "here"

        def find(self, options: MeterOptions) -> list[Any]:
            return [exporter.gpus[0].energy_counter()]

        def abilities(self, options: MeterOptions) -> list[Any]:
            return []

    meters: dict[str, Any] = {"here": Here(), "theirs": PrometheusMeter(prometheus)}
    opened = open_counters(["here", "theirs"], MeterOptions(exporter.clock, MONITOR), meters)
    assert [each.source.domain for each in opened.counters] == ["gpu:0", "gpu:node-1/1"]
    assert opened.elsewhere == {"gpu:node-1/1"}


# Processors


RAPL = """# TYPE node_rapl_package_joules_total counter
node_rapl_package_joules_total{{index="0",path="/sys/class/powercap/intel-rapl:0"}} {cpu:.6f}
node_rapl_package_joules_total{{index="1",path="/sys/class/powercap/intel-rapl:1"}} {cpu:.6f}
node_rapl_core_joules_total{{index="0",path="/sys/class/powercap/intel-rapl:0:0"}} {cpu:.6f}
node_rapl_dram_joules_total{{index="0",path="/sys/class/powercap/intel-rapl:0:1"}} {dram:.6f}
"""
KEPLER = """# TYPE kepler_node_cpu_joules_total counter
kepler_node_cpu_joules_total{{node_name="node-1",zone="package",path="/sys/class/powercap/intel-rapl:0"}} {cpu:.6f}
kepler_node_cpu_joules_total{{node_name="node-1",zone="core",path="/sys/class/powercap/intel-rapl:0:0"}} {cpu:.6f}
kepler_node_cpu_joules_total{{node_name="node-1",zone="dram",path="/sys/class/powercap/intel-rapl:0:1"}} {dram:.6f}
"""


def processors(clock: SimulatedClock, text: str) -> Callable[[], str]:
    """What an exporter of a processor that draws 100 W, and 10 W in its memory, shows."""
    return lambda: text.format(cpu=5000 + 100 * clock.now_ns() / 1e9, dram=70 + 10 * clock.now_ns() / 1e9)


class Rapl:
    """A meter of this machine's processors."""

    name = "here"

    def __init__(self, counters: list[SimulatedCounter]) -> None:
        self._counters = counters

    def find(self, options: MeterOptions) -> list[SimulatedCounter]:
        return self._counters

    def abilities(self, options: MeterOptions) -> list[Any]:
        return []


def test_node_exporter_and_kepler_show_the_processor_and_its_memory_and_neither_counts_twice() -> None:
    clock = SimulatedClock()
    exporter = StandInExporter(clock)
    targets = {"node-1:9400": exporter.text, "node-1:9100": processors(clock, RAPL), "node-1:28282": processors(clock, KEPLER)}
    prometheus = StandInPrometheus(clock, 5.0, targets)
    instruments = instruments_of(PrometheusMeter(prometheus), clock, MONITOR)
    assert [each.domain for each in instruments.sources] == ["gpu:node-1/0", "cpu:node-1/0", "cpu:node-1/1", "dram:node-1/0"]
    assert {each.note for each in instruments.sources if "gpu" not in each.domain} == {"node exporter on node-1"}
    before = instruments.read()
    clock.sleep(50)
    after = instruments.read()
    watts = [(after[each].energy_j - before[each].energy_j) / (after[each].t_ns - before[each].t_ns) * 1e9 for each in before]
    assert watts == pytest.approx([60, 100, 100, 10], rel=0.01)


@pytest.mark.parametrize(
    ("host", "domains"),
    [
        ("127.0.0.1", ["cpu:0", "cpu:1"]),  # this machine, by an address of its own
        ("203.0.113.7", ["cpu:0", "cpu:1", "cpu:203.0.113.7/0", "cpu:203.0.113.7/1", "dram:203.0.113.7/0"]),
    ],
)
def test_a_processor_that_is_read_here_is_not_counted_again_as_its_exporter_shows_it(host: str, domains: list[str]) -> None:
    clock = SimulatedClock()
    here = Rapl([SimulatedCounter(clock, domain=each) for each in ("cpu:0", "cpu:1")] + [SimulatedCounter(clock, domain="dram")])
    there = PrometheusMeter(StandInPrometheus(clock, 5.0, {f"{host}:9100": processors(clock, RAPL)}))
    meters: dict[str, Any] = {"here": here, "theirs": there}
    opened = open_counters(["here", "theirs"], MeterOptions(clock, MONITOR), meters)
    assert [each.source.domain for each in opened.counters if each.source.domain != "dram"] == domains


def test_whole_families_of_two_hosts_do_not_overlap_and_a_host_that_nobody_knows_is_refused() -> None:
    clock = SimulatedClock()
    for host, known in (("203.0.113.7", True), ("no..name", False)):
        there = PrometheusMeter(StandInPrometheus(clock, 5.0, {f"{host}:9100": processors(clock, RAPL)}))
        meters: dict[str, Any] = {"here": Rapl([SimulatedCounter(clock, domain="cpu")]), "theirs": there}
        opened = open_counters(["here", "theirs"], MeterOptions(clock, MONITOR), meters)
        assert len(opened.counters) == (4 if known else 1)
        said = [str(error) for _, error in opened.refusals]
        assert said == [] if known else "Whether no..name is this machine is not known" in said[0]


def test_processors_at_the_ends_of_tunnels_are_of_several_hosts() -> None:
    clock = SimulatedClock()
    get = Exporters({f"http://localhost:{port}/metrics": processors(clock, RAPL) for port in (9101, 9102)})
    environ = {"ENERGY_EXPORTER_URLS": "http://localhost:9101,http://localhost:9102"}
    instruments = instruments_of(DcgmMeter(get), clock, environ, ["cpu"])
    processor = [each.domain for each in instruments.sources if each.domain.startswith("cpu")]
    assert sorted(processor) == [f"cpu:localhost/{number}" for number in range(4)]
    clock.sleep(10)
    instruments.read()


def test_hosts_of_one_name_in_two_clusters_are_not_taken_for_one() -> None:
    clock, texts = SimulatedClock(), (KEPLER, KEPLER.replace("{cpu", "9{cpu").replace("{dram", "9{dram"))
    targets = {f"10.0.{number}.7:28282": processors(clock, text) for number, text in enumerate(texts)}

    def clusters(labels: dict[str, str]) -> list[dict[str, str]]:
        return [{**labels, "cluster": labels["instance"].split(".")[2]}]

    prometheus = StandInPrometheus(clock, 5.0, targets, relabel=clusters)
    with pytest.raises(MeterError, match=r"node-1 is 2 hosts of one name.*Choose one by cluster or instance"):
        instruments_of(PrometheusMeter(prometheus), clock, MONITOR)
    chosen = instruments_of(PrometheusMeter(prometheus), clock, {**MONITOR, "ENERGY_SERIES": 'cluster="1"'})
    assert [each.domain for each in chosen.sources] == ["cpu:node-1/0", "dram:node-1/0"]
    twice = StandInPrometheus(clock, 5.0, dict.fromkeys(targets, next(iter(targets.values()))), relabel=clusters)
    assert len(instruments_of(PrometheusMeter(twice), clock, MONITOR).sources) == 2  # two jobs that scrape one exporter


def test_a_host_that_only_another_exporter_shows_is_not_left_out_in_silence() -> None:
    clock = SimulatedClock()
    kepler = processors(clock, KEPLER.replace("node-1", "node-2"))
    targets = {"http://node-1:9100/metrics": processors(clock, RAPL), "http://node-2:28282/metrics": kepler}

    def found(*, chosen: str = "") -> list[str]:
        environ = {"ENERGY_EXPORTER_URLS": " ".join(targets), "ENERGY_SERIES": chosen}
        return [each.domain for each in instruments_of(DcgmMeter(Exporters(targets)), clock, environ).sources]

    with pytest.raises(MeterError, match="processors of node-2 are shown by another exporter"):
        found()
    assert found(chosen='host="node-2"') == ["cpu:node-2/0", "dram:node-2/0"]


def test_kepler_alone_will_do() -> None:
    clock = SimulatedClock()
    prometheus = StandInPrometheus(clock, 5.0, {"10.0.0.7:28282": processors(clock, KEPLER)})
    instruments = instruments_of(PrometheusMeter(prometheus), clock, MONITOR)
    assert [each.domain for each in instruments.sources] == ["cpu:node-1/0", "dram:node-1/0"]


# What goes wrong


def test_a_series_that_nobody_renews_is_stale_and_never_a_zero() -> None:
    exporter = StandInExporter(SimulatedClock())
    _, instruments = through_prometheus(5.0, exporter)
    instruments.read()
    exporter.down = True
    exporter.clock.sleep(12)
    instruments.read()  # two scrapes that were missed are none
    exporter.clock.sleep(20)
    with pytest.raises(MeterLostError, match=r"gpu:node-1/0 has shown nothing new for \d+ s, and a sample comes every 5 s"):
        instruments.read()
    exporter.down = False
    exporter.clock.sleep(6)
    instruments.read()


def test_an_exporter_that_goes_on_showing_what_it_has_shown_is_stale_too() -> None:
    for through in (lambda each: through_prometheus(5.0, each), scraped_here):
        exporter = StandInExporter(SimulatedClock(), collect_s=5.0)
        _, instruments = through(exporter)
        instruments.probe()
        exporter.frozen = True
        exporter.clock.sleep(40)
        with pytest.raises(MeterLostError, match="has shown nothing new"):
            instruments.read()


def test_a_counter_that_starts_anew_loses_what_is_measured_and_nothing_after() -> None:
    exporter = StandInExporter(SimulatedClock())
    _, instruments = through_prometheus(5.0, exporter)
    instruments.read()
    exporter.reset_j = 8.1e6
    exporter.clock.sleep(11)
    with pytest.raises(MeterLostError, match=r"gpu:node-1/0 ran backwards by 8\.1e\+06 J"):
        instruments.read()
    before = instruments.read()["gpu:node-1/0"]
    exporter.clock.sleep(30)
    after = instruments.read()["gpu:node-1/0"]
    assert after.energy_j - before.energy_j == pytest.approx(60 * (after.t_ns - before.t_ns) / 1e9, rel=0.01)
    assert "gpu:node-1/0" in instruments.dropped_j  # so that the total of the session is none


def test_a_counter_that_started_anew_before_anybody_looked_loses_nothing() -> None:
    exporter = StandInExporter(SimulatedClock())
    prometheus = StandInPrometheus(exporter.clock, 5.0, {"node-1:9400": exporter.text})
    exporter.reset_j = 8.1e6
    exporter.clock.sleep(20)
    instruments = instruments_of(PrometheusMeter(prometheus), exporter.clock, MONITOR)
    assert instruments.read()["gpu:node-1/0"].energy_j < 60 * 100


def test_a_counter_that_starts_anew_between_two_blocks_costs_one_set() -> None:
    exporter = StandInExporter(SimulatedClock())
    _, instruments = through_prometheus(1.0, exporter)
    calls = itertools.count(1)

    def reset() -> None:
        exporter.reset_j = 8.1e6 if next(calls) >= 12 else 0.0

    run = measured(instruments, exporter, called=reset)
    assert figure(run).value == pytest.approx(LOAD_W * LOAD_S, rel=0.02)
    assert [note for note in run.notes if "ran backwards" in note]


def test_an_exporter_that_was_restarted_and_goes_on_counting_loses_nothing() -> None:
    """DCGM passes on what the driver counts."""
    exporter = StandInExporter(SimulatedClock())
    _, instruments = through_prometheus(5.0, exporter)
    before = instruments.read()["gpu:node-1/0"]
    exporter.down = True
    exporter.clock.sleep(9)
    exporter.down = False
    exporter.clock.sleep(11)
    after = instruments.read()["gpu:node-1/0"]
    assert after.energy_j - before.energy_j == pytest.approx(60 * (after.t_ns - before.t_ns) / 1e9, rel=0.01)


def test_power_that_was_not_seen_for_long_is_not_made_up() -> None:
    exporter = StandInExporter(SimulatedClock(), metrics=[POWER])
    _, instruments = through_prometheus(5.0, exporter)
    instruments.read()
    exporter.down = True
    exporter.clock.sleep(60)
    exporter.down = False
    exporter.clock.sleep(10)
    with pytest.raises(MeterLostError, match="the power of gpu:node-1/0 was not sampled for"):
        instruments.read()
    instruments.read()


def test_a_server_that_hands_samples_on_late_moves_none_of_the_energy() -> None:
    exporter = StandInExporter(SimulatedClock())
    _, instruments = through_prometheus(5.0, exporter, delay_s=7.0, ahead_s=1.7e9 - 3600)
    assert figure(measured(instruments, exporter)).value == pytest.approx(LOAD_W * LOAD_S, rel=0.02)
    assert instruments.sources[0].lag_s >= 12


def test_an_exporter_that_is_slower_than_its_scrapes_ticks_as_slowly_as_it_is() -> None:
    exporter = StandInExporter(SimulatedClock(), collect_s=15.0)
    _, instruments = through_prometheus(5.0, exporter)
    found = figure(measured(instruments, exporter))
    assert found.value == pytest.approx(LOAD_W * LOAD_S, rel=0.02)
    assert instruments.sources[0].tick_s == pytest.approx(15, rel=0.1)


def test_a_series_that_relabelling_shows_twice_is_one_gpu() -> None:
    exporter = StandInExporter(SimulatedClock())

    def twice(labels: dict[str, str]) -> list[dict[str, str]]:
        return [labels, {**labels, "job": "gpu-operator", "cluster": "a"}]

    _, instruments = through_prometheus(5.0, exporter, relabel=twice)
    assert [each.domain for each in instruments.sources] == ["gpu:node-1/0"]
    assert figure(measured(instruments, exporter)).value == pytest.approx(LOAD_W * LOAD_S, rel=0.02)


def test_a_series_that_is_relabelled_on_the_way_goes_on() -> None:
    """As where a pod is replaced: the old series ends, a new one of the same GPU begins."""
    exporter = StandInExporter(SimulatedClock(), labels={"pod": "llm-0"})
    prometheus, instruments = through_prometheus(5.0, exporter)
    before = instruments.read()["gpu:node-1/0"]
    prometheus.relabel = lambda labels: [{**labels, "pod": "llm-1"}]
    for _ in range(6):
        exporter.clock.sleep(10)
        after = instruments.read()["gpu:node-1/0"]
    assert after.energy_j - before.energy_j == pytest.approx(60 * (after.t_ns - before.t_ns) / 1e9, rel=0.01)


def test_a_pod_that_was_chosen_and_has_gone_is_no_figure() -> None:
    exporter = StandInExporter(SimulatedClock(), labels={"pod": "llm-0"})
    prometheus, instruments = through_prometheus(5.0, exporter, environ={"ENERGY_SERIES": 'pod="llm-0"'})
    prometheus.relabel = lambda labels: [{**labels, "pod": "llm-1"}]
    exporter.clock.sleep(40)
    with pytest.raises(MeterLostError, match="has shown nothing new"):
        instruments.read()


def test_one_gpu_of_eight_that_is_lost_leaves_no_figure_of_seven() -> None:
    exporter = StandInExporter(SimulatedClock(), count=8)
    _, instruments = through_prometheus(5.0, exporter)
    assert len(instruments.sources) == 8
    instruments.probe()
    exporter.missing = {5}
    with pytest.raises(MeterError, match=r"the series of gpu:node-1/5 has shown nothing new"):
        measured(instruments, exporter)


def test_a_gpu_that_was_lost_before_is_not_left_out_in_silence() -> None:
    exporter = StandInExporter(SimulatedClock(), count=2)
    prometheus = StandInPrometheus(exporter.clock, 5.0, {"node-1:9400": exporter.text})
    exporter.missing = {1}
    exporter.clock.sleep(60)
    with pytest.raises(MeterError, match=r"gpu:node-1/1 has shown nothing new"):
        instruments_of(PrometheusMeter(prometheus), exporter.clock, MONITOR)


def test_a_gpu_in_parts_has_no_energy_of_its_parts() -> None:
    exporter = StandInExporter(SimulatedClock(), labels={"GPU_I_ID": "4", "GPU_I_PROFILE": "1g.6gb"})
    with pytest.raises(MeterError, match="in parts"):
        through_prometheus(5.0, exporter)


def test_an_exporter_that_is_listed_and_shows_no_energy_is_not_left_out_in_silence() -> None:
    clock = SimulatedClock()
    exporter, empty = StandInExporter(clock), StandInExporter(clock, "node-2", first=8, missing={0})
    with pytest.raises(MeterError, match="http://node-2:9400/metrics shows no energy"):
        scraped_here(exporter, empty)
    _, instruments = scraped_here(exporter, StandInExporter(clock, "node-2", first=8), ENERGY_SERIES='host="node-1"')
    assert [source.domain for source in instruments.sources] == ["gpu:node-1/0"]  # what nobody means may be listed


def test_a_server_that_could_not_ask_all_its_stores_is_refused_before_a_host_is_missing_and_goes_on_later() -> None:
    exporter, partial = StandInExporter(SimulatedClock()), {"isPartial": True}
    prometheus = StandInPrometheus(exporter.clock, 5.0, {"node-1:9400": exporter.text})

    def get(url: str, asked: Mapping[str, str], /) -> bytes:
        return json.dumps({**json.loads(prometheus(url, asked)), **partial}).encode()

    get.close = lambda: None  # type: ignore[attr-defined]
    with pytest.raises(MeterError, match="could not ask all"):
        instruments_of(PrometheusMeter(get), exporter.clock, MONITOR)  # type: ignore[arg-type]
    partial["isPartial"] = False
    instruments = instruments_of(PrometheusMeter(get), exporter.clock, MONITOR)  # type: ignore[arg-type]
    partial["isPartial"] = True
    exporter.clock.sleep(60)
    instruments.read()


def test_exporters_behind_one_proxy_are_each_their_own_and_one_gpu_at_two_paths_counts_once() -> None:
    clock = SimulatedClock()
    first, second = StandInExporter(clock), StandInExporter(clock, "node-2", first=8)
    get = Exporters({"http://proxy/a/metrics": first.text, "http://proxy/b/metrics": second.text, "http://proxy/b": second.text})
    environ = {"ENERGY_EXPORTER_URLS": "http://proxy/a/metrics http://proxy/b/metrics http://proxy/b"}
    instruments = instruments_of(DcgmMeter(get), clock, environ)
    assert [source.domain for source in instruments.sources] == ["gpu:node-1/0", "gpu:node-2/0"]
    clock.sleep(10)
    instruments.read()


def test_gpus_that_the_queries_do_not_reach_are_unmeasured() -> None:
    clock = SimulatedClock()
    exporter, elsewhere = StandInExporter(clock), StandInExporter(clock, "node-2", first=8)
    _, instruments = through_prometheus(5.0, exporter)
    found = estimate(measured(instruments, elsewhere), METRICS["energy_per_query"], Aim())
    assert isinstance(found, Missing)
    assert "no more than idle power" in found.reason


def test_a_server_that_does_not_answer_is_named_once_its_series_are_stale() -> None:
    exporter = StandInExporter(SimulatedClock())
    prometheus, instruments = through_prometheus(5.0, exporter)
    prometheus.down = True
    exporter.clock.sleep(10)
    instruments.read()
    exporter.clock.sleep(30)
    with pytest.raises(MeterLostError, match="does not answer"):
        instruments.read()
    asked = prometheus.asked
    exporter.clock.sleep(100)
    assert prometheus.asked - asked < 100  # nobody hammers it
    prometheus.down = False
    exporter.clock.sleep(10)
    instruments.read()


def test_closing_the_last_counter_ends_the_looks() -> None:
    exporter = StandInExporter(SimulatedClock(), count=2)
    prometheus, instruments = through_prometheus(5.0, exporter)
    instruments.close()
    instruments.close()
    asked = prometheus.asked
    exporter.clock.sleep(60)
    assert prometheus.asked == asked


@pytest.mark.parametrize("text", ["host=node-1", 'host="node-1" pod="a"', 'host=~"("', "node-1", '="a"'])
def test_a_choice_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="ENERGY_SERIES"):
        PrometheusMeter(StandInPrometheus(SimulatedClock(), 5.0, {})).find(
            MeterOptions(SimulatedClock(), {**MONITOR, "ENERGY_SERIES": text})
        )
