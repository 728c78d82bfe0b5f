"""Command sets (PS3.7 6.3, annex E): Implicit VR Little Endian, group 0000 only, each element a few bytes.

Read and written without a pydicom data set, which would take longer than the rest of a small C-STORE.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

C_STORE_RQ = 0x0001
C_FIND_RQ = 0x0020
C_ECHO_RQ = 0x0030
C_CANCEL_RQ = 0x0FFF
N_EVENT_REPORT_RQ = 0x0100
N_GET_RQ = 0x0110
N_SET_RQ = 0x0120
N_ACTION_RQ = 0x0130
N_CREATE_RQ = 0x0140
NORMALIZED = frozenset((N_EVENT_REPORT_RQ, N_GET_RQ, N_SET_RQ, N_ACTION_RQ, N_CREATE_RQ))
SERVED = NORMALIZED | {C_FIND_RQ}
"""Requests whose data set is decoded, and answered by a service."""
RESPONSE = 0x8000
"""Set in the Command Field of every response."""

_NO_DATA_SET, _DATA_SET = 0x0101, 0x0001
_ELEMENT = struct.Struct("<HHL")
_AFFECTED_CLASS, _REQUESTED_CLASS = 0x0002, 0x0003
_AFFECTED_INSTANCE, _REQUESTED_INSTANCE = 0x1000, 0x1001
_GROUP_LENGTH, _FIELD, _MESSAGE_ID, _RESPONDED_TO, _DATA_SET_TYPE = 0x0000, 0x0100, 0x0110, 0x0120, 0x0800
_STATUS, _ERROR_COMMENT, _ERROR_ID = 0x0900, 0x0902, 0x0903
_EVENT_TYPE, _ATTRIBUTES, _ACTION_TYPE = 0x1002, 0x1005, 0x1008
_TYPES = {N_EVENT_REPORT_RQ: _EVENT_TYPE, N_ACTION_RQ: _ACTION_TYPE}


@dataclass(frozen=True, slots=True)
class Command:
    """One command set."""

    elements: dict[int, bytes]
    """Element number -> encoded value."""
    field: int
    """Command Field: the operation or notification."""
    has_data_set: bool

    @classmethod
    def parse(cls, encoded: bytes) -> Command:
        """Parse a command set. Raises ``ValueError`` when it is malformed or has no Command Field."""
        elements, position, end = {}, 0, len(encoded)
        while position < end:
            value = position + _ELEMENT.size
            if value > end:
                raise ValueError("command set ends within an element")
            group, element, length = _ELEMENT.unpack_from(encoded, position)
            position = value + length
            if group or position > end:
                raise ValueError(f"command set with an invalid element ({group:04x},{element:04x})")
            elements[element] = encoded[value:position]
        field = elements.get(_FIELD, b"")
        if len(field) != 2:
            raise ValueError("command set without Command Field (0000,0100)")
        data_set_type = elements.get(_DATA_SET_TYPE, b"\1\1")
        return cls(
            elements,
            field=int.from_bytes(field, "little"),
            has_data_set=int.from_bytes(data_set_type, "little") != _NO_DATA_SET,
        )

    @property
    def has_message_id(self) -> bool:
        return len(self.elements.get(_MESSAGE_ID, b"")) == 2

    @property
    def responded_to(self) -> int:
        """Message ID Being Responded To, of a response."""
        return int.from_bytes(self.elements.get(_RESPONDED_TO, b""), "little")

    @property
    def status(self) -> int:
        """Status of a response; a missing one counts as processing failure."""
        return int.from_bytes(self.elements.get(_STATUS, b"\x10\1"), "little")

    @property
    def type_id(self) -> int:
        """Event Type ID or Action Type ID; 0 when there is none."""
        return int.from_bytes(self.elements.get(_TYPES.get(self.field, 0), b""), "little")

    @property
    def sop_class_uid(self) -> str:
        """Affected or Requested SOP Class UID; "" when there is none."""
        return _text(self.elements.get(_AFFECTED_CLASS, self.elements.get(_REQUESTED_CLASS, b"")))

    @property
    def sop_instance_uid(self) -> str:
        """Affected or Requested SOP Instance UID; "" when there is none."""
        return _text(self.elements.get(_AFFECTED_INSTANCE, self.elements.get(_REQUESTED_INSTANCE, b"")))

    @property
    def attributes(self) -> tuple[int, ...]:
        """Attribute Identifier List of an N-GET request: tags as numbers; empty: all attributes."""
        encoded = self.elements.get(_ATTRIBUTES, b"")
        pairs = struct.iter_unpack("<HH", encoded[: len(encoded) // 4 * 4])
        return tuple(group << 16 | element for group, element in pairs)

    def response(
        self,
        status: int,
        comment: str = "",
        *,
        error_id: int | None = None,
        sop_instance_uid: str = "",
        has_data_set: bool = False,
    ) -> bytes:
        """Encode the response to this request (PS3.7 9.3, 10.3). ``has_data_set``: one follows.

        ``sop_instance_uid``: UID that this node chose for an N-CREATE request without one.
        """
        type_id = _TYPES.get(self.field)
        values = {
            _AFFECTED_CLASS: self.elements.get(_AFFECTED_CLASS, self.elements.get(_REQUESTED_CLASS)),
            _FIELD: (self.field | RESPONSE).to_bytes(2, "little"),
            _RESPONDED_TO: self.elements[_MESSAGE_ID],
            _DATA_SET_TYPE: (_DATA_SET if has_data_set else _NO_DATA_SET).to_bytes(2, "little"),
            _STATUS: status.to_bytes(2, "little"),
            _ERROR_COMMENT: comment.encode("ascii") or None,
            _ERROR_ID: None if error_id is None else error_id.to_bytes(2, "little"),
            _AFFECTED_INSTANCE: _uid(sop_instance_uid)
            or self.elements.get(_AFFECTED_INSTANCE, self.elements.get(_REQUESTED_INSTANCE)),
        }
        if type_id is not None:
            values[type_id] = self.elements.get(type_id)
        return _encoded(values)


def event_report_request(message_id: int, *, sop_class_uid: str, sop_instance_uid: str, event_type: int) -> bytes:
    """Encode the command set of an N-EVENT-REPORT-RQ with data set (PS3.7 10.3.1.1)."""
    return _encoded(
        {
            _AFFECTED_CLASS: _uid(sop_class_uid),
            _FIELD: N_EVENT_REPORT_RQ.to_bytes(2, "little"),
            _MESSAGE_ID: message_id.to_bytes(2, "little"),
            _DATA_SET_TYPE: b"\0\0",
            _AFFECTED_INSTANCE: _uid(sop_instance_uid),
            _EVENT_TYPE: event_type.to_bytes(2, "little"),
        }
    )


def _encoded(values: dict[int, bytes | None]) -> bytes:
    body = b"".join([_element(number, value) for number, value in values.items() if value is not None])
    return _element(_GROUP_LENGTH, len(body).to_bytes(4, "little")) + body


def _element(number: int, value: bytes) -> bytes:
    padded = value + b" " * (len(value) % 2)
    return _ELEMENT.pack(0, number, len(padded)) + padded


def _uid(value: str) -> bytes:
    return value.encode("ascii") + b"\0" * (len(value) % 2)


def _text(value: bytes) -> str:
    return value.decode("latin-1").strip(" \0")
