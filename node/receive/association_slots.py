"""Who holds how many associations open, over all receiver processes of a node.

A seat is one locked byte of a file that all of them inherited. The kernel frees the seats of a process that ends,
however it ends; nothing has to be counted again after a kill.
"""

from __future__ import annotations

import fcntl
import os
import threading
import weakref
import zlib
from collections.abc import Mapping

_ROW = 4096
"""Bytes apart: more seats than any row may have."""


class AssociationSlots:
    """The seats that this process holds. Record locks belong to a process, so threads are told apart here."""

    def __init__(self, descriptor: int) -> None:
        """``descriptor``: of a file that is used for nothing else; closed when the last association is gone."""
        self._file = descriptor
        weakref.finalize(self, os.close, descriptor)
        self._held: set[int] = set()
        self._lock = threading.Lock()

    def take(self, limits: Mapping[str, int]) -> tuple[int, ...] | str:
        """One seat in each row of the name and size in ``limits``, or the name of a row that has none left."""
        taken: list[int] = []
        with self._lock:
            for row, size in limits.items():
                slot = self._slot(zlib.crc32(row.encode("utf-8")) * _ROW, size)
                if slot is None:
                    self._free(taken)
                    return row
                taken.append(slot)
        return tuple(taken)

    def give_back(self, slots: tuple[int, ...]) -> None:
        """Free what ``take`` gave."""
        with self._lock:
            self._free(slots)

    def _slot(self, start: int, size: int) -> int | None:
        for slot in range(start, start + size):
            if slot in self._held:
                continue
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, slot)
            except (BlockingIOError, PermissionError):  # another process sits there (fcntl(2))
                continue
            self._held.add(slot)
            return slot
        return None

    def _free(self, slots: list[int] | tuple[int, ...]) -> None:
        for slot in slots:
            self._held.discard(slot)
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, slot)
