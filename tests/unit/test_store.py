"""Run files and baselines: what is written can be read back and judged again, and a broken file is refused by name."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import block, figure, idle, latencies, source
from making import run as made_run

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.estimates.estimate import Aim
from pytest_greencompute.estimates.of_run import Figures
from pytest_greencompute.judging.by_limit import judge_budget
from pytest_greencompute.judging.comparable import matching, unlike
from pytest_greencompute.judging.verdict import Verdict, unmeasured
from pytest_greencompute.results.document import document, summary_of, verdict_to_json
from pytest_greencompute.results.provenance_json import provenance_from_json
from pytest_greencompute.results.result import Result, ShownVerdict
from pytest_greencompute.results.run_json import SCHEMA, read_runs, run_from_json, run_to_json, schema
from pytest_greencompute.results.session import Facts, Refusal, together
from pytest_greencompute.results.summary import Summary
from pytest_greencompute.store.baselines import KEPT, Baselines
from pytest_greencompute.store.files import check_writable, to_json, write_atomically
from pytest_greencompute.values.footprint import Factors, Footprint
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.provenance import PACKAGES, Device, Digests, Followed, Machine, Moments, Provenance, Served
from pytest_greencompute.values.readings import METHODS, Block, Idle, Source, Span
from pytest_greencompute.values.run import Latency, Run

VALIDATOR = jsonschema.Draft202012Validator(schema())


def session(*results: Result, created: str = "2026-11-23T10:00:00Z", exit_status: int = 0) -> Summary:
    """A session with these runs."""
    facts = Facts(machine=Machine(commit="0123abcd"), sources=(source(), source("cpu")), seconds=41.2, total_j=3100.2)
    return Summary(enabled=True, facts=facts, results=results, created=created, exit_status=exit_status)


FULL = made_run(
    [
        block(100 + k + index, set_index=k, phase=index / 9, marks=("thermal slowdown",) if k == 0 else ())
        for k in range(3)
        for index in range(9)
    ],
    name="prefill",
    seconds=41.2,
    sources=(source(systematic=0.05, step_j=0.001, note="made by hand"),),
    warmup=(replace(block(1), spans={}),),
    idles=(idle(60), idle(61)),
    latencies=latencies([0.01, 0.02, 0.03]),
    scores=(1.0, 0.0, 0.5),
    notes=("a set was lost", "ein Hinweis: µJ"),
    looks=3,
    provenance=Provenance(
        machine=Machine(commit="0123abcd"),
        batch_size=32,
        devices={"gpu:0": Device(facts={"gpu": "Made GPU", "limit_w": 700.0, "none": None})},
    ),
)


def judged_as(run: Run, verdicts: tuple[Verdict, ...] = ()) -> Result:
    return Result.of(run, Figures(run, Aim()).every(), [ShownVerdict.of(verdict, "fail") for verdict in verdicts])


def report(*runs: Run, verdicts: tuple[Verdict, ...] = ()) -> dict[str, Any]:
    return document(session(*(judged_as(run, verdicts) for run in runs), exit_status=1))


def written(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


# Round trips


names = st.text(st.characters(codec="utf-8"), max_size=12)
finite = st.floats(allow_nan=False, allow_infinity=False)
positive = st.floats(1e-9, 1e9)
domains = st.sampled_from(["gpu:0", "gpu:1", "cpu", "dram"])


@st.composite
def blocks(draw: st.DrawFn, index: int) -> Block:
    start = draw(st.integers(0, 10**18))
    end = start + draw(st.integers(0, 10**12))
    spans = {
        domain: Span(draw(st.floats(0, 1e9)), start - draw(st.integers(0, 10**9)), end + draw(st.integers(0, 10**9)))
        for domain in draw(st.sets(domains, max_size=2))
    }
    phase = draw(st.floats(0, 1, exclude_max=True))
    return Block(index, phase, draw(st.integers(1, 10**6)), start, end, spans, tuple(draw(st.lists(names, max_size=2))))


@st.composite
def provenances(draw: st.DrawFn, facts: st.SearchStrategy[Any]) -> Provenance:
    """What any version may say: each part of it or none."""
    text, number = st.none() | names, st.none() | finite
    seen = st.dictionaries(names, st.dictionaries(names, facts, max_size=2), max_size=2)
    machines = st.builds(
        Machine,
        cpu=text,
        cores=st.none() | st.integers(),
        dirty=st.none() | st.booleans(),
        commit=text,
        versions=st.dictionaries(st.sampled_from(PACKAGES), names),
    )
    device = st.builds(Device, text, text, text, text, st.dictionaries(names, facts, max_size=3))
    return draw(
        st.builds(
            Provenance,
            machine=machines,
            footprint=st.none() | st.builds(Factors, number, number, text),
            followed=st.none() | st.builds(Followed, names, text, names, names, names, names, number, number, st.none() | st.integers()),
            queries=st.none() | st.builds(Digests, text, text, text),
            traced=text,
            references=text,
            tokens=text,
            batch_size=st.none() | st.integers(),
            devices=st.dictionaries(names, device, max_size=2),
            served=st.none() | st.builds(Served, text, text, text, st.none() | st.booleans(), st.none() | st.integers(), facts),
            conditions=st.none() | st.builds(Moments, seen, seen),
        )
    )


@st.composite
def runs(draw: st.DrawFn) -> Run:
    queries = draw(st.integers(1, 50))
    counts = draw(st.lists(st.integers(1, 3), max_size=3))
    window = draw(st.booleans())
    measured = tuple(draw(blocks(index)) for index, count in enumerate(counts) for _ in range(count))[: 1 if window else None]
    read_by_all = set.intersection(*(set(each.spans) for each in measured)) if measured else {"gpu:0", "cpu"}
    sources = [
        Source(
            meter=draw(names.filter(bool)),
            domain=domain,
            method=draw(st.sampled_from(METHODS)),
            device=draw(names),
            uuid=draw(names),
            tick_s=draw(st.floats(0, 10)),
            step_j=draw(st.floats(0, 10)),
            systematic=draw(st.floats(0, 1)),
            note=draw(names),
        )
        for domain in sorted(read_by_all)
    ]
    plain = st.none() | st.booleans() | st.integers(-(10**15), 10**15) | finite | names
    return Run(
        test=draw(names),
        name=draw(st.none() | names),
        queries=queries,
        batch_size=draw(st.integers(1, 64)),
        metered=draw(st.booleans()),
        seconds=draw(st.floats(0, 1e6)),
        sources=tuple(sources),
        blocks=measured,
        warmup=tuple(draw(st.lists(blocks(0), max_size=1))),
        idles=tuple(Idle(draw(domains), draw(st.floats(0, 1e6)), draw(positive)) for _ in range(draw(st.integers(0, 2)))),
        latencies=tuple(Latency(draw(st.integers(1, 64)), draw(st.floats(0, 1e6))) for _ in range(draw(st.integers(0, 3)))),
        scores=draw(st.none() | st.lists(finite, max_size=queries).map(tuple)),
        notes=tuple(draw(st.lists(names, max_size=2))),
        problem=draw(names),
        window=window,
        looks=draw(st.integers(1, 9)),
        provenance=draw(provenances(plain | st.lists(plain, max_size=2) | st.dictionaries(names, plain, max_size=2))),
    )


@settings(max_examples=80)
@given(runs())
def test_every_run_comes_back_from_its_json_as_it_was(run: Run) -> None:
    text = to_json(run_to_json(run))
    assert run_from_json(json.loads(text)) == run


@settings(max_examples=30)
@given(runs())
def test_every_document_validates_against_the_schema_that_ships(run: Run) -> None:
    VALIDATOR.validate(json.loads(to_json(document(session(Result.of(run, {}))))))


def test_estimates_are_the_same_after_reading(tmp_path: Path) -> None:
    (again,) = read_runs(written(tmp_path / "run.json", to_json(report(FULL))))
    before, after = Figures(FULL, Aim()).every(), Figures(again, Aim()).every()
    assert before.keys() == after.keys() == METRICS.keys()
    for name, outcome in before.items():
        assert str(outcome) == str(after[name])
        assert getattr(outcome, "low", None) == getattr(after[name], "low", None)


def test_a_report_with_everything_validates() -> None:
    verdicts = (
        judge_budget(METRICS["energy_per_query"], figure(1.0, 0.9, None), _limit(), "t"),
        unmeasured(METRICS["latency_p95"], "t", "no limit for this hardware"),
    )
    made = report(FULL, made_run([], metered=False, sources=(), scores=(1.0,)), verdicts=verdicts)
    total = verdict_to_json(ShownVerdict("energy_per_query", "FAIL", "budget", "the session used 3.1 kJ", limit=5.0, effect="fail"))
    made["session"]["total"] = total
    VALIDATOR.validate(json.loads(to_json(made)))
    assert made["runs"][0]["metrics"]["energy_per_query"]["unit"] == "J"
    assert made["runs"][0]["metrics"]["energy_per_query"]["domain"] == "gpu:0"
    assert made["runs"][0]["blocks"] == 27


def _limit() -> Any:
    from pytest_greencompute.judging.budget import Limit

    return Limit(METRICS["energy_per_query"], 0.8, "pyproject.toml:3")


def test_the_schema_is_itself_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())


BREAKS: dict[str, Callable[[dict[str, Any]], object]] = {
    "another schema": lambda made: made.update(schema="greencompute.report/2"),
    "no runs": lambda made: made.pop("runs"),
    "an unknown key": lambda made: made.update(more=1),
    "a unit that is not SI": lambda made: made["runs"][0]["metrics"]["energy_per_query"].update(unit="mJ"),
    "a word that is none": lambda made: made["runs"][0]["verdicts"][0].update(verdict="OK"),
    "an empty reason": lambda made: made["runs"][0]["verdicts"][0].update(reason=""),
    "a figure without a value": lambda made: made["runs"][0]["metrics"]["energy_per_query"].update(value=None),
    "a phase of one": lambda made: made["runs"][0]["raw"]["sets"][0][0].__setitem__(1, 1.0),
    "a block without queries": lambda made: made["runs"][0]["raw"]["sets"][0][0].__setitem__(2, 0),
    "a short block": lambda made: made["runs"][0]["raw"]["sets"][0][0].pop(),
    "no looks": lambda made: made["runs"][0]["raw"].update(looks=0),
    "a score that is text": lambda made: made["runs"][0]["raw"].update(scores=["good"]),
    "a local time": lambda made: made.update(created="2026-11-23 10:00:00"),
}


@pytest.mark.parametrize("broken", BREAKS)
def test_the_schema_rejects_a_broken_document(broken: str) -> None:
    verdict = judge_budget(METRICS["energy_per_query"], figure(1.0, 0.9, 1.1), _limit(), "t")
    made = json.loads(to_json(report(FULL, verdicts=(verdict,))))
    VALIDATOR.validate(made)
    BREAKS[broken](made)
    assert not VALIDATOR.is_valid(made)


# Broken files


def test_a_file_that_is_cut_short_anywhere_is_refused_by_name(tmp_path: Path) -> None:
    text = to_json(report(FULL)).rstrip()
    for end in range(0, len(text), 97):
        path = written(tmp_path / "cut.json", text[:end])
        with pytest.raises(SettingsError, match=r"cut\.json") as caught:
            read_runs(path)
        assert caught.value.remedy


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not a whole run file"),
        ("[]", "has schema None"),
        ("3", "has schema None"),
        ('{"runs": []}', "has schema None"),
        (f'{{"schema": "{SCHEMA}"}}', "KeyError: 'runs'"),
        (f'{{"schema": "{SCHEMA}", "runs": 5}}', "not a whole run file"),
        (f'{{"schema": "{SCHEMA}", "runs": [5]}}', "not a whole run file"),
        (f'{{"schema": "{SCHEMA}", "runs": [{{"raw": {{}}}}]}}', "not a whole run file"),
    ],
)
def test_what_is_no_run_file_is_refused_by_name(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_runs(written(tmp_path / "odd.json", text))
    assert "odd.json" in str(caught.value)
    assert says in str(caught.value)


def test_a_newer_schema_asks_for_an_update(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="Update pytest-greencompute"):
        read_runs(written(tmp_path / "new.json", report(FULL) | {"schema": "greencompute.report/2"}))


def test_a_missing_file_a_folder_and_bytes_that_are_no_text_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    for name in ("missing.json", "folder.json", "bytes.json"):
        with pytest.raises(SettingsError, match=name.replace(".", r"\.")):
            read_runs(tmp_path / name)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all leaves and of all inner values."""
    if path:
        yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from leaves(child, (*path, key))


