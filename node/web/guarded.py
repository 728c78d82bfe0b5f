"""What holds for every response of the dashboard."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from node.web.probes import PROBES

_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class Guarded:
    """Answers under the names of the dashboard only, and adds security headers to every response, also errors.

    Under any name, a page of another site could reach the dashboard by a name of that site (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, *, tls: bool, hosts: Iterable[str]) -> None:
        self._app = app
        names = ("localhost", socket.gethostname(), socket.getfqdn(), *hosts)
        self._names = frozenset(name.lower() for name in names)
        self._headers = {**_HEADERS, **({"strict-transport-security": "max-age=31536000"} if tls else {})}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [(k.encode(), v.encode()) for k, v in self._headers.items()]
                if not scope["path"].startswith("/static/"):
                    headers.append((b"cache-control", b"no-store"))  # patient data stays out of the browser's disk
                message["headers"] = [*message.get("headers", []), *headers]
            await send(message)

        if scope["type"] == "http":  # a query that is not UTF-8 ends every page that asks for its own address
            scope = {**scope, "query_string": scope["query_string"].decode("utf-8", "replace").encode()}
        if scope["type"] == "http" and scope["path"] not in PROBES and not self._is_ours(Headers(scope=scope)):
            refused = PlainTextResponse("This is no name of the dashboard; add it to [web] hosts.\n", 421)
            await refused(scope, receive, guarded)
        else:
            await self._app(scope, receive, guarded)

    def _is_ours(self, headers: Headers) -> bool:
        name = re.sub(r":\d*$", "", headers.get("host", "")).lower()
        try:
            ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
        except ValueError:
            return name.removesuffix(".") in self._names
        return True
