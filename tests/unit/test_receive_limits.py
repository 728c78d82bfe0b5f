"""What one caller, or all of them, may not use up: the spool, the disk, the memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from dicom_files import ct_series
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from raw_peer import refused
from receivers import associate, receiving, send_dataset, until

from node.ledger.tables import instance
from node.receive import rate_limit as rate
from node.receive.association_slots import AssociationSlots, Kind, Limit
from node.receive.rate_limit import RateLimit
from node.receive.status_codes import OUT_OF_RESOURCES

CT = [(CTImageStorage, ExplicitVRLittleEndian)]


def test_a_caller_over_its_quota_is_refused_and_the_others_are_not(tmp_path: Path) -> None:
    images = ct_series(5, 256)  # 128 KiB each
    callers = f'callers = [{{title = "A", quota_gib = {200_000 / 2**30}}}, {{title = "B"}}]'
    with receiving(tmp_path / "node", callers) as node:
        a, b = associate(node, CT, calling="A"), associate(node, CT, calling="B")
        answers = [send_dataset(a, dataset) for dataset in images[:3]]
        assert [answer.Status for answer in answers] == [0x0000, 0x0000, OUT_OF_RESOURCES]
        assert answers[2].ErrorComment == "quota of 0.000186265 GiB exceeded"
        assert send_dataset(b, images[3]).Status == 0x0000
        a.release()
        b.release()
        assert len(node.rows(instance)) == len(node.files()) == 3
    with receiving(tmp_path / "node", callers) as node:  # the ledger remembers
        a = associate(node, CT, calling="A")
        assert send_dataset(a, images[4]).Status == OUT_OF_RESOURCES
        a.release()


def test_below_the_watermark_images_are_refused_and_results_are_written(tmp_path: Path) -> None:
    dataset = ct_series(1, 16)[0]
    with receiving(tmp_path / "node", storage="min_free_gib = 1e9") as node:
        sender = associate(node, CT)
        assert send_dataset(sender, dataset).Status == OUT_OF_RESOURCES
        sender.release()
        kept = node.spool.keep_result("job", "1.2.3", b"result")
        assert node.files() == [kept.path]


def test_rows_follow_their_files_though_nothing_more_is_sent(tmp_path: Path) -> None:
    with receiving(tmp_path / "node") as node:
        sender = associate(node, CT)
        for dataset in ct_series(20, 16):
            assert send_dataset(sender, dataset).Status == 0x0000
        until(lambda: len(node.rows(instance)) == 20)
        sender.release()


def test_an_address_that_asks_for_associations_too_often_is_refused_until_a_minute_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiving(tmp_path / "node", "associations_per_minute = 3") as node:
        for _ in range(3):
            associate(node, CT).release()
        for called in ("AINODE", "WRONG"):  # every request counts, also those that are refused for other reasons
            assert refused(node, called) == (2, 3, 1)
        monkeypatch.setattr(rate, "SECONDS", 0.0)
        associate(node, CT).release()


@pytest.mark.thorough
def test_receivers_of_one_port_count_an_address_together_and_others_apart(tmp_path: Path) -> None:
    ours = RateLimit(AssociationSlots(os.open(tmp_path / "seats", os.O_RDWR | os.O_CREAT)), 3)
    assert [ours.allows("10.0.0.1"), ours.allows("10.0.0.1"), ours.allows("10.0.0.2")] == [True] * 3
    code = f"""
import os
from node.receive import rate_limit as rate
from node.receive.rate_limit import RateLimit
from node.receive.association_slots import AssociationSlots, Kind, Limit
theirs = RateLimit(AssociationSlots(os.open({str(tmp_path / "seats")!r}, os.O_RDWR)), 3)
print([theirs.allows(address) for address in ("10.0.0.1", "10.0.0.1", "10.0.0.2")])
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.strip() == "[True, False, True]"


def test_as_many_slots_stay_free_as_other_machines_hold_whichever_are_taken_here(tmp_path: Path) -> None:
    limit, elsewhere = Limit(Kind.OF_TITLE, "CT1", 4, in_fleet=True), {"OF_TITLE CT1": 0}
    slots = AssociationSlots(os.open(tmp_path / "slots", os.O_RDWR | os.O_CREAT), lambda: elsewhere)
    held = [slots.take([limit]) for _ in range(4)]
    assert slots.take([limit]) == limit
    for first in held[:2]:  # the last two stay, above the free ones
        assert not isinstance(first, Limit)
        slots.give_back(first)
    elsewhere["OF_TITLE CT1"] = 1
    assert slots.held_in_fleet() == {"OF_TITLE CT1": 2}
    assert not isinstance(slots.take([limit]), Limit)
    assert slots.take([limit]) == limit, "three here and one elsewhere are all"
    here_only = Limit(Kind.OF_TITLE, "CT2", 1)
    assert not isinstance(slots.take([here_only]), Limit)
    assert slots.held_in_fleet() == {"OF_TITLE CT1": 3}