SMALL = made_run(
    [block(100, set_index=k) for k in range(2)],
    warmup=(block(3),),
    idles=(idle(60),),
    latencies=latencies([0.01]),
    scores=(1.0,),
    notes=("a note",),
    provenance=Provenance(machine=Machine(commit="abc")),
)
# What has no invariant of its own: any JSON is fine there.
FREE = {"provenance", "metrics", "verdicts", "blocks"}


@pytest.mark.parametrize("wrong", ["text", None, [], {}, -1, 0.5, True, math.nan], ids=repr)
def test_a_wrong_type_anywhere_is_refused_or_does_no_harm(tmp_path: Path, wrong: Any) -> None:
    """Whatever is read without complaint can be estimated without one."""
    whole = report(SMALL)
    for path in leaves(whole["runs"]):
        if FREE & set(path):
            continue
        broken = copy.deepcopy(whole)
        place = broken["runs"]
        for key in path[:-1]:
            place = place[key]
        if type(place[path[-1]]) is type(wrong) and not isinstance(wrong, float):
            continue
        place[path[-1]] = wrong
        file = written(tmp_path / "wrong.json", broken)
        read: tuple[Run, ...] = ()
        with contextlib.suppress(SettingsError):
            read = read_runs(file)
        for run in read:
            outcomes = Figures(run, Aim()).every()
            VALIDATOR.validate(json.loads(to_json(document(session(Result.of(run, outcomes))))))


