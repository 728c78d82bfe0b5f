"""Which device a job gets, and whether one in shadow keeps another one waiting."""

from __future__ import annotations

import threading

import pytest

from node.inference.device_slots import DeviceSlots
from node.jobs.stage import AttemptYielded


@pytest.fixture(params=["cpu", "cuda:0"])
def device(request: pytest.FixtureRequest) -> str:
    return request.param


def test_a_job_in_shadow_counts_for_no_other_one(device: str):
    slots = DeviceSlots([device])
    assert slots.has_idle()
    with slots.chosen_in_shadow() as chosen:
        assert chosen == device
        assert not slots.has_idle()
        assert not slots.is_needed(device)
        with slots.chosen() as (same, is_busy):
            assert (same, is_busy) == (device, False)
            assert slots.is_needed(device)
    assert slots.has_idle()


def test_no_job_in_shadow_begins_while_another_one_has_the_device(device: str):
    slots = DeviceSlots([device])
    with slots.chosen():
        assert not slots.has_idle()
        with pytest.raises(AttemptYielded), slots.chosen_in_shadow():
            pass
    with slots.chosen_in_shadow() as chosen:
        assert chosen == device


def test_a_job_in_shadow_waits_for_the_models_that_are_loaded_on_a_gpu(device: str):
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


def test_of_two_gpus_each_kind_of_job_gets_the_one_that_the_other_leaves_alone():
    slots = DeviceSlots(["cuda:0", "cuda:1"])
    with slots.chosen_in_shadow() as tried, slots.chosen() as (sent, _):
        assert {tried, sent} == {"cuda:0", "cuda:1"}
        assert not slots.has_idle(), "a second one in shadow would only wait for the first"
    with slots.chosen() as (sent, _), slots.chosen_in_shadow() as tried:
        assert {tried, sent} == {"cuda:0", "cuda:1"}
        with slots.chosen() as (second, is_busy):
            assert (second, is_busy) == (tried, False)
            assert slots.is_needed(tried)
