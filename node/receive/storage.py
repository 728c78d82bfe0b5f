"""The Storage SCP: from a C-STORE request to a durable file whose row follows, or to the reason why not."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from node.errors import InputError, LedgerError
from node.ledger.associations import OpenAssociation
from node.ledger.engine import now
from node.ledger.instances import Receipt
from node.receive.dataset_identity import DatasetIdentity, identity_of_file
from node.receive.element_walk import WINDOW
from node.receive.messages import StoreRequest
from node.receive.part10 import file_header
from node.receive.policy import Policy
from node.receive.quota import Quota
from node.receive.row_writer import RowWriter
from node.receive.status import (
    CANNOT_UNDERSTAND,
    DOES_NOT_MATCH_SOP_CLASS,
    INSTANCE_MISMATCH,
    OUT_OF_RESOURCES,
    SOP_CLASS_NOT_SUPPORTED,
    UID_UNUSABLE,
    Refusal,
)
from node.spool import Draft, Spool, StoredFile, is_uid

if TYPE_CHECKING:
    from node.receive.association import Association

LOGGER = logging.getLogger(__name__)

_SPACE_CHECKED_EVERY = 1 << 23
"""Bytes of one instance after which the free space is looked at again: 64 associations pass the limit by 512 MiB."""
_SPACE_HOLDS_SECONDS = 0.1
"""How long instances may begin on the strength of one look at the free space: no disk takes 512 MiB in that time."""


class Storage:
    """Keeps what is sent. One for all associations; their threads call it at the same time."""

    def __init__(
        self, *, spool: Spool, row_writer: RowWriter, quota: Quota, policy: Policy, title: str, min_free_gib: float
    ) -> None:
        self._spool = spool
        self._quota = quota
        self._policy = policy
        self._row_writer = row_writer
        self._title = title
        self._min_free_gib = min_free_gib
        self._space_seen_at = float("-inf")

    def store(self, request: StoreRequest) -> Incoming:
        """Begin to receive one instance."""
        return Incoming(self, self._spool, request)

    def header(self, request: StoreRequest) -> bytes:
        """What stands before the data set in the file."""
        return file_header(
            sop_class_uid=request.sop_class_uid,
            sop_instance_uid=request.sop_instance_uid,
            transfer_syntax_uid=request.transfer_syntax_uid,
            sender=request.association.calling_ae,
            receiver=self._title,
        )

    def no_room(self, association: Association) -> Refusal | None:
        """Whether an image of this peer cannot be taken now, whatever it is."""
        if not self._row_writer.has_room():
            return Refusal(OUT_OF_RESOURCES, "ledger cannot be written now; send again")
        caller = self._policy.caller(association.calling_ae, association.peer_address, association.certificate)
        over = self._quota.exceeded(caller.title, caller.quota_gib) if caller is not None else None
        if over is None and time.monotonic() - self._space_seen_at > _SPACE_HOLDS_SECONDS:
            return self.no_space()
        return over

    def no_space(self) -> Refusal | None:
        """Whether the disk is too full for another byte."""
        space = self._spool.space()
        if space.is_below(self._min_free_gib):
            return Refusal(OUT_OF_RESOURCES, f"disk: {space.free_gib:.2f} GiB free, limit {self._min_free_gib:g} GiB")
        self._space_seen_at = time.monotonic()
        return None

    def record(self, request: StoreRequest, head: DatasetIdentity, kept: StoredFile, draft: Draft) -> Refusal | None:
        """See to the row of a kept file. A file that is new has its row soon, and a second name until then."""
        receipt = Receipt(
            sop_instance_uid=head.sop_instance_uid,
            sop_class_uid=head.sop_class_uid,
            transfer_syntax_uid=request.transfer_syntax_uid,
            study_instance_uid=head.study_instance_uid,
            series_instance_uid=head.series_instance_uid,
            modality=head.modality,
            path=kept.path,
            digest=kept.digest,
            size=kept.size,
            conflict=kept.status == "conflict",
            association=self._opened(request.association),
            received_at=now(),
        )
        if kept.status != "same":
            self._quota.add(request.association.calling_ae, kept.size)
            self._row_writer.follow(receipt, draft)
            return None
        # Retention may be forgetting the file that was there: its row is written now, and then looked after.
        draft.discard()
        try:
            self._row_writer.record(receipt)
        except LedgerError as error:
            LOGGER.error("%s: %s", head.sop_instance_uid, error)  # noqa: TRY400 - no traceback
            return Refusal(OUT_OF_RESOURCES, "ledger cannot be written now; send again")
        if not self._spool.absolute(kept.path).exists():
            return Refusal(OUT_OF_RESOURCES, "the image was just being forgotten; send again")
        return None

    def _opened(self, association: Association) -> OpenAssociation:
        return OpenAssociation(
            id=association.id,
            receiver=self._spool.writer,
            calling_ae=association.calling_ae,
            called_ae=association.called_ae,
            peer_address=association.peer_address,
            equipment=association.admission.equipment,
            opened_at=association.opened_at,
        )


class Incoming:
    """One instance on its way into the spool, a fragment at a time: memory does not grow with it.

    The same data set again changes nothing. Another data set under the same SOP Instance UID is kept beside the
    first, which stays as it is, and both senders get Success: the node lost nothing, the operator sees the
    conflict, and no warning status of PS3.4 B.2.3 means this (senders take a warning for a failure).
    """

    def __init__(self, storage: Storage, spool: Spool, request: StoreRequest) -> None:
        self._storage = storage
        self._spool = spool
        self._request = request
        self._draft: Draft | None = None
        self._header = b""
        """Written with the first bytes of the data set."""
        self._beginning = b""
        """Of the data set: most of what is to be known of it."""
        self._space_checked_at = 0
        self._refusal = storage.no_room(request.association) or check_request(request)
        if self._refusal is None:
            self._begin()

    def write(self, parts: Sequence[bytes | memoryview]) -> None:
        """Append parts of the data set; after a refusal only its beginning is kept, to know what it was."""
        if self._draft is None:
            if len(self._beginning) < WINDOW:
                self._beginning = b"".join((self._beginning, *parts))[:WINDOW]
            return
        if not self._draft.size:
            self._beginning = bytes(parts[0][:WINDOW]) if parts else b""
            parts = [self._header, *parts]
        try:
            self._draft.write(parts)
        except OSError as error:
            self._refuse(self._disk(error))
            return
        if self._draft.size - self._space_checked_at >= _SPACE_CHECKED_EVERY:
            self._space_checked_at = self._draft.size
            self._refuse(self._storage.no_space())

    def finish(self) -> Refusal | None:
        """The data set is complete: keep it; ``None`` when its file is durable and its row is seen to."""
        if self._draft is not None and not self._draft.size:
            self.write(())  # it is empty, and the header was to go with its first bytes
        if self._draft is None:
            return self._refusal
        try:
            head = identity_of_file(
                self._draft.descriptor,
                len(self._header),
                self._draft.size,
                self._request.transfer_syntax_uid,
                beginning=self._beginning,
            )
        except InputError as error:
            return self._refuse(Refusal(CANNOT_UNDERSTAND, str(error)))
        refusal = self._refuse(check(self._request, head))
        if refusal is not None:
            return refusal
        try:
            kept = self._spool.keep(
                head.study_instance_uid, head.series_instance_uid, head.sop_instance_uid, self._draft
            )
        except OSError as error:
            return self._refuse(self._disk(error))
        draft, self._draft = self._draft, None
        return self._storage.record(self._request, head, kept, draft)

    def discard(self) -> None:
        """The sender stopped in the middle: nothing stays."""
        if self._draft is not None:
            self._beginning = self._read_beginning(self._draft)
            self._draft.discard()
            self._draft = None

    def beginning(self) -> bytes:
        """The first bytes of the data set; they say what it was when it is not kept."""
        return self._beginning if self._draft is None else self._read_beginning(self._draft)

    def _read_beginning(self, draft: Draft) -> bytes:
        """From the file: the first part may have been short."""
        try:
            return os.pread(draft.descriptor, WINDOW, len(self._header)) or self._beginning
        except OSError:
            return self._beginning

    def _begin(self) -> None:
        try:
            self._draft = self._spool.draft()
            self._header = self._storage.header(self._request)
        except OSError as error:
            self._refuse(self._disk(error))

    def _refuse(self, refusal: Refusal | None) -> Refusal | None:
        if refusal is not None:
            self._refusal = refusal
            self.discard()
        return refusal

    def _disk(self, error: OSError) -> Refusal:
        LOGGER.error("%s could not be written: %s", self._request.sop_instance_uid, error)
        return Refusal(OUT_OF_RESOURCES, f"disk: {errno.errorcode.get(error.errno or 0, 'error')}: {error.strerror}")


def check_request(request: StoreRequest) -> Refusal | None:
    """Whether the request has usable UIDs and fits its presentation context."""
    for name, uid in (
        ("Affected SOP Class UID", request.sop_class_uid),
        ("Affected SOP Instance UID", request.sop_instance_uid),
    ):
        if not is_uid(uid):
            return _unusable(name, uid)
    if request.sop_class_uid != request.context_class_uid:
        return Refusal(SOP_CLASS_NOT_SUPPORTED, "SOP class is not the one of the presentation context")
    return None


def check(request: StoreRequest, head: DatasetIdentity) -> Refusal | None:
    """Whether request and data set speak of the same instance, with usable UIDs."""
    for name, uid in (
        ("SOPClassUID", head.sop_class_uid),
        ("SOPInstanceUID", head.sop_instance_uid),
        ("StudyInstanceUID", head.study_instance_uid),
        ("SeriesInstanceUID", head.series_instance_uid),
    ):
        if not is_uid(uid):
            return _unusable(name, uid)
    if request.sop_class_uid != head.sop_class_uid:
        return Refusal(DOES_NOT_MATCH_SOP_CLASS, "SOPClassUID of the data set differs from the request")
    if request.sop_instance_uid != head.sop_instance_uid:
        return Refusal(INSTANCE_MISMATCH, "SOPInstanceUID of the data set differs from the request")
    return None


def _unusable(name: str, uid: str) -> Refusal:
    return Refusal(UID_UNUSABLE, f"{name} {'missing' if not uid else f'not a UID: {uid}'}")
