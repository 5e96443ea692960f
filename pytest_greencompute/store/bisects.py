"""What a bisect has measured so far, kept after each launch: one that was stopped or killed goes on from there."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from pytest_greencompute.errors import MADE_UP, SettingsError
from pytest_greencompute.store.files import to_json, write_atomically

SCHEMA = "greencompute.bisect-state/1"
FOLDER = Path(".greencompute") / "bisect"
Question = Mapping[str, str | None]  # what a bisect was asked, in full: refs as commits


@dataclass(frozen=True, slots=True)
class LaunchOfCommit:
    """A launch of the commit ``sha`` beside the good one: its pairs (good, this), in the metric's unit, and the seconds that it took: to
    check out a commit that was not yet (0: it was), to get both ready, and for the pairs. Raises SettingsError for pairs that are none.
    """

    sha: str
    pairs: tuple[tuple[float, float], ...]
    checkout_s: float
    launch_s: float
    pairs_s: float

    def __post_init__(self) -> None:
        if not self.pairs or not all(math.isfinite(each) and each > 0 for pair in self.pairs for each in pair):
            raise SettingsError(f"The pairs of {self.sha[:10]} are not numbers above zero.")


@dataclass(frozen=True, slots=True)
class MeasuredSoFar:
    """All launches, in order, and the commits that could not be measured, each with the reason. ``devices`` are what was metered."""

    launches: tuple[LaunchOfCommit, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    devices: tuple[str, ...] = ()

    def with_launch(self, launch: LaunchOfCommit, devices: tuple[str, ...]) -> MeasuredSoFar:
        """One more launch. Raises SettingsError where it was on other devices than those before: joules belong to hardware."""
        if self.devices and devices != self.devices:
            there, here = (", ".join(each) or "nothing" for each in (self.devices, devices))
            raise SettingsError(f"What was measured before was on {there}, and this is {here}.", remedy="Go on there, or begin again.")
        return replace(self, launches=(*self.launches, launch), devices=devices)

    def has(self, sha: str) -> bool:
        """Whether that commit was measured, so that what it fails for later may pass."""
        return any(each.sha == sha for each in self.launches)

    def with_skipped(self, sha: str, reason: str) -> MeasuredSoFar:
        """One more commit that cannot be measured; what was measured of it does not count."""
        return replace(self, skipped={**self.skipped, sha: reason})

    def without_skipped(self, sha: str) -> MeasuredSoFar:
        """That commit is to be tried once more; what was measured of it counts again."""
        return replace(self, skipped={each: reason for each, reason in self.skipped.items() if each != sha})


class BisectState:
    """The state file of what was ``asked``, in the project's ``home``."""

    def __init__(self, home: Path, asked: Question) -> None:
        self._asked = dict(asked)
        name = hashlib.blake2b(json.dumps(self._asked, sort_keys=True).encode(), digest_size=8).hexdigest()
        self.path = home / FOLDER / f"{name}.json"

    def read(self) -> MeasuredSoFar:
        """What is kept; nothing where there is no file. Raises SettingsError for one that is broken or of something else."""
        remedy = "Delete it to begin again."
        try:
            data = json.loads(self.path.read_text(encoding="utf-8"))
            if data["schema"] != SCHEMA or data["asked"] != self._asked:
                raise ValueError("it is of something else")
            launches = tuple(LaunchOfCommit(**{**each, "pairs": tuple((a, b) for a, b in each["pairs"])}) for each in data["launches"])
            return MeasuredSoFar(launches, dict(data["skipped"]), tuple(data["devices"]))
        except FileNotFoundError:
            return MeasuredSoFar()
        except OSError as error:
            raise SettingsError(f"{self.path} cannot be read: {error.strerror}.", remedy=remedy) from error
        except MADE_UP as error:
            raise SettingsError(f"{self.path} is broken ({type(error).__name__}: {error}).", remedy=remedy) from error

    def keep(self, found: MeasuredSoFar) -> None:
        """Write it, in whole or not at all. Raises SettingsError."""
        launches = [{**asdict(each), "pairs": [list(pair) for pair in each.pairs]} for each in found.launches]
        kept = {"schema": SCHEMA, "asked": self._asked, "launches": launches, "skipped": dict(found.skipped), "devices": [*found.devices]}
        write_atomically(self.path, to_json(kept) + "\n")
