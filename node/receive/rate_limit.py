"""Limit on association requests per minute and address, over all receiver processes of a fleet."""

from __future__ import annotations

import threading
import time
from collections import deque

from node.receive.association_slots import AssociationSlots, Kind, Limit

SECONDS = 60.0
"""How long a request counts."""


class RateLimit:
    """Each request takes one slot of its address and keeps it for a minute."""

    def __init__(self, slots: AssociationSlots, most: int) -> None:
        """``most``: requests per minute; 0: no limit."""
        self._slots = slots
        self._most = most
        self._taken: deque[tuple[float, tuple[int, ...]]] = deque()
        self._lock = threading.Lock()

    def allows(self, address: str) -> bool:
        """Count one request and return whether it is within the limit of its address."""
        if not self._most:
            return True
        self.expire()
        with self._lock:
            slots = self._slots.take([Limit(Kind.RATE, address, self._most, in_fleet=True)])
            if isinstance(slots, Limit):
                return False
            self._taken.append((time.monotonic(), slots))
            return True

    def expire(self) -> None:
        """Give back the slots of requests that were a minute ago, for which no further request may ever come here."""
        at = time.monotonic()
        with self._lock:
            while self._taken and at - self._taken[0][0] > SECONDS:
                self._slots.give_back(self._taken.popleft()[1])
