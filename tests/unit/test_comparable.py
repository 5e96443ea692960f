"""What ran where, and which runs may be compared."""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from making import block
from making import run as made_run

import pytest_greencompute
from pytest_greencompute.judging import comparable
from pytest_greencompute.judging.comparable import NO_MATTER, RULES, Record, Unlike, record
from pytest_greencompute.machine.facts import Processor, facts, parse_cpuinfo, read_processor
from pytest_greencompute.measuring.driver import run_metered
from pytest_greencompute.measuring.effort import Effort
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.meters.registry import BUILT_IN
from pytest_greencompute.results.provenance_json import machine_from_json, machine_to_json, provenance_from_json
from pytest_greencompute.testing.simulated import SimulatedClock, SimulatedGpu
from pytest_greencompute.values.footprint import Factors
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.provenance import PACKAGES, Device, Digests, Followed, Moments, Provenance, Served
from pytest_greencompute.values.readings import Source
from pytest_greencompute.values.run import Run

METERS = Path(pytest_greencompute.__file__).parent / "meters"

# ── the processor ───────────────────────────────────────────────────────────────────────────────────────────────────

BARE = """processor\t: 0
model name\t: Intel(R) Xeon(R) Gold 6248 CPU @ 2.50GHz
physical id\t: 0
cpu cores\t: 20
flags\t\t: fpu vme sse2

processor\t: 1
model name\t: another
"""


def test_a_bare_machine_shows_its_cores() -> None:
    assert parse_cpuinfo(BARE) == Processor("Intel(R) Xeon(R) Gold 6248 CPU @ 2.50GHz", virtual=False, cores=20)


def test_a_virtual_machine_hides_its_cores() -> None:
    assert parse_cpuinfo(BARE.replace("sse2", "hypervisor sse2")) == Processor(
        "Intel(R) Xeon(R) Gold 6248 CPU @ 2.50GHz", virtual=True, cores=None
    )


@pytest.mark.parametrize("text", ["", "no colons here", "cpu cores\t: 0\nflags\t:\n", "processor\t: 0\nBogoMIPS\t: 50\nFeatures\t: fp\n"])
def test_what_the_text_does_not_say_is_unknown(text: str) -> None:
    found = parse_cpuinfo(text)
    assert (found.model, found.cores) == ("", None)
    assert not found.virtual


def test_arm_does_not_say_whether_it_is_virtual() -> None:
    assert parse_cpuinfo("processor\t: 0\nFeatures\t: fp asimd\n").virtual is None


def test_without_cpuinfo_the_operating_system_names_the_processor(tmp_path: Path) -> None:
    found = read_processor(tmp_path / "none")
    assert found.model
    assert found.virtual is None


# ── the facts ───────────────────────────────────────────────────────────────────────────────────────────────────────


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    (tmp_path / "model.py").write_text("1\n")
    git(tmp_path, "add", "model.py")
    git(tmp_path, "commit", "-q", "-m", "one")
    return tmp_path


def test_facts_are_json_and_tell_this_machine(tmp_path: Path) -> None:
    found = facts({"PATH": os.environ["PATH"]}, tmp_path)
    assert machine_from_json(json.loads(json.dumps(machine_to_json(found)))) == found
    assert found.python == platform.python_version()
    assert found.cores == os.cpu_count()
    assert found.os == platform.system()
    assert found.kernel == platform.release()


