"""The other commit's code is what a process imports, in real processes with real installs; and where it is not, that is found."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pytest_greencompute.commits import origin
from pytest_greencompute.commits.worktrees import Worktrees
from tests.commits.conftest import Made

SHOW = """
import importlib, importlib.util, json, os, subprocess, sys
from pathlib import Path

asked = json.loads(os.environ["ASKED"])
sides = {name: importlib.import_module(name).SIDE for name in asked["names"]}
spec = importlib.util.spec_from_file_location("the_origin", asked["origin"])
the_origin = importlib.util.module_from_spec(spec)
spec.loader.exec_module(the_origin)
found = the_origin.strangers(sys.modules, Path(asked["head"]), Path(asked["base"]), [Path(link) for link in asked["links"]])
child = "import importlib, json, sys; print(json.dumps({name: importlib.import_module(name).SIDE for name in sys.argv[1:]}))"
done = subprocess.run([sys.executable, "-c", child, *asked["names"]], cwd="/", capture_output=True, text=True)
print(json.dumps({
    "sides": sides,
    "strangers": dict(found),
    "child": json.loads(done.stdout) if done.returncode == 0 else done.stderr,
    "argv": sys.argv,
    "main": sys.modules["__main__"].__spec__.name,
    "path": sys.path,
    "shadowed": importlib.util.find_spec("worktrees") is not None,
}))
"""

# What setuptools writes for `pip install -e`, shortened: the package is found by a map, after the search path.
FINDER = """
import sys
from importlib.machinery import PathFinder
from importlib.util import spec_from_file_location
from pathlib import Path

MAPPING = {mapping!r}
NAMESPACES = {namespaces!r}

class _EditableFinder:
    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        if fullname in MAPPING:
            for candidate in (Path(MAPPING[fullname], "__init__.py"), Path(MAPPING[fullname] + ".py")):
                if candidate.exists():
                    return spec_from_file_location(fullname, candidate)
        if fullname in NAMESPACES:
            return PathFinder.find_spec(fullname, [str(Path(each).parent) for each in NAMESPACES[fullname]])
        return None

def install():
    sys.meta_path.append(_EditableFinder)
"""
REDIRECTING = """
import sys
from importlib.util import spec_from_file_location

class RedirectingFinder:
    _redirections = {redirections!r}

    def find_spec(self, fullname, path=None, target=None):
        return spec_from_file_location(fullname, self._redirections[fullname]) if fullname in self._redirections else None

def install():
    sys.meta_path.append(RedirectingFinder())
"""
HOOK = """
import sys
from importlib.util import spec_from_file_location

class Hook:
    def find_spec(self, fullname, path=None, target=None):
        return spec_from_file_location(fullname, {file!r}) if fullname == "app" else None

def install():
    sys.meta_path.insert(0, Hook())
"""


@dataclass
class Sides:
    """Two checkouts of one project, and the Python that runs it. ``write`` writes a module of both that says whose it is."""

    head: Path
    base: Path
    venv: Path
    tools: Path
    environ: dict[str, str] = field(default_factory=dict)

    def write(self, *names: str) -> None:
        for side, folder in (("head", self.head), ("base", self.base)):
            for name in names:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text(f"SIDE = {side!r}\n", encoding="utf-8")

    @property
    def packages(self) -> Path:
        return next(self.venv.glob("lib/python*/site-packages"))

    def install(self, name: str, text: str) -> None:
        """A module that is set up when Python starts, as editable installs are."""
        (self.packages / f"{name}.py").write_text(text, encoding="utf-8")
        (self.packages / f"{name}.pth").write_text(f"import {name}; {name}.install()\n", encoding="utf-8")

    def show(
        self, *names: str, path: Sequence[Path] = (), links: Sequence[str] = (), cwd: Path | None = None, **environ: str
    ) -> Mapping[str, Any]:
        """What a process of the base imports under these names, with ``path`` as its PYTHONPATH."""
        asked = {"names": names, "origin": origin.__file__, "head": str(self.head), "base": str(self.base)}
        asked["links"] = [str(self.head / link) for link in links]
        environ = {**self.environ, "PYTHONPATH": os.pathsep.join(map(str, [*path, self.tools])), "ASKED": json.dumps(asked), **environ}
        command = [str(self.venv / "bin" / "python"), origin.__file__, str(self.head), str(self.base), "--", "-m", "show", "one", "two"]
        done = subprocess.run(command, cwd=cwd or self.base, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        shown: Mapping[str, Any] = json.loads(done.stdout)
        return shown


def make_venv(folder: Path) -> Path:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return folder


@pytest.fixture
def sides(tmp_path: Path) -> Sides:
    made = Sides(tmp_path / "head", tmp_path / "temporary files" / "tree", make_venv(tmp_path / "venv"), tmp_path / "tools")
    for folder in (made.head, made.base, made.tools):
        folder.mkdir(parents=True)
    (made.tools / "show.py").write_text(SHOW, encoding="utf-8")
    dropped = ("PYTHON", "COV_", "COVERAGE_")
    made.environ = {name: value for name, value in os.environ.items() if not name.startswith(dropped)} | {"PYTHONDONTWRITEBYTECODE": "1"}
    return made


def is_all_of_the_base(shown: Mapping[str, Any]) -> bool:
    """Whether the process, and one that it started, imported nothing but the base's code."""
    assert shown["sides"]
    return set(shown["sides"].values()) == {"base"} and shown["strangers"] == {} and shown["child"] == shown["sides"]


