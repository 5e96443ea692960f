"""Stars: the published ones are reproduced, the edges are exact, and what is not like the leaderboard's energy is said."""

from __future__ import annotations

import csv
import math
import os
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pytest_greencompute
from pytest_greencompute.errors import GreencomputeError, NotRatedError, SettingsError
from pytest_greencompute.estimates.star_scale import CHECKS, CLAIM, FEBRUARY_2025, Conditions, Leaderboard, Range, indicative, rate
from pytest_greencompute.store.leaderboard import leaderboard_named, read_entries, read_leaderboard

BESIDE = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "ai-energy-score-2025-02"
PUBLISHED = Path(os.environ.get("GREENCOMPUTE_LEADERBOARD", BESIDE))
published = pytest.mark.skipif(
    not PUBLISHED.is_dir(), reason="the public AI Energy Score figures of February 2025 are not here (GREENCOMPUTE_LEADERBOARD names them)"
)
SCALES = list(FEBRUARY_2025.ranges.items())
AS_PUBLISHED = Conditions(
    method="counter",
    devices=("NVIDIA H100 80GB HBM3",),
    domains=("gpu:0",),
    batch_size=1,
    queries=1000,
    passes=10,
    queries_of="asr",
    output_of="asr",
)


# The published leaderboard


@published
def test_all_166_published_stars_are_reproduced() -> None:
    rated = 0
    for path in sorted(PUBLISHED.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                # As anybody would convert it, in floats.
                wh = float(row["total_gpu_energy"]) * 1000
                assert rate(wh, task=path.stem, model_class=row.get("class")).stars == int(row["energy_score"]), row
                rated += 1
    assert rated == 166


@published
def test_the_shipped_ranges_are_those_of_the_published_files() -> None:
    read = read_leaderboard(PUBLISHED)
    assert dict(read.ranges) == dict(FEBRUARY_2025.ranges)
    assert read.date == FEBRUARY_2025.date == "2025-02"
    assert sum(scale.models for scale in read.ranges.values()) == 166


@published
def test_every_entry_is_read_with_its_line() -> None:
    first, *_ = entries = read_entries(PUBLISHED / "text_generation.csv")
    assert (first.line, first.model_class, first.wh_per_1000_queries, first.stars) == (2, "A", 19.010862, 2)
    assert len(entries) == 40


# The rule


@pytest.mark.parametrize(("key", "scale"), SCALES)
def test_the_best_has_five_stars_and_the_worst_one_and_beyond_them_it_stays_so(key: tuple[str, str | None], scale: Range) -> None:
    for energy, stars in (
        (scale.lowest, 5),
        (scale.highest, 1),
        (scale.lowest / 1000, 5),
        (5e-324, 5),
        (scale.highest * 1000, 1),
        (1e308, 1),
    ):
        assert rate(energy, task=key[0], model_class=key[1]).stars == stars


@pytest.mark.parametrize(("key", "scale"), SCALES)
@pytest.mark.parametrize("fifth", [1, 2, 3, 4])
def test_an_energy_on_the_edge_of_a_star_has_the_fewer_stars(key: tuple[str, str | None], scale: Range, fifth: int) -> None:
    lowest, highest = Decimal(repr(scale.lowest)), Decimal(repr(scale.highest))
    edge = lowest + (highest - lowest) * fifth / 5
    assert scale.stars(float(edge)) == 5 - fifth
    assert scale.stars(float(edge * (1 - Decimal("1e-10")))) == 6 - fifth
    # What converting units leaves in the last bits decides nothing.
    for bits in (float(edge / 1000) * 1000, float(edge * Decimal("3.6")) / 3.6, math.nextafter(float(edge), 0)):
        assert scale.stars(bits) == 5 - fifth


def test_plain_floats_would_be_wrong_on_an_edge() -> None:
    # 0.3 is the edge of the first fifth of 0.1 to 1.1, and floor(5 * (0.3 - 0.1) / (1.1 - 0.1)) is 0 in floats.
    scale = Range(0.1, 1.1, 3)
    assert math.floor(5 * (0.3 - 0.1) / (1.1 - 0.1)) == 0
    assert scale.stars(0.3) == 4


ENERGIES = st.floats(min_value=1e-300, max_value=1e300)


@given(st.sampled_from(SCALES), ENERGIES, ENERGIES)
def test_more_energy_never_has_more_stars(key_and_scale: Any, one: float, other: float) -> None:
    scale = key_and_scale[1]
    less, more = sorted((one, other))
    assert 1 <= scale.stars(more) <= scale.stars(less) <= 5


@given(st.sampled_from(SCALES), st.fractions(0, 1, max_denominator=1000))
def test_the_stars_are_those_of_the_published_rule(key_and_scale: Any, place: Fraction) -> None:
    scale = key_and_scale[1]
    lowest, highest = Fraction(repr(scale.lowest)), Fraction(repr(scale.highest))
    expected = 5 - min(4, math.floor(5 * place))
    assert scale.stars(float(lowest + place * (highest - lowest))) == expected


@given(ENERGIES, ENERGIES, ENERGIES)
def test_any_scale_gives_one_to_five_stars(one: float, other: float, energy: float) -> None:
    lowest, highest = sorted((one, other))
    scale = Range(lowest, highest, 2)
    try:
        assert 1 <= scale.stars(energy) <= 5
    except SettingsError:
        assert f"{lowest:.11e}" == f"{highest:.11e}"


# What a rating says


def test_a_rating_names_its_scale_and_its_leaderboard() -> None:
    rating = pytest_greencompute.rate(3.2, task="text_generation", model_class="B")
    assert (rating.stars, rating.wh_per_1000_queries, rating.task, rating.model_class) == (5, 3.2, "text_generation", "B")
    assert (rating.scale.lowest, rating.scale.highest, rating.reference) == (54.556478, 615.390413, "2025-02")
    assert rating.source.startswith("https://")
    assert str(rating) == "5 of 5 stars for text_generation class B (AI Energy Score, 2025-02, indicative only)"


def test_a_bare_figure_is_a_claim() -> None:
    assert rate(3.2, task="asr").indicative == (CLAIM,)
    assert rate(3.2, task="asr", conditions=Conditions()).indicative == (CLAIM,)


def test_energy_measured_like_the_leaderboards_is_not_indicative() -> None:
    rating = rate(3.2, task="asr", conditions=AS_PUBLISHED)
    assert rating.indicative == ()
    assert str(rating) == "5 of 5 stars for asr (AI Energy Score, 2025-02)"
    assert rate(3.2, task="asr", conditions=replace(AS_PUBLISHED, method="integrated", passes=12)).indicative == ()
    assert rate(3.2, task="asr", conditions=replace(AS_PUBLISHED, devices=("NVIDIA H100 PCIe",))).indicative == ()


OTHERWISE = [
    ({"devices": ("NVIDIA A100-SXM4-80GB",)}, "measured on NVIDIA A100-SXM4-80GB; "),
    ({"devices": ("NVIDIA H100 80GB HBM3 MIG 1g.10gb",)}, "measured on NVIDIA H100 80GB HBM3 MIG 1g.10gb; "),
    ({"devices": ("NVIDIA H100 NVL",)}, "measured on NVIDIA H100 NVL; "),
    ({"devices": ()}, "nothing says on which GPU"),
    ({"devices": ("NVIDIA H100 PCIe",) * 2, "domains": ("gpu:0", "gpu:1")}, "measured on several GPUs"),
    ({"domains": ("gpu:0", "cpu")}, "it counts gpu:0, cpu; "),
    ({"domains": ()}, "nothing says that it is the energy of GPUs alone"),
    ({"batch_size": 32}, "the batch size was 32; "),
    ({"batch_size": None}, "nothing says that the batch size was 1"),
    ({"queries": 512}, "there were 512 queries; the protocol has 1,000"),
    ({"queries": None}, "nothing says how many queries"),
    ({"passes": 9}, "passes over the queries: 9; "),
    ({"passes": None}, "nothing says how many passes"),
    ({"queries_of": "summarization"}, "the queries are those of the protocol for summarization"),
    ({"queries_of": ""}, "nothing says that the queries are the protocol's own"),
    ({"output_of": "summarization"}, "the answers have the length that the protocol for summarization"),
    ({"output_of": ""}, "nothing says that the answers have the length"),
]


@pytest.mark.parametrize(("change", "reason"), OTHERWISE)
def test_each_thing_that_differs_makes_it_indicative_and_is_said(change: dict[str, Any], reason: str) -> None:
    (said,) = rate(3.2, task="asr", conditions=replace(AS_PUBLISHED, **change)).indicative
    assert said.startswith(reason)


def test_a_label_has_no_length_that_could_differ() -> None:
    conditions = replace(AS_PUBLISHED, queries_of="text_classification", output_of="")
    assert rate(3.2, task="text_classification", conditions=conditions).indicative == ()


AS_GENERATED = replace(AS_PUBLISHED, queries_of="text_generation", output_of="", tokens=(10, 10))
AS_REASONED = replace(AS_PUBLISHED, queries_of="reasoning", output_of="", tokens=(1, 8192), reasoning=1)
LENGTHS = [
    (AS_GENERATED, ()),
    (replace(AS_GENERATED, reasoning=0), ()),
    (replace(AS_GENERATED, tokens=None, output_of="text_generation"), ()),
    (replace(AS_GENERATED, tokens=None), ("nothing says that the answers have the length that the protocol sets",)),
    (replace(AS_GENERATED, tokens=(9, 10)), ("the answers have 9 to 10 new tokens; the protocol sets 10",)),
    (replace(AS_GENERATED, tokens=(10, 11)), ("the answers have 10 to 11 new tokens; the protocol sets 10",)),
    # What was counted holds, whatever was claimed.
    (replace(AS_GENERATED, tokens=(64, 64), output_of="text_generation"), ("the answers have 64 new tokens; the protocol sets 10",)),
    (AS_REASONED, ()),
    (replace(AS_REASONED, tokens=(10, 10)), ()),
    (replace(AS_REASONED, reasoning=None), ()),
    (replace(AS_REASONED, tokens=None, output_of="reasoning"), ()),
    (replace(AS_REASONED, tokens=(0, 900)), ("the answers have 0 to 900 new tokens; the protocol sets 1 to 8,192",)),
    (replace(AS_REASONED, tokens=(20, 8193)), ("the answers have 20 to 8,193 new tokens; the protocol sets 1 to 8,192",)),
    (replace(AS_REASONED, reasoning=0), ("no token of the answers is reasoning; the task is rated with reasoning on",)),
    (
        replace(AS_REASONED, tokens=None, output_of="text_generation"),
        ("the answers have the length that the protocol for text_generation sets",),
    ),
]


@pytest.mark.parametrize(("conditions", "reasons"), LENGTHS)
def test_the_length_of_answers_is_what_was_counted_and_only_else_what_is_claimed(conditions: Conditions, reasons: tuple[str, ...]) -> None:
    assert indicative(conditions, conditions.queries_of, "A") == reasons


def test_answers_whose_length_no_protocol_sets_may_have_any() -> None:
    assert rate(3.2, task="asr", conditions=replace(AS_PUBLISHED, tokens=(0, 10**6))).indicative == ()


def test_every_check_is_watched_failing() -> None:
    starts = [reason for _, reason in OTHERWISE] + [reason for _, reasons in LENGTHS for reason in reasons if "length" not in reason]
    for check in CHECKS:
        for sentence in filter(None, (check.sentence, check.unknown)):
            words = sentence.partition("{")[0]
            assert any(start.startswith(words) or sentence.startswith(start) for start in starts), sentence


def test_several_gpus_are_of_class_c_in_both_tasks_with_classes() -> None:
    two = replace(AS_REASONED, devices=("NVIDIA H100 80GB HBM3",) * 2, domains=("gpu:0", "gpu:1"))
    assert indicative(two, "reasoning", "C") == ()
    assert indicative(two, "reasoning", "B") == ("measured on several GPUs; only class C is",)


def test_only_class_c_may_use_several_gpus() -> None:
    two = replace(
        AS_PUBLISHED,
        devices=("NVIDIA H100 80GB HBM3",) * 2,
        domains=("gpu:0", "gpu:1"),
        queries_of="text_generation",
        output_of="text_generation",
    )
    assert rate(2000, task="text_generation", model_class="C", conditions=two).indicative == ()
    assert len(rate(2000, task="text_generation", model_class="B", conditions=two).indicative) == 1


def test_modelled_energy_is_not_rated() -> None:
    with pytest.raises(NotRatedError, match="modelled energy is not rated") as caught:
        rate(3.2, task="asr", conditions=replace(AS_PUBLISHED, method="modelled"))
    assert caught.value.remedy
    assert not isinstance(caught.value, SettingsError)


# Bad input


@pytest.mark.parametrize(
    "energy", [0, 0.0, -0.0, -1, math.nan, math.inf, -math.inf, 10**400, True, False, "3.2", "3.2 J", None, 1 + 0j, [3.2], np.bool_(True)]
)
def test_an_energy_that_is_no_finite_positive_number_is_refused(energy: Any) -> None:
    with pytest.raises(SettingsError) as caught:
        rate(energy, task="asr")
    assert "Wh of GPU energy per 1,000 queries" in caught.value.remedy


@pytest.mark.parametrize("energy", [3, 3.0, Fraction(3), np.float32(3), np.float64(3), np.int64(3)])
def test_any_real_number_is_an_energy(energy: Any) -> None:
    assert rate(energy, task="asr").wh_per_1000_queries == 3.0


@pytest.mark.parametrize(
    ("given_to", "says"),
    [
        ({"task": "text-generation", "model_class": "A"}, "no task 'text-generation'. Did you mean 'text_generation'?"),
        ({"task": "ASR"}, "Did you mean 'asr'?"),
        ({"task": "poetry"}, "Known: asr, image_captioning, "),
        (
            {"task": "reasoning", "model_class": "A"},
            "The leaderboard of 2025-02 has no task 'reasoning'. It came in 2025-12: fetch the files",
        ),
        ({"task": "reasoning", "model_class": "A"}, "/tree/main/data/energy and pass their folder, reference=… or --reference …."),
        ({"task": ""}, "no task ''"),
        ({"task": None}, "no task None"),
        ({"task": ["asr"]}, "no task ['asr']"),
        ({"task": "text_generation"}, "text_generation is rated by class. Known: A, B, C. A: up to 20 billion parameters; "),
        ({"task": "text_generation", "model_class": "a"}, "no class 'a'. Did you mean 'A'?"),
        ({"task": "text_generation", "model_class": "D"}, "no class 'D'. Known: A, B, C."),
        ({"task": "text_generation", "model_class": 1}, "no class 1"),
        ({"task": "asr", "model_class": "A"}, "asr has no classes, and 'A' was given. Leave the class out."),
        ({"task": "asr", "reference": "2025-03"}, "no leaderboard '2025-03' in this package. Did you mean '2025-02'?"),
        ({"task": "asr", "reference": None}, "no leaderboard None"),
        ({"task": "asr", "reference": Path("asr.csv")}, "read_leaderboard()"),
    ],
)
def test_what_there_is_not_is_said_with_what_there_is(given_to: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        rate(3.2, **given_to)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Range(2, 1, 2),
        lambda: Range(0, 1, 2),
        lambda: Range(-1, 1, 2),
        lambda: Range(1, math.inf, 2),
        lambda: Range(math.nan, 1, 2),
        lambda: Range(1, 2, 0),
        lambda: Leaderboard("February", "", {("asr", None): Range(1, 2, 2)}),
        lambda: Leaderboard("2025-13", "", {("asr", None): Range(1, 2, 2)}),
        lambda: Leaderboard("2026-08", "", {}),
        lambda: Leaderboard("2026-08", "", {("asr", None): Range(1, 2, 2), ("asr", "A"): Range(1, 2, 2)}),
        lambda: Conditions(method="guessed"),  # type: ignore[arg-type]
        lambda: Conditions(batch_size=-1),
        lambda: Conditions(queries=True),
        lambda: Conditions(passes=1.5),  # type: ignore[arg-type]
        lambda: Conditions(tokens=(11, 10)),
        lambda: Conditions(tokens=(-1, 10)),
        lambda: Conditions(reasoning=-1),
    ],
)
def test_values_that_make_no_sense_are_refused_at_the_constructor(make: Any) -> None:
    with pytest.raises(SettingsError):
        make()


