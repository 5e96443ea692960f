"""From collected tests to metered ones: markers read, budgets looked up, and stale budgets found out."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.hooks.marks import Written, line_of
from pytest_greencompute.hooks.names import is_worker
from pytest_greencompute.judging.budget import Line, Names, check_clashes, narrowest_first, parse_lines
from pytest_greencompute.meters.base import Meter
from pytest_greencompute.session.session import Session
from pytest_greencompute.session.tests import MeteredTest
from pytest_greencompute.settings.addopts import addopts_of
from pytest_greencompute.settings.settings import Settings
from pytest_greencompute.values.metrics import METRICS

if TYPE_CHECKING:
    from pytest_greencompute.session.groups import Group

GROUP_MARKER = "energy_group"


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


# What a user selects tests by, beside -k, -m and node ids: pytest's own options, and those of plugins that share a suite out.
SELECTING = {
    "keyword": ("-k",),
    "markexpr": ("-m",),
    "deselect": ("--deselect",),
    "lf": ("--lf", "--last-failed"),
    "stepwise": ("--sw", "--stepwise"),
    "ignore": ("--ignore",),
    "ignore_glob": ("--ignore-glob",),
    "testmon": ("--testmon",),
    "picked": ("--picked",),
    "energy_skip": ("--energy-skip",),
}
SHARING = ("splits", "num_shards", "test-group-count")


def why_nothing(session: pytest.Session, metered: Set[str], skipped: Sequence[str], *, left_out: bool) -> tuple[str, bool]:
    """Why no test was judged, in words, and whether the user asked for it by selecting other tests.

    ``metered`` are the tests that use energy_meter, ``skipped`` the files that speak of it and were skipped whole. ``left_out``: the user
    left them out by name, with --energy-skip.
    """
    config = session.config
    chosen = metered if config.pluginmanager.hasplugin("dsession") else metered & {item.nodeid for item in session.items}
    if chosen or skipped:
        named = sorted([*chosen, *skipped])
        more = f" and {len(named) - 1} more" if len(named) > 1 else ""
        return f"nothing was judged: no test that uses energy_meter measured anything ({named[0]}{more})", False
    by_option = (left_out and not _typed(config, "--energy-budget")) or _selected(config)
    by_option = by_option or any((config.getoption(name, None) or 0) > 1 for name in SHARING)
    if metered:
        how = "" if by_option else ", and not by -k, -m or another option that was typed"
        return f"nothing was judged: the tests that use energy_meter ({len(metered)}) were left out{how}", by_option
    return "no test uses energy_meter, so nothing was measured", by_option or _part_selected(config)


def _selected(config: pytest.Config) -> bool:
    """Whether the user selected tests, or the configuration file of a suite that is metered as a rule does.

    Who types --energy-budget wants it measured, whatever ``addopts`` leaves out.
    """
    chosen = [flags for name, flags in SELECTING.items() if config.getoption(name, None)]
    if not _typed(config, "--energy-budget"):
        return bool(chosen)
    by_file = addopts_of(config.inipath)
    return any(_typed(config, *flags) or not _has(by_file, flags) for flags in chosen)


def _typed(config: pytest.Config, *flags: str) -> bool:
    """Whether an option is on the command line itself: a variable or a file gives it to every session."""
    return _has(map(str, config.invocation_params.args), flags)


def _has(words: Iterable[str], flags: Sequence[str]) -> bool:
    return any(word.partition("=")[0] == flag or (len(flag) == 2 and word.startswith(flag)) for word in words for flag in flags)


def _part_selected(config: pytest.Config) -> bool:
    """Whether the user named tests, or files and folders of a suite that is metered as a rule (``addopts``, ``budget = true``).

    Who types --energy-budget beside a folder wants what is there measured.
    """
    if any("::" in str(arg) for arg in config.args):
        return True
    roots, top = collected_roots(config), config.rootpath.resolve()
    whole = roots is None or any(root == top or root in top.parents for root in roots)
    return not whole and not _typed(config, "--energy-budget")


def gone_tests(session: pytest.Session, config: pytest.Config, measuring: Session, metered: Container[str]) -> list[str]:
    """Sentences on the tests that the newest session of the baseline holds, and that measure nothing any more: as far as can be told.

    A test that runs and does not use energy_meter; and where the whole suite was collected, one that is not there.
    """
    baseline, ids = measuring.settings.baseline, _ids(session, config)
    if baseline is None or not measuring.saved or ids is None:
        return []
    whole, roots = _whole(config, measuring), collected_roots(config)
    found = []
    for test in dict.fromkeys(run.test for run in measuring.saved[-1] if run.metered and run.test not in metered):
        if test in ids:
            found.append(f"{test} was measured in baseline {baseline!r} and does not use energy_meter any more")
        elif whole and covered(test, roots, config.rootpath, Names()):
            found.append(f"{test} was measured in baseline {baseline!r} and is no test any more: renamed, deleted, or its file is skipped")
    return found


def gone_since(session: pytest.Session, config: pytest.Config, measuring: Session, metered: Iterable[str]) -> tuple[list[str], list[str]]:
    """As ``gone_tests`` of the commits that are compared with: those that measure nothing any more, and those that are no tests any more.

    A pull request may rename a test, so the latter are named among what it makes laxer, and are not red.
    """
    ids = _ids(session, config)
    if measuring.bases is None or ids is None:
        return [], []
    here, known = ({each.partition("[")[0] for each in group} for group in (metered, ids))
    whole, roots = _whole(config, measuring), collected_roots(config)
    plain, gone = [], []
    for ref, tests in measuring.bases.metered().items():
        for test in dict.fromkeys(each for each in tests if each not in here):
            if test in known:
                plain.append(f"{test} is measured at {ref} and does not use energy_meter any more")
            elif whole and covered(test, roots, config.rootpath, Names()):
                gone.append(f"{test} is measured at {ref} and is no test any more: renamed, deleted, or its file is skipped")
    return plain, gone


def _ids(session: pytest.Session, config: pytest.Config) -> set[str] | None:
    """The tests that this session has collected; None where that was not done to its end, or by others."""
    items = getattr(session, "items", None)
    ended = session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)
    return (
        None if items is None or not ended or config.getoption("continue_on_collection_errors", None) else {item.nodeid for item in items}
    )


def _whole(config: pytest.Config, measuring: Session) -> bool:
    """Whether all tests of what was collected were to run."""
    selected = any(config.getoption(name, None) for name in SELECTING) or any((config.getoption(name, None) or 0) > 1 for name in SHARING)
    return not selected and not measuring.settings.skip and collected_whole(config)


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
