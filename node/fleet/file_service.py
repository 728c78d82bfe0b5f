"""The file service of a machine: its files for the other machines of the fleet, over HTTPS with mutual TLS.

It reads no database. Whoever presents no certificate of the fleet's authority ends in the TLS handshake.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from node.config import AeTls, Fleet
from node.fleet.paths import served_file
from node.spool.local_files import LocalFiles
from node.tls import ServerTls
from node.web.http_connections import listen, served

logger = logging.getLogger(__name__)

_IDLE_SECONDS = 60
_RECORDED = TypeAdapter(dict[str, str])


class _File(FileResponse):
    """An open file: one that is purged while it is sent arrives whole."""

    chunk_size = 1 << 20  # each one takes a turn of a thread

    def __init__(self, content: BufferedReader) -> None:
        descriptor = content.fileno()
        super().__init__(
            f"/proc/self/fd/{descriptor}", media_type="application/octet-stream", stat_result=os.fstat(descriptor)
        )
        self._content = content

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._content:
            await super().__call__(scope, receive, send)


def make_app(folder: Path) -> Starlette:
    """Make the application that serves the files below ``folder``, and their digests as they are now."""

    def file(request: Request) -> Response:
        place = served_file(folder, request.path_params["path"])
        with suppress(FileNotFoundError):  # purged at this moment
            if place is not None:
                return _File(place.open("rb"))
        return Response(status_code=404)

    stored = LocalFiles(folder, "")

    async def digests(request: Request) -> Response:
        """Each path with the digest that it has now, where the request has one in the same algorithm."""
        try:
            wanted = _RECORDED.validate_json(await request.body())
        except ValidationError:
            return Response(status_code=400)

        def digests_now() -> dict[str, str]:
            return {path: stored.digest(path, like) for path, like in wanted.items()}

        return JSONResponse(await run_in_threadpool(digests_now))

    return Starlette(
        routes=[
            Route("/files/{path:path}", file, methods=["GET"]),
            Route("/digests", digests, methods=["POST"]),
        ]
    )


@contextmanager
def serving(fleet: Fleet, folder: Path) -> Iterator[str]:
    """Serve until the end of the ``with`` block; yield the URL for the other machines.

    Raises ``ConfigError`` for files of TLS that cannot be used, ``PlatformError`` when the address is not available.
    """
    context = _renewed_context(fleet)
    listener = listen(fleet.address, fleet.port, folder, "[fleet]")
    url = f"https://{f'[{fleet.host}]' if ':' in fleet.host else fleet.host}:{fleet.port}"
    with served(
        make_app(folder),
        listener,
        "files",
        http="h11",
        ssl_context_factory=lambda _config, _default: context,
        timeout_keep_alive=_IDLE_SECONDS,
    ):
        logger.info("file service at %s", url)
        yield url


def _renewed_context(fleet: Fleet) -> ssl.SSLContext:
    """The context of the server, each of whose handshakes uses the files as they are then."""
    tls = ServerTls(
        AeTls(enabled=True, certificate=fleet.certificate, key=fleet.key, ca=fleet.ca, crl=fleet.crl), "[fleet]"
    )
    context = tls.context()

    def renew(connection: ssl.SSLSocket | ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = tls.context()

    context.sni_callback = renew
    return context
