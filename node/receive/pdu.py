"""PDUs of PS3.8 9.3 that this node encodes and decodes itself: headers, A-ABORT, A-RELEASE-RP, P-DATA-TF."""

from __future__ import annotations

import struct
from collections.abc import Iterator

ASSOCIATE_RQ, P_DATA_TF, RELEASE_RQ, RELEASE_RP, ABORT = 1, 4, 5, 6, 7
KINDS = range(1, 8)
HEADER = struct.Struct(">BxL")
"""Type and length of a PDU (PS3.8 9.3.1)."""
PDV = struct.Struct(">LBB")
"""Length, context and message control header of a Presentation Data Value (PS3.8 9.3.5, E.2)."""
RELEASE_RP_PDU = HEADER.pack(RELEASE_RP, 4) + bytes(4)
LONGEST_REQUEST = 1 << 20
"""A longer A-ASSOCIATE-RQ is not read. One of 128 contexts with all syntaxes has about 300 KiB."""
LONGEST = 1 << 24
"""A longer PDU aborts the association before memory is allocated. P-DATA-TF PDUs have the negotiated length, to which
some peers add their headers."""

USER, PROVIDER = 0, 2
"""Source of an A-ABORT (PS3.8 9.3.8)."""
UNRECOGNISED_PDU, UNEXPECTED_PDU, INVALID_PARAMETER = 1, 2, 6


class AbortError(Exception):
    """The association cannot continue; an A-ABORT is sent."""

    def __init__(self, source: int, reason: int = 0) -> None:
        super().__init__(source, reason)
        self.pdu = HEADER.pack(ABORT, 4) + bytes((0, 0, source, reason))


def p_data_pdus(context_id: int, encoded: bytes, maximum_length: int, *, is_command: bool) -> Iterator[bytes]:
    """Encode a command set or data set as P-DATA-TF PDUs of the negotiated length (PS3.8 D.1)."""
    size = max(maximum_length - PDV.size, 2) if maximum_length else len(encoded)
    for start in range(0, len(encoded), size):
        part = encoded[start : start + size]
        control = is_command | (0 if start + size < len(encoded) else 2)
        yield HEADER.pack(P_DATA_TF, len(part) + PDV.size) + PDV.pack(len(part) + 2, context_id, control) + part
