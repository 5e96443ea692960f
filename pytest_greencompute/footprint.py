"""``from pytest_greencompute.footprint import Footprint``, for scripts, as it was first documented."""

from pytest_greencompute.values.footprint import Footprint

__all__ = ["Footprint"]
