"""Storage of result objects: the durable file and the values of its row."""

from __future__ import annotations

from io import BytesIO

from pydicom import dcmread

from node.ledger.engine import now
from node.results import EncodedObject
from node.spool import Spool


def store_result(spool: Spool, job_id: str, encoded: EncodedObject, quarantine: str | None) -> dict[str, object]:
    """Write one object durably; return the values of its ``result`` row."""
    head = dcmread(BytesIO(encoded.data), stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])
    sop_instance_uid = str(head.file_meta.MediaStorageSOPInstanceUID)
    stored = spool.keep_result(job_id, sop_instance_uid, encoded.data)
    return {
        "sop_instance_uid": sop_instance_uid,
        "job_id": job_id,
        "sop_class_uid": str(head.file_meta.MediaStorageSOPClassUID),
        "transfer_syntax_uid": str(head.file_meta.TransferSyntaxUID),
        "series_instance_uid": str(head.SeriesInstanceUID),
        "description": encoded.description,
        "path": stored.path,
        "digest": stored.digest,
        "size": stored.size,
        "quarantine": quarantine,
        "created_at": now(),
        "kind": encoded.kind,
    }
