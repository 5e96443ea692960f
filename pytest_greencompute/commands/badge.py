"""``greencompute badge``: the stars of a saved run as an SVG, where they were measured as the leaderboard's were."""

from __future__ import annotations

import sys
from pathlib import Path

from pytest_greencompute.commands import Arguments
from pytest_greencompute.commands.rate import NOT_RATED, rated
from pytest_greencompute.errors import NotRatedError, SettingsError
from pytest_greencompute.estimates.star_scale import SOURCE, STARS
from pytest_greencompute.report.badge import badge as drawn
from pytest_greencompute.store.files import write_atomically


def run(given: Arguments, root: Path) -> int:
    """The command."""
    return badge(given["what"], root, given)


def badge(what: str, root: Path, given: Arguments) -> int:
    """Write the badge. 0: written; 3: none is due, since nothing is rated or the stars are only indicative. Raises SettingsError."""
    path = root / given["output"]
    if path.suffix != ".svg":
        # A slip such as `--output pyproject.toml` must not replace a file of another kind.
        raise SettingsError(f"--output is {given['output']!r}.", remedy="A badge is written to a file whose name ends in .svg.")
    if len(named := given.get("reference") or ()) > 1:
        raise SettingsError(f"A badge shows the stars on one leaderboard, and {len(named)} are named.", remedy="Give one --reference.")
    try:
        rating = rated(what, root, given)[0].rating
    except NotRatedError as error:
        return _refused(path, [str(error)])
    if rating.indicative:
        return _refused(path, ["The stars are only indicative:", *(f"  - {reason}" for reason in rating.indicative)])
    try:
        write_atomically(path, drawn(rating, given.get("name") or ""))
    except OSError as error:  # a name that is too long, say
        raise SettingsError(f"{path} cannot be written: {error.strerror}.") from error
    print(f"wrote: {path}")
    # The method's authors ask that stars link to the leaderboard, which an image alone cannot.
    print(f"[![AI Energy Score: {rating.stars} of {STARS} stars]({path.name})]({SOURCE})")
    return 0


def _refused(path: Path, why: list[str]) -> int:
    print("\n".join(["No badge was written.", *why]), file=sys.stderr)
    if path.exists():
        print(f"{path} is left as it was; it is an earlier badge.", file=sys.stderr)
    return NOT_RATED
