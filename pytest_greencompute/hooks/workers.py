"""pytest-xdist: measuring is refused under workers that share a GPU, and allowed where each has one of its own.

Loaded only where workers are asked for. A worker sees its GPU alone, from before it imports anything; what is shared by all (the
processor, the memory) cannot be metered there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from pytest_greencompute.errors import MeterError, SettingsError
from pytest_greencompute.hooks.collecting import group_of, node_id_of
from pytest_greencompute.hooks.names import is_worker
from pytest_greencompute.meters.base import Ability, Counter, Meter, MeterOptions, traits_of
from pytest_greencompute.meters.nvml_gpus import visible_uuids
from pytest_greencompute.meters.registry import BUILT_IN, ORDER_BY_DEFAULT, meter
from pytest_greencompute.session.tests import MeteredTest
from pytest_greencompute.settings.settings import Settings

VISIBLE = "CUDA_VISIBLE_DEVICES"
ALONE = "--energy-xdist gpu-per-worker measures GPUs alone: the processor and the memory are shared by all workers."


def check(config: pytest.Config, xdist: str | None) -> None:
    """Raises UsageError where tests would be measured by workers that share a GPU, or share tests. ``xdist`` is the setting."""
    if is_worker(config) or not (getattr(config.option, "numprocesses", None) or getattr(config.option, "tx", None)):
        return
    if xdist is None:
        raise pytest.UsageError(
            "--energy-budget measures one test at a time and cannot run under xdist workers: tests side by side would pay for each other."
            " Use -n 0 (or -p no:xdist) with --energy-only, and run the others with -n and --energy-skip."
            " With a GPU for each worker, --energy-xdist gpu-per-worker measures in parallel."
        )
    if getattr(config.option, "dist", "no") == "each":
        raise pytest.UsageError("--dist each would measure every test in every worker. Leave it out.")


class OneGpuEach:
    """The controller's hooks: as many workers as there are GPUs at most, each told which one is its own."""

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_setupnodes(self, specs: Sequence[Any]) -> None:
        """Give each worker its GPU, in the environment that it starts with."""
        here = gpus(os.environ)
        elsewhere = [spec for spec in specs if not spec.popen]
        if elsewhere:
            raise pytest.UsageError(f"--energy-xdist gpu-per-worker: {elsewhere[0]} is no process of this machine. Use -n.")
        if len(specs) > len(here):
            count = f"{len(here)} {'GPU is' if len(here) == 1 else 'GPUs are'} visible"
            raise pytest.UsageError(
                f"--energy-xdist gpu-per-worker: {len(specs)} workers, but {count} here. Use -n {len(here)}, or -n auto."
            )
        for spec, gpu in zip(specs, here, strict=False):
            spec.env[VISIBLE] = gpu


def gpus(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The UUIDs of the GPUs that can be handed out. Raises UsageError where there is none."""
    try:
        return visible_uuids(environ)
    except MeterError as error:
        raise pytest.UsageError(f"--energy-xdist gpu-per-worker: {error}") from error


class _Refused:
    """Stands in the place of another's meter that workers may share, so that the report says why it is not used."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find(self, _: MeterOptions) -> Sequence[Counter]:
        raise MeterError(f"{_sees_all(self.name)} {ALONE}", remedy="Run without workers.")

    def abilities(self, _: MeterOptions) -> Sequence[Ability]:
        return ()


def _sees_all(name: str) -> str:
    return f"The meter {name!r} may see what all workers use: its traits (pytest_greencompute.meters.base) do not say per_worker."


def settings_of_worker(settings: Settings, extra: Mapping[str, Meter]) -> tuple[Settings, dict[str, Meter]]:
    """What a worker measures by: its GPU alone; and the meters of others. Raises SettingsError where no meter of a GPU is left."""
    named = settings.meters or ORDER_BY_DEFAULT
    shared = [name for name in named if not traits_of(meter(name, extra)).per_worker]
    others = [name for name in shared if name not in BUILT_IN]
    if len(shared) == len(named) or set(settings.domains) - {"auto", "gpu"}:
        raise SettingsError(
            " ".join((ALONE, *map(_sees_all, others))), remedy="Let meters name nvml and domains say 'gpu', or run without workers."
        )
    left = tuple(name for name in named if name in others or name not in shared)
    return replace(settings, meters=left), {**extra, **{name: _Refused(name) for name in others}}


def check_tests(settings: Settings, items: Sequence[pytest.Item], tests: Mapping[str, MeteredTest]) -> None:
    """Raises SettingsError for what needs all tests in one process; notes at the tests what a group of xdist's does not do."""
    for item in items:
        group, test = group_of(item), tests[node_id_of(item)]
        if group and item.nodeid == test.node_id:
            why = (
                "--dist loadgroup does not group with this version of pytest"
                if item.config.option.loadgroup
                else "it needs --dist loadgroup"
            )
            test.said = (f"xdist_group {group!r} did not keep its tests in one worker: {why}",)
    grouped = next((test for test in tests.values() if test.group is not None), None)
    if grouped is not None and grouped.group is not None:
        raise SettingsError(
            f"{grouped.node_id}: energy_group {grouped.group.name!r} compares tests of one process, and workers share them out.",
            remedy="Run them without workers, or compare the candidates in one test with energy_meter.compare.",
        )
    if settings.update is not None:
        raise SettingsError("--energy-update needs all tests in one process.", remedy="Run without workers.")
