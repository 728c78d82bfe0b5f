"""Limits on open associations that all receiver processes of a node share.

A slot is one locked byte of a file that every process inherits. The kernel unlocks the slots of a process that ends,
even after a kill, so nothing has to be counted again.
"""

from __future__ import annotations

import fcntl
import os
import threading
import weakref
import zlib
from collections.abc import Mapping

_LIMIT_BYTES = 4096
"""Distance between the slots of two limits: more than any limit may allow."""


class AssociationSlots:
    """The slots that this process holds. Record locks belong to a process, so its threads share this object."""

    def __init__(self, descriptor: int) -> None:
        """``descriptor``: of a file used for nothing else; closed with this object."""
        self._file = descriptor
        weakref.finalize(self, os.close, descriptor)
        self._held: set[int] = set()
        self._lock = threading.Lock()

    def take(self, limits: Mapping[str, int]) -> tuple[int, ...] | str:
        """Take one slot of each limit (name and size), or return the name of a limit that is reached."""
        taken: list[int] = []
        with self._lock:
            for name, size in limits.items():
                slot = self._lock_slot(zlib.crc32(name.encode("utf-8")) * _LIMIT_BYTES, size)
                if slot is None:
                    self._unlock(taken)
                    return name
                taken.append(slot)
        return tuple(taken)

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