# Layouts


def test_a_flat_layout_is_imported_from_the_base(sides: Sides) -> None:
    sides.write("app.py", "package/__init__.py", "package/part.py")
    assert is_all_of_the_base(sides.show("app", "package.part", path=[sides.head]))


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no safe path")
def test_a_flat_layout_on_the_search_path_alone_is_imported_from_the_base(sides: Sides) -> None:
    sides.write("app.py")
    shown = sides.show("app", path=[sides.tools, sides.head], PYTHONSAFEPATH="1")
    assert is_all_of_the_base(shown)
    assert shown["path"][:2] == [str(sides.tools), str(sides.base)]


def test_a_src_layout_on_the_search_path_is_imported_from_the_base(sides: Sides) -> None:
    sides.write("src/app.py", "src/package/__init__.py")
    assert is_all_of_the_base(sides.show("app", "package", path=[sides.head / "src"]))


def test_paths_that_lead_to_the_base_already_stay(sides: Sides) -> None:
    sides.write("src/app.py")
    shown = sides.show("app", path=[sides.base / "src"])
    assert is_all_of_the_base(shown)
    assert str(sides.base / "src") in shown["path"]


def test_a_namespace_package_is_imported_from_the_base(sides: Sides) -> None:
    sides.write("src/company/app.py")
    assert is_all_of_the_base(sides.show("company.app", path=[sides.head / "src"]))


def test_a_folder_that_only_the_head_has_is_not_imported(sides: Sides) -> None:
    sides.write("app.py")
    (sides.head / "src").mkdir()
    (sides.head / "src" / "app.py").write_text("SIDE = 'head'\n", encoding="utf-8")
    assert is_all_of_the_base(sides.show("app", path=[sides.head / "src", sides.head]))


# Installs


def test_an_editable_install_by_path_file_leads_to_the_base(sides: Sides) -> None:
    sides.write("src/app.py")
    (sides.packages / "__editable__.app-1.0.pth").write_text(f"{sides.head / 'src'}\n", encoding="utf-8")
    assert is_all_of_the_base(sides.show("app"))


def test_an_editable_install_by_map_leads_to_the_base(sides: Sides) -> None:
    sides.write("source/app/__init__.py", "source/app/part.py", "lib/module.py", "lib/company/tool/__init__.py")
    mapping = {
        "app": str(sides.head / "source" / "app"),
        "module": str(sides.head / "lib" / "module"),
        "company.tool": str(sides.head / "lib" / "company" / "tool"),
    }
    finder = FINDER.format(mapping=mapping, namespaces={"company": [str(sides.head / "lib" / "company")]})
    sides.install("__editable___app_1_0_finder", finder)
    assert is_all_of_the_base(sides.show("app", "app.part", "module", "company.tool"))


def test_an_editable_install_by_redirections_leads_to_the_base(sides: Sides) -> None:
    sides.write("src/app/__init__.py", "src/app/part.py", "src/module.py")
    redirections = {"app": str(sides.head / "src" / "app" / "__init__.py"), "module": str(sides.head / "src" / "module.py")}
    sides.install("_editable_impl_app", REDIRECTING.format(redirections=redirections))
    assert is_all_of_the_base(sides.show("app", "app.part", "module"))


