"""What a run was asked, told alike by two processes: another text where it differs, the same where only its surroundings do."""

from __future__ import annotations

import functools
import importlib.util
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_greencompute.models.fingerprints import of_counter, of_function, of_queries, of_scoring

THRESHOLD = 0.5


@dataclass
class Question:
    text: str
    tags: frozenset[str] = frozenset()


class Opaque:
    """Shows nothing of what it holds."""

    __slots__ = ("_secret",)

    def __init__(self, secret: int) -> None:
        self._secret = secret


def alike(one: Any, other: Any) -> tuple[bool, bool]:
    a, b = of_queries(one), of_queries(other)
    return a.alike == b.alike, a.exact == b.exact


SAME, SAME_WORK, OTHER = (True, True), (True, False), (False, False)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (["a", "b"], ["a", "b"], SAME),
        (["a", "b"], ["b", "a"], SAME_WORK),
        (["a", "b"], ["a", "c"], OTHER),
        (["a", "b"], ["a", "b", "b"], OTHER),
        ([1, 2], [1, 3], OTHER),
        ([0.01, 0.02], [0.01, 0.05], OTHER),
        ([{"text": "a"}], [{"text": "b"}], OTHER),
        ([Question("a")], [Question("b")], OTHER),
        ([Question("a", frozenset("xyz"))], [Question("a", frozenset("zyx"))], SAME),
        (["/tmp/one/cat.png"], ["/home/two/cat.png"], SAME),
        ([Path("/tmp/one/cat.png")], [Path("/tmp/one/dog.png")], OTHER),
        ([np.array([1, 2])], [np.array([1, 3])], OTHER),
        ([np.array([1, 2])], [np.array([1, 2], dtype="int32")], SAME),
        ([np.array([0.1, 0.2])], [np.array([0.1, 0.3])], SAME_WORK),
        ([np.array([0.1, 0.2])], [np.array([0.1, 0.2]) * (1 + 1e-9)], SAME),
        ([np.zeros((2, 3))], [np.zeros((3, 2))], OTHER),
        ([[0.5] * 16], [[0.25] * 16], SAME_WORK),
        (np.arange(4), np.arange(1, 5), OTHER),
        (range(40), range(100), OTHER),
        ([Opaque(1)], [Opaque(2)], SAME),
    ],
)
def test_queries_are_told_by_their_work_and_by_their_values(one: Any, other: Any, expected: tuple[bool, bool]) -> None:
    assert alike(one, other) == expected


class Sliced:
    """Queries that are made when they are asked for, by slices."""

    def __init__(self, count: int) -> None:
        self.count, self.asked = count, 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, where: slice) -> list[int]:
        self.asked += 1
        return list(range(*where.indices(self.count)))


def test_of_queries_that_cost_something_to_have_a_sample_is_looked_at() -> None:
    several: Any = Sliced(100_000)
    assert alike(several, Sliced(100_000)) == SAME
    assert 0 < several.asked <= 256
    assert alike(Sliced(10), Sliced(20)) == OTHER


def test_tensors_are_told_like_arrays() -> None:
    torch = pytest.importorskip("torch")
    ids = torch.arange(4)
    assert alike([ids], [ids + 1]) == OTHER
    assert alike([ids], [ids.numpy()]) == SAME
    halves = torch.full((2, 2), 0.5, dtype=torch.bfloat16)
    assert alike([halves], [halves * 2]) == SAME_WORK


def test_queries_that_show_nothing_are_named_and_nothing_is_used_up() -> None:
    stream = iter([1, 2])
    assert of_queries([stream, Opaque(1), "a"]).opaque == "Opaque, list_iterator"
    assert list(stream) == [1, 2]
    assert of_queries(["a"]).opaque is None


def test_an_object_that_cannot_be_looked_at_is_opaque() -> None:
    class Angry:
        def keys(self) -> list[str]:
            raise RuntimeError("not now")

    assert of_queries([Angry()]).opaque == "Angry"


def close(answer: float, reference: float) -> bool:
    return abs(answer - reference) < THRESHOLD


def within(limit: float) -> Callable[[float, float], bool]:
    return lambda answer, reference: abs(answer - reference) < limit


class Scorer:
    def __init__(self, limit: float) -> None:
        self.limit, self.calls = limit, 0

    def __call__(self, answer: float, reference: float) -> bool:
        self.calls += 1
        return abs(answer - reference) < self.limit

    def score(self, answer: float, reference: float) -> bool:
        return self(answer, reference)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (within(0.5), within(0.1)),
        (functools.partial(close, reference=1), functools.partial(close, reference=2)),
        (Scorer(0.5), Scorer(0.1)),
        (Scorer(0.5).score, Scorer(0.1).score),
        (close, within(0.5)),
        (max, min),
        (
            lambda a, b: a == b,
            lambda a, b: a >= b,
        ),
    ],
)
def test_functions_that_compute_other_things_differ(one: Callable[..., Any], other: Callable[..., Any]) -> None:
    assert of_function(one) != of_function(other)


