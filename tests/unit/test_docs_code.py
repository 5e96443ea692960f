"""What the pages show can be run: Python and what it imports, settings, YAML, and every command with its options."""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.util
import inspect
import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_greencompute import cli
from pytest_greencompute.judging.budget import parse_lines
from pytest_greencompute.session.energy_meter import EnergyMeter
from pytest_greencompute.settings.build import build
from pytest_greencompute.settings.options import OPTIONS
from pytest_greencompute.settings.toml_file import TomlFile

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
FENCED = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL)
BY_NAME = {option.name: option for option in OPTIONS}
PACKAGE = "pytest_greencompute"
OURS = re.compile(r"(?:^|\s)(?=greencompute\s|make\s|pytest\s|python -m pytest\s)")  # where a command of ours begins in a line
PLACEHOLDER = re.compile(r"[A-Z|…]+|\.\.\.")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    where: str
    language: str
    text: str


@dataclass(frozen=True)
class Command:
    """A line that people type. ``whole``: nothing of it is left out, as it may be within a sentence."""

    where: str
    words: tuple[str, ...]
    whole: bool


def named(page: Path, text: str, at: int) -> str:
    return f"{page.relative_to(ROOT).as_posix()}:{text.count(chr(10), 0, at) + 1}"


def blocks(*languages: str) -> list[Block]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for each in FENCED.finditer(text):
            if each["language"] in languages:
                found.append(Block(named(page, text, each.start()), each["language"], textwrap.dedent(each["text"])))
    return found


def commands_of(page: Path, text: str) -> Iterator[Command]:
    """The lines of blocks that begin with a command of ours or with a prompt, and what stands in a sentence as code."""
    for each in FENCED.finditer(text):
        if each["language"] not in ("", "bash", "console"):
            continue
        prompted = "$ " in each["text"]
        for line in textwrap.dedent(each["text"]).replace("\\\n", " ").splitlines():
            if line.startswith("$ ") or (not prompted and OURS.match(line)):
                yield from cut(named(page, text, each.start()), line.removeprefix("$ "), whole=True)
    for each in re.finditer(r"(?<!`)`([^`\n]+)`(?!`)", FENCED.sub(lambda found: "\n" * found[0].count("\n"), text)):
        said = f"pytest {each[1]}" if each[1].startswith("--energy-") else each[1]  # a sentence names an option alone
        if OURS.match(said + " "):
            yield from cut(named(page, text, each.start()), said, whole=False)


def cut(where: str, line: str, *, whole: bool) -> Iterator[Command]:
    """The commands of a line: what stands before and after them (variables, pipes, comments) is the shell's."""
    for part in re.split(r"\s(?:\||&&|;|>)\s|;\s|\s#\s.*", line + " "):
        begins = OURS.search(part)
        if begins is not None:
            yield Command(where, tuple(shlex.split(part[begins.end() :])), whole)


COMMANDS = [each for page in PAGES for each in commands_of(page, page.read_text(encoding="utf-8"))]
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
_SUBPARSERS = next(each for each in cli._parser()._actions if isinstance(each, argparse._SubParsersAction))


def ids(found: list[Any]) -> dict[str, Any]:
    return {"argvalues": found, "ids": [each.where for each in found]}


# --- Python --------------------------------------------------------------------------------------------------------------------------


