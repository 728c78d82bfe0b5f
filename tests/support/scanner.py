"""A scanner for tests: sends images, asks for Storage Commitment, says by MPPS what it does (PS3.4 annexes F, J)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dicom_files import write
from pydicom import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pynetdicom.association import Association
from pynetdicom.sop_class import (
    ModalityPerformedProcedureStep,
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)
from real_peers import dcmtk
from receivers import Node, associate, configuration, send_dataset, until

from node.config import parse
from node.jobs.engine import Jobs
from node.ledger.engine import now
from node.ledger.jobs import Job, list_jobs
from node.ledger.tables import association
from node.routing.router import Router

HERE, ELSEWHERE = "127.0.0.1", "127.0.0.2"
"""Addresses of two machines."""
CONTEXTS = [
    (CTImageStorage, ExplicitVRLittleEndian),
    (ModalityPerformedProcedureStep, ExplicitVRLittleEndian),
]


RULE = """
[pipelines.bright]
factory = "bright_pipeline:create"
[destinations.pacs]
title = "PACS"
host = "127.0.0.1"
port = 104
[[rules]]
name = "ct"
match = { Modality = "CT" }
pipelines = ["bright"]
destinations = ["pacs"]
"""
"""One rule: every CT goes through one pipeline."""


def send(
    node: Node,
    datasets: Sequence[Dataset],
    calling: str = "CT1",
    address: str = HERE,
    syntax: str = ExplicitVRLittleEndian,
) -> None:
    """Store images of one SOP class and release; returns when the node knows that the association is closed."""
    contexts = [(datasets[0].SOPClassUID, syntax)]
    sender = associate(node, contexts, calling=calling, bind_address=(address, 0))
    assert [send_dataset(sender, dataset).Status for dataset in datasets] == [0x0000] * len(datasets)
    sender.release()
    until(lambda: (rows := node.rows(association)) and all(row.closed_at for row in rows))


def begin(
    node: Node, study: str, uid: str | None = "", calling: str = "CT1", address: str = HERE, **changes: str
) -> tuple[Dataset, str | None]:
    """N-CREATE with a new UID, or with this one or none; the response and the UID. "" leaves an attribute out."""
    attributes = Dataset()
    scheduled = Dataset()
    if study:
        scheduled.StudyInstanceUID = study
    attributes.ScheduledStepAttributesSequence = [scheduled]
    for keyword, value in {"PerformedProcedureStepStatus": "IN PROGRESS", "Modality": "CT", **changes}.items():
        if value:
            setattr(attributes, keyword, value)
    attributes.PerformedSeriesSequence = []
    peer = associate(node, CONTEXTS, calling=calling, bind_address=(address, 0))
    uid = str(generate_uid()) if uid == "" else uid
    response, _ = peer.send_n_create(attributes, ModalityPerformedProcedureStep, uid)
    peer.release()
    return response, uid


def say(
    node: Node, uid: str, state: str, made: Sequence[Dataset] = (), *, calling: str = "CT1", address: str = HERE
) -> Dataset:
    """N-SET with a state and the images that were made; the response."""
    changes = Dataset()
    changes.PerformedProcedureStepStatus = state
    changes.PerformedSeriesSequence = []
    for series in sorted({str(image.SeriesInstanceUID) for image in made}):
        item = Dataset()
        item.SeriesInstanceUID = series
        item.ReferencedImageSequence = []
        for image in made:
            if image.SeriesInstanceUID == series:
                reference = Dataset()
                reference.ReferencedSOPClassUID = image.SOPClassUID
                reference.ReferencedSOPInstanceUID = image.SOPInstanceUID
                item.ReferencedImageSequence.append(reference)
        changes.PerformedSeriesSequence.append(item)
    peer = associate(node, CONTEXTS, calling=calling, bind_address=(address, 0))
    response, _ = peer.send_n_set(changes, ModalityPerformedProcedureStep, uid)
    peer.release()
    return response


def ask(
    peer: Association,
    named: Sequence[tuple[str, str]],
    *,
    transaction: str = "",
    action: int = 1,
    sop_instance: str = StorageCommitmentPushModelInstance,
) -> int:
    """The status of an N-ACTION that names (class, instance)."""
    information = Dataset()
    information.TransactionUID = transaction or generate_uid()
    information.ReferencedSOPSequence = []
    for sop_class, uid in named:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
        information.ReferencedSOPSequence.append(item)
    response, _ = peer.send_n_action(information, action, StorageCommitmentPushModel, sop_instance)
    return int(response.Status)


def names(datasets: Sequence[Dataset]) -> list[tuple[str, str]]:
    return [(str(d.SOPClassUID), str(d.SOPInstanceUID)) for d in datasets]


def route(node: Node, more: str = "") -> list[Job]:
    """Let time pass until everything is complete; the jobs, oldest generation first. ``more``: rules beside the one."""
    config = parse(configuration(node.spool.folder, node.port) + RULE + more)
    Router(config, node.engine, node.spool, Jobs(node.engine)).step(now() + 3600.0)
    with node.engine.connect() as connection:
        return sorted(list_jobs(connection), key=lambda job: (job.generation, job.pipeline))


def storescu(node: Node, folder: Path, datasets: Sequence[Dataset]) -> None:
    write(datasets, folder)
    dcmtk("storescu", "-R", "-aec", "AINODE", "+sd", "127.0.0.1", node.port, folder)
    until(lambda: all(row.closed_at for row in node.rows(association)))


def jobs_at_once(node: Node) -> int:
    """How many jobs there are without any waiting."""
    config = parse(configuration(node.spool.folder, node.port) + RULE)
    Router(config, node.engine, node.spool, Jobs(node.engine)).step(now())
    with node.engine.connect() as connection:
        return len(list_jobs(connection))
