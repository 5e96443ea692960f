"""Sums of two terms for SmolLM2: answered directly, or after writing the sum down first. Six solved ones stand before each question."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from typing import final

from smollm2 import SmolLM2

Sum = tuple[int, int]

SEED = 11
SHOTS = 6


def some_sums(count: int, seed: int) -> list[Sum]:
    """Sums of two numbers with two digits, whose result has two digits as well."""
    numbers = random.Random(seed)
    return [(numbers.randint(10, 49), numbers.randint(10, 49)) for _ in range(count)]


def direct(a: int, b: int) -> str:
    """The result alone: 4 tokens."""
    return f" {a + b}"


def scratchpad(a: int, b: int) -> str:
    """The sum in figures first, then the result: 16 tokens."""
    return f" {a} + {b} = {a + b}. {a + b}"


@final
class Adder:
    """A batch of sums in, the ids of what the model writes for each out. `solved` is how the six solved ones are written."""

    def __init__(self, model: SmolLM2, solved: Callable[[int, int], str]) -> None:
        self.model = model
        self._before = "".join(f"{_asked(a, b)}{solved(a, b)}\n" for a, b in some_sums(SHOTS, SEED))

    def prompts(self, batch: Sequence[Sum]) -> list[str]:
        """What the model reads for each sum."""
        return [self._before + _asked(a, b) for a, b in batch]

    def __call__(self, batch: Sequence[Sum], max_new_tokens: int = 16) -> list[list[int]]:
        return self.model.write(self.prompts(batch), max_new_tokens=max_new_tokens)

    def right(self, ids: Sequence[int], result: int) -> float:
        """1 where the last number that was written is the result, else 0. A text that was cut off in the middle says something else."""
        numbers = re.findall(r"\d+", self.model.text(ids))
        return float(bool(numbers) and int(numbers[-1]) == result)


def _asked(a: int, b: int) -> str:
    return f"Q: {a} plus {b}\nA:"
