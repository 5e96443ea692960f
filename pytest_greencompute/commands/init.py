"""``greencompute init``: a first test with limits from a first measurement, the settings and a pipeline; never overwrites anything."""

from __future__ import annotations

import datetime
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pytest_greencompute.commands import Arguments
from pytest_greencompute.commands.saying import say, tell, tell_to_copy
from pytest_greencompute.errors import SettingsError
from pytest_greencompute.settings.finding import has_settings
from pytest_greencompute.settings.folders import PROJECT, upward
from pytest_greencompute.settings.toml_edit import appended
from pytest_greencompute.settings.toml_file import TomlFile
from pytest_greencompute.starting.first_run import FirstRun, measured
from pytest_greencompute.starting.found import Home, Remote, installed, look, remote_of, text_of
from pytest_greencompute.starting.libraries import PLAIN, ModelLibrary, chosen, had, meters_benchmarks, missing, used
from pytest_greencompute.starting.limits import FirstLimits
from pytest_greencompute.starting.written import benchmark_budgets, first_test, name_of, pipeline, settings
from pytest_greencompute.store.files import write_atomically
from pytest_greencompute.values.metrics import METRICS

TEST = "test_energy.py"
WORKFLOWS, GITLAB = Path(".github") / "workflows", ".gitlab-ci.yml"
MOST_BENCHMARKS = 5  # that are measured before anything is known of how long they take


def run(given: Arguments, _: Path) -> int:
    """The command."""
    return init(Path(given["folder"]), os.environ)


@dataclass(slots=True)
class _Start:
    """What is found of a project in ``folder``, and which files were ``wrote``."""

    folder: Path
    environ: Mapping[str, str]
    home: Home
    library: ModelLibrary
    benchmarks: bool
    remote: Remote
    wrote: list[Path] = field(default_factory=list)

    @property
    def day(self) -> str:
        return datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat()

    @property
    def test(self) -> str:
        """The test's file, from the folder."""
        return f"{self.home.tests}/{TEST}"

    @property
    def tests(self) -> str:
        """What the first verdicts are of: the test that is there, or the benchmarks."""
        return self.test if (self.folder / self.test).exists() else self.home.benchmarks[0].partition("::")[0]


def init(folder: Path, environ: Mapping[str, str]) -> int:
    """Write what is missing; say what was found, written and left. 1 where everything was there already. Raises SettingsError."""
    if not folder.is_dir():
        say(f"{folder} is not a folder.")
        return 2
    home = look(folder)
    libraries = had(home, installed)
    start = _Start(folder, environ, home, chosen(libraries, installed), meters_benchmarks(home, installed), remote_of(folder, environ))
    _say_found(start, libraries)
    only_benchmarks = start.benchmarks and start.library is PLAIN
    path = folder / start.test
    text = first_test(start.library, home)
    fresh = not only_benchmarks and _write_new(start, path, text)
    added = _add_settings(start, folder / PROJECT)
    if fresh:
        _limit(start, path, text)
    if start.benchmarks:
        _limit_benchmarks(start, folder / PROJECT, added=added)
    _write_pipeline(start)
    if not start.wrote:
        tell("nothing was written: all of it is there")
    _say_next(start)
    return 0 if start.wrote else 1


# --- the test and its limits -------------------------------------------------------------------------------------------


def _limit(start: _Start, path: Path, text: str) -> None:
    """Measure the test that was just written, bare, and write it again with limits that follow; where nothing does, with wide ones."""
    found = FirstRun({}, "init was stopped")
    try:
        gone = missing(start.library, installed)
        found = FirstRun({}, f"{gone} is not installed here: pip install {gone}") if gone else _first_run(start, start.test)
    finally:
        limits = next(iter(found.limits.values()), ())
        if text_of(path) == text:  # nobody has touched it meanwhile
            write_atomically(path, first_test(start.library, start.home, limits, day=start.day, why_wide=found.why_not))
    if not limits:
        tell(f"not measured, so its limits are wide: {found.why_not}")
    for each in limits:
        shown = ", ".join([*_limits(each), *([] if each.accuracy is None else [f"accuracy {each.accuracy}"])])
        tell(f"measured: {each.measured}")
        tell(f"  limits in the test, at least three times that: {shown}")


def _limits(found: FirstLimits) -> list[str]:
    """'energy/query 4 mJ', and so on."""
    return [f"{METRICS[name].label} {limit}" for name, limit in found.limits.items()]


def _limit_benchmarks(start: _Start, path: Path, *, added: bool) -> None:
    """Budgets for the first benchmarks, from what they use, below the settings that were just added."""
    if not added and start.wrote:
        tell("to meter your benchmarks, too: benchmarks = true in [tool.greencompute], or pytest --energy-budget --energy-benchmarks")
    if not added:
        return
    found = _first_run(start, *start.home.benchmarks[:MOST_BENCHMARKS])
    if not found.limits:
        tell(f"your benchmarks are metered, and have no limits yet, since none was measured: {found.why_not}")
        return
    budgets = benchmark_budgets(found.limits, start.day)
    if not _append(path, budgets):
        tell(f"left as it is: {path}, which was changed while the benchmarks were measured. Write there:")
        tell_to_copy(budgets)
        return
    for test, (each, *_) in found.limits.items():
        tell(f"measured: {test}: {each.measured}; limits: {', '.join(_limits(each))} ({PROJECT})")
    if len(start.home.benchmarks) > MOST_BENCHMARKS:
        tell(f"{len(start.home.benchmarks) - MOST_BENCHMARKS} more are metered, and have no limits yet")


