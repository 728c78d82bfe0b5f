"""Half requests, silent connections and ambiguous requests harm nobody else at the dashboard."""

from __future__ import annotations

import re
import socket
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from certificates import Authority
from dashboards import Dashboard, Serve
from receivers import until

import node.web.http_connections
import node.web.strict_http

ATTACKER = "127.0.0.66"
HALF_FORM = (
    b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\n\r\ncsrf="
)
HALF = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "


def connect(dashboard: Dashboard, address: str = ATTACKER) -> socket.socket:
    opened = socket.create_connection(("127.0.0.1", dashboard.config.web.port), 30.0, source_address=(address, 0))
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return opened


def read(opened: socket.socket) -> bytes:
    """Everything until the node closes the connection."""
    data = b""
    try:
        while part := opened.recv(65536):
            data += part
    except ConnectionError:
        pass
    return data


def is_open(opened: socket.socket) -> bool:
    opened.setblocking(False)
    try:
        while opened.recv(65536):
            pass
    except BlockingIOError:
        return True
    except ConnectionError:
        return False
    finally:
        opened.setblocking(True)
    return False


def test_half_requests_of_one_address_leave_the_others_their_turn(dashboard: Dashboard) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with ExitStack() as stack:
        opened = []
        for _ in range(1500):
            opened.append(stack.enter_context(connect(dashboard)))
            try:
                opened[-1].sendall(HALF)
            except ConnectionError:
                continue
        begun = time.monotonic()
        assert dashboard.browser("vera").get("/").status_code == 200
        assert time.monotonic() - begun < 60
        served = len(list(Path("/proc/self/fd").iterdir())) - before - len(opened)
        assert served < node.web.http_connections.OF_ADDRESS + 30
    assert dashboard.browser("vera").get("/").status_code == 200


def test_silent_connections_before_the_handshake_are_bounded_too(serve: Serve, authority: Authority) -> None:
    import ssl

    pem, key = authority.pem("ainode"), authority.key("ainode")
    trusting = ssl.create_default_context(cafile=authority.pem("ca"))
    with serve(certificate=pem, key=key) as dashboard, ExitStack() as stack:
        opened = [stack.enter_context(connect(dashboard)) for _ in range(300)]
        assert dashboard.browser("vera", trusting).get("/").status_code == 200
        until(lambda: sum(map(is_open, opened)) <= node.web.http_connections.OF_ADDRESS)


@pytest.mark.parametrize(
    "begun",
    [b"", HALF, HALF_FORM, HALF_FORM.replace(b"urlencoded", b"other")],
    ids=["nothing", "head", "form", "body that nobody reads"],
)
def test_a_request_that_does_not_come_to_its_end_is_cut_off(
    dashboard: Dashboard, begun: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(node.web.strict_http, "REQUEST_SECONDS", 1.0)
    with connect(dashboard) as opened:
        opened.sendall(begun)
        deadline = time.monotonic() + 30.0
        while is_open(opened):
            assert time.monotonic() < deadline, "each byte would begin the time again"
            with suppress(ConnectionError):
                opened.sendall(b"x" if begun else b"")
            time.sleep(0.2)
    assert "Traceback" not in caplog.text
    assert dashboard.browser("vera").get("/").status_code == 200


def test_a_connection_serves_several_requests_one_after_the_other(dashboard: Dashboard) -> None:
    browser = dashboard.browser("vera")
    assert [browser.get("/destinations").status_code for _ in range(5)] == [200] * 5
    with connect(dashboard) as opened:
        for _ in range(3):
            for part in (b"GET /healthz HT", b"TP/1.1\r\nHost: 127.0.0.1\r", b"\n\r", b"\n"):
                opened.sendall(part)
                time.sleep(0.02)
            answered = b""
            while not answered.endswith(b"ok\n"):
                answered += opened.recv(65536)
            assert answered.startswith(b"HTTP/1.1 200")


GET = b"GET /healthz HTTP/1.1\r\n"
HOST = b"Host: 127.0.0.1\r\n"
POST = b"POST /login HTTP/1.1\r\n"
SMUGGLED = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
SHAPES = {
    "length and chunks": POST + HOST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunks": POST + HOST + b"Transfer-Encoding: chunked\r\n\r\n5\r\ncsrf=\r\n0\r\n\r\n" + SMUGGLED,
    "chunks in disguise": POST + HOST + b"Transfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "two lengths": POST + HOST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\ncsrf=" + SMUGGLED,
    "a list of lengths": POST + HOST + b"Content-Length: 5, 5\r\n\r\ncsrf=" + SMUGGLED,
    "a signed length": POST + HOST + b"Content-Length: +5\r\n\r\ncsrf=" + SMUGGLED,
    "line feeds alone": b"GET /healthz HTTP/1.1\nHost: 127.0.0.1\n\n" + SMUGGLED,
    "a line feed in a header": GET + HOST + b"X: a\nContent-Length: 5\r\n\r\n" + SMUGGLED,
    "a carriage return in a header": GET + HOST + b"X: a\rContent-Length: 5\r\n\r\n" + SMUGGLED,
    "a folded header": GET + HOST + b"X: a\r\n Content-Length: 5\r\n\r\n" + SMUGGLED,
    "a space before the colon": GET + HOST + b"Content-Length : 5\r\n\r\n" + SMUGGLED,
    "two hosts": GET + HOST + b"Host: evil.example\r\n\r\n",
    "no host": GET + b"\r\n",
    "an old version": b"GET /healthz HTTP/0.9\r\n" + HOST + b"\r\n",
    "two spaces": b"GET  /healthz HTTP/1.1\r\n" + HOST + b"\r\n",
    "a zero byte": GET + HOST + b"X: \0\r\n\r\n",
    "a whole address": b"GET http://evil.example/healthz HTTP/1.1\r\n" + HOST + b"\r\n",
    "a large head": GET + HOST + b"X: " + b"x" * 70_000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_request_that_proxies_may_read_otherwise_is_refused(standing: Dashboard, shape: bytes) -> None:
    with connect(standing) as opened:
        with suppress(ConnectionError):
            opened.sendall(shape)
        answered = read(opened)
    assert re.findall(rb"HTTP/1\.1 (\d+)", answered) in ([b"400"], [])
    assert b"ok\n" not in answered


def test_a_request_hidden_behind_another_is_not_answered(standing: Dashboard) -> None:
    with connect(standing) as opened:
        opened.sendall(SMUGGLED + SMUGGLED)
        assert len(re.findall(rb"HTTP/1\.1 200", read(opened))) == 1
