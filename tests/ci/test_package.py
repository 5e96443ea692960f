"""The package: the same bytes from the same commit, wherever and whenever it is built, and nothing in it that only this checkout has."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

from pytest_greencompute import __version__
from tests.ci.steps import ROOT

WHEN = "1767225600"  # 2026-01-01
SDIST, WHEEL = f"pytest_greencompute-{__version__}.tar.gz", f"pytest_greencompute-{__version__}-py3-none-any.whl"


def built(folder: Path, *, newer_by_s: float, umask: int) -> dict[str, bytes]:
    """The files that hatchling makes of a copy of this checkout at ``folder``: newer, with other rights, and with what tests left there."""
    shutil.copytree(
        ROOT,
        folder,
        ignore=shutil.ignore_patterns(".git", ".venv*", ".nox", ".cache", "build", "dist", "__pycache__", ".*_cache", ".hypothesis"),
    )
    left = [folder / "examples" / "sentiment" / ".cache" / "model.bin", folder / "tests" / "__pycache__" / "x.pyc", folder / "build" / "x"]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(64))
    for path in folder.rglob("*"):
        was = path.stat()
        os.utime(path, (was.st_mtime + newer_by_s, was.st_mtime + newer_by_s))
        path.chmod(was.st_mode & ~umask)
    words = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder / "out")]
    environ = {**os.environ, "SOURCE_DATE_EPOCH": WHEN}
    subprocess.run(words, cwd=folder, env=environ, check=True, umask=umask, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return {path.name: path.read_bytes() for path in (folder / "out").iterdir()}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], dict[str, bytes]]:
    folder = tmp_path_factory.mktemp("package")
    return built(folder / "one", newer_by_s=0, umask=0o022), built(folder / "elsewhere", newer_by_s=86_400, umask=0o077)


def test_two_builds_of_one_tree_are_the_same_bytes(two: tuple[dict[str, bytes], dict[str, bytes]]) -> None:
    one, other = two
    assert one.keys() == other.keys() == {SDIST, WHEEL}
    assert [name for name in one if one[name] != other[name]] == []


def test_the_package_holds_the_code_and_nothing_that_a_checkout_gathers(
    two: tuple[dict[str, bytes], dict[str, bytes]], tmp_path: Path
) -> None:
    for name, data in two[0].items():
        (tmp_path / name).write_bytes(data)
    with zipfile.ZipFile(tmp_path / WHEEL) as wheel, tarfile.open(tmp_path / SDIST) as sdist:
        inside, source = wheel.namelist(), [name.partition("/")[2] for name in sdist.getnames()]
        about = message_from_bytes(wheel.read(f"pytest_greencompute-{__version__}.dist-info/METADATA"))
    assert {name.split("/")[0] for name in inside} == {"pytest_greencompute", f"pytest_greencompute-{__version__}.dist-info"}
    assert {"pytest_greencompute/py.typed", "pytest_greencompute/results/report.schema.json"} <= {*inside}
    assert {"SECURITY.md", "noxfile.py", ".ci/package", "tests/ci/test_package.py"} <= {*source}
    assert [name for name in (*inside, *source) if ".cache" in name or name.endswith(".pyc") or name.startswith("build")] == []
    assert about["Version"] == __version__
    targets = re.findall(r"\]\(([^)]+)\)", str(about.get_payload()))
    assert len(targets) > 20
    assert [each for each in targets if not each.startswith("https://")] == []  # an index shows the README far from these files
    assert [each for each in about.get_all("Classifier", []) if each.startswith("Operating System")] == [
        "Operating System :: POSIX :: Linux"
    ]
