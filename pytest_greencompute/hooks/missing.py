"""What a session did not measure, and whether somebody wanted it so: tests that were left out, or are gone since they were measured."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence, Set

import pytest

from pytest_greencompute.hooks.collecting import collected_roots, collected_whole, covered
from pytest_greencompute.judging.budget import Names
from pytest_greencompute.session.session import Session
from pytest_greencompute.settings.addopts import addopts_of
from pytest_greencompute.values.names import listed

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


def why_nothing(
    session: pytest.Session, metered: Set[str], skipped: Sequence[str], uncollected: Sequence[str], *, left_out: bool
) -> tuple[str, bool]:
    """Why no test was judged, in words, and whether the user asked for it by selecting other tests.

    ``metered`` are the tests that use energy_meter, ``skipped`` the files that speak of it and were skipped whole, ``uncollected`` those
    that broke as they were collected. ``left_out``: the user left them out by name, with --energy-skip.
    """
    config = session.config
    chosen = metered if config.pluginmanager.hasplugin("dsession") else metered & {item.nodeid for item in session.items}
    if chosen or skipped:
        named = listed(sorted([*chosen, *skipped]), 1)
        return f"nothing was judged: no test that uses energy_meter measured anything ({named})", False
    by_option = (left_out and not _typed(config, "--energy-budget")) or _selected(config)
    by_option = by_option or any((config.getoption(name, None) or 0) > 1 for name in SHARING)
    if metered:
        how = "" if by_option else ", and not by -k, -m or another option that was typed"
        return f"nothing was judged: the tests that use energy_meter ({len(metered)}) were left out{how}", by_option
    if uncollected:
        return f"nothing was judged: {listed(sorted(uncollected), 1)}, which speaks of energy_meter, was not collected", False
    return "no test uses energy_meter, so nothing was measured", by_option or _part_selected(config)


def cut_off(session: pytest.Session, metered: Set[str], ended: Set[str]) -> list[str]:
    """The tests that were to be measured and did not come to their end, since the session was stopped: by ``pytest.exit``, ``-x``, Ctrl-C.

    Of tests that xdist's workers run, which this process does not know, there are none: pytest is interrupted where those are stopped.
    """
    to_run = dict.fromkeys(item.nodeid for item in getattr(session, "items", ()))
    return [node_id for node_id in to_run if node_id in metered and node_id not in ended]


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
