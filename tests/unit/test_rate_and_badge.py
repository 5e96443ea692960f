"""greencompute rate and badge: what they say of a figure and of a saved run, their exit status, and an SVG that any reader can read."""

from __future__ import annotations

import json
import os
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import block, run, source

from pytest_greencompute import cli
from pytest_greencompute.estimates.estimate import Aim
from pytest_greencompute.estimates.of_run import Figures
from pytest_greencompute.estimates.star_scale import Rating, rate
from pytest_greencompute.report.badge import EDGE, GOLD, GROUND, PLAIN, STRONG, badge
from pytest_greencompute.report.escape import fitted
from pytest_greencompute.results.document import result_to_json
from pytest_greencompute.results.provenance_json import PROTOCOL, provenance_from_json
from pytest_greencompute.results.result import Result
from pytest_greencompute.results.run_json import SCHEMA
from pytest_greencompute.store.files import to_json, write_atomically
from pytest_greencompute.values.provenance import Provenance
from pytest_greencompute.values.run import Run

SVG = "{http://www.w3.org/2000/svg}"
TEST = "tests/test_chat.py::test_answers"
H100 = source(device="NVIDIA H100 80GB HBM3", uuid="GPU-8d0a5f4e", systematic=0.05)
KEPT = {"queries_of": "asr", "output_of": "asr"}


def measured(**fields: Any) -> Run:
    """A run of ten passes over 1,000 queries as the protocol for asr has it: 36 J a query, which is 10 Wh per 1,000 queries."""
    blocks = [block(36_000.0 * (1 + k / 1000), set_index=k, queries=1000, gap_s=0.0) for k in range(10)]
    made: dict[str, Any] = {
        "test": TEST,
        "queries": 1000,
        "batch_size": 1,
        "sources": (H100,),
        "provenance": provenance_from_json({PROTOCOL: KEPT}),
    }
    return run(**{"blocks": blocks, **made, **fields})


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def saved(*runs: Run, name: str = "energy.json") -> str:
    shown = [result_to_json(Result.of(each, Figures(each, Aim()).every())) for each in runs]
    write_atomically(Path(name), to_json({"schema": SCHEMA, "runs": shown}))
    return name


def told(capsys: pytest.CaptureFixture[str], *args: str, status: int = 0) -> str:
    """What ``greencompute`` prints where all goes well (stdout), or the reason where not (stderr)."""
    assert cli.main(args) == status
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return out if status == 0 else err


# rate: a figure


def test_a_figure_has_stars_a_scale_a_date_and_is_only_indicative(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "rate", "8.2", "--task", "text_generation", "--class", "A").splitlines() == [
        "★★★★☆  4 of 5 stars for text_generation class A",
        "energy: 8.2 Wh per 1,000 queries (29.5 J per query)",
        "scale: 1.313 (best) to 28.74 (worst) Wh per 1,000 queries, 32 models",
        "reference: AI Energy Score, 2025-02, https://huggingface.co/spaces/AIEnergyScore/Leaderboard",
        "indicative only:",
        "  - a bare figure: nothing shows how it was measured",
    ]


@pytest.mark.parametrize(
    ("figure", "energy"),
    [("1.4 J", 1.4 / 3.6), ("0.4 Wh/1000 queries", 0.4), ("0.4 Wh/1,000 queries", 0.4), ("0.4 mWh", 0.4), ("0.4", 0.4), (" 4e-1 ", 0.4)],
)
def test_a_figure_may_have_a_unit(capsys: pytest.CaptureFixture[str], figure: str, energy: float) -> None:
    found = json.loads(told(capsys, "rate", figure, "--task", "text_classification", "--json"))
    assert found["wh_per_1000_queries"] == {"value": pytest.approx(energy), "low": None, "high": None}
    assert (found["stars"], found["of"], found["reference"], found["test"]) == (5, 5, "2025-02", None)
    assert found["indicative"]


def test_beyond_the_scale_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert "13 models; less than any of them" in told(capsys, "rate", "0.1", "--task", "asr")
    assert "13 models; more than any of them" in told(capsys, "rate", "100", "--task", "asr")