def test_versions_come_from_metadata_and_only_of_what_is_installed() -> None:
    script = (
        "import os, sys; from pytest_greencompute.values.provenance import PACKAGES; from pytest_greencompute.machine.facts import facts\n"
        "found = facts(os.environ)\n"
        "assert not {'numpy', 'torch', 'transformers', 'onnxruntime', 'pytest'} & set(sys.modules)\n"
        "from importlib import metadata\n"
        "here = {d.metadata['Name']: d.version for d in metadata.distributions()}\n"
        "assert dict(found.versions) == {n: here[n] for n in PACKAGES if n in here}\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})


@pytest.mark.parametrize(("value", "ci"), [("true", True), ("1", True), ("no", False), ("0", False), ("", False), (None, False)])
def test_ci_is_what_the_environment_says(tmp_path: Path, value: str | None, ci: bool) -> None:
    environ = {"PATH": os.environ["PATH"]} | ({} if value is None else {"CI": value})
    assert facts(environ, tmp_path).ci is ci


def test_the_commit_and_whether_tracked_files_changed(repository: Path) -> None:
    clean = facts(os.environ, repository)
    assert (clean.commit, clean.dirty) == (git(repository, "rev-parse", "HEAD"), False)
    (repository / "notes.txt").write_text("untracked\n")
    assert facts(os.environ, repository).dirty is False
    (repository / "model.py").write_text("2\n")
    assert facts(os.environ, repository).dirty is True


def test_looking_at_the_commit_writes_nothing(repository: Path) -> None:
    (repository / "model.py").touch()
    before = (repository / ".git" / "index").stat().st_mtime_ns
    facts(os.environ, repository)
    assert (repository / ".git" / "index").stat().st_mtime_ns == before


def test_no_repository_no_commit_yet_and_no_git_give_none(tmp_path: Path) -> None:
    # GIT_CEILING_DIRECTORIES: the folder of the tests may itself lie in a repository.
    environ = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}
    for prepare in (lambda: None, lambda: git(tmp_path, "init", "-q"), lambda: environ.update(PATH=str(tmp_path))):
        prepare()
        found = facts(environ, tmp_path)
        assert (found.commit, found.dirty) == (None, None)


# ── differences ─────────────────────────────────────────────────────────────────────────────────────────────────────

H100 = {
    "device": "NVIDIA H100 80GB HBM3",
    "uuid": "GPU-8d0a",
    "meter": "nvml",
    "method": "counter",
    "power_limit_w": 700.0,
    "driver": "550.54",
}
CPU = {"device": "AMD EPYC 7763", "uuid": "", "meter": "rapl", "method": "counter", "zone": "package-0"}
MACHINE = {
    "cpu": "AMD EPYC 7763",
    "kernel": "6.1",
    "os": "Linux",
    "python": "3.11.7",
    "torch": "2.13.0",
    "commit": "a",
    "dirty": False,
    "ci": True,
}


def run(
    machine: Mapping[str, Any] = MACHINE, devices: Mapping[str, Any] | None = None, batch_size: Any = 32, **more: Any
) -> dict[str, Any]:
    return {"machine": machine, "devices": {"gpu:0": H100, "cpu": CPU} if devices is None else devices, "batch_size": batch_size, **more}


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any], *, cpu_judged: bool = False) -> tuple[Unlike, ...]:
    """Of two runs as files tell them."""
    left, right = (Record(provenance_from_json(each)) for each in (ours, theirs))
    return comparable.differences(left, right, cpu_judged=cpu_judged)


def told(*found: Unlike) -> list[str]:
    return [str(difference) for difference in found]


def test_a_run_does_not_differ_from_itself() -> None:
    assert differences(run(), run()) == ()
    assert differences(run(), run(), cpu_judged=True) == ()
    assert differences({}, {}) == ()


def test_commit_uuid_and_ci_are_expected_to_differ() -> None:
    other = run({**MACHINE, "commit": "b", "dirty": True, "ci": False}, {"gpu:0": {**H100, "uuid": "GPU-1"}, "cpu": CPU})
    assert differences(run(), other, cpu_judged=True) == ()


def test_another_gpu_blocks_in_one_phrase() -> None:
    (found,) = differences(
        run(devices={"gpu:0": {**H100, "device": "NVIDIA A100"}}), run(devices={"gpu:0": {**H100, "device": "NVIDIA H100"}})
    )
    assert found.blocks
    assert str(found) == "GPU: NVIDIA A100 here, NVIDIA H100 in the baseline"


