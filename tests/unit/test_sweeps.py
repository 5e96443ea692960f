"""The settings of a sweep: what makes sense, what is refused, and the model at each of them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from pytest_greencompute.errors import CannotError, SettingsError
from pytest_greencompute.models.sweeps import Variants, checked_axes, takes


def generate(batch: list[str], max_new_tokens: int = 8, temperature: float = 0.0) -> list[str]:
    return [f"{query}:{max_new_tokens}:{temperature}" for query in batch]


def anything(batch: list[str], **settings: Any) -> list[dict[str, Any]]:
    return [settings for _ in batch]


def test_values_become_lists_of_plain_numbers() -> None:
    axes = checked_axes(generate, {"batch_size": range(1, 4), "max_new_tokens": np.array([8, 32]), "temperature": (0.0, 0.7)})
    assert axes == {"batch_size": [1, 2, 3], "max_new_tokens": [8, 32], "temperature": [0.0, 0.7]}
    assert {type(value) for name in ("batch_size", "max_new_tokens") for value in axes[name]} == {int}


@pytest.mark.parametrize("name", ["batch_size", "max_new_tokens", "max_tokens", "max_length", "num_beams"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "8", True, None, math.nan])
def test_a_count_is_a_positive_whole_number(name: str, value: Any) -> None:
    with pytest.raises(SettingsError) as refused:
        checked_axes(anything, {name: [1, value]})
    assert str(refused.value) == f"{name} has {value!r} in it. Each must be a whole number of at least 1."


@pytest.mark.parametrize(
    ("axes", "says"),
    [
        ({}, "A sweep needs something to sweep. Pass batch_size=[1, 4, 16], or another list."),
        ({"batch_size": []}, "batch_size is an empty list. Pass the values to try, such as batch_size=[1, 4, 16]."),
        ({"batch_size": [8]}, "A sweep over one value compares nothing. Name two or more: batch_size=[1, 4, 16]."),
        ({"batch_size": "8"}, "batch_size is '8'. Pass the values to try as a list, such as batch_size=[1, 4, 16]."),
        ({"batch_size": 1.5}, "batch_size is 1.5. Pass the values to try as a list, such as batch_size=[1, 4, 16]."),
        ({"batch_size": {"a": 1}}, "batch_size is {'a': 1}. Pass the values to try as a list, such as batch_size=[1, 4, 16]."),
        ({"batch_size": [1, 4, 1]}, "batch_size names 1 twice. Name each value once."),
        ({"temperature": [0.0, math.inf]}, "temperature has inf in it. Each must be a finite number."),
        ({"precision": "bf16"}, "precision is 'bf16'. Pass the values to try as a list, such as precision=['fp32', 'bf16']."),
        ({"precision": ["fp32", "bf61"]}, "There is no precision 'bf61'. Did you mean 'bf16'?"),
        ({"precision": ["fp32", 7]}, "There is no precision 7. Known: fp32, bf16, fp16, int8."),
        (
            {"max_new_token": [8, 32]},
            "The model generate takes no argument 'max_new_token'. A sweep calls it as generate(batch, max_new_token=…).",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_remedy(axes: dict[str, Iterable[Any]], says: str) -> None:
    with pytest.raises(SettingsError) as refused:
        checked_axes(generate, axes)
    assert str(refused.value) == says


def test_whether_a_model_takes_a_setting_is_read_off_its_signature_where_it_has_one() -> None:
    assert takes(generate, "temperature")
    assert not takes(generate, "top_k")
    assert takes(anything, "top_k")
    assert takes(max, "top_k")  # a builtin without a signature: it will say so itself


def test_settings_are_handed_to_the_model_as_keywords_but_for_the_batch_size() -> None:
    variants = Variants(generate)
    assert variants.at({"batch_size": 4, "max_new_tokens": 32})(["a"]) == ["a:32:0.0"]
    assert variants.at({"batch_size": 4}) is generate


def test_a_function_that_names_its_precision_gets_it_with_the_other_settings() -> None:
    def model(batch: list[str], precision: str, top_k: int = 1) -> list[tuple[str, int]]:
        return [(precision, top_k) for _ in batch]

    assert Variants(model).at({"precision": "bf16", "top_k": 5})(["a"]) == [("bf16", 5)]


def test_a_callable_without_a_precision_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"The model is a function, which has no precision\. Pass the torch\.nn\.Module itself"):
        Variants(generate).at({"precision": "bf16"})


def test_what_this_machine_cannot_do_is_tried_once_and_said_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def cannot(model: object, precision: str) -> None:
        tried.append(precision)
        raise CannotError("this device lacks it")

    monkeypatch.setattr("pytest_greencompute.models.sweeps.at_precision", cannot)
    variants = Variants(generate)
    for size in (1, 4):
        with pytest.raises(CannotError, match="lacks it"):
            variants.at({"precision": "fp16", "batch_size": size})
    assert tried == ["fp16"]
