"""What a test may pass as its queries: lists, arrays, tables, loaders of batches, generators. All get a length and slices.

Libraries are known by what their objects have, or by a module that the test has loaded, so that none is imported here.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import operator
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any

from pytest_greencompute.errors import SettingsError

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

SAMPLE = 16  # queries whose state is looked at
PARTS = 64  # of what a query holds
DEEP = 5
SOME_NUMBERS = 1000
Queries = Iterable[Any] | Callable[[], Iterable[Any]]  # what may be passed: the queries, or a function that makes them for each pass


class Batches(Sequence[Any]):
    """The batches of a torch DataLoader, loaded once, in order, as a sequence of their queries: a slice that is a batch gives that batch.

    ``size`` is the number of queries in each batch but the last, ``total`` that in all.
    """

    __slots__ = ("batches", "size", "total")

    def __init__(self, batches: Sequence[Any], size: int, total: int) -> None:
        self.batches, self.size, self.total = batches, size, total

    def __len__(self) -> int:
        return self.total

    def __getitem__(self, index: Any) -> Any:
        """The batch that a slice begins, or the one in which query ``index`` is: nothing tells how a batch is to be taken apart."""
        first = index.start or 0 if isinstance(index, slice) else range(self.total)[index]
        return self.batches[first // self.size]


class _Rows(Sequence[Any]):
    """A table (pandas) as the sequence of its rows: a slice of it is a table, by position."""

    __slots__ = ("_table",)

    def __init__(self, table: Any) -> None:
        self._table = table

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: Any) -> Any:
        return self._table.iloc[index]


class Made(Sequence[Any]):
    """Queries that a function makes for each pass, since a model uses them up. ``listed`` are the last ones made, which a slice is of."""

    __slots__ = ("_make", "_states", "_unused", "listed")

    def __init__(self, make: Callable[[], Iterable[Any]], listed: Sequence[Any]) -> None:
        self._make, self.listed = make, listed
        self._states = states_of(listed)
        self._unused = True

    def __len__(self) -> int:
        return len(self.listed)

    def __getitem__(self, index: Any) -> Any:
        return self.listed[index]

    def again(self) -> Sequence[Any]:
        """The queries for one more pass. Raises SettingsError where they are not as many, or other ones."""
        if self._unused:
            self._unused = False
            return self.listed
        listed, _ = collected(self._make())
        if len(listed) != len(self.listed):
            said = f"made {len(self.listed)} at first and {len(listed)} when called again"
            raise SettingsError(f"The function of the queries {said}.", remedy="It must make the same queries for each pass.")
        if self._states != states_of(listed):
            remedy = "It must make the same ones for each pass: seed what is random, and leave out what changes, such as the time."
            raise SettingsError("The function of the queries makes others each time.", remedy=remedy)
        self.listed = listed
        return listed

    @staticmethod
    def let_go(listed: Iterable[Any]) -> None:
        """Close the files among queries that were made for a pass, which nobody else knows of."""
        for query in listed:
            if hasattr(query, "read") and hasattr(query, "close"):
                query.close()


def plain(queries: Sequence[Any]) -> Sequence[Any]:
    """The queries themselves, where a function makes them: those of now."""
    return queries.listed if isinstance(queries, Made) else queries


def states_of(queries: Sequence[Any]) -> list[Any]:
    """``state_of`` some of the queries, from all over the list; of slices, which everything collected can give."""
    step = max(1, len(queries) // SAMPLE)
    return [state_of(queries[index : index + 1]) for index in range(0, len(queries), step)[:SAMPLE]]


def worn(before: Any, after: Any, *, places: bool) -> bool:
    """Whether something of a query's state is gone or another. Keys that were added are no loss; ``places``: how far it was read counts."""
    if isinstance(before, dict) and isinstance(after, dict):
        return any(key not in after or worn(state, after[key], places=places) for key, state in before.items())
    if isinstance(before, list) and isinstance(after, list):
        return len(before) != len(after) or any(worn(one, other, places=places) for one, other in zip(before, after, strict=True))
    if isinstance(before, _ReadTo) and isinstance(after, _ReadTo) and not places:
        return False
    return bool(before != after) or (before == UNSEEN and places)


@dataclass(frozen=True, slots=True)
class _ReadTo:
    """How far a file has been read, which can be wound back."""

    at: Any


@dataclass(frozen=True, slots=True)
class _Left:
    """What is left in an iterator or a queue, which nobody puts back; of None nobody knows."""

    of: Any


UNSEEN = _Left(None)


def state_of(query: Any, deep: int = DEEP) -> Any:
    """What tells a query from what is left of it once a model has used it: values, or how far a file or an iterator has been read.

    Nothing for what does not show it. Of what holds very much, some.
    """
    if query is None or isinstance(query, str | bytes | int):
        return query
    with contextlib.suppress(Exception):  # whatever an object of another library makes of being looked at
        return _state(query, deep - 1)
    return None


def _state(query: Any, deep: int) -> Any:  # noqa: PLR0911  a table of kinds
    if isinstance(query, float | complex):
        return repr(query)
    if hasattr(query, "read") and hasattr(query, "tell"):
        return _ReadTo("closed" if getattr(query, "closed", False) else query.tell())
    if hasattr(query, "__next__"):
        return _Left(_left(query, deep))
    if callable(getattr(query, "qsize", None)):
        return _Left(query.qsize())
    if hasattr(query, "shape") and (hasattr(query, "tolist") or hasattr(query, "iloc")):
        return tuple(query.shape), _numbers(query)
    if hasattr(query, "getpalette"):  # an image of Pillow's, whose pixels may not have been read yet
        return query.mode, query.size
    if deep < 0:
        return None
    if isinstance(query, Mapping):
        return {repr(key): state_of(query[key], deep) for key in [*query][:PARTS]}
    if isinstance(query, list | tuple | deque):
        return [len(query), *(state_of(each, deep) for each in [*query][:PARTS])]
    if isinstance(query, set | frozenset | bytearray):
        return repr(query)
    plain = is_dataclass(query) or type(query).__module__ in {"__main__", "conftest"} or _is_no_librarys(type(query))
    return {name: state_of(each, deep) for name, each in vars(query).items()} if plain else None


