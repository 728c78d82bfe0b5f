"""The dashboard as a fuzzing target: requests of an operator who is logged in, without a socket."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dashboards import PASSWORD, Dashboard, analysed, paths_of
from starlette.types import ASGIApp

from node.jobs.engine import Jobs
from node.web.server import make_app

_KINDS = (b"application/x-www-form-urlencoded", b"multipart/form-data; boundary=x", b"text/plain", b"")
_DECLARED = {200, 204, 303, 400, 403, 404, 405, 409, 413, 429}


class Browser:
    """Requests to an application in this process, with the cookie of its session."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._loop = asyncio.new_event_loop()
        self._cookie = b""

    def request(self, method: str, path: str, query: bytes = b"", body: bytes = b"", kind: bytes = b"") -> Any:
        """Status and body of the answer. Raises what the application raises."""
        status, said = 0, b""
        sent = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Any:
            return sent.pop() if sent else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            nonlocal status, said
            if message["type"] == "http.response.start":
                status = message["status"]
                for name, value in message["headers"]:
                    if name.lower() == b"set-cookie":
                        self._cookie = value.partition(b";")[0]
            else:
                said += message.get("body", b"")

        headers = [(b"host", b"localhost"), (b"content-length", str(len(body)).encode())]
        headers += [(b"content-type", kind)] if kind else []
        headers += [(b"cookie", self._cookie)] if self._cookie else []
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path,
            "raw_path": path.encode(), "root_path": "", "scheme": "http", "query_string": query, "headers": headers,
            "client": ("127.0.0.1", 50000), "server": ("127.0.0.1", 80),
        }  # fmt: skip
        self._loop.run_until_complete(self._app(scope, receive, send))
        return status, said

    def token(self) -> bytes:
        """The token that forms of this session carry."""
        token = re.search(rb'name="csrf" value="([^"]+)"', self.request("GET", "/login")[1])
        assert token is not None
        return token[1]

    def close(self) -> None:
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


@contextmanager
def pages(folder: Path) -> Iterator[Callable[[bytes], None]]:
    """Two bytes for page and content type, a line with the query, then the body; ``csrf=x`` becomes the token."""
    dashboard = Dashboard(folder, *analysed(folder))
    browser = Browser(
        make_app(dashboard.config, dashboard.engine, dashboard.spool, Jobs(dashboard.engine), dashboard.rules_file)
    )
    login = b"csrf=" + browser.token() + b"&name=otto&password=" + PASSWORD.encode().replace(b" ", b"+")
    assert browser.request("POST", "/login", body=login, kind=_KINDS[0])[0] == 303
    token = browser.token()
    routes = [("POST", path) for path in paths_of(dashboard, "POST")]
    routes += [("GET", path) for path in paths_of(dashboard, "GET")]

    def read(data: bytes) -> None:
        if len(data) < 2:
            return
        query, _, body = data[2:].partition(b"\n")
        method, path = routes[data[0] % len(routes)]
        body = body.replace(b"csrf=x", b"csrf=" + token).replace(b"\r\n\r\nCSRF\r\n", b"\r\n\r\n" + token + b"\r\n")
        status, _ = browser.request(method, path, query, body, _KINDS[data[1] % len(_KINDS)])
        assert status in _DECLARED, status

    try:
        yield read
    finally:
        browser.close()
        dashboard.close()
