"""The comparison with another commit, made again from the report alone: the same verdict as the session had, and nothing of it believed."""

from __future__ import annotations

import json
import random
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import pytest
from making import block, run

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.estimates.estimate import Aim
from pytest_greencompute.estimates.of_run import Figures
from pytest_greencompute.fleet.again import judged_again
from pytest_greencompute.fleet.part import read_part
from pytest_greencompute.judging.budget import resolve
from pytest_greencompute.judging.judge import Bench, judge_run
from pytest_greencompute.judging.pairs import PairedTest
from pytest_greencompute.judging.rule import Rule
from pytest_greencompute.judging.verdict import Verdict
from pytest_greencompute.pairing.runs import BaseOfTest, Feed, Match
from pytest_greencompute.pairing.verdicts import against_base
from pytest_greencompute.results.document import document
from pytest_greencompute.results.provenance_json import provenance_from_json
from pytest_greencompute.results.result import Pairs, Result, ShownVerdict
from pytest_greencompute.results.session import Facts
from pytest_greencompute.results.summary import Summary
from pytest_greencompute.settings.build import build
from pytest_greencompute.values.run import Run

REF, ENERGY = "main (0123abcd)", "energy_per_query"
FIRST, MOST = 16, 40
SETTINGS = build({"budget": True}, (), {}, Path())
BENCH = Bench(Aim())
DEVICE = {"device": "Made GPU", "uuid": "GPU-1", "meter": "made", "method": "counter"}


def side(joules: float, seed: int) -> Run:
    luck = random.Random(seed)
    blocks = [block(joules * (1 + luck.gauss(0, 0.003)), set_index=k, at_s=1.0 + 2 * k) for k in range(FIRST)]
    return run(blocks, provenance=provenance_from_json({"devices": {"gpu:0": DEVICE}, "batch_size": 1}))


def session(times: float, again: float | None = None) -> tuple[Summary, Verdict]:
    """A session whose test is ``times`` as dear as the base, and in fresh launches ``again`` times; and the verdict that it gave."""
    base, head = side(10.0, 1), side(10.0 * times, 2)
    match = Match(BaseOfTest(REF, None), {}, Aim(), run=base)
    match.problem = ""
    match.tests[ENERGY] = test = PairedTest(Rule(), MOST, first=FIRST)
    Feed(match.tests, Aim()).tell(base, head, FIRST)
    test.stop()
    luck = random.Random(3)
    while test.asks == "relaunch":
        test.relaunched()
        while test.asks == "pair":
            test.tell(10.0, 10.0 * (times if again is None else again) * (1 + luck.gauss(0, 0.003)))
    figures = Figures(head, Aim())
    (verdict,) = judge_run(figures, None, resolve((), {}), BENCH, "t", [against_base(match, figures, "t")])
    pairs = Pairs(REF, ENERGY, test.measured, test.again, MOST, FIRST)
    shown = [ShownVerdict.of(verdict, "green")]
    result = Result.of(head, figures.every(), shown, against=[pairs], bases={REF: base})
    return Summary(True, Facts(), [result], 1, created="2026-11-29T18:00:00Z"), verdict


def written(folder: Path, told: Summary, **changed: Any) -> Path:
    report = json.loads(json.dumps(document(told)))
    report["runs"][0] |= changed
    path = folder / "part.json"
    path.write_text(json.dumps(report), encoding="utf-8")
    return path


def judged(path: Path) -> Verdict:
    (found,) = judged_again(read_part(path, "part"), SETTINGS, BENCH)
    (verdict,) = (each for each in found.figures.verdicts if each.kind == "base_ref")
    return verdict


@pytest.mark.parametrize(
    ("times", "again", "word"),
    [(1.0, None, "PASS"), (1.2, None, "FAIL"), (1.2, 1.0, "INCONCLUSIVE"), (0.7, None, "PASS")],
    ids=["unchanged", "dearer", "not confirmed", "cheaper"],
)
def test_the_report_alone_gives_the_verdict_that_the_session_gave(tmp_path: Path, times: float, again: float | None, word: str) -> None:
    told, before = session(times, again)
    after = judged(written(tmp_path, told))
    assert (before.word, after.word) == (word, word)
    assert after.ratio is not None
    assert before.ratio is not None
    assert astuple(after.ratio) == pytest.approx(astuple(before.ratio))
    assert after.reason.partition(": ")[2] == before.reason.partition(": ")[2]


def test_pairs_that_are_not_those_of_the_samples_are_no_comparison(tmp_path: Path) -> None:
    told, _ = session(1.2)
    (against,) = json.loads(json.dumps(document(told)))["runs"][0]["against"]
    forged = {**against, "pairs": [[pair[0], pair[0]] for pair in against["pairs"]]}
    verdict = judged(written(tmp_path, told, against=[forged]))
    assert verdict.word == "UNMEASURED"
    assert "its pairs are not those of its samples" in verdict.reason


def test_without_the_samples_of_the_base_a_pass_is_unmeasured(tmp_path: Path) -> None:
    told, _ = session(1.0)
    bare = replace(told, results=[replace(told.results[0], bases={})])
    verdict = judged(written(tmp_path, bare))
    assert verdict.word == "UNMEASURED"
    assert f"the report does not hold the samples of {REF}" in verdict.reason


def test_a_comparison_that_leaves_out_its_pairs_is_unmeasured(tmp_path: Path) -> None:
    told, _ = session(1.2)
    bare = replace(told, results=[replace(told.results[0], against=())])
    assert judged(written(tmp_path, bare)).word == "UNMEASURED"


def test_a_base_that_was_metered_otherwise_is_not_compared(tmp_path: Path) -> None:
    told, _ = session(1.0)
    report = json.loads(json.dumps(document(told)))
    bases = report["runs"][0]["bases"]
    bases[0]["run"]["provenance"]["devices"]["gpu:0"]["device"] = "Another GPU"
    verdict = judged(written(tmp_path, told, bases=bases))
    assert verdict.word == "UNMEASURED"
    assert "Another GPU" in verdict.reason


def test_a_plan_beyond_any_is_refused(tmp_path: Path) -> None:
    told, _ = session(1.0)
    (against,) = json.loads(json.dumps(document(told)))["runs"][0]["against"]
    with pytest.raises(SettingsError, match="was planned for"):
        judged(written(tmp_path, told, against=[{**against, "most": 10**9, "first": 10**8}]))
