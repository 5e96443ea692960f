"""The files of a start, as texts: the first test, the settings, and a pipeline for GitHub or GitLab."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from pytest_greencompute.starting.found import Home, Remote
from pytest_greencompute.starting.libraries import ModelLibrary
from pytest_greencompute.starting.limits import FirstLimits, printable

MOST_SUGGESTED = 5
LONGEST_REASON = 100
WIDE = {"energy_per_query": "100 J", "latency_p95": "10 s"}
NEXT = """\
# `pytest --energy-budget --energy-update tighten` says what to write to come closer, `loosen` what your own model needs."""


# --- the test ----------------------------------------------------------------------------------------------------------


def first_test(library: ModelLibrary, home: Home, limits: Sequence[FirstLimits] = (), *, day: str = "", why_wide: str = "") -> str:
    """The first test: with ``limits``; with wide ones, where ``why_wide`` says why; or bare, as it is measured first."""
    blank = "\n\n" if library.model.startswith("def ") else "\n"
    marker = _limited(library, limits, day) if limits else _wide(library, why_wide) if why_wide else ""
    parts = [
        f'"""A first energy budget: {library.stands_in}."""\n\n{library.imports}\n{blank}{_replace(home)}\n{library.model}',
        f"{marker}def test_first_budget(energy_meter):\n{library.test}",
        *filter(None, [library.more]),
    ]
    return "\n\n\n".join(parts) + "\n"


def _replace(home: Home) -> str:
    """The one comment on what to replace, with what was found in the project."""
    say = "# Replace the model below by your own: any callable on a batch of queries, one answer for each, in order."
    if not home.suggestions:
        return say
    return "\n".join([f"{say} Found in this project:", *(f"#     {each.line}" for each in home.suggestions[:MOST_SUGGESTED])])


def _limited(library: ModelLibrary, limits: Sequence[FirstLimits], day: str) -> str:
    accuracy = next((each.accuracy for each in limits if each.accuracy is not None), None) if library.accuracy else None
    lines = [f"# Limits: at least three times what was measured on {day}; they hold for the GPU or the meter that it was measured with."]
    lines += [f"# {each.measured}" for each in limits]
    lines += [NEXT, "@pytest.mark.energy_budget(", *([f"    accuracy={accuracy},"] if accuracy is not None else []), "    on=["]
    for each in limits:
        row = {each.on[0]: each.on[1], **each.limits}
        lines += ["        {", *(f"            {_quoted(key)}: {_quoted(value)}," for key, value in row.items()), "        },"]
    return "\n".join([*lines, "    ],", ")", ""])


def _wide(library: ModelLibrary, why: str) -> str:
    limits = [*(f'    {name}="{limit}",' for name, limit in WIDE.items()), *(["    accuracy=0.5,"] if library.accuracy else [])]
    say = f"# Wide limits, since nothing was measured: {printable(why)[:LONGEST_REASON]}"
    return "\n".join([say, NEXT, "@pytest.mark.energy_budget(", *limits, ")", ""])


def _quoted(text: str) -> str:
    """A string of Python, and of TOML, that means ``text``, which is printable."""
    plain = '"' in text and "'" not in text and "\\" not in text
    return f"'{text}'" if plain else json.dumps(text, ensure_ascii=False)


# --- the settings ------------------------------------------------------------------------------------------------------


def settings(*, benchmarks: bool = False) -> str:
    """What is appended to pyproject.toml."""
    more = ["benchmarks = true  # tests that use the fixture of pytest-benchmark or pytest-codspeed are metered as they are"]
    meters = 'meters = ["nvml", "rapl", "cputime"]  # in order of preference; "cputime" models the energy, and says so'
    return "\n".join(["", "[tool.greencompute]", meters, *(more if benchmarks else []), ""])


def benchmark_budgets(limits: Mapping[str, Sequence[FirstLimits]], day: str) -> str:
    """Budgets of benchmarks by node id, for the same file."""
    lines = ["", f"# At least three times what was measured on {day}; closer: pytest --energy-budget --energy-update tighten"]
    for test, each in ((test, each) for test, rows in limits.items() for each in rows):
        lines += [f"# {each.measured}", f"[[tool.greencompute.budgets.{_quoted(test)}.on]]", f"{each.on[0]} = {_quoted(each.on[1])}"]
        lines += [*(f"{name} = {_quoted(limit)}" for name, limit in each.limits.items()), ""]
    return "\n".join(lines)


# --- the pipeline ------------------------------------------------------------------------------------------------------

