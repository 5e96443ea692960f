"""What is read of exporters and servers that are somebody else's: their words, and where they go too far."""

from __future__ import annotations

import contextlib
import gzip
import json
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_greencompute.errors import MeterError, SettingsError
from pytest_greencompute.meters import exposition, http_get
from pytest_greencompute.meters.exposition import exposed
from pytest_greencompute.meters.http_get import Getter, address_of
from pytest_greencompute.meters.promql import samples_within, series_of, server_seconds
from pytest_greencompute.meters.series import METRICS_OF_HOSTS, Series, as_text, chosen, devices_of, host_of, matchers
from pytest_greencompute.testing.simulated import SimulatedClock
from tests.meters.exporters import StandInExporter

ENERGY = "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"


def shown(text: str | bytes) -> list[Series]:
    return exposed(text if isinstance(text, bytes) else text.encode(), METRICS_OF_HOSTS, "http://node-1:9400/metrics")


def test_only_series_of_energy_are_read_of_what_an_exporter_shows() -> None:
    (energy, power) = shown(
        StandInExporter(SimulatedClock()).text() + "DCGM_FI_DEV_POWER_USAGE_INSTANT{} 7\nnot a line of that format at all {\n"
    )
    assert energy.name == ENERGY
    assert energy.labels["Hostname"] == "node-1"
    assert energy.samples == ((pytest.approx(8.1e9), 0),)
    assert power.name == "DCGM_FI_DEV_POWER_USAGE"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"{ENERGY} NaN\n", "shows DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION as nan"),
        (f"{ENERGY} 1e999\n", "as inf"),
        (f"{ENERGY} -5\n", "as -5"),
        (f"{ENERGY}{{a= 5\n", "not Prometheus's text format"),
        (f"{ENERGY} lots\n", "not Prometheus's text format"),
        (f'{ENERGY}{{a="\\xff"}} 1\n'.encode("latin-1").replace(b"\\xff", b"\xff"), "not Prometheus's text format"),
        (f'{ENERGY}{{a="{"x" * 9000}"}} 1\n', "a series of more than 8192 bytes"),
    ],
)
def test_what_is_no_energy_is_refused_by_name(text: str | bytes, says: str) -> None:
    with pytest.raises(MeterError, match=says):
        shown(text)


def test_more_series_than_anybody_has_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposition, "MOST_SERIES", 50)
    lines = "".join(f'{ENERGY}{{gpu="{number}"}} 1\n' for number in range(51))
    with pytest.raises(MeterError, match="51 series of energy, more than 50"):
        shown(lines)
    result = [{"metric": {"__name__": ENERGY}, "values": []}] * 51
    with pytest.raises(MeterError, match="51 series"):
        series_of(json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}}).encode(), "http://monitor")


@given(st.binary(max_size=300))
def test_whatever_an_exporter_shows_it_is_read_or_refused(content: bytes) -> None:
    try:
        found = shown(ENERGY.encode() + content)
    except MeterError:
        return
    assert all(each.samples[0][0] >= 0 for each in found)


WORDS = st.sampled_from(["status", "data", "result", "resultType", "metric", "values", "error"])
PLAIN = st.none() | st.booleans() | st.floats() | st.text(max_size=9)


@given(st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(WORDS, inner), max_leaves=12))
def test_whatever_a_server_answers_it_is_read_or_refused(answer: Any) -> None:
    result = {"status": "success", "data": {"resultType": "matrix", "result": answer}}
    for wrapped in (answer, {"status": "success", "data": answer}, result):
        for read in (series_of, server_seconds):
            with contextlib.suppress(MeterError):
                read(json.dumps(wrapped).encode(), "http://monitor")


@pytest.mark.parametrize("content", [b"", b"<html>", b"[" * 100_000, b"[]", b'{"status":"success"}', b"\xff\xfe"])
def test_an_answer_that_is_none_of_prometheus_is_refused(content: bytes) -> None:
    with pytest.raises(MeterError, match="does not answer as Prometheus does"):
        series_of(content, "http://monitor")