def board(folder: str, best: float = 0.001, worst: float = 0.006, name: str = "asr", column: str = "") -> str:
    """A folder with one task's file: what its best and worst model use, in kWh per 1,000 queries; ``column`` is their class."""
    Path(folder).mkdir()
    head, rest = (",class", f",{column}") if column else ("", "")
    rows = f"a,{best},5{rest}\nb,{worst},1{rest}\n"
    Path(folder, f"{name}.csv").write_text(f"model,total_gpu_energy,energy_score{head}\n{rows}", encoding="utf-8")
    return folder


BAD = [
    (["-3", "--task", "asr"], "An energy of -3.0 Wh"),
    (["0", "--task", "asr"], "An energy of 0.0 Wh"),
    (["nan", "--task", "asr"], "An energy of nan Wh"),
    (["1e999", "--task", "asr"], "An energy of inf Wh"),
    (["3 Watt", "--task", "asr"], "unknown unit, 'Watt'"),
    (["3 W", "--task", "asr"], "is a power, not an energy"),
    (["3,2 J", "--task", "asr"], "decimal comma"),
    (["3.2"], "none is given. Add --task"),
    (["3.2", "--task", "text-generation"], "Did you mean 'text_generation'?"),
    (["3.2", "--task", "text_generation"], "is rated by class"),
    (["3.2", "--task", "asr", "--class", "A"], "has no classes"),
    (["3.2", "--task", "asr", "--test", TEST], "is a figure; --test and --run choose among saved runs"),
    (["3.2", "--task", "asr", "--reference", "2024-08"], "The reference is '2024-08', and there is no such file"),
    (["3.2", "--task", "asr", "--reference", "undated"], "has no date, and stars belong to one dated leaderboard"),
    (["3.2", "--task", "ocr", "--reference", "2026-08"], "The leaderboard of 2026-08 has no task 'ocr'."),
    (["energy.json", "--task", "reasoning", "--class", "A"], "has no task 'reasoning'. It came in 2025-12: fetch"),
    (["nowhere.json", "--task", "asr"], "is no file, no folder and no baseline"),
    (["", "--task", "asr"], "holds no JSON report"),
    (["x" * 5000, "--task", "asr"], "cannot be read"),
    (
        ["energy.json", "--task", "asr", "--test", "tests/test_x.py::test_other"],
        f"holds no runs for --test tests/test_x.py::test_other. Choose one by --test and --run: {TEST}",
    ),
    (["broken.json", "--task", "asr"], "is not a whole run file"),
]


@pytest.mark.parametrize("command", ["rate", "badge"])
@pytest.mark.parametrize(("args", "says"), BAD)
def test_bad_input_exits_with_two_and_says_what_is_wrong(
    capsys: pytest.CaptureFixture[str], command: str, args: list[str], says: str
) -> None:
    if args[0]:
        saved(measured())
        Path("broken.json").write_text('{"schema": ', encoding="utf-8")
        board("2026-08")
        board("undated")
    assert says in told(capsys, command, *args, status=2)
    assert not Path("energy-score.svg").exists()


@pytest.mark.parametrize("command", ["rate", "badge"])
def test_nothing_to_rate_is_bad_usage(capsys: pytest.CaptureFixture[str], command: str) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main([command])
    assert left.value.code == 2


def test_a_terminal_without_stars_gets_asterisks() -> None:
    from pytest_greencompute.commands import rate as command

    (first, *_) = command.told(command.rated("30", Path.cwd(), {"task": "asr"}))
    assert first == "★★★★☆  4 of 5 stars for asr"
    for encoding in ("ascii", "cp1252", "unknown", None):
        assert fitted(first, encoding) == "****-  4 of 5 stars for asr"


def test_a_newer_leaderboard_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    board("2026-08")
    for path in ("2026-08", "2026-08/asr.csv"):
        found = json.loads(told(capsys, "rate", "3", "--task", "asr", "--reference", path, "--json"))
        assert (found["stars"], found["reference"], found["source"]) == (3, "2026-08", str(Path(path).absolute()))


