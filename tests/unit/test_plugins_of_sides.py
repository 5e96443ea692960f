"""The process of another side loads the plugins that this pytest was told to load: a measured test may use their fixtures."""

from __future__ import annotations

import pytest

from pytest_greencompute.hooks.other_plugins import side_options


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ([], []),
        (["-p", "no:doctest", "-pno:logging"], ["-pno:doctest", "-pno:logging"]),
        (["-p", "pytest_greencompute.hooks.in_fleet"], []),  # a part of a fleet tells its own story
        (["--disable-plugin-autoload", "-p", "greencompute"], ["--disable-plugin-autoload", "-pgreencompute"]),
    ],
)
def test_a_side_is_told_of_plugins_as_the_command_line_and_addopts_name_them(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, args: list[str], told: list[str]
) -> None:
    if "--disable-plugin-autoload" in args and not hasattr(pytester.parseconfig().option, "disable_plugin_autoload"):
        pytest.skip("this pytest has no such option: it came with 8.4")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    named = [
        each for each in side_options(pytester.parseconfig(*args)) if not each.startswith("--randomly") and each != "-pno:cacheprovider"
    ]
    assert named == told
    pytester.makeini("[pytest]\naddopts = " + " ".join(args))
    assert [each for each in side_options(pytester.parseconfig()) if each != "-pno:cacheprovider"] == told
