"""Meters by name, and which counters a session ends up with."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from pytest_greencompute.errors import MeterError, SettingsError
from pytest_greencompute.hooks.workers import settings_of_worker
from pytest_greencompute.machine.clock import RealClock
from pytest_greencompute.meters import registry
from pytest_greencompute.meters.base import Ability, Condition, Meter, MeterOptions, Traits, traits_of
from pytest_greencompute.meters.cputime import CpuTimeMeter
from pytest_greencompute.meters.rapl import RaplMeter
from pytest_greencompute.meters.registry import BUILT_IN, ORDER_BY_DEFAULT, names, open_counters, overlap
from pytest_greencompute.settings.build import build
from pytest_greencompute.settings.finding import Where, read_files
from pytest_greencompute.settings.settings import Settings
from pytest_greencompute.values.readings import DOMAINS, Reading, Source

OPTIONS = MeterOptions(clock=RealClock(), environ={})


class PlainCounter:
    def __init__(self, meter: str, domain: str) -> None:
        self.source = Source(meter=meter, domain=domain, method="counter")
        self.closed = 0

    def read(self) -> Reading:
        return Reading(1.0, 1)

    def condition(self) -> Condition:
        return Condition()

    def facts(self) -> dict[str, str]:
        return {}

    def close(self) -> None:
        self.closed += 1


class PlainMeter:
    """Has counters of these domains, or raises."""

    def __init__(self, name: str, *domains: str, error: Exception | None = None) -> None:
        self.name = name
        self.counters = [PlainCounter(name, domain) for domain in domains]
        self._error = error

    def find(self, options: MeterOptions) -> Sequence[PlainCounter]:
        if self._error is not None:
            raise self._error
        return self.counters

    def abilities(self, options: MeterOptions) -> Sequence[Ability]:
        return ()


def table(*meters: PlainMeter) -> dict[str, Meter]:
    return {meter.name: meter for meter in meters}


def opened(extra: dict[str, Meter]) -> list[tuple[str, str]]:
    return [(counter.source.meter, counter.source.domain) for counter in open_counters(tuple(extra), OPTIONS, extra).counters]


def test_whether_a_meter_reads_or_models_is_said_by_its_traits_or_shown_by_its_sources() -> None:
    class Modelling(PlainMeter):
        def find(self, options: MeterOptions) -> Sequence[PlainCounter]:
            counter = PlainCounter(self.name, "cpu")
            counter.source = Source(meter=self.name, domain="cpu", method="modelled")
            return (counter,)

    works = (Ability("cpu", works=True, says=""),)
    assert registry.reads_energy(PlainMeter("wall", "cpu"), works, OPTIONS)
    assert not registry.reads_energy(PlainMeter("wall", "cpu"), (Ability("cpu", works=False, says=""),), OPTIONS)
    assert not registry.reads_energy(Modelling("guess"), works, OPTIONS)
    assert not registry.reads_energy(CpuTimeMeter(), works, OPTIONS)


def test_counters_that_see_this_process_alone_are_known_by_their_domains() -> None:
    class OwnProcess(PlainMeter):
        traits = Traits(sees="process")

    assert open_counters(("cputime",), OPTIONS, {}).own == {"cpu"}
    assert open_counters(("wall", "mine"), OPTIONS, table(PlainMeter("wall", "cpu"), OwnProcess("mine", "cpu", "dram"))).own == {"dram"}


def test_what_a_meter_says_of_itself_is_believed_and_one_that_says_nothing_is_taken_to_have_no_trait() -> None:
    class Declares(PlainMeter):
        traits = Traits(reads_gpus=True, per_worker=True, sees="gpus", models=False)

    class Mistaken(PlainMeter):
        traits = "per_worker"

    assert traits_of(Declares("mine")) == Declares.traits
    assert traits_of(PlainMeter("wall")) == traits_of(Mistaken("wall")) == Traits(per_worker=False, sees="", models=None)


def listing(*meters: str) -> Settings:
    return build({"meter": ",".join(meters)}, read_files(Where(Path(), Path()), None), {}, Path())


def test_workers_may_share_what_is_each_ones_own_and_a_meter_of_the_machine_is_refused_whoever_made_it() -> None:
    class OfTheMachine(PlainMeter):
        traits = Traits(sees="machine", models=False)

    class OfAWorkersGpu(PlainMeter):
        traits = Traits(per_worker=True, sees="gpus")

    asked = listing("wall")
    for meter in (OfTheMachine("wall", "gpu"), PlainMeter("wall", "gpu")):
        with pytest.raises(SettingsError, match="The meter 'wall' may see what all workers use"):
            settings_of_worker(asked, table(meter))
    with pytest.raises(SettingsError, match="the processor and the memory are shared by all workers"):
        settings_of_worker(listing("rapl"), {})
    left, meters = settings_of_worker(asked, mine := table(OfAWorkersGpu("wall", "gpu")))
    assert (left.meters, meters) == (("wall",), mine)
    left, meters = settings_of_worker(listing("wall", "rapl", "nvml"), table(OfTheMachine("wall", "gpu")))
    assert left.meters == ("wall", "nvml")
    with pytest.raises(MeterError, match="its traits"):
        meters["wall"].find(OPTIONS)


# ── names ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_built_in_meters_load_by_name() -> None:
    assert isinstance(registry.meter("rapl", {}), RaplMeter)
    assert isinstance(registry.meter("cputime", {}), CpuTimeMeter)


@pytest.mark.parametrize("name", BUILT_IN)
def test_each_row_of_the_table_leads_to_a_meter_of_that_name(name: str) -> None:
    module, attribute = BUILT_IN[name]
    assert getattr(importlib.import_module(module), attribute).name == name
    assert callable(registry.meter(name, {}).find)


@pytest.mark.parametrize("path", sorted(Path(registry.__file__).parent.glob("*.py")), ids=lambda path: path.stem)
def test_a_setting_may_name_every_domain_that_one_of_our_meters_has(path: Path) -> None:
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    takes = {node.name: [each.arg for each in node.args.args] for node in nodes if isinstance(node, ast.FunctionDef)}
    written: list[ast.expr] = []
    for call in (node for node in nodes if isinstance(node, ast.Call)):
        written += [each.value for each in call.keywords if each.arg == "domain"]
        names = takes.get(ast.unparse(call.func), ["domain"] if ast.unparse(call.func) == "Ability" else [])
        written += [value for name, value in zip(names, call.args, strict=False) if name == "domain"]
    domains = {each.value for each in written if isinstance(each, ast.Constant)}
    assert domains <= set(DOMAINS)
    expected = {"zeus_soc": {"soc", "board"}, "codecarbon": {"gpu", "cpu", "dram"}, "cputime": {"cpu"}}
    assert domains >= expected.get(path.stem, set())


def test_only_meters_that_measure_are_used_unasked() -> None:
    assert ORDER_BY_DEFAULT == ("nvml", "rapl")


def test_the_table_itself_loads_nothing() -> None:
    script = (
        "import sys; sys.path[:] = " + repr(sys.path) + "\n"
        "from pytest_greencompute.meters import registry; registry.names({})\n"
        "loaded = {n for n in sys.modules if n.startswith(('pytest_greencompute.meters.', 'codecarbon', 'zeus', 'numpy', 'pynvml'))}\n"
        "assert loaded == {'pytest_greencompute.meters.registry', 'pytest_greencompute.meters.base'}, loaded"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_meter_of_the_conftest_is_found_by_its_name() -> None:
    mine = PlainMeter("mine", "gpu:0")
    assert registry.meter("mine", table(mine)) is mine
    assert names(table(mine)) == (*BUILT_IN, "mine")


def test_a_built_in_name_cannot_be_taken() -> None:
    with pytest.raises(SettingsError, match="built in"):
        registry.meter("rapl", table(PlainMeter("rapl", "cpu")))


def test_an_unknown_name_is_a_settings_error_with_the_nearest_one() -> None:
    with pytest.raises(SettingsError) as caught:
        registry.meter("nmvl", table(PlainMeter("mine")))
    assert (
        str(caught.value)
        == "There is no meter 'nmvl'. Did you mean 'nvml'? There are: nvml, rapl, codecarbon, zeus, prometheus, dcgm, cputime, mine."
    )
    with pytest.raises(SettingsError, match="There are"):
        registry.meter("wattmeter", {})


# ── entry points ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution with four entry points: a class, a function, an object that is no meter, and a module that is not there."""
    (tmp_path / "wall_socket.py").write_text(
        "class Wall:\n    name = 'wall'\n    def find(self, options): return ()\n    def abilities(self, options): return ()\n"
        "def make(): return Wall()\n"
        "class Nothing:\n    name = 'nothing'\n"
    )
    info = tmp_path / "wall_socket-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: wall-socket\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[greencompute.meters]\nwall = wall_socket:Wall\nmade = wall_socket:make\nnothing = wall_socket:Nothing\n"
        "gone = wall_socket_gone:Wall\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("installed")