def test_the_stars_on_several_leaderboards_stand_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    two = ("--reference", "2025-02", "--reference", board("2026-08"))
    assert told(capsys, "rate", "3", "--task", "asr", *two).splitlines() == [
        "★★★★★  5 of 5 stars for asr",
        "energy: 3 Wh per 1,000 queries (10.8 J per query)",
        "scale: 0.6197 (best) to 86.68 (worst) Wh per 1,000 queries, 13 models",
        "reference: AI Energy Score, 2025-02, https://huggingface.co/spaces/AIEnergyScore/Leaderboard",
        "",
        "★★★☆☆  3 of 5 stars for asr",
        "scale: 1.000 (best) to 6.000 (worst) Wh per 1,000 queries, 2 models",
        f"reference: AI Energy Score, 2026-08, {Path.cwd() / '2026-08'}",
        "",
        "indicative only:",
        "  - a bare figure: nothing shows how it was measured",
    ]
    found = json.loads(told(capsys, "rate", "3", "--task", "asr", *two, "--json"))
    assert [(each["reference"], each["stars"]) for each in found] == [("2025-02", 5), ("2026-08", 3)]
    said = told(capsys, "rate", saved(measured()), *two).splitlines()
    assert (said.count(f"run: {TEST}"), [line for line in said if "of 5" in line]) == (
        1,
        ["★★★★★  5 of 5 stars for asr", "★☆☆☆☆  1 of 5 stars for asr"],
    )
    assert "A badge shows the stars on one leaderboard, and 2 are named." in told(capsys, "badge", "energy.json", *two, status=2)


@pytest.mark.parametrize("others", [("2025-02", "2025-02"), ("2026-08", "copy-of-2026-08"), ("2026-08", "2026-08/asr.csv")])
def test_two_references_of_one_date_are_refused(capsys: pytest.CaptureFixture[str], others: tuple[str, str]) -> None:
    board("2026-08")
    board("copy-of-2026-08")
    said = told(capsys, "rate", "3", "--task", "asr", "--reference", others[0], "--reference", others[1], status=2)
    assert f"Two references are of {others[0]}: {others[0]} and {others[1]}." in said


def test_a_reference_without_the_task_is_refused_beside_one_that_has_it(capsys: pytest.CaptureFixture[str]) -> None:
    two = ("--reference", board("2025-12", name="reasoning", column="A"), "--reference", "2025-02")
    said = told(capsys, "rate", "3", "--task", "reasoning", "--class", "A", *two, status=2)
    assert "The leaderboard of 2025-02 has no task 'reasoning'." in said


# rate: a saved run


def test_a_run_is_rated_on_the_leaderboard_that_it_was_measured_for(capsys: pytest.CaptureFixture[str]) -> None:
    scale = {"reference": "2025-12", "source": "there", "lowest": 5.0, "highest": 15.0, "models": 4}
    kept = {"task": "reasoning", "model_class": "A", "queries_of": "reasoning", "output_of": "", **scale}
    path = saved(measured(provenance=provenance_from_json({PROTOCOL: kept}), tokens=(20,) * 1000, reasoning=(9,) * 1000))
    found = json.loads(told(capsys, "rate", path, "--json"))
    assert (found["stars"], found["reference"], found["source"], found["indicative"]) == (3, "2025-12", "there", [])
    assert "5 of 5 stars for reasoning class A" in told(capsys, "rate", path, "--reference", board("2026-08", 0.02, 1, "reasoning", "A"))
    assert "stars for asr" in told(capsys, "rate", path, "--task", "asr")  # which that scale is not of
    told(capsys, "badge", path)
    assert texts(ET.parse("energy-score.svg").getroot())[:2] == ["AI Energy Score 2025-12", "reasoning, class A"]


def test_a_run_that_followed_the_protocol_is_rated_without_reservation(capsys: pytest.CaptureFixture[str]) -> None:
    said = told(capsys, "rate", saved(measured())).splitlines()
    assert said[:2] == ["★★★★★  5 of 5 stars for asr", f"run: {TEST}"]
    # Ten passes of 36 J and up to 0.9 % more; the interval holds the 5 % by which cards differ.
    assert said[2] == "energy: 10.04 [9.542, 10.55] Wh per 1,000 queries (36.2 J per query)"
    assert not any("indicative" in line for line in said)


