"""Settings of the process that a lever, or a model, may change: put back afterwards."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def as_it_was() -> Iterator[None]:
    """Random state, torch's number of threads, grad mode and default type are afterwards what they were before."""
    torch: Any = sys.modules.get("torch")
    with drawn_as_before():
        settings = None if torch is None else (torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype())
        try:
            yield
        finally:
            if settings is not None:
                threads, gradients, dtype = settings
                torch.set_num_threads(threads)
                torch.set_grad_enabled(gradients)
                torch.set_default_dtype(dtype)


@contextmanager
def drawn_as_before() -> Iterator[None]:
    """What is drawn at random afterwards is what would have been drawn without what is done in here."""
    torch: Any = sys.modules.get("torch")
    numpy: Any = sys.modules.get("numpy")
    python, of_numpy = random.getstate(), None if numpy is None else numpy.random.get_state()
    of_torch = None if torch is None else torch.get_rng_state()
    of_cuda = torch.cuda.get_rng_state_all() if torch is not None and torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        random.setstate(python)
        if of_numpy is not None:
            numpy.random.set_state(of_numpy)
        if of_torch is not None:
            torch.set_rng_state(of_torch)
        if of_cuda is not None:
            torch.cuda.set_rng_state_all(of_cuda)
