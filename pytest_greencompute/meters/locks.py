"""Locks of devices: two measured runs on one device wait for each other."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from pytest_greencompute.errors import MeterError, SettingsError
from pytest_greencompute.machine.logs import quiet

LOCK_WAIT_S = 600.0
LOGGER = "filelock"


@contextlib.contextmanager
def locked(devices: Iterable[str], folder: Path, waiting: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of every device, a file in ``folder``, which containers may share.

    ``waiting`` is told the device while another measured run holds it. Raises MeterError after ten minutes. The operating system frees
    the locks of a process that was killed.
    """
    import filelock

    try:
        with contextlib.suppress(FileExistsError):  # another worker may make it at the same moment
            folder.mkdir(parents=True)
            folder.chmod(0o1777)  # other users' runs wait for ours, too
    except OSError as error:
        raise SettingsError(
            f"The folder for device locks, {folder}, cannot be made: {error.strerror}.", remedy="Set lock_folder to another."
        ) from error
    with contextlib.ExitStack() as held:
        for name in sorted(set(devices)):
            lock = filelock.FileLock(str(folder / (re.sub(r"[^\w.-]", "_", name) + ".lock")), mode=0o666)
            _acquire(lock, name, waiting)
            held.callback(_release, lock)
        yield


def _release(lock: Any) -> None:
    with quiet(LOGGER):
        lock.release()


def _acquire(lock: Any, name: str, waiting: Callable[[str], None]) -> None:
    import filelock

    try:
        with quiet(LOGGER):
            lock.acquire(timeout=0)
        return
    except filelock.Timeout:
        waiting(name)
    except OSError as error:
        remedy = "Set lock_folder to a folder of yours."
        raise SettingsError(f"The device lock {lock.lock_file} cannot be opened: {error.strerror}.", remedy=remedy) from error
    try:
        with quiet(LOGGER):
            lock.acquire(timeout=LOCK_WAIT_S)
    except filelock.Timeout as error:
        raise MeterError(
            f"Another measured run held {name} for {LOCK_WAIT_S / 60:.0f} minutes ({lock.lock_file}).",
            remedy="Wait for it to end, or measure on another device.",
        ) from error
