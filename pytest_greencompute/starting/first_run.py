"""The first measurement of a test that was just written: by pytest in a process of its own, since it runs the project's code."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_greencompute.errors import UNREADABLE
from pytest_greencompute.machine.processes import descendants, exit_status, kill
from pytest_greencompute.results.document import summary_of
from pytest_greencompute.results.summary import Summary
from pytest_greencompute.starting.limits import FirstLimits, limits_of

SECONDS = 5  # for each run of a test
LONGEST_S = 180.0  # for all of it, imports included
# What a run costs is to be known, not judged; nothing of it is kept, and no page of a pipeline tells of it.
OPTIONS = (
    *("--energy-budget", f"--energy-max-seconds={SECONDS}", "--energy-enforce=warn", "--energy-unmeasured=warn", "--energy-modelled=warn"),
    *("--energy-github=off", "-p", "no:cacheprovider", "-q"),
)
# A second look by the meter that every machine has, as a runner without a GPU will see it.
MODELLED = ("--energy-meter=cputime",)
NO_GPU = {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": ""}


@dataclass(frozen=True, slots=True)
class FirstRun:
    """What came of it: for each test that was measured its first limits, one for each way it was measured. ``why_not`` says why there are
    none, with pytest's own words."""

    limits: Mapping[str, tuple[FirstLimits, ...]]
    why_not: str = ""


def measured(tests: Sequence[str], folder: Path, environ: Mapping[str, str]) -> FirstRun:
    """Measure ``tests`` (files or node ids, from ``folder``); where a meter measured, once more modelled and without a GPU."""
    session = _session(tests, folder, environ)
    if isinstance(session, str):
        return FirstRun({}, session)
    found = _limits(session)
    if not found:
        return FirstRun({}, _why(session))
    if all(each.method != "modelled" for each in session.facts.sources):
        modelled = _session(tests, folder, {**environ, **NO_GPU}, MODELLED)
        second = {} if isinstance(modelled, str) else _limits(modelled)
        return FirstRun({test: (first, *([second[test]] if test in second else [])) for test, first in found.items()})
    return FirstRun({test: (first,) for test, first in found.items()})


def _limits(session: Summary) -> dict[str, FirstLimits]:
    each = {result.test: limits_of(result, session) for result in session.results if result.name is None}
    broken = {test for test, _ in session.broken}
    return {test: limits for test, limits in each.items() if limits is not None and test not in broken}


def _why(session: Summary) -> str:
    """Why a session that ran gives no limits."""
    reasons = [reason for _, reason in (*session.broken, *session.not_measured)]
    reasons += [result.problem for result in session.results if result.problem]
    reasons += [verdict.reason for result in session.results for verdict in result.verdicts if verdict.word != "PASS"]
    return next(iter([*reasons, *([session.facts.problem] if session.facts.problem else [])]), "no energy was measured")


def _session(tests: Sequence[str], folder: Path, environ: Mapping[str, str], more: Sequence[str] = ()) -> Summary | str:
    """What a session found; or why there is none."""
    with tempfile.TemporaryDirectory(prefix="greencompute-") as scratch:
        report = Path(scratch) / "energy.json"
        command = [sys.executable, "-m", "pytest", *OPTIONS, *more, f"--energy-json={report}", *tests]
        status, said = _ended(command, folder, environ)
        if status is None:
            return f"pytest had not ended after {LONGEST_S:.0f} s"
        try:
            return summary_of(json.loads(report.read_text(encoding="utf-8")), samples=False)
        except UNREADABLE:
            return reason_in(said) or f"pytest ended with status {exit_status(status)} and said nothing"


def _ended(command: Sequence[str], folder: Path, environ: Mapping[str, str]) -> tuple[int | None, str]:
    """How a process has ended, and what it said; None where it took too long, and was ended with all that it had started."""
    with tempfile.TemporaryFile() as output:  # no pipe, which what it leaves in the background would hold open
        process = subprocess.Popen(
            command, cwd=folder, env=dict(environ), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            status = process.wait(LONGEST_S)
        except subprocess.TimeoutExpired:
            return None, ""
        finally:
            if process.poll() is None:
                others = [*descendants(of=str(process.pid))]  # while they can be told
                process.kill()
                kill(others)
                process.wait()
        output.seek(0)
        return status, output.read().decode("utf-8", errors="replace")


def reason_in(said: str) -> str:
    """The last line of what pytest said that tells a reason: one that names an error, else the last of all."""
    lines = [line.strip() for line in said.splitlines() if line.strip(" =-_")]
    errors = [line for line in lines if re.search(r"\b\w*(?:Error|Exception)\b|^ERROR|No module named", line)]
    return next((re.sub(r"^E\s+", "", line) for line in reversed(errors or lines)), "")
