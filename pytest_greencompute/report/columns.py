"""Cells and sentences as lines no wider than a terminal.

A row is one line where its cells fit, else a line of what it is and lines of its figures. Pure.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Collection, Iterable, Sequence

from pytest_greencompute.report.escape import shortened

UNLIMITED = sys.maxsize  # characters: the width of what is no terminal
GAP, INDENT = 2, 2
SHORTEST = 20  # characters that are left of a name, however narrow the terminal
_UNIT = re.compile(r"(?<=\d) (?=%|\w{1,3}\b)")  # the space before a unit, where no line ends
_CODE = re.compile("`[^`]+`")  # a command, which is to be copied
Cells = Sequence[Sequence[str]]


def grid(rows: Cells) -> list[str]:
    """One line a row, its cells under each other."""
    from tabulate import tabulate

    # The heading is a row like the others: tabulate would pad a real one, and tables are wide as they are.
    return [line.rstrip() for line in tabulate(rows, tablefmt="plain", disable_numparse=True).split("\n")]


def wide(rows: Cells, columns: Collection[int] | None = None, *, last: int | None = None) -> int:
    """How wide the lines of ``grid`` are, of these columns. The last column counts as at most ``last``: a sentence there may run over."""
    sizes = [max(map(len, column)) for place, column in enumerate(zip(*rows, strict=True)) if columns is None or place in columns]
    if last is not None:
        sizes[-1] = min(sizes[-1], last)
    return sum(sizes) + GAP * (len(sizes) - 1)


def within(
    rows: Cells, width: int, first: Collection[int], joined: Collection[int] = (), *, last: int | None = None, whole: bool = False
) -> list[list[str]]:
    """The lines of each row, at most ``width`` wide as far as that can be: one, or more of which the columns ``first`` are the first.

    Columns that are ``joined`` stay on the line of those before them. Nothing is cut but the middle of names, which the first column holds;
    not even those where they are to be ``whole``: a line that is too long then goes on below, and one that would be empty is left out.
    """
    if wide(rows, last=last) <= width:
        return [[line] for line in grid(rows)]
    name = max(len(row[0]) for row in rows)
    shortest = name if whole else min(name, SHORTEST)
    lead = sorted(first)
    while len(lead) > (1 if whole else 2) and wide(rows, lead, last=last) - (name - shortest) > width:
        lead.pop()  # it comes after the figures then
    over = max(0, wide(rows, lead, last=last) - width)
    cut = max(shortest, name - over)
    lines = [grid([[shortened(row[0], cut), *(row[column] for column in lead[1:])] for row in rows])]
    for group in _groups(rows, [column for column in range(len(rows[0])) if column not in lead], width - INDENT, joined):
        lines.append([f"{' ' * INDENT}{line}" for line in grid([[row[column] for column in group] for row in rows])])
    found = [list(each) for each in zip(*lines, strict=True)]
    return [_whole(each, width) for each in found] if whole else found


def _whole(lines: Sequence[str], width: int) -> list[str]:
    """The lines of a row with what is too long going on below, and without empty ones after the first."""
    return [part for number, line in enumerate(lines) if number == 0 or line.strip() for part in folded(line, width, anywhere=True)]


def folded(line: str, width: int, under: int | None = None, *, anywhere: bool = False) -> list[str]:
    """A sentence as lines of at most ``width``, broken between words, all but the first ``under`` characters to the right (by default a
    little more than the first). A word or a command that is longer stays whole, so that it can be copied, or is broken ``anywhere``.
    """
    if len(line) <= width:
        return [line]
    text, width = line.lstrip(" "), max(width, SHORTEST)
    first = " " * (len(line) - len(text))
    below = first + " " * INDENT if under is None else " " * under
    wrapper = textwrap.TextWrapper(width, initial_indent=first, subsequent_indent=below, break_long_words=anywhere, break_on_hyphens=False)
    parts = wrapper.wrap(_CODE.sub(lambda code: code.group().replace(" ", "\0"), _UNIT.sub("\0", text)))
    return [part.replace("\0", " ") for part in parts]


def _groups(rows: Cells, columns: Iterable[int], width: int, joined: Collection[int]) -> list[list[int]]:
    """Columns in order, as many on a line as fit; at least one."""
    groups: list[list[int]] = []
    for column in columns:
        if groups and (column in joined or wide(rows, [*groups[-1], column]) <= width):
            groups[-1].append(column)
        else:
            groups.append([column])
    return groups
