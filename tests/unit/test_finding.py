"""Where settings are looked for, without pytest: upward to the top of the repository, and which file holds for a command."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.settings.finding import home_of, read_files, read_nearest
from pytest_greencompute.settings.folders import Where, mentioned, upward

TABLE = "[tool.greencompute]\nstrict = true\n"


def write(path: Path, text: str = TABLE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A repository with a service in it, each with a pyproject.toml; only the service's has settings."""
    folder = tmp_path.resolve() / "top"
    (folder / ".git").mkdir(parents=True)
    write(folder / "pyproject.toml", "[project]\nname = 'pytest-greencompute-example'\nversion = '1'\n")
    write(folder / "services/a/pyproject.toml")
    write(folder / "services/a/tests/test_a.py", "")
    return folder


def shown(files: tuple[object, ...]) -> list[str]:
    return [file.name for file in files]  # type: ignore[attr-defined]


@pytest.mark.parametrize("top_of", [".git", ".hg"])
def test_upward_ends_at_the_top_of_the_repository(tmp_path: Path, top_of: str) -> None:
    folder = tmp_path.resolve() / "x/y"
    folder.mkdir(parents=True)
    assert list(upward(folder))[:2] == [folder, folder.parent]
    (tmp_path / "x" / top_of).mkdir()
    assert list(upward(folder)) == [folder, folder.parent]


def test_a_file_of_the_tests_is_found_from_above_and_names_them_from_its_folder(top: Path) -> None:
    where = Where(top, top, [top / "services/a/tests"])
    (file,) = read_files(where)
    assert (file.name, file.folder) == ("services/a/pyproject.toml", top / "services/a")
    assert file.names.of("services/a/tests/test_a.py::test_x")[0] == "tests/test_a.py::test_x"
    assert file.names.of("services/b/test_b.py::test_x") == ()
    assert mentioned(where)
    assert shown(read_files(Where(top, top))) == ["pyproject.toml"]


def test_two_are_an_error_where_something_is_measured_and_naming_one_settles_it(top: Path) -> None:
    write(top / "pyproject.toml")
    where = Where(top, top, [top / "services/a/tests"])
    with pytest.raises(SettingsError, match=r"^pyproject.toml and services/a/pyproject.toml both have \[tool.greencompute\] .*-file pyp"):
        read_files(where, measuring=True)
    assert shown(read_files(where)) == ["pyproject.toml"]
    assert shown(read_files(where, "pyproject.toml", measuring=True)) == ["pyproject.toml"]
    named = read_files(where, "services/a/pyproject.toml", measuring=True)
    assert [file.folder for file in named] == [top / "services/a", top]
    write(top / "services/a/pyproject.toml", TABLE + "budget = true\n")
    with pytest.raises(SettingsError, match="both have"):
        read_files(where)


def test_a_file_that_is_no_pyproject_speaks_of_the_project(top: Path) -> None:
    write(top / "gates/gpu.toml", "strict = false\n")
    first, second = read_files(Where(top / "services/a", top), "gates/gpu.toml")
    assert (first.folder, second.name) == (top / "services/a", "pyproject.toml")
    write(top / "services/a/pyproject.toml", '[tool.greencompute]\nbudget_file = "../../gates/gpu.toml"\n')
    assert shown(read_files(Where(top / "services/a/tests", top / "services/a/tests"))) == ["../../gates/gpu.toml", "../pyproject.toml"]


def test_a_command_takes_the_nearest_settings_and_baselines(top: Path) -> None:
    tests = top / "services/a/tests"
    (file,) = read_nearest(tests)
    assert (file.path, file.names.of("test_a.py::test_x")) == (
        top / "services/a/pyproject.toml",
        ("tests/test_a.py::test_x", "test_a.py::test_x"),
    )
    (file,) = read_nearest(top, "services/a/tests/test_a.py::test_x")
    assert (file.name, home_of(tests)) == ("services/a/pyproject.toml", top / "services/a")
    assert shown(read_nearest(top)) == ["pyproject.toml"]
    assert home_of(top) == top
    write(top / "pyproject.toml")
    assert read_nearest(tests)[0].folder == top / "services/a"  # what a command runs in is said by where it is called
    (tests / ".greencompute").mkdir()
    assert home_of(tests) == tests


def test_a_broken_file_that_may_be_ours_is_told_and_another_is_not_read(top: Path) -> None:
    write(top / "services/a/pyproject.toml", "[tool.greencompute\n")
    with pytest.raises(SettingsError, match=r"services/a/pyproject\.toml is not valid TOML"):
        read_files(Where(top, top, [top / "services/a"]))
    write(top / "services/a/pyproject.toml", "[tool.other\n")
    assert shown(read_files(Where(top, top, [top / "services/a"]))) == ["pyproject.toml"]
