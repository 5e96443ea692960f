"""Which reports a session writes, where to, and what each needs installed: one table."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pytest_greencompute.errors import SettingsError

if TYPE_CHECKING:
    from pytest_greencompute.results.summary import Summary

Place = tuple[str, int]


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
    """One form of report: the setting that asks for it, its name, and the extra and the modules that it needs.

    ``make`` makes it of a session, that setting's value and the project's folder.
    """

    setting: str
    name: str
    make: Callable[[Summary, Any, Path], None]
    extra: str = ""
    modules: tuple[str, ...] = ()


def _written(text: Callable[[Summary, Path], str]) -> Callable[[Summary, Any, Path], None]:
    """A report that is a file of its own."""

    def make(summary: Summary, path: Path, root: Path) -> None:
        from pytest_greencompute.store.files import write_atomically

        write_atomically(path, text(summary, root))

    return make


def _html(summary: Summary, root: Path) -> str:
    from pytest_greencompute.report.html import page
    from pytest_greencompute.store.history import ON_A_PAGE, saved

    return page([summary], saved(root, newest=ON_A_PAGE))


def _markdown(summary: Summary, _: Path) -> str:
    from pytest_greencompute.report.markdown import write

    return write([summary])


def _openmetrics(summary: Summary, _: Path) -> str:
    from pytest_greencompute.report.openmetrics import write

    return write(summary)


def _json(summary: Summary, _: Path) -> str:
    from pytest_greencompute.results.document import document
    from pytest_greencompute.store.files import to_json

    return to_json(document(summary)) + "\n"


def _emissions_csv(summary: Summary, path: Path, root: Path) -> None:
    from pytest_greencompute.report.emissions_csv import append

    append(summary, path, root.name, str(uuid.uuid4()))


def _mlflow(summary: Summary, experiment: str, _: Path) -> None:
    from pytest_greencompute.report.mlflow_runs import send

    send(summary, experiment)


def _opentelemetry(summary: Summary, _: Any, __: Path) -> None:
    from pytest_greencompute.report.telemetry import send

    send(summary)


# The JSON report comes after the others: its exit status knows of those that could not be written.
FORMS = (
    Form("html_path", "HTML report", _written(_html), "report", ("plotly", "jinja2", "fastjsonschema")),
    Form("markdown_path", "Markdown report", _written(_markdown)),
    Form("openmetrics_path", "OpenMetrics report", _written(_openmetrics), "openmetrics", ("prometheus_client",)),
    Form("codecarbon_csv_path", "row for CodeCarbon's CSV", _emissions_csv),
    Form("mlflow", "report to MLflow", _mlflow, "mlflow", ("mlflow",)),
    Form(
        "opentelemetry",
        "report to OpenTelemetry",
        _opentelemetry,
        "opentelemetry",
        ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"),
    ),
    Form("json_path", "JSON report", _written(_json)),
)


def check_installed(settings: Wishes) -> None:
    """Raises SettingsError where a report was asked for that needs a package which is not installed: before anything is measured."""
    for form in FORMS:
        if getattr(settings, form.setting) is None:
            continue
        missing = [name for name in form.modules if not _installed(name)]
        if missing:
            option = f"--energy-{form.setting.removesuffix('_path').replace('_', '-')}"
            packages = ", ".join(name.replace("_", "-") for name in missing)
            raise SettingsError(f"{option} needs {packages}.", remedy=f"pip install 'pytest-greencompute[{form.extra}]'.")


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package that it is a part of
        return False


def reports(settings: Wishes, root: Path, environ: Mapping[str, str]) -> list[Report]:
    """The reports that were asked for, in the order in which they are to be written. ``root`` is the project's folder."""
    asked = [(form, value) for form in FORMS if (value := getattr(settings, form.setting)) is not None]
    found = [Report(form.name, partial(_make, form.make, value, root)) for form, value in asked]
    # GitHub is told last: of what could not be written, too.
    return [*found, *_github(environ, wanted=settings.github is True)] if in_github(settings, environ) else found


def _make(make: Callable[[Summary, Any, Path], None], value: Any, root: Path, summary: Summary) -> None:
    make(summary, value, root)


def in_github(settings: Wishes, environ: Mapping[str, str]) -> bool:
    """Whether GitHub Actions is to be told of a measured session."""
    from pytest_greencompute.report import github

    return settings.enabled and (github.on(environ) if settings.github is None else settings.github)


def _github(environ: Mapping[str, str], *, wanted: bool) -> list[Report]:
    """The job summary and the step's outputs, where GitHub has named the files for them."""
    from pytest_greencompute.report import github

    def summary_of(summary: Summary) -> None:
        github.append_summary(environ["GITHUB_STEP_SUMMARY"], [summary])

    def outputs_of(summary: Summary) -> None:
        github.append(environ["GITHUB_OUTPUT"], "".join(f"{name}={value}\n" for name, value in github.outputs(summary).items()))

    def refuse(name: str) -> Callable[[Summary], None]:
        def make(_: Summary) -> None:
            raise SettingsError(f"{name} is not set, as it is in a step of GitHub Actions.", remedy="--energy-github off asks for none.")

        return make

    files = {"GITHUB_STEP_SUMMARY": ("job summary", summary_of), "GITHUB_OUTPUT": ("step's outputs", outputs_of)}
    return [
        Report(called, make, True) if environ.get(name) else Report(called, refuse(name), wanted) for name, (called, make) in files.items()
    ]


def log_lines(
    settings: Wishes, environ: Mapping[str, str]
) -> tuple[list[str], Callable[[Summary, Mapping[str, Place], Path], Sequence[str]]]:
    """Lines for the log before the section, and what makes those after it. In GitHub Actions, commands are off in between: names are
    chosen by whoever wrote the tests, and a line that begins like a command would be one."""
    if not in_github(settings, environ):
        return [], lambda *_: ()
    from pytest_greencompute.report import github

    token = uuid.uuid4().hex

    def after(summary: Summary, places: Mapping[str, Place], root: Path) -> list[str]:
        checkout = environ.get("GITHUB_WORKSPACE", "")
        placed = {test: github.place_in(checkout, root, *place) for test, place in places.items()}
        return [f"::{token}::", *github.notices(summary, placed)]

    return [f"::stop-commands::{token}"], after