@pytest.mark.parametrize(
    ("theirs", "phrase"),
    [
        (run(devices={"gpu:0": {**H100, "power_limit_w": 400}}), "power limit: 700 W here, 400 W in the baseline"),
        (run(devices={"gpu:0": {**H100, "meter": "codecarbon"}}), "meter: nvml here, codecarbon in the baseline"),
        (run(devices={"gpu:0": {**H100, "method": "integrated"}}), "method: counter here, integrated in the baseline"),
        (run(devices={"gpu:1": H100}), "domain: gpu:0 here, gpu:1 in the baseline"),
        (run(batch_size=1), "batch size: 32 here, 1 in the baseline"),
    ],
)
def test_what_changes_the_energy_blocks(theirs: dict[str, Any], phrase: str) -> None:
    found = differences(run(devices={"gpu:0": H100}), theirs)
    assert told(*found) == [phrase]
    assert found[0].blocks


@pytest.mark.parametrize(
    ("theirs", "phrase"),
    [
        (run({**MACHINE, "torch": "2.12.0"}), "torch: 2.13.0 here, 2.12.0 in the baseline"),
        (run({**MACHINE, "python": "3.12.0"}), "Python: 3.11.7 here, 3.12.0 in the baseline"),
        (run({**MACHINE, "kernel": "5.15"}), "kernel: 6.1 here, 5.15 in the baseline"),
        (run({**MACHINE, "transformers": "5.23.0"}), "transformers: not installed here, 5.23.0 in the baseline"),
        (run(devices={"gpu:0": {**H100, "driver": "535.1"}, "cpu": CPU}), "driver: 550.54 here, 535.1 in the baseline"),
    ],
)
def test_versions_only_warn(theirs: dict[str, Any], phrase: str) -> None:
    found = differences(run(), theirs)
    assert told(*found) == [phrase]
    assert not found[0].blocks


def test_another_cpu_blocks_only_where_a_cpu_is_judged() -> None:
    other = run({**MACHINE, "cpu": "Intel Xeon"})
    (warning,) = differences(run(), other)
    (block,) = differences(run(), other, cpu_judged=True)
    assert str(warning) == str(block) == "CPU: AMD EPYC 7763 here, Intel Xeon in the baseline"
    assert (warning.blocks, block.blocks) == (False, True)


def test_the_meter_of_the_cpu_matters_only_where_a_cpu_is_judged() -> None:
    other = run(devices={"gpu:0": H100, "cpu": {**CPU, "meter": "cputime", "method": "modelled"}})
    assert differences(run(), other) == ()
    assert told(*differences(run(), other, cpu_judged=True)) == [
        "meter: rapl, nvml here, cputime, nvml in the baseline",
        "method: counter here, modelled, counter in the baseline",
    ]
    assert told(*differences(run(), run(devices={"gpu:0": H100}), cpu_judged=True)) == ["domain: cpu, gpu:0 here, gpu:0 in the baseline"]


def test_several_gpus_are_counted_and_sorted_by_number() -> None:
    two, ten = {f"gpu:{n}": H100 for n in (1, 0)}, {f"gpu:{n}": H100 for n in (10, 2)}
    assert differences(run(devices=two), run(devices=dict(reversed(two.items())))) == ()
    found = told(*differences(run(devices={"gpu:0": H100}), run(devices=two)))
    assert found == [
        "domain: gpu:0 here, gpu:0, gpu:1 in the baseline",
        "GPU: NVIDIA H100 80GB HBM3 here, 2 × NVIDIA H100 80GB HBM3 in the baseline",
    ]
    assert told(*differences(run(devices={}), run(devices=ten)))[0] == "domain: none here, gpu:2, gpu:10 in the baseline"


