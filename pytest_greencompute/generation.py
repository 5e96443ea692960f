"""``from pytest_greencompute.generation import Generator`` as it was first documented; ``pytest_greencompute.Generator`` is the same."""

from pytest_greencompute.models.generator import Generator

__all__ = ["Generator"]