# Actions are pinned to commits, since a tag can be moved; tests/ci checks these texts as it checks action.yml.
GITHUB = """name: NAME
on: pull_request
permissions: {}
concurrency: # a newer push ends the older run
  group: NAME-${{ github.event.pull_request.number }}
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
          python-version: "PYTHON"
      - run: INSTALL
      - run: PYTEST --energy-json=energy.json
      - uses: actions/upload-artifact@043fb46d1a93c77aae656e7c1c64a875d1fc6a0a # v7.0.1
        if: always()
        with:
          name: energy
          path: INSIDEenergy.json
"""
GITLAB = """# Written by `greencompute init`. Energy is modelled on a runner without a GPU; `tags:` of a GPU runner measure it.
NAME-budget:
  stage: STAGE
  image: python:PYTHON
  timeout: 30 minutes
  interruptible: true # a newer push ends the older run, where the project cancels redundant pipelines
  rules:
    - if: $CI_PIPELINE_SOURCE == "merge_request_event"
    - if: $CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH
  variables:
    PIP_DISABLE_PIP_VERSION_CHECK: "1"
  script:
    - INSTALL
    - PYTEST --energy-json=energy.json --junitxml=energy-junit.xml
  artifacts:
    when: always # a red run needs its report most
    expire_in: 30 days
    paths: [INSIDEenergy.json]
    reports:
      junit: INSIDEenergy-junit.xml
"""
RUN = "python -m pytest --energy-budget --energy-only"
PYTHONS = ("3.12", "3.13", "3.14", "3.11", "3.10")
PIP = "python -m pip install"
FOR_TESTS = ("test", "tests", "testing", "dev")


def name_of(remote: Remote) -> str:
    """What the pipeline is called: projects in folders of one repository have one each."""
    return "-".join(["energy", *filter(None, remote.inside.split("/"))])


def pipeline(home: Home, remote: Remote, library: ModelLibrary, *, existing: str = "") -> str:
    """The workflow, or GitLab's job. ``existing`` is the pipeline that includes it, whose stages it has to know."""
    text = GITHUB if remote.forge == "GitHub" else GITLAB
    install, run = install_line(home, library), RUN
    if remote.inside:
        text = text.replace(
            "    timeout-minutes: 30\n", f"    timeout-minutes: 30\n    defaults:\n      run:\n        working-directory: {remote.inside}\n"
        )
        install = install if remote.forge == "GitHub" else f"cd {remote.inside} && {install}"  # the lines of a script share their shell
    words = {"PYTHON": python_for(home.pythons), "INSTALL": install, "PYTEST": run, "STAGE": stage_of(existing), "NAME": name_of(remote)}
    words["INSIDE"] = f"{remote.inside}/" if remote.inside else ""
    return re.sub("|".join(words), lambda found: words[found.group()], text)


def install_line(home: Home, library: ModelLibrary) -> str:
    """What installs the project, what its tests need, and us."""
    ours = f"'pytest-greencompute[{library.extra}]'" if library.extra else "pytest-greencompute"
    extra = next((each for each in FOR_TESTS if each in home.extras), "")
    group = next((each for each in FOR_TESTS if each in home.groups), "")
    wanted = [f"-r {path}" for path in home.requirements if re.fullmatch(r"requirements([-_.]?(dev|test|tests))?\.txt", path)]
    own = ["-e ." if not extra else f"-e '.[{extra}]'"] if home.installable else []
    listed = [*own, *([f"--group {group}"] if group else []), *wanted]
    brought = listed and (home.declared or frozenset()).intersection(library.packages)
    # The test of a server imports no client, and what it does need is our extra.
    library_itself = [library.packages[0]] if library.packages and not library.extra and not brought else []
    newer = [f"{PIP} 'pip>=25.1' &&"] if group else []  # older ones know no --group; the image python:3.12 has one
    return " ".join([*newer, PIP, ours, *library_itself, *listed])


def python_for(asked: str) -> str:
    """A Python that a project asks for, as ">=3.11,<3.13" says it."""
    bounds = re.findall(r"(>=|<=|>|<|~=|==|!=)\s*(\d+)\.(\d+)(\.\d+)?", asked)
    return next((each for each in PYTHONS if all(_allows(each, *bound) for bound in bounds)), PYTHONS[0])


def _allows(version: str, sign: str, major: str, minor: str, patch: str) -> bool:
    """Whether some Python of that version is within a bound."""
    python, bound = tuple(map(int, version.split("."))), (int(major), int(minor))
    if patch and sign in {"~=", "!="}:
        return sign == "!=" or python == bound
    most = {"<=": python <= bound, "<": python < bound, "==": python == bound, "!=": python != bound}
    return most.get(sign, python >= bound)


def stage_of(existing: str) -> str:
    """A stage that a pipeline has: "test" wherever it is there."""
    told = re.search(r"^stages:[ \t]*(?:\[([^\]\n]*)\]|\n((?:[ \t]*-[^\n]*\n?)+))", existing, re.MULTILINE)
    stages = re.findall(r"[A-Za-z0-9._-]*[A-Za-z0-9][A-Za-z0-9._-]*", re.sub(r"#.*", "", told.group(1) or told.group(2))) if told else []
    return "test" if not stages or "test" in stages else stages[0]
