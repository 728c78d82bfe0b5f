"""Locks in the storage folder that say which ports belong to this node, whoever asks and as which user."""

from __future__ import annotations

import errno
import fcntl
import socket
from pathlib import Path
from typing import IO

from node.errors import PlatformError

NO_LOCKS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS})
"""How a file system without locks answers ``flock``."""


class PortLock:
    """A lock that the processes of one node hold together while they listen on a port. The kernel ends it with them."""

    def __init__(self, folder: Path, port: int) -> None:
        """``folder``: of the node's storage. Raises ``OSError`` when it cannot be written."""
        self._file = (folder / f"port-{port}.lock").open("ab")

    def is_first(self) -> bool:
        """Take the lock alone; return whether that was possible, so no other process of this node has the port."""
        try:
            _lock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def share(self) -> None:
        """Hold the lock with other processes of this node, until ``close``."""
        _lock(self._file, fcntl.LOCK_SH)

    def close(self) -> None:
        """Release the lock."""
        self._file.close()


def _lock(file: IO[bytes], operation: int) -> None:
    """Lock a file; raise ``PlatformError`` when its file system has no locks, ``BlockingIOError`` when it is locked."""
    try:
        fcntl.flock(file, operation)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        raise PlatformError(
            f"[storage] folder {Path(file.name).parent}: its file system has no file locks ({error.strerror}); "
            "move it to a local disk"
        ) from error


def is_own_port(folder: Path, port: int) -> bool:
    """Return whether a process of the node that stores in ``folder`` listens on ``port``."""
    try:
        with (folder / f"port-{port}.lock").open("rb") as file:
            _lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def bind_error(address: str, port: int) -> OSError | None:
    """Return why nobody can listen there now; ``None`` when the port is free."""
    with socket.socket(address_family(address)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            return error
    return None


def address_family(address: str) -> socket.AddressFamily:
    """Return IPv6 or IPv4."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET
