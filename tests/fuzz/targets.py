"""The readers of foreign text, each as a function of bytes that returns where it has read or refused them, and raises for a fault of ours.

A reader may refuse: a GreencomputeError, or what its docstring names. Whatever else it raises is a fault, and so is a figure that no such
text can hold: negative, infinite, or no number.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_greencompute.commits.git import Repository
from pytest_greencompute.errors import GreencomputeError
from pytest_greencompute.fleet.part import read_part
from pytest_greencompute.machine.facts import parse_cpuinfo
from pytest_greencompute.meters.exposition import exposed
from pytest_greencompute.meters.promql import series_of
from pytest_greencompute.meters.visible import visible
from pytest_greencompute.results.run_json import read_runs
from pytest_greencompute.serving.wire import AnswerError, answer_of, chunk_of, endpoint_of, models_of, said
from pytest_greencompute.settings.build import build
from pytest_greencompute.settings.toml_file import TomlFile
from pytest_greencompute.store.leaderboard import read_leaderboard
from pytest_greencompute.store.reports import read_session
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.units import parse, parse_intensity, parse_price, parse_traffic, show

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
NESTED = b"[" * 20_000
ENERGY = "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"
UUIDS = ("GPU-8d0a5f4e-6c1b-7e55-93f2-1f4b5a0c9d3e", "GPU-8d0a5f4e-ffff-7e55-93f2-1f4b5a0c9d3e")


@dataclass(frozen=True, slots=True)
class Target:
    """A reader. ``seeds`` are texts that it reads, or refuses for a reason of its own."""

    name: str
    read: Callable[[bytes], object]
    seeds: tuple[bytes, ...]

    @property
    def corpus(self) -> tuple[bytes, ...]:
        """The seeds, and what was kept of earlier runs."""
        return (*self.seeds, *(path.read_bytes() for path in sorted((CORPUS / self.name).glob("*"))))

    def __call__(self, data: bytes) -> None:
        try:
            self.read(data)
        except (GreencomputeError, AnswerError):
            return


def sound(*figures: float | None) -> None:
    """Raises AssertionError for what no meter, clock or count shows."""
    for each in figures:
        assert each is None or (math.isfinite(each) and each >= 0), each


def text_of(data: bytes) -> str:
    return data.decode("utf-8", errors="replace")


def filed(read: Callable[[Path], object], name: str) -> Callable[[bytes], object]:
    """A reader of files, in a folder that is gone afterwards."""

    def reading(data: bytes) -> object:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, name)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
            return read(path)

    return reading


# --- the readers ------------------------------------------------------------------------------------------------------------------------


def read_quantity(data: bytes) -> None:
    for dimension in {metric.dimension.name: metric.dimension for metric in METRICS.values()}.values():
        try:
            value = parse(text_of(data), dimension)
        except GreencomputeError:
            continue
        assert math.isfinite(value)
        show(value, dimension)


def read_prices(data: bytes) -> None:
    for reader in (parse_intensity, parse_traffic, lambda text: parse_price(text)[0]):
        try:
            sound(reader(text_of(data)))
        except GreencomputeError:
            continue


def read_settings(path: Path) -> None:
    settings = build({}, (TomlFile(path),), {}, path.parent)
    settings.lines_for("tests/test_it.py::test_it")


def read_exposed(data: bytes) -> None:
    for series in exposed(data, {ENERGY}, "http://exporter"):
        sound(*(value for value, _ in series.samples))


def read_series(data: bytes) -> None:
    for series in series_of(data, "http://prometheus"):
        sound(*(value for value, _ in series.samples))


def read_visible(data: bytes) -> None:
    found = visible(text_of(data), UUIDS)
    assert set(found.gpus) <= set(range(len(UUIDS)))
    assert len(set(found.gpus)) == len(found.gpus)


def read_answer(data: bytes) -> None:
    endpoint = endpoint_of("openai-chat")
    said(text_of(data))
    readers: tuple[Callable[[], Any], ...] = (
        lambda: models_of(data),
        lambda: answer_of(endpoint, data),
        lambda: chunk_of(endpoint, text_of(data)),
    )
    for reader in readers:
        try:
            found = reader()
        except AnswerError:
            continue
        if not isinstance(found, list):
            sound(found.tokens, found.reasoning, found.prompt, found.cached)
            assert isinstance(found.text, str)


class _Said(Repository):
    """A repository whose git says whatever it is given."""

    def __init__(self, text: str) -> None:
        self.text, self.folder, self.top = text, HERE, HERE

    def ask(self, *words: str, folder: Path | None = None, config: object = ()) -> str:
        return self.text


def read_git(data: bytes) -> None:
    repository = _Said(data.decode("utf-8", errors="surrogateescape"))
    repository.changed_files()
    repository.submodules(HERE)
    repository.head()


def read_processor(data: bytes) -> None:
    cores = parse_cpuinfo(text_of(data)).cores
    assert cores is None or cores > 0


def read_energies(path: Path) -> None:
    for scale in read_leaderboard(path).ranges.values():
        sound(scale.lowest, scale.highest)


def read_saved(path: Path) -> None:
    for run in read_runs(path):
        sound(*(span.seconds for block in run.blocks for span in block.spans.values()))


# --- the table --------------------------------------------------------------------------------------------------------------------------

_ANSWER = {
    "choices": [{"message": {"content": "yes"}, "delta": {"content": "yes"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 1}},
    "data": [{"id": "a-model"}],
}
_MATRIX = {"metric": {"__name__": ENERGY, "UUID": UUIDS[0]}, "values": [[1.0, "5"], [2.0, "7"]]}
_REPORT = {"schema": "greencompute.report/1", "session": {}, "runs": []}

TARGETS = {
    each.name: each
    for each in (
        Target(
            "units",
            read_quantity,
            (
                b"0.4 Wh/1000 queries",
                b"40 ms",
                b"-3 %",
                b"1e308 kWh",
                b"1 \xc2\xb5J",
                b"nan J",
                b"0x10 J",
                b"1.7976e308 J",
                b"1 J/" + b"9" * 5_000 + b" queries",
            ),
        ),
        Target("prices", read_prices, (b"400 g/kWh", b"0.3 EUR/kWh", b"1000 queries/day", b"\xe2\x82\xac 0.2/kWh")),
        Target(
            "settings",
            filed(read_settings, "pyproject.toml"),
            (
                b'[tool.greencompute]\nmeters = ["nvml"]\nmax_seconds = 3\n',
                b'[tool.greencompute.budgets."tests/*"]\nenergy_per_query = "1 J"\non = [{ device = "H100*", accuracy = 0.9 }]\n',
                b"[tool.greencompute]\ntolerance = { energy = 1e400 }\n",
                b"a = " + NESTED,
            ),
        ),
        Target("runs", filed(read_saved, "runs.json"), (json.dumps(_REPORT).encode(), b'{"schema": 3}', NESTED)),
        Target("reports", filed(read_session, "report.json"), (json.dumps(_REPORT).encode(), b"{}", NESTED)),
        Target("parts", filed(lambda path: read_part(path, "part.json"), "part.json"), (json.dumps(_REPORT).encode(), b"null", NESTED)),
        Target("answers", read_answer, (json.dumps(_ANSWER).encode(), b'{"error": {"message": "no"}}', b'{"choices": [3]}', NESTED)),
        Target(
            "leaderboards",
            filed(read_energies, "2025-02/asr.csv"),
            (b"model,total_gpu_energy,energy_score\na/b,0.001,5\nc/d,0.02,1\n", b"model,total_gpu_energy\na,1e400\n", b"\xff\xfe"),
        ),
        Target("git", read_git, (b" M a.py\0?? b.py\0R  new\0old\0", b"submodule.x.path\nlib/x\0", b"R  torn\0")),
        Target("visible", read_visible, (b"0,1", b"GPU-8d0a5f4e-6", b"MIG-1/2/3", b"1,-1,0", "٣".encode(), b"")),
        Target(
            "exporters",
            read_exposed,
            (f'{ENERGY}{{gpu="0"}} 5\n'.encode(), f"{ENERGY} NaN".encode(), f"{ENERGY} {'9' * 400}".encode(), f"{ENERGY}{{".encode()),
        ),
        Target(
            "series",
            read_series,
            (json.dumps({"status": "success", "data": {"resultType": "matrix", "result": [_MATRIX]}}).encode(), NESTED),
        ),
        Target("processors", read_processor, (b"model name : AMD EPYC\ncpu cores : 2\nphysical id : 0\nflags : hypervisor\n",)),
    )
}