def test_meters_of_other_distributions_are_found_by_name() -> None:
    assert names({})[len(BUILT_IN) :] == ("wall", "made", "nothing", "gone")
    assert registry.meter("wall", {}).name == "wall"
    assert registry.meter("made", {}).name == "wall"


@pytest.mark.usefixtures("installed")
def test_a_meter_of_the_conftest_comes_before_an_installed_one() -> None:
    mine = PlainMeter("wall", "gpu:0")
    assert registry.meter("wall", table(mine)) is mine


@pytest.mark.usefixtures("installed")
def test_an_entry_point_that_does_not_load_is_a_meter_error_naming_the_distribution() -> None:
    with pytest.raises(MeterError, match=r"'gone' of wall-socket does not load.*ModuleNotFoundError"):
        registry.meter("gone", {})
    with pytest.raises(MeterError, match="'nothing' of wall-socket has no find"):
        registry.meter("nothing", {})


@pytest.mark.usefixtures("installed")
def test_an_entry_point_that_does_not_load_is_a_refusal_where_another_meter_works() -> None:
    extra = table(PlainMeter("mine", "gpu:0"))
    found = open_counters(("gone", "wall", "mine"), OPTIONS, extra)
    assert len(found.counters) == 1
    assert [name for name, _ in found.refusals] == ["gone", "wall"]
    assert "found nothing" in str(found.refusals[1][1])


