"""``greencompute report RUN… -o PATH``: the page or the Markdown of saved sessions, from their JSON reports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pytest_greencompute.commands import Arguments
from pytest_greencompute.errors import MADE_UP, GreencomputeError, SettingsError
from pytest_greencompute.report.forms import FORMS, loaded
from pytest_greencompute.results.summary import Summary
from pytest_greencompute.settings.finding import home_of
from pytest_greencompute.store.files import write_atomically
from pytest_greencompute.store.runs import Store, saved_as, store_of

DEFAULT = "report.html"


def run(given: Arguments, root: Path) -> int:
    """The command."""
    return report(given["runs"], given["output"], root)


def report(names: Sequence[str], output: str, root: Path) -> int:
    """Write it, and say where. 0: written. Raises SettingsError for a file that is no report, and for a form that is not known."""
    forms = {form.ending: form for form in FORMS if form.ending}
    form = forms.get(Path(output).suffix.lower())
    if form is None:
        raise SettingsError(f"{output!r} has no form that is known.", remedy=f"End its name with one of {', '.join(forms)}.")
    home = home_of(root)
    store = store_of(home)
    sessions = [session for name in names for session in _sessions(name, root, store)]
    try:
        text = loaded(form.module).text(sessions, home)
    except GreencomputeError:
        raise
    except MADE_UP as error:
        # The schema cannot say all that a report must be; one that somebody edited may get this far.
        problem = f"{type(error).__name__}: {error}"[:200]
        raise SettingsError(f"{' '.join(names)} cannot be shown ({problem}).", remedy="Measure it again.") from error
    write_atomically(root / output, text)
    print(f"wrote: {output} ({len(sessions)} session{'' if len(sessions) == 1 else 's'})")
    return 0


def _sessions(name: str, root: Path, store: Store) -> Sequence[Summary]:
    """What is named: a file, a folder of them, a baseline. Raises SettingsError where there is none."""
    saved = saved_as(name, root, store)
    if not saved:
        raise SettingsError(
            f"{name!r} is no JSON report, no folder of them and no baseline in {store.where}.",
            remedy="pytest --energy-json PATH writes one.",
        )
    return saved.sessions()
