"""CUDA_VISIBLE_DEVICES is read as CUDA reads it, and what ROCm has in its place as HIP does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_greencompute.errors import MeterError
from pytest_greencompute.meters.visible import Visible, visible, visible_to_hip

A = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
B = "GPU-8932f940-1111-4222-8333-444455556666"
C = "GPU-1b2c3d4e-5f60-4718-9293-a4b5c6d7e8f9"
UUIDS = (A, B, C)
MIG = "MIG-9e2f7c1a-0b3d-5e6f-8a91-b2c3d4e5f607"


@pytest.mark.parametrize(
    ("value", "gpus"),
    [
        (None, (0, 1, 2)),
        ("", ()),
        ("0", (0,)),
        ("2,1", (2, 1)),
        ("0,2,-1,1", (0, 2)),  # the example of the CUDA guide
        ("-1", ()),
        ("-1,0", ()),
        ("0,7,1", (0,)),
        ("0,,1", (0,)),
        ("0,x,1", (0,)),
        ("NoDevFiles", ()),
        ("none", ()),
        (" 0 , 1 ", (0, 1)),
        ("1gpu2,2ampere", (1, 2)),
        ("+1", (1,)),
        ("0,0", ()),
        ("0,1,0", ()),
        ("0,-1,0", (0,)),
        ("0," + A, (0,)),
        ("²", ()),  # a digit to str.isdigit, not to CUDA
        (A, (0,)),
        (f"{C},{A}", (2, 0)),
        ("GPU-8932f937", (0,)),
        ("GPU-8932f9", ()),  # fits two
        ("GPU-1", (2,)),
        ("GPU-ffff", ()),
        (f"{A},1", (0,)),
        (f"{A},GPU-8932f937", ()),  # twice the same
        (f"{A},GPU-ffff,{C}", (0,)),
        ("gpu-8932f937", ()),
    ],
)
def test_what_is_visible(value: str | None, gpus: tuple[int, ...]) -> None:
    assert visible(value, UUIDS).gpus == gpus


def test_mig_instances_are_named_and_are_no_gpus() -> None:
    assert visible(MIG, UUIDS) == Visible((), mig=(MIG,))
    assert visible(f"MIG-{A}/1/2,0", UUIDS).mig == (f"MIG-{A}/1/2",)
    assert visible(f"{MIG},{MIG}", UUIDS).mig == ()


def test_only_numbers_depend_on_the_order() -> None:
    assert visible("1", UUIDS).by_index
    assert not visible(A, UUIDS).by_index
    assert not visible(None, UUIDS).by_index


uuids = st.lists(st.uuids().map(lambda u: f"GPU-{u}"), max_size=8, unique=True)
anything = st.text(alphabet="0123456789,-+ GPUMIxaf", max_size=40) | st.text(max_size=20)


@given(value=anything, uuids=uuids)
def test_it_never_raises_and_names_devices_that_are_there_once(value: str, uuids: list[str]) -> None:
    gpus = visible(value, uuids).gpus
    assert len(set(gpus)) == len(gpus)
    assert all(0 <= place < len(uuids) for place in gpus)


@given(data=st.data(), uuids=uuids)
def test_a_list_of_different_valid_entries_is_taken_as_it_stands(data: st.DataObject, uuids: list[str]) -> None:
    order = data.draw(st.permutations(range(len(uuids))))
    chosen = tuple(order[: data.draw(st.integers(0, len(order)))])
    assert visible(",".join(map(str, chosen)), uuids).gpus == chosen
    assert visible(",".join(uuids[place] for place in chosen), uuids).gpus == chosen


@given(data=st.data(), uuids=uuids, rest=anything, invalid=st.sampled_from(["-1", "99", "x", "", "GPU-", "MIG-0"]))
def test_nothing_counts_after_the_first_invalid_entry(data: st.DataObject, uuids: list[str], rest: str, invalid: str) -> None:
    count = data.draw(st.integers(min(1, len(uuids)), len(uuids)))
    valid = [str(place) for place in range(count)]
    before = visible(",".join(valid), uuids).gpus
    if valid:
        assert visible(",".join([*valid, invalid, rest]), uuids).gpus == before == tuple(range(count))


@given(data=st.data(), uuids=uuids.filter(bool))
def test_a_repeated_entry_makes_the_whole_list_invalid(data: st.DataObject, uuids: list[str]) -> None:
    chosen = data.draw(st.permutations(range(len(uuids))))
    again = data.draw(st.sampled_from(chosen))
    assert visible(",".join(map(str, [*chosen, again])), uuids).gpus == ()
    assert visible(",".join(uuids[place] for place in [*chosen, again]), uuids).gpus == ()


@given(uuids=uuids.filter(bool), length=st.integers(4, 40), data=st.data())
def test_the_beginning_of_a_uuid_is_enough_where_it_fits_one(uuids: list[str], length: int, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(uuids) - 1))
    start = uuids[place][:length]
    unique = sum(uuid.startswith(start) for uuid in uuids) == 1
    assert visible(start, uuids).gpus == ((place,) if unique else ())


# AMD


@given(data=st.data(), uuids=uuids)
def test_hip_chooses_among_what_rocr_leaves(data: st.DataObject, uuids: list[str]) -> None:
    first = data.draw(st.permutations(range(len(uuids))))[: data.draw(st.integers(0, len(uuids)))]
    second = data.draw(st.permutations(range(len(first))))[: data.draw(st.integers(0, len(first)))]
    environ = {
        "ROCR_VISIBLE_DEVICES": ",".join(data.draw(st.sampled_from([str(place), uuids[place]])) for place in first) or "-1",
        "HIP_VISIBLE_DEVICES": ",".join(data.draw(st.sampled_from([str(place), uuids[first[place]]])) for place in second) or "-1",
    }
    assert visible_to_hip(environ, uuids) == tuple(first[place] for place in second)


@given(name=st.sampled_from(["ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"]), value=anything, uuids=uuids)
def test_every_entry_of_a_list_for_hip_names_one_gpu_or_the_list_is_refused(name: str, value: str, uuids: list[str]) -> None:
    try:
        places = visible_to_hip({name: value}, uuids)
    except MeterError:
        return
    assert len(places) == (0 if value.strip() == "-1" else len(value.split(",")))
    assert len(set(places)) == len(places)


def test_nothing_set_hides_nothing_from_hip() -> None:
    assert visible_to_hip({}, UUIDS) == tuple(range(len(UUIDS)))


@pytest.mark.parametrize("name", ["ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"])
def test_an_empty_list_is_read_otherwise_by_every_program_and_refused(name: str) -> None:
    with pytest.raises(MeterError, match=f"{name} is empty, which hides every AMD GPU from some programs and none from others"):
        visible_to_hip({name: ""}, UUIDS)


def test_the_beginning_of_a_uuid_that_fits_two_amd_gpus_is_refused() -> None:
    with pytest.raises(MeterError, match="'GPU-ab' does not name one"):
        visible_to_hip({"HIP_VISIBLE_DEVICES": "GPU-ab"}, ["GPU-ab1", "GPU-ab2"])
    assert visible_to_hip({"HIP_VISIBLE_DEVICES": "GPU-ab2"}, ["GPU-ab1", "GPU-ab2"]) == (1,)
