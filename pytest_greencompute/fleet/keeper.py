"""``python keeper.py FOLDER``: goes on in the background, and removes the folder when nobody holds its file ``users`` any more.

Processes that use the folder hold a shared lock on that file, which ends with them however they end. The keeper descends from nobody, since
engines end what their workers started. Knows only Python's library: it is run as a script.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from pathlib import Path

USERS = "users"


def main(folder: Path) -> None:
    if os.fork():
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    with (folder / USERS).open() as users:
        fcntl.flock(users, fcntl.LOCK_EX)
        gone = folder.with_name(f"{folder.name}.gone")
        folder.rename(gone)  # at once, so that whoever comes now makes a new one
        shutil.rmtree(gone, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
