"""A call of a model: how many prompts it has, what it switches on, and which answers are in what it returned.

The shapes are those of the usual libraries, known by their methods and keys: nothing is imported.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from pytest_greencompute.models.tallies import Prompts
from pytest_greencompute.models.written import Keywords, ids_of

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

PROMPTS = ("input_ids", "inputs", "prompts", "prompt", "text_inputs", "messages")  # keywords under which a call's prompts are looked for
# Keywords under which the usual libraries take what a batch is made of, beside or instead of those.
BATCHES = frozenset({*PROMPTS, "text", "texts", "images", "audios", "inputs_embeds", "pixel_values", "input_features", "input_values"})
# Keywords by which the usual libraries switch reasoning on, and keywords that hold such keywords.
REASONING_FLAGS = frozenset(
    {
        "enable_thinking",
        "thinking",
        "thinking_budget",
        "thinking_config",
        "thinking_mode",
        "think",
        "reasoning",
        "reasoning_effort",
        "reasoning_budget",
        "include_reasoning",
        "enable_reasoning",
    }
)
FLAG_HOLDERS = frozenset({"chat_template_kwargs", "tokenizer_encode_kwargs", "extra_body", "generate_kwargs", "options", "config"})
OFF = frozenset({"", "none", "off", "false", "disabled", "no", "0"})


def first_argument(args: tuple[Any, ...], kwargs: Keywords) -> Any:
    """What a call is about: its first argument, or what it was given under one of the usual names."""
    return args[0] if args else next((kwargs[name] for name in PROMPTS if name in kwargs), None)


def prompts_of(args: tuple[Any, ...], kwargs: Keywords) -> Prompts:
    """The prompts of a call, by its first argument and the keywords of the usual names; by any other where it has none of those.

    Where they differ in size, the largest is the batch: one text may go with many images.
    """
    given = [*args[:1], *(kwargs[name] for name in BATCHES.intersection(kwargs))]
    if not given:
        return _by_other_names(kwargs)
    if len(given) == 1:
        return Prompts(prompts_in(given[0]), _keys(given[0]))
    counts = [prompts_in(each) for each in given]
    known = [each for each in counts if each is not None]
    return Prompts(max(known) if len(known) == len(counts) else None)


def _by_other_names(kwargs: Keywords) -> Prompts:
    """Of keywords that nobody knows: what they all agree on, numbers aside; else it cannot be seen which of them is the batch."""
    given = [each for each in kwargs.values() if each is not None and not isinstance(each, int | float)]
    if len(given) == 1:
        return Prompts(prompts_in(given[0]), _keys(given[0]))
    counts = {prompts_in(each) for each in given}
    if len(counts) != 1 or any(isinstance(each, str | bytes) for each in given):
        return Prompts(None)
    return Prompts(counts.pop())


def prompts_in(given: Any) -> int | None:
    """How many prompts are in what a call was given: the size of a batch, 1 for a text, a number or a conversation.

    None where that cannot be seen: nothing, an iterator, a mapping without ``input_ids``, an object without a length.
    """
    if isinstance(given, str | bytes | int | float):
        return 1
    if hasattr(given, "keys"):
        return _prompts_in_ids(given["input_ids"]) if "input_ids" in given else None
    shape = getattr(given, "shape", None)
    if shape is not None:
        return int(shape[0]) if len(shape) else 1
    if isinstance(given, list | tuple):
        return 1 if given and _is_message(given[0]) else len(given)
    return len(given) if hasattr(given, "__len__") else None


def _prompts_in_ids(ids: Any) -> int | None:
    """Ids of one text, or a list of texts' ids."""
    return 1 if isinstance(ids, list) and ids and isinstance(ids[0], int) else prompts_in(ids)


