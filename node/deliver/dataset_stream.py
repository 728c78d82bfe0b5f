"""Data sets of C-STORE requests that an archive sends on an association of ours: to files, as their bytes come.

pynetdicom would have each data set in memory until it is whole. Its PDUs pass here first, and go on without their data.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Generic, Protocol, TypeVar

from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom import evt
from pynetdicom.dsutils import create_file_meta, decode, encode_file_meta
from pynetdicom.pdu import P_DATA_TF

from node.errors import DeliveryError
from node.studies.pydicom_errors import UNREADABLE

_C_STORE_RQ = 0x0001
"""Command Field (PS3.7 E.1)."""
_NO_DATASET = 0x0101
"""Command Data Set Type."""
_LONGEST_COMMAND = 1 << 16
"""Bytes."""
_COMMAND, _LAST = 1, 2
"""Bits of the Message Control Header (PS3.8 E.2)."""


class Part(Protocol):
    """A file that is being written."""

    def append(self, pieces: Sequence[bytes]) -> None:
        """Raises ``OSError`` when the disk refuses."""

    def close(self) -> None:
        """Nothing more is written."""

    def discard(self) -> None:
        """Delete it; may be called twice."""


P = TypeVar("P", bound=Part)
Key = tuple[int, int]
"""Presentation context ID and Message ID."""


class DatasetStream(Generic[P]):
    """The data sets of one association; bind ``receive`` to ``evt.EVT_PDU_RECV``."""

    def __init__(
        self, begin: Callable[[], P], excess: Callable[[int], str], end: Callable[[evt.Event, str], object]
    ) -> None:
        """``begin``: opens the file of the next object; it raises ``OSError``, and ``DeliveryError`` for one too many.

        ``excess``: why no more is taken when so many bytes have come that nobody has taken; empty: more is taken.
        ``end``: ends the association for a reason.
        """
        self._begin, self._excess, self._end = begin, excess, end
        self._command = bytearray()
        self._request: Dataset | None = None
        """The C-STORE request whose data set comes."""
        self._part: P | None = None
        self._size = 0
        """Bytes of this data set."""
        self._whole: dict[Key, tuple[P, int]] = {}
        """With the bytes of the data set."""
        self._waiting = 0
        """Bytes of all of them."""
        self._lock = threading.Lock()
        self._is_ended = False

    def receive(self, event: evt.Event) -> None:
        """Take the data out of a PDU; called where it is received, before anything else has it."""
        if not isinstance(event.pdu, P_DATA_TF):
            return
        for item in event.pdu.presentation_data_value_items:
            value = item.presentation_data_value or b"\1"
            if value[0] & _COMMAND:
                if not self._is_ended:
                    self._take_command(event, value)
            elif self._request is not None or self._is_ended:
                item.presentation_data_value = value[:1]
                if not self._is_ended:
                    self._take_data(event, int(item.context_id), value)

    def take(self, event: evt.Event) -> P | None:
        """Return the file of a C-STORE request, whoever calls discards it; ``None``: it came without a data set."""
        with self._lock:
            part, size = self._whole.pop((event.context.context_id, event.request.MessageID), (None, 0))
            self._waiting -= size
        return part

    def close(self) -> None:
        """Delete what nobody has taken, such as an object of which a part has come."""
        self._is_ended = True
        with self._lock:
            for part in (*(part for part, _ in self._whole.values()), self._part):
                if part is not None:
                    part.discard()

    def _take_command(self, event: evt.Event, value: bytes) -> None:
        self._command += value[1:]
        if len(self._command) > _LONGEST_COMMAND:
            self._stop(event, f"a command is longer than {_LONGEST_COMMAND} bytes")
        if not value[0] & _LAST:
            return
        data, self._command = BytesIO(self._command), bytearray()
        try:
            command = decode(data, True, True)
            is_data = command.CommandField == _C_STORE_RQ and command.CommandDataSetType != _NO_DATASET
        except UNREADABLE as error:
            self._stop(event, f"a command cannot be read ({type(error).__name__})")
            return
        self._request = command if is_data else None

    def _take_data(self, event: evt.Event, context_id: int, value: bytes) -> None:
        self._size += len(value) - 1
        if why := self._excess(self._waiting + self._size):
            self._stop(event, why)
            return
        try:
            if self._part is None:
                self._part = self._begin()
                self._part.append([bytes(128), b"DICM", self._file_meta(event, context_id)])
            self._part.append([value[1:]])
        except OSError as error:
            self._stop(event, f"the disk refuses an object: {error.strerror}")
            return
        except DeliveryError as error:
            self._stop(event, str(error))
            return
        if value[0] & _LAST:
            self._complete(event, context_id)

    def _complete(self, event: evt.Event, context_id: int) -> None:
        request, part, size = self._request, self._part, self._size
        self._request, self._part, self._size = None, None, 0
        if request is None or part is None:
            return
        part.close()
        key = (context_id, int(request.MessageID))
        with self._lock:
            is_known = key in self._whole
            if not is_known:
                self._whole[key] = part, size
                self._waiting += size
        if is_known:
            part.discard()
            self._stop(event, "two requests at a time have one Message ID")

    def _file_meta(self, event: evt.Event, context_id: int) -> bytes:
        request = self._request or Dataset()
        syntaxes = {context.context_id: context.transfer_syntax[0] for context in event.assoc.accepted_contexts}
        meta = create_file_meta(
            sop_class_uid=UID(str(request.get("AffectedSOPClassUID", ""))),
            sop_instance_uid=UID(str(request.get("AffectedSOPInstanceUID", ""))),
            transfer_syntax=syntaxes.get(context_id, UID("")),
        )
        return encode_file_meta(meta)

    def _stop(self, event: evt.Event, why: str) -> None:
        self._is_ended = True
        self._end(event, why)
