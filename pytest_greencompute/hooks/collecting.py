"""From collected tests to metered ones: markers read, budgets looked up, and stale budgets found out."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.hooks.marks import Written, line_of
from pytest_greencompute.hooks.names import GROUP_MARKER, is_worker
from pytest_greencompute.judging.budget import Line, Names, check_clashes, narrowest_first, parse_lines
from pytest_greencompute.meters.base import Meter
from pytest_greencompute.session.tests import MeteredTest
from pytest_greencompute.settings.settings import Settings
from pytest_greencompute.values.metrics import METRICS

if TYPE_CHECKING:
    from pytest_greencompute.session.groups import Group


def extra_meters(config: pytest.Config) -> dict[str, Meter]:
    """Meters that conftest files add through the hook, by name. Raises SettingsError where one returns something else."""
    found: dict[str, Meter] = {}
    for meters in config.hook.pytest_greencompute_meters(config=config):
        if not isinstance(meters, Mapping):
            raise SettingsError(
                f"pytest_greencompute_meters returned a {type(meters).__name__}.", remedy='Return a mapping such as {"mine": MyMeter()}.'
            )
        found.update(meters)
    return found


def node_id_of(item: pytest.Item) -> str:
    """A test's name, without the group that xdist's ``--dist loadgroup`` writes behind it."""
    group = group_of(item) if getattr(item.config.option, "loadgroup", False) else ""
    return item.nodeid.removesuffix(f"@{group}") if group else item.nodeid


def group_of(item: pytest.Item) -> str:
    """The group by which xdist keeps tests in one worker; empty where the test names none."""
    marks = [mark.args[0] if mark.args else mark.kwargs.get("name", "default") for mark in item.iter_markers("xdist_group")]
    return "_".join(sorted({str(name) for name in marks}))


def tests_of(items: Iterable[pytest.Item], settings: Settings, marker: str) -> dict[str, MeteredTest]:
    """The metered tests by node id. Raises one SettingsError that lists every marker problem with file, line and node id."""
    problems: list[str] = []
    tests: dict[str, MeteredTest] = {}
    groups: dict[str, tuple[Group, Any]] = {}
    for item in items:
        node_id = node_id_of(item)
        test = tests[node_id] = MeteredTest(node_id, node_id.partition("::")[2] or item.name)
        try:
            test.reread = _reader(item, settings, marker)
            test.now()
        except SettingsError as error:
            problems.extend(str(error).splitlines())
        try:
            _join_group(item, test, groups)
        except SettingsError as error:
            problems.append(f"{_place(item, item.get_closest_marker(GROUP_MARKER))}: {error} ({item.nodeid})")
    if problems:
        raise SettingsError("\n".join(problems))
    return tests


def _reader(item: pytest.Item, settings: Settings, marker: str) -> Callable[[], tuple[Line, ...]]:
    """Gives the lines of a test's budget as its marks are now: fixtures and the body may add some. What has been read is kept."""
    rest = settings.lines_for(node_id_of(item))
    read: list[tuple[list[pytest.Mark], tuple[Line, ...]]] = []

    def lines() -> tuple[Line, ...]:
        marks = list(item.iter_markers(marker))
        if not read or len(read[-1][0]) != len(marks) or any(one is not other for one, other in zip(read[-1][0], marks, strict=True)):
            read.append((marks, (*_of_marks(item, marks), *rest)))
        return read[-1][1]

    for on in {tuple(sorted(line.on.items())): line.on for line in rest}.values():  # the rest depends on the hardware
        try:
            check_clashes(line for line in rest if line.on == on)
        except SettingsError as error:
            raise SettingsError(f"{error} ({item.nodeid})") from error
    return lines


def _of_marks(item: pytest.Item, marks: Iterable[pytest.Mark]) -> list[Line]:
    """Raises one SettingsError that lists every problem with file, line and node id."""
    lines: list[Line] = []
    problems: list[str] = []
    for mark in marks:
        try:
            lines.extend(narrowest_first(_marker_lines(item, mark)))
        except SettingsError as error:
            problems.extend(f"{line} ({item.nodeid})" for line in str(error).splitlines())
    if problems:
        raise SettingsError("\n".join(problems))
    return lines


def _join_group(item: pytest.Item, test: MeteredTest, groups: dict[str, tuple[Group, Any]]) -> None:
    """Make a test with the marker energy_group a candidate of its group. Raises SettingsError."""
    mark = item.get_closest_marker(GROUP_MARKER)
    if mark is None:
        return
    from pytest_greencompute.session.groups import Group

    group, written = Group.asked(mark.args, mark.kwargs), (mark.args, mark.kwargs)
    group, before = groups.setdefault(group.name, (group, written))
    if before != written:
        raise SettingsError(
            f"energy_group {group.name!r} asks for other things than in another test.", remedy="Write the same in all of them."
        )
    spec = getattr(item, "callspec", None)
    called = spec.id if spec is not None else item.name
    if called in group.members.values():
        raise SettingsError(
            f"energy_group {group.name!r} has a candidate {called!r} already.", remedy="Give the parameters ids of their own."
        )
    group.members[item.nodeid] = called
    test.group = group


def unmetered_members(items: Iterable[pytest.Item], metered: Iterable[pytest.Item]) -> None:
    """Raises SettingsError for tests that are to be candidates of a group and measure nothing: they would be left out in silence."""
    known = set(metered)
    problems = [
        f"{_place(item, mark)}: {item.nodeid} carries energy_group but does not use energy_meter."
        for item in items
        if item not in known and (mark := item.get_closest_marker(GROUP_MARKER)) is not None
    ]
    if problems:
        raise SettingsError("\n".join(problems), remedy="Name energy_meter in its arguments, or remove the mark.")


