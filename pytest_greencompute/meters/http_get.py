"""What a server of metrics answers, over HTTP: bounded in size and time, with the token and the certificates that the environment names.

Neither is in what an error or a report says; no redirect is followed, which would carry the token elsewhere.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Protocol
from urllib.parse import urlsplit

from pytest_greencompute.errors import MeterError, SettingsError
from pytest_greencompute.machine.logs import HTTP, quiet
from pytest_greencompute.meters.exposition import HOSTILE

TOKEN, TRUSTED = "ENERGY_METRICS_TOKEN", "ENERGY_METRICS_CA"
CERTIFICATE, KEY = "ENERGY_METRICS_CERT", "ENERGY_METRICS_KEY"
LIMIT_BYTES = 16 * 2**20
TIMEOUT_S = 5.0  # for each step of a request
WHOLE_S = 10.0  # for all of it
CONNECTED = ("connection.connect_tcp.complete", "connection.start_tls.complete")  # httpcore's names
OK = 200
_WHY = {401: f"it wants a token: set {TOKEN}", 403: f"the token of {TOKEN} may not read it", 404: "there is no such page"}


class Get(Protocol):
    """Gets what is at an address."""

    def __call__(self, url: str, asked: Mapping[str, str], /) -> bytes:
        """What is answered there to what is ``asked``. Raises MeterError."""
        ...

    def close(self) -> None:
        """Give back what is open; may be called twice."""
        ...


def address_of(url: str, variable: str, path: str = "") -> str:
    """An address as the environment names it, with ``path`` where it has none. Raises SettingsError for one that holds a password."""
    remedy = f"Write {variable} like http://gpu-1:9400."
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise SettingsError(f"{variable} holds no address: {error}.", remedy=remedy) from error
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise SettingsError(f"{variable} holds {url[:80]!r}, which is no address of HTTP.", remedy=remedy)
    if parts.username is not None or parts.query or parts.fragment:
        raise SettingsError(f"{variable} holds more than an address.", remedy=f"A token goes into {TOKEN}, which no report shows.")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/') or path}"


class Getter:
    """Gets answers from one server over a connection that is kept: for one thread at a time, until it is closed."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        try:
            import httpx
            import prometheus_client.parser  # noqa: F401 - found out now, and not while something is measured
        except ImportError as error:
            raise MeterError(
                f"Reading the energy of other hosts needs httpx and prometheus-client: {error}.",
                remedy="Run `pip install 'pytest-greencompute[hosts]'`.",
            ) from error
        token = environ.get(TOKEN, "").strip()
        if not token.isascii() or not token.isprintable():
            raise SettingsError(f"{TOKEN} holds what no token can.", remedy="Set it to the token alone.")
        heads = {"accept-encoding": "identity", **({"authorization": f"Bearer {token}"} if token else {})}
        self._socket: socket.socket | None = None  # of the connection
        trust = _trust(environ)
        with quiet(*HTTP):
            self._client = httpx.Client(headers=heads, verify=trust, timeout=TIMEOUT_S, follow_redirects=False, trust_env=False)

    def __call__(self, url: str, asked: Mapping[str, str], /) -> bytes:
        """The answer. Raises MeterError where there is none, or more of it than ``LIMIT_BYTES``."""
        import httpx

        try:
            stream = partial(self._client.stream, "GET", url, params=asked or None)
            with quiet(*HTTP), self._in_time(url) as trace, stream(extensions={"trace": trace}) as response:
                if response.status_code != OK:
                    why = _WHY.get(response.status_code, "it is not what was asked for")
                    raise MeterError(f"{url} answers with status {response.status_code}.", remedy=f"Look there: {why}.")
                return _read(response, url)
        except httpx.HTTPError as error:
            # Only the kind of some: what is said of an answer may repeat it.
            said = str(error) if isinstance(error, httpx.ConnectError) else type(error).__name__
            raise MeterError(f"{url} does not answer ({said}).", remedy="Is it up, and can this machine reach it?") from error
        except (httpx.InvalidURL, UnicodeError) as error:  # a name that no host can have
            raise MeterError(f"{url[:80]!r} is no address of HTTP.", remedy="Write it like http://gpu-1:9400.") from error

    @contextmanager
    def _in_time(self, url: str) -> Iterator[Callable[[str, Mapping[str, Any]], None]]:
        """Shuts the connection when ``WHOLE_S`` have passed: of a server that always says a little more, be it of its head, no step ends.

        Yields what is told of the connection (httpcore's ``trace``). Raises MeterError if it was so late, whatever had come.
        """
        late = threading.Event()

        def give_up() -> None:
            late.set()
            if self._socket is not None:
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

        def trace(event: str, told: Mapping[str, Any]) -> None:
            if event in CONNECTED:
                self._socket = told["return_value"].get_extra_info("socket")
                if late.is_set():
                    give_up()

        timer = threading.Timer(WHOLE_S, give_up)
        timer.daemon = True
        timer.start()
        try:
            yield trace
        finally:
            timer.cancel()
            if late.is_set():
                raise MeterError(f"{url} had not answered in whole after {WHOLE_S:g} s.", remedy="Is it overloaded?")

    def close(self) -> None:
        """Give the connections back; may be called twice."""
        self._client.close()


def _read(response: Any, url: str) -> bytes:
    """As much as an exporter may show, as it comes: what is packed is not unpacked."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise MeterError(f"{url} answers with what is packed, which it was not asked for.", remedy=HOSTILE)
    content = bytearray()
    for chunk in response.iter_raw():
        content += chunk
        if len(content) > LIMIT_BYTES:
            raise MeterError(f"{url} answers with more than {LIMIT_BYTES // 2**20} MiB.", remedy=HOSTILE)
    return bytes(content)


def _trust(environ: Mapping[str, str]) -> ssl.SSLContext:
    """Whom to trust, and what to show: as the environment names it. Raises SettingsError for a file that cannot be used."""
    trusted, certificate, key = (environ.get(name) or None for name in (TRUSTED, CERTIFICATE, KEY))
    try:
        context = ssl.create_default_context(cafile=trusted)
        if certificate is not None:
            context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        named = f"{TRUSTED}, {CERTIFICATE} or {KEY}"
        raise SettingsError(f"{named} names a file that cannot be used: {error}.", remedy="They are files of PEM.") from error
    return context


def _no_password() -> str:
    raise ValueError("the key is locked by a password")
