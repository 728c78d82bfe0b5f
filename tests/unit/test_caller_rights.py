"""Callers steer their own images only: what strangers say completes, delays and stops nothing, and is told of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import pytest
from dicom_files import ct_series
from pydicom import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom.sop_class import (
    InstanceAvailabilityNotification,
    ModalityPerformedProcedureStep,
    StorageCommitmentPushModel,
    UnifiedProcedureStepPush,
    Verification,
)
from receivers import Node, associate, configuration, receiving, store_works
from scanner import ELSEWHERE, HERE, RULE, ask, begin, names, say, send
from timeline import timeline

from node.config import parse
from node.config.network import Service
from node.errors import ConfigError
from node.jobs.engine import Jobs
from node.ledger.engine import now
from node.ledger.jobs import list_jobs
from node.ledger.tables import decision, notice, procedure_step
from node.operate.account.description import describe
from node.operate.account.report import account
from node.operate.account.rows import read
from node.operate.alerts import current_alerts
from node.operate.explain import explain
from node.operate.explain_text import describe as describe_study
from node.reasons import reason_text
from node.receive.policy import STUDY_CONTENT_NOTIFICATION
from node.routing.router import Router


def routed(node: Node, seconds: float = 0.0) -> int:
    """How many series the router completes so many seconds from now."""
    config = parse(configuration(node.spool.folder, node.port) + RULE)
    return Router(config, node.engine, node.spool, Jobs(node.engine)).step(now() + seconds)


def alarms(node: Node) -> dict[str, str]:
    with node.engine.connect() as connection:
        return current_alerts(node.config, connection, node.spool, now())


def commit(node: Node, named: Sequence[Dataset], calling: str, address: str) -> None:
    contexts = [(StorageCommitmentPushModel, ExplicitVRLittleEndian)]
    peer = associate(node, contexts, calling=calling, bind_address=(address, 0))
    assert ask(peer, names(named)) == 0x0000
    peer.release()


def test_a_stranger_s_discontinued_step_stops_nothing_and_is_shown(node: Node) -> None:
    images = ct_series(3, 16)
    study = images[0].StudyInstanceUID
    send(node, images)
    _, uid = begin(node, study, calling="CT1", address=ELSEWHERE)
    assert say(node, uid, "DISCONTINUED", images, address=ELSEWHERE).Status == 0x0000
    assert routed(node, 60.0) == 1
    assert [row.outcome for row in node.rows(decision)] == ["routed"]
    _, again = begin(node, study, address=ELSEWHERE)
    say(node, again, "DISCONTINUED", images, address=ELSEWHERE)
    with node.engine.connect() as connection:
        assert [job.state for job in list_jobs(connection)] == ["SCHEDULED"]
    assert f"signal disregarded: the DISCONTINUED procedure step of CT1 ({ELSEWHERE}) does not count" in describe_study(
        explain(node.engine, study)
    )
    assert "discontinued" not in alarms(node)


def test_a_step_that_names_no_series_stops_and_delays_no_stranger_s(node: Node) -> None:
    images = ct_series(3, 16)
    _, uid = begin(node, images[0].StudyInstanceUID, address=ELSEWHERE)
    _, running = begin(node, images[0].StudyInstanceUID, address=ELSEWHERE)
    say(node, uid, "DISCONTINUED", address=ELSEWHERE)
    send(node, images)
    assert routed(node, 60.0) == 1
    assert [row.outcome for row in node.rows(decision)] == ["routed"]
    assert {row.state for row in node.rows(procedure_step)} == {"IN PROGRESS", "DISCONTINUED"}
    assert running


def test_a_stranger_s_list_completes_nothing(node: Node) -> None:
    images = ct_series(4, 16)
    send(node, images[:2])
    _, uid = begin(node, images[0].StudyInstanceUID, address=ELSEWHERE)
    say(node, uid, "COMPLETED", images[:2], address=ELSEWHERE)
    commit(node, images[:2], "CT1", ELSEWHERE)
    assert routed(node, 5.0) == 0
    commit(node, images, "CT1", ELSEWHERE)
    send(node, images[2:])
    assert routed(node, 5.0) == 0
    assert routed(node, 60.0) == 1
    [signal] = [row.detail for row in timeline(node.engine) if row.what == "complete"]
    assert "none for 30 s" in signal
    told = [row.detail for row in timeline(node.engine) if row.what == "signal disregarded"]
    assert any("Storage Commitment request of CT1" in detail for detail in told)


def test_nobody_speaks_for_a_series_to_which_two_devices_sent(node: Node) -> None:
    images = ct_series(4, 16)
    send(node, images[:3])
    send(node, images[3:], "EVIL", ELSEWHERE)
    _, uid = begin(node, images[0].StudyInstanceUID, calling="EVIL", address=ELSEWHERE)
    say(node, uid, "DISCONTINUED", images, calling="EVIL", address=ELSEWHERE)
    assert routed(node, 60.0) == 1
    assert [row.outcome for row in node.rows(decision)] == ["routed"]


def test_a_step_of_the_same_device_under_another_title_counts(node: Node) -> None:
    images = ct_series(3, 16)
    _, uid = begin(node, images[0].StudyInstanceUID, calling="CT1_MPPS")
    send(node, images)
    say(node, uid, "COMPLETED", images, calling="CT1_MPPS")
    assert routed(node) == 1


GROUPS = """callers = [
    { title = "CT1", group = "ct1" },
    { title = "CT1_MPPS", address = "127.0.0.2", group = "ct1" },
    { title = "CT2", group = "ct2" },
    { title = "GATE" },
]"""


@pytest.mark.parametrize(
    ("calling", "address", "counts"), [("CT1_MPPS", ELSEWHERE, 1), ("CT2", HERE, 0), ("GATE", HERE, 0)]
)
def test_a_group_says_which_callers_are_one_device_whatever_their_addresses(
    tmp_path: Path, calling: str, address: str, counts: int
) -> None:
    with receiving(tmp_path / "node", ae=GROUPS) as node:
        images = ct_series(3, 16)
        send(node, images)
        _, uid = begin(node, images[0].StudyInstanceUID, calling=calling, address=address)
        assert say(node, uid, "COMPLETED", images, calling=calling, address=address).Status == 0x0000
        assert routed(node) == counts


def test_only_the_device_that_created_a_step_may_change_it_and_who_tries_is_in_the_audit_trail(node: Node) -> None:
    images = ct_series(2, 16)
    send(node, images)
    _, uid = begin(node, images[0].StudyInstanceUID)
    refused = say(node, uid, "DISCONTINUED", images, calling="EVIL", address=ELSEWHERE)
    assert refused.Status == 0x0124
    assert [row.state for row in node.rows(procedure_step)] == ["IN PROGRESS"]
    (told,) = [row for row in node.rows(notice) if row.what == "refused"]
    assert (told.who, told.address) == ("EVIL", ELSEWHERE)
    assert told.detail == f"another device created this procedure step ({uid})"
    assert say(node, uid, "COMPLETED", images).Status == 0x0000


def test_what_a_discontinued_step_stops_is_an_alarm_and_in_account_and_explanation(node: Node) -> None:
    images, later = ct_series(3, 16), ct_series(3, 16)
    _, uid = begin(node, images[0].StudyInstanceUID)
    send(node, images)
    say(node, uid, "DISCONTINUED", images)
    send(node, later)
    assert routed(node, 60.0) == 2
    assert alarms(node)["discontinued"].startswith("1 series were ignored, or their analysis stopped, since ")
    _, second = begin(node, later[0].StudyInstanceUID)
    say(node, second, "DISCONTINUED", later)
    assert alarms(node)["discontinued"].startswith("2 series")
    told = describe(account(read(node.engine), node.config.is_recipient))
    for image in (images[0], later[0]):
        assert f"DISCONTINUED: 3 images of series {image.SeriesInstanceUID}, study {image.StudyInstanceUID}" in told
    words = describe_study(explain(node.engine, images[0].StudyInstanceUID))
    assert "ignored: the DISCONTINUED procedure step of CT1 made it" in words
    with node.engine.connect() as connection:
        (job,) = list_jobs(connection)
    assert (job.state, reason_text(job.reason)) == ("CANCELED", "CT1 discontinued the procedure step")


RIGHTS = """callers = [
    { title = "CT1", services = ["store"] },
    { title = "PACS", services = ["commitment"] },
    { title = "GATE", services = [] },
    { title = "ALL" },
]"""
OFFERED = {
    "store": CTImageStorage,
    "commitment": StorageCommitmentPushModel,
    "mpps": ModalityPerformedProcedureStep,
    "availability": InstanceAvailabilityNotification,
    "content": STUDY_CONTENT_NOTIFICATION,
    "workitems": UnifiedProcedureStepPush,
    "echo": Verification,
}


@pytest.mark.parametrize(
    ("title", "may"),
    [
        ("CT1", {"store"}),
        ("PACS", {"commitment"}),
        ("GATE", set()),
        ("ALL", {*get_args(Service)} - {"workitems"}),
    ],  # without procedures
)
def test_a_caller_may_use_its_services_and_verification_only(tmp_path: Path, title: str, may: set[str]) -> None:
    with receiving(tmp_path / "node", ae=RIGHTS) as node:
        peer = associate(node, [(uid, ExplicitVRLittleEndian) for uid in OFFERED.values()], calling=title)
        accepted = {str(context.abstract_syntax) for context in peer.accepted_contexts}
        assert {name for name, uid in OFFERED.items() if uid in accepted} == may | {"echo"}
        assert {context.result for context in peer.rejected_contexts} <= {0x01}
        assert peer.send_c_echo().Status == 0x0000
        peer.release()
        told = [row.detail for row in node.rows(notice) if row.what == "refused"]
        missing = sorted({*get_args(Service)} - may)
        assert told == ([f"{title} may not use {', '.join(missing)}"] if missing else [])


def test_a_caller_whose_every_service_is_refused_can_still_be_echoed_and_others_store(tmp_path: Path) -> None:
    with receiving(tmp_path / "node", ae=RIGHTS.replace("ALL", "PEER")) as node:
        peer = associate(node, [(CTImageStorage, ExplicitVRLittleEndian)], calling="GATE")
        assert not peer.accepted_contexts
        peer.abort()
        assert store_works(node)


def test_a_service_that_does_not_exist_is_a_mistake_in_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="services"):
        parse(configuration(tmp_path, 104, RIGHTS.replace('"store"', '"storage"')))
