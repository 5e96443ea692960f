"""The meters of other hosts: GPUs and processors anywhere, as exporters show their energy, scraped here or by a Prometheus server.

Where they are stands in the environment, since it belongs to the place that measures and not to the project: the addresses in
``ENERGY_PROMETHEUS_URL`` or ``ENERGY_EXPORTER_URLS``, which of their series are meant in ``ENERGY_SERIES``. Whoever lists one of these
meters has a device in mind, so what is not found is a refusal: never a reason to judge what another meter finds here.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from pytest_greencompute.errors import GreencomputeError, MeterError
from pytest_greencompute.machine.clock import Clock
from pytest_greencompute.meters.base import Ability, Counter, MeterOptions, Traits
from pytest_greencompute.meters.http_get import Get, Getter, address_of
from pytest_greencompute.meters.scraped import Scraper
from pytest_greencompute.meters.series import WHICH, HostDevice, check_one_counter, devices_of, matchers
from pytest_greencompute.meters.servers import USUAL_PATH, Exporter, Server
from pytest_greencompute.meters.tracks import LEAST_READINGS, Track

PROMETHEUS, EXPORTERS = "ENERGY_PROMETHEUS_URL", "ENERGY_EXPORTER_URLS"
HISTORY_S = 180.0
MOST_DEVICES = 1024
HINT_S = 30.0  # how often DCGM exporter asks its GPUs unless it was told otherwise
TRAITS = Traits(reads_gpus=True, sees="hosts", models=False)


class PrometheusMeter:
    """The meter ``prometheus``: what a Prometheus server has scraped. ``get`` exists for tests."""

    name = "prometheus"
    traits = TRAITS

    def __init__(self, get: Get | None = None) -> None:
        self._get = get

    def find(self, options: MeterOptions) -> Sequence[Counter]:
        """A counter for each device whose series are meant. Raises MeterError, SettingsError."""
        url = options.environ.get(PROMETHEUS, "").strip()
        if not url:
            raise MeterError(f"{PROMETHEUS} is not set.", remedy=f"Set it to a Prometheus server: {PROMETHEUS}=http://monitor:9090.")
        wanted = matchers(options.environ.get(WHICH, ""))
        with ExitStack() as opened:
            server = Server(self._get or Getter(options.environ), address_of(url, PROMETHEUS), wanted, options.clock)
            opened.callback(server.close)
            series = server.listed(HISTORY_S)
            check_one_counter(series)
            devices = _not_too_many(devices_of(series))
            hosts = {device.host for device in devices}
            if len(hosts) > 1 and not wanted:
                raise MeterError(
                    f"{server.where} has the energy of {len(hosts)} hosts: {', '.join(sorted(hosts)[:5])}{', …' * (len(hosts) > 5)}.",
                    remedy=f"Say which of them run what you measure: {WHICH}='host=\"{min(hosts)}\"'.",
                )
            scraper = Scraper(server, [Track(device, HISTORY_S, aged=True) for device in devices], options.clock, self.name)
            scraper.hand_on(server.seen(series, scraper.tracks))
            for track in scraper.tracks:
                _check_sampled(track, options.clock, server.where)
            opened.pop_all()
        return scraper.start()

    def abilities(self, options: MeterOptions) -> Sequence[Ability]:
        """One line for each device, or one that says why there is none."""
        return _abilities(self, options)


class DcgmMeter:
    """The meter ``dcgm``: exporters that are scraped here, DCGM's and the others of the table. ``get`` exists for tests."""

    name = "dcgm"
    traits = TRAITS

    def __init__(self, get: Get | None = None) -> None:
        self._get = get

    def find(self, options: MeterOptions) -> Sequence[Counter]:
        """A counter for each device whose series are meant, at any of the addresses. Raises MeterError, SettingsError."""
        urls = options.environ.get(EXPORTERS, "").replace(",", " ").split()
        if not urls:
            raise MeterError(f"{EXPORTERS} is not set.", remedy=f"Set it to exporters: {EXPORTERS}=http://gpu-1:9400,http://gpu-2:9400.")
        wanted = matchers(options.environ.get(WHICH, ""))
        counters: list[Counter] = []
        with ExitStack() as opened:
            exporters: list[Exporter] = []
            for address in dict.fromkeys(address_of(url, EXPORTERS, USUAL_PATH) for url in urls):
                exporters.append(Exporter(self._get or Getter(options.environ), address, wanted, options.clock))
                opened.callback(exporters[-1].close)
            devices = _not_too_many(devices_of([each for exporter in exporters for each in exporter.watched()]))
            for exporter in exporters:
                tracks = [Track(device, exporter.pace_s or HINT_S) for device in devices if device.instances[0] == exporter.instance]
                if tracks:
                    scraper = Scraper(exporter, tracks, options.clock, self.name)
                    scraper.hand_on(exporter.look(tracks))
                    opened.callback(scraper.stop)
                    counters += scraper.start()
            opened.pop_all()
        return counters

    def abilities(self, options: MeterOptions) -> Sequence[Ability]:
        """One line for each device, or one that says why there is none."""
        return _abilities(self, options)


def _not_too_many(devices: Sequence[HostDevice]) -> Sequence[HostDevice]:
    if len(devices) > MOST_DEVICES:
        raise MeterError(f"{len(devices)} devices are meant, more than {MOST_DEVICES}.", remedy=f"Choose fewer: {WHICH}.")
    return devices


def _check_sampled(track: Track, clock: Clock, where: str) -> None:
    """Raises MeterError for a series that shows no tick, or none lately: a device that is missing from the start would never be missed."""
    if len(track.readings) < LEAST_READINGS:
        raise MeterError(
            f"{where} has {len(track.readings)} samples that differ of {track.device.domain} in the last {HISTORY_S:.0f} s.",
            remedy="Let it scrape its exporter at least once a minute, better every few seconds, and wait until it has.",
        )
    track.read(clock.now_ns(), "")


def _abilities(meter: PrometheusMeter | DcgmMeter, options: MeterOptions) -> tuple[Ability, ...]:
    try:
        counters = meter.find(options)
    except GreencomputeError as error:
        return (Ability("gpu", works=False, says=error.message, remedy=error.remedy),)
    found = []
    for counter in counters:
        source = counter.source
        says = f"{source.device} {source.uuid}".strip() + f": {source.note}"
        found.append(Ability(source.domain, works=True, says=says, method=source.method))
        counter.close()
    return tuple(found)
