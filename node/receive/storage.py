"""The Storage SCP: stores the data set of a C-STORE request durably or returns a refusal."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Sequence

from node.config import Storage as Settings
from node.errors import AbsentFileError, InputError, LedgerError
from node.ledger.engine import now
from node.ledger.instances import Receipt
from node.receive.association_info import AssociationInfo, open_association
from node.receive.copies import Copies, DurableCopy, SecondCopy
from node.receive.dataset_identity import DatasetIdentity, identity_of_file
from node.receive.dataset_limits import DatasetLimits
from node.receive.element_walk import WINDOW
from node.receive.messages import StoreRequest
from node.receive.part10 import file_header
from node.receive.policy import Policy
from node.receive.request_checks import check_identity, check_request
from node.receive.row_writer import RowWriter
from node.receive.sender_quota import Quota
from node.receive.status_codes import CANNOT_UNDERSTAND, OUT_OF_RESOURCES, Refusal
from node.spool import Draft, Spool, StoredFile

LOGGER = logging.getLogger(__name__)

_SPACE_CHECKED_EVERY = 1 << 23
"""Bytes of one instance between two checks of the free space: 64 associations exceed the limit by at most 512 MiB."""
_SPACE_HOLDS_SECONDS = 0.1
"""How long a check of the free space is valid for new instances: no disk writes 512 MiB in that time."""


class Storage:
    """Stores received instances. One object for all associations; thread-safe."""

    def __init__(
        self,
        *,
        spool: Spool,
        row_writer: RowWriter,
        quota: Quota,
        policy: Policy,
        title: str,
        settings: Settings,
        copies: Copies | None = None,
    ) -> None:
        """``copies``: ``None`` when this machine has the only copy."""
        self.copies = copies
        self._needs_copy = copies is not None and settings.needs_second_copy
        self._spool = spool
        self._quota = quota
        self._policy = policy
        self._row_writer = row_writer
        self._title = title
        self._min_free_gib = settings.min_free_gib
        self.largest = settings.max_instance_gib * 2**30
        self.limits = DatasetLimits.of(settings)
        self._space_seen_at = float("-inf")

    def store(self, request: StoreRequest) -> Incoming:
        """Begin to receive one instance."""
        return Incoming(self, self._spool, request)

    def header(self, request: StoreRequest) -> bytes:
        """Encode preamble and File Meta Information of the file."""
        return file_header(
            sop_class_uid=request.sop_class_uid,
            sop_instance_uid=request.sop_instance_uid,
            transfer_syntax_uid=request.transfer_syntax_uid,
            sender=request.association.calling_ae,
            receiver=self._title,
        )

    def capacity_refusal(self, association: AssociationInfo) -> Refusal | None:
        """Return a refusal if no instance from this caller can be accepted now."""
        if not self._row_writer.has_room():
            return Refusal(OUT_OF_RESOURCES, "ledger cannot be written; send again later")
        if self._needs_copy and self.copies is not None and not self.copies.has_machine():
            return self.copy_refusal("no other machine takes it")
        over = self._quota_refusal(association)
        if over is None and time.monotonic() - self._space_seen_at > _SPACE_HOLDS_SECONDS:
            return self.space_refusal()
        return over

    def copy_refusal(self, fault: str) -> Refusal | None:
        """Return a refusal if an image may not be acknowledged without a second copy."""
        return Refusal(OUT_OF_RESOURCES, f"no second copy: {fault}") if self._needs_copy else None

    def count(self, association: AssociationInfo, size: int) -> None:
        """Count bytes of an instance that is not complete, or (negative) take them back."""
        self._quota.receive(association.calling_ae, size)

    def full_refusal(self, association: AssociationInfo) -> Refusal | None:
        """Return a refusal if the caller's quota or the disk is used up."""
        return self._quota_refusal(association) or self.space_refusal()

    def _quota_refusal(self, association: AssociationInfo) -> Refusal | None:
        caller = self._policy.caller(association.calling_ae, association.peer_address, association.certificate)
        return None if caller is None else self._quota.exceeded(caller.title, caller.quota_gib)

    def space_refusal(self) -> Refusal | None:
        """Return a refusal if the free space is below the limit."""
        space = self._spool.space()
        if space.is_below(self._min_free_gib):
            return Refusal(
                OUT_OF_RESOURCES, f"disk full: {space.free_gib:.2f} GiB free, limit {self._min_free_gib:g} GiB"
            )
        self._space_seen_at = time.monotonic()
        return None

    def record(
        self,
        request: StoreRequest,
        identity: DatasetIdentity,
        stored: StoredFile,
        draft: Draft,
        copy: DurableCopy | None,
    ) -> Refusal | None:
        """Record a stored file. A new file gets its row asynchronously and keeps its temporary link until then."""
        is_same = copy is not None and (copy.path, copy.digest) == (stored.path, stored.digest)
        receipt = Receipt(
            sop_instance_uid=identity.sop_instance_uid,
            sop_class_uid=identity.sop_class_uid,
            transfer_syntax_uid=request.transfer_syntax_uid,
            study_instance_uid=identity.study_instance_uid,
            series_instance_uid=identity.series_instance_uid,
            modality=identity.modality,
            path=stored.path,
            digest=stored.digest,
            size=stored.size,
            conflict=stored.status == "conflict",
            association=open_association(request.association, self._spool.drafts.writer),
            received_at=now(),
            copy_machine=copy.machine if copy is not None and is_same else "",
        )
        if stored.status != "same":
            self._quota.add(request.association.calling_ae, stored.size)
            self._row_writer.record_soon(receipt, draft)
            return None
        # Retention may be purging the existing file: write the row first, then check that the file is still there.
        draft.discard()
        try:
            self._row_writer.record(receipt)
        except LedgerError as error:
            LOGGER.error("%s: %s", identity.sop_instance_uid, error)  # noqa: TRY400 - no traceback
            return Refusal(OUT_OF_RESOURCES, "ledger cannot be written; send again later")
        if not self._spool.absolute(stored.path).exists():
            return Refusal(OUT_OF_RESOURCES, "image is being purged; send it again")
        return None


