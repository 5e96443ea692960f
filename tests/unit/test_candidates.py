"""The rows and the table of a comparison, from runs made by hand."""

from __future__ import annotations

import json
from typing import Any

from making import block, idle, latencies, run, source

from pytest_greencompute.estimates.estimate import Aim
from pytest_greencompute.judging.choice import Candidate, Choice
from pytest_greencompute.report.candidates import headline, lines
from pytest_greencompute.results.document import candidate_to_json
from pytest_greencompute.results.result import CandidateRow
from pytest_greencompute.session.candidates import rows_of


def measured(gpu_j: float, cpu_j: float, **fields: Any) -> Any:
    """Ten sets on a GPU that idles at 50 W, and a CPU."""
    blocks = [block({"gpu:0": gpu_j * 10 + 10, "cpu": cpu_j * 10}, set_index=index) for index in range(10)]
    return run(blocks, sources=(source(), source("cpu", tick_s=0.0)), idles=[idle(50.0)] * 5, **fields)


def rows(*candidates: Candidate, name: str | None = None, **asked: Any) -> list[CandidateRow]:
    found = rows_of(Choice(candidates, Aim(), **asked), name)
    json.dumps([candidate_to_json(row) for row in found], allow_nan=False)  # finite numbers and null only
    return found


def test_where_a_model_leaves_the_gpu_idle_the_heading_says_that_every_domain_counts() -> None:
    both = rows(Candidate("bert", measured(20.0, 3.0)), Candidate("tfidf", measured(5.0, 2.0)))
    assert [row.domain for row in both] == ["gpu:0+cpu", "cpu"]
    assert "; energy of all domains, since tfidf leaves the GPU idle; times: the energy of tfidf" in headline("test_it", both)
    gpu = rows(Candidate("bert", measured(20.0, 3.0)), Candidate("small", measured(10.0, 2.0)))
    assert [row.domain for row in gpu] == ["gpu:0", "gpu:0"]
    assert "domains" not in headline("test_it", gpu)


def test_the_heading_says_what_was_asked_and_what_the_columns_compare_with() -> None:
    made = [Candidate(name, measured(joules, 1.0, scores=(1.0,) * 100, answers="0" * 1600)) for name, joules in [("a", 20.0), ("b", 9.0)]]
    assert headline("test_it", rows(*made, floor=0.9)) == (
        "test_it: 2 candidates on the same queries; accuracy at least 0.9; times: the energy of b; agrees: with a"
    )
    assert headline("test_it", rows(*made, name="long")).startswith("test_it (long): 2 candidates")
    assert headline("test_it", rows(*made, name="texts", by_turns=False)).startswith(
        "group texts: 2 candidates on as many queries; measured one after the other"
    )


def test_columns_that_would_be_empty_are_left_out_and_candidates_without_a_figure_come_last() -> None:
    table = lines(
        rows(
            Candidate("broken", problem="it raised ValueError: no"), Candidate("a", measured(9.0, 1.0)), Candidate("b", measured(4.0, 1.0))
        )
    )
    assert table[0].split() == ["candidate", "energy/query", "times", "throughput"]
    assert [line.split()[0] for line in table[1:]] == ["b", "a", "broken"]
    assert table[3].endswith("it raised ValueError: no")
    assert table[1].endswith("right-sized")


def test_settings_have_a_column_each_and_a_limit_that_is_missed_is_named() -> None:
    swept = [
        Candidate(
            f"batch_size={size} precision={precision}",
            measured(joules, 1.0, latencies=latencies([0.01 * size] * 200)),
            values={"batch_size": size, "precision": precision},
        )
        for size, precision, joules in [(1, "fp32", 9.0), (8, "bf16", 2.0)]
    ]
    table = lines(rows(*swept, limits={"latency_p95": 0.04}))
    assert table[0].split()[:3] == ["batch_size", "precision", "energy/query"]
    assert table[1].split()[:2] == ["8", "bf16"]
    assert table[1].endswith("over the limit of 40 ms")
    assert table[2].endswith("right-sized")


def test_an_open_side_of_a_ratio_is_a_dash_and_null() -> None:
    one_set = run([block(10.0)])
    both = rows(Candidate("a", one_set), Candidate("b", run([block(20.0)])))
    assert candidate_to_json(both[1])["times"] == {"value": 2.0, "low": None, "high": None}
    assert "2.00 [-, -]" in lines(both)[2]


def test_why_there_is_no_energy_stands_in_the_row() -> None:
    spoiled = Candidate("spoiled", measured(9.0, 1.0, problem="another process used the GPU"))
    (_, row) = rows(Candidate("a", measured(9.0, 1.0)), spoiled)
    assert row.no_energy == "another process used the GPU"
    assert lines([row])[1].endswith("another process used the GPU")


def test_on_a_narrow_terminal_a_candidate_has_two_lines_and_a_long_reason_runs_over() -> None:
    reason = "it raised ValueError: " + "no " * 40
    made = [
        Candidate(name, measured(joules, 1.0, scores=(1.0,) * 100, answers="0" * 1600), problem=problem)
        for name, joules, problem in (("a", 20.0, ""), ("b", 9.0, ""), ("c", 9.0, reason))
    ]
    table = lines(rows(*made, floor=0.9), 60)
    firsts = [line for line in table if not line.startswith(" ")]
    assert [line.split()[0] for line in firsts] == ["candidate", "b", "c", "a"]
    assert firsts[1].endswith("right-sized")
    assert firsts[2].endswith(reason.strip())
    assert len(table) % len(firsts) == 0
    assert len(table) > len(firsts)
    assert max(len(line) for line in table if reason.strip() not in line) <= 60
