"""A TOML file knows the line of each key, and a file that cannot be used is refused by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.settings.toml_file import TomlFile

TEXT = """\
# a comment
[project]
name = "x"

[tool.greencompute]  # settings
meters = [
  "nvml",
  "rapl",
]
tolerance = "5%"
a.b = 1

[tool.greencompute.budgets."tests/test_x.py::test_y[a-1]"]
energy_per_query = "0.8 J"
'latency_p95' = "40 ms"
"accuracy" = 0.9
prefill.energy_per_query = "1 J"
decode = { energy_per_query = "2 J" }

[[tool.greencompute.budgets."tests/test_x.py::test_y[a-1]".on]]
gpu = "H100"

[[tool.greencompute.budgets."tests/test_x.py::test_y[a-1]".on]]
gpu = "A100"
energy_per_query = "3 J"

[[tool.greencompute.accept]]
test = "t"
[[tool.greencompute.accept]]
test = "u"
  [tool.greencompute.budgets.'*']
  accuracy=0.5
"""
TABLE = ("tool", "greencompute")
TEST = (*TABLE, "budgets", "tests/test_x.py::test_y[a-1]")


@pytest.fixture
def file(tmp_path: Path) -> TomlFile:
    path = tmp_path / "pyproject.toml"
    path.write_text(TEXT, encoding="utf-8")
    return TomlFile(path, "pyproject.toml")


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (("project", "name"), 3),
        (TABLE, 5),
        ((*TABLE, "meters"), 6),
        ((*TABLE, "tolerance"), 10),
        ((*TABLE, "a", "b"), 11),
        (TEST, 13),
        ((*TEST, "energy_per_query"), 14),
        ((*TEST, "latency_p95"), 15),
        ((*TEST, "accuracy"), 16),
        ((*TEST, "prefill", "energy_per_query"), 17),
        ((*TEST, "decode", "energy_per_query"), 18),
        ((*TEST, "on", 0), 20),
        ((*TEST, "on", 0, "gpu"), 21),
        ((*TEST, "on", 1, "gpu"), 24),
        ((*TEST, "on", 1, "energy_per_query"), 25),
        ((*TEST, "on", 1, "not there"), 23),
        ((*TABLE, "accept", 0, "test"), 28),
        ((*TABLE, "accept", 1), 29),
        ((*TABLE, "accept", 1, "expires"), 29),
        ((*TABLE, "budgets", "*", "accuracy"), 32),
        ((*TABLE, "not there"), 5),
    ],
)
def test_each_key_is_found_on_its_line_or_that_of_the_table_around_it(file: TomlFile, keys: tuple[str | int, ...], line: int) -> None:
    assert file.where(*keys) == f"pyproject.toml:{line}"


def test_what_is_nowhere_is_the_file(file: TomlFile) -> None:
    assert file.where("other") == "pyproject.toml"
    assert file.where() == "pyproject.toml"
    assert file.data["tool"]["greencompute"]["meters"] == ["nvml", "rapl"]


def test_a_table_that_dotted_keys_make_stands_where_the_first_of_them_does(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text('[tool]\nmax = 1\nbudgets."test_it".energy = 1\nbudgets."test_it".latency = 2\n[tool.other]\na = 1\n')
    file = TomlFile(path, "x.toml")
    assert [
        file.where("tool", *keys) for keys in ((), ("budgets",), ("budgets", "test_it"), ("budgets", "test_it", "latency"), ("other",))
    ] == [f"x.toml:{line}" for line in (1, 3, 3, 4, 5)]


def test_lines_are_counted_as_an_editor_counts_them(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes('a = "one\u2028line"\r\nb = 1\r\n'.encode())
    assert TomlFile(path, "x.toml").where("b") == "x.toml:2"


def test_without_a_name_to_show_it_shows_its_path(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text("a = 1")
    assert TomlFile(path).where("a") == f"{path}:1"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "x.toml does not exist. Check the path"),
        (b"a = ", "x.toml is not valid TOML: "),
        (b"a = 1\na = 2", "x.toml is not valid TOML: "),
        (b"[a]\n[a]", "(at line 2, column"),
        (b"\xff\xfe", "x.toml is not UTF-8 text"),
        (b"\xef\xbb\xbfa = 1", "x.toml is not valid TOML: "),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_name(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "x.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        TomlFile(path, "x.toml")
    assert says in str(caught.value)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"x\.toml is a folder"):
        TomlFile(tmp_path, "x.toml")