def test_hosts_that_are_named_may_be_others_of_the_same_kind() -> None:
    one, other = {"gpu:node-1/0": {**H100, "host": "node-1"}}, {"gpu:node-7/3": {**H100, "host": "node-7"}}
    assert differences(run(devices=one), run(devices=other)) == ()
    (found,) = told(*differences(run(devices=one), run(devices={"gpu:node-7/3": {**H100, "power_limit_w": 400.0}})))
    assert found == "power limit: 700 W here, 400 W in the baseline"
    assert told(*differences(run(devices=one), run(devices={**one, **other}))) == [
        "domain: gpu:any host, 0 here, gpu:any host, 0, gpu:any host, 1 in the baseline",
        "GPU: NVIDIA H100 80GB HBM3 here, 2 × NVIDIA H100 80GB HBM3 in the baseline",
    ]
    assert "domain" in told(*differences(run(devices=one), run(devices={"gpu:0": H100})))[0]


@pytest.mark.parametrize("theirs", [{}, {"machine": None, "devices": None, "batch_size": None}, {"machine": [], "devices": {"gpu:0": "x"}}])
def test_what_a_baseline_lacks_is_unknown_and_blocks(theirs: dict[str, Any]) -> None:
    found = differences(run(), theirs)
    assert "batch size: 32 here, unknown in the baseline" in told(*(difference for difference in found if difference.blocks))


def test_each_rule_has_a_name_of_its_own() -> None:
    assert len({row.name for row in RULES}) == len(RULES)


MODELLED = {**CPU, "meter": "cputime", "method": "modelled", "watts_per_core": 10.0, "watts_from": "10 W per core (default)"}
CODECARBON = {**CPU, "meter": "codecarbon", "cpu_mode": "tdp", "tdp_w": 65.0, "tracking_mode": "machine"}
ASKED = {"queries": {"alike": "a1", "exact": "e1"}, "references": "r1", "score": "close (1)", "tokens": "ids", "reasoning": "<a> </a>"}
FACTORS = {"carbon_kg_per_j": 1e-8, "money_per_j": 7e-8, "currency": "EUR"}
SERVED = {"url": "http://127.0.0.1:8000", "model": "m", "request": "/v1/chat", "stream": True, "max_tokens": 64, "options": {"stop": ["a"]}}
WHOLE = run(devices={"cpu": MODELLED}, **ASKED, footprint=FACTORS, served=SERVED)


@pytest.mark.parametrize(
    ("changed", "name", "stopped", "free"),
    [
        (
            {"devices": {"cpu": {**MODELLED, "watts_per_core": 5.0}}},
            "watts per core",
            ["energy_per_query", "average_power"],
            ["accuracy", "latency_p95"],
        ),
        ({"queries": {"alike": "a2", "exact": "e2"}}, "queries", ["energy_per_query", "latency_p95", "accuracy"], []),
        (
            {"queries": {"alike": "a1", "exact": "e2"}},
            "order and values of the queries",
            ["accuracy", "answers_changed"],
            ["energy_per_query"],
        ),
        ({"score": "close (2)"}, "score", ["accuracy"], ["energy_per_query", "answers_changed"]),
        ({"tokens": "len (1)"}, "tokens=", ["tokens_per_query", "energy_per_token"], ["energy_per_query"]),
        ({"reasoning": "<b> </b>"}, "reasoning markers", ["reasoning_tokens_per_query", "reasoning_default"], ["tokens_per_query"]),
        (
            {"footprint": {**FACTORS, "carbon_kg_per_j": 2e-8}},
            "carbon of a joule",
            ["carbon_per_query"],
            ["energy_per_query", "cost_per_query"],
        ),
        ({"footprint": {**FACTORS, "money_per_j": 8e-8}}, "price of a joule", ["cost_per_query"], ["energy_per_query", "carbon_per_query"]),
        ({"footprint": {**FACTORS, "currency": "USD"}}, "currency", ["cost_per_query"], ["energy_per_query"]),
        ({"served": {**SERVED, "max_tokens": 16}}, "max_tokens", ["energy_per_query", "latency_p95"], []),
        ({"served": {**SERVED, "stream": False}}, "streaming", ["energy_per_query"], []),
        ({"served": {**SERVED, "options": {}}}, "options of the requests", ["energy_per_query"], []),
        ({"repeats": "cached"}, "repeats", ["energy_per_query", "latency_p95"], []),
    ],
)
def test_runs_that_were_asked_other_things_are_not_compared_where_it_matters(
    changed: dict[str, Any], name: str, stopped: list[str], free: list[str]
) -> None:
    (found,) = (each for each in differences(WHOLE, {**WHOLE, **changed}, cpu_judged=True) if each.name == name)
    assert found.blocks
    assert [each for each in (*stopped, *free) if found.concerns(each)] == stopped


