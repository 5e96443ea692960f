"""A digest of all that queries hold, so that an interrupted measurement goes on with the same ones only."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_greencompute.models.answers import ADDRESS, labels, opened

_DEEPEST = 20  # containers within containers; what is deeper may hold itself
_WHOLE = (type(None), bool, int, float, complex, str, bytes, bytearray, os.PathLike)


def digest_of(queries: Sequence[Any]) -> str | None:
    """A digest of what the queries hold (text, numbers, arrays, tensors, images, and containers of them); None where one cannot be told.

    Unlike a digest of an answer it has all digits, and it knows the pixels of an image, whose ``repr`` shows only its size.
    """
    digest = hashlib.blake2b(digest_size=16)
    try:
        for index in range(len(queries)):
            _add(digest, queries[index], 0)
    except _UnknownContentError:
        return None
    return digest.hexdigest()


class _UnknownContentError(Exception):
    """Nothing tells this object from another one of its type."""


def _add(digest: Any, value: Any, depth: int) -> None:
    """Add one value to the digest: its type and its length before what it holds, so that no two values read alike."""
    if depth > _DEEPEST:
        raise _UnknownContentError
    parts = _parts(value)
    held = _held(value) if parts is None else str(len(parts)).encode()
    digest.update(f"{type(value).__module__}.{type(value).__qualname__} {len(held)}:".encode())
    digest.update(held)
    for part in parts or ():
        _add(digest, part, depth + 1)


def _parts(value: Any) -> list[Any] | None:
    """What a container, a tensor or an object holds; None for a value that is whole in itself."""
    if isinstance(value, _WHOLE):
        return None
    if isinstance(value, Mapping):
        return [each for pair in value.items() for each in pair]
    if isinstance(value, list | tuple):
        return list(value)
    if (held := opened(value)) is not value:  # a tensor, a table
        return [str(getattr(value, "dtype", "")), *map(list, labels(value)), held]
    if str(getattr(value, "dtype", "")) == "object":
        return [value.tolist()]
    return None if hasattr(value, "tobytes") or not getattr(value, "__dict__", None) else [vars(value)]


def _held(value: Any) -> bytes:
    """A whole value as bytes. Raises _UnknownContentError for an object that shows no more than its address."""
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    if hasattr(value, "tobytes"):  # an array, or an image
        looks = " ".join(str(getattr(value, name, "")) for name in ("dtype", "shape", "mode", "size"))
        return looks.encode() + bytes(value.tobytes())
    shown = str(value) if isinstance(value, _WHOLE) else repr(value)
    if not isinstance(value, _WHOLE) and ADDRESS.search(shown):
        raise _UnknownContentError
    return shown.encode("utf-8", "surrogatepass")