def of_ours(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """The names that are imported from this package: module and name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
            yield from ((str(node.module), alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "__name__") for alias in node.names if alias.name.split(".")[0] == PACKAGE)


def is_there(module: str, name: str) -> bool:
    return hasattr(importlib.import_module(module), name) or importlib.util.find_spec(f"{module}.{name}") is not None


@pytest.mark.parametrize("block", **ids(blocks("python")))
def test_python_parses_and_asks_for_nothing_that_is_not_there(block: Block) -> None:
    tree = compile(block.text, block.where, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for module, name in of_ours(tree):
        assert is_there(module, name), f"{block.where} imports {name} from {module}"
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        given = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
        if isinstance(call.func.value, ast.Name) and call.func.value.id == "energy_meter":
            taken = inspect.signature(getattr(EnergyMeter, call.func.attr)).parameters
            assert given.keys() <= taken.keys() or any(each.kind is each.VAR_KEYWORD for each in taken.values()), block.where
        elif call.func.attr == "energy_budget":
            written = {name: ast.literal_eval(value) for name, value in given.items() if not isinstance(value, ast.Name)}
            parse_lines(written, lambda *_: block.where)


# --- Settings and YAML ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", **ids([each for each in blocks("toml") if not each.text.startswith("[env.")]))  # those are tox's
def test_the_reader_of_settings_takes_what_the_pages_write(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text(block.text, encoding="utf-8")
    file = TomlFile(path)
    assert file.data.get("tool", {}).keys() & {"greencompute", "pytest"}, block.where  # what stands elsewhere is read by nobody
    build({}, (file,), {}, tmp_path)


@pytest.mark.parametrize("block", **ids(blocks("yaml")))
def test_yaml_parses(block: Block) -> None:
    assert yaml.safe_load(block.text)


# --- Commands ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", **ids([each for each in COMMANDS if each.words[0] == "greencompute"]))
def test_commands_of_greencompute_are_taken_by_their_parser(command: Command) -> None:
    check_greencompute(command)


def check_greencompute(command: Command) -> None:
    name, *rest = command.words[1:] or ("--help",)
    if name.startswith("-") or PLACEHOLDER.fullmatch(name):
        return
    assert name in _SUBPARSERS.choices, f"{command.where}: there is no greencompute {name}"
    options = _SUBPARSERS.choices[name]._option_string_actions
    before = rest[: rest.index("--")] if "--" in rest else rest
    for word in before:
        assert not word.startswith("-") or word.partition("=")[0] in options, f"{command.where}: greencompute {name} has no {word}"
    if command.whole:
        cli._parser().parse_args(command.words[1:])  # ends the test where it is not taken


@pytest.mark.parametrize("command", **ids([each for each in COMMANDS if "pytest" in each.words[:3]]))
def test_options_of_pytest_are_in_the_table(command: Command) -> None:
    check_pytest(command)


def check_pytest(command: Command) -> None:
    for at, word in enumerate(command.words):
        name, equals, value = word.removeprefix("--energy-").partition("=")
        if not word.startswith("--energy-") or name in ("", "…"):
            continue
        assert name in BY_NAME, f"{command.where}: pytest has no {word}"
        option = BY_NAME[name]
        assert not (option.flag and equals), f"{command.where}: {word} takes no value"
        if not option.flag and command.whole:
            assert equals or at + 1 < len(command.words), f"{command.where}: {word} needs a value"
        chosen = value if equals else command.words[at + 1] if at + 1 < len(command.words) else None
        if option.choices and chosen is not None and not PLACEHOLDER.search(chosen):
            assert {*chosen.split("|")} <= {*option.choices}, f"{command.where}: {word} {chosen}"


@pytest.mark.parametrize("command", **ids([each for each in COMMANDS if each.words[0] == "make"]))
def test_targets_of_make_exist(command: Command) -> None:
    check_make(command)


def check_make(command: Command) -> None:
    for word in command.words[1:]:
        assert "=" in word or word in TARGETS, f"{command.where}: there is no make {word}"


@pytest.mark.parametrize(
    ("check", "line"),
    [
        (check_greencompute, "greencompute dokter"),
        (check_greencompute, "greencompute noise t.py --launch 2"),
        (check_greencompute, "greencompute bisect --good v1 t.py"),
        (check_pytest, "pytest --energy-budgets"),
        (check_pytest, "pytest --energy-budget=5"),
        (check_pytest, "pytest --energy-save"),
        (check_pytest, "pytest --energy-update tight"),
        (check_make, "make demos"),
    ],
)
def test_a_command_that_does_not_exist_would_be_found(check: Any, line: str) -> None:
    (command,) = cut("here", line, whole=True)
    with pytest.raises((AssertionError, SystemExit)):
        check(command)


def test_there_is_much_to_check() -> None:
    """A pattern that finds nothing any more would leave all of the above green."""
    assert [len(blocks(language)) > least for language, least in (("python", 30), ("toml", 12), ("yaml", 4))] == [True] * 3
    assert len(COMMANDS) > 250