# A newer leaderboard


def newer(folder: Path, text: str, name: str = "asr.csv") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


HEADER = "model,total_gpu_energy,energy_score\n"
THREE = HEADER + "one,0.001,5\ntwo,0.003,3\nthree,0.006,1\n"


def test_a_newer_leaderboard_rates_from_a_file_or_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "ai-energy-score-2026-08"
    path = newer(folder, THREE)
    newer(folder, "model,total_gpu_energy,energy_score,class\na,0.001,5,A\nb,0.002,1,A\nc,1,,B\nd,2,,B\n", "reasoning.csv")
    board = read_leaderboard(folder)
    assert board.tasks == ("asr", "reasoning")
    assert board.classes("reasoning") == ("A", "B")
    rating = rate(3, task="asr", reference=board)
    assert (rating.stars, rating.reference, rating.source) == (3, "2026-08", str(folder))
    assert rate(1500, task="reasoning", model_class="B", reference=board).stars == 3
    assert rate(3, task="asr", reference=read_leaderboard(path)).stars == 3
    with pytest.raises(SettingsError, match=r"2026-08 has no task 'summarization'.*Known: asr, reasoning"):
        rate(3, task="summarization", reference=board)


def test_the_columns_that_files_have_since_december_2025_are_read_past(tmp_path: Path) -> None:
    more = "test date,total_duration_seconds,total_tokens,gpu_energy_wh,tokens_per_joule,avg_energy_per_prompt_wh"
    rows = "org/one,5.0,5,A,Oct 2025,1148.76,37614,50.5,0.2,5.0\norg/two (high),15.0,1,A,Oct 2025,1209.0,78548,63.1,0.3,6.3\n"
    path = newer(tmp_path / "2025-12", f"model,total_gpu_energy,energy_score,class,{more}\n{rows}", "reasoning.csv")
    board = read_leaderboard(path)
    assert dict(board.ranges) == {("reasoning", "A"): Range(5000.0, 15000.0, 2)}
    assert rate(9000, task="reasoning", model_class="A", reference=board).stars == 3
    with pytest.raises(SettingsError, match=r"2025-12 has no task 'asr'\. Known: reasoning"):
        rate(9000, task="asr", reference=board)
    with pytest.raises(SettingsError, match=r"of 2026-01 has no task 'reasoning'\. Known: asr\.$"):  # which that month's could have had
        rate(9000, task="reasoning", reference=replace(board, date="2026-01", ranges={("asr", None): Range(1, 2, 2)}))