def test_a_function_does_not_differ_for_having_been_called() -> None:
    scorer, calls = Scorer(0.5), 0

    def counting(answer: float, reference: float) -> bool:
        nonlocal calls
        calls += 1
        return answer == reference

    before = of_function(scorer), of_function(counting)
    scorer(1, 2)
    counting(1, 2)
    assert (of_function(scorer), of_function(counting)) == before


SCORES = """
import functools
{constant}
def helper(answer):
    return answer {helped}

def score(answer, reference):
    '''{words}'''
    return helper(answer) == reference and LIMIT  # {words}

class Scorer:
    cache = {{}}
    def __init__(self):
        self.pair = {{"a", "b", "c"}}
    def __call__(self, answer, reference):
        return score(answer, reference)

from pytest_greencompute.models.fingerprints import of_function
scores = (score, functools.partial(score, reference=1), Scorer(), lambda answer, reference: score(answer, reference))
print(*(of_function(each).partition(" ")[2] for each in scores))
"""


def told(folder: Path, seed: int = 1, **parts: str) -> list[str]:
    """The digests of four scores as a process of its own tells them, from a file in ``folder``."""
    folder.mkdir(exist_ok=True)
    text = SCORES.format(**{"constant": "LIMIT = 1", "helped": "+ 1", "words": "one", **parts})
    (folder / "scores.py").write_text(textwrap.dedent(text), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "scores.py"],
        cwd=folder,
        env={"PYTHONHASHSEED": str(seed), "PYTHONPATH": ":".join(sys.path)},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.replace("(", "").replace(")", "").split()


def test_two_processes_agree_on_a_function_wherever_it_lies_and_whatever_its_comments_say(tmp_path: Path) -> None:
    first = told(tmp_path / "one")
    assert len(set(first)) == 4
    assert told(tmp_path / "two", seed=2, words="two", constant="\n\nLIMIT = 1") == first


@pytest.mark.parametrize("changed", [{"constant": "LIMIT = 0"}, {"helped": "+ 2"}])
def test_what_a_function_refers_to_is_part_of_it(tmp_path: Path, changed: dict[str, str]) -> None:
    first, other = told(tmp_path / "one"), told(tmp_path / "two", **changed)
    assert not set(first) & set(other)


