"""AI Energy Score: one to five stars for what a model's queries cost, on the scale of one dated leaderboard.

Energy is in Wh of GPU energy per 1,000 queries. The rule (method and figures: ``SOURCE``) cuts the range from the leaderboard's
most frugal model to its thirstiest into five equal parts: ``stars = 5 - min(4, floor(5 (E - lowest) / (highest - lowest)))``,
and 5 below ``lowest``. It gives the published stars of all 166 models of February 2025, from each task's two ends alone.

Version 2 (4 December 2025, https://huggingface.co/blog/sasha/ai-energy-score-v2) has new text models and a task more, ``reasoning``, with
classes as ``text_generation`` has them. H100 80 GB, GPU energy, batch size 1, 1,000 queries and ten passes are as they were, and both
versions have answers of ten tokens where nothing reasons (``NEW_TOKENS``).

Laws: stars belong to one leaderboard, and a rating names it; a rating is *indicative* unless ``Conditions`` say that the energy was
measured as the leaderboard's was, and says why; modelled energy is not rated.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from numbers import Real
from types import MappingProxyType

from pytest_greencompute.errors import NotRatedError, SettingsError
from pytest_greencompute.values.readings import METHODS, Method
from pytest_greencompute.values.units import whole

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

SOURCE = "https://huggingface.co/spaces/AIEnergyScore/Leaderboard"
FILES = f"{SOURCE}/tree/main/data/energy"  # a CSV file for each task, in the form that store.leaderboard reads
NEWEST = "2025-02"  # of those in this package
LATER = {"reasoning": "2025-12"}  # tasks that came with a later leaderboard than the first
STARS = 5
WH_PER_1000_QUERIES = 3.6  # joules per query that are one Wh per 1,000 queries: 3600 J / 1000
_DIGITS = 12  # more than any figure has; the rest of a float is what converting units left there
_DATE = re.compile(r"20\d\d-(?:0[1-9]|1[0-2])")


def _positive(value: float) -> bool:
    return math.isfinite(value) and value > 0


def _as_written(value: float) -> Fraction:
    """The decimal number that people wrote: ``0.017376263 * 1000`` is 17.376263 here, not 17.376262999999998."""
    return Fraction(Decimal(f"{value:.{_DIGITS - 1}e}"))


def _near(given: object, known: Mapping[str, object] | tuple[str, ...] | list[str]) -> str:
    near = difflib.get_close_matches(str(given).lower().replace("-", "_").replace(" ", "_"), [each.lower() for each in known], n=1)
    right = next((each for each in known if near and each.lower() == near[0]), None)
    return f" Did you mean {right!r}?" if right is not None else ""


def _one_of(known: tuple[str, ...] | list[str]) -> str:
    return f"Known: {', '.join(known)}."


def _later(task: object, date: str) -> str:
    """What to do for a task that a leaderboard is too old for; empty where it is not."""
    came = LATER.get(task, "") if isinstance(task, str) else ""
    if came <= date:
        return ""
    return f"It came in {came}: fetch the files of a newer leaderboard from {FILES} and pass their folder, reference=… or --reference …."


@dataclass(frozen=True, slots=True)
class Range:
    """What the models of one task (and class) use: Wh per 1,000 queries of the best and the worst, and how many models there are.

    Invariant: both ends are finite and positive, and ``lowest`` is not above ``highest``.
    """

    lowest: float
    highest: float
    models: int

    def __post_init__(self) -> None:
        if not (_positive(self.lowest) and _positive(self.highest) and self.lowest <= self.highest and self.models > 0):
            raise SettingsError(
                f"A range of {self.lowest!r} to {self.highest!r} Wh per 1,000 queries over {self.models!r} models is none.",
                remedy="Both ends must be finite and positive, the lower one first.",
            )

    def stars(self, wh_per_1000_queries: float) -> int:
        """1 to 5 for a finite positive energy. Raises SettingsError where both ends are the same, which leaves nothing to divide.

        Worked out exactly on the decimal figures, since a float's last bit would decide at the edge of a star: an energy on the edge
        has the fewer stars, as the rule's floor says.
        """
        energy, lowest, highest = (_as_written(value) for value in (wh_per_1000_queries, self.lowest, self.highest))
        if lowest == highest:
            raise SettingsError(
                f"All {self.models} models of this task use {self.lowest:g} Wh per 1,000 queries, so there is no scale to rate on.",
                remedy="Use a leaderboard with several models of the task.",
            )
        if energy <= lowest:
            return STARS
        return STARS - min(STARS - 1, STARS * (energy - lowest) // (highest - lowest))


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """The scale of one date: a ``Range`` for each task and class, by (task, class); the class is None where a task has none.

    ``date`` is its year and month ("2025-02"), ``source`` where its figures come from. Invariant: a date, and one range at least; a task
    has classes or none. Raises SettingsError.
    """

    date: str
    source: str
    ranges: Mapping[tuple[str, str | None], Range]

    def __post_init__(self) -> None:
        if not _DATE.fullmatch(self.date):
            raise SettingsError(f"A leaderboard is of {self.date!r}.", remedy="Write its year and month, such as '2025-02'.")
        if not self.ranges:
            raise SettingsError(f"The leaderboard of {self.date} holds no task.")
        for task in self.tasks:
            if None in (classes := self.classes(task)) and len(classes) > 1:
                raise SettingsError(f"The leaderboard of {self.date} has models of {task} with a class and without one.")
        object.__setattr__(self, "ranges", MappingProxyType(dict(self.ranges)))

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks, in order of name."""
        return tuple(sorted({task for task, _ in self.ranges}))

    def classes(self, task: str) -> tuple[str | None, ...]:
        """The classes of a task, in order; (None,) where it has none."""
        return tuple(sorted((each for its_task, each in self.ranges if its_task == task), key=str))

    def range_of(self, task: str, model_class: str | None) -> Range:
        """The range of a task and class. Raises SettingsError, naming what there is and the near one."""
        if not isinstance(task, str) or task not in self.tasks:
            what = f"The leaderboard of {self.date} has no task {task!r}.{_near(task, self.tasks)}"
            raise SettingsError(what, remedy=_later(task, self.date) or _one_of(self.tasks))
        classes = self.classes(task)
        if model_class in classes:
            return self.ranges[task, model_class]
        named = [each for each in classes if each is not None]
        if not named:
            raise SettingsError(f"{task} has no classes, and {model_class!r} was given.", remedy="Leave the class out.")
        what = f"{task} is rated by class" if model_class is None else f"{task} has no class {model_class!r}"
        sizes = " A: up to 20 billion parameters; B: up to 66 billion; C: more." if named == ["A", "B", "C"] else ""
        raise SettingsError(f"{what}.{_near(model_class, named)}", remedy=f"{_one_of(named)}{sizes}")


