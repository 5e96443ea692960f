"""The plots of the page: figures that Plotly takes, numbers that are those of the estimates, and a table beside each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import block, run
from paging import candidates, history, measured_blocks
from telling import CPU, GPU, measured, session, told, with_energy

from pytest_greencompute.estimates.domains import idle_watts, net_energy
from pytest_greencompute.report import plots
from pytest_greencompute.report.plots import Plot
from pytest_greencompute.report.table import comparisons
from pytest_greencompute.results.document import document, summary_of
from pytest_greencompute.results.result import Pairs, Result

PAIRS = Pairs("main (0123abcd)", "energy_per_query", ((0.5, 0.6), (0.51, 0.5), (0.5, 0.61)))


def made_of(**fields: Any) -> list[Plot]:
    """One of each kind."""
    (compared,) = comparisons(candidates(**fields))
    found = [plots.blocks_over_time(measured_blocks()), plots.pairs_of(PAIRS), plots.front(compared), plots.over_sessions(history().points)]
    return [each for each in found if each is not None]


def without(result: Result, metric: str) -> Result:
    """A candidate's result without one of its figures."""
    return having(result, metric, None)


def having(result: Result, metric: str, value: float | None) -> Result:
    """A candidate's result with another figure."""
    assert result.candidate is not None
    return replace(result, candidate=replace(result.candidate, figures={**result.candidate.figures, metric: value}))


def test_every_figure_is_one_that_plotly_knows() -> None:
    graph_objects = pytest.importorskip("plotly.graph_objects")
    made = made_of()
    assert len(made) == 4
    for plot in made:
        graph_objects.Figure(plot.figure)  # raises for a property that it does not know
        assert all(len(row) == len(plot.heads) for row in plot.rows)


def test_a_block_stands_where_it_was_measured_at_its_net_energy() -> None:
    result = measured_blocks(blocks=18)
    plot = plots.blocks_over_time(result)
    assert plot is not None
    whole = result.run
    assert whole is not None
    watts, _ = idle_watts(whole, "gpu:0")
    expected = [(block.start_ns / 1e9, net_energy(block, "gpu:0", watts) / block.queries) for block in whole.blocks if not block.marks]
    shown = plot.figure["data"][0]
    assert shown["x"] == pytest.approx([at - whole.blocks[0].start_ns / 1e9 for at, _ in expected], abs=1e-6)
    assert shown["y"] == pytest.approx([joules for _, joules in expected], rel=1e-5)
    spoiled = plot.figure["data"][1]
    assert (len(spoiled["x"]), spoiled["text"], spoiled["marker"]["symbol"]) == (1, ["thermal slowdown"], "x")
    assert len(plot.rows) == 18


def test_the_band_is_the_interval_and_the_line_the_budget() -> None:
    result = measured_blocks(budget=0.8)
    plot = plots.blocks_over_time(result)
    assert plot is not None
    band, line = plot.figure["layout"]["shapes"]
    figure = result.metrics["energy_per_query"]
    assert (band["y0"], band["y1"]) == pytest.approx((figure.low, figure.high), rel=1e-5)
    assert (line["y0"], line["y1"]) == (0.8, 0.8)
    assert "budget 0.8 J" in plot.label


def test_without_an_interval_there_is_no_band_and_that_is_said() -> None:
    plot = plots.blocks_over_time(with_energy(measured_blocks(blocks=9), low=None, high=None))
    assert plot is not None
    assert all(shape["type"] != "rect" for shape in plot.figure["layout"]["shapes"])
    assert plot.caption.startswith("9 blocks in 1 set, 1 of them spoiled. An interval that is open has no band")


def test_a_budget_far_away_is_said_and_not_drawn() -> None:
    plot = plots.blocks_over_time(measured_blocks(budget=80.0))
    assert plot is not None
    assert len(plot.figure["layout"]["shapes"]) == 1
    assert "the budget is too far away to be shown" in plot.caption


@pytest.mark.parametrize(
    "result",
    [
        told(run([], metered=False, sources=(), scores=(1.0,))),
        replace(told(measured()), run=None),
        told(run([block(6.0)], sources=(GPU,), window=True)),
    ],
    ids=["unmetered", "no samples", "window"],
)
def test_where_there_are_no_blocks_of_queries_there_is_no_plot(result: Result) -> None:
    assert plots.blocks_over_time(result) is None