def _left(query: Any, deep: int) -> Any:
    """What an iterator shows of how far it is; None where it shows nothing."""
    if inspect.isgenerator(query):
        return inspect.getgeneratorstate(query)
    length = operator.length_hint(query, -1)
    if length < 0 and type(query).__module__ in {"builtins", "itertools"}:  # a map or a zip, by what it is made of
        return state_of(query.__reduce__()[1], deep)
    return length if length >= 0 else getattr(query, "line_num", None)  # a reader of csv


def _is_no_librarys(kind: type) -> bool:
    """Whether a class is the project's: those of libraries fill themselves lazily, which is no change."""
    return is_of_project(getattr(sys.modules.get(kind.__module__), "__file__", None))


@functools.cache
def _libraries() -> tuple[str, ...]:
    """The folders of Python and of what is installed."""
    import sysconfig  # some ten milliseconds

    return tuple(dict.fromkeys(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")))


def is_of_project(path: str | None) -> bool:
    """Whether a file is the project's own, and no library's."""
    return bool(path) and not str(path).startswith(_libraries()) and "site-packages" not in str(path)


def _numbers(query: Any) -> str:
    """What an array, a tensor or a table holds; some of it where that is much."""
    flat = query.values.ravel() if hasattr(query, "iloc") else (query.detach() if hasattr(query, "detach") else query).reshape(-1)
    return repr(flat[:: max(1, len(flat) // SOME_NUMBERS)].tolist())


def collected(queries: Queries) -> tuple[Sequence[Any], tuple[str, ...]]:
    """The queries as something with a length that can be sliced, and notes on what was done for that.

    A generator is collected, a DataLoader's batches are loaded. Raises SettingsError for an empty list, a string and a mapping.
    """
    notes: tuple[str, ...] = ()
    listed: Sequence[Any]
    if isinstance(queries, Batches | Made | _Rows):  # they were collected before
        return queries, notes
    if callable(queries) and (isinstance(queries, type) or not (hasattr(queries, "__iter__") or hasattr(queries, "__getitem__"))):
        listed, notes = collected(queries())
        return Made(queries, listed), notes
    if _is_loader(queries):
        listed, notes = _loaded(queries)
    elif hasattr(queries, "iloc"):
        listed = _Rows(queries) if hasattr(queries, "columns") else queries.tolist()  # type: ignore[union-attr]  # a table, a column
    elif isinstance(queries, str | bytes) or hasattr(queries, "keys"):
        raise SettingsError(f"queries is a {type(queries).__name__}.", remedy="Pass a list with one entry per query.")
    elif hasattr(queries, "__len__") and hasattr(queries, "__getitem__") and getattr(queries, "shape", None) != ():
        listed = queries  # type: ignore[assignment]  # a tensor or an array is no Sequence, but has what is needed
        if not _slices(listed):
            listed = [listed[index] for index in range(len(listed))]
    elif hasattr(queries, "__iter__") and not hasattr(queries, "shape"):
        listed = list(queries)
        if not hasattr(queries, "__len__"):
            notes = (f"queries came from a {type(queries).__name__}: all {len(listed)} were collected before measuring",)
    else:
        raise SettingsError(f"queries is a {type(queries).__name__}.", remedy="Pass a list with one entry per query.")
    if len(listed) == 0:
        raise SettingsError("The list of queries is empty.", remedy="A measurement needs at least one query.")
    return listed, notes


def _slices(queries: Sequence[Any]) -> bool:
    """Whether a slice of the queries is a batch: not of a deque, a map-style dataset, or a table whose slice is a dict of columns."""
    try:
        batch = queries[0:1]
        return not hasattr(batch, "keys") and len(batch) == min(1, len(queries))
    except (TypeError, ValueError, LookupError, AttributeError, RuntimeError):
        return False


def _is_loader(queries: Any) -> bool:
    data = sys.modules.get("torch.utils.data")
    return data is not None and isinstance(queries, data.DataLoader)


def _loaded(loader: Any) -> tuple[Batches, tuple[str, ...]]:
    """All batches of a DataLoader. Raises SettingsError where it cannot be known how many queries each of them holds."""
    data: Any = sys.modules["torch.utils.data"]
    size = loader.batch_size
    if size is None:
        raise SettingsError(
            "The DataLoader has no batch_size, so it cannot be known how many queries its batches hold.",
            remedy="Pass DataLoader(dataset, batch_size=…), or the dataset with batch_size= and collate=loader.collate_fn.",
        )
    streams = isinstance(loader.dataset, data.IterableDataset)
    if streams and not loader.drop_last:
        raise SettingsError(
            "The DataLoader streams from an IterableDataset, so it cannot be known how many queries its last batch holds.",
            remedy="Pass drop_last=True to the DataLoader.",
        )
    batches = list(loader)
    total = size * len(batches) if loader.drop_last else len(loader.sampler)
    if len(batches) != -(-total // size):
        raise SettingsError(
            f"The DataLoader gave {len(batches)} batches of {size} for {total} queries.", remedy="Its sampler must say its true length."
        )
    note = f"queries came from a DataLoader: its {len(batches)} batches were loaded before measuring, so loading is in no figure"
    return Batches(batches, size, total), (note,)