# What a score is made from, with ``{}`` for what changes, and two such values.
OTHER_SCORES = {
    "private attribute": (
        "class S:\n    def __init__(self, t): self._t = t\n    def __call__(self, a, r): return a < self._t\nf = S({})",
        "1",
        "2",
    ),
    "a method's own": (
        "class S:\n    def __init__(self, t): self._t = t\n    def ok(self, a, r): return a < self._t\nf = S({}).ok",
        "1",
        "2",
    ),
    "list of an object": (
        "class S:\n    def __init__(self, t): self.t = t\n    def __call__(self, a, r): return a in self.t\nf = S({})",
        "[1]",
        "[2]",
    ),
    "slot": (
        "class S:\n    __slots__ = '_t',\n    def __init__(self, t): self._t = t\n    def __call__(self, a, r): return a < self._t\n"
        "f = S({})",
        "1",
        "2",
    ),
    "constant of a class": ("class S:\n    T = {}\n    @classmethod\n    def f(cls, a, r): return a < cls.T\nf = S.f", "1", "2"),
    "constant by name": ("class S:\n    T = {}\n    @staticmethod\n    def f(a, r): return a < S.T\nf = S.f", "1", "2"),
    "another method": ("class S:\n    def n(self, a): return a + {}\n    def f(self, a, r): return self.n(a) == r\nf = S().f", "1", "2"),
    "inherited method": (
        "class B:\n    def n(self, a): return a + {}\nclass S(B):\n    def f(self, a, r): return self.n(a) == r\nf = S().f",
        "1",
        "2",
    ),
    "property": ("class S:\n    @property\n    def t(self): return {}\n    def f(self, a, r): return a < self.t\nf = S().f", "1", "2"),
    "helper object": ("class N:\n    def n(self, a): return a + {}\nhelper = N()\ndef f(a, r): return helper.n(a) == r", "1", "2"),
    "helper made inside": ("class N:\n    def n(self, a): return a + {}\ndef f(a, r): return N().n(a) == r", "1", "2"),
    "settings": ("import types\nset_to = types.SimpleNamespace(t={})\ndef f(a, r): return a < set_to.t", "1", "2"),
    "enumeration": ("import enum\nclass E(enum.Enum):\n    T = {}\ndef f(a, r): return a < E.T.value", "1", "2"),
    "dict": ("W = {}\ndef f(a, r): return W[a] == r", "{1: 1}", "{1: 2}"),
    "list": ("W = {}\ndef f(a, r): return any(w in a for w in W)", "['a']", "['a', 'b']"),
    "set": ("W = {}\ndef f(a, r): return a in W", "{'a'}", "{'b'}"),
    "table of functions": ("def e(a, r): return a == r\ndef o(a, r): return a >= r\nT = [{}]\ndef f(a, r): return T[0](a, r)", "e", "o"),
    "pattern": ("import re\nP = re.compile({})\ndef f(a, r): return bool(P.match(a))", "'a'", "'b'"),
    "partial of a list": ("import functools\ndef g(a, r, w): return a in w\nf = functools.partial(g, w={})", "[1]", "[2]"),
    "closure": ("def made(w):\n    def s(a, r): return a in w\n    return s\nf = made({})", "[1]", "[2]"),
    "default": ("def f(a, r, w={}): return a in w", "[1]", "[2]"),
    "cached": ("import functools\n@functools.lru_cache\ndef f(a, r): return a < {}", "1", "2"),
    "cached helper": ("import functools\n@functools.lru_cache\ndef h(a): return a + {}\ndef f(a, r): return h(a) == r", "1", "2"),
    "array": ("import numpy as np\nW = np.array({})\ndef f(a, r): return W[a] == r", "[1, 2]", "[1, 3]"),
}
# Scores that remember something, called or not.
REMEMBERING = {
    "cache": "C = {}\ndef f(a, r):\n    if a not in C: C[a] = a\n    return C[a] == r",
    "log": "L = []\ndef f(a, r):\n    L.append(a)\n    return bool(L)",
    "log by another name": "L = []\ndef f(a, r):\n    known = L\n    known.append(a)\n    return bool(L)",
    "helper's log": "L = []\ndef note(to, a): to.append(a)\ndef f(a, r):\n    note(L, a)\n    return bool(L)",
    "log of another function": "L = []\ndef note(a): L.append(a)\ndef f(a, r):\n    note(a)\n    return len(L) > 0",
    "loaded when needed": "M = None\ndef load():\n    global M\n    M = 'm'\ndef f(a, r):\n    if M is None: load()\n    return True",
    "object's log": "class S:\n    def __init__(self): self._l = []\n    def f(self, a, r):\n        self._l.append(a)\n        return a\n"
    "f = S().f",
    "object's cache": "class S:\n    def __init__(self): self._c = {}\n    def n(self, a): return self._c.setdefault(a, a)\n"
    "    def f(self, a, r): return self.n(a) == r\nf = S().f",
    "object's model": "class S:\n    def __init__(self): self.m = None\n    def load(self): self.m = 'm'\n    def __call__(self, a, r):\n"
    "        if self.m is None: self.load()\n        return True\nf = S()",
    "property": "import functools\nclass S:\n    @functools.cached_property\n    def t(self): return 1\n"
    "    def __call__(self, a, r): return a < self.t\nf = S()",
    "judge": "import itertools\nfrom threading import Lock\n"
    "class J:\n    def __init__(self): self._lock, self.asked, self._ids = Lock(), 0, itertools.count()\n"
    "    def ask(self, a):\n        with self._lock: self.asked += 1\n        return next(self._ids) >= 0\n"
    "judge = J()\ndef f(a, r): return judge.ask(a)",
    "server": "import random\nclass J:\n    def __init__(self): self._at = f'http://localhost:{random.randrange(9999)}'\n"
    "    def f(self, a, r):\n        self.__init__()\n        return bool(self._at)\nf = J().f",
}


def written(folder: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The function ``f`` of a module with this text."""
    path = folder / f"{name}.py"
    path.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    found: Callable[..., Any] = module.f
    return found


@pytest.mark.parametrize("how", OTHER_SCORES)
def test_a_score_that_was_made_otherwise_is_another_one(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, one, other = OTHER_SCORES[how]
    made = [written(tmp_path, name, text.replace("{}", value), monkeypatch) for name, value in zip("xyz", (one, one, other), strict=True)]
    first, same, changed = map(of_function, made)
    assert first == same
    assert first != changed


@pytest.mark.parametrize("how", REMEMBERING)
def test_a_score_that_remembers_stays_the_same_one(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    score = written(tmp_path, "x", REMEMBERING[how], monkeypatch)
    before = of_function(score)
    for answer in (0, 0, 1):
        score(answer, 1)
    assert of_function(score) == before


def test_a_function_without_source_is_told_by_its_instructions() -> None:
    def made(text: str) -> Callable[..., Any]:
        held: dict[str, Any] = {}
        exec(f"def score(answer, reference):\n    return {text}", held)
        found: Callable[..., Any] = held["score"]
        return found

    assert of_function(made("answer == 1")) == of_function(made("answer == 1"))
    assert of_function(made("answer == 1")) != of_function(made("answer == 2"))


def test_a_counter_is_told_by_its_kind() -> None:
    class Tokenizer:
        name_or_path, vocab_size = "/tmp/models/small", 100

        def encode(self) -> None: ...
        def decode(self) -> None: ...

    assert of_counter("ids") == "ids"
    assert of_counter(Tokenizer()) == "Tokenizer small 100"
    assert of_counter(len) != of_counter(close)


def test_without_references_there_is_no_score() -> None:
    assert of_scoring(None, "accuracy") == (None, None)
    assert of_scoring(["A"], "accuracy")[1] == "accuracy"
    assert of_scoring(["A"], "accuracy") != of_scoring(["B"], "accuracy")
