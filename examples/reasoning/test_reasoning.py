"""Gates on how much a model writes: the way that is configured, its token limit, and its two phases."""

import os

import pytest

WAY = os.environ.get("REASONING_WAY", "scratchpad")
TOKEN_LIMIT = int(os.environ.get("REASONING_TOKEN_LIMIT", "16"))


# The right results have 4 tokens, one of three digits 5; how the processor rounds decides which sums this model gets that wrong.
@pytest.mark.energy_budget(direct={"tokens_per_query": 4.5}, scratchpad={"tokens_per_query": 16})
def test_way(energy_meter, direct, scratchpad, sums, results):
    ways = {"direct": direct, "scratchpad": scratchpad}
    found = energy_meter.compare(ways, sums, batch_size=8, references=results, score=direct.right, tokens="ids", floor=0.5)
    found.assert_right_sized(WAY, margin="20%")


def test_token_limit(energy_meter, scratchpad, sums, results):
    found = energy_meter.sweep(
        scratchpad,
        sums,
        max_new_tokens=[4, 8, 16],
        batch_size=8,
        references=results,
        score=scratchpad.right,
        tokens="ids",
        floor=0.5,
    )
    found.assert_right_sized(max_new_tokens=TOKEN_LIMIT, margin="20%")


@pytest.mark.energy_budget(prefill={"energy_per_token": "200 mJ"}, decode={"energy_per_token": "2 J", "tokens_per_query": 16})
def test_phases(energy_meter, scratchpad, sums):
    model, batch = scratchpad.model, scratchpad.prompts(sums[:16])
    with energy_meter.window("prefill", queries=len(batch)) as reading:
        tokens, said = model.read(batch)
        reading.tokens = int(tokens["attention_mask"].sum())
    with energy_meter.window("decode", queries=len(batch)) as writing:
        written = model.go_on(tokens, said, max_new_tokens=TOKEN_LIMIT)
        writing.tokens = sum(map(len, written))
    assert written == model.write(batch, max_new_tokens=TOKEN_LIMIT)