def _keys(given: Any) -> tuple[Hashable, ...] | None:
    """What tells the prompts apart: texts, and ids as they are now, since a buffer may be filled again; None for all else."""
    if isinstance(given, str | bytes):
        return (given,)
    if hasattr(given, "keys"):
        return None  # ids may go with a picture, which nobody compares
    listed = isinstance(given, list | tuple)
    if listed and given and (said := _keys_of_texts(given)) is not None:
        return said
    rows = [ids_of(row) for row in given] if listed or len(getattr(given, "shape", ())) == 2 else [None]
    return None if any(row is None for row in rows) else tuple(tuple(row) for row in rows if row is not None)


def _keys_of_texts(given: Sequence[Any]) -> tuple[Hashable, ...] | None:
    """The same of a list of texts, of conversations, or of one conversation's turns; None where it is none of them."""
    if all(isinstance(each, str) for each in given):
        return tuple(given)
    if all(isinstance(each, list) and each and _is_message(each[0]) for each in given):
        return tuple(map(repr, given))
    return (repr(given),) if _is_message(given[0]) else None


def _is_message(given: Any) -> bool:
    """Whether it is a turn of a conversation, which as a whole is one prompt."""
    return hasattr(given, "keys") and "role" in given


def flags_in(kwargs: Keywords) -> dict[str, str]:
    """The keywords that switch reasoning on, as people write them."""
    found = {name: repr(value) for name, value in kwargs.items() if name in REASONING_FLAGS and _on(value)}
    for name in FLAG_HOLDERS.intersection(kwargs):
        if isinstance(kwargs[name], Mapping):
            found |= flags_in(kwargs[name])
    return found


def _on(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip().lower() not in OFF
    if isinstance(value, Mapping):
        return _on(value.get("type", bool(value)))
    return value is not None and value is not False and value != 0


def answers_of(output: Any, given: Any) -> list[Any]:
    """The answers in what a call returned, the prompt left off where the model repeats it: what it has generated.

    Known are the ids that ``generate`` returns (a tensor, or an object with ``sequences``), the dicts of a transformers pipeline with
    their ``generated_text``, a text, the ids of one text, and lists of such; anything else is one answer.
    """
    output = getattr(output, "sequences", output)
    listed = _listed(output)
    prompts = _prompts(given)
    if not prompts or len(listed) % len(prompts):
        return listed
    each = len(listed) // len(prompts)
    return [_without_prompt(answer, prompts[index // each]) for index, answer in enumerate(listed)]


def _listed(output: Any) -> list[Any]:
    if hasattr(output, "keys"):
        return [_said(output)]
    if (
        isinstance(output, str | bytes)
        or not hasattr(output, "__len__")
        or getattr(output, "shape", None) == ()
        or ids_of(output) is not None
    ):
        return [output]
    made: list[Any] = []
    for answer in output:
        made += _listed(answer) if isinstance(answer, list) and answer and hasattr(answer[0], "keys") else [_said(answer)]
    return made


def _said(answer: Any) -> Any:
    """The text of a pipeline's answer; of a conversation, that of its last turn."""
    if not hasattr(answer, "keys") or "generated_text" not in answer:
        return answer
    text = answer["generated_text"]
    return _Generated(text) if isinstance(text, str) else text[-1]["content"] if text else ""


class _Generated(str):
    """A text that a pipeline generated: by default it begins with the prompt."""

    __slots__ = ()


def _prompts(given: Any) -> list[Any]:
    """The prompts of a call, as ids or texts, to be found again at the beginning of what it returned."""
    if hasattr(given, "keys"):
        given = given.get("input_ids")
    if isinstance(given, str):
        return [given]
    if given is None or not hasattr(given, "__len__") or getattr(given, "shape", None) == ():
        return []
    ids = ids_of(given)
    return [ids] if ids is not None else list(given)


def _without_prompt(answer: Any, prompt: Any) -> Any:
    if isinstance(answer, _Generated):
        return answer[len(prompt) :] if isinstance(prompt, str) and answer.startswith(prompt) else answer
    ids, before = ids_of(answer), ids_of(prompt)
    return answer[len(before) :] if ids is not None and before and ids[: len(before)] == before else answer
