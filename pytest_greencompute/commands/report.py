"""``greencompute report RUN… -o PATH``: the page or the Markdown of saved sessions, from their JSON reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.results.summary import Summary
from pytest_greencompute.store.history import History

DEFAULT = "report.html"


def run(given: Mapping[str, Any], root: Path) -> int:
    """The command."""
    return report(given["runs"], given["output"], root)


def report(names: Sequence[str], output: str, root: Path) -> int:
    """Write it, and say where. 0: written. Raises SettingsError for a file that is no report, and for a form that is not known."""
    from pytest_greencompute.results.document import summary_of
    from pytest_greencompute.settings.finding import home_of
    from pytest_greencompute.store.files import write_atomically
    from pytest_greencompute.store.history import ON_A_PAGE, saved
    from pytest_greencompute.store.reports import read_report

    form = FORMS.get(Path(output).suffix.lower())
    if form is None:
        raise SettingsError(f"{output!r} has no form that is known.", remedy=f"End its name with one of {', '.join(FORMS)}.")
    sessions = [summary_of(read_report(path)) for path in _files(names, root)]
    try:
        text = form(sessions, saved(home_of(root), newest=ON_A_PAGE))
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        # The schema cannot say all that a report must be; one that somebody edited may get this far.
        problem = f"{type(error).__name__}: {error}"[:200]
        raise SettingsError(f"{' '.join(names)} cannot be shown ({problem}).", remedy="Measure it again.") from error
    write_atomically(root / output, text)
    print(f"wrote: {output} ({len(sessions)} session{'' if len(sessions) == 1 else 's'})")
    return 0


def _files(names: Sequence[str], root: Path) -> list[Path]:
    """The reports that are named: files, folders of them, and baselines. Raises SettingsError where there is none."""
    from pytest_greencompute.settings.finding import home_of
    from pytest_greencompute.store.baselines import FOLDER, folder_of

    found: list[Path] = []
    for name in names:
        path = root / name
        folder = path if path.is_dir() else folder_of(home_of(root), name)
        files = [path] if path.is_file() else sorted(folder.glob("*.json"))
        if not files:
            raise SettingsError(
                f"{name!r} is no JSON report, no folder of them and no baseline in {FOLDER}.",
                remedy="pytest --energy-json PATH writes one.",
            )
        found += files
    return found


def _page(sessions: Sequence[Summary], history: History) -> str:
    from pytest_greencompute.report.html import page

    return page(sessions, history)


def _markdown(sessions: Sequence[Summary], _: History) -> str:
    from pytest_greencompute.report.markdown import write

    return write(sessions)


FORMS: dict[str, Callable[[Sequence[Summary], History], str]] = {".html": _page, ".md": _markdown}
