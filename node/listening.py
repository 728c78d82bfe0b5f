"""The listening socket and the association slots that all receiver processes of a node share.

The supervisor creates both, and the receivers that it forks have them, too. It keeps the socket open, so connections in
its queue survive the replacement of a receiver (with ``SO_REUSEPORT`` they would be lost).
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from node.errors import PlatformError

BACKLOG = 512
"""Connections that may wait to be accepted; limited by ``net.core.somaxconn``."""
_OCCASION_BYTES = 256
_ONCE = 1 << 50
"""A byte far beyond the slots."""
_FIRST_OF_SYSTEMD = 3
"""SD_LISTEN_FDS_START of sd_listen_fds(3)."""


@dataclass(frozen=True)
class Listening:
    """A listening socket and an anonymous file whose locked bytes are the occupied slots."""

    socket: socket.socket
    slots: int
    """Descriptor of the file. Record locks belong to a process and end with it, even after a kill."""

    @classmethod
    def open(cls, address: str, port: int) -> Listening:
        """Open the socket, or take over that of systemd's socket activation.

        Raises ``PlatformError`` when the address is not available.
        """
        return cls(_activated() or _listen(address, port), os.memfd_create("slots"))

    @contextmanager
    def first_process(self, occasion: str) -> Iterator[bool]:
        """Yield true in one of the processes that share the socket, false in the others, until another occasion.

        A process that is killed within the context, or leaves it by an exception, does not count.
        """
        try:
            fcntl.lockf(self.slots, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _ONCE)
        except (BlockingIOError, PermissionError):  # another process is at it (fcntl(2))
            yield False
            return
        try:
            first = os.pread(self.slots, _OCCASION_BYTES, 0) != occasion.encode()
            yield first
            if first:
                os.ftruncate(self.slots, 0)
                os.pwrite(self.slots, occasion.encode(), 0)
        finally:
            fcntl.lockf(self.slots, fcntl.LOCK_UN, 1, _ONCE)

    def close(self) -> None:
        """Close the descriptors of this process only."""
        self.socket.close()
        os.close(self.slots)


def _listen(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        listener = socket.create_server((address, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise PlatformError(
            f"[ae] address {address} port {port}: {error.strerror}; is another program listening there?"
        ) from error
    # Several processes wait for the same connection, and only one of them can accept it.
    listener.setblocking(False)
    return listener


def _activated() -> socket.socket | None:
    """Return the socket that systemd opened (sd_listen_fds(3)), on the first call only."""
    pid, number = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    if pid != str(os.getpid()):
        return None
    if number != "1":
        raise PlatformError(f"LISTEN_FDS = {number}: the node listens on one socket; use exactly one ListenStream=")
    os.set_inheritable(_FIRST_OF_SYSTEMD, False)
    listener = socket.socket(fileno=_FIRST_OF_SYSTEMD)
    listener.setblocking(False)
    return listener