@pytest.mark.parametrize(
    "changed",
    [
        {"references": "r2"},
        {"served": {**SERVED, "model": "n"}},
        {"machine": {**MACHINE, "cores": 64}},
        {"queries": None},
        {"score": None},
        {"footprint": None},
        {"devices": {"cpu": {**MODELLED, "watts_per_core": None}}},
    ],
)
def test_what_older_files_lack_and_what_may_change_is_a_warning(changed: dict[str, Any]) -> None:
    found = differences(WHOLE, {**WHOLE, **changed}, cpu_judged=True)
    assert found
    assert not any(each.blocks for each in found)


def test_watts_matter_where_a_cpu_is_judged_and_their_number_alone() -> None:
    other = {**WHOLE, "devices": {"cpu": {**MODELLED, "watts_per_core": 5.0}}}
    assert differences(WHOLE, other) == ()
    renamed = {**WHOLE, "devices": {"cpu": {**MODELLED, "watts_from": "10 W per core (set by you)"}}}
    assert differences(WHOLE, renamed, cpu_judged=True) == ()
    tdp = [{**WHOLE, "devices": {"cpu": {**CODECARBON, "tdp_w": watts}}} for watts in (65.0, 95.0)]
    assert told(*differences(*tdp, cpu_judged=True)) == ["CodeCarbon's TDP: 65 W here, 95 W in the baseline"]


def test_a_server_on_another_port_is_no_other_server() -> None:
    assert differences(WHOLE, {**WHOLE, "served": {**SERVED, "url": "http://127.0.0.1:9000"}}, cpu_judged=True) == ()


def test_a_window_is_no_loop_and_another_number_of_queries_is_other_queries() -> None:
    loop, fewer = made_run([block(1.0)]), made_run([block(1.0)], queries=40)
    window, longer = (made_run([block(1.0)], window=True, queries=queries) for queries in (100, 40))
    assert [each.name for each in comparable.differences(record(loop), record(window)) if each.blocks] == [
        "measured as",
        "number of queries",
    ]
    assert [each.name for each in comparable.differences(record(loop), record(fewer)) if each.blocks] == ["number of queries"]
    assert comparable.differences(record(window), record(longer)) == ()


# Every field has a row


def keys_of_facts(path: Path) -> set[str]:
    """The keys of the dicts that a module writes out as facts: in functions of that name, in what is called so, and in lambdas for it."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    bodies: list[ast.AST] = [node for node in nodes if isinstance(node, ast.FunctionDef) and node.name in {"facts", "_facts"}]
    bodies += [node for node in nodes if isinstance(node, ast.Assign) and "facts" in map(ast.unparse, node.targets)]
    bodies += [node.value for node in nodes if isinstance(node, ast.keyword) and node.arg == "facts" and isinstance(node.value, ast.Lambda)]
    dicts = [node for body in bodies for node in ast.walk(body) if isinstance(node, ast.Dict)]
    return {key.value for node in dicts for key in node.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)}


CHANGED: Mapping[type, Any] = {
    str: lambda text: f"{text}x",
    bool: lambda flag: not flag,
    int: lambda number: number + 1,
    float: lambda number: number * 2 + 1,
}


def changes(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Each field that a value has on any level, and the value with another one there."""
    if dataclasses.is_dataclass(value):
        inner = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        yield from ((name, replace(value, **{first: each})) for first in inner for name, each in changes(inner[first], f"{path}.{first}"))
    elif isinstance(value, Mapping):  # of devices, by domain; of facts and versions, by name
        for first, each in value.items():
            place = path if dataclasses.is_dataclass(each) else f"{path.removesuffix('.facts')}.{first}"
            yield from ((name, {**value, first: other}) for name, other in changes(each, place))
    else:
        yield path.removeprefix("."), CHANGED[type(value)](value)