def _place(item: pytest.Item, mark: pytest.Mark | None) -> str:
    """Where the mark stands; where its source does not show that (a conftest's hook put it on), the test that carries it."""
    path, first, _ = item.location
    if mark is not None and any(each is mark for each in _written_marks(item)):
        classes = [each.__name__ for each in getattr(getattr(item, "cls", None), "__mro__", ())]
        written = Written(mark.name, mark.args, mark.kwargs, (first or 0) + 1, classes)
        if line := line_of(written, item.config.rootpath / path):
            return f"the marker at {path}:{line}"
    return f"the marker of the test at {path}:{(first or 0) + 1}"


def _written_marks(item: pytest.Item) -> Iterator[pytest.Mark]:
    """The marks that stand in the test's own file, on the function, its parameters, its class or the module: not those that code put on."""
    owners: list[Any] = [getattr(item, "obj", None), *getattr(getattr(item, "cls", None), "__mro__", ()), getattr(item, "module", None)]
    for owner in owners:
        found: Any = vars(owner).get("pytestmark", ()) if isinstance(owner, type) else getattr(owner, "pytestmark", ())
        marks: list[Any] = [getattr(each, "mark", each) for each in (found if isinstance(found, list | tuple) else [found])]
        yield from marks
    called: Any = getattr(item, "callspec", None)
    if called is not None:
        yield from called.marks


def alarms(tests: Iterable[MeteredTest], settings: Settings) -> int:
    """How many verdicts of the collected tests can be a FAIL by chance: they share its error, so that a suite raises no more than a test.

    Counted over what was collected, before -k leaves anything out: what a verdict means must not depend on which others run.
    """
    others = len(settings.base_refs) + (settings.baseline is not None)
    count = 0
    for test in tests:
        limited = [METRICS[name] for line in test.lines for by_metric in line.limits.values() for name in by_metric]
        by_interval = {metric.name for metric in limited if not metric.exact}
        count += len(by_interval) + others * len(by_interval | {"energy_per_query"})
    return max(1, count)


def _marker_lines(item: pytest.Item, mark: pytest.Mark) -> tuple[Line, ...]:
    place = _place(item, mark)

    def where(*_: object) -> str:
        return place

    if mark.args:
        raise SettingsError(
            f"{where()}: energy_budget takes no positional arguments, but got {', '.join(repr(arg) for arg in mark.args)}.",
            remedy="Write it like energy_budget(energy_per_query='0.8 J').",
        )
    return parse_lines(mark.kwargs, where)


def report_problem(session: pytest.Session, problem: str) -> None:
    """Report a usage error from an xdist worker as an error of collection, which the controller shows once and turns red for."""
    session.config.hook.pytest_collectreport(report=pytest.CollectReport(session.nodeid or "energy budgets", "failed", problem, None))


def stale_budgets(
    settings: Settings, session: pytest.Session, config: pytest.Config, items: Sequence[pytest.Item], metered: Mapping[str, MeteredTest]
) -> None:
    """Raises SettingsError for budgets and accepted failures whose test should have been collected and was not, or is not metered."""
    if session.testsfailed or config.getoption("lf", False) or config.getoption("ignore", None) or config.getoption("ignore_glob", None):
        return
    ids = [node_id_of(item) for item in items]
    roots = collected_roots(config)
    problems = []
    named = [(pattern, settings.where[pattern], "budget", settings.names) for pattern in settings.budgets]
    named += [(entry.test, entry.where, "accepted failure", entry.names) for entry in settings.accept]
    for pattern, where, what, names in named:
        matched = [node_id for node_id in ids if names.rank(pattern, node_id) is not None]
        if matched and not any(node_id in metered for node_id in matched):
            problems.append(f"{where}: the {what} for {pattern!r} matches only tests that do not use energy_meter, such as {matched[0]}.")
        if matched or not covered(pattern, roots, config.rootpath, names):
            continue
        near = difflib.get_close_matches(pattern, [name for node_id in ids for name in names.of(node_id)[:1]], n=1, cutoff=0.6)
        hint = f" Did you mean {near[0]!r}?" if near else " Was the test renamed or deleted? Remove the entry, or mend its name."
        problems.append(f"{where}: the {what} for {pattern!r} matches no collected test.{hint}")
    if problems:
        raise SettingsError("\n".join(problems))


def collected_roots(config: pytest.Config) -> tuple[Path, ...] | None:
    """The files and folders that were collected whole; None: the whole suite (no arguments, or testpaths)."""
    if config.args_source is pytest.Config.ArgsSource.TESTPATHS:
        return None
    folder = config.invocation_params.dir
    return tuple((folder / arg).resolve() for arg in config.args if "::" not in str(arg))


def collected_whole(config: pytest.Config) -> bool:
    """Whether whole folders were collected, so that what is missing does not exist: not one file, one node id or the last failures."""
    if is_worker(config) or config.getoption("lf", False):
        return False
    roots = collected_roots(config)
    return roots is None or (all("::" not in str(arg) for arg in config.args) and all(root.is_dir() for root in roots))


def covered(pattern: str, roots: tuple[Path, ...] | None, rootdir: Path, names: Names) -> bool:
    """Whether all tests that ``pattern`` may name have been collected. ``names`` are what its file calls the tests."""
    if roots is None:
        return True
    literal = pattern.partition("::")[0]
    for char in "*?":
        head, found, _ = literal.partition(char)
        literal = head.rpartition("/")[0] if found else literal
    path = (rootdir / ("../" * names.down.count("/")) / names.up / literal).resolve()
    return any(path == root or root in path.parents for root in roots)
