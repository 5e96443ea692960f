"""A stand-in exporter whose true energy is known, over HTTP: scraped by a real Prometheus server on the loopback, and here."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pytest_greencompute.errors import MeterError, MeterLostError
from pytest_greencompute.machine.clock import RealClock
from pytest_greencompute.measuring.script import open_instruments
from pytest_greencompute.meters.base import MeterOptions
from pytest_greencompute.meters.hosts import PrometheusMeter
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.testing.simulated import PowerCurve

PROGRAM = shutil.which("prometheus")
CONFIG = """
global: {{scrape_interval: 500ms, scrape_timeout: 400ms}}
scrape_configs:
- job_name: dcgm
  static_configs: [{{targets: ['127.0.0.1:{port}'], labels: {{pod: dcgm-exporter-x7k}}}}]
"""
ENERGY = "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"
LABELS = 'gpu="0",UUID="GPU-4c226d4d",modelName="NVIDIA L4",Hostname="node-1",pod="llm-0"'


@contextmanager
def exporter(curve: PowerCurve, start_ns: int) -> Iterator[int]:
    """The port of an exporter that shows what the GPU of that curve has drawn."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            joules = 8.1e6 + curve.energy_j(start_ns, time.perf_counter_ns())
            text = f"# TYPE {ENERGY} counter\n{ENERGY}{{{LABELS}}} {joules * 1e3:.0f}\n"
            self.send_response(200)
            self.send_header("content-type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield http.server_port
        finally:
            http.shutdown()
            thread.join()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def wait_for(url: str, process: subprocess.Popen[bytes], within_s: float = 60.0) -> None:
    until_s = time.monotonic() + within_s
    while process.poll() is None and time.monotonic() < until_s:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    pytest.fail("Prometheus did not start")


@pytest.mark.alone(waits=True)
@pytest.mark.skipif(PROGRAM is None, reason="needs the program prometheus: apt-get install prometheus")
def test_a_real_prometheus_shows_the_energy_that_was_used_and_is_missed_when_it_ends(tmp_path: Path) -> None:
    start_ns = time.perf_counter_ns()
    curve, port = PowerCurve(start_ns, 60.0), free_port()
    environ = {"ENERGY_PROMETHEUS_URL": f"http://127.0.0.1:{port}", "ENERGY_SERIES": 'pod="llm-0"'}
    with exporter(curve, start_ns) as scraped:
        (tmp_path / "prometheus.yml").write_text(CONFIG.format(port=scraped), encoding="utf-8")
        command = [str(PROGRAM), f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
        with subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stderr=subprocess.DEVNULL) as process:
            try:
                wait_for(f"http://127.0.0.1:{port}/-/ready", process)
                wait_until_sampled(environ)
                instruments = open_instruments(["prometheus"], environ=environ)
                (source,) = instruments.probe().sources
                assert (source.domain, source.device, source.uuid) == ("gpu:node-1/0", "NVIDIA L4", "GPU-4c226d4d")
                assert source.tick_s == pytest.approx(0.5, rel=0.2)
                check_energy(instruments, curve)
            finally:
                process.terminate()
        time.sleep(4 * source.tick_s + 3.0)
        with pytest.raises(MeterLostError, match="does not answer"):
            instruments.read()
        instruments.close()


def check_energy(instruments: Instruments, curve: PowerCurve) -> None:
    """A load of two seconds has the energy that it used."""
    (source,) = instruments.probe().sources
    before = instruments.ticks()[source.domain]
    curve.set_power(time.perf_counter_ns(), 300.0)
    time.sleep(2.0)
    curve.set_power(time.perf_counter_ns(), 60.0)
    time.sleep(source.lag_s)
    after = instruments.ticks()[source.domain]
    assert after.energy_j - before.energy_j == pytest.approx(curve.energy_j(before.t_ns, after.t_ns), rel=0.02)


@pytest.mark.alone(waits=True)
def test_an_exporter_that_is_scraped_over_http_shows_the_energy_that_was_used() -> None:
    start_ns = time.perf_counter_ns()
    curve = PowerCurve(start_ns, 60.0)
    with exporter(curve, start_ns) as port:
        instruments = open_instruments(["dcgm"], environ={"ENERGY_EXPORTER_URLS": f"http://127.0.0.1:{port}"})
        check_energy(instruments, curve)
        instruments.close()


def wait_until_sampled(environ: dict[str, str], within_s: float = 60.0) -> None:
    until_s = time.monotonic() + within_s
    while True:
        try:
            for counter in PrometheusMeter().find(MeterOptions(RealClock(), environ)):
                counter.close()
            return
        except MeterError:
            if time.monotonic() > until_s:
                raise
            time.sleep(0.2)
