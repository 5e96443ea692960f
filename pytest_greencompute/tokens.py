"""How many tokens an answer has, and how many of them are reasoning: ``tokens=`` of ``measure``, ``compare``, ``sweep`` and ``watch``.

Tokens come from the model's own output ids, a tokenizer, or any function of an answer. Tokenizers are known by their methods, so
that no library is imported here.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_greencompute.errors import SettingsError

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

IDS = "ids"
MARKERS = ("<think>", "</think>")
MISMATCH = "The tokenizer does not match"


@dataclass(frozen=True, slots=True)
class Counted:
    """Tokens of one answer, and how many of them are ``reasoning``: None where there is no text in which markers could be found."""

    tokens: int
    reasoning: int | None = None


Counter = Callable[[Any, str], Counted]  # of an answer, and what to call it in an error: "query 3"


def counter_of(tokens: object, markers: Sequence[str] | None = None) -> Counter | None:
    """What counts the tokens of an answer, by what the user passed as ``tokens=``; None where nothing was passed.

    ``markers`` open and close reasoning (None: ``MARKERS``). Raises SettingsError for what is no way to count.
    """
    opening, closing = check_markers(markers)
    if tokens is None:
        return None
    if tokens == IDS and isinstance(tokens, str):
        return _by_length
    if callable(getattr(tokens, "encode", None)) and callable(getattr(tokens, "decode", None)):
        return _ByTokenizer(tokens, opening, closing).count
    if not callable(tokens) or isinstance(tokens, type):
        raise SettingsError(
            f"tokens is {_shown(tokens)}.", remedy='Pass "ids" (the answers are output ids), a tokenizer, or a function of an answer.'
        )
    return _ByFunction(tokens, opening, closing).count


def check_markers(markers: object) -> tuple[str, str]:
    """The markers of reasoning, (opening, closing); None stands for ``MARKERS``. Raises SettingsError for what is no pair of texts."""
    if markers is None:
        return MARKERS
    if not isinstance(markers, list | tuple) or len(markers) != 2 or not all(isinstance(each, str) and each for each in markers):
        raise SettingsError(
            f"The reasoning markers are {_shown(markers)}.", remedy='Name two texts, such as ("<think>", "</think>"): opening and closing.'
        )
    opening, closing = markers
    return opening, closing


def count_answers(counter: Counter | None, answers: Iterable[Any]) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    """Tokens of each answer and reasoning tokens of each, in query order.

    None for what was not counted: all of it without a counter, and the reasoning where an answer leaves no text to look into. Raises
    SettingsError, naming the query, for an answer whose tokens cannot be counted.
    """
    if counter is None:
        return None, None
    shared: dict[int, int] = {}  # one object a number: answers are many, and the lengths they have are few
    tokens, reasoning = [], []
    for index, answer in enumerate(answers):
        counted = counter(answer, f"query {index}")
        tokens.append(shared.setdefault(counted.tokens, counted.tokens))
        reasoning.append(None if counted.reasoning is None else shared.setdefault(counted.reasoning, counted.reasoning))
    seen = tuple(each for each in reasoning if each is not None)
    return tuple(tokens), seen if len(seen) == len(tokens) else None


def reasoning_spans(text: str, opening: str, closing: str) -> tuple[str, ...]:
    """The parts of ``text`` that are reasoning, in order, markers left off.

    One that is not closed lasts to the end. A closing marker before any opening one ends a span that began with the text: templates put
    the opening one into the prompt. Further closing markers without an opening one mean nothing.
    """
    spans = []
    first_end, first_start = text.find(closing), text.find(opening)
    at = 0
    if first_end >= 0 and (first_start < 0 or first_end < first_start):
        spans.append(text[:first_end])
        at = first_end + len(closing)
    while (start := text.find(opening, at)) >= 0:
        inside = start + len(opening)
        end = text.find(closing, inside)
        spans.append(text[inside:] if end < 0 else text[inside:end])
        at = len(text) if end < 0 else end + len(closing)
    return tuple(spans)


def ids_of(answer: Any) -> list[int] | None:
    """An answer as token ids, where it is a flat list, array or tensor of whole numbers; else None."""
    if isinstance(answer, str | bytes) or hasattr(answer, "keys"):
        return None
    tolist: Callable[[], Any] | None = getattr(answer, "tolist", None)
    listed = answer if tolist is None else tolist()
    if not isinstance(listed, list | tuple) or any(isinstance(each, bool) for each in listed):
        return None
    try:
        return [operator.index(each) for each in listed]
    except (TypeError, ValueError, RuntimeError):  # an element that is no whole number, or a tensor of several
        return None


def without_padding(ids: list[int], pad: int | None, eos: int | None) -> list[int]:
    """Ids without the pad tokens behind them; where padding looks like the end of the text, its first token is that end."""
    if pad is None:
        return ids
    length = len(ids)
    while length and ids[length - 1] == pad:
        length -= 1
    return ids[: length + 1] if pad == eos else ids[:length]


def _by_length(answer: Any, where: str) -> Counted:
    ids = ids_of(answer)
    if ids is None:
        raise SettingsError(
            f'The answer to {where} is {_a(answer)}; tokens="ids" counts output ids.',
            remedy="Return the ids that the model generated, one list or tensor per query, or pass its tokenizer: tokens=tokenizer.",
        )
    return Counted(len(ids))


class _ByTokenizer:
    """Counts texts by encoding them, and ids without the padding behind them."""

    __slots__ = ("_closing", "_eos", "_opening", "_pad", "_tokenizer", "_vocabulary")

    def __init__(self, tokenizer: Any, opening: str, closing: str) -> None:
        self._tokenizer = tokenizer
        self._opening, self._closing = opening, closing
        self._pad = getattr(tokenizer, "pad_token_id", None)
        self._eos = getattr(tokenizer, "eos_token_id", None)
        sized: Callable[[], int] | None = getattr(tokenizer, "get_vocab_size", None)  # that of the tokenizers package
        self._vocabulary = len(tokenizer) if hasattr(tokenizer, "__len__") else None if sized is None else sized()

    def count(self, answer: Any, where: str) -> Counted:
        if isinstance(answer, str):
            tokens, text = self._encoded(answer), answer
        else:
            ids = without_padding(self._checked(answer, where), self._pad, self._eos)
            tokens, text = len(ids), self._tokenizer.decode(ids, skip_special_tokens=False)
        # Encoding a part by itself can cut it otherwise than the whole, which must not make it longer than the whole.
        return Counted(tokens, min(tokens, sum(map(self._encoded, reasoning_spans(text, self._opening, self._closing)))))

    def _encoded(self, text: str) -> int:
        encoded = self._tokenizer.encode(text, add_special_tokens=False)
        return len(getattr(encoded, "ids", encoded))

    def _checked(self, answer: Any, where: str) -> list[int]:
        ids = ids_of(answer)
        if ids is None:
            raise SettingsError(
                f"{MISMATCH}: the answer to {where} is {_a(answer)}, neither text nor ids.",
                remedy="Return texts or output ids, or pass a function of an answer that counts its tokens.",
            )
        beyond = next((each for each in ids if each < 0 or (self._vocabulary is not None and each >= self._vocabulary)), None)
        if beyond is not None:
            raise SettingsError(
                f"{MISMATCH}: the answer to {where} has the id {beyond}, and its vocabulary has {self._vocabulary} tokens.",
                remedy="Pass the tokenizer of the model that generated the ids.",
            )
        return ids


class _ByFunction:
    """Counts by a function of the user's."""

    __slots__ = ("_closing", "_function", "_opening")

    def __init__(self, function: Callable[[Any], Any], opening: str, closing: str) -> None:
        self._function = function
        self._opening, self._closing = opening, closing

    def count(self, answer: Any, where: str) -> Counted:
        tokens = self._whole(answer, where)
        if not isinstance(answer, str):
            return Counted(tokens)
        spans = reasoning_spans(answer, self._opening, self._closing)
        return Counted(tokens, min(tokens, sum(self._whole(span, where) for span in spans)))

    def _whole(self, answer: Any, where: str) -> int:
        found = self._function(answer)
        try:
            whole = -1 if isinstance(found, bool) else operator.index(found)
        except TypeError:
            whole = -1
        if whole < 0:
            raise SettingsError(
                f"tokens returned {_shown(found)} for the answer to {where}.",
                remedy="It must return how many tokens the answer has: a whole number of at least 0.",
            )
        return whole


def _a(answer: Any) -> str:
    return "a text" if isinstance(answer, str) else f"of type {type(answer).__name__}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