def test_an_interval_that_spans_stars_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(measured(provenance=Provenance()))
    # 10 Wh is where asr's edge would be if its best model used 0.4 and its worst 48.4.
    board("2026-08", 0.0004, 0.0484)
    args = ("rate", path, "--task", "asr", "--reference", "2026-08")
    assert "within its interval: 4 to 5 stars" in told(capsys, *args)
    found = json.loads(told(capsys, *args, "--json"))
    assert (found["stars_low"], found["stars_high"]) == (4, 5)
    assert found["wh_per_1000_queries"]["low"] < 10 < found["wh_per_1000_queries"]["high"]


@pytest.mark.parametrize(
    ("fields", "reasons"),
    [
        ({"batch_size": 8}, ["the batch size was 8"]),
        ({"sources": (replace(H100, device="NVIDIA A100-SXM4-80GB"),)}, ["measured on NVIDIA A100-SXM4-80GB"]),
        ({"sources": (replace(H100, device=""),)}, ["measured on a GPU without a name"]),
        ({"queries": 100}, ["there were 100 queries"]),
        ({"blocks": [block(36_000.0, queries=1000, set_index=k) for k in range(2)]}, ["passes over the queries: 2"]),
        ({"provenance": Provenance()}, ["nothing says that the queries", "nothing says that the answers"]),
        (
            {"provenance": provenance_from_json({PROTOCOL: {"queries_of": 7, "output_of": ["asr"]}})},
            ["nothing says that the queries", "nothing says that the answers"],
        ),
        ({"provenance": provenance_from_json({PROTOCOL: "asr"})}, ["nothing says that the queries", "nothing says that the answers"]),
        (
            {"provenance": provenance_from_json({PROTOCOL: {**KEPT, "output_of": "summarization"}})},
            ["the answers have the length that the protocol for summarization"],
        ),
    ],
)
def test_each_way_in_which_a_run_differs_from_the_protocol_is_said_and_makes_no_badge(
    capsys: pytest.CaptureFixture[str], fields: dict[str, Any], reasons: list[str]
) -> None:
    path = saved(measured(**fields))
    found = json.loads(told(capsys, "rate", path, "--task", "asr", "--json"))
    assert found["stars"] == 5
    said = told(capsys, "badge", path, "--task", "asr", status=3)
    for reason, one in zip(reasons, found["indicative"], strict=True):
        assert one.startswith(reason)
        assert reason in said
    assert not Path("energy-score.svg").exists()


def test_the_processors_energy_is_no_gpus(capsys: pytest.CaptureFixture[str]) -> None:
    cpu = source("cpu", device="Made CPU")
    path = saved(measured(sources=(cpu,), blocks=[block({"cpu": 36_000.0}, queries=1000, set_index=k) for k in range(10)]))
    assert [reason[:14] for reason in json.loads(told(capsys, "rate", path, "--json"))["indicative"]] == [
        "nothing says o",
        "it counts cpu;",
    ]


@pytest.mark.parametrize("command", ["rate", "badge"])
@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"sources": (replace(H100, method="modelled"),)}, "modelled energy is not rated"),
        ({"problem": "the meter was lost"}, "has no energy that could be rated: the meter was lost."),
        ({"blocks": ()}, "no block was measured"),
        ({"metered": False, "blocks": ()}, "has no energy that could be rated"),
        ({"blocks": [block(0.0, queries=1000, set_index=k, busy_s=0.1, gap_s=0.0) for k in range(10)]}, "it came out as 0 J per query"),
        ({"blocks": [block(0.0, queries=1000, set_index=k) for k in range(10)]}, "the counter of gpu:0 stood still"),
    ],
)
def test_what_has_no_measured_energy_is_not_rated(
    capsys: pytest.CaptureFixture[str], command: str, fields: dict[str, Any], says: str
) -> None:
    assert says in told(capsys, command, saved(measured(**fields)), "--task", "asr", status=3)
    assert not Path("energy-score.svg").exists()