@pytest.mark.parametrize(
    ("place", "wrong"),
    [
        (("queries",), "100"),
        (("metered",), "no"),
        (("seconds",), math.nan),
        (("raw", "looks"), 0),
        (("raw", "looks"), 2.0),
        (("raw", "scores"), "111"),
        (("raw", "sets", 0, 0, 1), 1.0),
        (("raw", "sets", 0, 0, 3), "now"),
        (("raw", "sets", 0, 0, 5), {}),
        (("raw", "sets", 0, 0, 5), {"gpu:0": [-1.0, 0, 10**12]}),
        (("raw", "latencies"), [[1, "fast"]]),
        (("raw", "idle"), [["gpu:0", 5.0, 0.0]]),
        (("raw", "sources", 0, "method"), "guessed"),
        (("raw", "sources", 0, "tick_s"), True),
        (("provenance",), ["H100"]),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_the_file(tmp_path: Path, place: tuple[Any, ...], wrong: Any) -> None:
    broken = report(SMALL)
    inner = broken["runs"][0]
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = wrong
    with pytest.raises(SettingsError, match=r"wrong\.json") as caught:
        read_runs(written(tmp_path / "wrong.json", broken))
    assert caught.value.remedy


# Writing


def test_json_never_holds_what_is_not_finite() -> None:
    for value in (math.nan, math.inf, [1.0, math.nan], {"a": [{"b": -math.inf}]}):
        with pytest.raises(ValueError, match="not JSON compliant"):
            to_json(value)


def test_a_provenance_that_is_not_finite_becomes_null_rather_than_losing_the_report() -> None:
    told: Any = {"clock": math.nan, "list": [math.inf, 1], "path": Path("x"), 5: ("a", 1)}
    odd = replace(SMALL, provenance=Provenance(devices={"gpu:0": Device(facts=told)}))
    expected = {"clock": None, "list": [None, 1], "path": "x", "5": ["a", 1]}
    assert run_to_json(odd)["provenance"] == {"devices": {"gpu:0": expected}}
    to_json(run_to_json(odd))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | finite | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    )
)
def test_our_json_reads_back_as_json(value: Any) -> None:
    assert json.loads(to_json(value)) == value


