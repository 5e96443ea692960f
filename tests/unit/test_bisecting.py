"""The search over commits: what it believes, what it measures next, and when it stops."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from pytest_greencompute.bisecting.belief import Belief, believe
from pytest_greencompute.bisecting.cuts import Cuts
from pytest_greencompute.bisecting.evidence import Evidence, likely_spreads, pair_noise
from pytest_greencompute.bisecting.search import LEAST, Commits, LaunchCost, NextLaunch, Suspects, next_step
from pytest_greencompute.errors import SettingsError

COST = LaunchCost(launch_s=5.0, pair_s=1.0, checkout_s=1.0)
NEAR = math.log(1.05)


def launch(commit: int, change: float, *off: float) -> Evidence:
    return Evidence(commit, tuple(change + each for each in off or (-0.004, 0.004)))


def told(launches: Sequence[Evidence], commits: int = 8) -> Belief:
    return believe(commits, launches, least=LEAST, near=NEAR)


def searched(commits: Commits, levels: Callable[[int], float], broken: frozenset[int] = frozenset(), seed: int = 0) -> tuple[Suspects, int]:
    """The answer for a history of these changes, with 1 % of noise in pairs and 0.5 % between launches; and the launches that it took."""
    luck, launches = np.random.default_rng(seed), list[Evidence]()
    while isinstance(step := next_step(commits, launches, COST), NextLaunch):
        if step.commit in broken:
            commits = Commits(commits.count, commits.broken | {step.commit}, commits.claim, commits.tolerance)
            continue
        level = levels(step.commit) + 0.005 * luck.standard_normal()
        launches.append(Evidence(step.commit, tuple((level + 0.01 * luck.standard_normal(step.pairs)).tolist())))
    return step, len(launches)


# What is believed


def test_a_pair_that_is_far_off_neither_moves_its_launch_nor_widens_the_noise_of_all() -> None:
    calm = [launch(8, 0.2, *(0.01 * sign for sign in (-1, 1, -1, 1))) for _ in range(3)]
    hit = Evidence(8, (0.19, 0.21, 0.19, 0.7))
    assert pair_noise([*calm, hit]) < 1.5 * pair_noise(calm)
    change, pairs = hit.weighed(pair_noise([*calm, hit]))
    assert change == pytest.approx(0.2, abs=0.01)
    assert 3 <= pairs < 3.1
    assert hit.change == pytest.approx(0.2)


def test_two_pairs_that_are_far_apart_tell_hardly_anything() -> None:
    change, pairs = Evidence(8, (0.2, 0.6)).weighed(0.01)
    assert change == pytest.approx(0.4)
    assert 0.01 / math.sqrt(pairs) > 0.1


def test_pairs_that_are_not_far_off_all_count_alike() -> None:
    usual = Evidence(8, (0.18, 0.2, 0.23))
    assert usual.weighed(0.02) == pytest.approx((0.61 / 3, 3.0))


def test_a_history_with_a_disturbed_pair_is_believed_as_if_it_were_not() -> None:
    calm = [*[launch(8, 0.2, -0.01, 0.0, 0.01)] * 3, *[launch(4, 0.0, -0.01, 0.0, 0.01)] * 3]
    hit = [*calm[:-1], Evidence(4, (-0.01, 0.0, 0.45))]
    assert told(hit).raised[4] == pytest.approx(told(calm).raised[4], abs=0.01)


def test_all_ways_to_cut_a_history_are_summed_as_by_hand() -> None:
    luck = np.random.default_rng(1)
    levels, spreads = np.array([-0.1, 0.0, 0.1, 0.2]), np.log([0.25, 0.75])
    likely, change = luck.normal(size=(4, 4, 2)), np.array([0.2, 0.5, 0.4])
    likely[0] = 0.0
    cuts = Cuts(change, levels, likely, spreads)
    crossed, raised, shown, total = np.zeros(3), np.zeros(4), np.zeros((4, 4)), 0.0
    for cut in itertools.product([False, True], repeat=3):
        for each in itertools.product(range(4), repeat=sum(cut)):
            at, left = [1], list(each)
            for here in cut:
                at.append(left.pop(0) if here else at[-1])
            prior = np.prod([share if here else 1 - share for share, here in zip(change, cut, strict=True)]) / 4 ** sum(cut)
            weight = float(sum(np.exp(spreads[s] + sum(likely[i, at[i], s] for i in range(4))) for s in range(2)) * prior)
            total += weight
            above = levels[at] > 0.05
            crossed += weight * (~above[:-1] & above[1:])
            raised += weight * above
            shown[range(4), at] += weight
    for found, by_hand in zip((*cuts.crossings(0.05), cuts.levels_at()), (crossed, raised, shown), strict=True):
        assert found == pytest.approx(by_hand / total)


def test_evidence_of_one_commit_counts_for_those_behind_and_before_it() -> None:
    before = told([launch(8, 0.2), launch(8, 0.2), launch(4, 0.0)])
    after = told([launch(8, 0.2), launch(8, 0.2), launch(4, 0.0), launch(6, 0.0)])
    assert after.raised[4] < before.raised[4]
    assert [(each.before, each.at) for each in after.crossings] == [(0, 4), (4, 6), (6, 8)]
    assert after.leader.at == 8


def test_two_modes_of_launches_are_no_step_once_they_are_known() -> None:
    modes = [launch(8, each) for each in (0.2, 0.31, 0.2, 0.09, 0.31, 0.2)]
    assert 0.05 < told([*modes, launch(4, 0.11)]).raised[4] < 0.95
    assert told([*modes, *(launch(4, each) for each in (0.11, 0.0, -0.11, 0.0, 0.11))]).raised[4] < 0.05


def test_an_odd_launch_is_outvoted() -> None:
    found = told([launch(8, 0.2), launch(8, 0.2), launch(8, 0.2), launch(4, 0.6), *(launch(4, 0.0) for _ in range(3))])
    assert found.raised[4] < 0.05
    assert abs(found.levels[4].value) < 0.02


@pytest.mark.parametrize("change", [-1.6, 1.6, 4.6])
def test_changes_far_beyond_the_usual_are_believed(change: float) -> None:
    found = told([launch(8, change) for _ in range(4)])
    assert found.levels[8].value == pytest.approx(change, abs=0.03)


def test_the_noise_of_pairs_is_that_within_launches() -> None:
    luck = np.random.default_rng(0)
    launches = [Evidence(1, tuple((level + 0.03 * luck.standard_normal(50)).tolist())) for level in (0.0, 0.3, 0.9)]
    assert pair_noise(launches) == pytest.approx(0.03, rel=0.15)


def test_the_density_of_a_launch_is_one_in_all() -> None:
    off = np.linspace(-2, 2, 20001)
    density = np.exp(likely_spreads().log_density(off, 0.02, 3))
    assert density.sum(axis=0) * (off[1] - off[0]) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(("commit", "changes"), [(0, (0.1,)), (1, ()), (1, (math.nan,)), (1, (math.inf,))])
def test_what_is_no_evidence_is_refused(commit: int, changes: tuple[float, ...]) -> None:
    with pytest.raises(SettingsError, match="is no evidence"):
        Evidence(commit, changes)


# What is measured, and when it is over


def test_the_bad_commit_comes_first_and_then_the_middle() -> None:
    assert next_step(Commits(64), [], COST) == NextLaunch(64, 3)
    step = next_step(Commits(64), [launch(64, 0.3) for _ in range(4)], COST)
    assert isinstance(step, NextLaunch)
    assert abs(step.commit - 32) <= 2


def test_more_pairs_are_measured_at_once_where_launching_is_dear_and_pairs_are_noisy() -> None:
    noisy = [launch(64, 0.1, -0.06, 0.06, -0.05, 0.05) for _ in range(8)]
    pairs = []
    for launch_s in (0.1, 60.0):
        step = next_step(Commits(64), noisy, LaunchCost(launch_s, 1.0))
        assert isinstance(step, NextLaunch)
        pairs.append(step.pairs)
    assert pairs[0] < pairs[1]


def test_a_commit_that_must_be_checked_out_is_measured_less_often_where_that_is_dear() -> None:
    launches = [*(launch(64, 0.2) for _ in range(4)), launch(30, 0.2), launch(34, 0.2)]
    steps = [next_step(Commits(64), launches, LaunchCost(1.0, 1.0, checkout_s)) for checkout_s in (0.0, 1e6)]
    assert [isinstance(step, NextLaunch) and step.commit in {30, 34, 64} for step in steps] == [False, True]


@pytest.mark.parametrize("guilty", [1, 2, 11, 31, 32])
def test_the_guilty_commit_is_found_wherever_it_is(guilty: int) -> None:
    found, launches = searched(Commits(32), lambda commit: 0.15 * (commit >= guilty))
    assert (found.ending, found.first, found.last) == ("found", guilty, guilty)
    assert found.probability >= 0.99
    assert found.rise.low <= 0.15 <= found.rise.high
    assert found.explained == pytest.approx(0.15, abs=0.02)
    assert launches <= 20


def test_a_history_of_one_commit_is_a_question_of_whether_it_is_worse() -> None:
    found, _ = searched(Commits(1), lambda _: 0.1)
    assert (found.ending, found.first, found.last) == ("found", 1, 1)


def test_the_answer_is_a_range_where_the_guilty_commit_cannot_be_measured() -> None:
    found, _ = searched(Commits(32), lambda commit: 0.2 * (commit >= 12), broken=frozenset({11, 12, 13}))
    assert (found.ending, found.first, found.last) == ("found", 11, 14)


def test_of_several_causes_one_is_found_with_its_part_of_the_rise() -> None:
    found, _ = searched(Commits(32), lambda commit: 0.09 * (commit >= 9) + 0.05 * (commit >= 25))
    assert (found.ending, found.first, found.last) == ("found", 9, 9)
    assert found.explained == pytest.approx(0.09, abs=0.02)
    assert found.rise.value == pytest.approx(0.14, abs=0.02)


def test_two_equal_causes_do_not_keep_it_in_doubt() -> None:
    found, launches = searched(Commits(32), lambda commit: 0.1 * (commit >= 9) + 0.1 * (commit >= 25))
    assert found.ending == "found"
    assert found.first == found.last
    assert found.first in {9, 25}
    assert found.explained == pytest.approx(0.1, abs=0.02)
    assert launches <= 40


def test_a_rise_that_was_fixed_and_came_again_is_found_where_it_rose() -> None:
    found, _ = searched(Commits(32), lambda commit: 0.2 * (5 <= commit < 12 or commit >= 22))
    assert found.ending == "found"
    assert found.first == found.last
    assert found.first in {5, 22}


@pytest.mark.parametrize(("level", "ending"), [(0.0, "no rise"), (-0.15, "better")])
def test_a_bad_commit_that_is_not_worse_ends_the_search(level: float, ending: str) -> None:
    found, launches = searched(Commits(32), lambda _: level)
    assert found.ending == ending
    assert launches <= 12


def test_launches_that_run_out_leave_the_narrowest_range_that_is_sure() -> None:
    launches = [*(launch(64, 0.2) for _ in range(5)), launch(32, 0.0), launch(32, 0.0), launch(40, 0.2), launch(36, 0.0)]
    found = next_step(Commits(64), launches, COST, most_launches=9)
    assert isinstance(found, Suspects)
    assert found.ending == "unclear"
    assert found.first <= 37
    assert found.last >= 40
    assert found.probability >= 0.99


def test_launches_of_a_commit_that_broke_since_do_not_count() -> None:
    launches = [*(launch(8, 0.2) for _ in range(5)), launch(4, 0.2)]
    broken = Commits(8, frozenset({4}))
    assert next_step(broken, launches, COST) == next_step(broken, launches[:-1], COST)


@pytest.mark.parametrize(("count", "broken", "claim"), [(0, (), 0.99), (4, (4,), 0.99), (4, (0,), 0.99), (4, (), 1.0), (4, (), 0.4)])
def test_a_search_that_makes_no_sense_is_refused(count: int, broken: tuple[int, ...], claim: float) -> None:
    with pytest.raises(SettingsError):
        Commits(count, frozenset(broken), claim)