# ── counters ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("gpu:0", "gpu:0", True),
        ("gpu", "gpu:3", True),
        ("cpu:1", "cpu", True),
        ("dram", "dram", True),
        ("gpu:0", "gpu:1", False),
        ("gpu:1", "gpu:10", False),
        ("cpu", "dram", False),
        ("cpu", "cpux", False),
        ("soc", "cpu", True),
        ("soc", "board", True),
        ("board", "gpu:0", True),
    ],
)
def test_domains_overlap_where_they_hold_the_same_joules(one: str, other: str, same: bool) -> None:
    assert overlap(one, other) is overlap(other, one) is same


def test_each_domain_goes_to_the_first_meter_that_has_it_and_the_rest_are_closed() -> None:
    first, second = PlainMeter("first", "gpu:0", "gpu:1"), PlainMeter("second", "gpu", "cpu", "dram")
    third = PlainMeter("third", "cpu:0", "gpu:2")
    assert opened(table(first, second, third)) == [
        ("first", "gpu:0"),
        ("first", "gpu:1"),
        ("second", "cpu"),
        ("second", "dram"),
        ("third", "gpu:2"),
    ]
    assert [counter.closed for meter in (first, second, third) for counter in meter.counters] == [0, 0, 1, 0, 0, 1, 0]


def test_the_whole_of_a_family_keeps_its_members_out_when_it_comes_first() -> None:
    assert opened(table(PlainMeter("first", "gpu"), PlainMeter("second", "gpu:0", "cpu"))) == [("first", "gpu"), ("second", "cpu")]


def test_a_name_listed_twice_is_opened_once() -> None:
    mine = PlainMeter("mine", "cpu")
    assert len(open_counters(("mine", "mine"), OPTIONS, table(mine)).counters) == 1
    assert mine.counters[0].closed == 0


def test_a_refusal_is_kept_with_its_reason_where_another_works() -> None:
    refusal = MeterError("No driver.", remedy="Install it.")
    found = open_counters(("a", "b"), OPTIONS, table(PlainMeter("a", error=refusal), PlainMeter("b", "cpu")))
    assert found.refusals == (("a", refusal),)
    assert [counter.source.domain for counter in found.counters] == ["cpu"]


def test_where_none_works_the_error_has_every_reason_and_remedy() -> None:
    extra = table(
        PlainMeter("a", error=MeterError("No driver.", remedy="Install it.")),
        PlainMeter("b", error=MeterError("No permission.", remedy="Ask for it.")),
    )
    with pytest.raises(MeterError) as caught:
        open_counters(("a", "b"), OPTIONS, extra)
    assert caught.value.message == "No meter works here. a: No driver. Install it. b: No permission. Ask for it."
    assert "cputime" in caught.value.remedy


def test_a_meter_of_others_that_breaks_refuses_and_hides_no_other() -> None:
    broken, empty = PlainMeter("broken", error=ZeroDivisionError("no such core")), PlainMeter("empty")
    empty.counters = None  # type: ignore[assignment]  it answers with what is no list
    found = open_counters(("broken", "empty", "b"), OPTIONS, table(broken, empty, PlainMeter("b", "cpu")))
    assert [counter.source.domain for counter in found.counters] == ["cpu"]
    assert [refusal.message for _, refusal in found.refusals] == [
        "The meter 'broken' could not be opened (ZeroDivisionError: no such core).",
        "The meter 'empty' could not be opened (TypeError: 'NoneType' object is not iterable).",
    ]


def test_an_empty_list_is_a_settings_error() -> None:
    with pytest.raises(SettingsError, match="empty"):
        open_counters((), OPTIONS, {})


@pytest.mark.parametrize(
    ("last", "error"),
    [("unknown", SettingsError), ("wrong", SettingsError), ("stopped", KeyboardInterrupt)],
)
def test_what_was_opened_is_closed_when_anything_else_is_raised(last: str, error: type[BaseException]) -> None:
    first, second = PlainMeter("first", "gpu:0"), PlainMeter("second", "gpu", "cpu")
    extra = table(
        first,
        second,
        PlainMeter("wrong", error=SettingsError("Wrong.")),
        PlainMeter("stopped", error=KeyboardInterrupt()),  # type: ignore[arg-type]
    )
    with pytest.raises(error):
        open_counters(("first", "second", last), OPTIONS, extra)
    assert all(counter.closed for meter in (first, second) for counter in meter.counters)