def test_rows_of_numbers_stand_on_one_line() -> None:
    assert to_json({"rows": [[1, 2.5], [3, 4]], "empty": {}, "none": []}) == (
        '{\n "rows": [\n  [1, 2.5],\n  [3, 4]\n ],\n "empty": {},\n "none": []\n}'
    )


def test_writing_makes_the_folder_and_replaces_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.json"
    write_atomically(path, "old µ")
    write_atomically(path, "new")
    assert path.read_text(encoding="utf-8") == "new"
    assert [each.name for each in path.parent.iterdir()] == ["b.json"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.json"
    write_atomically(path, "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SettingsError, match=r"report\.json cannot be written: No space left on device"):
        write_atomically(path, "new")
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_write_leaves_the_old_file_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.json"
    write_atomically(path, "old")

    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, "new")
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_said_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SettingsError, match=r"report\.json cannot be written: (Not a directory|File exists)"):
        write_atomically(tmp_path / "file" / "report.json", "{}")


@pytest.mark.parametrize(
    ("name", "why"),
    [("a" * 300, "File name too long"), ("a\0b", ".*null"), ("loop", "(Symlink loop|Too many levels)"), ("/dev/full", "No space left")],
)
def test_a_path_that_cannot_even_be_looked_at_is_said_with_its_reason(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    if name == "/dev/full" and not Path(name).exists():
        pytest.skip("Linux has it")
    if name == "loop" and sys.version_info >= (3, 13):
        pytest.skip("it is replaced there")
    with pytest.raises(SettingsError, match=f"cannot be written: {why}"):
        write_atomically(tmp_path / name, "{}")
    if name != "/dev/full":  # which shows only when it is written
        with pytest.raises(SettingsError, match=f"cannot be written: {why}"):
            check_writable(tmp_path / name)


def test_that_a_place_can_be_written_is_found_out_without_a_trace(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text("old")
    for name in ("old.json", "new.json", "not/yet/there.json"):
        check_writable(tmp_path / name)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("old.json", "old")]
    (tmp_path / "folder").mkdir()
    for name, why in (("folder", "Is a directory"), ("old.json/new.json", "Not a directory"), ("old.json/a/b.json", "Not a directory")):
        with pytest.raises(SettingsError, match=f"cannot be written: {why}"):
            check_writable(tmp_path / name)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="who may write everywhere sees no difference")
