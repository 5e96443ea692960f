"""How many tokens an answer has, and how many of them are reasoning: ``tokens=`` of ``measure``, ``compare``, ``sweep`` and ``watch``.

Tokens come from the model's own output ids, a tokenizer, or any function of an answer. Models and tokenizers are known by their methods,
so that no library is imported here.

What counts is what the model wrote: the token that ended a row is one of them, the padding behind it is not, nor what the row began with.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import operator
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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


class Ids(list[int]):
    """The ids of one answer, known to be what was written and no padding."""


def counter_of(tokens: object, markers: Sequence[str] | None = None, heard: Heard | None = None) -> Counter | None:
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
    counter: Counter | None, answers: Iterable[Any], together: int = 1
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


def padded(answers: Sequence[Any], together: int) -> tuple[int, int] | None:
    """The first answer that may be padded to the length of its neighbours, and with what; None where none is.

    It ends in one id again and again, which stands nowhere in any answer but at an end, or it and others begin with one, more or less
    often. A row that is nothing but one id tells nothing. Rows of other lengths side by side have been cut by whoever returned them.
    No token has a negative id.
    """
    rows = [[] if isinstance(each, Ids) else ids_of(each) or [] for each in answers]
    if negative := next(((index, id_) for index, row in enumerate(rows) for id_ in row if id_ < 0), None):
        return negative
    texts = [without_padding(row, row[-1], None) if row else [] for row in rows]
    inside = frozenset(itertools.chain.from_iterable(without_padding(text[::-1], _twice(text), None) for text in texts))
    for index, (row, text) in enumerate(zip(rows, texts, strict=True)):
        first = index - index % together
        if text and len(row) - len(text) > 1 and row[-1] not in inside and _side_by_side(rows[first : first + together]):
            return index, row[-1]
    return _padded_in_front(rows, together)


def _padded_in_front(rows: Sequence[list[int]], together: int) -> tuple[int, int] | None:
    for index, row in enumerate(rows):
        first, pad = index - index % together, _twice(row)
        batch = rows[first : first + together]
        cut = [without_padding(each[::-1], pad, None) for each in batch]
        lengths = {len(each) for each, whole in zip(cut, batch, strict=True) if 0 < len(each) < len(whole)}
        if pad is not None and len(lengths) > 1 and len(set(map(len, batch))) == 1 and not any(pad in each for each in cut):
            return index, pad
    return None


def _twice(row: list[int]) -> int | None:
    """What a row begins with twice: a prompt that was padded in front."""
    return row[0] if len(row) > 1 and row[0] == row[1] else None


def _side_by_side(rows: Iterable[list[int]]) -> bool:
    """Whether each row has a neighbour of its length; the last may be what is left over."""
    runs = [len(list(run)) for _, run in itertools.groupby(map(len, rows))]
    return min(runs[:-1] or runs) > 1


# --- what a model wrote -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ends:
    """How a row of ``generate`` ends: with one of ``ids``, or ``otherwise`` (a text, a criterion), padded with ``pad`` from there on."""

    ids: frozenset[int]
    pad: int | None
    otherwise: bool

    def cut(self, row: list[int]) -> list[int]:
        """What was written of a row: the end with it, the padding without. A row without an end is as long as its batch: it has none."""
        end = next((index for index, each in enumerate(row) if each in self.ids), None)
        if end is not None:
            return row[: end + 1]
        return without_padding(row, self.pad, None) if self.otherwise else row


def ends_of(model: Any, options: Mapping[str, Any]) -> Ends | None:
    """How the rows end that ``model.generate(**options)`` of transformers writes, as it finds out itself; None for any other object."""
    own = getattr(model, "generation_config", None)
    if own is None or not callable(getattr(model, "generate", None)):
        return None
    given = options.get("generation_config")

    def option(name: str) -> Any:
        said = getattr(given, name, None)
        return options[name] if name in options else getattr(own, name, None) if said is None else said

    ends, pads = _several(option("eos_token_id")), _several(option("pad_token_id"))
    otherwise = any(option(name) for name in ("stop_strings", "stopping_criteria"))
    return Ends(frozenset(ends), next(iter([*pads, *ends]), None), otherwise)


def written_by(model: Any, given: Any, options: Mapping[str, Any], output: Any) -> list[Ids] | None:
    """What ``model.generate(given, **options)`` wrote, row by row, of the ``output`` that it returned; None where that cannot be told."""
    ends, rows = ends_of(model, options), _rows(getattr(output, "sequences", output))
    if ends is None or not rows:
        return None
    return [Ids(ends.cut(row)) for row in _new(model, given, options, rows)]


def _new(model: Any, given: Any, options: Mapping[str, Any], rows: Sequence[list[int]]) -> list[list[int]]:
    """The rows without what they began with: a decoder's with the prompt, an encoder-decoder's with what its decoder was given."""
    own = model.generation_config
    bos = _several(options.get("bos_token_id", getattr(own, "bos_token_id", None)))
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        start = _several(options.get("decoder_start_token_id", getattr(own, "decoder_start_token_id", None))) or bos
        begun = _past([start], _rows(options.get("decoder_input_ids")))  # the start is put before it where it is missing
        return _past(begun, _past([start], rows))
    prompts = next((each for each in (given, options.get("inputs"), options.get("input_ids")) if each is not None), None)
    if prompts is not None:
        return _past(_rows(prompts["input_ids"] if hasattr(prompts, "keys") else prompts), rows)
    return list(rows) if options.get("inputs_embeds") is not None else _past([bos], rows)


def _past(begun: Sequence[list[int]], rows: Sequence[list[int]]) -> list[list[int]]:
    """The rows without what each began with; several rows in a row may have begun alike. One that began otherwise stays as it is."""
    if not begun or len(rows) % len(begun):
        return list(rows)
    begins = [begun[index * len(begun) // len(rows)] for index in range(len(rows))]
    return [row[len(begin) :] if begin and row[: len(begin)] == begin else row for begin, row in zip(begins, rows, strict=True)]


def _rows(given: Any) -> list[list[int]]:
    """The rows of ids in an array, a tensor or a list; nothing where it is anything else."""
    if given is None or isinstance(given, str | bytes) or not hasattr(given, "__len__") or getattr(given, "shape", None) == ():
        return []
    rows = [ids_of(row) for row in given]
    return [] if None in rows else [row for row in rows if row is not None]


def _several(ids: Any) -> list[int]:
    """One id, several, or none, as a list."""
    return [] if ids is None else [ids] if isinstance(ids, int) else ids_of(ids) or [int(ids)]


class Heard:
    """How long the rows are that models of transformers wrote for a while: found again as they came, without the prompt, or cut."""

    __slots__ = ("_rows",)

    def __init__(self) -> None:
        self._rows: dict[int, tuple[int, int]] = {}

    def note(self, model: Any, given: Any, options: Mapping[str, Any], output: Any) -> None:
        """``output`` is what ``model.generate(given, **options)`` returned."""
        ends, rows = ends_of(model, options), _rows(getattr(output, "sequences", output))
        if ends is None or not rows:
            return
        each = int(options.get("num_return_sequences") or getattr(model.generation_config, "num_return_sequences", None) or 1)
        for row, new in zip(rows, _new(model, given, options, rows), strict=True):
            cut = ends.cut(new)
            self._rows |= dict.fromkeys(map(_key, (row, new, cut)), (len(cut), each))

    def tokens(self, answer: list[int], where: str = "") -> int | None:
        """How many tokens of an answer were written; None where nobody heard of it. Raises SettingsError for one of several answers."""
        tokens, each = self._rows.get(_key(answer), (None, 1))
        if each > 1:
            raise _one_of_several(each, where)
        return tokens


def _key(ids: Sequence[int]) -> int:
    return hash(tuple(ids))


@contextlib.contextmanager
def hearing(tokens: object, heard: Heard) -> Iterator[None]:
    """For a while ``heard`` notes what models of transformers write, where ``tokens`` counts ids and anybody has imported transformers."""
    mixin = getattr(sys.modules.get("transformers.generation.utils"), "GenerationMixin", None)
    if mixin is None or not (tokens == IDS if isinstance(tokens, str) else hasattr(tokens, "encode")):
        yield
        return
    own = mixin.generate

    @functools.wraps(own)
    def generate(model: Any, inputs: Any = None, *args: Any, **options: Any) -> Any:
        output = own(model, inputs, *args, **options)
        with contextlib.suppress(Exception):  # a row that nobody heard of is judged by its looks
            heard.note(model, inputs, options, output)
        return output

    mixin.generate = generate
    try:
        yield
    finally:
        mixin.generate = own


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
            raise _one_of_several(len(several), where)
        return Ids(several[0].token_ids)
    ids = answer if isinstance(answer, Ids) else ids_of(answer)
    if ids is None:
        raise SettingsError(
            f'The answer to {where} is {_a(answer)}; tokens="ids" counts output ids.',
            remedy="Return the ids that the model generated, one list or tensor per query, or pass its tokenizer: tokens=tokenizer.",
        )
    return ids


def _one_of_several(each: int, where: str) -> SettingsError:
    return SettingsError(
        f"The model wrote {each} texts for a prompt, and the answer to {where} is one of them: its energy is that of all.",
        remedy="Ask for one (num_return_sequences, n or best_of of 1), or pass a function of an answer that counts the tokens of all.",
    )


class _ByTokenizer:
    """Counts texts by encoding them, and ids without the padding behind them."""

    __slots__ = ("_closing", "_eos", "_heard", "_opening", "_pad", "_tokenizer", "_vocabulary")

    def __init__(self, tokenizer: Any, opening: str, closing: str, heard: Heard | None = None) -> None:
        self._tokenizer = tokenizer
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
            ids = given if isinstance(answer, Ids) else without_padding(given, self._pad, self._eos)
            known = None if self._heard is None else self._heard.tokens(given, where)
            tokens, text = len(ids) if known is None else known, self._tokenizer.decode(ids, skip_special_tokens=False)
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
