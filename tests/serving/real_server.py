"""``transformers serve`` as a process of its own, on a free port, and what it needs to be installed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

NEEDED = ("fastapi", "uvicorn", "openai", "pydantic", "transformers", "httpx_sse")
WAIT_S = 60.0
_PROGRAM = "import sys; from transformers.cli.transformers import main; sys.argv[0] = 'transformers'; main()"


@contextmanager
def transformers_serve(weights: str, *flags: str, **environ: str) -> Iterator[str]:
    """The address of a server of the model in a folder while the context is open; the folder is the model's name there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", _PROGRAM, "serve", "--host", "127.0.0.1", "--port", str(port), *flags, weights]
    process = subprocess.Popen(command, env={**os.environ, "HF_HUB_OFFLINE": "1", **environ}, stdout=subprocess.DEVNULL)
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
