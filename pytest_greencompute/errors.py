"""Errors, sorted by whose turn it is to act.

Every error carries a remedy: what to type, install or ask for. Nothing here
imports anything, so every floor can raise these.
"""

from __future__ import annotations


class GreencomputeError(Exception):
    """Base of all errors that this package raises on purpose.

    ``message`` says what is wrong, ``remedy`` (may be empty) what to do about it.
    """

    def __init__(self, message: str, *, remedy: str = "") -> None:
        self.message = message
        self.remedy = remedy
        super().__init__(message)

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".rstrip()


class SettingsError(GreencomputeError):
    """Something the user wrote: an option, a file, a marker, a call, or what the model under test returned."""


class NotRatedError(GreencomputeError):
    """There is no energy figure that stars may be given for: it was modelled, or there is none; ``message`` says which."""


class CannotError(GreencomputeError):
    """This machine cannot do what one of several candidates needs, such as a precision: no fault of the candidate."""


class MeterError(GreencomputeError):
    """Something the machine refused: no such meter, no permission, a read that failed, a counter that stands still."""


class NothingThereError(MeterError):
    """There is no such hardware (or software) here: nothing whose energy could be missing from the sum."""


class NoMeterError(MeterError):
    """No meter works; ``refusals`` holds the reason of each, by name."""

    def __init__(self, message: str, *, remedy: str = "", refusals: tuple[tuple[str, MeterError], ...] = ()) -> None:
        super().__init__(message, remedy=remedy)
        self.refusals = refusals


class MeterLostError(MeterError):
    """A meter that worked and stopped working; the samples in hand are lost, the session goes on."""


class HeldUpError(MeterLostError):
    """The machine was busy, stopped or suspended, and the meter is as good as before: so is what was measured until then."""


# What taking apart and working out may end with of what somebody else wrote: a report, or a message of another process.
MADE_UP = (GreencomputeError, KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError, IndexError, MemoryError)
UNREADABLE = (OSError, *MADE_UP)  # and reading it, with what is in it


def first_line(said: str) -> str:
    """The first line of what another library's error says, for a sentence of ours."""
    line = said.strip().splitlines()[0] if said.strip() else "an error without words"
    return line if len(line) <= 200 else f"{line[:199]}…"
