"""The copy service: keeps second copies of images that receivers of other machines are receiving.

A copy is stored like a received image, and marked by its temporary link until the ledger has its row. The receiver that
sent it writes the row. When that one has died, the receivers of this machine find the link among the files of a dead
writer and record the image, as they do with what their own machine left (``node.receive.recovery``).
"""

from __future__ import annotations

import errno
import json
import logging
import re
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Engine

from node.config import AeTls, Config
from node.errors import InputError
from node.fleet.copy_frames import (
    BEGIN,
    DATA,
    DISCARD,
    FULL,
    KEEP,
    KEPT,
    LONGEST_DATA,
    REFUSED,
    Frame,
    fill,
    read_body,
    read_header,
    send,
)
from node.fleet.copy_repair import CopyRepair
from node.fleet.pending_copies import PendingCopies
from node.membership import Membership
from node.peer_text import escaped
from node.spool import Draft, Spool
from node.tls import ServerTls
from node.web.http_connections import IN_ALL, HttpListening, listen

logger = logging.getLogger(__name__)

IDLE_SECONDS = 600.0
"""A connection without an image for this long is closed; its certificate is checked again with the next one."""
_SILENCE_SECONDS = 20.0
"""A receiver that sends nothing for this long within an image, or with the handshake, is treated as gone."""
_SPACE_CHECKED_EVERY = 1 << 23
_WRITER = re.compile(r"receiver-[0-9a-f]{32}", re.ASCII)


