"""The audit trail of what clients retrieve: once for each client and study within some time."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

import sqlalchemy as sa

from node.ledger import NoticeKind
from node.ledger.audit_events import give_notice

_AGAIN_SECONDS = 600.0
_KEPT = 10_000


class Accesses:
    """Notes retrievals: a viewer asks for each frame."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._noted: OrderedDict[tuple[str, str, str], float] = OrderedDict()
        self._lock = threading.Lock()

    def note(self, client: str, address: str, study: str) -> None:
        """Note that a client retrieves objects of a study; raises what the ledger raises, and nothing is sent then."""
        key, at = (client, address, study), time.monotonic()
        with self._lock:
            if at - self._noted.get(key, -_AGAIN_SECONDS) < _AGAIN_SECONDS:
                return
        detail = f"retrieved objects of study {study} by DICOMweb"
        give_notice(self._engine, NoticeKind.ACT, who=client, address=address, detail=detail)
        with self._lock:
            self._noted[key] = at
            self._noted.move_to_end(key)
            while len(self._noted) > _KEPT:
                self._noted.popitem(last=False)