class Incoming:
    """One instance being received, a fragment at a time with constant memory.

    An identical data set changes nothing. A different data set with the same SOP Instance UID is stored next to the
    first one as a conflict that the operator sees. The sender gets Success: nothing is lost, and no warning status of
    PS3.4 B.2.3 means this (senders treat a warning as failure).
    """

    def __init__(self, storage: Storage, spool: Spool, request: StoreRequest) -> None:
        self._storage = storage
        self._spool = spool
        self._request = request
        self._draft: Draft | None = None
        self._header = b""
        """Written with the first bytes of the data set."""
        self._beginning = b""
        """First bytes of the data set; usually all that identifies it."""
        self._counted = 0
        self._copy: SecondCopy | None = None
        self._refusal = storage.capacity_refusal(request.association) or check_request(request)
        if self._refusal is None:
            self._begin()

    def write(self, parts: Sequence[bytes | memoryview]) -> None:
        """Append parts of the data set; after a refusal only keep its beginning for identification."""
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
            self._refuse(self._disk_refusal(error))
            return
        if self._copy is not None:
            self._copy.write(parts)
        if self._draft.size > self._storage.largest:
            self._refuse(
                Refusal(CANNOT_UNDERSTAND, f"larger than {self._storage.largest / 2**30:g} GiB (max_instance_gib)")
            )
        elif self._draft.size - self._counted >= _SPACE_CHECKED_EVERY:
            self._count(self._draft.size)
            self._refuse(self._storage.full_refusal(self._request.association))

    def finish(self) -> Refusal | None:
        """Store the complete data set; ``None`` when its file is durable and its row is written or queued."""
        if self._draft is not None and not self._draft.size:
            self.write(())  # an empty data set: the header is still to be written
        if self._draft is None:
            return self._refusal
        try:
            identity = identity_of_file(
                self._draft.descriptor,
                len(self._header),
                self._draft.size,
                self._request.transfer_syntax_uid,
                self._storage.limits,
                beginning=self._beginning,
            )
        except InputError as error:
            return self._refuse(Refusal(CANNOT_UNDERSTAND, str(error)))
        refusal = self._refuse(check_identity(self._request, identity))
        if refusal is not None:
            return refusal
        try:
            copy = self._copied(self._draft, identity)
            if self._refusal is not None:
                return self._refuse(self._refusal)
            stored = self._spool.keep(
                identity.study_instance_uid, identity.series_instance_uid, identity.sop_instance_uid, self._draft
            )
        except InputError as error:
            return self._refuse(Refusal(CANNOT_UNDERSTAND, str(error)))
        except OSError as error:
            return self._refuse(self._disk_refusal(error))
        draft, self._draft = self._draft, None
        refusal = self._storage.record(self._request, identity, stored, draft, copy)
        self._count(0)
        return refusal

    def _copied(self, draft: Draft, identity: DatasetIdentity) -> DurableCopy | None:
        """Have another machine store the image while this one syncs it; ``None``: there is one copy, or a refusal."""
        copy = self._copy
        if copy is None:
            return None
        copy.keep(identity.study_instance_uid, identity.series_instance_uid, identity.sop_instance_uid)
        try:
            self._spool.sync(draft)
            return copy.wait()
        except AbsentFileError as error:
            LOGGER.warning("%s: no second copy: %s", identity.sop_instance_uid, error)
            self._refusal = self._storage.copy_refusal(str(error))
            return None

    def discard(self) -> None:
        """Delete the incomplete file."""
        if self._copy is not None:
            self._copy.discard()
            self._copy = None
        if self._draft is not None:
            self._beginning = self._read_beginning(self._draft)
            self._draft.discard()
            self._draft = None
        self._count(0)

    def _count(self, size: int) -> None:
        """Count the bytes so far for the caller's quota; 0 when the instance is stored or discarded."""
        self._storage.count(self._request.association, size - self._counted)
        self._counted = size

    def beginning(self) -> bytes:
        """Return the first bytes of the data set, which identify an instance that is not stored."""
        return self._beginning if self._draft is None else self._read_beginning(self._draft)

    def _read_beginning(self, draft: Draft) -> bytes:
        """Read the beginning from the file, because the first part may have been short."""
        try:
            return os.pread(draft.descriptor, WINDOW, len(self._header)) or self._beginning
        except OSError:
            return self._beginning

    def _begin(self) -> None:
        try:
            self._draft = self._spool.drafts.new()
            self._header = self._storage.header(self._request)
            if self._storage.copies is not None:
                self._copy = self._storage.copies.begin(self._draft)
        except OSError as error:
            self._refuse(self._disk_refusal(error))

    def _refuse(self, refusal: Refusal | None) -> Refusal | None:
        if refusal is not None:
            self._refusal = refusal
            self.discard()
        return refusal

    def _disk_refusal(self, error: OSError) -> Refusal:
        LOGGER.error("%s could not be written: %s", self._request.sop_instance_uid, error)
        return Refusal(OUT_OF_RESOURCES, f"disk: {errno.errorcode.get(error.errno or 0, 'error')}: {error.strerror}")