def test_an_error_of_the_server_is_told_in_its_own_words_without_what_steers_a_terminal() -> None:
    content = json.dumps({"status": "error", "error": "query timed out\x1b[2J" + "x" * 500}).encode()
    with pytest.raises(MeterError, match=r"refused a query: query timed out\?\[2Jx+\.") as raised:
        series_of(content, "http://monitor")
    assert len(raised.value.message) < 150


@pytest.mark.parametrize("more", [{"warnings": ["store 10.0.0.7 did not answer\x1b[2J"]}, {"isPartial": True}, {"warnings": "odd"}])
def test_an_answer_that_may_leave_hosts_out_is_refused_where_the_whole_is_asked_for(more: dict[str, Any]) -> None:
    content = json.dumps({"status": "success", "data": {"resultType": "matrix", "result": []}, **more}).encode()
    with pytest.raises(MeterError, match=r"could not ask all that it reads: [^\x1b]+\."):
        series_of(content, "http://monitor", whole=True)
    assert series_of(content, "http://monitor") == []  # what is known already is missed if it is left out


def test_queries_hold_what_is_asked_and_nothing_that_a_label_says() -> None:
    assert samples_within([ENERGY, "b_total"], 65.0) == f'{{__name__=~"{ENERGY}|b_total"}}[65s]'
    query = samples_within([ENERGY], 65.0, "UUID", ['GPU-1"} or vector(1) #', "GPU-2"])
    assert query == f'{{__name__=~"{ENERGY}",UUID=~"GPU\\\\-1\\"\\\\}}\\\\ or\\\\ vector\\\\(1\\\\)\\\\ \\\\#|GPU\\\\-2"}}[65s]'


# Devices


def gpu(number: int, **labels: str) -> Series:
    return Series(ENERGY, {"gpu": str(number), "UUID": f"GPU-{number}", "Hostname": "node-1", "modelName": "NVIDIA L4", **labels})


def test_hosts_that_share_a_name_keep_their_gpus_apart() -> None:
    """As exporters that are reached over a tunnel are all on localhost."""
    devices = devices_of([gpu(0, Hostname="localhost", UUID="GPU-aa"), gpu(0, Hostname="localhost", UUID="GPU-bb")])
    assert [each.domain for each in devices] == ["gpu:localhost/0", "gpu:localhost/GPU-bb"]


def test_gpus_stand_in_order_and_a_hostile_name_is_made_harmless() -> None:
    devices = devices_of([gpu(10), gpu(2), gpu(0, Hostname="evil+host,\x1b[2J/../x", modelName="<b>\x1b[2J" + "y" * 500)])
    assert [each.domain for each in devices] == ["gpu:evil_host___2J_.._x/0", "gpu:node-1/2", "gpu:node-1/10"]
    assert devices[0].device.startswith("<b>?[2Jyy")
    assert len(devices[0].device) == 80


@pytest.mark.parametrize(
    ("labels", "host"),
    [
        ({"hostname": "a", "instance": "b:1"}, "a"),
        ({"Hostname": "a"}, "a"),
        ({"exported_hostname": "a", "hostname": "pod-of-exporter"}, "a"),
        ({"instance": "node-1.lan:9100"}, "node-1.lan"),
        ({"instance": "[fe80::1]:9100"}, "[fe80::1]"),
        ({"instance": "node-1"}, "node-1"),
        ({"node_name": "k8s-3", "instance": "10.0.0.1:28282"}, "k8s-3"),
        ({}, ""),
    ],
)
def test_the_host_is_what_the_exporter_calls_it_else_what_was_scraped(labels: dict[str, str], host: str) -> None:
    assert host_of(labels) == host