def test_a_folder_that_may_not_be_written_is_said_before_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        for name in ("new.json", "not/yet/there.json"):
            with pytest.raises(SettingsError, match="cannot be written: Permission denied"):
                check_writable(tmp_path / name)
    finally:
        tmp_path.chmod(0o755)


# Baselines


GPU = {
    "gpu": "NVIDIA H100 80GB HBM3",
    "driver": "550.54",
    "uuid": "GPU-1",
    "meter": "nvml",
    "method": "counter",
    "device": "NVIDIA H100 80GB HBM3",
}


def on(joules: float = 100.0, **facts: Any) -> Run:
    device = {**GPU, **facts}
    return made_run(
        [block(joules, set_index=k) for k in range(5)],
        provenance=provenance_from_json({"devices": {"gpu:0": device}, "batch_size": 1, "machine": {"cpu": "Made CPU"}}),
    )


def test_a_baseline_is_one_file_per_saved_session_oldest_first(tmp_path: Path) -> None:
    store = Baselines(tmp_path)
    assert store.named("main").runs() == ()
    first = session(judged_as(on(100)), created="2026-11-23T10:00:00Z")
    second = session(judged_as(on(101)), created="2026-11-23T10:00:01Z")
    assert Path(store.save("main", second)).parent == store.folder_of("main")
    store.save("main", first)
    assert [run.blocks[0].spans["gpu:0"].energy_j for (run,) in store.named("main").runs()] == [100, 101]


