"""C-STORE over one association: the stored bytes, or a conversion if the peer does not accept their syntax."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydicom.uid import UID
from pynetdicom import _config, build_context
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from pynetdicom.status import STORAGE_SERVICE_CLASS_STATUS

from node.deliver.association import Peer, Timeouts, associate, close_connection
from node.deliver.object_result import Answer, Store
from node.deliver.transcode import UNCOMPRESSED, transcoded
from node.errors import EncodeError, PlatformError
from node.ledger.pending_deliveries import PendingObject
from node.spool import Spool

# Send files as they are stored; by default pynetdicom decodes and encodes them.
_config.STORE_SEND_CHUNKED_DATASET = True

_LARGE = 16 << 20
"""Bytes of a file that is never in memory as a whole."""
_MOST_QUEUED = 64
"""PDUs of it that wait to be sent."""
_LOOK_SECONDS = 0.001
SLOWEST_BYTES_PER_SECOND = 250_000
"""A peer slower than this is treated as hanging."""


def contexts_for(instances: Iterable[PendingObject]) -> list[PresentationContext]:
    """Build a presentation context per SOP class and transfer syntax: that of the file, and uncompressed ones."""
    pairs = {(o.sop_class_uid, syntax) for o in instances for syntax in (o.transfer_syntax_uid, *UNCOMPRESSED)}
    return [build_context(sop_class, [syntax]) for sop_class, syntax in sorted(pairs)]


@contextmanager
def cstore_store(
    peer: Peer, calling_title: str, instances: Iterable[PendingObject], spool: Spool, timeouts: Timeouts
) -> Iterator[Store]:
    """Open one association for all objects. Raises ``DeliveryError`` when that fails."""
    with associate(peer, calling_title, contexts_for(instances), timeouts) as association:
        yield lambda pending: _store(association, pending, spool, timeouts)


def _store(association: Association, instance: PendingObject, spool: Spool, timeouts: Timeouts) -> Answer:
    contexts = association.accepted_contexts
    accepted = {c.transfer_syntax[0] for c in contexts if c.abstract_syntax == instance.sop_class_uid}
    description = f"{UID(instance.sop_class_uid).name} in {UID(instance.transfer_syntax_uid).name}"
    instead = next((syntax for syntax in UNCOMPRESSED if syntax in accepted), None)
    try:
        if instance.transfer_syntax_uid in accepted:
            return send_file(association, spool.readable(instance.path), timeouts, description)
        if instead is None:
            return Answer(status=None, comment=f"presentation context refused: {description}", not_negotiated=True)
        with transcoded(spool, instance.path, instead) as (path, sent):
            answer = send_file(association, path, timeouts, f"{description}, converted to {UID(instead).name}")
            return replace(answer, sent=sent)
    except EncodeError as error:
        return Answer(status=None, comment=f"presentation context refused: {description}; {error}")
    except OSError as error:
        raise PlatformError(f"{instance.path} cannot be read ({error}); check the disk, or retry the job") from error


@contextmanager
def _reading_slowly(association: Association, seconds: float) -> Iterator[None]:
    """Read a file no faster than the peer takes it, for at most so many seconds.

    pynetdicom would read as fast as the disk is, and have in memory what the peer has not taken.
    """
    dul = association.dul
    send = dul.send_pdu

    def send_pdu(primitive: Any) -> None:
        while (
            dul.to_provider_queue.qsize() >= _MOST_QUEUED and dul.is_alive() and threading.current_thread() is not dul
        ):
            time.sleep(_LOOK_SECONDS)
        send(primitive)

    late = threading.Timer(seconds, close_connection, [association])
    late.daemon = True
    late.start()
    dul.send_pdu = send_pdu
    try:
        yield
    finally:
        late.cancel()
        dul.send_pdu = send


def send_file(association: Association, path: Path, timeouts: Timeouts, description: str) -> Answer:
    """Send a file in its own transfer syntax. Raises ``ValueError`` when no presentation context fits."""
    size = path.stat().st_size
    association.dimse_timeout = seconds = timeouts.store_seconds + size / SLOWEST_BYTES_PER_SECOND
    try:
        with _reading_slowly(association, seconds) if size > _LARGE else nullcontext():
            response = association.send_c_store(path)
    except RuntimeError:
        return Answer(status=None, comment="the association was closed by the peer", lost=True)
    if "Status" not in response:
        return Answer(status=None, comment=f"no response to C-STORE of {description}", lost=True)
    _, words = STORAGE_SERVICE_CLASS_STATUS.get(response.Status, ("", "status unknown to the standard"))
    comment = " ".join(str(response.get("ErrorComment", "")).split())
    return Answer(status=int(response.Status), comment=f"{words}: {comment}" if comment else words)