# The two ends of each task, of the public leaderboard (SOURCE) of February 2025, and how many models they stand for.
FEBRUARY_2025 = Leaderboard(
    "2025-02",
    SOURCE,
    {
        ("asr", None): Range(0.619699, 86.679066, 13),
        ("image_captioning", None): Range(45.74709, 179.930966, 10),
        ("image_classification", None): Range(0.299115, 2.641366, 23),
        ("image_generation", None): Range(186.811914, 1639.845472, 12),
        ("object_detection", None): Range(1.004166, 7.980927, 7),
        ("question_answering", None): Range(0.0554, 178.130109, 18),
        ("sentence_similarity", None): Range(0.106329, 5.220944, 19),
        ("summarization", None): Range(0.784852, 34.807171, 11),
        ("text_classification", None): Range(0.216022, 27.787079, 13),
        ("text_generation", "A"): Range(1.313333, 28.741175, 32),
        ("text_generation", "B"): Range(54.556478, 615.390413, 3),
        ("text_generation", "C"): Range(1648.505252, 3426.381777, 5),
    },
)
LEADERBOARDS: Mapping[str, Leaderboard] = MappingProxyType({each.date: each for each in (FEBRUARY_2025,)})


@dataclass(frozen=True, slots=True)
class Conditions:
    """How an energy figure came about, as far as is known; what is unknown (None, or empty) counts as not met.

    ``devices``: the names of the GPUs, one each. ``domains``: what the figure counts ("gpu:0", "cpu"). ``queries``: how many different
    ones there were; ``passes``: how often each was run. ``queries_of``: the task whose own protocol queries they were (empty:
    others). ``output_of``: the task whose protocol is said to have set how long the answers were (empty: something else did).
    ``tokens``: the fewest and the most new tokens that an answer has; ``reasoning``: how many tokens of all answers are reasoning.
    Invariant: ``method`` is one of METHODS; counts are not negative, and the fewest no more than the most. Raises SettingsError.
    """

    method: Method | None = None
    devices: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    batch_size: int | None = None
    queries: int | None = None
    passes: int | None = None
    queries_of: str = ""
    output_of: str = ""
    tokens: tuple[int, int] | None = None
    reasoning: int | None = None

    def __post_init__(self) -> None:
        if self.method is not None and self.method not in METHODS:
            raise SettingsError(f"Energy that was {self.method!r} is unknown.", remedy=_one_of(METHODS))
        for name in ("batch_size", "queries", "passes", "reasoning"):
            given = getattr(self, name)
            count = whole(given, least=0)
            if given is not None and count is None:
                raise SettingsError(f"{name} is {given!r}.", remedy="Write a whole number, or None where it is not known.")
            object.__setattr__(self, name, count)
        if self.tokens is not None and not 0 <= self.tokens[0] <= self.tokens[1]:
            raise SettingsError(f"tokens is {self.tokens!r}.", remedy="Write the fewest and the most of an answer, or None.")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing in which energy must equal the leaderboard's: ``met`` by which (conditions, task, class), and the sentence where not.

    ``known`` (conditions, task) says whether it is known at all; ``unknown`` is the sentence where it is not. Sentences may name the
    conditions' fields.
    """

    met: Callable[[Conditions, str, str | None], bool]
    sentence: str
    known: Callable[[Conditions, str], bool] = lambda _conditions, _task: True
    unknown: str = ""


# What NVML calls the H100s with 80 GB; one cut up by MIG has "MIG" in its name, and an H100 NVL or a GH200 has other memory.
H100 = frozenset({"NVIDIA H100 80GB HBM3", "NVIDIA H100 PCIe"})
QUERIES, PASSES = 1000, 10
_SEVERAL_GPUS = "C"  # models too large for one: the method asks for a single GPU in the other classes
# Tasks whose answers have no length to set: a label, boxes, a span of the text, a vector.
ONE_LENGTH = frozenset({"image_classification", "object_detection", "question_answering", "sentence_similarity", "text_classification"})
# The fewest and the most new tokens of an answer: ``get_token_parameters`` in reasoning_helpers.py of github.com/huggingface/AIEnergyScore
# for version 2; the first had the same ten (min_new_tokens and max_new_tokens of text_generation.yaml, optimum-benchmark's energy_star).
NEW_TOKENS: Mapping[str, tuple[int, int]] = MappingProxyType({"text_generation": (10, 10), "reasoning": (1, 8192)})


def _counted(is_: Conditions, task: str) -> bool:
    """Whether the length of the answers is known and can be held against the protocol's: then nobody need say that it is right."""
    return task in NEW_TOKENS and is_.tokens is not None


