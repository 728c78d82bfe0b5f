"""Leadership: of all processes that could do a work, one does it."""

from __future__ import annotations

import threading
import zlib
from typing import Any

import sqlalchemy as sa

_SPACE = 0x41494C44
"""First key of the advisory locks of all leaderships; the second one is made of the name of the work."""


class Leadership:
    """The claim of this process to be the one that does a work.

    On PostgreSQL it holds an advisory lock on a connection of its own, which the server ends soon after a process or a
    machine is gone. On SQLite, where the few processes of one machine share the ledger, each one leads: what they do
    must be harmless when it is done twice.
    """

    def __init__(self, engine: sa.Engine, work: str) -> None:
        self._engine = engine
        self._key = zlib.crc32(work.encode()) - 2**31
        self._held: sa.Connection | None = None
        self._session: Any = None
        """The driver's connection, which nobody else closes when it is broken."""
        self._lock = threading.Lock()

    def is_ours(self) -> bool:
        """Return whether this process leads; it does from now on when nobody did."""
        if self._engine.dialect.name != "postgresql":
            return True
        with self._lock:
            return self._is_still_ours() or self._take()

    def release(self) -> None:
        """Let another process lead."""
        with self._lock:
            self._end_session()

    def _is_still_ours(self) -> bool:
        if self._held is None:
            return False
        try:
            self._held.execute(sa.text("SELECT 1"))
        except sa.exc.SQLAlchemyError:
            self._end_session()
        return self._held is not None

    def _end_session(self) -> None:
        """End the session of the server, and with it the lock."""
        if self._session is not None:
            self._session.close()
        self._held = self._session = None

    def _take(self) -> bool:
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            lock = sa.select(sa.func.pg_try_advisory_lock(_SPACE, self._key))
            if connection.scalar(lock):
                connection.detach()  # what is held for hours takes no place in the pool
                self._held, self._session = connection, connection.connection.dbapi_connection
                return True
        finally:
            if self._held is None:
                connection.close()
        return False
