"""The port of the dashboard belongs to one node."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import closing, suppress
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from without_locks import NO_LOCKS, ThreadWithoutLocks

from node.errors import PlatformError
from node.process.port_lock import PortLock, is_own_port
from node.web import http_connections
from node.web.http_connections import listen, served


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    folders = tmp_path / "node", tmp_path / "other"
    for folder in folders:
        folder.mkdir()
    return folders


def test_two_nodes_never_share_the_port_of_the_dashboard(folders: tuple[Path, Path], free_port: int) -> None:
    """The kernel lets the processes of one user share it: each would answer every second request."""
    node, other = folders
    first = listen("127.0.0.1", free_port, node)
    with pytest.raises(PlatformError, match=rf"\[web\] 127.0.0.1:{free_port}: Address already in use; stop what uses"):
        listen("127.0.0.1", free_port, other)
    first.close()
    listen("127.0.0.1", free_port, other).close()


def test_the_next_process_of_the_same_node_takes_over_at_a_reload(folders: tuple[Path, Path], free_port: int) -> None:
    node, other = folders
    before = listen("127.0.0.1", free_port, node)
    after = listen("127.0.0.1", free_port, node)
    before.close()
    with socket.create_connection(("127.0.0.1", free_port)):
        after.accept()[0].close()
    with pytest.raises(PlatformError):
        listen("127.0.0.1", free_port, other)
    after.close()


def test_a_port_of_another_program_is_named(folders: tuple[Path, Path]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(PlatformError, match="Address already in use"):
        listen("127.0.0.1", taken.getsockname()[1], folders[0])


def test_a_folder_on_a_file_system_without_locks_is_named_with_the_remedy(tmp_path: Path) -> None:
    def lock() -> None:
        with closing(PortLock(tmp_path, 104)) as own:
            own.share()

    for question in (lock, lambda: is_own_port(tmp_path, 104)):
        with pytest.raises(PlatformError, match=rf"\[storage\] folder {tmp_path}: .*no file locks.*move it to a local"):
            ThreadWithoutLocks(NO_LOCKS).run(question)


def test_a_request_that_never_ends_is_left_behind(
    tmp_path: Path, free_port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    begun, ended = threading.Event(), threading.Event()

    async def endless(_request: Request) -> Response:
        begun.set()
        while not ended.is_set():
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.05)
        return Response()

    monkeypatch.setattr(http_connections, "REQUEST_END_SECONDS", 0)
    monkeypatch.setattr(http_connections, "SERVER_END_SECONDS", 1)
    app, listener = Starlette(routes=[Route("/", endless)]), listen("127.0.0.1", free_port, tmp_path)
    others = set(threading.enumerate())
    with served(app, listener, "web"), socket.create_connection(("127.0.0.1", free_port)) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert begun.wait(60)
        (server,) = (thread for thread in set(threading.enumerate()) - others if thread.name == "web")
    assert "web: a request has not ended in 1 s and is left behind" in caplog.text
    listen("127.0.0.1", free_port, tmp_path).close()
    ended.set()
    server.join(60)
    assert not server.is_alive()
