"""In a process that loads beside another side: it stops before its first use of a device of torch's, whose power the other one measures."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

# Libraries that use devices by ways of their own.
OTHERS = ("tensorflow", "jaxlib", "cupy", "onnxruntime", "vllm", "sglang", "llama_cpp", "ctranslate2", "tensorrt", "pycuda", "numba.cuda")


def can_hold() -> bool:
    """Whether it would stop: torch is here, has not used a device yet, and nothing else here is known to use one."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    if cuda is None or not hasattr(cuda, "_lazy_init") or any(name in sys.modules for name in OTHERS):
        return False
    return not cuda.is_initialized()


class Hold:
    """Calls ``wait`` once, before torch's first use of a device, whichever thread comes to it first."""

    def __init__(self, wait: Callable[[], None]) -> None:
        self._wait, self._over, self._turn = wait, False, threading.RLock()
        self._cuda = sys.modules["torch"].cuda
        # All ways to a device come by here, those of torch's C++ too (torch/csrc/utils/device_lazy_init.cpp).
        self._begins: Callable[[], Any] = self._cuda._lazy_init
        self._cuda._lazy_init = self._held

    def _held(self) -> Any:
        with self._turn:
            if not self._over:
                self._over = True
                self._wait()
                self._cuda._lazy_init = self._begins
        return self._begins()

    def lift(self) -> None:
        """Let it use devices from here on; where another thread is waiting to, that one first."""
        with self._turn:
            self._over = True
            self._cuda._lazy_init = self._begins