class CopyService:
    """The copies that one process of this machine keeps."""

    def __init__(self, config: Config, engine: Engine, spool: Spool, membership: Membership) -> None:
        self._config = config
        self._spool = spool
        self.pending = PendingCopies(engine, spool, membership)
        self.loops = (self.pending.run, CopyRepair(engine, spool).run)
        """What the process does besides, each in a thread."""
        self._largest = config.storage.max_instance_gib * 2**30

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Serve until the end of the ``with`` block; yield host and port for the other machines.

        Raises ``ConfigError`` for files of TLS that cannot be used, ``PlatformError`` when the port is not available.
        """
        fleet = self._config.fleet
        self.pending.take_over()
        tls = ServerTls(
            AeTls(enabled=True, certificate=fleet.certificate, key=fleet.key, ca=fleet.ca, crl=fleet.crl), "[fleet]"
        )
        listener = listen(fleet.address, fleet.copies_port, self._spool.folder, "[fleet] copies_port", IN_ALL)
        with _Server(listener, tls, self._serve) as server:
            thread = threading.Thread(target=server.serve_forever, name="copies", daemon=True)
            thread.start()
            yield f"{fleet.host}:{fleet.copies_port}"
            server.shutdown()
            thread.join()

    def _serve(self, connection: socket.socket) -> None:
        """Take the images of one connection."""
        buffer = memoryview(bytearray(LONGEST_DATA))
        while True:
            connection.settimeout(IDLE_SECONDS)
            header = read_header(connection)
            if header is None:
                return
            connection.settimeout(_SILENCE_SECONDS)
            kind, length = header
            if kind != BEGIN:
                raise ValueError(f"{kind!r} outside an image")
            copy = _Copy(self, read_body(connection, length).decode("ascii"))
            try:
                copy.take(connection, buffer)
            finally:
                copy.discard()

    def refusal(self, size: int) -> Frame | None:
        """Return the answer when no more can be stored of an image that has ``size`` bytes so far."""
        space, least = self._spool.space(), self._config.storage.min_free_gib
        if space.is_below(least):
            return Frame(FULL, f"its disk is full: {space.free_gib:.2f} GiB free, limit {least:g} GiB".encode())
        return Frame(REFUSED, b"larger than max_instance_gib") if size > self._largest else None

    def draft(self, writer: str) -> Draft:
        """Begin a copy for a receiver. Raises ``OSError``."""
        return self.pending.drafts(writer).new()

    def keep(self, writer: str, draft: Draft, study: str, series: str, sop: str) -> bytes:
        """Store a complete copy durably; return the body of the answer. Raises ``InputError``, ``OSError``."""
        stored = self._spool.keep(study, series, sop, draft)
        if stored.status == "same":
            draft.discard()
        else:
            self.pending.add(writer, draft, stored)
        return json.dumps([stored.path, stored.digest]).encode()


class _Copy:
    """One image; after a refusal the rest of it is read and dropped."""

    def __init__(self, service: CopyService, writer: str) -> None:
        if not _WRITER.fullmatch(writer):
            raise ValueError(f"{writer!r} is no receiver")
        self._service = service
        self._writer = writer
        self._checked = 0
        self._draft: Draft | None = None
        self._refusal = service.refusal(0)
        if self._refusal is None:
            try:
                self._draft = service.draft(writer)
            except OSError as error:
                self._refuse(_disk(error))

    def take(self, connection: socket.socket, buffer: memoryview) -> None:
        """Read frames up to the end of the image and answer. Raises ``OSError``, ``ValueError``."""
        while True:
            header = read_header(connection)
            if header is None:
                return
            kind, length = header
            if kind == DATA:
                fill(connection, buffer[:length])
                self._write(buffer[:length])
            elif kind == KEEP:
                study, series, sop, digest = json.loads(read_body(connection, length))
                answer = self._keep(study, series, sop, digest)
                send(connection, answer.kind, [answer.body])
                return
            elif kind == DISCARD:
                return
            else:
                raise ValueError(f"{kind!r} within an image")

    def discard(self) -> None:
        """Delete what is not kept."""
        draft, self._draft = self._draft, None
        if draft is not None:
            draft.discard()

    def _write(self, part: memoryview) -> None:
        if self._draft is None:
            return
        try:
            self._draft.write([part])
        except OSError as error:
            self._refuse(_disk(error))
            return
        if self._draft.size - self._checked >= _SPACE_CHECKED_EVERY:
            self._checked = self._draft.size
            self._refuse(self._service.refusal(self._draft.size))

    def _keep(self, study: str, series: str, sop: str, digest: str) -> Frame:
        if self._draft is not None and self._draft.digest != digest:
            self._refuse(Frame(REFUSED, b"other bytes arrived than were sent"))
        if self._draft is not None:
            try:
                body = self._service.keep(self._writer, self._draft, study, series, sop)
            except InputError as error:
                self._refuse(Frame(REFUSED, str(error).encode()))
            except OSError as error:
                self._refuse(_disk(error))
            else:
                self._draft = None
                return Frame(KEPT, body)
        return self._refusal or Frame(REFUSED, b"")

    def _refuse(self, refusal: Frame | None) -> None:
        if refusal is not None:
            self._refusal = refusal
            self.discard()


class _Server(socketserver.ThreadingMixIn, socketserver.BaseServer):
    """Accepts connections and serves each in a thread."""

    daemon_threads = True

    def __init__(self, listener: HttpListening, tls: ServerTls, serve: Callable[[socket.socket], None]) -> None:
        super().__init__(listener.getsockname(), socketserver.BaseRequestHandler)
        self._serve = serve
        self.socket = listener
        self._tls = tls

    def fileno(self) -> int:
        return self.socket.fileno()

    def get_request(self) -> tuple[socket.socket, object]:
        return self.socket.accept()

    def finish_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        """Serve one connection to its end, in a thread of its own."""
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request.settimeout(_SILENCE_SECONDS)
        try:
            with self._tls.secured(request) as connection:
                self._serve(connection)
        except (OSError, ValueError) as error:
            logger.info("copies: connection of %s ended: %s", client_address, escaped(str(error), 200))

    def server_close(self) -> None:
        self.socket.close()


def _disk(error: OSError) -> Frame:
    logger.error("a second copy could not be written: %s", error)
    return Frame(FULL, f"its disk: {errno.errorcode.get(error.errno or 0, 'error')}: {error.strerror}".encode())
