"""``greencompute``: doctor, init, noise, explain, bisect, advise, compare, gather, fleet, rate, badge, report and history.

Exit codes: 0 done; 1 doctor found no meter that works, init had nothing to write, bisect's bad commit is not worse than its good one,
compare found a FAIL, or what was gathered is red; 2 bad usage, or a file that cannot be read or written (a report that gather refuses is
red); 3 nothing FAILed, and something could not be judged, bisect was not sure enough, rate found no energy that is rated (it is modelled,
or there is none), badge no stars that deserve one, or history a file that it could not read; 4 the command broke (an error that nobody
foresaw), or doctor found no meter that works and one that broke; 130 bisect was stopped (Ctrl-C), and goes on when it is run again; 141
whoever read the output closed it before its end (``| head``).
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from pytest_greencompute.commands import BROKE, Arguments
from pytest_greencompute.commands.saying import say
from pytest_greencompute.errors import GreencomputeError
from pytest_greencompute.report.escape import READABLE

COMMANDS = (
    "doctor",
    "init",
    "noise",
    "explain",
    "bisect",
    "advise",
    "compare",
    "gather",
    "fleet",
    "rate",
    "badge",
    "report",
    "history",
)  # each a module of its own, with ``run``
NOT_READ = 141  # 128 + SIGPIPE, as a shell has it


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    with _readable(sys.stdout), _readable(sys.stderr):
        given = _parser().parse_args(argv)
        try:
            status = _run(given)
            sys.stdout.flush()
            return status
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left in it would raise once more at the end
            return NOT_READ
        except GreencomputeError as error:
            for line in str(error).splitlines():
                say(line)
            return 2
        except Exception:  # noqa: BLE001  Python's own status for it is 1, which is a result of doctor, init and compare
            traceback.print_exc()
            print(f"greencompute {given.command} broke; this is a mistake in it, please report it.", file=sys.stderr)
            return BROKE


@contextmanager
def _readable(stream: object) -> Iterator[None]:
    """Signs that the terminal cannot show are replaced on the way to it: ± by +/-."""
    if not isinstance(stream, io.TextIOWrapper):
        yield
        return
    errors = stream.errors
    stream.reconfigure(errors=READABLE)
    try:
        yield
    finally:
        stream.reconfigure(errors=errors)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="greencompute", description="Energy budgets for model inference: set-up and checks.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    doctor = commands.add_parser("doctor", help="list the meters, what each can do here, and the remedy for each refusal")
    doctor.add_argument("--json", action="store_true", help="print JSON")
    doctor.add_argument("--deep", action="store_true", help="look closely at one GPU for a minute or two, and write a page to publish")
    doctor.add_argument("--load", metavar="MODULE:FUNCTION", help="with --deep: what keeps the GPU busy (default: products of torch's)")
    doctor.add_argument("--meter", metavar="NAME", help="with --deep: the meter of the GPU (default: nvml)")
    doctor.add_argument("--output", metavar="FOLDER", help="with --deep: where the page is written (default: here)")
    init = commands.add_parser(
        "init", help="write a first test with measured limits, the settings and a pipeline; never overwrites anything"
    )
    init.add_argument("folder", nargs="?", default=".", help="the project's folder (default: this one)")
    noise = commands.add_parser(
        "noise", help="measure a test against itself: what regression this machine can show, and what verdicts will take"
    )
    noise.add_argument("test", help="node id of a test that uses energy_meter, such as tests/test_chat.py::test_answers")
    noise.add_argument("--run", metavar="NAME", help="the run of the test that is called so (default: the one without a name)")
    noise.add_argument("--launches", type=int, default=3, metavar="N", help="how many times to launch it beside itself (default: 3)")
    noise.add_argument("--max-seconds", metavar="S", help="longest time to measure one side of a launch (default: 60)")
    noise.add_argument("--meter", metavar="NAME,...", help="meters in order of preference (default: as in pyproject.toml)")
    noise.add_argument("--json", action="store_true", help="print JSON")
    compare = commands.add_parser("compare", help="judge the runs of B against those of A: JSON reports, folders of them, or baselines")
    compare.add_argument("a", metavar="A", help="the base: a JSON report, a folder of them, or the name of a baseline")
    compare.add_argument("b", metavar="B", help="what is judged, likewise")
    compare.add_argument("--tolerance", metavar="P", help="how much worse is still fine (default: as in pyproject.toml, else 5%%)")
    compare.add_argument("--confidence", metavar="C", help="confidence of intervals and verdicts (default: 0.99)")
    compare.add_argument("--json", action="store_true", help="print JSON")
    _add_explain(commands)
    _add_bisect(commands)
    advise = commands.add_parser("advise", help="try the known levers on what a test measures, and say what would make it cheaper")
    advise.add_argument("test", metavar="TEST", help="node id of a test that uses energy_meter, such as tests/test_chat.py::test_answers")
    advise.add_argument("--students", action="store_true", help="try small models, too, that are fitted on today's answers")
    advise.add_argument("--meter", metavar="NAME,...", help="meters in order of preference (default: as in pyproject.toml)")
    advise.add_argument("--json", metavar="FILE", help="write the JSON report to this file")
    advise.add_argument("--html", metavar="FILE", help="write the page to this file")
    _add_gather(commands)
    _add_fleet(commands)
    _add_stars(commands)
    _add_reports(commands)
    return parser


def _add_explain(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """``explain``, which says where in a model the energy goes, or a difference."""
    explain = commands.add_parser("explain", help="say where the work of a test is, or where a difference to another commit or report is")
    explain.add_argument("what", metavar="TEST | A B", nargs="+", help="node id of a test that uses energy_meter, or two JSON reports")
    explain.add_argument("--base-ref", metavar="REF", help="say where the difference to this commit is: a branch, tag or commit")
    explain.add_argument("--run", metavar="NAME", help="the run of the test that is called so (default: the one without a name)")
    explain.add_argument("--seconds", type=float, default=15.0, metavar="S", help="longest time to look, loading aside (default: 15)")
    explain.add_argument("--meter", metavar="NAME,...", help="meters in order of preference (default: as in pyproject.toml)")
    explain.add_argument("--json", action="store_true", help="print JSON")


def _add_bisect(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """``bisect``, which looks for the commit since which a test uses more."""
    bisect = commands.add_parser("bisect", help="find the commit since which a test uses more, by pairs measured beside a good commit")
    bisect.add_argument("test", metavar="TEST", help="node id of a test that uses energy_meter, such as tests/test_chat.py::test_answers")
    bisect.add_argument("--good", metavar="REF", required=True, help="a branch, tag or commit that was fine")
    bisect.add_argument("--bad", metavar="REF", required=True, help="one that is not: the rise is looked for up to it")
    bisect.add_argument("--metric", metavar="M", default="energy_per_query", help="what rose (default: energy_per_query)")
    bisect.add_argument("--run", metavar="NAME", help="the run of the test that is called so (default: the one without a name)")
    bisect.add_argument("--setup", metavar="CMD", help="gets each checkout ready; a .venv that it makes there is used")
    bisect.add_argument("--all", action="store_true", help="where a merge is found, search the branch that it brought in, too")
    bisect.add_argument(
        "--rename", metavar="OLD=NEW", action="append", default=[], help="commits without the test NEW have it as OLD; may be repeated"
    )
    bisect.add_argument("--confidence", metavar="C", help="how sure the answer must be (default: as in pyproject.toml, else 0.99)")
    bisect.add_argument("--meter", metavar="NAME,...", help="meters in order of preference (default: as in pyproject.toml)")
    bisect.add_argument("--json", metavar="FILE", help="write the answer and all pairs to this file")


def _add_gather(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """``gather``, which judges the reports of many hosts as one session."""
    gather = commands.add_parser("gather", help="one verdict over the JSON reports of many hosts; exit status 1 where it is red")
    gather.add_argument("reports", metavar="REPORT", nargs="+", help="a JSON report of a measured session, or a folder of them")
    gather.add_argument("--expect-hardware", metavar="NAME,...", help='kinds that must have measured every test, such as "H100,L4"')
    gather.add_argument(
        "--expect-tests",
        metavar="ARGS",
        help="pytest arguments: the metered tests that they collect here must have been measured; @FILE: node ids, one a line",
    )
    gather.add_argument("--expect-hosts", metavar="N", help="how many hosts of each kind must have measured every test (default: 1)")
    gather.add_argument("--commit", metavar="SHA", help="the commit that was to be measured (default: the one that is checked out here)")
    gather.add_argument("--tolerance", metavar="P", help="how much worse is still fine (default: as in pyproject.toml, else 5%%)")
    gather.add_argument("--confidence", metavar="C", help="confidence of intervals and verdicts (default: 0.99)")
    _add_whole(gather)


def _add_fleet(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """``fleet``, which measures on the nodes of a cluster, and gathers."""
    fleet = commands.add_parser("fleet", help="measure on the nodes of a Ray cluster, and make one verdict of it")
    fleet.add_argument(
        "--ray", metavar="ADDRESS", required=True, help="the cluster: HOST:PORT, auto, or local: one is started here, with stand-in GPUs"
    )
    fleet.add_argument("--hardware", metavar="NAME,...", help='kinds that measure every test, such as "H100,L4" (default: fleet.hardware)')
    fleet.add_argument("--repeat", metavar="N", help="how many times each kind measures every test (default: fleet.hosts, else 1)")
    fleet.add_argument("--gpus", metavar="N", default="1", help="GPUs of a node that a test has (default: 1)")
    fleet.add_argument("--timeout", metavar="S", default="1800", help="longest time of a test on a node, in seconds (default: 1800)")
    _add_whole(fleet)
    fleet.add_argument("arguments", metavar="-- ARGUMENT", nargs="*", help="what pytest is given on every node: tests and options")


def _add_whole(command: argparse.ArgumentParser) -> None:
    """What ``gather`` and ``fleet`` take for all hosts together."""
    command.add_argument("--baseline", metavar="NAME", help="judge against the saved runs of a baseline, too")
    command.add_argument(
        *("-o", "--output"),
        metavar="PATH",
        action="append",
        default=[],
        help="write the report here: a .html, .md, .json or .xml (JUnit) file; may be given several times",
    )


def _add_reports(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """``report`` and ``history``, which show what was measured before."""
    report = commands.add_parser("report", help="write the HTML page or the Markdown of sessions that were measured before")
    report.add_argument("runs", metavar="RUN", nargs="+", help="a JSON report, a folder of them, or the name of a baseline")
    report.add_argument("-o", "--output", metavar="PATH", default="report.html", help="a .html or .md file (default: report.html)")
    history = commands.add_parser("history", help="list the figures of the sessions that were saved, each with its commit")
    history.add_argument("baseline", metavar="BASELINE", nargs="*", help="the baselines to list (default: all)")
    history.add_argument("--test", metavar="TEXT", help="only tests whose node id holds this")
    history.add_argument("--json", action="store_true", help="print JSON")


def _add_stars(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """``rate`` and ``badge``, which take the same: what is rated, and on which scale."""
    rate = commands.add_parser(
        "rate", help="AI Energy Score stars of a figure or a saved run; exit status 3 where no measured energy is found"
    )
    badge = commands.add_parser("badge", help="write the stars of a saved run as SVG; exit status 3 where they are only indicative")
    for parser in (rate, badge):
        parser.add_argument(
            "what",
            metavar="WHAT",
            help="Wh of GPU energy per 1,000 queries (3.2), an energy per query (1.4 J, '0.4 Wh/1000 queries'), or saved runs: "
            "a JSON report, a folder of them, or the name of a baseline",
        )
        parser.add_argument("--task", help="the task, such as text_classification (default: the one whose protocol the run followed)")
        parser.add_argument(
            "--class", dest="model_class", metavar="A|B|C", help="size of a model that generates text or reasons: up to 20, 66, more B"
        )
        parser.add_argument("--test", metavar="NODEID", help="the test whose run is rated (default: the only one)")
        parser.add_argument("--run", metavar="NAME", help="the run of the test that is called so (default: the one without a name)")
        parser.add_argument(
            "--reference",
            metavar="DATE|PATH",
            action="append",
            help="leaderboard: 2025-02, or a newer one's CSV file or folder of them (default: the one that the run was measured for, else "
            f"2025-02){'; may be repeated' if parser is rate else ''}",
        )
    rate.add_argument("--json", action="store_true", help="print JSON")
    badge.add_argument("--output", metavar="PATH", default="energy-score.svg", help="the file to write (default: energy-score.svg)")
    badge.add_argument("--name", help="the model's name, to stand on the badge")


def _run(given: argparse.Namespace) -> int:
    """The command's own module, by its name in ``COMMANDS``: imported only when it is called, so that each starts as fast as it can."""
    called = "deep" if getattr(given, "deep", False) else COMMANDS[COMMANDS.index(given.command)]
    module = import_module(f"pytest_greencompute.commands.{called}")
    run: Callable[[Arguments, Path], int] = module.run
    return run(vars(given), Path.cwd())


if __name__ == "__main__":
    raise SystemExit(main())
