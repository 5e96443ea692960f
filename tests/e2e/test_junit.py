"""JUnit XML: figures and verdicts as properties, a failed budget as a failure."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from .conftest import Project


def test_figures_and_verdicts_are_properties_and_a_failed_budget_is_a_failure_not_an_error(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import pytest

        @pytest.mark.energy_budget(energy_per_query="1 J", latency_p95="1 ms", accuracy=0.9)
        def test_it(energy_meter, world):
            energy_meter.measure(world.model(0.5), list("abcd"), references=list("ABCD"))

        @pytest.mark.energy_budget(decode={"energy_per_query": "1 J"})
        def test_named(energy_meter, world):
            energy_meter.measure(world.model(0.25), list("abcd"), name="decode")
        """,
    )
    project.measure("--junitxml=junit.xml", "--energy-save=main").assert_outcomes(failed=1, passed=1)
    root = ET.parse(project.path / "junit.xml").getroot()
    cases = {case.get("name"): case for case in root.iter("testcase")}
    told = {name: {each.get("name"): each.get("value") for each in case.iter("property")} for name, case in cases.items()}
    assert (
        told["test_it"].items()
        >= {
            "energy_per_query_j": "0.5",
            "energy_per_query_method": "gpu:0 counter",
            "energy_per_query_verdict": "PASS",
            "latency_p95_s": "0.01",
            "latency_p95_verdict": "FAIL",
            "accuracy": "1",
        }.items()
    )
    assert told["test_named"].items() >= {"decode.energy_per_query_j": "0.25", "decode.energy_per_query_verdict": "PASS"}.items()
    failure = cases["test_it"].find("failure")
    assert failure is not None
    assert "test_it took 10.00 ms at the 95th percentile" in str(failure.get("message"))
    assert cases["test_it"].find("error") is None
    project.measure("--junitxml=junit.xml", "--energy-baseline=main", "-k", "named").assert_outcomes(passed=1)
    names = {each.get("name") for each in ET.parse(project.path / "junit.xml").getroot().iter("property")}
    assert {"decode.energy_per_query_verdict", "decode.energy_per_query_baseline_verdict"} <= names
