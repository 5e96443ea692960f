"""What a test may pass as its queries: lists, arrays, tables, loaders of batches, generators. All get a length and slices.

Libraries are known by what their objects have, or by a module that the test has loaded, so that none is imported here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from pytest_greencompute.errors import SettingsError

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence


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


def collected(queries: Iterable[Any]) -> tuple[Sequence[Any], tuple[str, ...]]:
    """The queries as something with a length that can be sliced, and notes on what was done for that.

    A generator is collected, a DataLoader's batches are loaded. Raises SettingsError for an empty list, a string and a mapping.
    """
    notes: tuple[str, ...] = ()
    listed: Sequence[Any]
    if isinstance(queries, Batches | _Rows):  # they were collected before
        return queries, notes
    if _is_loader(queries):
        listed, notes = _loaded(queries)
    elif hasattr(queries, "iloc"):
        listed = _Rows(queries) if hasattr(queries, "columns") else queries.tolist()  # type: ignore[attr-defined]  # a table, a column
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
