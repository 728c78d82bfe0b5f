"""The result of sending one object to a destination of any kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from node.ledger.deliveries import Sent
from node.ledger.pending_deliveries import PendingObject

_FOR_GOOD = (0x0122, 0x0124)
"""SOP Class not supported, not authorised (PS3.7 C.5)."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer to one object."""

    status: int | None
    """Status (0000,0900) or its equivalent; ``None``: no response."""
    comment: str
    """Meaning of the status and the peer's comment."""
    lost: bool = False
    """The connection is lost; nothing more can be sent now."""
    sent: Sent | None = None
    """The converted object, if the stored file was not sent itself."""
    withheld: bool = False
    """This node does not send the object: it could not be de-identified with certainty."""
    not_negotiated: bool = False
    """Not sent, because the peer accepted no presentation context for it."""

    @property
    def for_good(self) -> bool:
        """Whether the same would happen to this object again (0xA9xx, 0xCxxx: PS3.4 B.2.3)."""
        status = self.status or 0
        return self.withheld or status & 0xFF00 == 0xA900 or status & 0xF000 == 0xC000 or status in _FOR_GOOD


Store = Callable[[PendingObject], Answer]
"""Sends one object and waits for the response."""
