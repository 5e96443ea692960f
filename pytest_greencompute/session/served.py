"""A running server under load, measured for a test: ``energy_meter.serve_load``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from pytest_greencompute.estimates.by_host import hosts_noted
from pytest_greencompute.estimates.measured_kinds import ServedRun
from pytest_greencompute.models.scoring import Score, check_paired, listed_references
from pytest_greencompute.serving.as_run import Load
from pytest_greencompute.serving.client import Client
from pytest_greencompute.serving.load import ask_once, check_answers, measure_load, open_client
from pytest_greencompute.serving.request import Request, levels, request_of
from pytest_greencompute.session.candidates import run_name
from pytest_greencompute.session.checks import Asking, check_name
from pytest_greencompute.values.run import Run

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence


@dataclass(frozen=True)
class Loads:
    """The loads that a test asks for, each a run with a name of its own."""

    asking: Asking
    loads: tuple[Load, ...]

    @classmethod
    def of(
        cls, asking: Asking, concurrency: int | Iterable[int], references: Iterable[Any] | None, score: Score, name: str | None
    ) -> Loads:
        """The loads, checked. Raises SettingsError."""
        asking.refuse_out_of_turn()
        if name is not None:
            check_name(name, "loads", "name='chat'")
        several, given = levels(concurrency), listed_references(references)
        named = {each: run_name(name, f"concurrency={each}") for each in several}
        for called in named.values():
            asking.check_name(called)
        test = asking.test.node_id
        return cls(asking, tuple(Load(each, called, test=test, references=given, score=score) for each, called in named.items()))

    def serve(self, url: str, prompts: Iterable[Any], model: str | None, **sent: Any) -> dict[int, ServedRun]:
        """The runs by load. ``sent`` as for ``request.request_of``; ``model`` is asked of the server where it has one only.

        Raises SettingsError, MeterError.
        """
        mode, test = self.asking.mode, self.asking.test
        check_paired(prompts, self.loads[0].references)
        wanted = request_of(url, prompts, environ=os.environ, meters_see_hosts=mode.sees_hosts, **sent)
        self.asking.run_nothing()
        client, answering = open_client(wanted, model, mode.clock)
        note = mode.not_by_turns(test, "a server runs beside the commits: its load is not measured by turns with others")
        found = {}
        with client, self.asking.in_turn():
            check_answers(client, wanted)
            for each in self.loads:
                raw, outputs = self._served(client, wanted, replace(each, model=answering))
                aim = partial(mode.aim, test)
                raw = replace(raw, notes=note + raw.notes + (hosts_noted(raw, aim()) if wanted.elsewhere else ()))
                test.runs.append(raw)
                found[each.concurrency] = ServedRun(raw, outputs, aim, self.asking.unmetered)
        return found

    def _served(self, client: Client, wanted: Request, load: Load) -> tuple[Run, list[str | None]]:
        return self.asking.mode.either(
            self.asking.test,
            lambda under: measure_load(client, wanted, load, under.instruments, under.effort(load.name), under.problem),
            lambda keep: ask_once(client, wanted, load, keep),
        )
