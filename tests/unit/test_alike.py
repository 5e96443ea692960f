"""Two answers that are the same one: by what an application does with them, not by their last digits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from pytest_greencompute.models.alike import alike, share_alike


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("positive", "positive"),
        (3, 3),
        (True, True),
        (None, None),
        (0.7312, 0.7340),
        (0.0, 0.0),
        (math.nan, math.nan),
        (1.0, 1),
        ([0.1, 0.9, 0.0], [0.2, 0.7, 0.1]),
        (np.array([1.5, -2.0]), [1.25, 0.0]),
        (np.array([1, 2, 3]), np.array([1, 2, 3])),
        ({"label": "pos", "score": 0.991}, {"label": "pos", "score": 0.985}),
        ([[0.1, 0.9], [0.8, 0.2]], [[0.4, 0.6], [0.7, 0.3]]),
        ((0.5,), [0.502]),
        ([], []),
    ],
)
def test_the_same(one: Any, other: Any) -> None:
    assert alike(one, other)
    assert alike(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("positive", "negative"),
        (3, 4),
        (3, "3"),
        (True, 0.5),
        (0.73, 0.75),
        (0.0, 0.001),
        (math.nan, 0.5),
        ([0.1, 0.9], [0.9, 0.1]),
        ([0.1, 0.9], [0.1, 0.9, 0.95]),
        (np.array([1, 2, 3]), np.array([1, 2, 4])),
        ({"label": "pos", "score": 0.99}, {"label": "neg", "score": 0.99}),
        ({"label": "pos"}, {"label": "pos", "score": 0.99}),
        ([[0.1, 0.9], [0.8, 0.2]], [[0.4, 0.6], [0.3, 0.7]]),
        ([0.5], "0.5"),
    ],
)
def test_not_the_same(one: Any, other: Any) -> None:
    assert not alike(one, other)
    assert not alike(other, one)


def test_the_share_is_of_all_answers_and_there_is_none_where_their_numbers_differ() -> None:
    assert share_alike(["a", "b", "c", "d"], ["a", "b", "x", "d"]) == 0.75
    assert share_alike(["a"], ["a", "b"]) is None
    assert share_alike([], []) is None
