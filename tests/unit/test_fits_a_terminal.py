"""Whatever a command prints fits a terminal of 80 columns, however long names are, and nothing of it is cut."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from profiles import BERT, compared, level, with_times
from telling import GPU, measured, session, told

from pytest_greencompute import __version__, cli
from pytest_greencompute.commands import noise
from pytest_greencompute.commands.fleet import Intake
from pytest_greencompute.commands.gather import Printed
from pytest_greencompute.estimates.estimate import Aim
from pytest_greencompute.explaining.profile import Factor, Profile
from pytest_greencompute.fleet.gathering import PLUGIN, Gathering, Requirements
from pytest_greencompute.fleet.schedule import PlannedPart
from pytest_greencompute.judging.budget import resolve
from pytest_greencompute.judging.judge import Bench
from pytest_greencompute.pairing.against_itself import Itself, Took
from pytest_greencompute.protocol.layout import Layout
from pytest_greencompute.report.terminal import show_summary
from pytest_greencompute.results.document import document
from pytest_greencompute.results.result import CandidateRow, Explained, Result
from pytest_greencompute.settings.build import build
from pytest_greencompute.values.provenance import Machine, Provenance

COLUMNS = 80
HERE = Provenance(Machine(versions={PLUGIN: __version__}))
TEST = "tests/integration/test_encoder.py::test_answers_of_the_encoder_stay_cheap[english-as-it-is-written-by-customers]"
NAME = TEST.partition("::")[2]
ENDING = ".intermediate_feed_forward_expansion_of_the_block"
LONG = {f"SentenceEncoder{name}{ENDING if name.endswith('intermediate') else ''}": seconds for name, seconds in BERT.items()}


def result(times: float = 1.0) -> Result:
    now = with_times(LONG, "intermediate", times=times)
    made = told(
        measured(test=TEST, provenance=HERE, sources=(replace(GPU, device="NVIDIA RTX PRO 6000 Blackwell Server Edition"),)),
        energy_per_query=0.8,
    )
    explained = Explained("main (0123abcd)", compared(LONG, now, dtypes=dict.fromkeys(LONG, "float32")))
    profile = Profile((Factor("dtype", "bfloat16"),), (level(now),), ("a note that has a great many words and more, " * 3,), 8)
    return replace(made, explained=(explained,) if times > 1 else (), profile=profile)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One with two reports, the second kept as a baseline, seen from a terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    kept = tmp_path / ".greencompute" / "baselines" / "release-candidate-of-december"
    kept.mkdir(parents=True)
    for path, times in ((tmp_path / "a.json", 1.0), (tmp_path / "b.json", 1.5), (kept / "20261201T015400Z.json", 1.5)):
        path.write_text(json.dumps(document(session(result(times), created="2026-12-01T01:54:00Z"))), encoding="utf-8")
    return tmp_path


def of_noise(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [(1.0 + 0.01 * number, 1.02 - 0.01 * number) for number in range(5)]
    took = [Took(16.0, (2.0, 2.0), 4.0, cold=cold) for cold in (True, False)]
    itself = Itself([pairs, pairs], Layout(1, 1.0, 1.0, 5, 5), took)
    monkeypatch.setattr(noise, "_measured", lambda *_: (itself, resolve((), {})))
    assert cli.main(["noise", TEST]) == 0


def of_fleet(folder: Path, _: pytest.MonkeyPatch) -> None:
    gathering = Gathering(build({"budget": True}, (), {}, folder), Bench(Aim()), Requirements())
    Intake(gathering, folder, folder).lost(PlannedPart(1, TEST, "H100"), "its host, which was gpu-node-17, was lost " + "once more " * 5)


def of_advise(_: Path, __: pytest.MonkeyPatch) -> None:
    rows = [CandidateRow(None, name, "a", problem="it raised ValueError: " + "no " * 40) for name in ("today's model " * 3, "b")]
    runs = [result(1.5), *(replace(result(), candidate=row) for row in rows)]
    with cli._readable(sys.stdout):
        show_summary(Printed(), session(*runs, said=(("a remark that has a great many words, " * 4, False),)))


def of(*arguments: str) -> Callable[[Path, pytest.MonkeyPatch], None]:
    def printed(_: Path, __: pytest.MonkeyPatch) -> None:
        assert cli.main(arguments) in {0, 1, 3}

    return printed


PRINTED = {
    "history": of("history"),
    "explain": of("explain", "a.json", "b.json"),
    "compare": of("compare", "a.json", "b.json"),
    "gather": of("gather", "a.json"),
    "doctor": of("doctor"),
    "noise": of_noise,
    "fleet": of_fleet,
    "advise": of_advise,
}
NAMED = {"history", "explain", "compare", "fleet", "advise"}  # those that name the test


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("command", PRINTED)
def test_what_a_command_prints_fits_and_is_not_cut(
    project: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], command: str, encoding: str
) -> None:
    with (project / "told").open("w", encoding=encoding) as terminal:
        monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
        monkeypatch.setattr(sys, "stdout", terminal)
        PRINTED[command](project, monkeypatch)
    lines = (project / "told").read_text(encoding=encoding).splitlines()
    assert lines
    # One word that is longer stays whole, so that it can be copied.
    assert [line for line in lines if len(line) > COLUMNS and " " in line.strip()] == []
    if command in NAMED:
        assert NAME in "".join(line.strip() for line in lines)
    if command == "explain":
        assert ENDING in "".join(line.strip() for line in lines)
