"""A session's results as every report shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_greencompute.results.result import Result, ShownVerdict, called, worst
from pytest_greencompute.results.session import Facts
from pytest_greencompute.values.footprint import Footprint


@dataclass(frozen=True, slots=True)
class Summary:
    """One session: ``results`` are its runs, ``metered`` is how many tests use the fixture.

    ``enabled``: it measured (``--energy-budget``). ``broken`` are metered tests that failed for a reason of their own, with it.
    ``total`` is the verdict of ``--energy-total``. ``said`` are other sentences for people, each with whether it is bad
    news. ``created`` and ``exit_status`` are known where it has ended.
    """

    enabled: bool
    facts: Facts
    results: Sequence[Result]
    metered: int = 0
    not_measured: Sequence[tuple[str, str]] = ()
    broken: Sequence[tuple[str, str]] = ()
    total: ShownVerdict | None = None
    said: Sequence[tuple[str, bool]] = ()
    footprint: Footprint | None = None
    created: str = ""
    exit_status: int = 0

    @property
    def currency(self) -> str:
        """Of the amounts of money; empty where nobody asked for any."""
        return "" if self.footprint is None else self.footprint.currency

    @property
    def when(self) -> str:
        """'2026-11-26 18:00:00', UTC; empty where it has not ended."""
        return self.created.replace("T", " ").removesuffix("Z")

    @property
    def commit(self) -> str:
        """The commit that was measured; empty where that is not known."""
        return self.facts.machine.commit or ""

    @property
    def dirty(self) -> bool:
        """Whether the tree differed from the commit."""
        return bool(self.facts.machine.dirty)

    @property
    def verdicts(self) -> list[ShownVerdict]:
        """All verdicts, those of runs first."""
        found = [verdict for result in self.results for verdict in result.verdicts]
        return [*found, *([self.total] if self.total else [])]

    @property
    def word(self) -> str:
        """The worst word of all verdicts; '' where nothing was judged."""
        return worst(self.verdicts)

    @property
    def bad_news(self) -> list[str]:
        """Sentences about what went wrong, but for the verdicts of runs: tests that broke, a total over its limit, a report not written."""
        total = [self.total.reason] if self.total and self.total.effect == "fail" else []
        broken = [f"{called(test, None)} failed: {reason}" for test, reason in self.broken]
        return [*broken, *total, *(sentence for sentence, bad in self.said if bad)]

    @property
    def reds(self) -> list[tuple[Result, ShownVerdict]]:
        """The runs' verdicts that turn the build red, each with its run."""
        return [(result, verdict) for result in self.results for verdict in result.verdicts if verdict.effect == "fail"]

    @property
    def red(self) -> bool:
        """Whether anything of this turns the build red."""
        return bool(self.reds or self.bad_news)

    @property
    def headline(self) -> str:
        """The word for the whole: 'FAIL', 'PASS', or 'PASS, red' where something else than a verdict of that word is red."""
        nothing = "no budget" if self.results else "nothing measured"
        return f"{self.word or nothing}{', red' if self.red and self.word != 'FAIL' else ''}"
