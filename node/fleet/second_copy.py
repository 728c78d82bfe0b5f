"""The second copy of one image, sent to another machine while this one receives and stores it."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Collection, Sequence

from sqlalchemy import Engine

from node.config import Fleet
from node.errors import AbsentFileError, ConfigError
from node.fleet.copy_client import CopyClient, CopyConnection
from node.fleet.copy_frames import BEGIN, DATA, DISCARD, FULL, KEEP, KEPT, read_frame, send
from node.ledger.holdings import CopyAddress
from node.peer_text import escaped
from node.receive.copies import DurableCopy
from node.spool import Draft, Spool

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 10.0
"""How long an image waits for its second copy once it has arrived completely."""
_SLOWEST_BYTES_PER_SECOND = 10_000_000
"""Adds to that: a large file takes longer to sync, or to send again."""
_PAUSE_SECONDS = 0.25
_BLOCK = 1 << 18


class SentCopies:
    """The second copies that one receiver process sends."""

    def __init__(self, fleet: Fleet, engine: Engine, spool: Spool) -> None:
        """``spool``: what the receiver writes to."""
        self._client = CopyClient(fleet, engine, spool.machine, spool.drafts.writer)
        self.start, self.stop = self._client.start, self._client.stop

    def has_machine(self) -> bool:
        """Return whether any other machine takes second copies."""
        return bool(self._client.services())

    def begin(self, draft: Draft) -> SentCopy:
        """Begin the second copy of an image that is being written to ``draft``."""
        return SentCopy(self._client, draft)


class SentCopy:
    """One second copy, of one thread."""

    def __init__(self, client: CopyClient, draft: Draft) -> None:
        self._client = client
        self._draft = draft
        self._fault = "no other machine takes it"
        self._kept = b""
        """Body of the frame that has the image stored."""
        self._connection = self._begin(client.open)

    def write(self, parts: Sequence[bytes | memoryview]) -> None:
        """Send what is written to the draft. A failure shows in ``wait``."""
        self._send(DATA, parts)

    def keep(self, study: str, series: str, sop: str) -> None:
        """Have the complete image stored, without waiting for it."""
        self._kept = json.dumps([study, series, sop, self._draft.digest]).encode()
        self._send(KEEP, [self._kept])

    def wait(self) -> DurableCopy:
        """Return when another machine has the image durably.

        When a connection fails, the image is sent again from the draft, to any machine that takes it. Raises
        ``AbsentFileError`` when none has it in time.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS + self._draft.size / _SLOWEST_BYTES_PER_SECOND
        refused: set[str] = set()
        while True:
            if self._connection is not None:
                try:
                    return self._answer(self._connection, deadline)
                except AbsentFileError as error:
                    self._fault = str(error)
                    refused.add(self._connection.service.machine)
                    self._connection = None
                except (OSError, ValueError) as error:
                    self._drop(error)
            services = self._client.services()
            if time.monotonic() >= deadline:
                for service in services:
                    self._client.avoid(service.machine)
                break
            if not any(service.machine not in refused for service in services):
                break
            self._connection = self._begin(self._client.connect, refused)
            if self._connection is None:
                time.sleep(_PAUSE_SECONDS)
            self._send_draft()
        raise AbsentFileError(self._fault)

    def discard(self) -> None:
        """Give the copy up."""
        self._send(DISCARD, ())
        connection, self._connection = self._connection, None
        if connection is not None and self._kept:  # an answer is still to come
            connection.socket.close()
        elif connection is not None:
            self._client.give_back(connection)

    def _begin(
        self, connect: Callable[[CopyAddress], CopyConnection], refused: Collection[str] = ()
    ) -> CopyConnection | None:
        """Begin at the first machine that answers."""
        for service in self._client.services():
            if service.machine in refused:
                continue
            try:
                connection = connect(service)
                send(connection.socket, BEGIN, [self._client.writer.encode()])
            except (OSError, ConfigError) as error:
                self._report(service, error)
            else:
                return connection
        return None

    def _send_draft(self) -> None:
        """Send all that the draft has."""
        at = 0
        while self._connection is not None and (block := os.pread(self._draft.descriptor, _BLOCK, at)):
            self._send(DATA, [block])
            at += len(block)
        self._send(KEEP, [self._kept])

    def _send(self, kind: bytes, parts: Sequence[bytes | memoryview]) -> None:
        if self._connection is not None:
            try:
                send(self._connection.socket, kind, parts)
            except OSError as error:
                self._drop(error)

    def _answer(self, connection: CopyConnection, deadline: float) -> DurableCopy:
        """Read the answer. Raises ``AbsentFileError`` for a refusal, ``OSError``, ``ValueError``."""
        connection.socket.settimeout(max(deadline - time.monotonic(), _PAUSE_SECONDS))
        frame = read_frame(connection.socket)
        self._client.give_back(connection)
        if frame.kind == KEPT:
            self._connection = None
            path, digest = json.loads(frame.body)
            return DurableCopy(connection.service.machine, str(path), str(digest))
        if frame.kind == FULL:
            self._client.avoid(connection.service.machine)
        raise AbsentFileError(escaped(frame.body.decode("utf-8", "replace"), 200))

    def _drop(self, error: Exception) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.socket.close()
            self._report(connection.service, error)

    def _report(self, service: CopyAddress, error: Exception) -> None:
        self._fault = f"machine {service.machine[:8]}: {error or type(error).__name__}"
        logger.warning("second copy at %s: %s", service.address, error or type(error).__name__)
