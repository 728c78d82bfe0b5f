"""A-ASSOCIATE: decoding, negotiation and encoding by pynetdicom; ``policy`` decides what is supported."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import get_args

import pydicom.config
from pydicom.uid import UID
from pynetdicom import _config
from pynetdicom._globals import APPLICATION_CONTEXT_NAME
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
)
from pynetdicom.presentation import negotiate_as_acceptor

from node import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from node.config.network import Service
from node.receive.policy import Rejection, service_of, supported_contexts

MAXIMUM_PDU = 1 << 17
"""Maximum Length Received (PS3.8 D.1), bytes: dcmtk's maximum, an eighth of the PDUs of the usual 16 KiB."""

_USUAL_PDU = 1 << 14
_USER_REJECTION = 0x01
_ITEMS = frozenset((0x10, 0x20, 0x50))
_USER_INFORMATION = 0x50
_SUB_ITEMS = frozenset(range(0x51, 0x59))
_MALFORMED = (AssertionError, LookupError, TypeError, ValueError, struct.error)
"""Raised by pynetdicom on malformed items."""
_MOST_ITEMS = 512
"""In a request, and in its user information: 128 contexts (PS3.8 9.3.2.2), each with a few items of negotiation."""
_FIXED = 74
"""Bytes of an A-ASSOCIATE-RQ before its first item (PS3.8 9.3.2)."""


@dataclass(frozen=True)
class Context:
    """An accepted presentation context."""

    abstract_syntax: str
    transfer_syntax: str


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """An A-ASSOCIATE-RQ."""

    calling_ae: str
    called_ae: str
    maximum_length: int
    """Longest P-DATA-TF that the peer accepts, bytes; 0: no limit."""
    version_1: bool
    """The peer supports protocol version 1 (bit 0, PS3.8 9.3.2), the only one that is defined."""
    primitive: A_ASSOCIATE

    def services_beyond(self, services: Collection[str]) -> set[str]:
        """Return proposed services that the caller may not use."""
        proposed = (str(c.abstract_syntax) for c in self.primitive.presentation_context_definition_list)
        return {needed for uid in proposed if (needed := service_of(uid))} - set(services)

    @classmethod
    def parse(cls, pdu: bytes) -> Proposal:
        """Decode a complete PDU. Raises ``ValueError`` when it is malformed."""
        try:
            decoded = A_ASSOCIATE_RQ()
            decoded.decode(_known_items(pdu))
            primitive = decoded.to_primitive()
            proposed = {item.__class__: item for item in primitive.user_information}
            length = proposed.get(MaximumLengthNotification)
            return cls(
                calling_ae=str(primitive.calling_ae_title).strip(),
                called_ae=str(primitive.called_ae_title).strip(),
                maximum_length=_USUAL_PDU if length is None else int(length.maximum_length_received),
                version_1=bool(decoded.protocol_version & 1),
                primitive=primitive,
            )
        except _MALFORMED as error:
            raise ValueError(f"not an A-ASSOCIATE-RQ: {error}") from error

    def accept(self, services: Collection[str] = get_args(Service)) -> tuple[bytes, dict[int, Context]]:
        """Return the A-ASSOCIATE-AC and the accepted contexts by ID. Raises ``ValueError`` on an invalid proposal.

        Contexts of services that the caller may not use get result 1, user rejection (PS3.8 9.3.3.2). User identity,
        SOP class extended negotiation and asynchronous windows are not supported and not answered; the defaults of
        PS3.7 D.3.3 apply.
        """
        request = self.primitive
        try:
            supported = supported_contexts(
                (
                    (str(context.abstract_syntax), [str(uid) for uid in context.transfer_syntax])
                    for context in request.presentation_context_definition_list
                ),
                services,
            )
            roles = {
                item.sop_class_uid: (item.scu_role, item.scp_role)
                for item in request.user_information
                if isinstance(item, SCP_SCU_RoleSelectionNegotiation)
            }
            contexts, answers = negotiate_as_acceptor(
                request.presentation_context_definition_list,
                supported,
                roles,
            )
            for context in contexts:
                if (needed := service_of(str(context.abstract_syntax))) and needed not in services:
                    context.result = _USER_REJECTION
            answer = A_ASSOCIATE()
            answer.application_context_name = UID(APPLICATION_CONTEXT_NAME)
            answer.calling_ae_title = request.calling_ae_title
            answer.called_ae_title = request.called_ae_title
            answer.result, answer.result_source = 0x00, 0x01
            answer.presentation_context_definition_results_list = contexts
            answer.user_information = [*_our_information(), *answers]
            pdu = A_ASSOCIATE_AC(answer).encode()
        except _MALFORMED as error:
            raise ValueError(f"A-ASSOCIATE-RQ cannot be negotiated: {error}") from error
        accepted = {
            int(context.context_id or 0): Context(str(context.abstract_syntax), str(context.transfer_syntax[0]))
            for context in contexts
            if context.result == 0x00
        }
        return pdu, accepted


def rejected(rejection: Rejection) -> bytes:
    """Encode the A-ASSOCIATE-RJ."""
    primitive = A_ASSOCIATE()
    primitive.result = rejection.result
    primitive.result_source = rejection.source
    primitive.diagnostic = rejection.reason
    return A_ASSOCIATE_RJ(primitive).encode()


def prepare() -> None:
    """Set pydicom and pynetdicom, for the whole process, to tolerate invalid AE titles and UIDs.

    Warnings are off because Python stores each distinct one forever, and a peer can cause any number of them.
    """
    warnings.filterwarnings("ignore", category=UserWarning, module=r"pydicom\.")
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    _config.LOG_HANDLER_LEVEL = "none"  # its own handlers would log whole messages, patient names among them
    _config.CODECS = ("ascii", "latin-1")
    _config.VALIDATORS["UI"] = lambda _value: (True, "")


def _known_items(pdu: bytes) -> bytes:
    """Remove items and user information of unknown type, which must be ignored (PS3.8 9.3.1).

    pynetdicom would treat the PDU as malformed.
    """
    items = b"".join(
        _item(kind, b"".join(_item(*sub) for sub in _split(value) if sub[0] in _SUB_ITEMS))
        if kind == _USER_INFORMATION
        else _item(kind, value)
        for kind, value in _split(pdu[_FIXED:])
        if kind in _ITEMS
    )
    return pdu[:2] + (_FIXED - 6 + len(items)).to_bytes(4, "big") + pdu[6:_FIXED] + items


def _split(items: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and value of each item. Raises ``ValueError`` when the last one is cut off."""
    start = count = 0
    while start < len(items):
        end = start + 4 + int.from_bytes(items[start + 2 : start + 4], "big")
        count += 1
        if len(items) < end:
            raise ValueError(f"item of type {items[start]:#04x} is longer than the item that contains it")
        if count > _MOST_ITEMS:
            raise ValueError(f"more than {_MOST_ITEMS} items")
        yield items[start], items[start + 4 : end]
        start = end


def _item(kind: int, value: bytes) -> bytes:
    return bytes((kind, 0)) + len(value).to_bytes(2, "big") + value


def _our_information() -> list[
    MaximumLengthNotification | ImplementationClassUIDNotification | ImplementationVersionNameNotification
]:
    length = MaximumLengthNotification()
    length.maximum_length_received = MAXIMUM_PDU
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    version = ImplementationVersionNameNotification()
    version.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    return [length, implementation, version]
