"""What a place in Python code is called, by the stack that led there."""

from __future__ import annotations

import contextlib
import re
import sys
from pathlib import Path
from types import CodeType

import pytest

from pytest_greencompute.profiling.places import CodeNames, CodePlace

ROOT = Path("/somewhere/project")
LIBRARY = Path(re.__file__).parents[1] / "site-packages"


def code(path: str, qualname: str) -> CodeType:
    """The code of a function of that name, as it stands in that file."""
    made = (lambda: None).__code__.replace(co_filename=path, co_name=qualname.rpartition(".")[2])
    return made.replace(co_qualname=qualname) if sys.version_info >= (3, 11) else made


TOKENIZE = code(f"{ROOT}/chat.py", "tokenize")
ENCODE = code(f"{ROOT}/app/chat.py", "encode")
HOOK = code(f"{ROOT}/chat.py", "hook")
COMPILE, PARSE = re.compile.__code__, code(re.__file__, "parse")
CALL = code(f"{LIBRARY}/torch/nn/modules/module.py", "_call_impl")
LINEAR = code(f"{LIBRARY}/torch/nn/modules/linear.py", "forward")
PIPELINE = code(f"{LIBRARY}/transformers/pipelines/base.py", "run")
WRAPPER = contextlib.ContextDecorator().__call__(lambda: None).__code__  # made within another function, as decorators are
OURS = code(str(Path(__file__).parents[2] / "pytest_greencompute" / "models" / "workload.py"), "run")
TEXT = code("<string>", "__init__")

PLACES = {
    "a function of the project": ([TOKENIZE, ENCODE], CodePlace("chat.py:tokenize")),
    "in a folder": ([ENCODE], CodePlace("app/chat.py:encode")),
    "a library counts under who called it, by what was called": ([PARSE, COMPILE, TOKENIZE], CodePlace("re.compile from chat.py:tokenize")),
    "a decorator is not what was called": ([PARSE, COMPILE, WRAPPER, TOKENIZE], CodePlace("re.compile from chat.py:tokenize")),
    "below a module": ([LINEAR, CALL, ENCODE], CodePlace("torch modules from app/chat.py:encode", in_module=True)),
    "a hook of the project": ([HOOK, CALL, ENCODE], CodePlace("chat.py:hook", in_module=True)),
    "a library that a hook has called": ([COMPILE, HOOK, CALL, ENCODE], CodePlace("re.compile from chat.py:hook", in_module=True)),
    "no function of the project": ([PARSE, COMPILE], CodePlace("re.parse")),
    "a module in a library's pipeline": ([LINEAR, CALL, PIPELINE, OURS], CodePlace("torch modules from transformers.run", in_module=True)),
    "made from text": ([TEXT, TOKENIZE], CodePlace("chat.py:tokenize")),
    "ours": ([OURS, TOKENIZE], None),
    "through ours": ([PARSE, COMPILE, OURS, TOKENIZE], CodePlace("re.compile from chat.py:tokenize")),
    "nothing": ([], None),
}


@pytest.mark.parametrize(("stack", "place"), PLACES.values(), ids=PLACES)
def test_a_stack_counts_under_the_users_function_and_what_it_called(stack: list[CodeType], place: CodePlace | None) -> None:
    assert CodeNames(ROOT).place(stack) == place


def test_two_checkouts_call_a_function_the_same() -> None:
    there = code("/elsewhere/base/app/chat.py", "encode")
    assert CodeNames(Path("/elsewhere/base")).of(there).name == CodeNames(ROOT).of(ENCODE).name


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 knows no qualified names of code")
@pytest.mark.parametrize(
    ("written", "name"),
    [("Words.found.<locals>.<listcomp>", "Words.found"), ("Words.found", "Words.found"), ("make.<locals>.run", "make.run")],
)
def test_a_comprehension_is_part_of_the_function_around_it(written: str, name: str) -> None:
    assert CodeNames(ROOT).of(code(f"{ROOT}/chat.py", written)).name == f"chat.py:{name}"
