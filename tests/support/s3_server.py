"""A server of S3 (moto), and a proxy in front of it that refuses, cuts or alters what it answers."""

from __future__ import annotations

import http.client
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import httpx
from real_peers import free_port
from receivers import until

PROGRAM = Path(__file__).parents[2] / "build" / "s3-server" / "bin" / "moto_server"
"""Of an environment of its own (`make build/s3-server`), because it needs other versions than the node."""
BUCKET = "images"


class Proxy(ThreadingHTTPServer):
    """What stands between the node and the store."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.store_port = port
        self.fault = ""
        """``refuse``: 503; ``cut``: half of an answer; ``alter``: a wrong byte; ``ignore``: no conditions, no ranges;
        "": none."""
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy
    _passed: ClassVar[set[str]] = {"content-length", "etag", "last-modified", "content-range", "content-type"}

    def log_message(self, *_of: object) -> None:
        return

    def _answer(self) -> None:
        body, fault = self.rfile.read(int(self.headers.get("content-length", 0))), self.server.fault
        if fault == "refuse":
            self._send(503, {"content-length": "0"}, b"")
            return
        ignored = ("if-none-match", "range") if fault == "ignore" else ()
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ignored}
        status, kept, content = self._asked(body, headers)
        if self.command == "GET" and "list-type" not in self.path and len(content) > 100:
            if fault == "alter":
                content = content[:60] + bytes([content[60] ^ 1]) + content[61:]
            if fault == "cut":
                content = content[: len(content) // 2]
        self._send(status, kept, content)
        if fault == "cut":
            self.close_connection = True

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _answer  # noqa: N815 - names of http.server

    def _asked(self, body: bytes, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.store_port)
        connection.request(self.command, self.path, body, headers)
        response = connection.getresponse()
        content = response.read()
        kept = {name: value for name, value in response.getheaders() if name.lower() in self._passed}
        connection.close()
        return response.status, kept, content

    def _send(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def proxied_server() -> Iterator[Proxy]:
    """Start the server with an empty bucket, and the proxy, which is yielded."""
    port = free_port()
    command = [str(PROGRAM), "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def answers() -> bool:
        assert process.poll() is None
        try:
            return httpx.put(f"http://127.0.0.1:{port}/{BUCKET}").is_success
        except httpx.HTTPError:
            return False

    proxy = Proxy(port)
    try:
        until(answers)
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
        process.kill()
        process.wait()
