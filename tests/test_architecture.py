"""The house: folders by subject in one order, each importing only from those before it, without a circle, and of a size to live in."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "pytest_greencompute"
NAME = "pytest_greencompute"

# The table of docs/explanation/architecture.md: each imports only from those before it.
ORDER = (
    "errors",
    "stats",
    "values",
    "estimates",
    "judging",
    "bisecting",
    "explaining",
    "advising",
    "protocol",
    "machine",
    "meters",
    "commits",
    "results",
    "store",
    "models",
    "measuring",
    "profiling",
    "levers",
    "pairing",
    "serving",
    "report",
    "settings",
    "fleet",
    "session",
    "hooks",
    "starting",
    "commands",
    "testing",
)
DOORS = ("__init__", "errors", "plugin", "cli", "footprint", "generation", "units")
PURE = ("stats", "values", "estimates", "judging", "bisecting", "explaining", "advising", "protocol")
NOT_IN_PURE = {"os", "time", "pathlib", "torch", "pytest", "random", "subprocess", "threading", "socket", "pynvml"}
KNOW_PYTEST = ("hooks", "plugin")
NOT_AT_IMPORT = {
    *("numpy", "torch", "scipy", "codecarbon", "zeus", "amdsmi", "pynvml", "tabulate", "filelock", "transformers"),
    *("plotly", "jinja2", "fastjsonschema", "prometheus_client", "mlflow", "opentelemetry", "httpx", "httpx_sse", "anyio", "ray", "psutil"),
}
MOST_IN_THE_ROOT, MOST_LAZY_IMPORTS = 8, 25
LONGEST_MODULE, LONGEST_CLASS = 450, 300
MOST_UNTYPED = 4.0  # mappings of text to anything, for each 1,000 lines


def modules() -> dict[str, ast.Module]:
    """Each module by its name within the package: 'meters.nvml'; a folder stands for its __init__."""
    paths = {path: ".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in sorted(PACKAGE.rglob("*.py"))}
    return {name.removesuffix(".__init__"): ast.parse(path.read_text(encoding="utf-8")) for path, name in paths.items()}


MODULES = modules()


def names_in(statement: ast.AST) -> list[str]:
    """Full names of the modules that an import statement imports."""
    if isinstance(statement, ast.Import):
        return [alias.name for alias in statement.names]
    if isinstance(statement, ast.ImportFrom) and statement.module:
        own = statement.module.partition(".")[0] == NAME
        return [f"{statement.module}.{alias.name}" if own else statement.module for alias in statement.names]
    return []


def ours_in(statement: ast.AST) -> set[str]:
    """The modules of this package that an import statement imports, wherever it stands: at the top, in a function, for types alone."""
    found = (name.removeprefix(f"{NAME}.") for name in names_in(statement) if name.startswith(f"{NAME}."))
    return {name if name in MODULES else name.rpartition(".")[0] or "__init__" for name in found}


@cache
def graph() -> dict[str, set[str]]:
    """Module -> the modules of this package that it imports at any level."""
    return {name: set().union(*map(ours_in, ast.walk(tree))) - {name, "__init__"} for name, tree in MODULES.items() if name != "__init__"}


def run_at_import(tree: ast.Module) -> Iterator[ast.stmt]:
    """Its statements that are run when it is imported: not those for types alone."""
    for node in tree.body:
        if not isinstance(node, ast.If):
            yield node
        elif "TYPE_CHECKING" not in ast.dump(node.test):
            yield from (*node.body, *node.orelse)


def heads(tree: ast.Module, *, at_import: bool = False) -> set[str]:
    statements = run_at_import(tree) if at_import else ast.walk(tree)
    return {name.partition(".")[0] for statement in statements for name in names_in(statement)}


def folder(module: str) -> str:
    return module.partition(".")[0]


def test_the_root_holds_doors_and_folders() -> None:
    assert {name for name in MODULES if "." not in name} == {*DOORS, *ORDER}
    assert len(list(PACKAGE.glob("*.py"))) <= MOST_IN_THE_ROOT


@pytest.mark.parametrize("module", sorted(graph()))
def test_a_module_imports_only_from_its_own_folder_or_from_those_before(module: str) -> None:
    if folder(module) not in DOORS or module == "errors":
        allowed = ORDER[: ORDER.index(folder(module)) + 1]
        assert {other for other in graph()[module] if folder(other) not in allowed} == set()


def test_no_circle_at_any_level_of_import() -> None:
    left = {module: set(others) for module, others in graph().items()}
    while ended := {module for module, others in left.items() if not others}:
        left = {module: others - ended for module, others in left.items() if module not in ended}
    assert left == {}, "each of these imports another of them"


@pytest.mark.parametrize("module", [name for name in MODULES if folder(name) in PURE])
def test_the_core_is_pure(module: str) -> None:
    assert not heads(MODULES[module]) & NOT_IN_PURE


@pytest.mark.parametrize("module", [name for name in MODULES if folder(name) not in KNOW_PYTEST])
def test_only_the_hooks_know_pytest(module: str) -> None:
    assert "pytest" not in heads(MODULES[module])


@pytest.mark.parametrize("module", MODULES)
def test_importing_a_module_imports_nothing_heavy(module: str) -> None:
    assert not heads(MODULES[module], at_import=True) & NOT_AT_IMPORT


def test_imports_of_ours_stand_at_the_top() -> None:
    lazy = []
    for module, tree in MODULES.items():
        top = {id(each) for node in tree.body for each in (ast.walk(node) if isinstance(node, ast.If | ast.Try) else (node,))}
        lazy += [
            f"{module}:{node.lineno}" for node in ast.walk(tree) if id(node) not in top and isinstance(node, ast.stmt) and ours_in(node)
        ]
    assert len(lazy) <= MOST_LAZY_IMPORTS, lazy


@pytest.mark.parametrize("module", MODULES)
def test_modules_and_classes_are_of_a_size_to_read(module: str) -> None:
    tree = MODULES[module]
    assert max((node.end_lineno or 0 for node in tree.body), default=0) <= LONGEST_MODULE
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    assert [node.name for node in classes if (node.end_lineno or 0) - node.lineno >= LONGEST_CLASS] == []


def test_a_word_has_one_meaning() -> None:
    homes: dict[str, list[str]] = {}
    for module, tree in MODULES.items():
        names = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
        names += [
            node.targets[0].id
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and isinstance(node.value, ast.Subscript | ast.BinOp)
        ]
        for name in names:
            if not name.startswith("_") and name[0].isupper() and not name.isupper():
                homes.setdefault(name, []).append(module)
    assert {name: modules for name, modules in homes.items() if len(modules) > 1} == {}


def test_data_is_typed() -> None:
    texts = [path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")]
    untyped = sum(len(re.findall(r"(?:dict|Mapping)\[str, (?:Any|object)\]", text)) for text in texts)
    assert 1000 * untyped / sum(text.count("\n") for text in texts) <= MOST_UNTYPED


def test_the_page_shows_the_same_order() -> None:
    page = (PACKAGE.parent / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    assert tuple(re.findall(r"^\| \d+ \| `(\w+)", page, flags=re.MULTILINE)) == ORDER
