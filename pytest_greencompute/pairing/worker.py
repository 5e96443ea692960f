"""In the process of one side: measures what its tests measure, set by set, when it is told to.

The messages, in order: it is told its ``settings`` and, where it is to serve several, the ``tests`` that may be asked for. Before each
test's set-up it says ``collected``, with the ``node`` that it is, and where there are several the ``test`` and the ``tests`` that follow,
and is told ``load``, or ``next`` where that test is not to run. Where it is to load with ``stops`` (those that it can make it has said), it
says ``device`` before its first use of a device, and ``loaded`` after the set-up, and is told ``go`` each time, or ``next``. Then for each
``measure`` of the test it says ``here`` and is told ``prepare``, or ``skip``, or where it has said that it can, ``explain``: then it says
``explained``, with what the model was seen to do, and goes on as if it had been told to skip. It says ``ready`` with its layout and is told
the ``layout`` of both; is told ``set`` again and again (a set, or a turn of one: ``Layout.turns``), and says ``measured`` after each, with
what was added (``added.py``); is told ``end``, and says ``done``. What pytest makes of the test it says as ``ended``. Where it is told
``prepare`` with a ``share`` of the candidates of a comparison, it measures those alone, and says ``shared``.

Versions that know no ``tests`` are told none by one another: they serve the one test that their process was started for.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path

from pytest_greencompute.commits import origin
from pytest_greencompute.errors import GreencomputeError
from pytest_greencompute.explaining.profile import Profile
from pytest_greencompute.pairing import SIDE, STOPS
from pytest_greencompute.pairing.added import told_of
from pytest_greencompute.pairing.channel import Channel, Message, known
from pytest_greencompute.pairing.demands import Demands
from pytest_greencompute.pairing.holding import Hold, can_hold
from pytest_greencompute.pairing.told import Checkouts, Explaining, Told
from pytest_greencompute.protocol.layout import Layout
from pytest_greencompute.results.profile_json import profile_to_json
from pytest_greencompute.values.behaviour import Behaviour
from pytest_greencompute.values.run import Run


class UnexpectedMessageError(GreencomputeError):
    """The two processes disagree on whose turn it is."""


class StrangerError(GreencomputeError):
    """This process imported code of the side that compares."""


class NotWantedError(GreencomputeError):
    """The process that compares does not ask for this test."""


class Worker:
    """One side's end of the conversation. ``learnt``: what the process that compares knows of the devices; ``tests``: those that it may ask
    for, in their order, or none where there is but one.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._asked = False
        self.learnt: tuple[Behaviour, ...] = ()
        self.tests: tuple[str, ...] = ()
        self.spread: str | None = None
        self._checkouts: Checkouts | None = None
        self._wanted = True
        self._stops = False
        self._hold: Hold | None = None
        self.share: Message | None = None  # of the comparison that is about to begin
        self.to_explain: Explaining | None = None
        self._adds = False  # whether the other side knows what it was told of a run before
        self._said: Run | None = None

    @classmethod
    def of_environment(cls, environ: Mapping[str, str]) -> Worker:
        """The conversation that this process was started for. Processes that it starts itself take no part."""
        end = socket.socket(fileno=int(environ[SIDE]))
        end.set_inheritable(False)
        return cls(Channel(end))

    def told(self) -> Told:
        """How to measure, which comes first of all. Raises SettingsError."""
        message = self._expect("settings")
        self.tests = tuple(message.get("tests", ()))
        return self._told(message["settings"])

    def _told(self, settings: Message) -> Told:
        told = Told.from_json(settings)
        self._checkouts, self.spread = told.checkouts, told.spread
        return told

    def prove_origin(self) -> None:
        """Raises StrangerError where modules come from the files of the side that compares, instead of this side's own."""
        if (here := self._checkouts) is not None:
            links = [Path(link) for link in here.links]
            if found := origin.strangers(sys.modules, Path(here.head_root), Path(here.base_root), links):
                raise StrangerError(origin.said(found))

    def wait_to_load(self, test: str, demands: Demands | None) -> Told | None:
        """The test is about to be set up: its model must not take memory before the other side has what it needs.

        ``demands`` are those of this commit on the test. Returns how to measure it, where that is said anew; raises NotWantedError where it
        is not to run.
        """
        following = self.tests[self.tests.index(test) + 1 :] if test in self.tests else ()
        which = {"test": test, "tests": [*following]} if self.tests else {}
        self._channel.send(
            what="collected", asked={} if demands is None else demands.to_json(), stops=[*STOPS[: 1 + can_hold()]], node=test, **which
        )
        message = self._expect("load", "next")
        self._wanted = message["what"] == "load"
        if not self._wanted:
            raise NotWantedError(f"{test} is not compared.")
        if self._hold is not None:  # of a test that came to no run
            self._hold.lift()
        self._stops = bool(message.get("stops"))
        self._hold = Hold(lambda: self._stand_by("device")) if self._stops and can_hold() else None
        return self._told(message["settings"]) if "settings" in message else None

    def wait_to_run(self) -> None:
        """The test is set up, and its body is about to run. Raises NotWantedError where it is not to."""
        if self._stops:
            self._stand_by("loaded")

    def _stand_by(self, what: str) -> None:
        self._check_wanted()
        self._channel.send(what=what)
        self._wanted = self._expect("go", "next")["what"] == "go"
        self._check_wanted()

    def _check_wanted(self) -> None:
        """Raises NotWantedError, again where the model's code has swallowed one: nobody would answer."""
        if not self._wanted:
            raise NotWantedError("It is not compared.")

    def wait_to_begin(self, name: str | None) -> bool:
        """A ``measure`` is about to begin; False where it is not to be measured, but perhaps to be looked at (``to_explain``)."""
        self._check_wanted()
        self._asked = False
        if self._hold is not None:
            self._hold.lift()
        self.prove_origin()
        self._channel.send(what="here", name=name, explains=True)
        message = self._expect("prepare", "skip", "explain")
        self.to_explain = Explaining.from_json(message) if message["what"] == "explain" else None
        self.learnt = tuple(Behaviour(**known(fields(Behaviour), each)) for each in message.get("learnt", ()))
        self._adds, self._said, self.share = bool(message.get("adds")), None, message.get("share")
        return bool(message["what"] == "prepare")

    def explained(self, profile: Profile) -> None:
        """What the model was seen to do."""
        self._channel.send(what="explained", profile=profile_to_json(profile))

    def agree(self, layout: Layout) -> Layout:
        """The layout of both sides."""
        self._channel.send(what="ready", layout=asdict(layout), turns=True)
        return Layout(**known(fields(Layout), self._expect("layout")["layout"]))

    def turn(self, index: int, run: Run | None) -> bool:
        """Say what has been measured (nothing in the middle of a set), and wait to be told to run turn ``index``. Those before it that were
        not run, since their set was lost, are left out.
        """
        told: Message = {"what": "set", "index": -1}
        while told["what"] == "set" and told["index"] < index:
            if self._asked:
                self._say("measured", None if run is None else replace(run, answers="", scores=None))
            told, self._asked = self._expect("set", "end"), True
        return bool(told["what"] == "set")

    def done(self, run: Run) -> None:
        """The run is over."""
        self._say("done", run)

    def _say(self, what: str, run: Run | None) -> None:
        if run is None:
            self._channel.send(what=what, run=None)
            return
        self._channel.send(what=what, **told_of(run, self._said))
        if self._adds:
            self._said = run

    def shared(self, found: Message) -> None:
        """The candidates of its share are measured, and nothing more is asked of this test. Raises NotWantedError."""
        self._channel.send(what="shared", **found)
        self._wanted = False
        self._check_wanted()

    def ended(self, outcome: str, said: str) -> None:
        """The test is over: what pytest calls its outcome, and what it said where it failed. Nobody is told of one not asked for."""
        if self._wanted:
            self._channel.send(what="ended", outcome=outcome, said=said)

    def _expect(self, *whats: str) -> Message:
        message = self._channel.receive()
        if message["what"] not in whats:
            raise UnexpectedMessageError(f"told {message['what']!r} instead of {' or '.join(map(repr, whats))}.")
        return message
