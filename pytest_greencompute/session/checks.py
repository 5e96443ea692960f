"""Arguments of the fixture's methods, checked."""

from __future__ import annotations

from collections.abc import Mapping as MappingABC
from typing import TYPE_CHECKING, Any

from pytest_greencompute.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_greencompute.models.queries import Queries

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence


def by_candidate(what: str, given: Any, candidates: Mapping[str, object]) -> Mapping[str, Any]:
    """An argument that is one for all candidates, or one by name. Raises SettingsError where it names others."""
    by_name = given if isinstance(given, MappingABC) else dict.fromkeys(candidates, given)
    if set(by_name) != set(candidates):
        raise SettingsError(f"{what} names {', '.join(map(str, by_name))}.", remedy=f"Name each of {', '.join(candidates)}.")
    return by_name


def check_name(name: object, what: str, such: str) -> None:
    """Raises SettingsError for a name that is no text, or one that no file could hold."""
    if not isinstance(name, str) or not name:
        raise SettingsError(f"name is {name!r}.", remedy=f"Name {what} with a text, such as {such}.")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise SettingsError(
            f"name is {name!r}, which is no whole text.", remedy="It holds half of a character: decode it first."
        ) from error


def repeatable(queries: Queries) -> Any:
    """Queries that every candidate can have: those of a generator are collected once. Raises SettingsError for what is no list of them."""
    from pytest_greencompute.models.queries import collected

    return queries if hasattr(queries, "__len__") and hasattr(queries, "__getitem__") else collected(queries)[0]