def _as_long(is_: Conditions, task: str) -> bool:
    fewest, most = NEW_TOKENS[task]
    return is_.tokens is not None and fewest <= is_.tokens[0] and is_.tokens[1] <= most


# The method of AI Energy Score ("Methodology" at https://huggingface.github.io/AIEnergyScore), as a table.
CHECKS: tuple[Check, ...] = (
    Check(
        lambda is_, _task, _class: set(is_.devices) <= H100,
        "measured on {devices}; the leaderboard's energy is that of an NVIDIA H100 80 GB",
        lambda is_, _task: bool(is_.devices),
        "nothing says on which GPU it was measured; the leaderboard's energy is that of an NVIDIA H100 80 GB",
    ),
    Check(
        lambda is_, _task, its_class: len(is_.devices) <= 1 or its_class == _SEVERAL_GPUS,
        "measured on several GPUs; only class C is",
    ),
    Check(
        lambda is_, _task, _class: all(domain.startswith("gpu:") for domain in is_.domains),
        "it counts {domains}; the protocol counts GPUs alone",
        lambda is_, _task: bool(is_.domains),
        "nothing says that it is the energy of GPUs alone",
    ),
    Check(
        lambda is_, _task, _class: is_.batch_size == 1,
        "the batch size was {batch_size}; the protocol's is 1",
        lambda is_, _task: is_.batch_size is not None,
        "nothing says that the batch size was 1",
    ),
    Check(
        lambda is_, _task, _class: is_.queries == QUERIES,
        f"there were {{queries}} queries; the protocol has {QUERIES:,}",
        lambda is_, _task: is_.queries is not None,
        f"nothing says how many queries there were; the protocol has {QUERIES:,}",
    ),
    Check(
        lambda is_, _task, _class: (is_.passes or 0) >= PASSES,
        f"passes over the queries: {{passes}}; the protocol's figure is the mean of {PASSES}",
        lambda is_, _task: is_.passes is not None,
        f"nothing says how many passes over the queries there were; the protocol's figure is the mean of {PASSES}",
    ),
    Check(
        lambda is_, task, _class: is_.queries_of == task,
        "the queries are those of the protocol for {queries_of}",
        lambda is_, _task: bool(is_.queries_of),
        "nothing says that the queries are the protocol's own",
    ),
    Check(
        lambda is_, task, _class: task in ONE_LENGTH or _counted(is_, task) or is_.output_of == task,
        "the answers have the length that the protocol for {output_of} sets",
        lambda is_, task: task in ONE_LENGTH or _counted(is_, task) or bool(is_.output_of),
        "nothing says that the answers have the length that the protocol sets",
    ),
    Check(
        lambda is_, task, _class: not _counted(is_, task) or _as_long(is_, task),
        "the answers have {tokens} new tokens; the protocol sets {length}",
    ),
    Check(
        lambda is_, task, _class: task != "reasoning" or is_.reasoning != 0,
        "no token of the answers is reasoning; the task is rated with reasoning on",
    ),
)
CLAIM = "a bare figure: nothing shows how it was measured"


