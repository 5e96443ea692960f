"""What models of transformers wrote, against a slow and obvious reading of it: real models so small that it takes milliseconds."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.machine.clock import RealClock
from pytest_greencompute.measuring.once import run_once
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.models.generator import Generator, Text
from pytest_greencompute.models.tokens import count_answers, counter_of
from pytest_greencompute.models.watching import watched
from pytest_greencompute.models.written import Ids, ends_of
from pytest_greencompute.testing.simulated import SimulatedClock

transformers: Any = pytest.importorskip("transformers")
torch: Any = pytest.importorskip("torch")

VOCABULARY, NEW = 24, 12
SIZES = {"vocab_size": VOCABULARY, "bos_token_id": 1}
PAD, ENDS = 0, [5, 9, 13]  # none of them may stand in a prompt
PROMPTS = torch.tensor([[14, 15, 16, 17], [18, 19, 20, 21], [22, 23, 14, 15], [16, 18, 20, 22]])


def llama(**options: Any) -> Any:
    config = transformers.LlamaConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, **SIZES)
    return ready(transformers.LlamaForCausalLM(config), **options)


def gpt2(**options: Any) -> Any:
    config = transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=64, **SIZES)
    return ready(transformers.GPT2LMHeadModel(config), **options)


def t5(**options: Any) -> Any:
    config = transformers.T5Config(d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, vocab_size=VOCABULARY)
    return ready(transformers.T5ForConditionalGeneration(config), **{"decoder_start_token_id": PAD, "suppress_tokens": [PAD], **options})


def bart(**options: Any) -> Any:
    """Its decoder begins with the token that also ends a text."""
    few = {f"{part}_{what}": 1 for part in ("encoder", "decoder") for what in ("layers", "attention_heads")}
    config = transformers.BartConfig(d_model=16, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=64, **few, **SIZES)
    return ready(
        transformers.BartForConditionalGeneration(config), **{"decoder_start_token_id": ENDS[0], "forced_eos_token_id": None, **options}
    )


def ready(model: Any, **options: Any) -> Any:
    """It draws its tokens from all alike, so that rows end at all lengths."""
    for weights in model.parameters():
        torch.nn.init.normal_(weights, std=0.02)
    for name, value in {"eos_token_id": ENDS, "pad_token_id": PAD, "do_sample": True, "top_k": 0, **options}.items():
        setattr(model.generation_config, name, value)
    return model.eval()


KINDS = [llama, gpt2, t5, bart]


def generate(model: Any, **options: Any) -> tuple[Any, list[int]]:
    """What it returns, and how many tokens of each row were written, watched one by one while it wrote."""
    ends = options.get("eos_token_id", model.generation_config.eos_token_id)
    ends = {ends} if isinstance(ends, int) else set(ends or ())
    steps: list[Any] = []

    class Watching(transformers.LogitsProcessor):  # type: ignore[misc]
        def __call__(self, ids: Any, scores: Any) -> Any:
            steps.append(ids.tolist())
            return scores

    torch.manual_seed(1)
    output = model.generate(PROMPTS, max_new_tokens=NEW, logits_processor=transformers.LogitsProcessorList([Watching()]), **options)
    rows, begun = output.tolist(), len(steps[0][0])
    written = []
    for row in rows:
        count = 0
        for each in row[begun:]:  # it goes on until it has written an end
            count += 1
            if each in ends:
                break
        written.append(count)
    return output[:, begun:], written


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    transformers.logging.set_verbosity_error()
    yield
    transformers.logging.set_verbosity_warning()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "options",
    [{}, {"eos_token_id": 7}, {"pad_token_id": 5}, {"eos_token_id": None}, {"min_new_tokens": NEW}],
    ids=["several ends", "another end", "pad that is an end", "no end", "all of one length"],
)
def test_padding_is_no_token_and_the_end_is_one(kind: Callable[..., Any], options: dict[str, Any]) -> None:
    model = kind()
    new, written = generate(model, **options)
    whole = "min_new_tokens" in options or options.get("eos_token_id", 0) is None
    assert (min(written) < NEW) is not whole  # else it would show nothing
    asked = list(PROMPTS)

    def answer(batch: Any) -> Any:
        torch.manual_seed(1)
        return model.generate(torch.stack(batch), max_new_tokens=NEW, **options)

    def sliced(batch: Any) -> Any:
        return answer(batch)[:, -new.shape[1] :]

    ways = {"as it comes": answer, "without the prompt": sliced, "as lists": lambda batch: sliced(batch).tolist()}
    for name, way in ways.items():
        run, _ = run_once(Task(way, asked, len(asked), tokens="ids"), SimulatedClock())
        assert run.tokens == tuple(written), name
    model.generate = watched(model.generate, RealClock())
    for batch in (asked, asked):
        answer(batch)
    assert model.generate.tokens == 2 * sum(written)
    del model.generate


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_counts_ids_that_it_wrote_elsewhere(kind: Callable[..., Any]) -> None:
    model = kind()
    new, written = generate(model)
    assert count_answers(counter_of(model), new, 4)[0] == tuple(written)
    assert count_answers(counter_of(model), new.numpy(), 4)[0] == tuple(written)


def test_more_of_generate_is_seen_by_its_keywords() -> None:
    torch.manual_seed(1)
    model, decoder = llama(), bart()
    counts = watched(model.generate, RealClock())
    many = counts(inputs=PROMPTS[:2], max_new_tokens=NEW, num_return_sequences=3)
    dictionary = counts(input_ids=PROMPTS[:2], max_new_tokens=NEW, return_dict_in_generate=True)
    beams = counts(PROMPTS, max_new_tokens=NEW, num_beams=3, do_sample=False, early_stopping=True)
    embedded = counts(inputs_embeds=model.get_input_embeddings()(PROMPTS), max_new_tokens=NEW)
    alone = counts(max_new_tokens=NEW)
    rows = [row[4:] for row in [*many, *dictionary.sequences, *beams]] + [*embedded, *(row[1:] for row in alone)]
    assert counts.tokens == sum(until(row.tolist()) for row in rows)
    counts = watched(decoder.generate, RealClock())
    begun = torch.tensor([[ENDS[0], 3], [ENDS[0], 4]])
    seen = counts(PROMPTS[:2], decoder_input_ids=begun, max_new_tokens=NEW)
    without = counts(PROMPTS[:2], decoder_input_ids=begun[:, 1:], max_new_tokens=NEW)  # the start is put before it
    assert counts.tokens == sum(until(row[2:].tolist()) for row in [*seen, *without])


def until(row: list[int]) -> int:
    return next((index + 1 for index, each in enumerate(row) if each in ENDS), len(row))


def test_one_of_several_answers_to_a_prompt_is_refused() -> None:
    model = llama()

    def best(batch: Any) -> Any:
        return model.generate(torch.stack(batch), max_new_tokens=NEW, num_return_sequences=2)[::2, 4:]

    with pytest.raises(SettingsError, match=r"wrote 2 texts for a prompt, and the answer to query 0 is one of them.*num_return_sequences"):
        run_once(Task(best, list(PROMPTS), 4, tokens="ids"), SimulatedClock())
    with pytest.raises(SettingsError, match="num_return_sequences is above 1"):
        Generator(model, Words(), num_return_sequences=2)


def test_what_vllm_answers_is_counted_and_one_of_several_is_refused() -> None:
    def answer(*lengths: int) -> Any:
        return SimpleNamespace(outputs=[SimpleNamespace(token_ids=(7,) * length) for length in lengths])

    assert count_answers(counter_of("ids"), [answer(3), answer(5)], 2) == ((3, 5), None)
    with pytest.raises(SettingsError, match=r"wrote 2 texts for a prompt, and the answer to query 1 is one of them.*n or best_of of 1"):
        count_answers(counter_of("ids"), [answer(3), answer(5, 4)], 2)
    llm = watched(lambda _: [answer(3), answer(5)], RealClock(), tokens="ids")
    llm(["a", "b"])
    assert llm.tokens == 8


def test_generate_is_put_back_as_it_was() -> None:
    mixin = sys.modules["transformers.generation.utils"].GenerationMixin
    own, model = mixin.generate, llama()

    def fails(batch: Any) -> Any:
        assert mixin.generate is not own
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        run_once(Task(fails, list(PROMPTS), 4, tokens="ids"), SimulatedClock())
    assert mixin.generate is own
    run_once(
        Task(lambda batch: [mixin.generate is own and 1 for _ in batch], list(PROMPTS), 4, tokens=lambda answer: answer), SimulatedClock()
    )
    assert ends_of(model, {}).ids == frozenset(ENDS)  # type: ignore[union-attr]


# --- ids that nobody has heard of -------------------------------------------------------------------------------------

PADDED = [[6, 7, 2, 0, 0, 0], [6, 7, 8, 9, 2, 0], [6, 7, 8, 9, 8, 2]]


@pytest.mark.parametrize("made", [lambda rows: rows, np.array, torch.tensor], ids=["lists", "array", "tensor"])
@pytest.mark.parametrize("rows", [PADDED, [[6, 2, 2, 2], [6, 7, 8, 2]], [[0, 0, 6, 2, 0, 0], [0, 0, 7, 7, 8, 2]]])
def test_rows_of_one_length_whose_ends_cannot_be_told_are_refused(made: Callable[[Any], Any], rows: list[list[int]]) -> None:
    with pytest.raises(
        SettingsError, match=r"The answer to query 0 begins or ends in the id \d twice .* tokens=model\. Where every row is whole"
    ):
        run_once(Task(lambda batch: made([rows[each] for each in batch]), range(len(rows)), len(rows), tokens="ids"), SimulatedClock())
    run, _ = run_once(Task(lambda batch: made([rows[each] for each in batch]), range(len(rows)), len(rows), tokens=len), SimulatedClock())
    assert run.tokens == tuple(map(len, rows))


@pytest.mark.parametrize(
    "rows",
    [
        [[6, 7, 8], [9, 8, 7]],  # whole rows
        [[7, 7, 7], [7, 7, 7]],  # a stand-in's
        [[6, 7, 7], [7, 8, 9]],  # what stands inside a text is no padding
        [[6, 7, 7], [6, 8], [5, 4], [6, 9, 9]],  # cut by whoever returned them
        [Ids([6, 7, 7]), Ids([6, 8, 8])],
        [[], []],
    ],
)
def test_rows_that_are_whole_are_counted(rows: list[list[int]]) -> None:
    assert count_answers(counter_of("ids"), rows, len(rows))[0] == tuple(map(len, rows))


def test_padding_that_a_watched_model_returns_is_no_token_and_refused_where_it_was_asked_to_count() -> None:
    def generate(_: Any) -> Any:
        return np.array(PADDED)

    silent, asked, whole = (
        watched(generate, RealClock()),
        watched(generate, RealClock(), tokens="ids"),
        watched(generate, RealClock(), tokens=len),
    )
    for model in (silent, asked, whole):
        model(["a", "b", "c"])
    assert silent.tokens is None
    assert whole.tokens == 18
    with pytest.raises(SettingsError, match=r"tokens=model"):
        _ = asked.tokens


def test_a_row_that_came_alone_has_no_padding_unless_all_fill_a_buffer_of_one_size() -> None:
    assert count_answers(counter_of("ids"), PADDED[:1], 1)[0] == (6,)
    assert count_answers(counter_of("ids"), [*PADDED, [6, 7]], 1)[0] == (6, 6, 6, 2)
    with pytest.raises(SettingsError, match=r"tokens=model"):
        count_answers(counter_of("ids"), PADDED, 1)


# --- Generator --------------------------------------------------------------------------------------------------------


class Words:
    """A tokenizer of words that are numbers; other ends than the model's."""

    pad_token_id, eos_token_id, chat_template = PAD, 3, None

    def __call__(self, texts: list[str], **_: Any) -> Any:
        rows = [[int(each) for each in text.split()] for text in texts]
        longest = max(map(len, rows))
        ids = torch.tensor([[PAD] * (longest - len(row)) + row for row in rows])
        return {"input_ids": ids, "attention_mask": (ids != PAD).long()}

    def encode(self, text: str, **_: Any) -> list[int]:
        return [int(each) for each in text.split()]

    def decode(self, ids: list[int], **_: Any) -> str:
        return " ".join(str(each) for each in ids if each not in ENDS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("answers", ["ids", "text"])
@pytest.mark.parametrize("new", [1, NEW])
def test_a_generator_counts_what_was_written_whatever_it_answers(kind: Callable[..., Any], answers: Any, new: int) -> None:
    model, texts = kind(), ["14 15 16", "17", "18 19", "20 21 22 23"]
    generator = Generator(model, Words(), max_new_tokens=new, answers=answers)
    torch.manual_seed(3)
    run, outputs = run_once(Task(generator, texts, 4, tokens=generator.tokens), SimulatedClock())
    torch.manual_seed(3)
    encoded = Words()(texts)
    rows = model.generate(**encoded, max_new_tokens=new, pad_token_id=PAD)[:, 1 if model.config.is_encoder_decoder else 4 :]
    expected = tuple(until(row.tolist()) for row in rows)
    assert run.tokens == expected
    assert all(isinstance(each, Text if answers == "text" else Ids) for each in outputs)
    assert generator.padding.padded == sum(4 - len(text.split()) for text in texts) + 4 * max(expected) - sum(expected)


def test_parts_of_a_generators_text_are_counted_as_they_are_encoded() -> None:
    generator = Generator(llama(), Words(), answers="text")
    assert generator.tokens(Text("1 2", 3)) == 3
    assert generator.tokens("1 2") == 2
    assert isinstance(generator.tokens, functools.partial)
