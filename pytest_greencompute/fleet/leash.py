"""``python leash.py COMMAND…``: becomes the command, which is ended, with all that it started, when whoever started it is gone.

Who started it holds the other end of standard input. An end without a word is the sign; a word says that all is well. So nothing of a part
goes on using a GPU after its engine was killed. The process that waits for the sign descends from nobody here, since engines end what their
workers started. It is run as a script, and imports next to nothing.
"""

from __future__ import annotations

import os
import sys

from pytest_greencompute.machine.processes import end


def main(command: list[str]) -> None:
    os.setpgid(0, 0)
    group = os.getpid()
    if (child := os.fork()) == 0:
        os.setsid()
        if os.fork() == 0:
            _wait(group)
        os._exit(0)
    os.waitpid(child, 0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.execv(command[0], command)


def _wait(group: int) -> None:
    """For the sign, holding nothing else of what was handed down: whoever reads the command's output waits for its end."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for each in (1, 2):
        os.dup2(nothing, each)
    if not os.read(0, 1):
        end(group)


if __name__ == "__main__":
    main(sys.argv[1:])
