"""``python leash.py COMMAND…``: runs the command, and ends it, with all that it started, when whoever started this is gone.

Who started it holds the other end of standard input, and says nothing; the end of it is the sign. So nothing of a part goes on using a GPU
after its engine was killed. Exit status: the command's, or 128 and the number of the signal that ended it. Knows only Python's library,
since it is run as a script, beside each part.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Any

# Python 3.10 has no other way. No session: it would have a share of the processors of its own (autogroup).
OWN_GROUP: Any = {"process_group": 0} if sys.version_info >= (3, 11) else {"preexec_fn": os.setpgrp}


def main(command: list[str]) -> int:
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, **OWN_GROUP)
    threading.Thread(target=_until_let_go, args=(process.pid,), daemon=True).start()
    status = process.wait()
    return 128 - status if status < 0 else status


def _until_let_go(group: int) -> None:
    while os.read(0, 1):
        continue
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
