"""Acknowledgments (HL7 2.5.1 chapter 2.9.2, original mode). Pure: the same receipt always gives the same bytes."""

from __future__ import annotations

from datetime import UTC, datetime

from node.ledger.order_messages import Receipt
from node.orders.hl7_text import Segment

_ESCAPES = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"}
_LONGEST = 256


def acknowledgment(receipt: Receipt, header: Segment | None) -> bytes:
    """Encode the answer to the message with this MSH; ``None``: it could not be read."""
    parties, trigger, processing, version = "|||", "", "P", "2.5.1"
    if header is not None:
        parties = "|".join(_text(header.text(number)) for number in (5, 6, 3, 4))
        trigger, processing = _text(header.text(9, 2)), _text(header.text(11)) or "P"
        version = _text(header.text(12)) or version
    at = datetime.fromtimestamp(receipt.received_at, UTC).strftime("%Y%m%d%H%M%S+0000")
    kind = f"ACK^{trigger}" if trigger else "ACK"
    head = rf"MSH|^~\&|{parties}|{at}||{kind}|{receipt.id[:20]}|{processing}|{version}"
    answer = f"MSA|{receipt.answer}|{_text(receipt.control_id)}"
    if not receipt.reason:
        return f"{head}\r{answer}\r".encode("latin-1", "replace")
    why = _text(receipt.reason)
    code = "102^Data type error^HL70357" if receipt.answer == "AE" else "200^Unsupported message type^HL70357"
    return f"{head}\r{answer}|{why}\rERR|||{code}|E||||{why}\r".encode("latin-1", "replace")


def _text(value: str) -> str:
    return "".join(_ESCAPES.get(c, c if c.isprintable() else " ") for c in value[:_LONGEST])
