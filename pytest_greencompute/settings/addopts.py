"""Our options in pytest's own configuration file (``addopts``): they are of the commit, as a setting is."""

from __future__ import annotations

import argparse
import configparser
import shlex
from collections.abc import Sequence
from pathlib import Path

from pytest_greencompute.errors import SettingsError
from pytest_greencompute.settings.options import OPTIONS
from pytest_greencompute.settings.toml_file import TomlFile


def addopts_of(path: Path | None) -> list[str]:
    """The options that pytest's configuration file gives; none where there is no such file, or it has none."""
    if path is None:
        return []
    try:
        if path.suffix == ".toml":
            data = TomlFile(path).data
            table = data.get("tool", data).get("pytest", {})
            found = {**table, **table.get("ini_options", {})}.get("addopts", "")
        else:
            parser = configparser.ConfigParser(interpolation=None, strict=False)
            parser.read_string(path.read_text(encoding="utf-8"))
            found = next((parser[name]["addopts"] for name in ("pytest", "tool:pytest") if parser.has_option(name, "addopts")), "")
        return shlex.split(found) if isinstance(found, str) else [str(each) for each in found]
    except (OSError, ValueError, configparser.Error, AttributeError, SettingsError):
        return []


def options_in(words: Sequence[str]) -> dict[str, str | bool]:
    """Our options among ``words``, by key. Those that are not given in full are another's business."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for option in OPTIONS:
        action = "store_true" if option.flag else "store"
        parser.add_argument(f"--energy-{option.name}", dest=option.key, default=argparse.SUPPRESS, action=action)
    try:
        return vars(parser.parse_known_args(words)[0])
    except (argparse.ArgumentError, SystemExit):
        return {}


def left_out_by(words: Sequence[str]) -> list[str]:
    """Options of pytest's own among ``words`` that leave tests out, each with its value."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    flags = ("-k", "-m", "--deselect", "--ignore", "--ignore-glob")
    for flag in flags:
        parser.add_argument(flag, dest=flag, action="append", default=[])
    try:
        found = vars(parser.parse_known_args(words)[0])
    except (argparse.ArgumentError, SystemExit):
        return []
    return [f"{flag} {value}" for flag in flags for value in found[flag]]