def test_sessions_of_the_same_second_are_all_kept_in_order(tmp_path: Path) -> None:
    for joules in range(100, 112):
        Baselines(tmp_path).save("main", session(judged_as(on(joules))))
    assert [run.blocks[0].spans["gpu:0"].energy_j for (run,) in Baselines(tmp_path).named("main").runs()] == list(range(100, 112))


def test_only_the_newest_sessions_are_read(tmp_path: Path) -> None:
    for second in range(KEPT + 5):
        Baselines(tmp_path).save("main", session(judged_as(on(100 + second)), created=f"2026-11-23T10:00:{second:02}Z"))
    read = Baselines(tmp_path).named("main").runs()
    assert len(read) == KEPT
    assert read[-1][0].blocks[0].spans["gpu:0"].energy_j == 100 + KEPT + 4


def test_a_broken_baseline_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = Path(Baselines(tmp_path).save("main", session(judged_as(on()))))
    path.write_text("{", encoding="utf-8")
    with pytest.raises(SettingsError, match=path.name):
        Baselines(tmp_path).named("main").runs()


def test_runs_of_the_same_test_and_hardware_match() -> None:
    found = matching(
        unlike(on(), [(on(101),), (on(102), replace(on(), test="another")), (replace(on(), name="prefill"),)], cpu_judged=False)
    )
    assert [run.blocks[0].spans["gpu:0"].energy_j for run in found.runs] == [101, 102]
    assert (found.refused, found.warnings, len(found.runs)) == ((), (), 2)


def test_a_run_on_another_gpu_is_refused_and_the_difference_named() -> None:
    found = matching(unlike(on(), [(on(gpu="NVIDIA A100-SXM4-40GB", device="NVIDIA A100-SXM4-40GB"),), (on(101),)], cpu_judged=False))
    assert [run.blocks[0].spans["gpu:0"].energy_j for run in found.runs] == [101]
    assert len(found.runs) == 1
    told = "; ".join(str(each) for each in found.refused)
    assert "NVIDIA A100-SXM4-40GB" in told
    assert "NVIDIA H100 80GB HBM3" in told


def test_unmetered_runs_are_no_baseline() -> None:
    assert matching(unlike(on(), [(replace(on(), metered=False),)], cpu_judged=False)).runs == ()


# Whole sessions


def test_a_session_comes_back_from_its_report() -> None:
    facts = Facts(
        machine=Machine(commit="0123abcd", cpu="Made CPU"),
        sources=(Source("nvml", "gpu:0", "counter", "Made GPU", "GPU-1", 0.1, note="as told"),),
        refusals=(Refusal("rapl", "no permission", absent=False),),
        problem="",
        seconds=41.2,
        total_j=3100.2,
        loosened=("test_y: the limit was 1 J and is 2 J",),
    )
    total = ShownVerdict.of(Verdict("PASS", "total", "budget", "within", limit=5000.0), "green")
    made = Summary(
        enabled=True,
        facts=facts,
        results=(judged_as(FULL),),
        metered=3,
        not_measured=(("t.py::test_z", "no GPU"),),
        broken=(("t.py::test_b", "RuntimeError: CUDA out of memory"),),
        total=total,
        said=(("a baseline was saved", False), ("a report was not", True)),
        footprint=Footprint(kg_per_j=1e-8, carbon_source="set by you", price_per_j=1e-7, currency="EUR", pue=1.2, queries_per_s=460.0),
        created="2026-11-23T10:00:00Z",
        exit_status=1,
    )
    written = document(made)
    VALIDATOR.validate(written)
    assert summary_of(json.loads(to_json(written))) == made


