"""Which changes of a project mean that another commit needs another environment, and which do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_greencompute.commits.environment import changed_requirements

PYPROJECT = """
[build-system]
requires = ["setuptools"]

[project]
name = "app"
version = "1.0"
requires-python = ">=3.10"
dependencies = ["torch>=2"]
optional-dependencies.fast = ["onnx"]

[dependency-groups]
dev = ["pytest"]

[tool.greencompute]
max_seconds = 5

[tool.ruff]
line-length = 100

[tool.uv]
dev-dependencies = ["mypy"]

[tool.pdm.dev-dependencies]
dev = ["mypy"]

[tool.poetry]
name = "app"

[tool.poetry.dependencies]
numpy = "1"

[tool.poetry.dev-dependencies]
mypy = "1"

[tool.poetry.group.dev.dependencies]
black = "1"
"""
UV_LOCK = """version = 1

[[package]]
name = "app"
version = "1.0"
source = { editable = "." }
dependencies = [{ name = "torch" }]

[[package]]
name = "torch"
version = "2.1"
source = { registry = "https://pypi.org/simple" }
"""
SETUP_CFG = """[metadata]
name = app
version = 1.0

[options]
packages = find:
python_requires = >=3.10
install_requires =
    torch>=2

[options.extras_require]
fast = onnx

