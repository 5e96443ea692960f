"""What a model wrote, as ids: rows without their padding, and what models of transformers wrote while somebody listened.

Models are known by their methods, so that no library is imported here.
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
Keywords = Mapping[str, Any]  # of a call of a model: names and values are its library's


class Ids(list[int]):
    """The ids of one answer, known to be what was written and no padding."""


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
    for first in range(0, len(rows), together):
        batch = rows[first : first + together]
        if len(set(map(len, batch))) > 1:
            continue
        for pad in dict.fromkeys(pad for pad in map(_twice, batch) if pad is not None):
            cut = [without_padding(each[::-1], pad, None) for each in batch]
            lengths = {len(each) for each, whole in zip(cut, batch, strict=True) if 0 < len(each) < len(whole)}
            if len(lengths) > 1 and not any(pad in each for each in cut):
                return first + [*map(_twice, batch)].index(pad), pad
    return None


def _twice(row: list[int]) -> int | None:
    """What a row begins with twice: a prompt that was padded in front."""
    return row[0] if len(row) > 1 and row[0] == row[1] else None


def _side_by_side(rows: Iterable[list[int]]) -> bool:
    """Whether each row has a neighbour of its length; the last may be what is left over."""
    runs = [len(list(run)) for _, run in itertools.groupby(map(len, rows))]
    return min(runs[:-1] or runs) > 1


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


def ends_of(model: Any, options: Keywords) -> Ends | None:
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


def written_by(model: Any, given: Any, options: Keywords, output: Any) -> list[Ids] | None:
    """What ``model.generate(given, **options)`` wrote, row by row, of the ``output`` that it returned; None where that cannot be told."""
    ends, rows = ends_of(model, options), _rows(getattr(output, "sequences", output))
    if ends is None or not rows:
        return None
    return [Ids(ends.cut(row)) for row in _new(model, given, options, rows)]


def _new(model: Any, given: Any, options: Keywords, rows: Sequence[list[int]]) -> list[list[int]]:
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

    def note(self, model: Any, given: Any, options: Keywords, output: Any) -> None:
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
            raise one_of_several(each, where)
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


def one_of_several(each: int, where: str) -> SettingsError:
    return SettingsError(
        f"The model wrote {each} texts for a prompt, and the answer to {where} is one of them: its energy is that of all.",
        remedy="Ask for one (num_return_sequences, n or best_of of 1), or pass a function of an answer that counts the tokens of all.",
    )
