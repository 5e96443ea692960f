"""A transformers model that writes, as a function of prompts: what it generates, what of that is padding, and prefill and decode apart.

Transformers is used through the objects that the test passes; nothing of it is imported here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.models.written import Ids, Keywords, without_padding, written_by
from pytest_greencompute.values.units import whole

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

PREFILL, WHOLE = "prefill", "whole"
Prompt = str | Sequence[Mapping[str, Any]]


@dataclass(slots=True)
class Padding:
    """Positions of a batch that the model worked through so far, and how many of them were padding."""

    positions: int = 0
    padded: int = 0


class Generator:
    """``model.generate`` of transformers as a function of prompts: ``energy_meter.measure(Generator(model, tokenizer), prompts)``.

    A prompt is a text, or a chat: a list of messages, {"role": …, "content": …}, put into words by the tokenizer's chat template.
    ``chat=True`` makes a chat of each text, and ``template`` goes to the chat template ({"enable_thinking": False}). The answers are the
    ids of the new tokens without padding, or with ``answers="text"`` their text. ``options`` go to ``generate``. Inputs are put where the
    model is; the model and the tokenizer stay as they are.

    ``padding`` counts what batches waste: a shorter prompt is padded to the longest, and a row that has ended goes on until the last has.
    Raises SettingsError for a tokenizer that cannot pad or has no chat template, and for prompts of other kinds.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        max_new_tokens: int = 64,
        chat: bool = False,
        answers: Literal["ids", "text"] = "ids",
        template: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        if not callable(getattr(model, "generate", None)):
            raise SettingsError(f"The model is a {type(model).__name__}, which does not generate.", remedy="Pass a model with .generate().")
        if not callable(tokenizer) or not callable(getattr(tokenizer, "decode", None)):
            raise SettingsError(f"The tokenizer is a {type(tokenizer).__name__}.", remedy="Pass the transformers tokenizer of the model.")
        if (options.get("num_return_sequences") or 1) != 1:
            raise SettingsError("num_return_sequences is above 1.", remedy="A prompt has one answer here: leave it out.")
        if answers not in {"ids", "text"}:
            raise SettingsError(f"answers is {answers!r}.", remedy='It is "ids" or "text".')
        if chat and not getattr(tokenizer, "chat_template", None):
            raise SettingsError("The tokenizer has no chat template.", remedy="Leave chat=True out, or use the model's chat tokenizer.")
        self.tokenizer = tokenizer
        self.padding = Padding()
        self._model = model
        self._chat = chat
        self._answers = answers
        self.template = dict(template or {})
        self._options = {"max_new_tokens": max_new_tokens, **options}
        self._pad = getattr(tokenizer, "pad_token_id", None)

    def __call__(self, batch: Sequence[Prompt], *, max_new_tokens: int | None = None) -> list[Any]:
        chats = [self._chat or not isinstance(prompt, str) for prompt in batch]
        if any(chats) and not all(chats):
            raise SettingsError("Texts and chats stand in one batch.", remedy="Pass chat=True, which makes chats of the texts.")
        inputs = self._encoded([self._worded(prompt) for prompt in batch], special=not any(chats))
        options = self._options if max_new_tokens is None else {**self._options, "max_new_tokens": max_new_tokens}
        pad = {} if self._pad is None else {"pad_token_id": self._pad}
        options = {**pad, **options}
        ends = {"tokenizer": self.tokenizer} if options.get("stop_strings") else {}  # which it looks for in what it wrote
        output = self._model.generate(**inputs, **options, **ends)
        rows = written_by(self._model, inputs["input_ids"], options, output) or self._guessed(inputs, output)
        self._note(inputs, max(map(len, rows)), rows)
        return rows if self._answers == "ids" else [Text(self.tokenizer.decode(row, skip_special_tokens=True), len(row)) for row in rows]

    def _guessed(self, inputs: Keywords, output: Any) -> list[Ids]:
        """The rows of a model that does not say how it ends them, by the tokenizer."""
        given = 0 if self._model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
        return [Ids(without_padding(row, self._pad, getattr(self.tokenizer, "eos_token_id", None))) for row in output[:, given:].tolist()]

    @property
    def options(self) -> Mapping[str, Any]:
        """What goes to ``generate``."""
        return self._options

    def having(self, **options: Any) -> Generator:
        """The same model and tokenizer with other options."""
        given = {"chat": self._chat, "answers": self._answers, "template": self.template, **self._options, **options}
        return Generator(self._model, self.tokenizer, **given)

    @property
    def tokens(self) -> Any:
        """What counts the tokens of its answers: pass it as ``tokens=`` of ``measure``."""
        return "ids" if self._answers == "ids" else functools.partial(_written, self.tokenizer)

    def _worded(self, prompt: Prompt) -> str:
        if isinstance(prompt, str) and not self._chat:
            return prompt
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        if isinstance(messages, str | bytes | Mapping) or not all(isinstance(each, Mapping) and "role" in each for each in messages):
            raise SettingsError(
                f"A prompt is a {type(prompt).__name__}.", remedy="Pass texts, or chats: lists of {'role': …, 'content': …}."
            )
        if not getattr(self.tokenizer, "chat_template", None):
            raise SettingsError("A prompt is a chat, and the tokenizer has no chat template.", remedy="Use the model's chat tokenizer.")
        worded: str = self.tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True, **self.template)
        return worded

    def _encoded(self, texts: list[str], *, special: bool) -> dict[str, Any]:
        """The inputs of ``generate``. ``special``: the tokenizer adds its own tokens, which a chat template has written already."""
        if len(texts) > 1 and self._pad is None:
            raise SettingsError(
                "The tokenizer has no pad token, so it cannot make a batch of several prompts.",
                remedy="Set tokenizer.pad_token = tokenizer.eos_token, or measure with batch_size=1.",
            )
        padding: dict[str, Any] = {"padding": True, "padding_side": "left"} if len(texts) > 1 else {}
        encoded = self.tokenizer(texts, return_tensors="pt", add_special_tokens=special, **padding)
        # Whatever else a tokenizer gives (token types), generate refuses from a model that has no use for it.
        return {name: encoded[name].to(self._model.device) for name in ("input_ids", "attention_mask")}

    def _note(self, inputs: Any, new: int, rows: Sequence[Sequence[int]]) -> None:
        real = int(inputs["attention_mask"].sum()) + sum(map(len, rows))
        positions = inputs["attention_mask"].numel() + new * len(rows)
        self.padding.positions += positions
        self.padding.padded += positions - real


