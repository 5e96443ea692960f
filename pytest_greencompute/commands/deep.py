"""``greencompute doctor --deep``: looks closely at one GPU, and writes a page that can be published."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

from pytest_greencompute import __version__
from pytest_greencompute.commands import Arguments
from pytest_greencompute.commands.saying import say, waiting
from pytest_greencompute.errors import GreencomputeError, MeterError, SettingsError
from pytest_greencompute.machine import facts as machine
from pytest_greencompute.machine.clock import RealClock
from pytest_greencompute.measuring.device import DeviceLoad, look_closely
from pytest_greencompute.meters.base import MeterOptions
from pytest_greencompute.meters.instruments import Instruments
from pytest_greencompute.meters.registry import open_counters
from pytest_greencompute.report.device import as_html, as_json, as_markdown, sections
from pytest_greencompute.report.escape import json_text
from pytest_greencompute.store.files import check_writable, write_atomically
from pytest_greencompute.values.powers import DISAGREE

SIZE = 2048  # rows of the square matrices: tens of microseconds a product on a data-centre GPU, half a millisecond on a small one
QUERY_S, CALIBRATION = 0.01, 200
NO_LOAD = "--load MODULE:FUNCTION names a function of yours that keeps the GPU busy for some milliseconds and returns when it has finished"
FINDS = (
    "its tick, what reads cost, its lag, how much of the time it sees, whether its counter agrees with its power, and what one run shows"
)


def run(given: Arguments, root: Path) -> int:
    """The command. 0: looked, and the page is written; 1: no GPU counts its energy here. Raises SettingsError for a load that is none."""
    folder = Path(given["output"] or root)
    check_writable(folder / "device.json")
    options = MeterOptions(RealClock(), os.environ)
    try:
        opened = open_counters([given["meter"] or "nvml"], options, {})
    except MeterError as error:
        print(f"Nothing was looked at: {error}\nOf a GPU that counts its energy this finds {FINDS}.", file=sys.stderr)
        return 1
    instruments = Instruments(opened.counters[:1], options.clock, allowed_marks=frozenset({DISAGREE}))
    try:
        load = _named(given["load"], root) if given["load"] else _products()
        if load is None:
            say(f"no torch that sees a GPU is here, so what needs a load is left out; {NO_LOAD}")
        with instruments.locked(waiting):
            look = look_closely(instruments, load, say)
    except MeterError as error:
        print(f"The look ended: {error}", file=sys.stderr)
        return 1
    finally:
        for counter in opened.counters:
            counter.close()
    seen, today = machine.facts(os.environ), datetime.now(timezone.utc).date()
    page = look, seen, __version__, today
    called = re.sub(r"[^a-z0-9]+", "-", (look.source.device or look.source.domain).lower()).strip("-")
    # Before a file is written, which may fail: it took minutes to find out.
    print(json_text(as_json(*page), sys.stdout.encoding) if given["json"] else "\n".join(_in_words(*page)), flush=True)
    path = folder / called
    told = json_text(as_json(*page), "utf-8") + "\n"
    for suffix, text in (("md", as_markdown(*page)), ("html", as_html(*page)), ("json", told)):
        write_atomically(path.with_name(f"{called}.{suffix}"), text)
    if not given["json"]:
        print(f"\nWritten: {path}.md, .html and .json. No name, address or UUID is in them.")
    return 0


def _in_words(*given: object) -> list[str]:
    """The page for a terminal."""
    lines = []
    for each in sections(*given):  # type: ignore[arg-type]  # what the pages are made of
        lines += [f"\n{each.title}", *(f"  {said}" for said in each.said), *(f"  {'  '.join(filter(None, row))}" for row in each.rows)]
    return lines


def _named(name: str, root: Path) -> DeviceLoad:
    """The user's own function. Raises SettingsError where there is none."""
    module, _, function = name.partition(":")
    sys.path.insert(0, str(root))
    try:
        work: Callable[[], object] = getattr(importlib.import_module(module), function)
    except GreencomputeError:
        raise
    except Exception as error:
        raise SettingsError(
            f"--load {name}: {type(error).__name__}: {error}.", remedy="Write MODULE:FUNCTION, as in bench:work."
        ) from error
    finally:
        sys.path.remove(str(root))
    return DeviceLoad(name, work)


def _products() -> DeviceLoad | None:
    """Products of matrices on the first GPU that torch sees; None where it is not installed or sees none."""
    try:
        import torch
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    matrix = torch.randn(SIZE, SIZE, device="cuda:0", dtype=torch.float16)
    product = torch.empty_like(matrix)

    def multiply(times: int) -> None:
        for _ in range(times):
            torch.matmul(matrix, matrix, out=product)
        torch.cuda.synchronize(0)

    clock = RealClock()
    multiply(CALIBRATION)
    start_ns = clock.now_ns()
    multiply(CALIBRATION)
    times = max(1, round(QUERY_S * CALIBRATION / ((clock.now_ns() - start_ns) / 1e9)))
    return DeviceLoad(f"{times} products of {SIZE} x {SIZE} half-precision matrices, torch {torch.__version__}", lambda: multiply(times))
