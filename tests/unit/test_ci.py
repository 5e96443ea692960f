"""Whether this is CI: by the usual variables, and asked in one place."""

from __future__ import annotations

from pathlib import Path

import pytest

import pytest_greencompute
from pytest_greencompute.machine.ci import VARIABLES, in_ci
from pytest_greencompute.machine.facts import facts
from pytest_greencompute.settings.build import build


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", False),
        ("0", False),
        ("no", False),
        ("off", False),
        (" False ", False),
        ("N", False),
        ("none", False),
        ("yes", True),
        ("1", True),
        ("woodpecker", True),
    ],
)
def test_ci_is_whatever_is_not_a_no(value: str, expected: bool) -> None:
    assert in_ci({"CI": value}) is expected


@pytest.mark.parametrize("name", VARIABLES)
def test_a_variable_of_a_ci_system_is_enough_but_a_no_in_ci_itself_wins(name: str) -> None:
    assert in_ci({name: "17"})
    assert in_ci({name: "17", "CI": ""})
    assert not in_ci({name: "17", "CI": "false"})
    assert not in_ci({name: "False"})
    assert not in_ci({name: ""})


@pytest.mark.parametrize("environ", [{"CI": "no"}, {"CI": "off"}, {"CI": "true"}, {"TF_BUILD": "True"}, {"JENKINS_URL": "http://ci/"}, {}])
def test_the_settings_and_the_provenance_agree(environ: dict[str, str], tmp_path: Path) -> None:
    strict = build({}, (), environ, tmp_path).policy.unmeasured == "fail"
    assert facts(environ, tmp_path).ci is strict is in_ci(environ)


def test_it_is_asked_in_one_module() -> None:
    package = Path(pytest_greencompute.__file__).parent
    asking = [path.name for path in package.rglob("*.py") if '"CI"' in path.read_text(encoding="utf-8")]
    assert asking == ["ci.py"]
