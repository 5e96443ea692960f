"""The stars of a run: only those that were measured as the leaderboard's were are a figure to be judged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from making import block, run, source

from pytest_greencompute.errors import NotRatedError
from pytest_greencompute.estimates.by_metric import estimate
from pytest_greencompute.estimates.estimate import Aim, Estimate, Missing
from pytest_greencompute.estimates.star_scale import WH_PER_1000_QUERIES, Range
from pytest_greencompute.estimates.stars import NO_PROTOCOL, conditions_of, followed, rated_energy, rating_of, stars_of
from pytest_greencompute.results.provenance_json import PROTOCOL, provenance_from_json, provenance_to_json
from pytest_greencompute.values.metrics import METRICS
from pytest_greencompute.values.provenance import Followed, Provenance
from pytest_greencompute.values.run import Run
from pytest_greencompute.values.units import COUNT

H100 = source(device="NVIDIA H100 80GB HBM3", uuid="GPU-8d0a5f4e", systematic=0.05)
ASR = Followed("asr", None, "asr", "asr")
# asr: five equal parts of 0.619699 to 86.679066 Wh per 1,000 queries, so the fourth star ends at 35.04, the fifth at 17.83.
EDGE_WH = 0.619699 + (86.679066 - 0.619699) / 5


def passed(wh: float = 10.0, *, spread: float = 0.0, kept: object = None, **fields: Any) -> Run:
    """Ten passes over 1,000 queries of ``wh`` Wh per 1,000 queries, the passes ``spread`` apart from end to end."""
    joules = wh * WH_PER_1000_QUERIES * 1000
    blocks = [block(joules * (1 + spread * (k / 9 - 0.5)), set_index=k, queries=1000, gap_s=0.0) for k in range(10)]
    said = Provenance(followed=ASR if kept is None else kept) if kept is None or isinstance(kept, Followed) else told(kept)
    return run(**{"blocks": blocks, "queries": 1000, "sources": (H100,), "provenance": said, **fields})


def told(kept: object) -> Provenance:
    """As a file tells it."""
    return provenance_from_json({PROTOCOL: kept})


def missing(made: Run, aim: Aim = Aim()) -> str:  # noqa: B008  frozen
    found = stars_of(made, aim)
    assert isinstance(found, Missing)
    return found.reason


def stars(made: Run, aim: Aim = Aim()) -> Estimate:  # noqa: B008  frozen
    found = stars_of(made, aim)
    assert isinstance(found, Estimate), found
    return found


def test_a_run_that_followed_the_protocol_has_stars_on_whole_numbers() -> None:
    found = stars(passed())
    assert (found.value, found.low, found.high, found.dimension, found.n) == (5.0, 5.0, 5.0, COUNT, 10)
    assert estimate(passed(), METRICS["stars"], Aim()) == found


def test_the_interval_holds_what_cards_differ_by_and_the_spread_of_the_passes() -> None:
    just_under = EDGE_WH * 0.97  # five stars, and four if the card were 5 % off
    assert (stars(passed(just_under)).low, stars(passed(just_under)).value, stars(passed(just_under)).high) == (4.0, 5.0, 5.0)
    exact = {"sources": (replace(H100, systematic=0.0),)}
    assert stars(passed(just_under, **exact)).low == 5.0
    assert stars(passed(just_under, spread=0.2, **exact)).low == 4.0


def test_an_interval_that_reaches_below_zero_has_five_stars_at_that_end() -> None:
    uneven = [block(36_000.0 if k else 3_600_000.0, set_index=k, queries=1000, gap_s=0.0) for k in range(10)]
    assert (stars(passed(blocks=uneven)).low, stars(passed(blocks=uneven)).high) == (1.0, 5.0)


def test_one_pass_is_only_indicative_however_often_its_block_repeats_it() -> None:
    assert "passes over the queries: 1" in missing(passed(blocks=[block(36_000.0, queries=10_000, gap_s=0.0)]))
    assert "passes over the queries: 1" in missing(passed(blocks=[block(36_000.0, queries=1000, gap_s=0.0)]))


def test_blocks_of_one_set_are_no_passes_of_their_own_and_leave_no_interval() -> None:
    blocks = [block(36_000.0, queries=1000, gap_s=0.0) for _ in range(10)]
    assert missing(passed(blocks=blocks)) == "the passes are too few for an interval of its energy"


REASONING = Followed("reasoning", "A", "reasoning", "", "2025-12", "ai-energy-score-2025-12", 5.0, 55.0, 4)
GENERATING = Followed("text_generation", "A", "text_generation")


def test_the_stars_are_those_of_the_scale_that_the_run_was_measured_for() -> None:
    made = passed(kept=REASONING, tokens=(8192, *[700] * 999), reasoning=(600,) * 1000)
    assert (stars(passed(20.0, kept=REASONING, tokens=(700,) * 1000)).value, stars(made).value) == (4.0, 5.0)
    rating, _ = rating_of(made, Aim())
    assert (rating.reference, rating.source, rating.scale, rating.indicative) == ("2025-12", REASONING.source, Range(5.0, 55.0, 4), ())
    # Of the same task, another leaderboard's scale gives others: 10 Wh are 5 stars in February 2025.
    assert stars(passed(kept=replace(ASR, reference="2026-08", source="x", lowest=1.0, highest=11.0, models=3))).value == 1.0


def test_a_scale_survives_its_json() -> None:
    assert followed(passed(kept=provenance_to_json(Provenance(followed=REASONING))[PROTOCOL])) == REASONING


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"tokens": (10,) * 1000}, ""),
        ({"tokens": (10,) * 999 + (11,)}, "the answers have 10 to 11 new tokens; the protocol sets 10"),
        ({"tokens": (10,) * 999}, "nothing says that the answers have the length"),  # of one it is not known
        ({"tokens": ()}, "nothing says that the answers have the length"),
        ({}, "nothing says that the answers have the length"),
        ({"kept": REASONING, "tokens": (10,) * 1000, "reasoning": (0,) * 1000}, "no token of the answers is reasoning"),
        ({"kept": REASONING, "tokens": (10,) * 1000, "reasoning": (0,) * 999 + (1,)}, ""),
    ],
)
def test_the_runs_own_tokens_say_how_long_its_answers_are(fields: dict[str, Any], says: str) -> None:
    rating, _ = rating_of(passed(**{"kept": GENERATING, **fields}), Aim())
    assert rating.indicative == () if not says else [reason for reason in rating.indicative if reason.startswith(says)]
    assert len(rating.indicative) == bool(says)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"kept": replace(REASONING, lowest=None)}, "The scale of 2025-12 that the run is rated on is not told whole"),
        ({"kept": replace(REASONING, models=None)}, "The scale of 2025-12 that the run is rated on is not told whole"),
        ({"kept": replace(REASONING, lowest=60.0)}, "A range of 60.0 to 55.0 Wh per 1,000 queries over 4 models is none"),
        ({"kept": replace(REASONING, highest=5.0)}, "no scale to rate on"),
        ({"kept": replace(REASONING, reference="last year")}, "A leaderboard is of 'last year'"),
        ({"kept": replace(REASONING, reference="")}, "The leaderboard of 2025-02 has no task 'reasoning'. It came in 2025-12"),
        ({"provenance": Provenance()}, NO_PROTOCOL),
        ({"kept": {}}, NO_PROTOCOL),
        ({"kept": "asr"}, NO_PROTOCOL),
        ({"kept": {"task": 7, "queries_of": ["asr"]}}, NO_PROTOCOL),
        ({"kept": Followed("asr", None, "", "asr")}, "its 5 stars are only indicative: nothing says that the queries are"),
        ({"kept": Followed("asr", None, "asr", "")}, "its 5 stars are only indicative: nothing says that the answers have"),
        ({"kept": Followed("asr", None, "summarization", "asr")}, "the queries are those of the protocol for summarization"),
        ({"kept": Followed("poetry", None, "poetry", "poetry")}, "has no task 'poetry'"),
        ({"kept": Followed("text_generation", None, "x", "x")}, "text_generation is rated by class"),
        ({"sources": (replace(H100, device="NVIDIA A100-SXM4-80GB"),)}, "only indicative: measured on NVIDIA A100-SXM4-80GB"),
        ({"sources": (replace(H100, method="modelled"),)}, "modelled energy is not rated"),
        ({"batch_size": 4}, "only indicative: the batch size was 4"),
        ({"problem": "the meter was lost"}, "has no energy that could be rated: the meter was lost"),
        ({"blocks": ()}, "no block was measured"),
        ({"blocks": [block(0.0, queries=1000, set_index=k, busy_s=0.1, gap_s=0.0) for k in range(10)]}, "it came out as 0 J per query"),
        ({"blocks": [block(0.0, queries=1000, set_index=k) for k in range(10)]}, "the counter of gpu:0 stood still"),
    ],
)
def test_anything_else_has_no_stars_and_says_why(fields: dict[str, Any], says: str) -> None:
    assert says in missing(passed(**fields))


def test_all_reasons_are_said_at_once() -> None:
    reason = missing(passed(sources=(replace(H100, device="A"),), batch_size=2))
    assert "measured on A" in reason
    assert "the batch size was 2" in reason


def test_only_the_gpu_is_rated_whatever_the_settings_count() -> None:
    cpu = source("cpu", device="Made CPU")
    blocks = [block({"gpu:0": 36_000.0, "cpu": 360_000.0}, set_index=k, queries=1000, gap_s=0.0) for k in range(10)]
    made = passed(blocks=blocks, sources=(H100, cpu))
    for domains in (("auto",), ("all",), ("cpu",)):
        assert stars(made, Aim(domains=domains)).value == 5.0
        energy, conditions = rated_energy(made, Aim(domains=domains))  # type: ignore[misc]
        assert (energy.value, conditions.domains) == (pytest.approx(36.0), ("gpu:0",))


def test_the_processors_energy_is_indicative_where_no_gpu_is_metered() -> None:
    blocks = [block({"cpu": 36_000.0}, set_index=k, queries=1000, gap_s=0.0) for k in range(10)]
    assert "it counts cpu; the protocol counts GPUs alone" in missing(passed(blocks=blocks, sources=(source("cpu"),)))


def test_what_was_kept_to_survives_its_json_and_counts_only_as_text() -> None:
    assert followed(passed(kept=provenance_to_json(Provenance(followed=ASR))[PROTOCOL])) == ASR
    assert followed(passed(kept={"task": 3, "model_class": 3, "queries_of": "asr"})) == Followed("asr", None, "asr", "")
    assert followed(run()) == Followed()


def test_the_conditions_count_whole_passes_and_name_nameless_gpus() -> None:
    made = passed(sources=(replace(H100, device=""),))
    energy = estimate(made, METRICS["energy_per_query"], Aim())
    assert isinstance(energy, Estimate)
    found = conditions_of(made, made.sources, energy)
    assert (found.passes, found.queries, found.devices, found.method) == (10, 1000, ("a GPU without a name",), "counter")
    for queries, passes in ((500, 5), (50_000, 10)):  # a pass in two blocks, and fifty passes a block
        parts = [block(36_000.0, set_index=k, queries=queries, gap_s=0.0) for k in range(10)]
        assert conditions_of(replace(made, blocks=tuple(parts)), made.sources, energy).passes == passes


def test_a_rating_is_given_even_where_it_is_only_indicative_and_not_for_modelled_energy() -> None:
    rating, energy = rating_of(passed(kept=Followed("asr")), Aim())
    assert (rating.stars, len(rating.indicative), rating.wh_per_1000_queries) == (5, 2, pytest.approx(10.0))
    assert energy.low is not None
    assert energy.low < 36.0 * 0.951
    with pytest.raises(NotRatedError, match="modelled energy is not rated"):
        rating_of(passed(sources=(replace(H100, method="modelled"),)), Aim())
    with pytest.raises(NotRatedError, match="has no task to be rated in"):
        rating_of(run(), Aim())