class Text(str):
    """A text that was generated, and of how many ``tokens``, the one that ended it among them."""

    __slots__ = ("tokens",)
    tokens: int

    def __new__(cls, text: str, tokens: int) -> Text:
        made = super().__new__(cls, text)
        made.tokens = tokens
        return made


def _written(tokenizer: Any, text: str) -> int:
    """How many tokens a text has: as it was generated, or, of a part of it, as it is encoded."""
    return text.tokens if isinstance(text, Text) else len(tokenizer.encode(text, add_special_tokens=False))


def padding_of(model: Any) -> Padding | None:
    """The tally of padding of a generator, also of one that a sweep calls with a setting; None of any other model."""
    while isinstance(model, functools.partial):
        model = model.func
    found = getattr(model, "padding", None)
    return found if isinstance(found, Padding) else None


def apart(generator: Any, max_new_tokens: int) -> dict[str, Callable[..., Any]]:
    """The two candidates by which prefill and decode are told apart: up to the first token, and all of it. Raises SettingsError."""
    if not isinstance(generator, Generator):
        raise SettingsError(
            f"generate was given a {type(generator).__name__}.",
            remedy="Pass pytest_greencompute.Generator(model, tokenizer), or sweep any function over max_new_tokens=[1, 64].",
        )
    most = whole(max_new_tokens, least=2)
    if most is None:
        raise SettingsError(f"max_new_tokens is {max_new_tokens!r}.", remedy="Decoding begins with the second token: at least 2.")
    return {
        PREFILL: functools.partial(generator, max_new_tokens=1),
        WHOLE: functools.partial(generator, max_new_tokens=most),
    }