def device_facts() -> dict[str, Any]:
    """A value for each fact that one of our meters tells of its device."""
    modules = {f"pytest_greencompute.meters.{path.stem}": path for path in METERS.glob("*.py")}
    assert {module for module, _ in BUILT_IN.values()} <= set(modules)
    names = {name for path in modules.values() for name in keys_of_facts(path)}
    return dict.fromkeys(names - {field.name for field in dataclasses.fields(Device)}, 1.0)


EVERYTHING = Provenance(
    machine=replace(
        facts(os.environ), cpu="EPYC", cores=8, virtual_machine=True, versions=dict.fromkeys(PACKAGES, "1.0"), commit="a", dirty=True
    ),
    footprint=Factors(1.0, 2.0, "EUR"),
    traced="coverage",
    followed=Followed("asr", "A", "asr", "asr", "2025-02", "there", 1.0, 2.0, 3),
    queries=Digests("a", "e", "Box"),
    references="r",
    score="accuracy",
    tokens="ids",
    reasoning="<a> </a>",
    repeats="cached",
    batch_size=1,
    devices={"gpu:0": Device("H100", "GPU-1", "nvml", "counter", device_facts())},
    served=Served("http://x", "m", "/v1", stream=True, max_tokens=64, options="o"),
    conditions=Moments({"gpu:0": {"temperature_c": 45.0}}, {"gpu:0": {"temperature_c": 46.0}}),
)


def test_every_field_of_a_provenance_has_a_row_or_does_not_matter() -> None:
    seen = set()
    for name, other in changes(EVERYTHING):
        found = comparable.differences(Record(EVERYTHING), Record(other), cpu_judged=True)
        free = [each for each in NO_MATTER if name == each or name.startswith(f"{each}.")]
        assert bool(found) is not bool(free), name
        seen |= {*free, *(each.name for each in found)}
    of_runs = {"measured as", "number of queries", "domain"}
    assert {row.name for row in RULES} - seen == of_runs
    assert set(NO_MATTER) - seen <= {field.name for field in dataclasses.fields(Run)}


OF_A_RUN = {"queries": "number of queries", "window": "measured as", "serving": "measured as", "batch_size": "batch size"}
OF_A_RUN |= {"tokens": "tokens=", "reasoning": "reasoning markers"}


def test_every_field_of_a_run_has_a_row_or_does_not_matter() -> None:
    rows = {row.name for row in RULES} | set(NO_MATTER)
    fields = {OF_A_RUN.get(field.name, field.name) for field in dataclasses.fields(Run)} - {"provenance"}
    assert fields - rows == set()
    assert {field.name for field in dataclasses.fields(Source)} == {
        *("meter", "domain", "method", "device", "uuid"),  # rows of devices
        *("tick_s", "jitter_s", "step_j", "lag_s", "systematic", "note"),  # in the intervals, or for people
    }


def test_each_row_says_why() -> None:
    assert all(row.why for row in RULES)
    assert all(NO_MATTER.values())
    assert {name for row in RULES for name in row.metrics} <= set(METRICS)


def test_a_measured_run_says_all_that_a_loop_can_say(tmp_path: Path) -> None:
    clock = SimulatedClock()
    gpu = SimulatedGpu(clock)
    task = Task(lambda batch: [clock.sleep(0.01) or each for each in batch], ["a", "b"], references=["a", "b"], tokens=len)
    effort = Effort(max_seconds=2, keep_answers=True, provenance=Provenance(machine=facts(os.environ, tmp_path)))
    measured, _ = run_metered(task, Instruments([gpu.energy_counter()], clock), effort)
    unsaid = {field.name for field in dataclasses.fields(Provenance) if getattr(measured.provenance, field.name) in (None, {})}
    assert unsaid == {"footprint", "traced", "followed", "repeats", "served"}
