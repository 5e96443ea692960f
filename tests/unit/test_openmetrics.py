"""The OpenMetrics text, read back by prometheus_client's own parser."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from telling import CPU, compared, measured, session, told

from pytest_greencompute.report.openmetrics import write
from pytest_greencompute.results.summary import Summary
from pytest_greencompute.values.provenance import Machine


def families(made: Summary) -> dict[str, Family]:
    text = write(made)
    assert text.endswith("# EOF\n")
    return {family.name: family for family in text_string_to_metric_families(text)}


def test_figures_have_their_unit_in_the_name_and_the_ends_of_the_interval_beside_them() -> None:
    run = told(measured(), energy_per_query=0.8, latency_p95=0.04, accuracy=0.92)
    found = families(session(run))
    for name, key in (("", "value"), ("_low", "low"), ("_high", "high")):
        family = found[f"greencompute_energy_per_query{name}_joules"]
        assert (family.type, family.unit) == ("gauge", "joules")
        (sample,) = family.samples
        assert sample.value == getattr(run.metrics["energy_per_query"], key)
        assert sample.labels == {"test": run.test, "run": "", "domain": "gpu:0", "method": "counter"}
    assert found["greencompute_latency_p95_seconds"].samples[0].value == pytest.approx(0.0312)
    assert found["greencompute_accuracy"].samples[0].value == pytest.approx(0.94)
    assert found["greencompute_energy_per_query_budget_joules"].samples[0].value == 0.8


def test_a_verdict_is_a_state_set_that_says_against_what() -> None:
    found = families(session(told(measured(), energy_per_query=0.5), compared(1.2, "FAIL")))
    samples = found["greencompute_verdict"].samples
    true = {(each.labels["kind"], each.labels["against"]): each.labels["greencompute_verdict"] for each in samples if each.value}
    assert true == {("budget", ""): "FAIL", ("base_ref", "main (0123abcd)"): "FAIL"}
    assert len(samples) == 2 * 5


def test_the_session_has_its_energy_its_time_and_where_it_ran() -> None:
    found = families(session(told(measured()), machine=Machine(commit="0123abcd", cpu="EPYC")))
    assert found["greencompute_session_energy_joules"].samples[0].value == 3100.0
    assert found["greencompute_session_duration_seconds"].samples[0].value == 41.0
    assert found["greencompute_session"].samples[0].labels == {"commit": "0123abcd", "cpu": "EPYC", "devices": "NVIDIA H100 80GB HBM3"}


def test_a_total_has_its_verdict_and_its_budget() -> None:
    run = told(measured(), effect="fail", energy_per_query=0.5)
    total = replace(run.verdicts[0], metric="total", word="FAIL", limit=1000.0)
    found = families(session(told(measured(), energy_per_query=0.8), total=total))
    true = {each.labels["metric"]: each.labels["greencompute_verdict"] for each in found["greencompute_verdict"].samples if each.value}
    assert true == {"energy_per_query": "PASS", "total": "FAIL"}
    assert found["greencompute_session_energy_budget_joules"].samples[0].value == 1000.0


def test_a_total_that_is_not_known_is_left_out() -> None:
    assert "greencompute_session_energy_joules" not in families(session(told(measured()), total_j=None))


def test_a_modelled_figure_says_so() -> None:
    (sample,) = families(session(told(measured((CPU,)))))["greencompute_energy_per_query_joules"].samples
    assert sample.labels["method"] == "modelled"


def test_a_run_that_was_measured_twice_is_one_sample() -> None:
    found = families(session(told(measured()), told(measured())))
    assert len(found["greencompute_energy_per_query_joules"].samples) == 1


@settings(max_examples=100)
@given(st.text(max_size=30), st.text(max_size=30))
def test_names_come_back_as_text(test: str, name: str) -> None:
    from pytest_greencompute.report.escape import printable

    run = replace(told(measured(), energy_per_query=0.8), test=test, name=name)
    (sample,) = families(session(run))["greencompute_energy_per_query_joules"].samples
    assert (sample.labels["test"], sample.labels["run"]) == (printable(test), printable(name))