@dataclass(frozen=True, slots=True)
class Rating:
    """Stars, 1 (worst) to 5, of ``wh_per_1000_queries`` on one leaderboard's ``scale`` for a task and class.

    ``reference`` is the leaderboard's date, ``source`` where its figures come from. ``indicative`` says in what the energy is not, or
    not known to be, like the leaderboard's: then the stars are for orientation, and no badge or budget may rest on them.
    """

    stars: int
    wh_per_1000_queries: float
    task: str
    model_class: str | None
    scale: Range
    reference: str
    source: str
    indicative: tuple[str, ...] = ()

    def __str__(self) -> str:
        only = ", indicative only" if self.indicative else ""
        return f"{self.stars} of {STARS} stars for {self.subject} (AI Energy Score, {self.reference}{only})"

    @property
    def subject(self) -> str:
        """The task with its class, for people."""
        return self.task if self.model_class is None else f"{self.task} class {self.model_class}"


def rate(
    wh_per_1000_queries: float,
    *,
    task: str,
    model_class: str | None = None,
    reference: str | Leaderboard = NEWEST,
    conditions: Conditions | None = None,
) -> Rating:
    """AI Energy Score stars of a model that uses ``wh_per_1000_queries`` (Wh of GPU energy per 1,000 queries).

    ``model_class`` is "A", "B" or "C" for text generation and reasoning (up to 20 billion parameters, up to 66 billion, more), None for
    other tasks.
    ``reference`` is the date of a leaderboard that ships with this package, or a newer one that
    ``pytest_greencompute.store.leaderboard.read_leaderboard`` has read from its CSV files.
    Without ``conditions`` the figure is a mere claim, so the rating is indicative. The rule is that of ``Range.stars``.

    Raises SettingsError for an energy that is not a finite positive number, an unknown task, class or date, and a class that is missing
    or needless; NotRatedError where the energy was modelled.
    """
    energy = _energy(wh_per_1000_queries)
    board = leaderboard_of(reference)
    if conditions is not None and conditions.method == "modelled":
        raise NotRatedError(
            "The energy was modelled, and modelled energy is not rated.",
            remedy="Measure it on a GPU; `greencompute doctor` says what works here.",
        )
    scale = board.range_of(task, model_class)
    reasons = indicative(conditions, task, model_class)
    return Rating(scale.stars(energy), energy, task, model_class, scale, board.date, board.source, reasons)


def indicative(conditions: Conditions | None, task: str, model_class: str | None) -> tuple[str, ...]:
    """In what energy differs, or may differ, from the leaderboard's: a sentence for each of CHECKS that is not met; empty where all are."""
    if conditions is None or conditions.method is None:
        return (CLAIM,)
    words = {
        "devices": ", ".join(sorted(set(conditions.devices))),
        "domains": ", ".join(conditions.domains),
        "tokens": _span(conditions.tokens),
        "length": _span(NEW_TOKENS.get(task)),
        **{name: getattr(conditions, name) for name in ("batch_size", "queries", "passes", "queries_of", "output_of")},
    }
    reasons = []
    for check in CHECKS:
        if not check.known(conditions, task):
            reasons.append(check.unknown)
        elif not check.met(conditions, task, model_class):
            reasons.append(check.sentence.format(**words))
    return tuple(reasons)


def _span(ends: tuple[int, int] | None) -> str:
    """A number of tokens, or the fewest and the most, for people."""
    return "" if ends is None else " to ".join(f"{end:,}" for end in sorted(set(ends)))


def leaderboard_of(reference: object) -> Leaderboard:
    """The leaderboard itself, or the one in this package that is of this date. Raises SettingsError for anything else."""
    if isinstance(reference, Leaderboard):
        return reference
    if isinstance(reference, str) and reference in LEADERBOARDS:
        return LEADERBOARDS[reference]
    near = _near(reference, LEADERBOARDS) if isinstance(reference, str) else ""
    raise SettingsError(
        f"There is no leaderboard {reference!r} in this package.{near}",
        remedy=f"It has {', '.join(LEADERBOARDS)}; a newer one is read from its CSV files by store.leaderboard.read_leaderboard().",
    )


def _energy(given: object) -> float:
    """``given`` as a finite positive float. Raises SettingsError."""
    remedy = "Give Wh of GPU energy per 1,000 queries as a number; a joule per query is 1/3.6 of one."
    if isinstance(given, bool) or not isinstance(given, Real):
        raise SettingsError(f"{given!r} is not an energy.", remedy=remedy)
    try:
        energy = float(given)
    except OverflowError:
        energy = math.inf  # an int may be too large for a float
    if not _positive(energy):
        raise SettingsError(f"An energy of {energy!r} Wh per 1,000 queries cannot be rated.", remedy=remedy)
    return energy
