"""``greencompute``: doctor and init.

Exit codes: 0 done; 1 doctor found no meter that works, or init had nothing to write; 2 bad usage, or a file that cannot be written.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_greencompute.errors import GreencomputeError


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="greencompute", description="Energy budgets for model inference: set-up and checks.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    doctor_parser = commands.add_parser("doctor", help="list the meters, what each can do here, and the remedy for each refusal")
    doctor_parser.add_argument("--json", action="store_true", help="print JSON")
    init_parser = commands.add_parser("init", help="write a first test, the settings and a GitHub workflow; never overwrites anything")
    init_parser.add_argument("folder", nargs="?", default=".", help="the project's folder (default: this one)")
    given = parser.parse_args(argv)
    try:
        return doctor(as_json=given.json) if given.command == "doctor" else init(Path(given.folder))
    except GreencomputeError as error:
        print(error, file=sys.stderr)
        return 2


def doctor(*, as_json: bool) -> int:
    """Print what every meter can do here. 1 where none works that reads rather than models."""
    from pytest_greencompute import machine
    from pytest_greencompute.clock import RealClock
    from pytest_greencompute.meters.base import Ability, MeterOptions
    from pytest_greencompute.meters.registry import ORDER_BY_DEFAULT, meter, names

    options = MeterOptions(RealClock(), os.environ)
    found: dict[str, list[Ability]] = {}
    for name in names({}):
        try:
            found[name] = list(meter(name, {}).abilities(options))
        except GreencomputeError as error:
            found[name] = [Ability("", works=False, says=error.message, remedy=error.remedy)]
    works = any(ability.works for name in ORDER_BY_DEFAULT for ability in found.get(name, ()))
    facts = machine.facts(os.environ)
    if as_json:
        _print_json(found, facts)
    else:
        _print_abilities(found, facts, ORDER_BY_DEFAULT, works=works)
    return 0 if works else 1


def _print_json(found: dict[str, list[Any]], facts: dict[str, Any]) -> None:
    meters = [
        {"meter": name, "domain": each.domain, "works": each.works, "says": each.says, "remedy": each.remedy}
        for name, abilities in found.items()
        for each in abilities
    ]
    print(json.dumps({"machine": facts, "meters": meters}, indent=1, ensure_ascii=False))


def _print_abilities(found: dict[str, list[Any]], facts: dict[str, Any], default: Sequence[str], *, works: bool) -> None:
    print(f"{facts.get('cpu') or 'unknown processor'}, {facts.get('os')}, Python {facts.get('python')}\n")
    for name, abilities in found.items():
        used = "used by default" if name in default else "only where listed"
        print(f"{name} ({used})")
        for each in abilities:
            print(f"  {'yes' if each.works else 'no '}  {f'{each.domain}: ' if each.domain else ''}{each.says}")
            if each.remedy:
                print(f"       {each.remedy}")
    if not works:
        print('\nNo meter reads energy here. List a model to use one: meters = ["nvml", "rapl", "cputime"] under [tool.greencompute].')


TEST = '''"""A first energy budget. Replace `model` and `queries` by your own, then tighten the limits."""

import pytest


def model(batch):
    """Any callable on a batch: a function, an nn.Module, a transformers pipeline. One answer per query, in order."""
    answers = []
    for query in batch:
        for _ in range(1000):  # stands for a model's work
            words = sorted(query.split())
        answers.append(words[-1])
    return answers


@pytest.mark.energy_budget(energy_per_query="0.5 J", latency_p95="50 ms", accuracy=0.9)
def test_first_budget(energy_meter):
    queries = ["a quick brown fox", "the lazy dog", "more compute is not always better"] * 100
    references = ["quick", "the", "not"] * 100
    run = energy_meter.measure(model, queries, batch_size=10, references=references)
    assert len(run.outputs) == len(queries)
'''

SETTINGS = """
[tool.greencompute]
meters = ["nvml", "rapl", "cputime"]  # in order of preference; "cputime" models the energy, and says so
max_seconds = 30
"""

WORKFLOW = """name: energy
on: pull_request
permissions:
  contents: read
jobs:
  budgets:
    runs-on: ubuntu-latest # energy is modelled here; a GPU runner's label measures it
    timeout-minutes: 30
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: "3.12"
      - run: pip install pytest-greencompute
      - run: pytest --energy-budget --energy-only --energy-json energy.json
      - uses: actions/upload-artifact@v4
        if: always()
        with:
          name: energy
          path: energy.json
"""


def init(folder: Path) -> int:
    """Write what is missing; say what was written and what was there. 1 where everything was there already."""
    if not folder.is_dir():
        print(f"{folder} is not a folder.", file=sys.stderr)
        return 2
    wrote = [
        _write_new(folder / "tests" / "test_energy.py", TEST),
        _add_settings(folder / "pyproject.toml"),
        _write_new(folder / ".github" / "workflows" / "energy.yml", WORKFLOW),
    ]
    if any(wrote):
        print("\nNext: pytest --energy-budget tests/test_energy.py")
    return 0 if any(wrote) else 1


def _write_new(path: Path, text: str) -> bool:
    from pytest_greencompute.store.files import write_atomically

    if path.exists():
        print(f"left as it is: {path}")
        return False
    write_atomically(path, text)
    print(f"wrote: {path}")
    return True


def _add_settings(path: Path) -> bool:
    """Append [tool.greencompute] to a pyproject.toml that has none; everything in the file stays as it is."""
    from pytest_greencompute.errors import SettingsError
    from pytest_greencompute.store.files import write_atomically
    from pytest_greencompute.toml_file import TomlFile

    if not path.exists():
        return _write_new(path, SETTINGS.lstrip())
    try:
        file = TomlFile(path)
    except SettingsError as error:
        print(f"left as it is: {error}")
        return False
    if "greencompute" in file.data.get("tool", {}):
        print(f"left as it is: {path} (it has [tool.greencompute])")
        return False
    write_atomically(path, file.text.rstrip("\n") + "\n" + SETTINGS)
    print(f"added [tool.greencompute]: {path}")
    return True


if __name__ == "__main__":
    raise SystemExit(main())