[flake8]
max-line-length = 100
"""


@pytest.fixture
def head(tmp_path: Path) -> Path:
    (tmp_path / "head").mkdir()
    return tmp_path / "head"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "base").mkdir()
    return tmp_path / "base"


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")


KINDS = {
    "requirements.txt": "torch==2.1\n",
    "requirements-dev.txt": "torch==2.1\n",
    "dev-requirements.txt": "torch==2.1\n",
    "constraints.txt": "torch==2.1\n",
    "requirements/gpu.txt": "torch==2.1\n",
    "uv.lock": '[[package]]\nname = "torch"\nversion = "2.1"\n',
    "poetry.lock": '[[package]]\nname = "torch"\nversion = "2.1"\n',
    "pdm.lock": '[[package]]\nname = "torch"\nversion = "2.1"\n',
    "pylock.toml": '[[packages]]\nname = "torch"\nversion = "2.1"\n',
    "pylock.gpu.toml": '[[packages]]\nname = "torch"\nversion = "2.1"\n',
    "Pipfile.lock": '{"default": {"torch": {"version": "==2.1"}}}\n',
    "pixi.lock": "version: 5\npackages:\n- pypi: torch-2.1\n",
    "conda-lock.yml": "package:\n- name: torch\n  version: 2.1\n",
    "environment.yml": "dependencies:\n  - torch=2.1\n",
    "environment.yaml": "dependencies:\n  - torch=2.1\n",
    "environment-gpu.yml": "dependencies:\n  - torch=2.1\n",
    "setup.cfg": "[options]\ninstall_requires = torch==2.1\n",
    "setup.py": "from setuptools import setup\nsetup(install_requires=['torch==2.1'])\n",
    "pyproject.toml": '[project]\ndependencies = ["torch==2.1"]\n',
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_counts_where_it_differs_and_where_only_one_side_has_it(head: Path, base: Path, name: str) -> None:
    write(head, name, KINDS[name])
    write(base, name, KINDS[name])
    assert changed_requirements(head, base) == ()
    write(base, name, KINDS[name].replace("2.1", "2.2"))
    assert changed_requirements(head, base) == (name,)
    (base / name).unlink()
    assert changed_requirements(head, base) == changed_requirements(base, head) == (name,)


def test_all_that_differ_are_named_in_order(head: Path, base: Path) -> None:
    for name in ("uv.lock", "requirements.txt", "pyproject.toml"):
        write(head, name, KINDS[name])
    assert changed_requirements(head, base) == ("requirements.txt", "uv.lock", "pyproject.toml")


@pytest.mark.parametrize("name", ["README.txt", "poem.lock", "src/requirements.txt", "environment.py", "requirements.in"])
def test_other_files_say_nothing_of_the_environment(head: Path, base: Path, name: str) -> None:
    write(head, name, "torch==2.1\n")
    assert changed_requirements(head, base) == ()


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("requirements.txt", "torch==2.1\nnumpy\n", "# pinned for the GPU\ntorch==2.1  # until 2.2 works\n\n  numpy\n\n"),
        ("requirements.txt", "torch==2.1\n", "torch==2.1\r\n"),
        ("requirements.txt", "torch==2.1\n", "torch==2.1"),
        ("environment.yml", "dependencies:\n- torch\n", "# ours\ndependencies:\n- torch # for now\n"),
        ("poetry.lock", "# by Poetry 1.8.2\n" + KINDS["poetry.lock"], "# by Poetry 2.1.0\n" + KINDS["poetry.lock"]),
    ],
)
def test_comments_blanks_and_line_ends_are_no_change(head: Path, base: Path, name: str, one: str, other: str) -> None:
    write(head, name, one)
    (base / name).write_bytes(other.encode())
    assert changed_requirements(head, base) == ()


@pytest.mark.parametrize("line", ["torch @ git+https://example.org/torch#egg=torch", "torch==2.1 ; python_version > '3.9'", "--no-index"])
def test_what_only_looks_like_a_comment_is_a_change(head: Path, base: Path, line: str) -> None:
    write(head, "requirements.txt", f"torch==2.1\n{line}\n")
    write(base, "requirements.txt", "torch==2.1\n")
    assert changed_requirements(head, base) == ("requirements.txt",)
    write(base, "requirements.txt", f"torch==2.1\n{line}x\n")
    assert changed_requirements(head, base) == ("requirements.txt",)


def test_an_empty_file_asks_for_as_little_as_none(head: Path, base: Path) -> None:
    write(head, "requirements.txt", "# nothing yet\n")
    write(head, "setup.cfg", "[flake8]\nmax-line-length = 100\n")
    write(head, "pyproject.toml", "[tool.greencompute]\nmax_seconds = 5\n")
    assert changed_requirements(head, base) == changed_requirements(base, head) == ()


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ('"setuptools"', '"hatchling"'),
        (">=3.10", ">=3.11"),
        ("torch>=2", "torch>=3"),
        ("onnx", "onnxruntime"),
        ('"pytest"', '"pytest>8"'),
        ('[tool.uv]\ndev-dependencies = ["mypy"]', '[tool.uv]\ndev-dependencies = ["pyright"]'),
        ('[tool.pdm.dev-dependencies]\ndev = ["mypy"]', '[tool.pdm.dev-dependencies]\ndev = ["pyright"]'),
        ('numpy = "1"', 'numpy = "2"'),
        ('mypy = "1"', 'mypy = "2"'),
        ('black = "1"', 'black = "2"'),
    ],
)
def test_what_a_pyproject_asks_for_is_compared(head: Path, base: Path, was: str, now: str) -> None:
    assert was in PYPROJECT
    write(head, "pyproject.toml", PYPROJECT)
    write(base, "pyproject.toml", PYPROJECT.replace(was, now))
    assert changed_requirements(head, base) == ("pyproject.toml",)


@pytest.mark.parametrize(
    ("was", "now"),
    [("max_seconds = 5", "max_seconds = 9"), ("line-length = 100", "line-length = 140"), ('version = "1.0"', 'version = "2.0"')],
)
def test_what_a_pyproject_says_to_others_is_no_change_of_the_environment(head: Path, base: Path, was: str, now: str) -> None:
    assert was in PYPROJECT
    write(head, "pyproject.toml", PYPROJECT)
    write(base, "pyproject.toml", "# written anew\n" + PYPROJECT.replace(was, now))
    assert changed_requirements(head, base) == ()


@pytest.mark.parametrize("broken", [b"[project\n", b"\xff\xfe", b"project = 1\n", b"tool = []\n[project]\ndependencies = 3\n"])
def test_a_pyproject_that_is_broken_at_the_base_is_a_change_and_no_crash(head: Path, base: Path, broken: bytes) -> None:
    write(head, "pyproject.toml", PYPROJECT)
    (base / "pyproject.toml").write_bytes(broken)
    assert changed_requirements(head, base) == ("pyproject.toml",)
    (head / "pyproject.toml").write_bytes(broken)
    assert changed_requirements(head, base) == ()


@pytest.mark.parametrize("name", ["uv.lock", "setup.cfg", "requirements.txt", "pylock.toml"])
@pytest.mark.parametrize("broken", [b"[[package\n", b"\xff\xfe", b"package = 3\n", b"package = [3]\n", b"[options]\n[options]\n"])
def test_other_files_that_are_broken_are_a_change_and_no_crash(head: Path, base: Path, name: str, broken: bytes) -> None:
    write(head, name, KINDS[name])
    (base / name).write_bytes(broken)
    assert changed_requirements(head, base) == (name,)


def test_the_projects_own_version_in_a_lock_file_is_no_requirement(head: Path, base: Path) -> None:
    write(head, "uv.lock", UV_LOCK)
    write(base, "uv.lock", UV_LOCK.replace('version = "1.0"', 'version = "1.1"'))
    assert changed_requirements(head, base) == ()
    write(base, "uv.lock", UV_LOCK.replace('version = "2.1"', 'version = "2.2"'))
    assert changed_requirements(head, base) == ("uv.lock",)


@pytest.mark.parametrize(
    ("was", "now", "changed"),
    [
        ("version = 1.0", "version = 1.1", ()),
        ("max-line-length = 100", "max-line-length = 140", ()),
        ("packages = find:", "packages = app", ()),
        ("torch>=2", "torch>=3", ("setup.cfg",)),
        (">=3.10", ">=3.11", ("setup.cfg",)),
        ("onnx", "onnxruntime", ("setup.cfg",)),
    ],
)
def test_of_a_setup_cfg_only_the_requirements_count(head: Path, base: Path, was: str, now: str, changed: tuple[str, ...]) -> None:
    assert was in SETUP_CFG
    write(head, "setup.cfg", SETUP_CFG)
    write(base, "setup.cfg", SETUP_CFG.replace(was, now))
    assert changed_requirements(head, base) == changed


def test_a_folder_with_the_name_of_a_file_is_nothing(head: Path, base: Path) -> None:
    (head / "requirements.txt").mkdir()
    (head / "pyproject.toml").mkdir()
    assert changed_requirements(head, base) == ()
