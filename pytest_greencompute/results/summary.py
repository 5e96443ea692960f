"""A session's results as every report shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_greencompute.judging.verdict import ORDER
from pytest_greencompute.results.session import Facts
from pytest_greencompute.values.footprint import Footprint


@dataclass(frozen=True, slots=True)
class Summary:
    """One session: ``results`` are its runs as plain dicts (``runfile.run_to_json``), ``metered`` is how many tests use the fixture.

    ``enabled``: it measured (``--energy-budget``). ``broken`` are metered tests that failed for a reason of their own, with it.
    ``total`` is the verdict of ``--energy-total`` as a plain dict. ``said`` are other sentences for people, each with whether it is bad
    news. ``created`` and ``exit_status`` are known where it has ended.
    """

    enabled: bool
    facts: Facts
    results: Sequence[Mapping[str, Any]]
    metered: int = 0
    not_measured: Sequence[tuple[str, str]] = ()
    broken: Sequence[tuple[str, str]] = ()
    total: Mapping[str, Any] | None = None
    said: Sequence[tuple[str, bool]] = ()
    footprint: Footprint | None = None
    created: str = ""
    exit_status: int = 0

    @property
    def currency(self) -> str:
        """Of the amounts of money; empty where nobody asked for any."""
        return "" if self.footprint is None else self.footprint.currency

    @property
    def verdicts(self) -> list[Mapping[str, Any]]:
        """All verdicts, those of runs first; each as a plain dict."""
        found: list[Mapping[str, Any]] = [verdict for run in self.results for verdict in run["verdicts"]]
        return [*found, *([self.total] if self.total else [])]

    @property
    def word(self) -> str:
        """The worst word of all verdicts; '' where nothing was judged."""
        words = {verdict["verdict"] for verdict in self.verdicts}
        return next((word for word in ORDER if word in words), "")

    @property
    def bad_news(self) -> list[str]:
        """Sentences about what went wrong, but for the verdicts of runs: tests that broke, a total over its limit, a report not written."""
        total = [str(self.total["reason"])] if self.total and self.total["effect"] == "fail" else []
        broken = [f"{called({'test': test, 'name': None})} failed: {reason}" for test, reason in self.broken]
        return [*broken, *total, *(sentence for sentence, bad in self.said if bad)]

    @property
    def reds(self) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
        """The runs' verdicts that turn the build red, each with its run."""
        return [(run, verdict) for run in self.results for verdict in run["verdicts"] if verdict["effect"] == "fail"]

    @property
    def red(self) -> bool:
        """Whether anything of this turns the build red."""
        return bool(self.reds or self.bad_news)

    @property
    def headline(self) -> str:
        """The word for the whole: 'FAIL', 'PASS', or 'PASS, red' where something else than a verdict of that word is red."""
        nothing = "no budget" if self.results else "nothing measured"
        return f"{self.word or nothing}{', red' if self.red and self.word != 'FAIL' else ''}"


def called(run: Mapping[str, Any]) -> str:
    """'test_chat[long] (prefill)': the test without its file, and the run's name."""
    node: str = run["test"].partition("::")[2] or run["test"]
    return node if run["name"] is None else f"{node} ({run['name']})"
