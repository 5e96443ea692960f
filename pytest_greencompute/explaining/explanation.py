"""The whole explanation: the figure as a product, the places of each level, and the sentence."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pytest_greencompute.estimates.estimate import Estimate
from pytest_greencompute.explaining.difference import LevelDifference, levels
from pytest_greencompute.explaining.factors import ChangedFactor, Term, changed, product
from pytest_greencompute.explaining.profile import Profile
from pytest_greencompute.explaining.risen import Risen
from pytest_greencompute.explaining.unseen import unseen
from pytest_greencompute.stats.ratios import Ratio


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why the joules per query of ``head`` are others than those of ``base``: worked out of both profiles and what the verdict says.

    ``unseen`` says so where what was looked at does not show the difference: then nothing is to blame, and all of it is left.
    """

    base: Profile
    head: Profile
    risen: Risen
    terms: tuple[Term, ...]
    changed: tuple[ChangedFactor, ...]
    levels: tuple[LevelDifference, ...]
    notes: tuple[str, ...] = ()
    unseen: str = ""


def explain(base: Profile, head: Profile, base_energy: Estimate, head_energy: Estimate, ratio: Ratio | None = None) -> Explanation:
    """Where the difference between two figures of joules per query went, by what both sides were seen to do.

    ``ratio``: of head to base, where they were measured in pairs. Raises SettingsError for figures that are none.
    """
    return explained(base, head, Risen.of(base_energy, head_energy, ratio))


def explained(base: Profile, head: Profile, risen: Risen) -> Explanation:
    """The same, for a difference that is known."""
    notes = tuple(dict.fromkeys((*base.notes, *head.notes)))
    if base.counted and head.counted and base.counted != head.counted:
        notes += (f"factors were counted over {base.counted} queries of the base and {head.counted} of this tree, which may be others",)
    found, why = levels(base, head, risen), unseen(base, head, risen)
    if why:
        found = tuple(replace(each, places=(), unattributed_j=risen.difference_j) for each in found)
    return Explanation(base, head, risen, product(base, head, risen), changed(base, head), found, notes, why)
