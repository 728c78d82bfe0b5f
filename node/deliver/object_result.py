"""What became of one object: the answer of a destination, whatever its kind."""

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
    """Status (0000,0900) or its like; ``None``: no answer."""
    comment: str
    """The status in words, with what the peer said."""
    lost: bool = False
    """Nothing more can be sent now."""
    sent: Sent | None = None
    """A transcoded object that was sent in place of the stored file."""
    not_negotiated: bool = False
    """It was not sent: the peer accepted no presentation context for it."""

    @property
    def for_good(self) -> bool:
        """It refuses this very object, and will until somebody changes something (0xA9xx, 0xCxxx: PS3.4 B.2.3)."""
        status = self.status or 0
        return status & 0xFF00 == 0xA900 or status & 0xF000 == 0xC000 or status in _FOR_GOOD


Store = Callable[[PendingObject], Answer]
"""Sends one object and waits for its answer."""
