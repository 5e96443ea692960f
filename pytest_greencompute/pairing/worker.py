"""In the process of one side: measures what its test measures, set by set, when it is told to.

The messages, in order: it says ``collected`` before the test's set-up and is told ``load``; then for each ``measure`` of the test it says
``here`` and is told ``prepare`` (or ``skip``); says ``ready`` with its
layout and is told the ``layout`` of both; is told ``set`` again and again, and says ``measured`` after each; is told ``end``, and says
``done``. What pytest makes of the test it says as ``ended``.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path

from pytest_greencompute.commits import origin
from pytest_greencompute.errors import GreencomputeError
from pytest_greencompute.pairing import SIDE
from pytest_greencompute.pairing.channel import Channel, Message, known
from pytest_greencompute.pairing.demands import Demands
from pytest_greencompute.pairing.told import Checkouts, Told
from pytest_greencompute.protocol.layout import Layout
from pytest_greencompute.results.run_json import run_to_json
from pytest_greencompute.values.behaviour import Behaviour
from pytest_greencompute.values.run import Run


class UnexpectedMessageError(GreencomputeError):
    """The two processes disagree on whose turn it is."""


class StrangerError(GreencomputeError):
    """This process imported code of the side that compares."""


class Worker:
    """One side's end of the conversation. ``learnt``: what the process that compares knows of the devices."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._before: Run | None = None
        self.learnt: tuple[Behaviour, ...] = ()
        self._checkouts: Checkouts | None = None

    @classmethod
    def of_environment(cls, environ: Mapping[str, str]) -> Worker:
        """The conversation that this process was started for. Processes that it starts itself take no part."""
        end = socket.socket(fileno=int(environ[SIDE]))
        end.set_inheritable(False)
        return cls(Channel(end))

    def told(self) -> Told:
        """How to measure, which comes first of all. Raises SettingsError."""
        told = Told.from_json(self._expect("settings")["settings"])
        self._checkouts = told.checkouts
        return told

    def prove_origin(self) -> None:
        """Raises StrangerError where modules come from the files of the side that compares, instead of this side's own."""
        if (here := self._checkouts) is not None:
            links = [Path(link) for link in here.links]
            if found := origin.strangers(sys.modules, Path(here.head_root), Path(here.base_root), links):
                raise StrangerError(origin.said(found))

    def wait_to_load(self, demands: Demands | None) -> None:
        """The test is about to be set up: its model must not take memory before the other side has what it needs.

        ``demands`` are those of this commit on the test.
        """
        self._channel.send(what="collected", asked={} if demands is None else demands.to_json())
        self._expect("load")

    def wait_to_begin(self, name: str | None) -> bool:
        """A ``measure`` is about to begin; False where it is not to be measured."""
        self._before = None
        self.prove_origin()
        self._channel.send(what="here", name=name)
        message = self._expect("prepare", "skip")
        self.learnt = tuple(Behaviour(**known(fields(Behaviour), each)) for each in message.get("learnt", ()))
        return bool(message["what"] == "prepare")

    def agree(self, layout: Layout) -> Layout:
        """The layout of both sides."""
        self._channel.send(what="ready", layout=asdict(layout))
        return Layout(**self._expect("layout")["layout"])

    def turn(self, index: int, run: Run) -> bool:
        """Say what the last set measured, and wait to be told to run the next one."""
        if self._before is not None or index > 0:
            self._channel.send(what="measured", run=run_to_json(replace(run, answers="", scores=None)))
        self._before = run
        return bool(self._expect("set", "end")["what"] == "set")

    def done(self, run: Run) -> None:
        """The run is over."""
        self._channel.send(what="done", run=run_to_json(run))

    def ended(self, outcome: str, said: str) -> None:
        """The test is over: what pytest calls its outcome, and what it said where it failed."""
        self._channel.send(what="ended", outcome=outcome, said=said)

    def _expect(self, *whats: str) -> Message:
        message = self._channel.receive()
        if message["what"] not in whats:
            raise UnexpectedMessageError(f"told {message['what']!r} instead of {' or '.join(map(repr, whats))}.")
        return message