def test_conditions_are_those_of_prometheus() -> None:
    series = [gpu(0, pod="a.b"), gpu(1, pod="axb"), gpu(2)]

    def found(text: str) -> list[str]:
        return [each.labels["gpu"] for each in chosen(series, matchers(text))]

    assert found("") == ["0", "1", "2"]
    assert found('pod="a.b"') == found(r'pod=~"a\.b"') == found(r'pod=~"a\\.b"') == ["0"]
    assert found('pod=~"a.b"') == ["0", "1"]
    assert found('pod=~"a"') == []  # a pattern must fit the whole of it
    assert found('pod!~".+",gpu!="1"') == ["2"]
    assert found('pod=""') == ["2"]


# HTTP


class Behaviour:
    """What a server on the loopback answers with, and what it was asked."""

    def __init__(self) -> None:
        self.status, self.heads, self.chunks = 200, dict[str, str](), [b"hello"]
        self.trickles = b""  # said before all else, byte by byte
        self.seen: list[dict[str, str]] = []
        self.url = ""
        self.http: ThreadingHTTPServer


@pytest.fixture
def server() -> Iterator[Behaviour]:
    behaviour = Behaviour()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            behaviour.seen.append({**{name.lower(): value for name, value in self.headers.items()}, "path": self.path})
            with contextlib.suppress(OSError):  # whoever asked has had enough
                for byte in behaviour.trickles:
                    self.wfile.write(bytes([byte]))
                    time.sleep(0.02)
            self.send_response(behaviour.status)
            for name, value in behaviour.heads.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                for chunk in behaviour.chunks:
                    self.wfile.write(chunk)
            except OSError:  # whoever asked has had enough
                pass

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        behaviour.http = http
        behaviour.url = f"http://127.0.0.1:{http.server_port}"
        yield behaviour
        http.shutdown()
        thread.join()


@pytest.fixture
def get() -> Iterator[Callable[..., bytes]]:
    opened = []

    def made(url: str, environ: dict[str, str] | None = None, **asked: str) -> bytes:
        opened.append(Getter(environ or {}))
        return opened[-1](url, asked)

    yield made
    for each in opened:
        each.close()


def test_an_answer_comes_with_the_token_and_unpacked(server: Behaviour, get: Callable[..., bytes]) -> None:
    assert get(server.url, {"ENERGY_METRICS_TOKEN": "s3cret\n"}, query="time()") == b"hello"
    (seen,) = server.seen
    assert seen["authorization"] == "Bearer s3cret"
    assert seen["accept-encoding"] == "identity"
    assert seen["path"] == "/?query=time%28%29"
    get(server.url)
    assert "authorization" not in server.seen[1]


def test_an_answer_that_is_too_long_is_given_up(server: Behaviour, get: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_get, "LIMIT_BYTES", 2**20)
    server.chunks = [b"x" * 2**16] * 100
    with pytest.raises(MeterError, match="answers with more than 1 MiB"):
        get(server.url)


def test_an_answer_that_is_packed_is_not_unpacked(server: Behaviour, get: Callable[..., bytes]) -> None:
    server.heads, server.chunks = {"content-encoding": "gzip"}, [gzip.compress(b"x" * 10**6)]
    with pytest.raises(MeterError, match="what is packed"):
        get(server.url)


@pytest.mark.parametrize("trickles", [b"HTTP/1.0 200 OK\r\nx-slow: " + b"y" * 100 + b"\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n" + b"y" * 100])
def test_an_answer_whose_head_or_body_trickles_is_given_up(
    server: Behaviour, get: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch, trickles: bytes
) -> None:
    monkeypatch.setattr(http_get, "WHOLE_S", 0.3)
    server.trickles = trickles
    with pytest.raises(MeterError, match="had not answered in whole"):
        get(server.url)
    server.trickles = b""
    monkeypatch.undo()
    assert get(server.url) == b"hello"


