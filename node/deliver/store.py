"""C-STORE of stored files over an open association: the bytes as they are, the answer in words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import _config, build_context
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from pynetdicom.status import STORAGE_SERVICE_CLASS_STATUS

from node.deliver.association import Timeouts
from node.errors import PlatformError
from node.ledger.deliveries import Owed

# Files given by path go out as they are stored; without this pynetdicom decodes and encodes them again.
_config.STORE_SEND_CHUNKED_DATASET = True

_UNCOMPRESSED = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
"""Transfer syntaxes between which an object is converted when the peer takes only the other."""

_SLOWEST_BYTES_PER_SECOND = 250_000
"""A peer that takes less than this is treated as hanging."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What became of one C-STORE request."""

    status: int | None
    """Status (0000,0900); ``None``: no answer."""
    comment: str
    """The status in words, with the peer's Error Comment (0000,0902)."""
    lost: bool = False
    """The association is gone; nothing more can be sent on it."""


def contexts_for(owed: Iterable[Owed]) -> list[PresentationContext]:
    """One presentation context for each pair of SOP class and transfer syntax that is needed.

    Where the object is uncompressed, a second one offers the other uncompressed transfer syntax.
    """
    contexts = []
    for sop_class, syntax in sorted({(o.sop_class_uid, o.transfer_syntax_uid) for o in owed}):
        contexts.append(build_context(sop_class, [syntax]))
        if syntax in _UNCOMPRESSED:
            contexts.append(build_context(sop_class, [other for other in _UNCOMPRESSED if other != syntax]))
    return contexts


def store(association: Association, owed: Owed, path: Path, timeouts: Timeouts) -> Answer:
    """Send one file and wait for its answer. Raises ``PlatformError`` when the file cannot be read."""
    accepted = {c.transfer_syntax[0] for c in association.accepted_contexts if c.abstract_syntax == owed.sop_class_uid}
    usable = set(_UNCOMPRESSED) if owed.transfer_syntax_uid in _UNCOMPRESSED else {owed.transfer_syntax_uid}
    named = f"{UID(owed.sop_class_uid).name} in {UID(owed.transfer_syntax_uid).name}"
    if not accepted & usable:
        return Answer(status=None, comment=f"presentation context refused: {named}")
    association.dimse_timeout = timeouts.store_seconds + owed.size / _SLOWEST_BYTES_PER_SECOND
    try:
        response = association.send_c_store(path if owed.transfer_syntax_uid in accepted else dcmread(path))
    except OSError as error:
        raise PlatformError(f"result {path} cannot be read ({error}); check the disk, or retry the job") from error
    except RuntimeError:
        return Answer(status=None, comment="the association was closed by the peer", lost=True)
    if "Status" not in response:
        return Answer(status=None, comment=f"no answer to C-STORE of {named}", lost=True)
    _, words = STORAGE_SERVICE_CLASS_STATUS.get(response.Status, ("", "status unknown to the standard"))
    comment = " ".join(str(response.get("ErrorComment", "")).split())
    return Answer(status=int(response.Status), comment=f"{words}: {comment}" if comment else words)
