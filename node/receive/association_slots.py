"""Limits on connections and associations that all receiver processes of a node share.

A slot is one locked byte of a file that every process inherits. The kernel unlocks the slots of a process that ends,
even after a kill, so nothing has to be counted again.
"""

from __future__ import annotations

import fcntl
import os
import threading
import weakref
import zlib
from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

_LIMIT_BYTES = 4096
"""Distance between the slots of two limits: more than any limit may allow."""
_KIND_BYTES = _LIMIT_BYTES << 32
"""Distance between two kinds of limits: a peer that chooses its title cannot choose the slots of an address."""


class Kind(IntEnum):
    """What a limit counts."""

    ASSOCIATIONS = 0
    OF_TITLE = 1
    RESERVED = 2
    CONNECTIONS = 3
    RATE = 4


class Limit(NamedTuple):
    """A limit and whose it is."""

    kind: Kind
    owner: str
    """AE title or address; "" for all."""
    size: int


class AssociationSlots:
    """The slots that this process holds. Record locks belong to a process, so its threads share this object."""

    def __init__(self, descriptor: int) -> None:
        """``descriptor``: of a file used for nothing else; closed with this object."""
        self._file = descriptor
        weakref.finalize(self, os.close, descriptor)
        self._held: set[int] = set()
        self._lock = threading.Lock()

    def take(self, limits: Iterable[Limit]) -> tuple[int, ...] | Limit:
        """Take one slot of each limit, or return a limit that is reached."""
        taken: list[int] = []
        with self._lock:
            for limit in limits:
                region = limit.kind * _KIND_BYTES + zlib.crc32(limit.owner.encode("utf-8")) * _LIMIT_BYTES
                slot = self._lock_slot(region, limit.size)
                if slot is None:
                    self._unlock(taken)
                    return limit
                taken.append(slot)
        return tuple(taken)

    def take_any(self, alternatives: Iterable[Iterable[Limit]]) -> tuple[int, ...] | Limit:
        """Take slots of the first alternative that has them, or return a limit of the last one."""
        slots: tuple[int, ...] | Limit = ()
        for limits in alternatives:
            slots = self.take(limits)
            if not isinstance(slots, Limit):
                break
        return slots

    def give_back(self, slots: tuple[int, ...]) -> None:
        """Free slots that ``take`` returned."""
        with self._lock:
            self._unlock(slots)

    def _lock_slot(self, start: int, size: int) -> int | None:
        for slot in range(start, start + size):
            if slot in self._held:
                continue
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, slot)
            except (BlockingIOError, PermissionError):  # another process holds it (fcntl(2))
                continue
            self._held.add(slot)
            return slot
        return None

    def _unlock(self, slots: list[int] | tuple[int, ...]) -> None:
        for slot in slots:
            self._held.discard(slot)
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, slot)