@pytest.mark.skipif(importlib.util.find_spec("setuptools") is None or importlib.util.find_spec("pip") is None, reason="needs both")
@pytest.mark.parametrize(
    ("package_dir", "installed"),
    [({"": "src"}, "__editable__.app-1.0.pth"), ({"app": "src/app", "company.tool": "src/company/tool"}, "__editable___app_1_0_finder.py")],
    ids=["by path", "by map"],
)
def test_what_pip_installs_editable_leads_to_the_base(sides: Sides, package_dir: dict[str, str], installed: str) -> None:
    sides.write("src/app/__init__.py", "src/app/part.py", "src/company/tool/__init__.py")
    setup = f"setup(name='app', version='1.0', package_dir={package_dir}, packages=['app', 'company.tool'])"
    for folder in (sides.head, sides.base):
        (folder / "setup.py").write_text(f"from setuptools import setup\n{setup}\n", encoding="utf-8")
    options = ["--no-build-isolation", "--no-deps", "--no-index", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
    command = [sys.executable, "-m", "pip", "--python", str(sides.venv), "install", *options, "-e", str(sides.head)]
    # The new environment has no setuptools: it borrows this one's.
    borrowed = importlib.util.find_spec("setuptools")
    assert borrowed is not None
    assert borrowed.origin is not None
    environ = sides.environ | {"PYTHONPATH": str(Path(borrowed.origin).parents[1])}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (sides.packages / installed).is_file()
    assert is_all_of_the_base(sides.show("app", "app.part", "company.tool"))


def test_what_is_installed_in_the_heads_folder_stays_where_it_is_and_is_no_stranger(sides: Sides) -> None:
    sides.write("app.py")
    sides.venv = make_venv(sides.head / ".venv")
    (sides.packages / "library.py").write_text("SIDE = 'installed'\n", encoding="utf-8")
    checkout = sides.venv / "src" / "library-from-git"
    checkout.mkdir(parents=True)
    (checkout / "cloned.py").write_text("SIDE = 'installed'\n", encoding="utf-8")
    (sides.packages / "cloned.pth").write_text(f"{checkout}\n", encoding="utf-8")
    shown = sides.show("app", "library", "cloned", path=[sides.head])
    assert shown["sides"] == shown["child"] == {"app": "base", "library": "installed", "cloned": "installed"}
    assert shown["strangers"] == {}


def test_a_project_whose_own_folder_is_its_virtual_environment_is_replaced(sides: Sides) -> None:
    sides.write("src/app.py")
    sides.venv = make_venv(sides.head)
    (sides.packages / "app.pth").write_text(f"{sides.head / 'src'}\n", encoding="utf-8")
    assert is_all_of_the_base(sides.show("app"))


def test_the_projects_own_folder_called_lib_python_is_not_taken_for_an_install(sides: Sides) -> None:
    sides.write("lib/python/app.py")
    assert is_all_of_the_base(sides.show("app", path=[sides.head / "lib" / "python"]))


# Where the folders lie


def test_a_head_that_is_reached_by_a_link_is_replaced(sides: Sides, tmp_path: Path) -> None:
    sides.write("src/app.py")
    (tmp_path / "link").symlink_to(sides.head)
    assert is_all_of_the_base(sides.show("app", path=[tmp_path / "link" / "src"]))
    sides.head = tmp_path / "link"
    assert is_all_of_the_base(sides.show("app", path=[sides.head.resolve() / "src"]))


def test_a_base_that_is_reached_by_a_link_is_found(sides: Sides, tmp_path: Path) -> None:
    sides.write("src/app.py")
    (tmp_path / "link").symlink_to(sides.base)
    sides.base = tmp_path / "link"
    assert is_all_of_the_base(sides.show("app", path=[sides.head / "src", sides.base / "src"]))


def test_a_base_in_the_heads_own_folder_is_found(sides: Sides) -> None:
    sides.base = sides.head / "tmp" / "tree"
    sides.write("src/app.py", "other/module.py")
    shown = sides.show("app", "module", path=[sides.head / "src", sides.base / "other"])
    assert is_all_of_the_base(shown)
    assert str(sides.base / "other") in shown["path"]


def test_neighbours_of_a_project_in_the_same_repository_are_the_bases_too(sides: Sides, made: Made, rooms: Path) -> None:
    def write(side: str) -> None:
        for name in ("services/api/app.py", "libs/core/core.py"):
            made.write(name, f"SIDE = {side!r}\n")

    write("base")
    made.commit()
    write("head")
    repository = made.opened("services/api")
    worktrees = Worktrees(repository)
    tree = worktrees.checked_out(repository.resolve("main"))
    sides.head, sides.base = made.path / "services" / "api", tree / "services" / "api"
    (sides.packages / "core.pth").write_text(f"{made.path / 'libs' / 'core'}\n", encoding="utf-8")
    assert is_all_of_the_base(sides.show("app", "core", path=[sides.head]))
    sides.install("hooked", HOOK.format(file=str(made.path / "libs" / "core" / "core.py")))
    assert sides.show("app")["strangers"] == {"app": str(made.path / "libs" / "core" / "core.py")}
    worktrees.close()


# Strangers


def test_an_import_hook_that_leads_to_the_heads_file_is_found(sides: Sides) -> None:
    sides.write("app.py")
    sides.install("hooked", HOOK.format(file=str(sides.head / "app.py")))
    shown = sides.show("app")
    assert shown["sides"] == {"app": "head"}
    assert shown["strangers"] == {"app": str(sides.head / "app.py")}


def test_a_module_that_was_imported_when_python_started_is_found(sides: Sides) -> None:
    sides.write("src/app.py")
    (sides.packages / "early.pth").write_text(f"{sides.head / 'src'}\nimport app\n", encoding="utf-8")
    assert sides.show("app")["strangers"] == {"app": str(sides.head / "src" / "app.py")}


def test_code_in_a_folder_that_is_lent_to_the_base_is_no_stranger(sides: Sides) -> None:
    sides.write("app.py")
    (sides.head / "models").mkdir()
    (sides.head / "models" / "modelling.py").write_text("SIDE = 'lent'\n", encoding="utf-8")
    (sides.base / "models").symlink_to(sides.head / "models")
    assert sides.show("models.modelling")["strangers"] == {
        "models": str(sides.head / "models"),
        "models.modelling": str(sides.head / "models" / "modelling.py"),
    }
    assert sides.show("models.modelling", links=["models/"])["strangers"] == {}


def test_objects_without_a_file_are_no_strangers(tmp_path: Path) -> None:
    class Lazy(ModuleType):
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(f"tried to make {name}")

    class Gone(ModuleType):
        @property
        def __path__(self) -> Iterator[str]:
            raise KeyError("the parent")

    nameless = ModuleType("nameless")
    nameless.__file__ = None
    odd = ModuleType("odd")
    odd.__path__ = [3, None]  # type: ignore[list-item]
    modules = {"none": None, "lazy": Lazy("lazy"), "gone": Gone("gone"), "nameless": nameless, "odd": odd, "sys": sys}
    assert origin.strangers(modules, tmp_path / "head", tmp_path / "base") == ()


def test_strangers_are_told_with_their_files_and_not_all_of_them() -> None:
    found = tuple((f"m{number}", f"/head/m{number}.py") for number in range(5))
    assert origin.said(found[:1]) == "it imported this side's code instead of its own: m0 (/head/m0.py)"
    assert origin.said(found).endswith(": m0 (/head/m0.py), m1 (/head/m1.py), m2 (/head/m2.py) and 2 more")


# The process


def test_the_program_runs_as_python_would_run_it(sides: Sides) -> None:
    sides.write("app.py")
    shown = sides.show("app")
    assert shown["argv"] == [str(sides.tools / "show.py"), "one", "two"]
    assert shown["main"] == "show"
    assert shown["path"][0] == str(sides.base)
    assert not shown["shadowed"], "the folder of origin.py is on the search path"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("head", "base"),
        ("head/src", "base/src"),
        ("head/src/../lib", "base/lib"),
        ("header", "header"),
        ("elsewhere", "elsewhere"),
        (".", "."),
        ("head/venv/lib/python3.11/site-packages", "head/venv/lib/python3.11/site-packages"),
        ("head/usr/lib/python3/dist-packages/x", "head/usr/lib/python3/dist-packages/x"),
        ("head/tmp/base", "base/tmp/base"),
    ],
)
def test_a_path_moves_where_it_lies_in_the_head_and_is_not_installed(tmp_path: Path, path: str, expected: str) -> None:
    assert origin.moved(str(tmp_path / path), tmp_path / "head", tmp_path / "base") == str(tmp_path / expected)


def test_a_relative_path_is_taken_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "head").mkdir()
    (tmp_path / "base").mkdir()
    monkeypatch.chdir(tmp_path / "base")
    assert origin.moved("src", tmp_path / "head", tmp_path / "base") == "src"
    monkeypatch.chdir(tmp_path / "head")
    assert origin.moved("src", tmp_path / "head", tmp_path / "base") == str(tmp_path / "base" / "src")
