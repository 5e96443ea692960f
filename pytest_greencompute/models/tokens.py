"""How many tokens an answer has, and how many of them are reasoning: ``tokens=`` of ``measure``, ``compare``, ``sweep`` and ``watch``.

Tokens come from the model's own output ids, a tokenizer, or any function of an answer. Models and tokenizers are known by their methods,
so that no library is imported here.

What counts is what the model wrote: the token that ended a row is one of them, the padding behind it is not, nor what the row began with.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.models.written import IDS, Heard, Ids, ends_of, ids_of, one_of_several, padded, without_padding, written_by
from pytest_greencompute.values.units import whole

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

MARKERS = ("<think>", "</think>")
MISMATCH = "The tokenizer does not match"


@dataclass(frozen=True, slots=True)
class Counted:
    """Tokens of one answer, and how many of them are ``reasoning``: None where there is no text in which markers could be found."""

    tokens: int
    reasoning: int | None = None


CountTokens = Callable[[Any, str], Counted]  # of an answer, and what to call it in an error: "query 3"


def counter_of(tokens: object, markers: Sequence[str] | None = None, heard: Heard | None = None) -> CountTokens | None:
    """What counts the tokens of an answer, by what the user passed as ``tokens=``; None where nothing was passed.

    ``markers`` open and close reasoning (None: ``MARKERS``). ``heard`` knows the rows that models wrote meanwhile. Raises SettingsError for
    what is no way to count.
    """
    opening, closing = check_markers(markers)
    if tokens is None:
        return None
    if tokens == IDS and isinstance(tokens, str):
        return functools.partial(_by_length, heard)
    if ends_of(tokens, {}) is not None:
        return functools.partial(_by_model, tokens)
    if callable(getattr(tokens, "encode", None)) and callable(getattr(tokens, "decode", None)):
        return _ByTokenizer(tokens, opening, closing, heard).count
    if not callable(tokens) or isinstance(tokens, type):
        raise SettingsError(
            f"tokens is {_shown(tokens)}.",
            remedy='Pass "ids" (the answers are output ids), a model that generates, a tokenizer, or a function of an answer.',
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


def count_answers(
    counter: CountTokens | None, answers: Iterable[Any], together: int = 1
) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    """Tokens of each answer and reasoning tokens of each, in query order. ``together``: how many came from one call.

    None for what was not counted: all of it without a counter, and the reasoning where an answer leaves no text to look into. Raises
    SettingsError, naming the query, for an answer whose tokens cannot be counted.
    """
    if counter is None:
        return None, None
    if isinstance(counter, functools.partial) and counter.func is _by_length:
        answers = list(answers)
        buffers = together == 1 and len({len(ids_of(each) or ()) for each in answers}) == 1  # whoever asks one by one may fill buffers
        check_ends(answers, len(answers) if buffers else together, *counter.args)
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


def check_ends(answers: Sequence[Any], together: int, heard: Heard | None = None) -> None:
    """Raises SettingsError where answers of one call, ``together`` of them, may be ``padded`` and ``heard`` knows nothing of them."""
    unknown = (
        answers
        if heard is None
        else [each if heard.tokens(ids_of(each) or [], f"query {index}") is None else Ids() for index, each in enumerate(answers)]
    )
    found = padded(unknown, together)
    if found is not None:
        index, pad = found
        raise SettingsError(
            f"The answer to query {index} begins or ends in the id {pad}{' twice and is as long as its neighbour' if pad >= 0 else ''}:"
            ' tokens="ids" cannot tell whether that is padding.',
            remedy="Pass the model that wrote them, or its tokenizer: tokens=model. Where every row is whole, tokens=len.",
        )


# --- ways to count ----------------------------------------------------------------------------------------------------


def _by_length(heard: Heard | None, answer: Any, where: str) -> Counted:
    ids = _checked_ids(answer, where)
    tokens = None if heard is None or isinstance(ids, Ids) else heard.tokens(ids, where)
    return Counted(len(ids) if tokens is None else tokens)


def _by_model(model: Any, answer: Any, where: str) -> Counted:
    ids = _checked_ids(answer, where)
    cut = None if isinstance(ids, Ids) else written_by(model, None, {"inputs_embeds": ...}, [ids])  # a prompt was left off
    return Counted(len(cut[0] if cut else ids))


def _checked_ids(answer: Any, where: str) -> list[int]:
    several = getattr(answer, "outputs", None)  # what vLLM answers to a prompt
    if isinstance(several, list) and several and hasattr(several[0], "token_ids"):
        if len(several) > 1:
            raise one_of_several(len(several), where)
        return Ids(several[0].token_ids)
    ids = answer if isinstance(answer, Ids) else ids_of(answer)
    if ids is None:
        raise SettingsError(
            f'The answer to {where} is {_a(answer)}; tokens="ids" counts output ids.',
            remedy="Return the ids that the model generated, one list or tensor per query, or pass its tokenizer: tokens=tokenizer.",
        )
    return ids


class _ByTokenizer:
    """Counts texts by encoding them, and ids without the padding behind them."""

    __slots__ = ("_closing", "_decode", "_encode", "_eos", "_heard", "_opening", "_pad", "_vocabulary")

    def __init__(self, tokenizer: Any, opening: str, closing: str, heard: Heard | None = None) -> None:
        self._encode = _with(tokenizer.encode, add_special_tokens=False)
        self._decode = _with(tokenizer.decode, skip_special_tokens=False)
        self._heard = heard
        self._opening, self._closing = opening, closing
        self._pad = getattr(tokenizer, "pad_token_id", None)
        self._eos = getattr(tokenizer, "eos_token_id", None)
        sized: Callable[[], int] | None = getattr(tokenizer, "get_vocab_size", None)  # that of the tokenizers package
        self._vocabulary = len(tokenizer) if hasattr(tokenizer, "__len__") else None if sized is None else sized()

    def count(self, answer: Any, where: str) -> Counted:
        if isinstance(answer, str):
            tokens, text = self._encoded(answer), answer
        else:
            given = self._checked(answer, where)
            ids = given if isinstance(answer, Ids) else self._unpadded(given)
            known = None if self._heard is None else self._heard.tokens(given, where)
            tokens, text = len(ids) if known is None else known, self._decode(ids)
        # Encoding a part by itself can cut it otherwise than the whole, which must not make it longer than the whole.
        return Counted(tokens, min(tokens, sum(map(self._encoded, reasoning_spans(text, self._opening, self._closing)))))

    def _encoded(self, text: str) -> int:
        encoded = self._encode(text)
        ids = getattr(encoded, "ids", encoded)
        if hasattr(ids, "keys") or len(getattr(ids, "shape", ())) > 1 or (len(ids) and isinstance(ids[0], list | tuple)):
            raise SettingsError(
                f"The tokenizer encodes a text as {_shown(ids)}, which is no flat list of ids.",
                remedy="Pass a function of an answer that counts its tokens.",
            )
        return len(ids)

    def _unpadded(self, ids: list[int]) -> list[int]:
        """Without the padding behind; a model of a tokenizer that has none pads with the end, of which it writes one."""
        ends = without_padding(ids, self._pad, self._eos)
        return ends if isinstance(self._eos, list) else without_padding(ends, self._eos, self._eos)

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


def _with(method: Callable[..., Any], **options: bool) -> Callable[[Any], Any]:
    """A method with those of the options that it takes: tokenizers of transformers and tokenizers do, those of tiktoken do not."""
    try:
        known = inspect.signature(method).parameters.values()
    except (TypeError, ValueError):  # it does not say: compiled code
        return functools.partial(method, **options)
    if any(each.kind is each.VAR_KEYWORD for each in known) or set(options) <= {each.name for each in known}:
        return functools.partial(method, **options)
    return method


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
        tokens = whole(found, least=0)
        if tokens is None:
            raise SettingsError(
                f"tokens returned {_shown(found)} for the answer to {where}.",
                remedy="It must return how many tokens the answer has: a whole number of at least 0.",
            )
        return tokens


def _a(answer: Any) -> str:
    return "a text" if isinstance(answer, str) else f"of type {type(answer).__name__}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
