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
    numpy: Any = sys.modules.get("numpy")
    python, of_numpy = random.getstate(), None if numpy is None else numpy.random.get_state()
    of_torch = None if torch is None else _of_torch(torch)
    try:
        yield
    finally:
        random.setstate(python)
        if of_numpy is not None:
            numpy.random.set_state(of_numpy)
        if of_torch is not None:
            _put_back(torch, *of_torch)


def _of_torch(torch: Any) -> tuple[Any, ...]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    return torch.get_rng_state(), cuda, torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype()


def _put_back(torch: Any, state: Any, cuda: Any, threads: int, gradients: bool, dtype: Any) -> None:  # noqa: FBT001  as torch has it
    torch.set_rng_state(state)
    if cuda is not None:
        torch.cuda.set_rng_state_all(cuda)
    torch.set_num_threads(threads)
    torch.set_grad_enabled(gradients)
    torch.set_default_dtype(dtype)
