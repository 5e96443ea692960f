"""Lines that fit a terminal: one a row, or several, and what gives way where even those are too long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pytest_greencompute.report.columns import SHORTEST, folded, grid, wide, within

ROWS = [
    ["test", "energy", "budget", "p95", "budget", "verdict", "from"],
    ["test_one", "0.612 J ±0.8 %", "0.8 J", "31.2 ms", "40 ms", "PASS", "marker"],
    ["test_two_" + "x" * 40, "1.93 J ±0.6 %", "0.8 J", "88.0 ms", "", "FAIL energy", "pyproject.toml:7"],
]
FIRST, JOINED = {0, 5, 6}, {2, 4}


def test_a_row_is_one_line_where_all_of_them_fit() -> None:
    width = wide(ROWS)
    assert width == max(map(len, grid(ROWS)))
    assert within(ROWS, width, FIRST, JOINED) == [[line] for line in grid(ROWS)]
    assert all(len(lines) == 2 for lines in within(ROWS, width - 1, FIRST, JOINED))


def test_the_first_line_says_what_it_is_and_the_figures_are_under_each_other() -> None:
    found = within(ROWS, 90, FIRST, JOINED)
    assert [lines[0].split() for lines in found] == [[row[0], *row[5].split(), row[6]] for row in ROWS]
    assert found[0][1] == "  energy          budget  p95      budget"
    assert found[1][1] == "  0.612 J ±0.8 %  0.8 J   31.2 ms  40 ms"


def test_a_name_loses_its_middle_and_nothing_else_is_cut() -> None:
    found = within(ROWS, 60, FIRST, JOINED)
    assert max(len(line) for lines in found for line in lines) <= 60
    assert found[2][0].startswith("test_two_x")
    assert "…" in found[2][0]
    assert found[2][0].endswith("FAIL energy  pyproject.toml:7")


def test_where_names_are_short_enough_the_last_column_comes_after_the_figures() -> None:
    found = within(ROWS, 40, FIRST, JOINED)
    assert found[2][0].endswith("x  FAIL energy")
    assert len(found[2][0]) == 40
    assert found[2][-1].endswith("pyproject.toml:7")
    shortest = within(ROWS, 10, FIRST, JOINED)[2][0]
    assert len(shortest.split()[0]) == SHORTEST


def test_a_budget_stays_beside_its_figure() -> None:
    for width in range(20, 90):
        for line in within(ROWS, width, FIRST, JOINED)[0]:
            assert not line.strip().startswith("budget")


def test_a_sentence_at_the_end_of_a_row_makes_no_other_row_longer() -> None:
    rows = [["candidate", "energy", ""], ["a", "1 J", "right-sized"], ["b", "", "it raised ValueError: " + "no " * 40 + "end"]]
    assert [len(lines) for lines in within(rows, 60, {0, 2}, last=30)] == [1, 1, 1]
    assert [len(lines) for lines in within(rows, 60, {0, 2})] == [2, 2, 2]
    assert within(rows, 40, {0, 2}, last=30)[2][0].endswith("end")


def test_names_that_are_to_be_whole_go_on_below_and_empty_lines_are_left_out() -> None:
    rows = [["where", "now", "what else"], ["a." * 30 + "end", "1 J", "new"], ["left", "2 J", ""]]
    found = within(rows, 40, [0, 1], whole=True)
    assert "".join(line.strip() for line in found[1]).startswith("a." * 30 + "end")
    assert found[1][-1] == "  1 J  new"
    assert found[2] == ["left", "  2 J"]
    assert max(len(line) for lines in found for line in lines) <= 40
    assert within([["where", "what else"], ["a" * 20, "b" * 30], ["c", ""]], 40, [0], whole=True)[2] == ["c"]


def test_a_sentence_breaks_between_words_and_keeps_a_unit_at_its_number_and_a_path_whole() -> None:
    assert folded("short", 40) == ["short"]
    assert folded("  used more than the tolerance of 5.0 % on", 38) == ["  used more than the tolerance of", "    5.0 % on"]
    assert folded("yes  a long sentence", 20, under=5) == ["yes  a long sentence"]
    assert folded("yes  a long sentence of more words", 20, under=5) == ["yes  a long sentence", "     of more words"]
    path = "/a/path" * 10
    assert folded("Run `git fetch --unshallow` here, or elsewhere", 24) == ["Run", "  `git fetch --unshallow`", "  here, or elsewhere"]
    assert folded(f"    {path} is there", 40) == [f"    {path}", "      is there"]
    assert folded(f"    {path}", 40, anywhere=True)[0] == f"    {path}"[:40]


@given(
    st.integers(1, 8).flatmap(
        lambda n: st.lists(st.lists(st.text("abc ", max_size=30).map(str.strip), min_size=n, max_size=n), min_size=1, max_size=5)
    ),
    st.integers(1, 120),
)
def test_whatever_the_cells_are_each_row_has_as_many_lines_and_all_its_cells(rows: list[list[str]], width: int) -> None:
    found = within(rows, width, {0, len(rows[0]) - 1}, {1})
    assert len(found) == len(rows)
    assert len({len(lines) for lines in found}) == 1
    for row, lines in zip(rows, found, strict=True):
        assert all(cell in " ".join(lines) for cell in row[1:])
