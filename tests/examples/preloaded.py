"""pytest again and again, in forks of a process that has imported what each run of an example would import anew for seconds.

Run: ``python -m tests.examples.preloaded``. Each line of its input is a run: the arguments of ``run``, as JSON; each of its output an exit
status.
"""

from __future__ import annotations

import json
import os
import signal
import sys

import pytest
import sklearn.feature_extraction.text
import sklearn.linear_model
import sklearn.pipeline  # noqa: F401
import torch  # noqa: F401
from transformers import BertModel, BertTokenizer, LlamaForCausalLM  # noqa: F401  transformers imports what is asked for

LIMIT_S = 280


def run(folder: str, options: list[str], environ: dict[str, str], output: str) -> int:
    """pytest as ``python -m pytest`` would run it in ``folder``; the file ``output`` gets all that is printed."""
    signal.alarm(LIMIT_S)
    said = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream, descriptor in ((os.open(os.devnull, os.O_RDONLY), 0), (said, 1), (said, 2)):
        os.dup2(stream, descriptor)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    sys.path[0] = folder
    return int(pytest.main(options))


def main() -> None:
    """A fork for each run. What it has imported before it starts no threads of its own, so that nothing is lost in the fork."""
    for line in sys.stdin:
        fork = os.fork()
        if not fork:
            sys.exit(run(**json.loads(line)))
        _, status = os.waitpid(fork, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
