"""A call of a model: how many prompts it has, what it switches on, and which answers are in what it returned.

The shapes are those of the usual libraries, known by their methods and keys: nothing is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_greencompute.tokens import ids_of

PROMPTS = ("input_ids", "inputs", "prompts", "prompt", "text_inputs", "messages")  # keywords under which a call's prompts are looked for
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


def first_argument(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What a call is about: its first argument, or what it was given under one of the usual names."""
    return args[0] if args else next((kwargs[name] for name in PROMPTS if name in kwargs), None)


def prompts_in(given: Any) -> int:
    """How many prompts a call has whose first argument is ``given``: the size of a batch, and 1 for all that is none."""
    if isinstance(given, str | bytes) or given is None:
        return 1
    if hasattr(given, "keys"):
        return _prompts_in_ids(given["input_ids"]) if "input_ids" in given else 1
    shape = getattr(given, "shape", None)
    if shape is not None:
        return int(shape[0]) if len(shape) else 1
    if isinstance(given, list | tuple):
        return 1 if given and _is_message(given[0]) else len(given)
    return 1


def _prompts_in_ids(ids: Any) -> int:
    """Ids of one text, or a list of texts' ids."""
    return 1 if isinstance(ids, list) and ids and isinstance(ids[0], int) else prompts_in(ids)


def _is_message(given: Any) -> bool:
    """Whether it is a turn of a conversation, which as a whole is one prompt."""
    return hasattr(given, "keys") and "role" in given


def flags_in(kwargs: Mapping[str, Any]) -> dict[str, str]:
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
