"""Writing files so that a killed process leaves the old file or the new one, never half of one."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from pytest_greencompute.errors import SettingsError

PART = ".part"
NO_FILE = (OSError, RuntimeError, ValueError)  # what a name of no file brings about: links in a circle, or a null in it


def write_atomically(path: Path, text: str, *, newline: str | None = None, new: bool = False) -> None:
    """Write ``text`` beside ``path`` and rename it into place; a file that was there keeps its mode.

    ``newline`` as in open(): an empty one writes line ends as they are. ``new``: a file that is there already is not replaced, even one
    that another process makes at the same moment: FileExistsError. Raises SettingsError with the reason where it cannot be done.
    """
    try:
        path = path.resolve()  # a link stays a link
        if path.exists() and not path.is_file() and not path.is_dir():
            path.write_text(text, encoding="utf-8")  # /dev/stdout and the like: nothing to rename over
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = path.stat().st_mode & 0o777 if path.is_file() else 0o644
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PART)
    except BrokenPipeError:  # who reads /dev/stdout has enough
        raise
    except NO_FILE as error:
        raise _cannot_be_written(path, error) from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline=newline) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(mode)
        if new:
            _link(Path(temporary), path)
        else:
            Path(temporary).replace(path)
    except FileExistsError:
        Path(temporary).unlink(missing_ok=True)
        raise
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise _cannot_be_written(path, error) from error
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def check_writable(path: Path) -> None:
    """Raises SettingsError where ``write_atomically`` will: before the hours whose result is to be written. Leaves nothing behind."""
    try:
        path = path.resolve()
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if path.exists() and not path.is_file():
            return
        there = next(each for each in path.parents if each.exists())  # folders below it are made when it is written
        with tempfile.NamedTemporaryFile(dir=there, prefix=f".{path.name}.", suffix=PART):
            pass
    except NO_FILE as error:
        raise _cannot_be_written(path, error) from error


def read_only(path: Path) -> bool:
    """Whether somebody has said of a file that it is not to be changed."""
    return not os.access(path, os.W_OK) or not path.stat().st_mode & 0o222


def _cannot_be_written(path: Path, error: Exception) -> SettingsError:
    why = getattr(error, "strerror", None) or error
    return SettingsError(f"{path} cannot be written: {why}.", remedy="Check the path and its permissions.")


def _link(temporary: Path, path: Path) -> None:
    """Give a whole file its name, which must be free. Raises FileExistsError."""
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        raise
    except OSError:  # a file system without links: the name is taken first, by an empty file that the whole one then replaces
        path.touch(exist_ok=False)
        temporary.replace(path)
    else:
        temporary.unlink()


def to_json(value: Any, indent: int = 0) -> str:
    """JSON that reads well in a diff: one key a line, one row (a list that begins with a plain value) a line.

    Raises ValueError for NaN and infinities.
    """
    pad, inner = " " * indent, " " * (indent + 1)
    if isinstance(value, dict) and value:
        rows = [f"{inner}{json.dumps(key)}: {to_json(each, indent + 1)}" for key, each in value.items()]
        return "{\n" + ",\n".join(rows) + f"\n{pad}}}"
    if isinstance(value, list) and value and isinstance(value[0], dict | list):
        rows = [inner + to_json(each, indent + 1) for each in value]
        return "[\n" + ",\n".join(rows) + f"\n{pad}]"
    text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    # Half of a character that needs two (a lone surrogate) has no UTF-8; as an escape it is read back as it was.
    return text if text.isascii() or _encodable(text) else json.dumps(value, allow_nan=False)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