def test_a_report_of_an_older_version_is_a_session_too() -> None:
    old = report(FULL)
    for name in ("measured", "metered", "refusals", "not_measured", "broken", "said", "loosened"):
        del old["session"][name]
    VALIDATOR.validate(old)
    made = summary_of(old)
    assert (made.enabled, made.metered, made.facts.loosened, made.said) == (True, 1, (), ())


def test_the_facts_of_a_process_travel_as_plain_values() -> None:
    facts = Facts(Machine(cpu="x"), (source(),), (Refusal("rapl", "why", absent=True),), "a problem", 1.5, None, {}, "no total", ("laxer",))
    assert Facts.from_json(json.loads(json.dumps(facts.to_json()))) == facts


def test_processes_that_measured_at_the_same_time_add_up() -> None:
    parts = [
        Facts(Machine(cpu="x"), (source(f"gpu:{n}"),), seconds=10.0 + n, total_j=100.0, by_domain={f"gpu:{n}": 90.0, "cpu": 10.0})
        for n in (10, 2, 0, 1)
    ]
    whole = together(parts)
    assert whole.by_domain == {"gpu:10": 90.0, "gpu:2": 90.0, "gpu:0": 90.0, "gpu:1": 90.0, "cpu": 40.0}
    assert (whole.total_j, whole.seconds, whole.machine) == (400.0, 20.0, Machine(cpu="x"))
    assert [each.domain for each in whole.sources] == ["gpu:0", "gpu:1", "gpu:2", "gpu:10"]


def test_one_process_without_a_total_leaves_all_without_one() -> None:
    whole = together([Facts(total_j=100.0), Facts(why_no_total="worker gw1 ended without saying what it used")])
    assert whole.total_j is None
    assert whole.why_no_total == "worker gw1 ended without saying what it used"


def test_a_process_that_ran_no_metered_test_is_no_part_of_the_total() -> None:
    parts = [Facts(Machine(cpu="x")), Facts(Machine(cpu="x"), (source(),), seconds=10.0, total_j=100.0)]
    assert together(parts).total_j == 100.0
    assert together(parts[:1]).total_j is None


def test_half_a_character_survives_a_file(tmp_path: Path) -> None:
    path = tmp_path / "half.json"
    write_atomically(path, to_json({"names": ["\ud800", "größe", {"\udcff": "x\udfff"}]}))
    assert json.loads(path.read_text(encoding="utf-8")) == {"names": ["\ud800", "größe", {"\udcff": "x\udfff"}]}


def _save_often(root: str, start: float) -> None:
    made = replace(session(), said=((str(os.getpid()), False),))
    while time.monotonic() < start:
        pass
    for _ in range(20):
        Baselines(Path(root)).save("main", made)


def test_jobs_that_save_the_same_baseline_at_the_same_moment_lose_nothing(tmp_path: Path) -> None:
    start = time.monotonic() + 1.0
    jobs = [multiprocessing.get_context("spawn").Process(target=_save_often, args=(str(tmp_path), start)) for _ in range(3)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(60)
        assert job.exitcode == 0
    files = sorted(Baselines(tmp_path).folder_of("main").iterdir())
    assert [file.suffix for file in files] == [".json"] * 60
    saved_by = [json.loads(file.read_text(encoding="utf-8"))["session"]["said"][0]["sentence"] for file in files]
    assert sorted(saved_by.count(pid) for pid in set(saved_by)) == [20, 20, 20]


def test_where_files_cannot_be_linked_a_name_that_is_taken_is_left_alone_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    write_atomically(tmp_path / "one.json", "first", new=True)
    with pytest.raises(FileExistsError):
        write_atomically(tmp_path / "one.json", "second", new=True)
    assert [(file.name, file.read_text(encoding="utf-8")) for file in tmp_path.iterdir()] == [("one.json", "first")]
