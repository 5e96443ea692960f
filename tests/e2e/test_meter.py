"""--energy-meter: which meters, in order; a project's own and those of other distributions."""

from __future__ import annotations

import pytest

from .conftest import Project

TEST = """
    import pytest

    @pytest.mark.energy_budget(energy_per_query="1 J", latency_p95="1 s")
    def test_it(energy_meter, world):
        energy_meter.measure(world.model(0.5), list("abcd"))
"""


def test_measuring_leaves_nothing_in_the_log_of_a_test(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        def test_it(energy_meter, world, caplog):
            caplog.set_level("DEBUG")
            energy_meter.measure(world.model(), list("abcd"))
            with energy_meter.window("w"):
                world.model()(["a"])
            assert caplog.record_tuples == []
        """,
    )
    project.measure().assert_outcomes(passed=1)


def test_a_meter_of_the_projects_conftest_is_used_and_named(project: Project) -> None:
    project.toml('meters = ["nvml"]')
    project.write("test_it.py", TEST)
    result = project.measure("--energy-meter=world")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*energy: world gpu:0 Test GPU 3000, counter*", "test_it *0.500 J*PASS*"])


def test_a_meter_of_another_distribution_is_found_by_its_entry_point(project: Project) -> None:
    project.write(
        "conftest.py", "import pytest\nfrom world import world as the_world\n\n@pytest.fixture\ndef world():\n    return the_world\n"
    )
    project.write("other_meters-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: other-meters\nVersion: 1.0\n")
    project.write(
        "other_meters-1.0.dist-info/entry_points.txt", "[greencompute.meters]\nforeign = world:WorldMeter\nbroken = world:Nothing\n"
    )
    project.write("test_it.py", TEST)
    project.pytester.syspathinsert()
    result = project.measure("--energy-meter=foreign")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*energy: world gpu:0*"])
    result = project.measure("--energy-meter=broken,foreign")
    assert "The meter 'broken' of other-meters does not load (AttributeError: " in str(result.stdout) + str(result.stderr)


def test_of_two_meters_of_one_domain_the_first_is_used_and_one_that_refuses_is_told(project: Project) -> None:
    project.write(
        "conftest.py",
        """
        import pytest
        from world import WorldCounter, WorldMeter, world as the_world
        from pytest_greencompute.errors import MeterError

        class Refusing(WorldMeter):
            name = "refusing"
            def find(self, options):
                raise MeterError("The panel is locked.", remedy="Ask Ada for the key.")

        class Empty(WorldMeter):
            name = "empty"
            def find(self, options):
                return []

        def pytest_greencompute_meters():
            return {"refusing": Refusing(), "empty": Empty(), "world": WorldMeter(), "second": WorldMeter()}

        @pytest.fixture
        def world():
            return the_world
        """,
    )
    project.write("test_it.py", TEST)
    result = project.measure("--energy-meter=refusing,empty,world,second", "--energy-json=energy.json")
    result.assert_outcomes(passed=1)
    assert len(project.report()["session"]["meters"]) == 1
    result.stdout.fnmatch_lines(
        ["not used: refusing: The panel is locked. Ask Ada for the key.", "not used: empty: The meter 'empty' found nothing to read."]
    )


def test_the_modelled_meter_is_used_only_where_it_is_listed(project: Project) -> None:
    project.toml('meters = ["nvml"]\ncpu_watts_per_core = "10 W"')
    project.write("test_it.py", TEST)
    project.monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    result = project.measure("--energy-unmeasured=warn")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*energy is modelled*")
    project.write(
        "test_it.py",
        """
        def test_it(energy_meter):
            with energy_meter.window() as window:
                sum(range(1_000_000))
            assert window.energy > "1 mJ"
        """,
    )
    result = project.measure("--energy-meter=cputime")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["*energy: cputime cpu *, modelled*", "cpu energy is modelled, not measured: 10 W per core *", "total * modelled in *"]
    )


@pytest.mark.parametrize(
    ("environment", "policy", "outcome"),
    [({}, [], "passed"), ({"CI": "true"}, [], "failed"), ({}, ["--energy-unmeasured=skip"], "skipped")],
    ids=["at home", "in CI", "skip"],
)
def test_without_any_meter_energy_is_unmeasured_and_the_rest_is_judged(
    project: Project, environment: dict[str, str], policy: list[str], outcome: str
) -> None:
    project.write(
        "conftest.py",
        """
        import pytest
        from world import WorldMeter, world as the_world
        from pytest_greencompute.errors import MeterError

        class Absent(WorldMeter):
            def find(self, options):
                raise MeterError("No device is plugged in.", remedy="Plug one in.")

        def pytest_greencompute_meters():
            return {"world": Absent()}

        @pytest.fixture
        def world():
            return the_world
        """,
    )
    project.write("test_it.py", TEST)
    for name, value in environment.items():
        project.monkeypatch.setenv(name, value)
    result = project.measure("--energy-json=energy.json", "-rs", *policy)
    result.assert_outcomes(**{outcome: 1})
    sentence = "test_it has no energy_per_query to judge: no energy meter works here.*"
    result.stdout.fnmatch_lines([sentence if outcome == "failed" else f"*{sentence}"])
    result.stdout.fnmatch_lines(["no meter: world: No device is plugged in. Plug one in.*"])
    (run,) = project.report()["runs"]
    assert {each["metric"]: each["verdict"] for each in run["verdicts"]} == {"energy_per_query": "UNMEASURED", "latency_p95": "PASS"}


def test_a_figure_that_could_not_be_had_raises_with_the_reason(project: Project) -> None:
    project.toml('meters = ["nvml"]')
    project.write(
        "test_it.py",
        """
        def test_it(energy_meter, world):
            run = energy_meter.measure(world.model(0.5), list("abcd"))
            assert run.energy_per_query < "1 J"
        """,
    )
    project.monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    result = project.measure()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*MeterError: There is no energy_per_query: no energy meter works here.", "no meter: nvml: *"])


# A counter that stands at nought

DEAD_MEMORY = """

from pytest_greencompute.meters.base import Ability, Condition
from pytest_greencompute.values.readings import Reading, Source
import pytest
from world import world

@pytest.fixture(name="world")
def _world():
    return world

class Counter:
    def __init__(self, domain, tick_s=0.0):
        self.source = Source("zones", domain, "counter", tick_s=tick_s)
    def read(self):
        return Reading(world.energy_j if self.source.domain == "cpu" else 0.0, world.clock.now_ns())
    def condition(self): return Condition()
    def facts(self): return {}
    def close(self): pass

class Zones:
    name = "zones"
    def find(self, options):
        world.clock, world.opened = options.clock, True
        return [Counter("cpu"), Counter("dram", 0.001)]
    def abilities(self, options): return [Ability("cpu", works=True, says="a processor")]

def pytest_greencompute_meters(config):
    return {"zones": Zones()}
"""


@pytest.mark.parametrize("domains", ["", 'domains = ["cpu"]', 'domains = ["dram"]', 'domains = ["all"]'])
def test_memory_whose_counter_stands_at_nought_stops_nothing_unless_it_is_judged(project: Project, domains: str) -> None:
    project.write("conftest.py", DEAD_MEMORY)
    project.toml(f'meters = ["zones"]\n{domains}')
    project.write(
        "test_it.py",
        """
        import pytest

        @pytest.mark.energy_budget(energy_per_query="1 J")
        def test_it(energy_meter, world):
            energy_meter.measure(world.model(joules=0.5), ["a", "b"])

        def test_window(energy_meter, world):
            with energy_meter.window() as window:
                world.model(joules=0.5)(["a"])
            assert window.energy.domain == "cpu"
        """,
    )
    result = project.measure("--energy-json=energy.json")
    if "dram" in domains or "all" in domains:
        result.assert_outcomes(failed=2)
        assert "The energy counter of dram did not change for 2 s." in result.stdout.str()
        return
    result.assert_outcomes(passed=2)
    report = project.report()
    assert report["runs"][0]["metrics"]["energy_per_query"]["domain"] == "cpu"
    for run in report["runs"]:
        assert any(note.startswith("dram is left out, its counter does not work") for note in run["notes"])
    assert report["session"]["energy_j"] > 0


@pytest.mark.parametrize("traits", ["", "traits = Traits(reads_gpus=True)"])
def test_another_meter_that_is_there_for_gpus_and_refuses_one_leaves_no_energy_to_judge(project: Project, traits: str) -> None:
    project.write(
        "conftest.py",
        DEAD_MEMORY
        + f"""
from pytest_greencompute.errors import MeterError
from pytest_greencompute.meters.base import Traits

class Cards(Zones):
    name = "cards"
    {traits}
    def find(self, options):
        raise MeterError("Card 0 does not answer.", remedy="Push it in.")

def pytest_greencompute_meters(config):
    return {{"cards": Cards(), "zones": Zones()}}
""",
    )
    project.toml('meters = ["cards", "zones"]')
    project.write("test_it.py", TEST)
    result = project.measure("--energy-json=energy.json")
    (run,) = project.report()["runs"]
    word = next(each["verdict"] for each in run["verdicts"] if each["metric"] == "energy_per_query")
    assert word == ("UNMEASURED" if traits else "PASS")
    assert "Card 0 does not answer." in result.stdout.str()