def test_not_rated_is_told_as_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["rate", saved(), "--task", "asr", "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert found["stars"] is None
    assert "energy.json holds no run" in found["reason"]


def test_a_run_is_chosen_by_test_and_name(capsys: pytest.CaptureFixture[str]) -> None:
    other = "tests/test_chat.py::test_other"
    path = saved(measured(), measured(name="prefill"), measured(test=other, name="prefill"))
    for chosen, test, name in (
        (["--test", TEST], TEST, None),
        (["--test", TEST, "--run", "prefill"], TEST, "prefill"),
        (["--test", other], other, "prefill"),
    ):
        found = json.loads(told(capsys, "rate", path, *chosen, "--json"))
        assert (found["test"], found["name"]) == (test, name)
    assert f"holds 3 runs. Choose one by --test and --run: {TEST}, {TEST} --run prefill, {other} --run prefill." in told(
        capsys, "rate", path, status=2
    )
    assert "holds 2 runs for --run prefill." in told(capsys, "rate", path, "--run", "prefill", status=2)


def test_of_a_folder_the_newest_run_is_rated_that_was_metered(capsys: pytest.CaptureFixture[str]) -> None:
    saved(measured(), name="runs/1.json")
    saved(measured(blocks=[block(72_000.0, queries=1000, set_index=k) for k in range(10)]), name="runs/2.json")
    saved(measured(metered=False, blocks=()), name="runs/3.json")
    assert json.loads(told(capsys, "rate", "runs", "--json"))["wh_per_1000_queries"]["value"] == pytest.approx(20)


def test_a_file_whose_name_is_a_number_needs_a_dot_and_slash(capsys: pytest.CaptureFixture[str]) -> None:
    saved(measured(), name="3")
    assert json.loads(told(capsys, "rate", "3", "--task", "asr", "--json"))["test"] is None
    assert json.loads(told(capsys, "rate", "./3", "--json"))["test"] == TEST


# badge


def drawn(model: str = "", **fields: Any) -> ET.Element:
    rating = rate(8.2, task="text_generation", model_class="A")
    return ET.fromstring(badge(replace(rating, **fields), model))


def texts(svg: ET.Element) -> list[str]:
    return [str(text.text) for text in svg.iter(f"{SVG}text")]


def test_a_badge_is_written_for_a_run_that_followed_the_protocol(capsys: pytest.CaptureFixture[str]) -> None:
    said = told(capsys, "badge", saved(measured()), "--output", "docs/score.svg", "--name", "org/model")
    assert said.splitlines() == [
        f"wrote: {Path.cwd() / 'docs' / 'score.svg'}",
        "[![AI Energy Score: 5 of 5 stars](score.svg)](https://huggingface.co/spaces/AIEnergyScore/Leaderboard)",
    ]
    assert [path.name for path in Path("docs").iterdir()] == ["score.svg"]
    svg = ET.parse("docs/score.svg").getroot()
    assert texts(svg) == ["AI Energy Score 2025-02", "asr", "10.0 Wh per 1,000 queries", "org/model"]


def test_a_badge_says_stars_task_energy_and_date_to_eyes_and_to_screen_readers() -> None:
    svg = drawn()
    assert texts(svg) == ["AI Energy Score 2025-02", "text generation, class A", "8.20 Wh per 1,000 queries"]
    fills = [star.get("fill") for star in svg.iter(f"{SVG}polygon")]
    assert fills == [GOLD] * 4 + ["none"]
    said = "AI Energy Score: 4 of 5 stars for text generation, class A, 8.20 Wh per 1,000 queries, leaderboard of 2025-02"
    assert (svg.get("role"), svg.get("aria-label"), svg.findtext(f"{SVG}title")) == ("img", said, said)


@pytest.mark.parametrize("stars", [1, 2, 3, 4, 5])
def test_a_badge_has_as_many_filled_stars_as_the_rating(stars: int) -> None:
    assert [star.get("fill") for star in drawn(stars=stars).iter(f"{SVG}polygon")].count(GOLD) == stars


def test_a_badge_loads_nothing_and_runs_nothing() -> None:
    svg = drawn("<script>alert(1)</script><image href='https://x.example/'/>")
    assert {element.tag.removeprefix(SVG) for element in svg.iter()} == {"svg", "title", "rect", "g", "text", "polygon"}
    names = {name for element in svg.iter() for name in element.attrib}
    assert not any("href" in name or name.startswith("on") or name == "style" for name in names)


HOSTILE = [
    "</text></svg><script>alert(1)</script>",
    "\"'><&amp;]]>",
    "a\x00b\x1b[31mc\ud800d\ufffee",
    "\u202egnp.exe",
    "日本語" * 30,
    "x" * 10_000,
    "one\ntwo\tthree",
    "&#0;&#x1b;%00{0}%s",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_stays_text(name: str) -> None:
    svg = drawn(name, task=name, model_class=name, reference=name)
    assert len(texts(svg)) == 4
    assert all("\u202e" not in text and "\x1b" not in text for text in texts(svg))
    assert len(texts(svg)[3]) <= 48


@given(st.text(st.characters(), max_size=60))
def test_any_name_gives_a_file_that_an_xml_parser_reads(name: str) -> None:
    text = badge(rate(8.2, task="asr"), name)
    svg = ET.fromstring(text.encode())
    if name.isprintable() and 0 < len(name) <= 48:
        assert texts(svg)[3] == name


def test_long_text_is_squeezed_into_its_room_and_short_text_is_not() -> None:
    squeezed = [text.get("textLength") for text in drawn("W" * 48, task="t" * 40).iter(f"{SVG}text")]
    assert [length is not None for length in squeezed] == [False, True, False, True]


def luminance(colour: str) -> float:
    """Relative luminance by WCAG 2.2."""
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("colour", [STRONG, PLAIN, GOLD])
def test_a_badge_has_a_ground_of_its_own_on_which_everything_is_readable(colour: str) -> None:
    (ground,) = drawn().iter(f"{SVG}rect")
    assert ground.get("fill") == GROUND
    assert contrast(colour, GROUND) >= 7  # WCAG AAA


@pytest.mark.parametrize("page", ["#ffffff", "#0d1117"])
def test_the_edge_of_a_badge_is_seen_on_light_and_on_dark_pages(page: str) -> None:
    assert max(contrast(EDGE, page), contrast(GROUND, page)) >= 3  # WCAG 1.4.11


@pytest.mark.parametrize("output", ["pyproject.toml", "badge.png", "badge", "-"])
def test_only_an_svg_is_written(capsys: pytest.CaptureFixture[str], output: str) -> None:
    Path("pyproject.toml").write_text("# mine\n", encoding="utf-8")
    assert "ends in .svg" in told(capsys, "badge", saved(measured()), f"--output={output}", status=2)
    assert Path("pyproject.toml").read_text(encoding="utf-8") == "# mine\n"


def unwritable() -> Sequence[str]:
    """Paths that nobody can write, root neither."""
    Path("file").write_text("", encoding="utf-8")
    Path("folder.svg").mkdir()
    return ("file/score.svg", "folder.svg", f"{'x' * 300}.svg")


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_place_that_cannot_be_written_is_told_and_nothing_is_left_behind(capsys: pytest.CaptureFixture[str], which: int) -> None:
    path = saved(measured())
    output = unwritable()[which]
    assert "cannot be written" in told(capsys, "badge", path, "--output", output, status=2)
    assert not [left for left in Path().rglob("*") if left.suffix in {".part", ".svg"} and left.is_file()]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into every folder")
def test_a_read_only_folder_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(measured())
    Path("closed").mkdir(mode=0o500)
    assert "cannot be written: Permission denied" in told(capsys, "badge", path, "--output", "closed/score.svg", status=2)


def test_an_earlier_badge_is_replaced_by_a_new_one_and_left_where_none_is_due(capsys: pytest.CaptureFixture[str]) -> None:
    badge_file = Path("energy-score.svg")
    badge_file.write_text("<svg/>", encoding="utf-8")
    said = told(capsys, "badge", saved(measured(batch_size=8)), status=3)
    assert said.startswith("No badge was written.\nThe stars are only indicative:\n  - the batch size was 8; the protocol's is 1\n")
    assert "energy-score.svg is left as it was; it is an earlier badge." in said
    assert badge_file.read_text(encoding="utf-8") == "<svg/>"
    told(capsys, "badge", saved(measured()))
    assert "5 of 5 stars for asr" in badge_file.read_text(encoding="utf-8")


def test_a_bare_figure_gets_no_badge(capsys: pytest.CaptureFixture[str]) -> None:
    said = told(capsys, "badge", "3.2", "--task", "asr", status=3)
    assert "nothing shows how it was measured" in said
    assert not Path("energy-score.svg").exists()


def test_a_rating_is_a_value() -> None:
    rating = rate(8.2, task="asr")
    assert rating == rate(8.2, task="asr")
    assert isinstance(hash(rating), int)
    assert isinstance(rating, Rating)
