"""``ainode conformance``: the DICOM Conformance Statement (PS3.2 annex N), written from the tables the code runs on."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from jinja2 import Environment, StrictUndefined
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.sop_class import (
    Comprehensive3DSRStorage,
    CTImageStorage,
    LabelMapSegmentationStorage,
    ModalityWorklistInformationFind,
    MRImageStorage,
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    UnifiedProcedureStepEvent,
    Verification,
)

from node import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, __version__
from node.config import Config, ObjectKind
from node.deliver.association import Timeouts
from node.deliver.get_contexts import MOST_STORAGE_CONTEXTS
from node.deliver.transcode import UNCOMPRESSED
from node.orders.worklist import MOST_ENTRIES
from node.receive import status_codes
from node.receive.element_walk import MOST_NESTED
from node.receive.negotiation import MAXIMUM_PDU
from node.receive.policy import PLAIN, SERVICES, STANDARD_STORAGE, TRANSFER_SYNTAXES
from node.results.gate.check import SOP_CLASSES
from node.results.iod import required_of

STORE_STATUSES = {
    status_codes.SUCCESS: "File and ledger entry are durable; also for the same instance again, byte for byte",
    status_codes.OUT_OF_RESOURCES: "Disk or ledger cannot take it now; the sender should try again",
    status_codes.DOES_NOT_MATCH_SOP_CLASS: "The data set is of another SOP Class than the request says",
    status_codes.CANNOT_UNDERSTAND: "There is no data set, it cannot be read to its end, or it exceeds a limit of 2.6, "
    "which the Error Comment names",
    status_codes.UID_UNUSABLE: "A UID of the request or of the data set is missing or malformed (PS3.5 9.1)",
    status_codes.INSTANCE_MISMATCH: "The data set is another SOP Instance than the request says",
    status_codes.SOP_CLASS_NOT_SUPPORTED: "The request names another SOP Class than its presentation context",
    status_codes.PROCESSING_FAILURE: "A fault of the node; the sender should try again",
}
"""Statuses of a C-STORE response (PS3.4 B.2.3) and when they are given."""
NORMALIZED_STATUSES = {
    status_codes.SUCCESS: "The request is durable",
    status_codes.INVALID_ATTRIBUTE_VALUE: "An attribute has a value that the service does not allow",
    status_codes.PROCESSING_FAILURE: "A fault of the node, or (Error ID A710) the procedure step is final",
    status_codes.DUPLICATE_INSTANCE: "N-CREATE of a procedure step that exists",
    status_codes.NO_SUCH_INSTANCE: "N-SET of a procedure step that does not exist; N-ACTION on another instance; "
    "N-EVENT-REPORT by another system than the one that was asked",
    status_codes.INVALID_ARGUMENT: "The Transaction UID or the list of instances cannot be used; "
    "more than 400000 elements",
    status_codes.INVALID_INSTANCE: "The SOP Instance UID is malformed",
    status_codes.MISSING_ATTRIBUTE: "A required attribute is missing",
    status_codes.NOT_AUTHORIZED: "N-SET by another device than the one that created the procedure step; claim of a "
    "Unified Procedure Step; subscription of an AE of another device",
    status_codes.NO_SUCH_ACTION: "Another Action Type ID than 1, or than 1 to 5 for a Unified Procedure Step",
    status_codes.RESOURCE_LIMITATION: "The device has too many procedure steps, images in them, or requests",
    status_codes.PENDING: "A match of C-FIND",
    status_codes.NO_SUCH_WORKITEM: "No such Unified Procedure Step",
    status_codes.ALREADY_CANCELED: "Cancellation of a Unified Procedure Step that is CANCELED, or change to it",
    status_codes.ALREADY_COMPLETED: "Request for cancellation of a Unified Procedure Step that is COMPLETED",
    status_codes.NOT_CANCELED: "Request for cancellation of a Unified Procedure Step that another system has requested",
    status_codes.UNKNOWN_RECEIVER: "Subscription of an AE that has no `host` in `callers`, or may not use workitems",
    status_codes.INAPPROPRIATE_ACTION: "Suspension of a subscription to one Unified Procedure Step",
    status_codes.NOT_IN_PROGRESS: "N-SET of a Unified Procedure Step that is SCHEDULED, or change to a final state",
    status_codes.WRONG_TRANSACTION: "The same of one that is IN PROGRESS",
    status_codes.ALREADY_IN_PROGRESS: "Claim of one that is IN PROGRESS",
    status_codes.CANNOT_BECOME_SCHEDULED: "Change to SCHEDULED",
    status_codes.NO_LONGER_UPDATABLE: "N-SET or change of the state of a Unified Procedure Step that has ended",
    status_codes.IS_COMPLETED: "Change to COMPLETED of one that is COMPLETED",
    status_codes.UNRECOGNISED_OPERATION: "Another operation than those named here",
}
"""Statuses of N-ACTION, N-CREATE, N-GET, N-SET, N-EVENT-REPORT and C-FIND responses (PS3.7 annex C, PS3.4 CC)."""
_ASKED = (
    Verification,
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    ModalityWorklistInformationFind,
)

_LIKE_THEIR_SOURCE = (CTImageStorage, MRImageStorage)
"""Derived images are of the SOP Class of their source: one of these."""


def statement(config: Config) -> str:
    """The statement of a configured node, as Markdown."""
    text = Path(__file__).with_name("statement.md").read_text(encoding="utf-8")
    # Markdown, not HTML: nothing is to be escaped.
    template = Environment(undefined=StrictUndefined, keep_trailing_newline=True).from_string(text)  # noqa: S701
    return template.render(
        UID=UID,
        ae=config.ae,
        version=__version__,
        class_uid=IMPLEMENTATION_CLASS_UID,
        version_name=IMPLEMENTATION_VERSION_NAME,
        maximum_pdu=MAXIMUM_PDU,
        plain=PLAIN,
        services=sorted(SERVICES),
        storage=[UID(uid) for uid in STANDARD_STORAGE],
        syntaxes=sorted(TRANSFER_SYNTAXES),
        storage_limits=config.storage,
        most_nested=MOST_NESTED,
        most_entries=MOST_ENTRIES,
        store_statuses=STORE_STATUSES,
        normalized_statuses=NORMALIZED_STATUSES,
        uncompressed=UNCOMPRESSED,
        default=(ImplicitVRLittleEndian, ExplicitVRLittleEndian),
        asked=_ASKED,
        report=Comprehensive3DSRStorage,
        ups_event=UnifiedProcedureStepEvent,
        most_storage_contexts=MOST_STORAGE_CONTEXTS,
        timeouts=Timeouts(),
        kinds=get_args(ObjectKind),
        classes=SOP_CLASSES,
        label_map=LabelMapSegmentationStorage,
        objects=[UID(uid) for uid in dict.fromkeys([*SOP_CLASSES.values(), *_LIKE_THEIR_SOURCE])],
        required_of=required_of,
    )
