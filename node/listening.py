"""What all receiver processes of a node share: the socket on which scanners call, and the seats of associations.

The supervisor makes both and hands them down as open descriptors. It never closes the socket while it runs, so a
connection that waits in its queue is not lost when a receiver is replaced (with ``SO_REUSEPORT`` it would be).
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
"""Connections that may wait to be accepted; the kernel takes ``net.core.somaxconn`` if that is less."""
_ONCE = 1 << 50
"""A byte far behind the seats."""
_FIRST_OF_SYSTEMD = 3
"""SD_LISTEN_FDS_START of sd_listen_fds(3)."""


@dataclass(frozen=True)
class Listening:
    """A listening socket, and an anonymous file whose locked bytes are the taken seats."""

    socket: socket.socket
    seats: int
    """Descriptor. Record locks on it belong to a process and end with it, however it ends."""

    @classmethod
    def open(cls, address: str, port: int) -> Listening:
        """Listen, or take over the socket of systemd's socket activation.

        Raises ``PlatformError`` when the address cannot be had.
        """
        return cls(_activated() or _listen(address, port), os.memfd_create("seats"))

    @classmethod
    def from_descriptors(cls, descriptors: tuple[int, ...]) -> Listening:
        """What a supervisor handed down."""
        listener, seats = descriptors
        return cls(socket.socket(fileno=listener), seats)

    @property
    def descriptors(self) -> tuple[int, int]:
        """To be inherited."""
        return self.socket.fileno(), self.seats

    @contextmanager
    def once(self) -> Iterator[bool]:
        """For what is done once in the life of the socket: true for the one process that is to do it now.

        One that is killed before the end has not done it.
        """
        try:
            fcntl.lockf(self.seats, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _ONCE)
        except (BlockingIOError, PermissionError):  # another process is at it (fcntl(2))
            yield False
            return
        first = os.fstat(self.seats).st_size == 0
        yield first
        if first:
            os.ftruncate(self.seats, 1)
        fcntl.lockf(self.seats, fcntl.LOCK_UN, 1, _ONCE)

    def close(self) -> None:
        """Close this process's copies; others go on."""
        self.socket.close()
        os.close(self.seats)


def _listen(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        listener = socket.create_server((address, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise PlatformError(
            f"[ae] address {address} port {port}: {error.strerror}; is another program listening there?"
        ) from error
    # Several processes wait for the same connection; all but one of them find it gone.
    listener.setblocking(False)
    return listener


def _activated() -> socket.socket | None:
    """The socket that systemd opened for us (sd_listen_fds(3)); it counts once."""
    pid, number = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    if pid != str(os.getpid()):
        return None
    if number != "1":
        raise PlatformError(f"LISTEN_FDS = {number}: the node listens on one socket; give one ListenStream=")
    os.set_inheritable(_FIRST_OF_SYSTEMD, False)
    listener = socket.socket(fileno=_FIRST_OF_SYSTEMD)
    listener.setblocking(False)
    return listener
