"""A session as JUnit XML, for the tab "Tests" of GitLab and the like: a suite for each kind of hardware, a case for each run.

Sessions of pytest's own have ``--junitxml``; this is for what was gathered. Text that somebody else chose is escaped by the library, and
holds no character that XML has none of.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

from pytest_greencompute.report.escape import printable
from pytest_greencompute.report.junit import properties
from pytest_greencompute.results.result import Result, called
from pytest_greencompute.results.summary import Summary

SUITE = "energy"


def text(sessions: Sequence[Summary], _: Path) -> str:
    """The XML of sessions."""
    root = ET.Element("testsuites")
    for session in sessions:
        by_hardware: dict[str, list[Result]] = {}
        for result in session.results:
            by_hardware.setdefault(result.hardware, []).append(result)
        for hardware, results in by_hardware.items():
            _suite(root, printable(f"{SUITE} {hardware}".strip()), results)
        if session.bad_news:
            suite = ET.SubElement(root, "testsuite", name=SUITE, tests="1", failures="1")
            _failed(ET.SubElement(suite, "testcase", classname=SUITE, name="the whole"), session.bad_news)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=False) + "\n"


def _suite(root: ET.Element, name: str, results: Sequence[Result]) -> None:
    reds = sum(result.red for result in results)
    suite = ET.SubElement(root, "testsuite", name=name, tests=str(len(results)), failures=str(reds))
    for result in results:
        place = printable(f"{result.test.partition('::')[0]} {result.hardware}".strip())
        case = ET.SubElement(suite, "testcase", classname=place, name=printable(called(result.test, result.name)))
        case.set("time", f"{result.seconds:.3f}")
        kept = ET.SubElement(case, "properties")
        for key, value in properties([result]):
            ET.SubElement(kept, "property", name=printable(key), value=printable(value))
        _failed(case, [f"{verdict.word}: {verdict.reason}" for verdict in result.verdicts if verdict.effect == "fail"])


def _failed(case: ET.Element, sentences: Sequence[str]) -> None:
    if sentences:
        shown = [printable(each) for each in sentences]
        ET.SubElement(case, "failure", message=shown[0]).text = "\n".join(shown)
