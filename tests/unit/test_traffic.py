"""A file of recorded queries: what is read, what a limit takes of it, and every mistake with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import pytest_greencompute
from pytest_greencompute.errors import SettingsError
from pytest_greencompute.models.traffic import read_traffic


def written(folder: Path, *lines: Any) -> Path:
    path = folder / "traffic.jsonl"
    path.write_text("".join(f"{each if isinstance(each, str) else json.dumps(each)}\n" for each in lines), encoding="utf-8")
    return path


def refused(path: Path, **options: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        read_traffic(path, **options)
    return str(caught.value).replace(str(path), "FILE")


def test_queries_and_references_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, {"text": "a", "label": 1}, "", {"text": "ü", "label": 0}, "  ")
    traffic = pytest_greencompute.read_traffic(path, reference="label")
    assert (traffic.queries, traffic.references, traffic.path, len(traffic)) == (["a", "ü"], [1, 0], path, 2)
    assert read_traffic(str(path), query="label").queries == [1, 0]
    assert read_traffic(path).references is None


def test_a_byte_order_mark_and_the_line_ends_of_windows_are_no_part_of_it(tmp_path: Path) -> None:
    path = tmp_path / "traffic.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "a"}\r\n{"text": "b"}')
    assert read_traffic(path).queries == ["a", "b"]


@pytest.mark.parametrize(("limit", "taken"), [(1, [0]), (2, [0, 50]), (3, [0, 33, 66]), (4, [0, 25, 50, 75]), (100, None), (1000, None)])
def test_a_limit_takes_lines_from_all_over_the_file(tmp_path: Path, limit: int, taken: list[int] | None) -> None:
    path = written(tmp_path, *({"text": number} for number in range(100)))
    assert read_traffic(path, limit=limit).queries == (taken or list(range(100)))


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "3"])
def test_a_limit_is_a_whole_number(tmp_path: Path, limit: Any) -> None:
    assert refused(written(tmp_path, {"text": "a"}), limit=limit) == f"limit is {limit!r}. It must be a whole number of at least 1."


def test_a_line_that_is_not_json_is_named(tmp_path: Path) -> None:
    said = refused(written(tmp_path, {"text": "a"}, "", "text: b"))
    assert said.startswith("FILE:3: not JSON (Expecting value")
    assert said.endswith('Write one JSON object a line, such as {"text": "where is my order?"}.')


@pytest.mark.parametrize(
    ("line", "kind"),
    [("[1]", "a list"), ('"a"', "a text"), ("3", "a number"), ("1.5", "a number"), ("null", "null"), ("true", "true or false")],
)
def test_a_line_that_is_no_object_is_named(tmp_path: Path, line: str, kind: str) -> None:
    assert refused(written(tmp_path, {"text": "a"}, line)).startswith(f"FILE:2: {kind}, not an object.")


def test_a_missing_key_suggests_the_near_one(tmp_path: Path) -> None:
    path = written(tmp_path, {"text": "a", "label": 1}, {"texts": "b", "label": 1})
    assert refused(path) == "FILE:2: there is no 'text'. Did you mean 'texts'?"
    assert refused(path, query="label", reference="lable") == "FILE:1: there is no 'lable'. Did you mean 'label'?"
    assert refused(written(tmp_path, {"question": "a"})) == "FILE:1: there is no 'text'. It has 'question'."
    assert refused(written(tmp_path, "{}")) == "FILE:1: there is no 'text'. It has no keys."


def test_an_empty_file_is_no_traffic(tmp_path: Path) -> None:
    assert refused(written(tmp_path, "", " ")).startswith("FILE has no line with a query.")


def test_a_file_that_is_missing_or_not_utf8_is_named(tmp_path: Path) -> None:
    assert refused(tmp_path / "traffic.jsonl") == (
        "FILE cannot be read: No such file or directory. Check the path; it is relative to where pytest runs."
    )
    path = tmp_path / "traffic.jsonl"
    path.write_bytes(b'{"text": "a"}\n{"text": "\xe9"}\n')
    assert refused(path) == "FILE:2: byte 11 is not UTF-8. Save the file as UTF-8."


def test_what_is_no_path_is_refused() -> None:
    with pytest.raises(SettingsError, match=r'path is 5\. Pass the path of a file, such as "traffic\.jsonl"\.'):
        read_traffic(5)  # type: ignore[arg-type]


def test_a_query_of_null_and_a_line_nested_too_deeply_are_named(tmp_path: Path) -> None:
    null = written(tmp_path, {"text": "a", "label": None}, {"text": None})
    assert refused(null) == "FILE:2: 'text' is null, which is no query. Leave the line out, or write its query."
    assert read_traffic(null, limit=1, reference="label").references == [None]  # a right answer may be that there is none
    deep = written(tmp_path, f'{{"text": {"[" * 200_000}{"]" * 200_000}}}')
    assert refused(deep).startswith("FILE:1: its lists or objects are nested too deeply to be read.")
