"""Spool usage of callers with a quota."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy.exc import SQLAlchemyError

from node.receive.status_codes import OUT_OF_RESOURCES, Refusal

LOGGER = logging.getLogger(__name__)

FRESH_SECONDS = 10.0
"""How long a sum is used; other processes and machines may exceed the quota by what they store in this time."""


@dataclass
class _Usage:
    counted: int = 0
    counted_at: float = float("-inf")
    since: int = 0
    receiving: int = 0
    """Bytes of instances that are not complete."""
    lock: threading.Lock = field(default_factory=threading.Lock)


class Quota:
    """Checks quotas. One object for all associations of a process; thread-safe."""

    def __init__(self, occupied_bytes: Callable[[str], int]) -> None:
        """``occupied_bytes`` returns the total size that the ledger has for a calling AE title."""
        self._occupied_bytes = occupied_bytes
        self._usages: dict[str, _Usage] = {}
        self._lock = threading.Lock()

    def exceeded(self, calling_ae: str, quota_gib: float) -> Refusal | None:
        """Return a refusal if the caller's quota is used up; 0: no quota."""
        if not quota_gib:
            return None
        usage = self._usage(calling_ae)
        with usage.lock:
            if time.monotonic() - usage.counted_at > FRESH_SECONDS:
                self._count(calling_ae, usage)
            occupied = (usage.counted + usage.since + usage.receiving) / 2**30
        if occupied < quota_gib:
            return None
        return Refusal(OUT_OF_RESOURCES, f"quota of {quota_gib:g} GiB exceeded")

    def receive(self, calling_ae: str, size: int) -> None:
        """Count bytes of an instance that is being received; negative when it has ended."""
        usage = self._usages.get(calling_ae)
        if usage is not None:
            with usage.lock:
                usage.receiving += size

    def add(self, calling_ae: str, size: int) -> None:
        """Count a stored instance."""
        usage = self._usages.get(calling_ae)
        if usage is not None:
            with usage.lock:
                usage.since += size

    def _count(self, calling_ae: str, usage: _Usage) -> None:
        usage.counted_at = time.monotonic()
        try:
            usage.counted, usage.since = self._occupied_bytes(calling_ae), 0
        except SQLAlchemyError as error:  # until the ledger is back, use the last sum plus what was stored since
            LOGGER.warning("spool usage of %s could not be computed: %s", calling_ae, error)

    def _usage(self, calling_ae: str) -> _Usage:
        with self._lock:
            return self._usages.setdefault(calling_ae, _Usage())
