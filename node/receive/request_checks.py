"""Checks of a C-STORE request: its UIDs, its presentation context, and whether its data set is the one it names."""

from __future__ import annotations

from node.receive.dataset_identity import DatasetIdentity
from node.receive.messages import StoreRequest
from node.receive.status_codes import (
    DOES_NOT_MATCH_SOP_CLASS,
    INSTANCE_MISMATCH,
    SOP_CLASS_NOT_SUPPORTED,
    UID_UNUSABLE,
    Refusal,
)
from node.spool import is_uid


def check_request(request: StoreRequest) -> Refusal | None:
    """Return a refusal if the request has unusable UIDs or does not fit its presentation context."""
    for name, uid in (
        ("Affected SOP Class UID", request.sop_class_uid),
        ("Affected SOP Instance UID", request.sop_instance_uid),
    ):
        if not is_uid(uid):
            return _unusable_uid(name, uid)
    if request.sop_class_uid != request.context_class_uid:
        return Refusal(SOP_CLASS_NOT_SUPPORTED, "SOP Class differs from that of the presentation context")
    return None


def check_identity(request: StoreRequest, identity: DatasetIdentity) -> Refusal | None:
    """Return a refusal if the data set has unusable UIDs or is not the requested instance."""
    for name, uid in (
        ("SOPClassUID", identity.sop_class_uid),
        ("SOPInstanceUID", identity.sop_instance_uid),
        ("StudyInstanceUID", identity.study_instance_uid),
        ("SeriesInstanceUID", identity.series_instance_uid),
    ):
        if not is_uid(uid):
            return _unusable_uid(name, uid)
    if request.sop_class_uid != identity.sop_class_uid:
        return Refusal(DOES_NOT_MATCH_SOP_CLASS, "SOPClassUID of the data set differs from the request")
    if request.sop_instance_uid != identity.sop_instance_uid:
        return Refusal(INSTANCE_MISMATCH, "SOPInstanceUID of the data set differs from the request")
    return None


def _unusable_uid(name: str, uid: str) -> Refusal:
    return Refusal(UID_UNUSABLE, f"{name} {'missing' if not uid else f'invalid: {uid}'}")
