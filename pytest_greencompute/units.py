"""``from pytest_greencompute.units import parse_intensity``, for scripts, as it was first documented."""

from pytest_greencompute.values.units import parse_intensity

__all__ = ["parse_intensity"]
