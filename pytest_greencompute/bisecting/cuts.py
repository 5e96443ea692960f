"""All ways to cut a history into segments of one level each, weighed by how likely each makes what was seen.

A product partition model (Barry and Hartigan, Annals of Statistics 20, 1992), summed by going through the history forward and backward. The
first segment is that of the good commit, whose level is zero. All weights are logarithms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pytest_greencompute.bisecting.evidence import Floats


class Cuts:
    """The commits that were measured, the good one first. ``change``: the probability beforehand that a level changes between one and the
    next; ``likely``: the logarithm of how likely what was seen of each is, by commit, level and spread of launches; ``spreads`` are the
    weights of these spreads beforehand. ``spread_weight`` is what each of them weighs now.
    """

    def __init__(self, change: Floats, levels: Floats, likely: Floats, spreads: Floats) -> None:
        import numpy as np

        self._levels, self._count = levels, len(likely)
        self._cut = np.concatenate([[0.0], np.log(change)])
        stay = np.concatenate([[0.0], np.log1p(-change)]).cumsum()[:, None]
        self._prior = -float(np.log(len(levels)))
        sums = likely.cumsum(axis=0)
        # By first and last commit of a segment: what is seen in it, by level and spread.
        self._inside = {
            start: sums[start:] - sums[start - 1] + self._prior + (stay[start:] - stay[start])[..., None] for start in range(1, self._count)
        }
        self._first: Floats = sums[:, np.abs(levels).argmin()] + stay
        segments = self._segments(np.ones(len(levels), dtype=bool))
        self._before = self._ends(segments)
        self._after: Floats = np.zeros_like(self._first)
        for start in range(self._count - 1, 0, -1):
            self._after[start - 1] = self._cut[start] + self._begins(start, segments)
        self._scale = spreads - _log_sum(spreads + self._before[-1], axis=0)
        self.spread_weight: Floats = np.exp(self._scale + self._before[-1])

    def _segments(self, mask: NDArray[np.bool_]) -> dict[int, Floats]:
        """The weight of each segment at the levels of ``mask``: by its first commit, then by its last."""
        return {start: _log_sum(inside[:, mask], axis=1) for start, inside in self._inside.items()}

    def _ends(self, segments: dict[int, Floats], before: Floats | None = None) -> Floats:
        """By commit: the weight of all ways to cut what is up to it, the last segment being the first of all or one of ``segments``, after
        all that may be ``before`` it (None: what is being found).
        """
        import numpy as np

        found: Floats = self._first.copy()
        before = found if before is None else before
        for start, each in segments.items():
            found[start:] = np.logaddexp(found[start:], before[start - 1] + self._cut[start] + each)
        return found

    def _begins(self, start: int, segments: dict[int, Floats]) -> Floats:
        """The weight of all ways to cut what is from a commit on, where one of ``segments`` begins with it."""
        return _log_sum(segments[start] + self._after[start:], axis=0)

    def crossings(self, threshold: float) -> tuple[Floats, Floats]:
        """The probability that the level rises through ``threshold`` between each commit and the next; and that each is above it."""
        import numpy as np

        high, low = (self._segments(mask) for mask in (self._levels > threshold, self._levels <= threshold))
        below = self._ends(low, self._before)
        crossed = np.array(
            [self._probability(below[start - 1] + self._cut[start] + self._begins(start, high)) for start in range(1, self._count)]
        )
        raised = np.zeros(self._count)
        for start, each in high.items():
            reaching = self._before[start - 1] + self._cut[start] + each + self._after[start:]
            raised[start:] += np.exp(self._scale + reaching).sum(axis=1)[::-1].cumsum()[::-1]
        return crossed, raised

    def _probability(self, weight: Floats) -> float:
        import numpy as np

        return float(np.exp(self._scale + weight).sum())

    def levels_at(self) -> Floats:
        """The probability of each level, by commit."""
        import numpy as np

        found = np.zeros((self._count, len(self._levels)))
        first = np.exp(self._scale + self._first + self._after).sum(axis=1)
        found[:, np.abs(self._levels).argmin()] = first[::-1].cumsum()[::-1]
        for start, inside in self._inside.items():
            around = self._scale + self._before[start - 1] + self._cut[start] + self._after[start:]
            found[start:] += np.exp(inside + around[:, None]).sum(axis=2)[::-1].cumsum(axis=0)[::-1]
        return found


def _log_sum(weights: Floats, axis: int) -> Floats:
    """The logarithm of the sum of exponentials."""
    import numpy as np

    most = weights.max(axis=axis, keepdims=True)
    found: Floats = np.log(np.exp(weights - most).sum(axis=axis)) + most.squeeze(axis)
    return found
