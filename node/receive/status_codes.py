"""Status codes of the receiver's responses (PS3.4 table B.2-1 and F.7.2, PS3.7 annex C).

``node.receive.storage`` (C-STORE, the full disk too) and ``node.receive.normalized`` decide which one is answered.
"""

from __future__ import annotations

from dataclasses import dataclass

SUCCESS = 0x0000
"""The file of the instance is durable, and its row is written or will provably be written."""
PENDING = 0xFF00
"""A match of a C-FIND; more answers follow (PS3.4 C.4.1.1.4)."""
PROCESSING_FAILURE = 0x0110
"""The node failed; the sender may try again (PS3.7 C.5.19)."""
INVALID_ATTRIBUTE_VALUE = 0x0106
"""PS3.7 C.5.8."""
DUPLICATE_INSTANCE = 0x0111
"""PS3.7 C.5.6."""
NO_SUCH_INSTANCE = 0x0112
"""PS3.7 C.5.18."""
INVALID_ARGUMENT = 0x0115
"""PS3.7 C.5.7."""
INVALID_INSTANCE = 0x0117
"""PS3.7 C.5.12."""
MISSING_ATTRIBUTE = 0x0120
"""PS3.7 C.5.14."""
NO_SUCH_ACTION = 0x0123
"""PS3.7 C.5.16."""
NOT_AUTHORIZED = 0x0124
"""The object belongs to another device (N-SET: PS3.7 10.1.3.1.9)."""
NO_LONGER_UPDATED = 0xA710
"""Error ID (0000,0903) of a processing failure: the procedure step is final (PS3.4 F.7.2.2.2)."""
SOP_CLASS_NOT_SUPPORTED = 0x0122
"""The SOP Class of the request differs from that of its presentation context (PS3.7 C.5.20)."""
RESOURCE_LIMITATION = 0x0213
"""A device has too many procedure steps or Storage Commitment requests here (PS3.7 C.5.17)."""
UNRECOGNISED_OPERATION = 0x0211
"""The node does not provide this service (PS3.7 C.5.24)."""
NO_SUCH_WORKITEM = 0xC307
"""No Unified Procedure Step of this SCP (PS3.4 tables CC.2.2-2 and CC.2.7-1)."""
ALREADY_CANCELED = 0xB304
"""Request for cancellation of a Unified Procedure Step that is canceled (PS3.4 table CC.2.2-2)."""
ALREADY_COMPLETED = 0xC311
"""As before, of one that is completed."""
NOT_CANCELED = 0xC313
"""As before: the performer chooses not to cancel."""
"""Subscription to a Unified Procedure Step without the deletion lock that was asked for (PS3.4 table CC.2.3-3)."""
UNKNOWN_RECEIVER = 0xC308
"""Subscription of an AE whose address the node does not know (PS3.4 table CC.2.3-3)."""
INAPPROPRIATE_ACTION = 0xC314
"""Suspension of a subscription to a single Unified Procedure Step (PS3.4 table CC.2.3-3)."""
NO_LONGER_UPDATABLE = 0xC300
"""Change of a Unified Procedure Step that has ended (PS3.4 tables CC.2.1-2 and CC.2.6-2)."""
WRONG_TRANSACTION = 0xC301
"""Change of one in progress: the Transaction UID is not that of its performer."""
ALREADY_IN_PROGRESS = 0xC302
"""Claim of one in progress."""
CANNOT_BECOME_SCHEDULED = 0xC303
"""Change to SCHEDULED."""
NOT_IN_PROGRESS = 0xC310
"""Change of one that is SCHEDULED."""
IS_COMPLETED = 0xB306
"""Change to COMPLETED of one that is COMPLETED."""
OUT_OF_RESOURCES = 0xA700
"""Disk or ledger cannot store the instance now; the sender should try again."""
DOES_NOT_MATCH_SOP_CLASS = 0xA900
"""The SOP Class of the data set differs from the request."""
CANNOT_UNDERSTAND = 0xC000
"""The data set is missing or malformed."""
UID_UNUSABLE = 0xC001
"""A UID of the request or of the data set is missing or invalid (PS3.5 9.1)."""
INSTANCE_MISMATCH = 0xC002
"""The SOP Instance of the data set differs from the request."""


@dataclass(frozen=True)
class Refusal:
    """A failure status with the reason for the sender's operator."""

    status: int
    comment: str
    """Error Comment (0000,0902), LO: at most 64 characters of the default repertoire."""

    def __post_init__(self) -> None:
        """Truncate and clean the comment, which may quote the sender's data."""
        clean = "".join(c if " " <= c <= "~" and c != "\\" else "?" for c in self.comment)
        object.__setattr__(self, "comment", clean[:64])
