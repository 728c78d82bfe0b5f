"""The parts of a multipart/related body (RFC 2387), read from hostile ground in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from node.errors import InputError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_MOST_FIELDS = 16
"""Header fields of a part."""
_LONGEST_FIELD = 1024


@dataclass(frozen=True)
class Beginning:
    """The header of a part has been read."""

    media_type: str
    """Without parameters, in lower case; empty where the part states none."""


@dataclass(frozen=True)
class Content:
    """Bytes of the part that has begun last."""

    data: bytes


@dataclass(frozen=True)
class Ending:
    """The part is complete."""


Event = Beginning | Content | Ending


class RelatedParts:
    """Splits a body that comes in pieces."""

    def __init__(self, content_type: str) -> None:
        """``content_type``: of the request. Raises ``InputError`` when it is not multipart/related with a boundary."""
        kind, parameters = parse_options_header(content_type)
        boundary = parameters.get(b"boundary", b"")
        if kind.lower() != b"multipart/related" or not boundary:
            raise InputError("Content-Type must be multipart/related with a boundary")
        self.root_type = parameters.get(b"type", b"").decode("latin-1").lower()
        """What the request says of its parts; empty: nothing."""
        self._events: list[Event] = []
        self._field = self._value = b""
        self._media_type = ""
        self._is_complete = False
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._part_begins,
            "on_header_field": self._field_continues,
            "on_header_value": self._value_continues,
            "on_header_end": self._field_ends,
            "on_headers_finished": lambda: self._events.append(Beginning(self._media_type)),
            "on_part_data": lambda data, start, end: self._events.append(Content(data[start:end])),
            "on_part_end": lambda: self._events.append(Ending()),
            "on_end": self._ends,
        }
        try:
            self._parser = MultipartParser(
                boundary, callbacks, max_header_count=_MOST_FIELDS, max_header_size=_LONGEST_FIELD
            )
        except FormParserError as error:
            raise InputError("the boundary of Content-Type is too long") from error

    def feed(self, piece: bytes) -> Iterator[Event]:
        """Return what has become known with the next piece of the body. Raises ``InputError`` for other syntax."""
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise InputError("the body is not multipart/related with the boundary of Content-Type") from error
        events, self._events = self._events, []
        return iter(events)

    def check_complete(self) -> None:
        """Raise ``InputError`` unless the closing boundary was read."""
        if not self._is_complete:
            raise InputError("the body ends before its closing boundary")

    def _part_begins(self) -> None:
        self._media_type = ""

    def _field_continues(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _value_continues(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _field_ends(self) -> None:
        if self._field.lower() == b"content-type":
            self._media_type = parse_options_header(self._value)[0].decode("latin-1").lower()
        self._field = self._value = b""

    def _ends(self) -> None:
        self._is_complete = True
