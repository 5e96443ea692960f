"""``greencompute``: doctor, init, noise and compare.

Exit codes: 0 done; 1 doctor found no meter that works, init had nothing to write, or compare found a FAIL; 2 bad usage, or a file that
cannot be read or written; 3 nothing FAILed, and something could not be judged.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pytest_greencompute.errors import GreencomputeError


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    given = _parser().parse_args(argv)
    try:
        return _run(given)
    except GreencomputeError as error:
        print(error, file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="greencompute", description="Energy budgets for model inference: set-up and checks.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    doctor = commands.add_parser("doctor", help="list the meters, what each can do here, and the remedy for each refusal")
    doctor.add_argument("--json", action="store_true", help="print JSON")
    init = commands.add_parser("init", help="write a first test, the settings and a GitHub workflow; never overwrites anything")
    init.add_argument("folder", nargs="?", default=".", help="the project's folder (default: this one)")
    noise = commands.add_parser(
        "noise", help="measure a test against itself: what regression this machine can show, and in how many seconds"
    )
    noise.add_argument("test", help="node id of a test that uses energy_meter, such as tests/test_chat.py::test_answers")
    noise.add_argument("--run", metavar="NAME", help="the run of the test that is called so (default: the one without a name)")
    noise.add_argument("--launches", type=int, default=3, metavar="N", help="how many times to launch it beside itself (default: 3)")
    noise.add_argument("--max-seconds", metavar="S", help="longest time to measure one side of a launch (default: the test's own)")
    noise.add_argument("--meter", metavar="NAME,…", help="meters in order of preference (default: as in pyproject.toml)")
    noise.add_argument("--json", action="store_true", help="print JSON")
    compare = commands.add_parser("compare", help="judge the runs of B against those of A: JSON reports, folders of them, or baselines")
    compare.add_argument("a", metavar="A", help="the base: a JSON report, a folder of them, or the name of a baseline")
    compare.add_argument("b", metavar="B", help="what is judged, likewise")
    compare.add_argument("--tolerance", metavar="P", help="how much worse is still fine (default: as in pyproject.toml, else 5%%)")
    compare.add_argument("--confidence", metavar="C", help="confidence of intervals and verdicts (default: 0.99)")
    compare.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _run(given: argparse.Namespace) -> int:
    if given.command == "doctor":
        from pytest_greencompute.commands.doctor import doctor

        return doctor(as_json=given.json)
    if given.command == "init":
        from pytest_greencompute.commands.init import init

        return init(Path(given.folder))
    if given.command == "noise":
        from pytest_greencompute.commands.noise import noise

        return noise(given.test, Path.cwd(), vars(given))
    from pytest_greencompute.commands.compare import compare

    return compare(given.a, given.b, Path.cwd(), vars(given))


if __name__ == "__main__":
    raise SystemExit(main())
