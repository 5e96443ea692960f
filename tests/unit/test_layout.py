"""The plan of a measurement: shares of a pass, blocks of a set, phases of a tick."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_greencompute.protocol.layout import SET_BLOCKS, block_seconds, blocks_per_set, phases, single_phase
from pytest_greencompute.protocol.parts import LONGER, SHORTER, Part, part, whole_pass

batch_counts = st.integers(1, 2000)
batch_times = st.floats(1e-6, 30)
targets = st.floats(0.05, 5)


def test_a_whole_pass_is_every_batch_once_in_order() -> None:
    assert list(whole_pass(5)) == [0, 1, 2, 3, 4]
    assert len(whole_pass(5)) == 5


@given(batch_counts, st.floats(1e-3, 30), targets, st.integers(0, 50))
def test_blocks_that_follow_each_other_run_every_batch_equally_often(batches: int, batch_s: float, target_s: float, index: int) -> None:
    count = len(part(0, batches, batch_s, target_s))
    blocks = [part(index + number, batches, batch_s, target_s) for number in range(-(-batches // count))]
    assert {len(each) for each in blocks} == {count}
    run = Counter(itertools.chain.from_iterable(blocks))
    assert set(run) == set(range(batches))
    assert max(run.values()) - min(run.values()) <= 1


@given(batch_counts, st.floats(1e-3, 30), targets)
def test_a_block_takes_the_time_it_should_and_hardly_more(batches: int, batch_s: float, target_s: float) -> None:
    seconds = len(part(0, batches, batch_s, target_s)) * batch_s
    assert seconds >= SHORTER * target_s * (1 - 1e-9)
    assert seconds <= max(LONGER * target_s, target_s + batch_s) * (1 + 1e-9)


@given(batch_counts, st.floats(1e-3, 30), targets, st.integers(0, 50))
def test_a_part_knows_how_often_it_runs_each_batch(batches: int, batch_s: float, target_s: float, index: int) -> None:
    made = part(index, batches, batch_s, target_s)
    run = Counter(made)
    for batch in {0, batches // 2, batches - 1}:
        assert made.times(batch) == run[batch]


def test_a_share_of_a_sorted_list_holds_short_and_long_queries_alike() -> None:
    for index in range(20):
        share = list(part(index, 100, 0.1, 1.0))
        assert len(share) == 10
        assert abs(sum(share) / 10 - 49.5) < 10


def test_short_batches_are_run_in_whole_passes() -> None:
    assert list(part(3, 2, 0.1, 0.5)) == [0, 1] * 3


@pytest.mark.parametrize(
    ("tick_s", "lag_s", "seconds"), [(0.1, 0.0, 1.0), (0.02, 0.0, 0.5), (0.0, 0.0, 0.5), (0.1, 1.0, 2.0), (0.5, 0.0, 5.0), (2.0, 0.0, 20.0)]
)
def test_a_block_is_ten_ticks_half_a_second_and_twice_the_lag_at_least(tick_s: float, lag_s: float, seconds: float) -> None:
    assert block_seconds(tick_s, lag_s) == pytest.approx(seconds)


@pytest.mark.parametrize(("tick_s", "lag_s", "seconds"), [(5.0, 0.0, 20.0), (15.0, 0.0, 20.0), (60.0, 0.0, 60.0), (15.0, 15.0, 30.0)])
def test_ticks_that_are_seconds_apart_make_no_block_longer_than_twenty_or_one_of_them(tick_s: float, lag_s: float, seconds: float) -> None:
    assert block_seconds(tick_s, lag_s) == pytest.approx(seconds)


@pytest.mark.parametrize(("tick_s", "lag_s", "seconds"), [(0.2, 0.0, 1.0), (0.1, 0.0, 0.5), (0.02, 0.0, 0.2), (0.1, 1.0, 2.0)])
def test_in_pairs_five_ticks_and_a_fifth_of_a_second_are_enough(tick_s: float, lag_s: float, seconds: float) -> None:
    assert block_seconds(tick_s, lag_s, in_pairs=True) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("tick_s", "block_s", "lag_s", "blocks"),
    [(0.0, 0.5, 0.0, 1), (0.1, 1.0, 0.0, 9), (0.1, 19.9, 0.0, 9), (0.1, 20.0, 0.0, 1), (0.1, 1.0, 0.9, 1)],
)
def test_a_set_has_nine_phases_only_where_the_tick_matters(tick_s: float, block_s: float, lag_s: float, blocks: int) -> None:
    assert blocks_per_set(tick_s, block_s, lag_s) == blocks


@given(st.integers(1, 30), st.integers(0, 2**32))
def test_phases_are_stratified_whatever_the_seed(blocks: int, seed: int) -> None:
    offsets = phases(blocks, np.random.default_rng(seed))
    assert sorted(int(offset * blocks) for offset in offsets) == list(range(blocks))
    within = [offset * blocks % 1 for offset in offsets]
    assert within == pytest.approx([within[0]] * blocks, abs=1e-9)
    assert all(0 <= offset < 1 for offset in offsets)


def test_phases_come_in_random_order_with_a_fresh_shift_for_each_set() -> None:
    rng = np.random.default_rng(1)
    first, second = phases(SET_BLOCKS, rng), phases(SET_BLOCKS, rng)
    assert list(first) != sorted(first)
    assert sorted(first) != sorted(second)
    assert SET_BLOCKS % 2 == 1


@given(st.integers(0, 200), st.floats(0, 1, exclude_max=True), st.tuples(*[st.floats(0, 1, exclude_max=True)] * 2))
def test_single_blocks_that_follow_each_other_lie_apart_so_that_few_cannot_agree_by_their_phase(
    index: int, start: float, drawn: tuple[float, float]
) -> None:
    one, other = (single_phase(2 * index + number, start, each) for number, each in enumerate(drawn))
    assert 0.25 - 1e-9 <= abs(one - other) <= 0.75 + 1e-9
    assert 0 <= one < 1


def test_the_phases_of_single_blocks_are_all_alike_often() -> None:
    rng = np.random.default_rng(4)
    found = [single_phase(index, float(rng.random()), float(rng.random())) for index in range(8) for _ in range(2000)]
    shares = np.histogram(found, bins=20, range=(0, 1))[0] / len(found)
    assert shares == pytest.approx([1 / 20] * 20, rel=0.12)


def test_a_part_with_a_start_goes_round() -> None:
    assert list(Part(5, 7, 3)) == [3, 4, 0, 1, 2, 3, 4]