def test_stars_that_were_given_by_rank_are_another_rule(tmp_path: Path) -> None:
    ranked = "".join(
        f"{name},{kwh},{stars},A\n" for name, kwh, stars in (("a", 0.1, 5), ("b", 5, 4), ("c", 5.1, 3), ("d", 5.9, 2), ("e", 6.3, 1))
    )
    with pytest.raises(SettingsError, match="line 3: the published energy_score is 4, and the rule gives 2"):
        read_leaderboard(newer(tmp_path / "2025-12", f"model,total_gpu_energy,energy_score,class\n{ranked}", "reasoning.csv"))


def test_a_reference_is_named_by_its_date_or_its_path(tmp_path: Path) -> None:
    path = newer(tmp_path / "2026-08", THREE)
    assert leaderboard_named("2025-02", tmp_path) is FEBRUARY_2025
    for named in ("2026-08", "2026-08/asr.csv", Path("2026-08"), path, str(path)):
        assert leaderboard_named(named, tmp_path).date == "2026-08"
    for wrong in ("2026-09", "", "x" * 5000, "a\0b", 7, None, b"2026-08"):
        with pytest.raises(SettingsError, match=r"The reference is .* no such file|holds no CSV file"):
            leaderboard_named(wrong, tmp_path)


def test_a_byte_order_mark_blank_lines_and_spaces_do_no_harm(tmp_path: Path) -> None:
    folder = tmp_path / "2026-08"
    folder.mkdir()
    (folder / "asr.csv").write_bytes(b"\xef\xbb\xbf" + THREE.replace("\n", "\r\n\r\n").replace("0.003", " 0.003 ").encode())
    assert read_leaderboard(folder).ranges["asr", None] == Range(1.0, 6.0, 3)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no column total_gpu_energy"),
        ("model,energy\na,1\n", "has no column total_gpu_energy"),
        (HEADER, "holds no model"),
        (HEADER + "a,0.001,5\nb,much,1\n", "line 3: total_gpu_energy is 'much'"),
        (HEADER + "a\n", "line 2: total_gpu_energy is ''"),
        *(
            (HEADER + f"a,{wrong},5\n", "line 2: total_gpu_energy is ")
            for wrong in ("nan", "snan", "inf", "-1", "0", "1e400", "1e999999999", "")
        ),
        (HEADER + "a,0.001,6\n", "line 2: energy_score is '6'"),
        (HEADER + "a,0.001,5\nb,0.002,5\n", "line 3: the published energy_score is 5, and the rule gives 1"),
        (HEADER + 'a,"0.001,5\n', "cannot be read"),
        (HEADER.replace("\n", ",class\n") + "a,0.001,5,A\nb,0.002,1,\n", "with a class and without one"),
    ],
)
def test_a_file_that_is_no_leaderboard_is_refused_by_name(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_leaderboard(newer(tmp_path / "2026-08", text))
    assert says in str(caught.value)
    assert isinstance(caught.value, GreencomputeError)


def test_what_is_not_there_or_no_text_or_without_a_date_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "2026-08"
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        read_leaderboard(folder / "asr.csv")
    folder.mkdir()
    with pytest.raises(SettingsError, match="holds no CSV file"):
        read_leaderboard(folder)
    (folder / "asr.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="cannot be read"):
        read_leaderboard(folder)
    with pytest.raises(SettingsError, match=r"has no date.*2025-02"):
        read_leaderboard(newer(tmp_path / "leaderboard", THREE))


def test_a_task_with_one_model_has_no_scale(tmp_path: Path) -> None:
    board = read_leaderboard(newer(tmp_path / "2026-08", HEADER + "a,0.001,5\n"))
    with pytest.raises(SettingsError, match="no scale to rate on"):
        rate(3, task="asr", reference=board)