def test_a_redirect_is_not_followed_with_the_token(server: Behaviour, get: Callable[..., bytes]) -> None:
    server.status, server.heads = 302, {"location": f"{server.url}/elsewhere"}
    with pytest.raises(MeterError, match="answers with status 302"):
        get(server.url, {"ENERGY_METRICS_TOKEN": "s3cret"})
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("status", "remedy"), [(401, "ENERGY_METRICS_TOKEN"), (403, "may not read"), (404, "no such page"), (500, "not what")]
)
def test_a_refusal_says_what_to_do_and_never_the_token(server: Behaviour, get: Callable[..., bytes], status: int, remedy: str) -> None:
    server.status, server.chunks = status, [b"token s3cret is wrong"]
    with pytest.raises(MeterError, match=remedy) as raised:
        get(server.url, {"ENERGY_METRICS_TOKEN": "s3cret"})
    assert "s3cret" not in f"{raised.value!r}{raised.value}"


def test_nobody_there_is_told(get: Callable[..., bytes]) -> None:
    with pytest.raises(MeterError, match="does not answer"):
        get("http://127.0.0.1:1")


@pytest.mark.parametrize("url", ["http://..:9400", "http://mon\u200bitor", "http://node\x7f", "http://" + "a" * 70, "http://xn--zz-"])
def test_a_name_that_no_host_can_have_is_told(get: Callable[..., bytes], url: str) -> None:
    with pytest.raises(MeterError, match="is no address of HTTP"):
        get(url)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the program openssl")
def test_a_server_is_trusted_by_the_authority_that_is_named_and_shown_the_certificate(
    server: Behaviour, get: Callable[..., bytes], tmp_path: Path
) -> None:
    """One certificate plays all parts: that of the server, of whom to trust, and of whoever asks."""
    pem, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    named = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(pem)]
    subprocess.run([*made, *named], check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(pem))
    context.load_cert_chain(pem, key)
    context.verify_mode = ssl.CERT_REQUIRED
    server.http.socket = context.wrap_socket(server.http.socket, server_side=True)
    url = server.url.replace("http:", "https:")
    shown = {"ENERGY_METRICS_CERT": str(pem), "ENERGY_METRICS_KEY": str(key)}
    with pytest.raises(MeterError, match="does not answer"):
        get(url, shown)
    with pytest.raises(MeterError, match="does not answer"):
        get(url, {"ENERGY_METRICS_CA": str(pem)})
    assert get(url, {"ENERGY_METRICS_CA": str(pem), **shown}) == b"hello"


@pytest.mark.parametrize("name", ["ENERGY_METRICS_CA", "ENERGY_METRICS_CERT"])
def test_files_that_cannot_be_used_are_told(name: str, tmp_path: Any) -> None:
    (tmp_path / "empty.pem").write_text("")
    for path in ("missing.pem", "empty.pem"):
        with pytest.raises(SettingsError, match=f"{name}.*cannot be used"):
            Getter({name: str(tmp_path / path)})


def test_a_token_that_would_break_a_head_is_refused_unshown() -> None:
    with pytest.raises(SettingsError) as raised:
        Getter({"ENERGY_METRICS_TOKEN": "a\r\nx-evil: s3cret"})
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize(
    "url", ["node-1:9400", "ftp://node-1", "http://", "http://node-1:99999", "http://me:s3cret@node-1", "http://node-1?token=s3cret"]
)
def test_an_address_that_is_none_or_holds_a_password_is_refused_without_it(url: str) -> None:
    with pytest.raises(SettingsError, match="ENERGY_EXPORTER_URLS") as raised:
        address_of(url, "ENERGY_EXPORTER_URLS")
    assert "s3cret" not in str(raised.value)


def test_an_address_has_the_path_that_it_is_given_or_the_usual_one() -> None:
    assert address_of("http://node-1:9400", "V", "/metrics") == "http://node-1:9400/metrics"
    assert address_of("https://node-1/gpu/metrics/", "V", "/metrics") == "https://node-1/gpu/metrics"
    assert address_of("https://monitor/prometheus/", "V") == "https://monitor/prometheus"


def test_without_the_packages_their_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "httpx", None)
    with pytest.raises(MeterError, match=r"pytest-greencompute\[hosts\]"):
        Getter({})


def test_as_text_is_short_and_steers_nothing() -> None:
    assert as_text("a\x1b[0m\nb" + "c" * 100) == "a?[0m?b" + "c" * 73
