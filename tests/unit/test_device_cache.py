"""What is kept of devices for the next session: taken where it is ours, whole and of the same device and driver; else left aside, said."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from pytest_greencompute.store.devices import FORMAT, DeviceCache, Remembered
from pytest_greencompute.values.behaviour import Behaviour
from pytest_greencompute.values.provenance import Device

NOW = datetime(2026, 11, 29, 12, 0, tzinfo=timezone.utc)
UUID = "GPU-8d0a1c3e"
SEEN = Behaviour("gpu:0", UUID, 0.1, 0.002, 0.0, whole=True, read_s=0.0024)
CARD = Device("NVIDIA H100", UUID, "nvml", "counter", {"driver": "580.159"})


def cache(folder: Path, seen: Behaviour = SEEN, card: Device = CARD) -> DeviceCache:
    made = DeviceCache(folder / "devices")
    assert made.keep([seen], {seen.domain: card}, NOW) == ""
    return made


def the_file(folder: Path) -> Path:
    return folder / "devices" / f"{UUID}.json"


def test_what_is_kept_comes_back_as_it_was_with_its_driver_and_since_when(tmp_path: Path) -> None:
    found, why = cache(tmp_path).recall("gpu:0", CARD, NOW + timedelta(days=3))
    assert found == Remembered("NVIDIA H100", "580.159", "nvml (counter)", NOW, SEEN)
    assert why == ""


def test_of_a_device_that_was_never_seen_nothing_is_known_and_nothing_is_said(tmp_path: Path) -> None:
    other = replace(CARD, uuid="GPU-of-another-card")
    assert cache(tmp_path).recall("gpu:0", other, NOW) == (None, "")  # at the same index as the card before


def test_a_device_is_known_by_its_identity_whatever_its_index_is_now(tmp_path: Path) -> None:
    found, _ = cache(tmp_path).recall("gpu:3", CARD, NOW)
    assert found is not None
    assert found.behaviour == replace(SEEN, domain="gpu:3")


@pytest.mark.parametrize(
    ("card", "said"),
    [
        (replace(CARD, facts={"driver": "590.1"}), "is of driver 580.159, which is 590.1 now: it is looked at anew"),
        (replace(CARD, method="integrated"), "is of meter nvml (counter), and it is read by nvml (integrated) now: it is looked at anew"),
        (replace(CARD, device="NVIDIA H200"), "is of another device, NVIDIA H100: it is looked at anew"),
    ],
)
def test_another_driver_or_device_is_forgotten_and_said(tmp_path: Path, card: Device, said: str) -> None:
    kept = cache(tmp_path)
    found, why = kept.recall("gpu:0", card, NOW)
    assert found is None
    assert said in why
    kept.keep([SEEN], {"gpu:0": card}, NOW)
    assert kept.recall("gpu:0", card, NOW)[0] is not None
    assert kept.recall("gpu:0", CARD, NOW)[0] is None


def changed(**fields: Any) -> str:
    whole = {"format": FORMAT, "device": "NVIDIA H100", "driver": "580.159", "meter": "nvml (counter)", "since": NOW.isoformat()}
    behaviour = {"domain": "gpu:0", "uuid": UUID, "tick_s": 0.1, "jitter_s": 0.0, "lag_s": 0.0, "whole": True, "read_s": 0.0}
    return json.dumps({**whole, "behaviour": behaviour, **fields})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1]",
        "null",
        "\udcff".encode("utf-8", "surrogateescape").decode("latin-1") + "\x00",
        changed(format=FORMAT + 1),
        changed(format=None),
        changed(since=(NOW + timedelta(hours=1)).isoformat()),
        changed(since="2026-11-29T11:00:00"),  # of no time zone
        changed(since="yesterday"),
        changed(since=3),
        changed(driver=None),
        changed(meter=None),
        changed(behaviour=None),
        changed(behaviour={"domain": "gpu:0", "uuid": UUID, "tick_s": 0.0, "jitter_s": 0.0, "lag_s": 0.0}),
        changed(behaviour={"domain": "gpu:0", "uuid": UUID, "tick_s": "0.1", "jitter_s": 0.0, "lag_s": 0.0}),
        changed(behaviour={"domain": "gpu:0", "uuid": UUID, "tick_s": 0.1, "jitter_s": 0.0, "lag_s": 0.0, "whole": "yes"}),
        changed(behaviour={"domain": "gpu:0", "uuid": UUID, "tick_s": 0.1, "jitter_s": 0.0, "lag_s": -1.0}),
        changed(behaviour={"domain": "gpu:0", "uuid": UUID, "tick_s": True, "jitter_s": 0.0, "lag_s": 0.0}),
        changed(behaviour={"domain": "gpu:0", "uuid": UUID, "dreams": 3}),
        "[" * 9_000,
        changed() + " " * 20_000 + "x",
    ],
)
def test_what_is_broken_is_left_aside_said_and_replaced(tmp_path: Path, text: str) -> None:
    kept = cache(tmp_path)
    the_file(tmp_path).write_text(text, encoding="utf-8")
    found, why = kept.recall("gpu:0", CARD, NOW)
    assert found is None
    assert why.startswith(f"what was remembered of gpu:0 is left aside ({the_file(tmp_path)}: ")
    assert kept.keep([SEEN], {"gpu:0": CARD}, NOW) == ""
    assert kept.recall("gpu:0", CARD, NOW)[0] is not None


def test_another_users_file_a_link_and_what_is_no_file_are_left_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, path = cache(tmp_path), the_file(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: 4321)
        assert "it is another user's" in kept.recall("gpu:0", CARD, NOW)[1]
    path.rename(tmp_path / "elsewhere.json")
    path.symlink_to(tmp_path / "elsewhere.json")
    assert kept.recall("gpu:0", CARD, NOW)[0] is None
    assert "is no file of ours" in kept.keep([SEEN], {"gpu:0": CARD}, NOW)
    path.unlink()
    os.mkfifo(path)  # reading it would wait for a writer, and writing it for a reader
    assert "it is no file" in kept.recall("gpu:0", CARD, NOW)[1]
    assert "is no file of ours" in kept.keep([SEEN], {"gpu:0": CARD}, NOW)


def test_one_that_cannot_be_kept_costs_no_other(tmp_path: Path) -> None:
    kept = DeviceCache(tmp_path)
    others = [replace(SEEN, domain=f"gpu:{number}", uuid=f"GPU-{number}") for number in (1, 2, 3)]
    cards = {each.domain: replace(CARD, uuid=each.uuid) for each in others}
    for each in others[:2]:
        (tmp_path / f"{each.uuid}.json").mkdir()
    said = kept.keep(others, cards, NOW)
    assert said == f"{tmp_path / 'GPU-1.json'} is no file of ours; {tmp_path / 'GPU-2.json'} is no file of ours"
    assert kept.recall("gpu:3", cards["gpu:3"], NOW)[0] is not None


def test_where_nothing_can_be_written_that_is_returned_and_nothing_is_raised(tmp_path: Path) -> None:
    (tmp_path / "devices").write_text("in the way")
    assert "cannot be written" in DeviceCache(tmp_path / "devices").keep([SEEN], {"gpu:0": CARD}, NOW)
    assert DeviceCache(tmp_path / "devices").recall("gpu:0", CARD, NOW)[0] is None
    assert DeviceCache(tmp_path / "devices").problem == f"{tmp_path / 'devices'} cannot be written"


def test_a_folder_that_is_still_to_be_made_is_no_problem_and_one_that_may_not_be_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert DeviceCache(tmp_path / "not" / "yet").problem == ""
    monkeypatch.setattr(os, "access", lambda *_: False)  # as for a user who may only read
    assert DeviceCache(tmp_path / "not" / "yet").problem == f"{tmp_path} cannot be written"
    assert "nor HOME" in DeviceCache(None).problem


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({}, None),
        ({"HOME": ""}, None),
        ({"HOME": "relative"}, None),
        ({"HOME": "/home/me"}, Path("/home/me/.cache/greencompute/devices")),
        ({"HOME": "/home/me", "XDG_CACHE_HOME": "/cache"}, Path("/cache/greencompute/devices")),
        ({"HOME": "/home/me", "XDG_CACHE_HOME": "relative"}, Path("/home/me/.cache/greencompute/devices")),
    ],
)
def test_it_lies_in_the_users_cache_and_nowhere_without_one(environ: dict[str, str], folder: Path | None) -> None:
    made = DeviceCache.of(environ)
    assert made.folder == folder
    if folder is None:
        assert made.keep([SEEN], {"gpu:0": CARD}, NOW) == ""
        assert made.recall("gpu:0", CARD, NOW) == (None, "")
        assert list(made) == []


def test_that_a_counter_missed_some_of_the_time_is_not_kept(tmp_path: Path) -> None:
    found, _ = cache(tmp_path, replace(SEEN, whole=False)).recall("gpu:0", CARD, NOW)
    assert found is not None
    assert found.behaviour.whole is None


@pytest.mark.parametrize("fact", ["simulated", "host"])
def test_nothing_is_kept_of_a_simulated_device_nor_of_one_that_others_sample(tmp_path: Path, fact: str) -> None:
    made_up = replace(CARD, facts={**CARD.facts, fact: "node-1"})
    assert cache(tmp_path, card=made_up).recall("gpu:0", made_up, NOW) == (None, "")
    assert list(cache(tmp_path, card=made_up)) == []


def test_a_file_is_written_again_only_where_something_is_new(tmp_path: Path) -> None:
    kept, later = cache(tmp_path), NOW + timedelta(days=1)
    kept.keep([replace(SEEN, tick_s=0.1003, jitter_s=0.004)], {"gpu:0": CARD}, later)
    assert kept.recall("gpu:0", CARD, later)[0] == Remembered("NVIDIA H100", "580.159", "nvml (counter)", NOW, SEEN)
    kept.keep([replace(SEEN, tick_s=0.02, jitter_s=0.0)], {"gpu:0": CARD}, later)
    found, _ = kept.recall("gpu:0", CARD, later)
    assert found is not None
    assert (found.since, found.behaviour.tick_s) == (later, 0.02)


def test_sessions_that_write_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    kept, broken = cache(tmp_path), []

    def write(tick_s: float) -> None:
        for number in range(100):
            DeviceCache(tmp_path / "devices").keep([replace(SEEN, tick_s=tick_s * (1 + number % 2))], {"gpu:0": CARD}, NOW)

    def read() -> None:
        broken.extend(why for _ in range(400) if (why := kept.recall("gpu:0", CARD, NOW)[1]))

    threads = [threading.Thread(target=write, args=(0.1,)), threading.Thread(target=write, args=(0.3,)), threading.Thread(target=read)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert broken == []
    assert [path.name for path in (tmp_path / "devices").iterdir()] == [f"{UUID}.json"]


def test_a_name_that_no_file_can_have_is_said_and_ends_nothing(tmp_path: Path) -> None:
    made, long = cache(tmp_path), "GPU-" + 300 * "8"
    assert made.keep([replace(SEEN, uuid=long)], {"gpu:0": replace(CARD, uuid=long)}, NOW) == "File name too long"
