"""--energy-meter with a meter of other hosts: a model that uses GPUs of another machine, in simulated time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .conftest import CONFTEST as HERE
from .conftest import Project

CONFTEST = """
    import pytest
    from pytest_greencompute.meters.hosts import TRAITS, PrometheusMeter
    from tests.meters.exporters import StandInExporter, StandInPrometheus

    class Hosts:
        name, traits = "hosts", TRAITS

        def find(self, options):
            self.clock = options.clock
            self.exporters = [StandInExporter(self.clock, f"node-{number}", first=8 * number) for number in (1, 2)]
            prometheus = StandInPrometheus(self.clock, 5.0, {f"{each.host}:9400": each.text for each in self.exporters})
            return PrometheusMeter(prometheus).find(options)

        def abilities(self, options):
            return []

    HOSTS = Hosts()

    def pytest_greencompute_meters(config):
        return {"hosts": HOSTS}

    @pytest.fixture
    def remote():
        def run(batch):
            for exporter, watts in zip(HOSTS.exporters, (300, 500)):
                exporter.gpus[0].set_power(watts)
            HOSTS.clock.sleep(20)
            for exporter in HOSTS.exporters:
                exporter.gpus[0].set_power(60)
            return batch
        return run
    """


@pytest.fixture
def hosts(project: Project) -> Project:
    project.monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2]))
    project.write("conftest.py", CONFTEST)
    project.monkeypatch.setenv("ENERGY_PROMETHEUS_URL", "http://monitor:9090")
    project.monkeypatch.setenv("ENERGY_SERIES", 'host=~"node-.*"')
    project.monkeypatch.setenv("ENERGY_METRICS_TOKEN", "s3cret-token")
    return project


def test_a_model_on_two_hosts_is_judged_by_their_sum_or_by_one(hosts: Project) -> None:
    hosts.write(
        "test_remote.py",
        """
        import pytest

        @pytest.mark.energy_budget(energy_per_query="16.5 kJ")
        def test_within(energy_meter, remote):
            assert energy_meter.measure(remote, ["a"]).energy_per_query == pytest.approx(16_000, rel=0.02)

        @pytest.mark.energy_budget(energy_per_query="9 kJ")
        def test_over(energy_meter, remote):
            energy_meter.measure(remote, ["a"])
        """,
    )
    reports = ("--energy-json=energy.json", "--energy-markdown=energy.md")
    result = hosts.measure("--energy-meter=hosts", *reports)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*test_over used * per query * on gpu:node-1/0+gpu:node-2/0, over its budget of 9 kJ*"])
    report = hosts.report()
    assert {each["domain"]: each["uuid"][-3:] for each in report["session"]["meters"]} == {"gpu:node-1/0": "008", "gpu:node-2/0": "010"}
    assert report["runs"][0]["provenance"]["devices"]["gpu:node-2/0"]["host"] == "node-2"
    for name in ("energy.json", "energy.md"):
        assert "s3cret" not in (hosts.path / name).read_text(encoding="utf-8")
    assert "s3cret" not in result.stdout.str()
    assert os.environ["ENERGY_METRICS_TOKEN"] == "s3cret-token"


def test_without_an_address_nothing_of_this_machine_is_judged_instead(hosts: Project) -> None:
    hosts.monkeypatch.delenv("ENERGY_PROMETHEUS_URL")
    hosts.toml('meters = ["prometheus", "world"]\nunmeasured = "fail"')
    hosts.write("conftest.py", HERE)
    hosts.write(
        "test_here.py",
        """
        import pytest

        @pytest.mark.energy_budget(energy_per_query="1 kJ")
        def test_here(energy_meter, world):
            energy_meter.measure(world.model(), ["a"])
        """,
    )
    result = hosts.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*test_here has no energy_per_query to judge: *ENERGY_PROMETHEUS_URL is not set*"])


def test_one_host_of_several_can_be_judged_alone(hosts: Project) -> None:
    hosts.toml('meters = ["hosts"]\ndomains = "gpu:node-1"')
    hosts.write(
        "test_remote.py",
        """
        import pytest

        @pytest.mark.energy_budget(energy_per_query="6.1 kJ")
        def test_one(energy_meter, remote):
            run = energy_meter.measure(remote, ["a"])
            assert (run.energy_per_query.domain, run.energy_per_query) == ("gpu:node-1/0", pytest.approx(6_000, rel=0.02))
        """,
    )
    hosts.measure().assert_outcomes(passed=1)
