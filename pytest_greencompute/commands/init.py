"""``greencompute init``: a first test, the settings and a GitHub workflow; never overwrites anything."""

from __future__ import annotations

import sys
from pathlib import Path

from pytest_greencompute.commands import Arguments
from pytest_greencompute.errors import SettingsError
from pytest_greencompute.settings.finding import has_settings
from pytest_greencompute.settings.folders import PROJECT, upward
from pytest_greencompute.settings.toml_file import TomlFile
from pytest_greencompute.store.files import write_atomically

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
"""
# Actions are pinned to commits, since a tag can be moved; tests/ci checks this text as it checks action.yml.
WORKFLOW = """name: energy
on: pull_request
permissions: {}
concurrency: # a newer push ends the older run
  group: energy-${{ github.event.pull_request.number }}
  cancel-in-progress: true
jobs:
  energy:
    name: energy
    runs-on: ubuntu-latest # energy is modelled here; a GPU runner's label measures it
    timeout-minutes: 30
    permissions:
      contents: read # to check out
    steps:
      - uses: actions/checkout@df4cb1c069e1874edd31b4311f1884172cec0e10 # v6.0.3
        with:
          persist-credentials: false
      - uses: actions/setup-python@a309ff8b426b58ec0e2a45f0f869d46889d02405 # v6.2.0
        with:
          python-version: "3.12"
      - run: pip install pytest-greencompute
      - run: pytest --energy-budget --energy-only --energy-json=energy.json
      - uses: actions/upload-artifact@043fb46d1a93c77aae656e7c1c64a875d1fc6a0a # v7.0.1
        if: always()
        with:
          name: energy
          path: energy.json
"""


def run(given: Arguments, _: Path) -> int:
    """The command."""
    return init(Path(given["folder"]))


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
    if path.exists():
        print(f"left as it is: {path}")
        return False
    write_atomically(path, text)
    print(f"wrote: {path}")
    return True


def _add_settings(path: Path) -> bool:
    """Append [tool.greencompute] to a pyproject.toml that has none; everything in the file stays as it is."""
    try:
        above = (folder / PROJECT for folder in upward(path.parent) if folder != path.parent.resolve())
        if other := next((each for each in above if has_settings(each)), None):
            print(f"left as it is: {path} ({other} has [tool.greencompute], which holds here, too)")
            return False
        if not path.exists():
            return _write_new(path, SETTINGS.lstrip())
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
