"""A server of S3 (moto), and a proxy in front of it that stalls, refuses, cuts or alters what it answers."""

from __future__ import annotations

import http.client
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
from real_peers import free_port
from receivers import until

from node.object_store import store

PROGRAM = Path(__file__).parents[2] / "build" / "s3-server" / "bin" / "moto_server"
"""Of an environment of its own (`make build/s3-server`), because it needs other versions than the node."""
BUCKET = "images"


def store_table(url: str, prefix: str, folder: Path, **keys: Any) -> dict[str, Any]:
    """Return ``[storage.object_store]`` for a prefix at ``url``; the file of credentials is written to ``folder``."""
    credentials = folder / "credentials"
    credentials.write_text("[default]\naws_access_key_id = key\naws_secret_access_key = secret\n")
    return {"url": f"s3://{BUCKET}/{prefix}", "endpoint": url, "credentials_file": str(credentials), **keys}


_ERRORS = {
    "refuse": (503, "ServiceUnavailable", "Please try again."),
    "busy": (503, "SlowDown", "Please reduce your request rate."),
    "forbid": (403, "AccessDenied", "Access Denied"),
    "skew": (403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large."),
    "lose": (404, "NoSuchKey", "The specified key does not exist."),
}
"""Status, code and message by fault."""
_SLOW_SECONDS = 0.2


class Proxy(ThreadingHTTPServer):
    """What stands between the node and the store."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, host: str) -> None:
        super().__init__((host, 0), _Handler)
        self.store_port = port
        self.fault = ""
        """One of ``_ERRORS``; ``stall``: no answer; ``slow``: a byte now and then; ``reset``: the connection ends;
        ``cut``: half of an answer; ``short``: half, declared as the whole; ``alter``: a wrong byte; ``ignore``: no
        conditions, no ranges; "": none. Methods may follow, to which it is limited: ``stall PUT DELETE``."""
        self.requests: list[str] = []
        """Method and path of each request."""
        self.url = f"http://{host}:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def handle_error(self, *_of: object) -> None:
        """Say nothing: the node has hung up, as it should."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy
    _passed: ClassVar[set[str]] = {"content-length", "etag", "last-modified", "content-range", "content-type"}

    def log_message(self, *_of: object) -> None:
        return

    def _answer(self) -> None:
        body, fault = self.rfile.read(int(self.headers.get("content-length", 0))), self._fault()
        self.server.requests.append(f"{self.command} {self.path}")
        if fault in ("stall", "reset"):
            self._hang_up(stalled=fault == "stall")
            return
        if fault in _ERRORS:
            status, code, message = _ERRORS[fault]
            error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
            self._send(status, {"content-length": str(len(error)), "content-type": "application/xml"}, error)
            return
        ignored = ("if-none-match", "range") if fault == "ignore" else ()
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ignored}
        status, kept, content = self._asked(body, headers)
        if self.command == "GET" and "list-type" not in self.path and len(content) > 100:
            if fault == "alter":
                content = content[:60] + bytes([content[60] ^ 1]) + content[61:]
            if fault in ("cut", "short"):
                content = content[: len(content) // 2]
            if fault == "short":
                kept = {name: value for name, value in kept.items() if name.lower() != "content-length"}
                kept["content-length"] = str(len(content))
        self._send(status, kept, content, slow=fault == "slow")
        if fault == "cut":
            self.close_connection = True

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _answer  # noqa: N815 - names of http.server

    def _fault(self) -> str:
        """What is wrong with this request."""
        fault, *methods = self.server.fault.split() or [""]
        is_about_packs = fault != "lose" or "/packs/" in self.path
        return fault if (not methods or self.command in methods) and is_about_packs else ""

    def _hang_up(self, *, stalled: bool) -> None:
        self.close_connection = True
        while stalled and self._fault() == "stall":
            time.sleep(0.05)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _asked(self, body: bytes, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.store_port)
        connection.request(self.command, self.path, body, headers)
        response = connection.getresponse()
        content = response.read()
        kept = {name: value for name, value in response.getheaders() if name.lower() in self._passed}
        connection.close()
        return response.status, kept, content

    def _send(self, status: int, headers: dict[str, str], content: bytes, *, slow: bool = False) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        while slow and content and self._fault() == "slow":
            self.wfile.write(content[:1])
            content = content[1:]
            time.sleep(_SLOW_SECONDS)
        self.wfile.write(content)


@contextmanager
def impatient() -> Iterator[None]:
    """Let the node give up requests after a second, as long as the ``with`` block lasts."""
    limits = {"SILENCE_SECONDS": 1.0, "_LEAST_SECONDS": 1.0, "_SLOWEST_BYTES_PER_SECOND": 1 << 40}
    with pytest.MonkeyPatch.context() as patched:
        for name, limit in limits.items():
            patched.setattr(store, name, limit)
        yield


@contextmanager
def proxied_server(host: str = "127.0.0.1") -> Iterator[Proxy]:
    """Start the server with an empty bucket, and the proxy at ``host``, which is yielded."""
    port = free_port()
    command = [str(PROGRAM), "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def answers() -> bool:
        assert process.poll() is None
        try:
            return httpx.put(f"http://127.0.0.1:{port}/{BUCKET}").is_success
        except httpx.HTTPError:
            return False

    proxy = Proxy(port, host)
    try:
        until(answers)
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
        process.kill()
        process.wait()
