"""The levers: what may be changed about how a model is run, what each needs, and the lines of code that do it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from pytest_greencompute.errors import SettingsError

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

LeverKind = Literal["batching", "input", "memory", "runtime", "precision", "generation", "model"]
Value = bool | int | float | str
TODAY = "as it is"


@dataclass(frozen=True, slots=True)
class Lever:
    """One thing that may be changed. ``code`` are the lines that do it for good, ``{value}`` standing for the setting's value; ``codes``
    those of values that are done otherwise.

    Of a value such as "small@0.9" the code may name the parts, ``{first}`` and ``{last}``. ``needs`` says in words what a model must be for
    it. ``unasked``: it is tried without being named. ``instead_of`` is the lever whose place it takes: one of the two can be set. Raises
    SettingsError for a name that is no word, and where there is no code to write.
    """

    name: str
    kind: LeverKind
    needs: str
    code: str
    unasked: bool = True
    codes: Mapping[Value, str] = field(default_factory=dict, hash=False)
    instead_of: str = ""

    @property
    def place(self) -> str:
        """What only one setting of a configuration can have."""
        return self.instead_of or self.name

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise SettingsError(f"A lever is called {self.name!r}.", remedy="Its name is a word such as batch_size.")
        if not self.code.strip():
            raise SettingsError(f"The lever {self.name} has no code to write.", remedy="Say in a line or two how it is done for good.")


@dataclass(frozen=True, slots=True)
class Setting:
    """A lever at a value; True where it is only on or off."""

    lever: Lever
    value: Value = True

    @property
    def name(self) -> str:
        """'batch_size=32', or 'inference_mode'."""
        return self.lever.name if self.value is True else f"{self.lever.name}={self.value}"

    @property
    def code(self) -> str:
        """The lines that do it for good."""
        first, _, last = str(self.value).rpartition("@")
        code = self.lever.codes.get(self.value, self.lever.code)
        if first in self.lever.codes:  # how that is made comes before what is done with it
            code = f"{self.lever.codes[first]}; {code}"
        return code.replace("{value}", str(self.value)).replace("{first}", first).replace("{last}", last)


@dataclass(frozen=True, slots=True)
class Configuration:
    """Settings together, none for how the model is run today. Raises SettingsError where a lever is set twice."""

    settings: tuple[Setting, ...] = ()

    def __post_init__(self) -> None:
        places = [each.lever.place for each in self.settings]
        if len(set(places)) < len(places):
            raise SettingsError(f"A configuration sets a lever twice: {self.name}.")

    @property
    def name(self) -> str:
        """'batch_size=32 + precision=bf16'."""
        return " + ".join(each.name for each in self.settings) or TODAY

    @property
    def key(self) -> frozenset[str]:
        """What tells it from others, whatever the order of its settings."""
        return frozenset(each.name for each in self.settings)

    def having(self, setting: Setting) -> Configuration:
        """These settings and one more, in the place of that of its lever."""
        return Configuration((*self.without(setting.lever).settings, setting))

    def without(self, lever: Lever) -> Configuration:
        """These settings but for that in the place of a lever."""
        return Configuration(tuple(each for each in self.settings if each.lever.place != lever.place))


_GENERATOR = "Generator(model, tokenizer, {})"
LEVERS = {
    each.name: each
    for each in (
        Lever("model", "model", "candidates=", "model = {value}"),
        Lever(
            "cascade",
            "model",
            "candidates= with .with_confidence(batch)",
            "answers, sure = {first}.with_confidence(queries)  # and ask the model where sure < {last}",
            instead_of="model",
        ),
        Lever("batch_size", "batching", "queries that can wait for each other", "batch_size={value}"),
        Lever("truncate", "input", "texts", "query = query[:{value}]  # characters"),
        Lever("by_length", "input", "queries that have a length and can wait", "queries = sorted(queries, key=len)"),
        Lever("answer_once", "memory", "queries that come again", "answers = {}  # by query: look there before asking the model"),
        Lever("max_new_tokens", "generation", "a Generator", _GENERATOR.format("max_new_tokens={value}")),
        Lever("stop_at_line", "generation", "a Generator", _GENERATOR.format('stop_strings=["\\n"]')),
        Lever(
            "reasoning_off",
            "generation",
            "a Generator whose chat template has enable_thinking",
            _GENERATOR.format('template={"enable_thinking": False}'),
        ),
        Lever("static_cache", "generation", "a Generator", _GENERATOR.format('cache_implementation="static"'), unasked=False),
        Lever(
            "precision",
            "precision",
            "a torch module that can be copied",
            "model.to(torch.{value})  # and what it is given",
            codes={
                "bf16": "model.to(torch.bfloat16)  # and the floats that it is given",
                "fp16": "model.to(torch.float16)  # and the floats that it is given",
                "int8": "model = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)  # or torchao",
            },
        ),
        Lever("attention", "runtime", "a transformers model that can be copied", 'model.set_attn_implementation("{value}")'),
        Lever(
            "compile",
            "runtime",
            "a torch module that can be copied",
            "model.forward = torch.compile(model.forward, dynamic=True)",
            unasked=False,
        ),
        Lever(
            "onnx",
            "runtime",
            "a torch module that exports; onnxruntime, onnx and onnxscript",
            'torch.onnx.export(model, ..., "model.onnx")  # and onnxruntime.InferenceSession("model.onnx")',
            unasked=False,
        ),
        Lever("threads", "runtime", "torch on the CPU", "torch.set_num_threads({value})"),
        Lever("inference_mode", "runtime", "a torch module that is called with gradients", "with torch.inference_mode(): ..."),
    )
}


def chosen(names: Iterable[str] | None, known: Iterable[Lever]) -> tuple[Lever, ...]:
    """The levers of these names; without names those that are tried unasked. Raises SettingsError for one that is unknown."""
    by_name = {each.name: each for each in known}
    if names is None:
        return tuple(each for each in by_name.values() if each.unasked)
    if isinstance(names, str) or not all(isinstance(each, str) for each in names):
        raise SettingsError(f"levers is {names!r}.", remedy="Pass their names as a list, such as ['batch_size', 'precision'].")
    listed = list(dict.fromkeys(names))
    if unknown := next((each for each in listed if each not in by_name), None):
        raise SettingsError(f"There is no lever {unknown!r}.", remedy=f"Known: {', '.join(by_name)}.")
    return tuple(by_name[each] for each in listed)