def test_a_file_that_somebody_edited_has_no_plot_rather_than_no_page() -> None:
    report = document(session(measured_blocks()))
    report["runs"][0]["raw"]["sets"][0][0][2] = 0
    (broken,) = summary_of(report).results
    assert plots.blocks_over_time(broken) is None
    lost = with_energy(measured_blocks(), domain=None)  # which no report of ours holds
    assert plots.blocks_over_time(lost) is None


def test_several_devices_are_added_up() -> None:
    both = with_energy(told(measured((GPU, CPU))), domain="gpu:0+cpu")
    one, two = (plots.blocks_over_time(each) for each in (told(measured((GPU, CPU))), both))
    assert one is not None
    assert two is not None
    assert two.figure["data"][0]["y"] == pytest.approx([2 * each for each in one.figure["data"][0]["y"]], rel=1e-5)


def test_pairs_are_joined_one_by_one() -> None:
    plot = plots.pairs_of(PAIRS)
    line, base, head = plot.figure["data"]
    assert line["y"] == [0.5, 0.6, None, 0.51, 0.5, None, 0.5, 0.61, None]
    assert (base["y"], head["y"]) == ([0.5, 0.51, 0.5], [0.6, 0.5, 0.61])
    assert "this tree was worse in 2 of them" in plot.label
    assert plot.rows[0] == ("1", "0.5000 J", "0.6000 J", "1.200")


def test_the_right_sized_candidate_is_a_star_and_the_front_is_joined() -> None:
    (compared,) = comparisons(candidates())
    plot = plots.front(compared)
    assert plot is not None
    line, *groups = plot.figure["data"]
    assert line["x"] == [0.05, 0.1]
    assert {group["name"]: group["text"] for group in groups} == {
        "right-sized": ["minilm-l3"],
        "on the front": ["minilm-l6"],
        "other": ["large"],
    }
    assert plot.figure["layout"]["xaxis"]["type"] == "log"


def test_an_axis_of_equal_accuracies_does_not_reach_to_twice_of_them() -> None:
    (compared,) = comparisons([having(each, "accuracy", 1.0) for each in candidates()])
    plot = plots.front(compared)
    assert plot is not None
    assert plot.figure["layout"]["yaxis"]["range"] == [0.95, 1.05]


def test_without_an_accuracy_latency_stands_against_energy() -> None:
    (compared,) = comparisons([without(each, "accuracy") for each in candidates()])
    plot = plots.front(compared)
    assert plot is not None
    assert plot.heads == ("candidate", "energy/query", "p95")


def test_one_candidate_with_figures_is_no_plot() -> None:
    first, *others = candidates()
    (compared,) = comparisons([first, *(without(each, "energy_per_query") for each in others)])
    assert plots.front(compared) is None


def test_an_open_side_of_an_interval_has_no_whisker() -> None:
    plot = plots.over_sessions(history().points)
    assert plot is not None
    (trace,) = plot.figure["data"]
    assert trace["error_y"]["array"][2] == 0.0
    assert trace["error_y"]["array"][3] == pytest.approx(0.01)
    assert plot.rows[2][5] == "-"
    assert "(changed)" in plot.rows[4][1]


def test_one_session_is_no_history() -> None:
    assert plots.over_sessions(history().points[:1]) is None


@settings(max_examples=60)
@given(st.text(max_size=40))
def test_no_name_is_markup_to_plotly(name: str) -> None:
    """Plotly takes tags and entities in any text of a figure for markup."""

    def texts(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [text for key, each in value.items() if key != "hovertemplate" for text in texts(each)]
        if isinstance(value, list):
            return [text for each in value for text in texts(each)]
        return [value] if isinstance(value, str) else []

    (compared,) = comparisons(candidates(f"<{name}>&"))
    made = [plots.front(compared), plots.over_sessions(history(f"<{name}>&").points)]
    for plot in made:
        assert plot is not None
        for text in texts(plot.figure):
            assert "<" not in text
            assert ">" not in text
            text.encode()


def test_a_session_without_anything_has_no_plot() -> None:
    assert comparisons(session().results) == []