def _first_run(start: _Start, *tests: str) -> FirstRun:
    tell("measuring once, a few seconds …")
    return measured(tests, start.folder, start.environ)


# --- files -------------------------------------------------------------------------------------------------------------


def _write_new(start: _Start, path: Path, text: str) -> bool:
    try:
        if not path.exists():
            write_atomically(path, text, new=True)
            start.wrote.append(path)
            tell(f"wrote: {path}")
            return True
    except FileExistsError:  # a link to nothing, or made at this moment
        pass
    tell(f"left as it is: {path}")
    return False


def _add_settings(start: _Start, path: Path) -> bool:
    """Append [tool.greencompute] to a pyproject.toml that has none; everything in the file stays as it is."""
    text = settings(benchmarks=start.benchmarks)
    try:
        above = (folder / PROJECT for folder in upward(path.parent) if folder != path.parent.resolve())
        if other := next((each for each in above if has_settings(each)), None):
            tell(f"left as it is: {path} ({other} has [tool.greencompute], which holds here, too)")
            return False
        if not path.exists():
            return _write_new(start, path, text.lstrip())
        TomlFile(path)
        if has_settings(path):
            tell(f"left as it is: {path} (it has [tool.greencompute])")
            return False
    except SettingsError as error:
        tell(f"left as it is: {error}")
        return False
    if not _append(path, text):
        tell(f"left as it is: {path}, since nothing can be added below it. Write there:")
        tell_to_copy(text.strip("\n"))
        return False
    start.wrote.append(path)
    tell(f"added [tool.greencompute]: {path}")
    return True


def _append(path: Path, tables: str) -> bool:
    """Put ``tables`` below a TOML file, where it stays one."""
    new = appended(path.read_bytes().decode("utf-8"), tables)
    if new is not None:
        write_atomically(path, new, newline="")
    return new is not None


def _write_pipeline(start: _Start) -> None:
    remote, name = start.remote, name_of(start.remote)
    if remote.forge == "GitHub":
        _write_new(start, remote.top / WORKFLOWS / f"{name}.yml", pipeline(start.home, remote, start.library))
        return
    existing, beside = remote.top / GITLAB, f"{name}.gitlab-ci.yml"
    if not existing.exists():
        _write_new(start, existing, pipeline(start.home, remote, start.library))
        return
    text = text_of(existing)
    if beside in text or f"{name}-budget:" in text:
        tell(f"left as it is: {existing} (it has this job)")
        return
    if _write_new(start, remote.top / beside, pipeline(start.home, remote, start.library, existing=text)):
        tell(f"left as it is: {existing}. Add to it:")
        tell_to_copy(f"    include:\n      - local: {beside}")


# --- words -------------------------------------------------------------------------------------------------------------


def _say_found(start: _Start, libraries: tuple[ModelLibrary, ...]) -> None:
    count = len(start.home.benchmarks)
    had_here = ", ".join(each.name for each in libraries)
    names = [*(each.name for each in used(start.home)), *([f"{count} benchmark{'' if count == 1 else 's'}"] if start.benchmarks else [])]
    found = ", ".join(names) or (f"no model yet; installed here: {had_here}" if libraries else PLAIN.name)
    tell(f"found: {found}; {start.remote.forge} ({start.remote.why})")
    if not start.home.whole:
        tell("this project is large: not all of its Python files were looked at")


def _say_next(start: _Start) -> None:
    home, run = start.home, f"python -m pytest --energy-budget {start.tests}"
    steps = [f"{run}\n     measures, and judges by the limits"]
    if (start.folder / start.test).exists():
        found = f"\n     such as: {home.suggestions[0].line}" if home.suggestions else ""
        steps.append(f"put your own model and queries into {start.test}{found}")
        steps += _to_import(start)
        steps += _to_serve(start, run)
        steps.append(f"{run} --energy-update loosen\n     says which limits your model needs")
        steps.append(f"{run} --energy-update tighten\n     says which are closer to what it uses, once it is green")
    elif "[tool.greencompute.budgets" in text_of(start.folder / PROJECT):
        steps.append(f"{run} --energy-update tighten\n     writes limits closer to what they use")
    steps.append(f"commit the files: each {'pull' if start.remote.forge == 'GitHub' else 'merge'} request is then measured")
    where = [] if start.folder.resolve() == Path.cwd() else [f"cd {shlex.quote(str(start.folder))}"]
    tell_to_copy("\n".join(["\nNext:", *(f"  {number}. {step}" for number, step in enumerate([*where, *steps], 1))]))


def _to_serve(start: _Start, run: str) -> list[str]:
    """What has the test of a server run, which is skipped so far."""
    if start.library.extra != "serving":
        return []
    client = all(map(installed, ("httpx", "httpx_sse")))
    return [
        *([] if client else ["pip install 'pytest-greencompute[serving]'    for the test of your server"]),
        f"MODEL_SERVER=http://127.0.0.1:8000 {run}\n     measures your server, too, where that is its address",
    ]


def _to_import(start: _Start) -> list[str]:
    """What lets tests that run in the folder import the project's code, where they cannot."""
    home, settled = start.home, (start.folder / "pytest.ini").is_file()
    found = home.suggestions[0].module.partition(".")[0] if home.suggestions else ""
    there = not found or installed(found) or (start.folder / found).is_dir() or (start.folder / f"{found}.py").is_file()
    if home.installable and (home.hidden or not there):
        return ["pip install -e .    so that it can be imported"]
    if home.hidden:
        how = "pythonpath = src    in pytest.ini" if settled else f'pythonpath = ["src"]    in {PROJECT}, below [tool.pytest.ini_options]'
        return [f"{how}, so that it can be imported"]
    return []
