"""Which reports there are, where a session writes them to, and what each needs installed."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.machine.ci import in_github_actions
from pytest_greencompute.results.summary import Summary
from pytest_greencompute.store.files import check_writable, write_atomically

SourceLine = tuple[str, int]  # a file, and a line from 1


class Wishes(Protocol):
    """What a session's settings say of reports: whether it measures, whether GitHub is to be told (None: where it runs the session), and
    under the name of each form's ``setting`` its value, None where it is not asked for."""

    @property
    def enabled(self) -> bool: ...

    @property
    def github(self) -> bool | None: ...


@dataclass(frozen=True, slots=True)
class Report:
    """One report to write: what it is called in a sentence, and how it comes about from a session.

    ``wanted``: somebody asked for it, so that it is red where it cannot be written.
    """

    name: str
    make: Callable[[Summary], None]
    wanted: bool = True

    def write(self, summary: Summary) -> str:
        """Write it. Returns why it could not be written, or an empty text."""
        try:
            self.make(summary)
        except SettingsError as error:
            return str(error)
        except OSError as error:
            return f"{error.filename or ''} {error.strerror or error}".strip()
        except Exception as error:  # noqa: BLE001 - a mistake of ours in one report must not take the others and the verdicts with it
            return f"{type(error).__name__}: {error}. This is a mistake of pytest-greencompute's: please report it."
        return ""


@dataclass(frozen=True, slots=True)
class Form:
    """One form of report: the setting that asks for it, its name, its module in this folder, and the extra and the packages that it needs.

    The module has ``make(summary, wish, home)``: a session, that setting's value and the project's folder. One of a file whose name has an
    ``ending`` has ``text(sessions, home)`` instead, which saved sessions are shown by, too. One whose file ``grows`` has ``check(wish)``.
    """

    setting: str
    name: str
    module: str
    extra: str = ""
    packages: tuple[str, ...] = ()
    ending: str = ""
    grows: bool = False

    def check(self, wish: Any) -> None:
        """Raises SettingsError where it cannot be made: its packages are not installed, or its file cannot be written."""
        missing = [name for name in self.packages if not _installed(name)]
        if missing:
            option = f"--energy-{self.setting.removesuffix('_path').replace('_', '-')}"
            packages = ", ".join(name.replace("_", "-") for name in missing)
            raise SettingsError(f"{option} needs {packages}.", remedy=f"pip install 'pytest-greencompute[{self.extra}]'.")
        if self.grows:
            loaded(self.module).check(wish)
        elif self.setting.endswith("_path"):
            check_writable(wish)

    def make(self, wish: Any, home: Path, summary: Summary) -> None:
        """Make it. Raises SettingsError, OSError."""
        if self.ending:
            write_atomically(wish, loaded(self.module).text([summary], home))
        else:
            loaded(self.module).make(summary, wish, home)


# The JSON report comes after the others: its exit status knows of those that could not be written.
FORMS = (
    Form("html_path", "HTML report", "html", "report", ("plotly", "jinja2", "fastjsonschema"), ".html"),
    Form("markdown_path", "Markdown report", "markdown", ending=".md"),
    Form("openmetrics_path", "OpenMetrics report", "openmetrics", "openmetrics", ("prometheus_client",)),
    Form("codecarbon_csv_path", "row for CodeCarbon's CSV", "emissions_csv", grows=True),
    Form("mlflow", "report to MLflow", "mlflow_runs", "mlflow", ("mlflow",)),
    Form(
        "opentelemetry",
        "report to OpenTelemetry",
        "telemetry",
        "opentelemetry",
        ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"),
    ),
    Form("json_path", "JSON report", "json_file"),
)


def loaded(module: str) -> Any:
    """A module of this folder by its name: a session loads only the forms that it writes."""
    return import_module(f"pytest_greencompute.report.{module}")


def check_reports(settings: Wishes) -> None:
    """Raises SettingsError where a report was asked for that cannot be made: before anything is measured."""
    for form in FORMS:
        if (wish := getattr(settings, form.setting)) is not None:
            form.check(wish)


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package that it is a part of
        return False


def reports(settings: Wishes, home: Path, environ: Mapping[str, str]) -> list[Report]:
    """The reports that were asked for, in the order in which they are to be written. ``home`` is the project's folder."""
    asked = [(form, value) for form in FORMS if (value := getattr(settings, form.setting)) is not None]
    found = [Report(form.name, partial(form.make, value, home)) for form, value in asked]
    # GitHub is told last: of what could not be written, too.
    told: list[Report] = loaded("github").reports(environ, wanted=settings.github is True) if in_github(settings, environ) else []
    return found + told


def in_github(settings: Wishes, environ: Mapping[str, str]) -> bool:
    """Whether GitHub Actions is to be told of a measured session."""
    if not settings.enabled:
        return False
    return in_github_actions(environ) if settings.github is None else settings.github


def log_lines(
    settings: Wishes, environ: Mapping[str, str]
) -> tuple[list[str], Callable[[Summary, Mapping[str, SourceLine], Path], Sequence[str]]]:
    """Lines for the log before the section, and what makes those after it. In GitHub Actions, commands are off in between: names are
    chosen by whoever wrote the tests, and a line that begins like a command would be one."""
    if not in_github(settings, environ):
        return [], lambda *_: ()
    token = uuid.uuid4().hex

    def after(summary: Summary, places: Mapping[str, SourceLine], root: Path) -> list[str]:
        github, checkout = loaded("github"), environ.get("GITHUB_WORKSPACE", "")
        placed = {test: github.place_in(checkout, root, *place) for test, place in places.items()}
        return [f"::{token}::", *github.notices(summary, placed)]

    return [f"::stop-commands::{token}"], after
