"""The response of STOW-RS (PS3.18 10.5.3 and table I.2-1)."""

from __future__ import annotations

from pydicom import Dataset
from starlette.responses import Response

from node.dicomweb.addresses import Addresses
from node.receive.dataset_identity import DatasetIdentity
from node.upload import FileKind, FileResult

CANNOT_PROCESS = 0x0110
"""Failure Reason (0008,1197): Processing failure."""
OTHER_STUDY = 0xA900
"""Failure Reason: the data set does not match what the request says."""
_LONGEST_COMMENT = 64
"""Characters of Error Comment (0000,0902)."""


class StoreResponse:
    """What became of the parts of a request."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses
        self._stored: list[Dataset] = []
        self._failed: list[Dataset] = []
        self._other: list[Dataset] = []

    @property
    def stored(self) -> int:
        """How many instances are stored."""
        return len(self._stored)

    @property
    def failed(self) -> int:
        """How many parts are not stored."""
        return len(self._failed) + len(self._other)

    def add(self, result: FileResult, identity: DatasetIdentity | None) -> None:
        """Add one part. ``identity``: that of its data set; ``None`` when it could not be read."""
        item = Dataset()
        if result.sop_instance_uid:
            item.ReferencedSOPClassUID = result.sop_class_uid
            item.ReferencedSOPInstanceUID = result.sop_instance_uid
        if result.kind is not FileKind.STORED:
            item.FailureReason = result.status or CANNOT_PROCESS
            item.ErrorComment = result.reason[:_LONGEST_COMMENT]
            (self._failed if result.sop_instance_uid else self._other).append(item)
            return
        if identity is not None:
            uids = identity.study_instance_uid, identity.series_instance_uid, identity.sop_instance_uid
            item.RetrieveURL = self._addresses.instance(*uids)
        self._stored.append(item)

    def as_http(self) -> Response:
        """Return the response: 200 when all are stored, 202 when some are, 409 when none is."""
        answer = Dataset()
        if self._stored:
            answer.ReferencedSOPSequence = self._stored
        if self._failed:
            answer.FailedSOPSequence = self._failed
        if self._other:
            answer.OtherFailuresSequence = self._other
        status = 200 if not self.failed else 202 if self._stored else 409
        return Response(answer.to_json(), status, media_type="application/dicom+json")
