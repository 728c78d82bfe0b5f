"""Which client a request is from, by its token, and what this client may do."""

from __future__ import annotations

import base64
import hmac
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response

from node.config.dicomweb import DicomwebClient, Service
from node.errors import ConfigError
from node.web.shared_secret import read_secret

logger = logging.getLogger(__name__)

_QUIET_SECONDS = 60.0
"""Between two log lines on requests without a right token."""


@dataclass(frozen=True)
class Client:
    """The client that sent a request."""

    name: str
    settings: DicomwebClient


Endpoint = Callable[[Request], Awaitable[Response]]
ClientEndpoint = Callable[[Request, Client], Awaitable[Response]]


class Authorization:
    """Lets requests of the configured clients through."""

    def __init__(self, clients: Mapping[str, DicomwebClient]) -> None:
        self._clients = [Client(name, settings) for name, settings in clients.items()]
        self._logged_at = -_QUIET_SECONDS

    def for_service(self, service: Service, endpoint: ClientEndpoint) -> Endpoint:
        """Return an endpoint that only clients with ``service`` reach."""

        async def authorized(request: Request) -> Response:
            client = await self.admitted(request, service)
            return client if isinstance(client, Response) else await endpoint(request, client)

        return authorized

    async def admitted(self, connection: HTTPConnection, service: Service) -> Client | Response:
        """Return the client that asks for a service, or the refusal. A WebSocket begins as a request does."""
        try:
            client = await run_in_threadpool(self._client_of, connection)
        except ConfigError as error:  # whoever asks need not know the path of the file
            logger.warning("DICOMweb: %s", error)
            return PlainTextResponse("The tokens of the clients cannot be read; the log says more.\n", 500)
        if client is None:
            self._log_refusal(connection)
            challenges = [("www-authenticate", "Bearer"), ("www-authenticate", 'Basic realm="DICOMweb"')]
            refused = PlainTextResponse("This needs the token of a client.\n", 401)
            refused.raw_headers.extend((name.encode(), value.encode()) for name, value in challenges)
            return refused
        if service not in client.settings.services:
            text = f'services of [dicomweb.clients.{client.name}] does not list "{service}".\n'
            return PlainTextResponse(text, 403)
        return client

    def _client_of(self, connection: HTTPConnection) -> Client | None:
        name, token = _credentials(connection.headers.get("authorization", ""))
        holder = None
        for client in self._clients:
            is_right = hmac.compare_digest(token_of(client.settings.token_file, client.name).encode(), token.encode())
            if is_right and name in ("", client.name):
                holder = client
        return holder

    def _log_refusal(self, connection: HTTPConnection) -> None:
        at = time.monotonic()
        if at - self._logged_at >= _QUIET_SECONDS:
            self._logged_at = at
            origin = connection.client.host if connection.client else "?"
            logger.warning("DICOMweb: a request without a right token, from %s", origin)


def token_of(file: str, client: str) -> str:
    """Read the token of a client. Raises ``ConfigError``."""
    return read_secret(Path(file), f"[dicomweb.clients.{client}] token_file")


def _credentials(header: str) -> tuple[str, str]:
    """Name and token of an Authorization field; the name is empty for a bearer token."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer":
        return "", value.strip()
    if scheme.lower() != "basic":
        return "", ""
    try:
        name, _, password = base64.b64decode(value.strip(), validate=True).decode("utf-8").partition(":")
    except ValueError:
        return "", ""
    return name or "-", password
