"""The seven floors: each module stands on one and imports only from its own floor or from below."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "pytest_greencompute"

# The table of docs/explanation/architecture.md. A folder's name stands for all modules in it.
FLOORS: dict[int, tuple[str, ...]] = {
    0: ("errors", "units", "metrics", "distributions"),
    1: (
        "samples",
        "footprint",
        "estimate",
        "budget",
        "ratio",
        "verdict",
        "pairs",
        "sequential",
        "phase",
        "noise",
        "rating",
        "rated",
        "choice",
        "loosened",
    ),
    2: ("clock", "tracing", "ci", "meters", "machine"),
    3: (
        "schedule",
        "asks",
        "sets",
        "forecast",
        "protocol",
        "ticking",
        "device_sync",
        "queries",
        "fingerprints",
        "generation",
        "adapters",
        "workload",
        "awaiting",
        "spinning",
        "tokens",
        "calls",
        "watching",
        "instruments",
        "compute",
        "measured",
        "repeats",
        "measuring",
        "energy_score",
        "window",
        "serving",
        "abreast",
        "answers",
        "alike",
        "sweeping",
        "precision",
        "testing",
    ),
    4: ("store", "commits"),
    5: ("report", "judging", "comparing", "comparison", "sides"),
    6: (
        "options",
        "addopts",
        "toml_file",
        "finding",
        "settings",
        "session",
        "fixture",
        "grouping",
        "marks",
        "collecting",
        "updating",
        "ledger",
        "reporting",
        "workers",
        "other_plugins",
        "unittest_case",
        "hookspec",
        "plugin",
        "benchmarks",
        "commands",
        "cli",
    ),
}
PURE = (
    "errors",
    "units",
    "metrics",
    "distributions",
    "samples",
    "estimate",
    "budget",
    "ratio",
    "verdict",
    "pairs",
    "sequential",
    "phase",
    "noise",
    "rating",
    "rated",
    "choice",
    "loosened",
    "footprint",
    "schedule",
    "asks",
    "forecast",
    "protocol",
    "sets",
    "ticking",
    "serving.wire",
    "serving.steady",
    "serving.asked",
)
NOT_IN_PURE = {"os", "time", "pathlib", "torch", "pytest", "random", "subprocess", "threading", "socket", "pynvml"}
NOT_AT_IMPORT = {
    *("numpy", "torch", "scipy", "codecarbon", "zeus", "amdsmi", "pynvml", "tabulate", "filelock", "transformers"),
    *("plotly", "jinja2", "fastjsonschema", "prometheus_client", "mlflow", "opentelemetry", "httpx", "httpx_sse", "anyio"),
}
PYTEST_BELONGS_TO = 6


def floor_of(module: str) -> int:
    """The floor of a module, named from the package: 'meters.nvml'."""
    head = module.partition(".")[0]
    return next(floor for floor, names in FLOORS.items() if head in names)


def modules() -> dict[str, ast.Module]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        if name != "__init__":
            found[name.removesuffix(".__init__")] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imported(tree: ast.Module, *, only_at_import: bool = False) -> list[str]:
    """Full names of the modules that a module imports; those under TYPE_CHECKING count as long as all are asked for."""
    nodes = list(_run_at_import(tree)) if only_at_import else list(ast.walk(tree))
    names: list[str] = []
    for node in nodes:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" if node.module == "pytest_greencompute" else node.module for alias in node.names]
    return names


def _run_at_import(tree: ast.Module) -> list[ast.stmt]:
    found: list[ast.stmt] = []
    for node in tree.body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.dump(node.test):
            found += [*node.body, *node.orelse]
        elif not isinstance(node, ast.If):
            found.append(node)
    return found


MODULES = modules()


def test_every_module_stands_on_one_floor() -> None:
    for module in MODULES:
        floor_of(module)
    named = [name for names in FLOORS.values() for name in names]
    assert sorted(named) == sorted({module.partition(".")[0] for module in MODULES})


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_its_own_floor_or_below(module: str) -> None:
    for name in imported(MODULES[module]):
        if name.startswith("pytest_greencompute."):
            other = name.removeprefix("pytest_greencompute.")
            assert floor_of(other) <= floor_of(module), f"{module} (floor {floor_of(module)}) imports {other} (floor {floor_of(other)})"


@pytest.mark.parametrize("module", PURE)
def test_the_core_is_pure(module: str) -> None:
    heads = {name.partition(".")[0] for name in imported(MODULES[module])}
    assert not heads & NOT_IN_PURE


@pytest.mark.parametrize("module", MODULES)
def test_only_the_edge_knows_pytest(module: str) -> None:
    if floor_of(module) < PYTEST_BELONGS_TO:
        assert "pytest" not in {name.partition(".")[0] for name in imported(MODULES[module])}


@pytest.mark.parametrize("module", MODULES)
def test_importing_a_module_imports_nothing_heavy(module: str) -> None:
    heads = {name.partition(".")[0] for name in imported(MODULES[module], only_at_import=True)}
    assert not heads & NOT_AT_IMPORT


def test_the_drawing_shows_the_same_table() -> None:
    page = (PACKAGE.parent / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ") and line[2:3].isdigit()]
    drawn = {int(row.split("|")[1]): sorted(row.split("|")[3].replace("`", "").replace(",", " ").split()) for row in rows}
    assert drawn == {floor: sorted(names) for floor, names in FLOORS.items()}
