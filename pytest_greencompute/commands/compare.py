"""``greencompute compare A B``: the verdicts of B's runs against A's, from files."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pytest_greencompute.commands import Arguments
from pytest_greencompute.commands.saying import tell
from pytest_greencompute.errors import SettingsError
from pytest_greencompute.estimates.estimate import Aim
from pytest_greencompute.judging.budget import Budget, resolve
from pytest_greencompute.judging.judge import Bench, hardware_of
from pytest_greencompute.judging.saved_sessions import ComparedRun, Sessions, compared
from pytest_greencompute.report.escape import json_text
from pytest_greencompute.results.document import verdict_to_json
from pytest_greencompute.results.result import ShownVerdict
from pytest_greencompute.settings.build import build
from pytest_greencompute.settings.finding import home_of, read_nearest
from pytest_greencompute.settings.settings import Settings
from pytest_greencompute.store.runs import saved_as, store_of
from pytest_greencompute.values.footprint import Footprint
from pytest_greencompute.values.provenance import Json
from pytest_greencompute.values.run import Run

ONLY = {
    "a": "not in {b}: renamed, deleted or not measured",
    "b": "new: not in {a}",
}


def run(given: Arguments, root: Path) -> int:
    """The command."""
    return compare(given["a"], given["b"], root, given)


def compare(a: str, b: str, root: Path, given: Arguments) -> int:
    """Print the verdicts. 0: all PASS; 1: some FAIL; 3: no FAIL, but something could not be judged. Raises SettingsError."""
    options = {name: given[name] for name in ("tolerance", "confidence") if given.get(name) is not None}
    # The terms of pyproject.toml hold here too; the option that it needs for them is implied.
    settings = build({"budget": True, **options}, read_nearest(root), os.environ, root)
    base, head = sessions_of(a, root), sessions_of(b, root)
    bench = Bench(Aim(domains=settings.domains, footprint=settings.footprint or Footprint()), baseline=a)
    found = compared(base, head, bench, lambda run: _budget(run, settings))
    if given.get("json"):
        print(json_text(_as_json(found), sys.stdout.encoding))
    else:
        _print(found, {"a": a, "b": b})
    words = {verdict.word for each in found for verdict in each.verdicts} | {"UNMEASURED" for each in found if each.only == "a"}
    if "FAIL" in words:
        return 1
    return 0 if words == {"PASS"} else 3


def sessions_of(name: str, root: Path) -> Sessions:
    """The sessions of a JSON report, of a folder of them, or of a baseline. Raises SettingsError where there is none of these."""
    store = store_of(home_of(root))
    found = saved_as(name, root, store).runs()
    if not found:
        what = "holds no JSON report" if (root / name).is_dir() else f"is no file, no folder and no baseline in {store.where}"
        raise SettingsError(f"{name!r} {what}.", remedy="pytest --energy-json PATH writes a report, --energy-save NAME a baseline.")
    return found


def _budget(run: Run, settings: Settings) -> Budget:
    return resolve(settings.lines_for(run.test), hardware_of([run], run.provenance.machine))


def _print(found: Sequence[ComparedRun], names: Mapping[str, str]) -> None:
    if not found:
        tell(f"Neither {names['a']} nor {names['b']} holds a measured run.")
    for each in found:
        for verdict in each.verdicts:
            tell(f"{verdict.word}: {verdict.reason}")
        if each.only:
            tell(f"{'UNMEASURED' if each.only == 'a' else 'note'}: {each.subject}: {ONLY[each.only].format(**names)}")


def _as_json(found: Sequence[ComparedRun]) -> list[dict[str, Json]]:
    return [
        {
            "test": each.test,
            "name": each.name,
            "only_in": each.only or None,
            "verdicts": [verdict_to_json(ShownVerdict.of(verdict)) for verdict in each.verdicts],
        }
        for each in found
    ]
