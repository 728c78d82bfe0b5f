"""Which device a job gets, and whether one in shadow keeps another one waiting."""

from __future__ import annotations

import threading

import pytest

from node.inference.device_slots import DeviceSlots


@pytest.fixture(params=["cpu", "cuda:0"])
def device(request: pytest.FixtureRequest) -> str:
    return request.param


def test_a_job_in_shadow_counts_for_no_other_one(device: str):
    slots = DeviceSlots([device])
    with slots.chosen_in_shadow() as chosen:
        assert chosen == device
        assert slots.has_free()
        assert not slots.is_needed(device)
        with slots.chosen() as (same, is_busy):
            assert (same, is_busy) == (device, False)
            assert slots.is_needed(device)
            assert not slots.has_free()
    assert slots.has_free()


def test_a_job_in_shadow_shares_the_time_of_a_cpu_and_has_a_gpu_alone(device: str):
    slots, begun = DeviceSlots([device]), threading.Event()

    def in_shadow() -> None:
        with slots.chosen_in_shadow():
            begun.set()

    with slots.running(device):
        thread = threading.Thread(target=in_shadow)
        thread.start()
        assert begun.wait(30.0 if device == "cpu" else 0.2) is (device == "cpu")
    thread.join(30.0)
    assert begun.is_set()


def test_jobs_in_shadow_go_to_different_devices():
    slots = DeviceSlots(["cuda:0", "cuda:1"])
    with slots.chosen() as (busy, _), slots.chosen_in_shadow() as first, slots.chosen_in_shadow() as second:
        assert first != busy
        assert {first, second} == {"cuda:0", "cuda:1"}
