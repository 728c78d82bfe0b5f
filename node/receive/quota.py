"""How much of the spool each caller with a quota occupies."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy.exc import SQLAlchemyError

from node.receive.status import OUT_OF_RESOURCES, Refusal

LOGGER = logging.getLogger(__name__)

_FRESH_SECONDS = 10.0
"""How long a sum is used. What other processes take in between may exceed the quota by that much."""


@dataclass
class _Account:
    counted: int = 0
    counted_at: float = float("-inf")
    since: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Quota:
    """One for all associations of a process; their threads call it at the same time."""

    def __init__(self, occupied_bytes: Callable[[str], int]) -> None:
        """``occupied_bytes`` sums up what the ledger knows of a calling AE title."""
        self._occupied_bytes = occupied_bytes
        self._accounts: dict[str, _Account] = {}
        self._lock = threading.Lock()

    def exceeded(self, calling_ae: str, quota_gib: float) -> Refusal | None:
        """Why nothing more is taken from this caller; 0 is no quota."""
        if not quota_gib:
            return None
        account = self._account(calling_ae)
        with account.lock:
            if time.monotonic() - account.counted_at > _FRESH_SECONDS:
                self._count(calling_ae, account)
            occupied = (account.counted + account.since) / 2**30
        if occupied < quota_gib:
            return None
        return Refusal(OUT_OF_RESOURCES, f"quota of {quota_gib:g} GiB is used up")

    def add(self, calling_ae: str, size: int) -> None:
        """An image was kept."""
        account = self._accounts.get(calling_ae)
        if account is not None:
            with account.lock:
                account.since += size

    def _count(self, calling_ae: str, account: _Account) -> None:
        account.counted_at = time.monotonic()
        try:
            account.counted, account.since = self._occupied_bytes(calling_ae), 0
        except SQLAlchemyError as error:  # the last sum, and what came since, are good enough until it is back
            LOGGER.warning("the spool's share of %s could not be summed up: %s", calling_ae, error)

    def _account(self, calling_ae: str) -> _Account:
        with self._lock:
            return self._accounts.setdefault(calling_ae, _Account())
