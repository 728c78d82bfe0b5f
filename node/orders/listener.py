"""The role *orders*: takes HL7 messages over MLLP and answers each when it is durable in the ledger."""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from node.addresses import plain_address
from node.config import Config
from node.errors import ConfigError
from node.ledger.new_orders import OrderMessage
from node.ledger.order_messages import ACCEPTED, LONGEST_CONTENT, Receipt
from node.orders.acknowledgment import acknowledgment
from node.orders.framing import END, START, Frame, FrameReader, SilentError
from node.orders.hl7_text import Hl7Error, header_of, parse_hl7
from node.orders.message_writer import MessageWriter
from node.orders.order_message import kind_of, order_message_of
from node.peer_text import escaped
from node.tls import ServerTls
from node.web.http_connections import HttpListening, listen

logger = logging.getLogger(__name__)

OF_ADDRESS = 16
"""Open connections of one address: an interface engine opens one for each kind of message."""
_HANDSHAKE_SECONDS = 10.0
_ANSWER_SECONDS = 30.0
_LOOK_SECONDS = 0.5
_QUIET_SECONDS = 60.0
"""Between two log lines on connections of others than the senders."""


class OrderListener:
    """Accepts connections of the senders and serves each in a thread."""

    def __init__(self, config: Config, engine: Engine) -> None:
        """Raises ``ConfigError`` when files of TLS cannot be used."""
        self._settings = config.orders
        self._folder = config.storage.folder
        self._largest = int(config.orders.max_message_mib * 2**20)
        self._senders = [ipaddress.ip_network(sender, strict=False) for sender in config.orders.senders]
        self._tls = ServerTls(config.orders.tls, "[orders.tls]") if config.orders.tls.enabled else None
        self._writer = MessageWriter(engine)
        self._stopping = threading.Event()
        self._connections: set[threading.Thread] = set()
        self._told_at = -_QUIET_SECONDS

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Serve until the end of the ``with`` block. Raises ``PlatformError`` when the address is not available."""
        settings = self._settings
        if not settings.enabled:
            raise ConfigError("[orders] enabled is false; enable it before this role is started")
        listener = listen(settings.address, settings.port, self._folder, "[orders]", OF_ADDRESS)
        self._writer.start()
        accepting = threading.Thread(target=self._accept, args=(listener,), name="orders", daemon=True)
        accepting.start()
        logger.info("HL7 messages are taken at %s:%d%s", settings.address, settings.port, " (TLS)" if self._tls else "")
        try:
            yield
        finally:
            self._stopping.set()
            accepting.join()
            listener.close()
            for thread in list(self._connections):
                thread.join()
            self._writer.finish()

    def _accept(self, listener: HttpListening) -> None:
        listener.setblocking(False)
        events = select.poll()
        events.register(listener, select.POLLIN)
        while not self._stopping.is_set():
            if not events.poll(_LOOK_SECONDS * 1000):
                continue
            try:
                connection, address = listener.accept()
            except BlockingIOError:  # beyond the bounds, or closed again
                continue
            except OSError as error:
                logger.warning("a connection for HL7 messages could not be accepted: %s", error)
                time.sleep(_LOOK_SECONDS)
                continue
            thread = threading.Thread(target=self._serve, args=(connection, str(address[0])), daemon=True)
            self._connections.add(thread)
            try:
                thread.start()
            except RuntimeError:
                self._connections.discard(thread)
                connection.close()

    def _serve(self, connection: socket.socket, address: str) -> None:
        try:
            if not self._is_sender(address):
                return
            connection.settimeout(_HANDSHAKE_SECONDS)
            if self._tls is not None:
                with self._tls.secured(connection) as secured:
                    self._converse(secured, address)
            else:
                self._converse(connection, address)
        except (SilentError, OSError, SQLAlchemyError) as error:
            what = type(error).__name__ if isinstance(error, SQLAlchemyError) else error
            logger.warning("HL7 connection from %s closed: %s", address, escaped(str(what), 256))
        except Exception:
            logger.exception("HL7 connection from %s failed", address)
        finally:
            connection.close()
            self._connections.discard(threading.current_thread())

    def _is_sender(self, address: str) -> bool:
        if any(plain_address(address) in network for network in self._senders):
            return True
        if time.monotonic() - self._told_at > _QUIET_SECONDS:
            self._told_at = time.monotonic()
            logger.warning("connections from %s are closed: [orders] senders does not list it", address)
        return False

    def _converse(self, connection: socket.socket, address: str) -> None:
        reader = FrameReader(connection, self._largest, LONGEST_CONTENT, self._stopping.is_set)
        while (frame := reader.next()) is not None:
            answer = self.answer(frame, address)
            connection.settimeout(_ANSWER_SECONDS)
            connection.sendall(START + answer + END + b"\r")
            if frame.ends_connection:
                return

    def answer(self, frame: Frame, address: str) -> bytes:
        """Record a message and return its acknowledgment. Raises ``SQLAlchemyError``; then there must be no answer."""
        header, message = header_of(frame.content), OrderMessage()
        sender = f"{header.text(3)}^{header.text(4)}" if header is not None else ""
        control_id = header.text(10) if header is not None else ""
        digest = hashlib.sha256(repr((sender, control_id, address if header is None else "")).encode() + frame.content)
        receipt = Receipt(
            id=digest.hexdigest(),
            sender=sender,
            control_id=control_id,
            kind=kind_of(header) if header is not None else "",
            peer_address=address,
            answer=ACCEPTED,
        )
        try:
            message = self._read(frame, control_id)
        except Hl7Error as error:
            content = frame.content[:LONGEST_CONTENT]
            receipt = replace(receipt, answer=error.answer, reason=str(error), content=content)
        recorded = self._writer.record(receipt, message)
        if recorded.answer != ACCEPTED:
            logger.warning("HL7 message from %s answered %s: %s", address, recorded.answer, recorded.reason)
        return acknowledgment(recorded, header)

    def _read(self, frame: Frame, control_id: str) -> OrderMessage:
        if frame.fault:
            raise Hl7Error(frame.fault, answer="AR")
        text = parse_hl7(frame.content)
        if not control_id:
            raise Hl7Error("MSH-10 (message control ID) is empty")
        return order_message_of(text, self._settings)
