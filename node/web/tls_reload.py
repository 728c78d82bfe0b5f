"""TLS of the dashboard and of DICOMweb, which reload a renewed certificate without a restart."""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from node.actor import look_every
from node.errors import ConfigError
from node.tls import profile

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
ContextFactory = Callable[[Any, Any], ssl.SSLContext]
"""``ssl_context_factory`` of uvicorn."""


@contextmanager
def tls_context(certificate: Path | None, key: Path | None, table: str) -> Iterator[ContextFactory | None]:
    """Have the context of a server, for uvicorn, whose files are looked at until the end of the ``with`` block.

    ``certificate``: ``None`` for plain HTTP. ``table``: of the configuration. Raises ``ConfigError`` when the files
    cannot be used.
    """
    if certificate is None:
        yield None
        return
    reloading, ended = ReloadingTls(certificate, key, table), threading.Event()
    watch = (LOOK_SECONDS, ended, f"certificate of {table}", reloading.look)
    threading.Thread(target=look_every, args=watch, name="certificate", daemon=True).start()
    try:
        yield lambda _config, _default: reloading.context
    finally:
        ended.set()


class ReloadingTls:
    """The context of the server, and the files that it was made of."""

    def __init__(self, certificate: Path, key: Path | None, table: str = "[web]") -> None:
        """``table``: of the configuration. Raises ``ConfigError`` when the files cannot be used."""
        self._table = table
        self._certificate, self._key = certificate, key
        self._seen = self._refused = self._stamps()
        self.current = self.context = self._read()
        """``current`` is what the next handshake gets; ``context`` is what the server was started with."""
        self.context.sni_callback = self._show

    def look(self) -> None:
        """Take the files again when they have changed; while they cannot be used, the old ones stay in force.

        Such files are tried at every look, as somebody may be writing them, and warned of once.
        """
        stamps = self._stamps()
        if stamps == self._seen:
            return
        try:
            self.current = self._read()
        except ConfigError as error:
            if stamps != self._refused:
                logger.warning("%s; until then the old certificate is shown", error)
            self._refused = stamps
            return
        self._seen = stamps

    def _show(self, connection: ssl.SSLSocket | ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        """Called at the start of every handshake, whether its client names a server or not."""
        connection.context = self.current

    def _read(self) -> ssl.SSLContext:
        """Load a new context, because one that failed to load a pair may have lost its key."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        profile(context)
        try:
            context.load_cert_chain(self._certificate, self._key)
        except OSError as error:
            words = getattr(error, "reason", None) or error.strerror
            fault = f"{self._table} certificate {self._certificate}: {words}"
            raise ConfigError(f"{fault}; give PEM files of one pair") from error
        return context

    def _stamps(self) -> list[tuple[int, int]]:
        files = [path.stat() for path in (self._certificate, self._key) if path is not None and path.exists()]
        return [(status.st_ino, status.st_mtime_ns) for status in files]
