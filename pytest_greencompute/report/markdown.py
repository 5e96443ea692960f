"""A session as Markdown, for a comment on a pull request and for GitHub's job summary. Pure.

The verdict comes first, then limits that the change has made laxer, the table, what changed, and a folded section for each failure. All
text that is not ours is escaped. Where the whole is too long the least important goes first; failures stay to the last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.report import advised, candidates, explained
from pytest_greencompute.report.changes import changes
from pytest_greencompute.report.escape import markdown
from pytest_greencompute.report.summary import commit, heading, loosened, remarks, totals, unmetered, years
from pytest_greencompute.report.table import comparisons, table
from pytest_greencompute.results.result import Result, ShownVerdict
from pytest_greencompute.results.summary import Summary

MOST_CHARACTERS = 65_536  # of a comment, on GitHub; GitLab's limit is higher
SIGNS = {"PASS": "✅", "FAIL": "❌", "UNMEASURED": "⚠️", "INCONCLUSIVE": "⚠️", "ACCEPTED": "⚠️", "": "ℹ️"}
SENTENCE = 2_000  # characters of a sentence that is shown whole
SHORT_NAME, SHORTEST_NAME = 120, 40
Size = Callable[[str], int]


@dataclass(frozen=True, slots=True)
class Detail:
    """How much is shown. ``greens``: rows that pass; ``extras``: comparisons of candidates, notes and remarks; ``folded``: the sentences
    of failures, each in a folded section; ``name``: characters of a name; ``laxer``: how many of the limits that were made laxer."""

    greens: bool = True
    extras: bool = True
    folded: bool = True
    name: int = SHORT_NAME
    laxer: int = 1_000


DETAILS = (
    Detail(),
    Detail(extras=False),
    Detail(extras=False, greens=False, laxer=50),
    Detail(extras=False, greens=False, folded=False, laxer=20),
    Detail(extras=False, greens=False, folded=False, name=SHORTEST_NAME, laxer=5),
)
FAILURE = "- **"  # how the line of a failure begins, and no other


def text(sessions: Sequence[Summary], _: Path) -> str:
    """The Markdown of sessions. Raises SettingsError."""
    return write(sessions)


def write(sessions: Sequence[Summary], most: int = MOST_CHARACTERS, size: Size = len) -> str:
    """Markdown of at most ``most`` characters (or of what ``size`` counts), with as much detail as fits.

    Raises SettingsError where not even the verdict fits.
    """
    for detail in DETAILS:
        text = _whole(sessions, detail)
        if size(text) <= most:
            return text
    return _bare(text, most, size)


def _whole(sessions: Sequence[Summary], detail: Detail) -> str:
    return "\n\n".join(block for session in sessions for block in _blocks(session, detail)) + "\n"


def _blocks(session: Summary, detail: Detail) -> list[str]:
    blocks = [_verdict_line(session), *_loosened(session, detail), _about(session), *_bad_news(session, detail)]
    if detail.folded:
        blocks += [*_table(session, detail), *_changes(session, detail), *_failures(session, detail)]
        blocks += _explained(session, detail) if detail.extras else []
    else:
        blocks += _listed(session, detail)
    if detail.extras:
        blocks += [*_comparisons(session), *_remarks(session)]
    elif detail == DETAILS[1]:
        blocks.append("Comparisons of candidates and notes are left out: too long to show. The other reports have them.")
    return [block for block in blocks if block]


def _verdict_line(session: Summary) -> str:
    return f"## {'❌' if session.red else SIGNS[session.word]} Energy budgets: {session.headline}"


def _about(session: Summary) -> str:
    parts = [unmetered(session), totals(session), heading(session), commit(session)]
    return " · ".join(markdown(part, SENTENCE) for part in parts if part)


def _loosened(session: Summary, detail: Detail) -> list[str]:
    laxer = [each.removeprefix("loosened: ") for each in loosened(session)]
    if not laxer:
        return []
    lines = [f"- {markdown(each, SENTENCE if detail.folded else SHORT_NAME)}" for each in laxer[: detail.laxer]]
    more = [f"- and {len(laxer) - detail.laxer} more"] if len(laxer) > detail.laxer else []
    return ["**This change makes limits laxer:**\n\n" + "\n".join([*lines, *more])]


def _grid(heads: Sequence[str], rows: Sequence[Sequence[str]], longest: int) -> str:
    lines = [[markdown(cell, longest) for cell in row] for row in (heads, *rows)]
    lines.insert(1, ["---"] * len(heads))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _table(session: Summary, detail: Detail) -> list[str]:
    made = table(session.results, session.currency)
    reds = {place for place, run in enumerate(session.results) if run.red}
    ranked = sorted(made.rows, key=lambda row: (row.place not in reds, row.word in {"PASS", ""}))
    shown = [row for row in ranked if detail.greens or row.place in reds or row.word not in {"PASS", ""}]
    left = len(made.rows) - len(shown)
    blocks = [_grid(made.heads, [row.cells for row in shown], detail.name)] if shown else []
    return [*blocks, *([f"{left} {'run' if left == 1 else 'runs'} without a failure left out: too long to show."] if left else [])]


def _changes(session: Summary, detail: Detail) -> list[str]:
    found = [each for each in changes(session.results) if detail.greens or each.word != "PASS"]
    if not found:
        return []
    rows = [(each.run, each.metric, each.before, each.now, each.by, each.word, each.against) for each in found]
    heads = ("test", "figure", "before", "now", "worse by", "verdict", "against")
    return ["### What changed", _grid(heads, rows, detail.name)]


def _failures(session: Summary, detail: Detail) -> list[str]:
    blocks = []
    for run, verdict in session.reds:
        title = f"<b>{_red_word(verdict)}</b> {markdown(run.called, detail.name)}: {markdown(verdict.short)}"
        place = f"\n\nLimit from {markdown(verdict.where)}" if verdict.where else ""
        blocks.append(f"<details><summary>{title}</summary>\n\n{markdown(verdict.reason, SENTENCE)}{place}\n\n</details>")
    return blocks


def _explained(session: Summary, detail: Detail) -> list[str]:
    """For each run that is explained a folded section: the sentence, the product, and the places of each level."""
    blocks = []
    for run in session.results:
        for made in run.explained:
            title = f"<b>Why</b> {markdown(run.called, detail.name)}: {markdown(explained.headline(made))}"
            inside = [markdown(made.where, SENTENCE)] if made.where else []
            inside.append(_grid(("factor", "base", "now", "times"), explained.product_rows(made.explanation), detail.name))
            for level in made.explanation.levels:
                rows = explained.place_rows(level, made.explanation)
                inside += [explained.level_title(level), _grid(explained.PLACE_HEADS, rows, detail.name)]
            body = "\n\n".join(inside)
            blocks.append(f"<details><summary>{title}</summary>\n\n{body}\n\n</details>")
    return blocks


def _red_word(verdict: ShownVerdict) -> str:
    """The word of a verdict that is red; a modelled figure may be that though it passes (``--energy-modelled fail``)."""
    return "PASS, red: modelled" if verdict.word == "PASS" else verdict.word


def _listed(session: Summary, detail: Detail) -> list[str]:
    """Every failure in a line a run."""
    by_run: dict[int, tuple[Result, list[str]]] = {}
    for run, verdict in session.reds:
        by_run.setdefault(id(run), (run, []))[1].append(f"{_red_word(verdict)} {verdict.short}")
    lines = [f"{FAILURE}{markdown(run.called, detail.name)}**: {markdown(', '.join(words), detail.name)}" for run, words in by_run.values()]
    return ["\n".join(lines), "Only failures, and no reasons: too long to show. The other reports have them."] if lines else []


def _bad_news(session: Summary, detail: Detail) -> list[str]:
    """What is red besides the verdicts of runs."""
    longest = SENTENCE if detail.folded else SHORT_NAME
    lines = [f"{FAILURE}{markdown(sentence, longest)}**" for sentence in session.bad_news]
    return ["\n".join(lines)] if lines else []


def _comparisons(session: Summary) -> list[str]:
    blocks = []
    for compared in comparisons(session.results):
        heads, rows = candidates.table(compared.rows)
        blocks += [f"### Candidates\n\n{markdown(compared.headline, SENTENCE)}", _grid(heads, rows, SHORT_NAME)]
        for title, of_advice, told in advised.grids(compared.rows, session.currency):
            blocks += [f"#### {title}", _grid(of_advice, told, SENTENCE)]
    return blocks


def _remarks(session: Summary) -> list[str]:
    lines = [*years(session), *remarks(session), *(f"not measured: {test} ({reason})" for test, reason in session.not_measured)]
    lines += [sentence for sentence, bad in session.said if not bad]
    if not lines:
        return []
    listed = "\n".join(f"- {markdown(line, SENTENCE)}" for line in lines)
    return [f"<details><summary>Notes ({len(lines)})</summary>\n\n{listed}\n\n</details>"]


def _bare(text: str, most: int, size: Size) -> str:
    """Where even a line a failure is too long: as many failures as fit, and how many do not. Raises SettingsError where none of it fits."""
    lines = text.splitlines()
    failures = [place for place, line in enumerate(lines) if line.startswith(FAILURE)]
    left = 0

    def shown() -> str:
        told = f"{left} more failures are left out: the limit here is {most:,}. The JSON report has all."
        return "\n".join([*lines, "", told]) + "\n"

    while size(shown()) > most:
        if not failures:
            raise SettingsError(f"There is no room for it: {max(0, most):,} are left.", remedy="The other reports have all.")
        cut = max(1, len(failures) // 20)
        for place in reversed(failures[-cut:]):
            del lines[place]
        failures = failures[:-cut]
        left += cut
    return shown()
