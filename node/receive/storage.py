"""The Storage SCP: from a C-STORE request to a durable file with its row, or to the reason why not."""

from __future__ import annotations

import errno
import io
import logging
from collections.abc import Iterator

from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID

from node import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from node.errors import InputError, LedgerError
from node.ledger.engine import now
from node.ledger.instances import OpenAssociation, Receipt
from node.receive.association import Acceptor, StoreRequest
from node.receive.committer import Committer
from node.receive.head import Head, read_head
from node.receive.status import (
    CANNOT_UNDERSTAND,
    DOES_NOT_MATCH_SOP_CLASS,
    INSTANCE_MISMATCH,
    OUT_OF_RESOURCES,
    SOP_CLASS_NOT_SUPPORTED,
    UID_UNUSABLE,
    Refusal,
)
from node.spool import Spool, is_uid

LOGGER = logging.getLogger(__name__)


class Storage:
    """Keeps what is sent. One for all associations; their threads call it at the same time."""

    def __init__(self, *, spool: Spool, committer: Committer, receiver: str, title: str, min_free_gib: float) -> None:
        self._spool = spool
        self._committer = committer
        self._receiver = receiver
        self._title = title
        self._min_free_gib = min_free_gib

    def store(self, request: StoreRequest) -> Refusal | None:
        """Keep one instance; ``None`` when its file and its row are durable.

        The same data set again changes nothing. Another data set under the same SOP Instance UID is kept beside the
        first, which stays as it is, and both senders get Success: the node lost nothing, the operator sees the
        conflict, and no warning status of PS3.4 B.2.3 means this (senders take a warning for a failure).
        """
        size = request.stream.seek(0, io.SEEK_END)
        free = self._spool.free_gib()
        if free - size / 2**30 < self._min_free_gib:
            return Refusal(OUT_OF_RESOURCES, f"disk: {free:.2f} GiB free, limit {self._min_free_gib:g} GiB")
        request.stream.seek(0)
        try:
            head = read_head(request.stream, request.transfer_syntax_uid)
        except InputError as error:
            return Refusal(CANNOT_UNDERSTAND, str(error))
        refusal = check(request, head)
        if refusal is not None:
            return refusal
        try:
            kept = self._spool.keep(
                head.study_instance_uid,
                head.series_instance_uid,
                head.sop_instance_uid,
                self._file(request),
            )
        except OSError as error:
            LOGGER.error("%s could not be written: %s", head.sop_instance_uid, error)  # noqa: TRY400 - no traceback
            return Refusal(
                OUT_OF_RESOURCES, f"disk: {errno.errorcode.get(error.errno or 0, 'error')}: {error.strerror}"
            )
        receipt = Receipt(
            sop_instance_uid=head.sop_instance_uid,
            sop_class_uid=head.sop_class_uid,
            transfer_syntax_uid=request.transfer_syntax_uid,
            study_instance_uid=head.study_instance_uid,
            series_instance_uid=head.series_instance_uid,
            modality=head.modality,
            path=kept.path,
            sha256=kept.sha256,
            size=kept.size,
            conflict=kept.status == "conflict",
            association=self._opened(request.association),
            received_at=now(),
        )
        try:
            self._committer.record(receipt)
        except LedgerError as error:
            # The file stays: it is found and recorded at the next start, or when the sender tries again.
            LOGGER.error("%s: %s", head.sop_instance_uid, error)  # noqa: TRY400 - no traceback
            return Refusal(OUT_OF_RESOURCES, "ledger cannot be written now; send again")
        if not self._spool.absolute(kept.path).exists():
            # An image sent again at the moment when retention forgot its study: the row stands, the file is gone.
            return Refusal(OUT_OF_RESOURCES, "the image was just being forgotten; send again")
        return None

    def _opened(self, association: Acceptor) -> OpenAssociation:
        return OpenAssociation(
            id=association.id,
            receiver=self._receiver,
            calling_ae=association.calling_ae,
            called_ae=association.called_ae,
            peer_address=association.peer_address,
            opened_at=association.opened_at,
        )

    def _file(self, request: StoreRequest) -> Iterator[bytes | memoryview]:
        """A Part 10 file: preamble, File Meta Information, and the data set exactly as it came."""
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = UID(request.sop_class_uid)
        meta.MediaStorageSOPInstanceUID = UID(request.sop_instance_uid)
        meta.TransferSyntaxUID = UID(request.transfer_syntax_uid)
        meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
        meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
        meta.SourceApplicationEntityTitle = request.association.calling_ae
        meta.SendingApplicationEntityTitle = request.association.calling_ae
        meta.ReceivingApplicationEntityTitle = self._title
        encoded = DicomBytesIO()
        write_file_meta_info(encoded, meta, enforce_standard=True)
        yield b"\0" * 128 + b"DICM" + encoded.getvalue()
        yield request.stream.getbuffer()


def check(request: StoreRequest, head: Head) -> Refusal | None:
    """Whether request, presentation context and data set speak of the same instance, with usable UIDs."""
    for name, uid in (
        ("Affected SOP Class UID", request.sop_class_uid),
        ("Affected SOP Instance UID", request.sop_instance_uid),
        ("SOPClassUID", head.sop_class_uid),
        ("SOPInstanceUID", head.sop_instance_uid),
        ("StudyInstanceUID", head.study_instance_uid),
        ("SeriesInstanceUID", head.series_instance_uid),
    ):
        if not is_uid(uid):
            return Refusal(UID_UNUSABLE, f"{name} {'missing' if not uid else f'not a UID: {uid}'}")
    if request.sop_class_uid != request.context_class_uid:
        return Refusal(SOP_CLASS_NOT_SUPPORTED, "SOP class is not the one of the presentation context")
    if request.sop_class_uid != head.sop_class_uid:
        return Refusal(DOES_NOT_MATCH_SOP_CLASS, "SOPClassUID of the data set differs from the request")
    if request.sop_instance_uid != head.sop_instance_uid:
        return Refusal(INSTANCE_MISMATCH, "SOPInstanceUID of the data set differs from the request")
    return None
