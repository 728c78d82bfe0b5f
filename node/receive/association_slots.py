"""Limits on connections and associations that all receiver processes of a node share.

A slot is one locked byte of a file that every process inherits. The kernel unlocks the slots of a process that ends,
even after a kill, so nothing has to be counted again. Other machines of a fleet say in their heartbeats how many slots
they hold of the limits that count there too; so many stay free here.
"""

from __future__ import annotations

import fcntl
import os
import threading
import weakref
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum
from typing import NamedTuple

_LIMIT_BYTES = 4096
"""Distance between the slots of two limits: more than any limit may allow."""
_MOST_SAID = 100
"""Owners whose slots other machines hear of: those with the most."""
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
    in_fleet: bool = False
    """Whether slots that other machines hold count too."""

    @property
    def key(self) -> str:
        """Name of the limit among machines."""
        return f"{self.kind.name} {self.owner}"


class AssociationSlots:
    """The slots that this process holds. Record locks belong to a process, so its threads share this object."""

    def __init__(self, descriptor: int, elsewhere: Callable[[], Mapping[str, int]] = dict) -> None:
        """``descriptor``: of a file used for nothing else; closed with this object.

        ``elsewhere``: how many slots other machines hold, by ``Limit.key``.
        """
        self._file = descriptor
        weakref.finalize(self, os.close, descriptor)
        self._elsewhere = elsewhere
        self._held: dict[int, str] = {}
        """Keys of their limits; "": of one that counts on this machine only."""
        self._lock = threading.Lock()

    def held_in_fleet(self) -> dict[str, int]:
        """Return how many slots this process holds of the limits that count in the fleet, by ``Limit.key``."""
        with self._lock:
            return dict(Counter(key for key in self._held.values() if key).most_common(_MOST_SAID))

    def take(self, limits: Iterable[Limit]) -> tuple[int, ...] | Limit:
        """Take one slot of each limit, or return a limit that is reached."""
        taken: list[int] = []
        with self._lock:
            for limit in limits:
                slot = self._take_slot(limit)
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

    def _take_slot(self, limit: Limit) -> int | None:
        start = limit.kind * _KIND_BYTES + zlib.crc32(limit.owner.encode("utf-8")) * _LIMIT_BYTES
        elsewhere = self._elsewhere().get(limit.key, 0) if limit.in_fleet else 0
        free = self._lock_slots(start, limit.size, 1 + elsewhere)
        taken, rest = (free[:1], free[1:]) if len(free) > elsewhere else ([], free)
        self._unlock(rest)
        if not taken:
            return None
        self._held[taken[0]] = limit.key if limit.in_fleet else ""
        return taken[0]

    def _lock_slots(self, start: int, size: int, number: int) -> list[int]:
        locked: list[int] = []
        for slot in range(start, start + size):
            if len(locked) == number:
                break
            if slot in self._held:
                continue
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, slot)
            except (BlockingIOError, PermissionError):  # another process holds it (fcntl(2))
                continue
            locked.append(slot)
        return locked

    def _unlock(self, slots: Iterable[int]) -> None:
        for slot in slots:
            self._held.pop(slot, None)
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, slot)
