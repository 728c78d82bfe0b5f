"""STOW-RS (PS3.18 10.5): instances of a request go to the receiver of this node, which stores them durably.

What the receiver decides is the answer: its limits, callers and quotas hold, and rules see the AE title of the client.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from node.config import Config
from node.dicomweb.addresses import Addresses
from node.dicomweb.authorization import Client
from node.dicomweb.related_parts import Beginning, Content, Ending, RelatedParts
from node.dicomweb.store_response import OTHER_STUDY, StoreResponse
from node.errors import InputError, RejectedError, UnreachableError
from node.receive.dataset_limits import DatasetLimits
from node.spool import Spool
from node.upload import FileKind, FileResult, MediumFile, upload_files
from node.upload.received_part import ReceivedPart

logger = logging.getLogger(__name__)

_BATCH_FILES = 200
"""Instances that are sent over one association."""
_BATCH_BYTES = 256 << 20
"""Bytes that wait on the disk before they are sent."""
_MOST_PARTS = 100_000
_DICOM = ("application/dicom", "")


@dataclass
class _Transaction:
    """One request."""

    client: Client
    study: str
    response: StoreResponse
    parts: int = 0
    received: int = 0
    """Bytes of its parts."""
    waiting: list[ReceivedPart] = field(default_factory=list)
    """Parts that are not sent yet; the last one may not be complete."""

    @property
    def so_far(self) -> str:
        """What was stored before an error."""
        return f"{self.response.stored} of its instances are stored, send it again"


class StoreService:
    """Takes instances."""

    def __init__(self, config: Config, spool: Spool) -> None:
        self._config = config
        self._spool = spool
        self._limits = DatasetLimits.of(config.storage)
        self._largest = int(config.dicomweb.max_request_gib * 2**30)

    async def store(self, request: Request, client: Client) -> Response:
        """Take the instances of one request; its path may name the study that all of them must be of."""
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise HTTPException(415, "Compressed bodies are not taken; send it without Content-Encoding.")
        try:
            parts = RelatedParts(request.headers.get("content-type", ""))
        except InputError as error:
            raise HTTPException(415, f"{error}.") from error
        _check_type(parts.root_type or "application/dicom")
        addresses = Addresses.of(request, self._config.dicomweb.link_base)
        transaction = _Transaction(client, request.path_params.get("study", ""), StoreResponse(addresses))
        try:
            async for piece in request.stream():
                await self._take(transaction, parts, piece)
            parts.check_complete()
            await run_in_threadpool(self._send, transaction)
        except InputError as error:
            raise HTTPException(400, f"{error}; {transaction.so_far}.") from error
        except (RejectedError, UnreachableError) as error:
            raise HTTPException(503, f"{error}; {transaction.so_far}.") from error
        except OSError as error:
            raise HTTPException(507, f"The disk refuses: {error.strerror}; {transaction.so_far}.") from error
        finally:
            for part in transaction.waiting:
                part.discard()
        response = transaction.response
        if not transaction.parts:
            raise HTTPException(400, "The request has no part.")
        logger.info("DICOMweb: %s stored %d instances, %d failed", client.name, response.stored, response.failed)
        return response.as_http()

    async def _take(self, transaction: _Transaction, parts: RelatedParts, piece: bytes) -> None:
        """Take the next piece of the body. Raises ``InputError``, ``HTTPException`` and as ``_send``."""
        contents: list[bytes] = []
        for event in parts.feed(piece):
            match event:
                case Beginning(media_type):
                    _check_type(media_type)
                    await run_in_threadpool(self._begin, transaction)
                case Content(data):
                    contents.append(data)
                case Ending():
                    part = transaction.waiting[-1]
                    await run_in_threadpool(self._append, transaction, part, contents)
                    part.close()
                    contents = []
                    if len(transaction.waiting) >= _BATCH_FILES or _bytes(transaction.waiting) >= _BATCH_BYTES:
                        await run_in_threadpool(self._send, transaction)
        if contents:
            await run_in_threadpool(self._append, transaction, transaction.waiting[-1], contents)

    def _begin(self, transaction: _Transaction) -> None:
        transaction.parts += 1
        if transaction.parts > _MOST_PARTS:
            raise HTTPException(413, f"More than {_MOST_PARTS} parts in one request.")
        if self._spool.space().is_below(self._config.storage.min_free_gib):
            raise HTTPException(507, "There is too little free space; images are refused.")
        transaction.waiting.append(ReceivedPart(self._spool.drafts.new(), transaction.parts))

    def _append(self, transaction: _Transaction, part: ReceivedPart, contents: Sequence[bytes]) -> None:
        transaction.received += sum(map(len, contents))
        if transaction.received > self._largest:
            limit = self._config.dicomweb.max_request_gib
            raise HTTPException(413, f"The request has more than {limit:g} GiB ([dicomweb] max_request_gib).")
        part.append(contents)

    def _send(self, transaction: _Transaction) -> None:
        """Send what waits to the receiver. Raises ``RejectedError`` or ``UnreachableError``."""
        batch, transaction.waiting = transaction.waiting, []
        try:
            identities = {part.name: part.identity(self._limits) for part in batch}
            sent: list[MediumFile] = []
            for part in batch:
                identity = identities[part.name]
                if identity is None or transaction.study in ("", identity.study_instance_uid):
                    sent.append(part)  # what is no instance, the upload or the receiver says why
                    continue
                reason = "its study is not the one of the address"
                refused = FileResult(
                    name=part.name,
                    kind=FileKind.REFUSED,
                    sop_class_uid=identity.sop_class_uid,
                    sop_instance_uid=identity.sop_instance_uid,
                    reason=reason,
                    status=OTHER_STUDY,
                )
                transaction.response.add(refused, identity)
            for result in upload_files(self._config, sent, transaction.client.settings.title):
                transaction.response.add(result, identities[result.name])
        finally:
            for part in batch:
                part.discard()


def _check_type(media_type: str) -> None:
    if media_type not in _DICOM:
        raise HTTPException(415, "Only parts of type application/dicom are taken.")


def _bytes(parts: Sequence[ReceivedPart]) -> int:
    return sum(part.size for part in parts)
