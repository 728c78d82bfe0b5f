"""A client that asks for many pictures, or reads them slowly, leaves the others of the DICOMweb service their turn."""

from __future__ import annotations

import re
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from dashboards import analysed
from dicomweb_services import TOKENS, service_config
from ledgers import open_copy
from PIL import Image

import node.web.strict_http
from node.dicomweb.rendered import RenderedService
from node.dicomweb.rendering import Rendering
from node.dicomweb.server import serving
from node.ledger.tables import instance
from node.spool import Spool

ATTACKER, COLLEAGUE = "127.0.0.66", "127.0.0.67"
LARGE = "viewport=3000,3000"
"""As PNG it is drawn for about half a second."""


@dataclass(frozen=True)
class Viewed:
    """The service of a node, and one of its images."""

    port: int
    image: str

    def ask(self, path: str, accept: str, address: str = ATTACKER) -> socket.socket:
        """Send a request and read nothing; the system of this client takes a few kilobytes of the response."""
        opened = socket.socket()
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        opened.settimeout(300.0)
        opened.bind((address, 0))
        opened.connect(("127.0.0.1", self.port))
        fields = f"Host: 127.0.0.1\r\nAuthorization: Bearer {TOKENS['viewer']}\r\nAccept: {accept}\r\n\r\n"
        opened.sendall(f"GET {path} HTTP/1.1\r\n{fields}".encode())
        return opened

    def colleague(self) -> httpx.Client:
        return httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}",
            transport=httpx.HTTPTransport(local_address=COLLEAGUE),
            headers={"authorization": f"Bearer {TOKENS['viewer']}", "accept": "image/jpeg"},
            timeout=300.0,
        )


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("pattern") / "node"
    study, _ = analysed(folder)
    return folder, study


@contextmanager
def service(pattern: tuple[Path, str], tmp_path: Path) -> Iterator[Viewed]:
    folder = tmp_path / "node"
    shutil.copytree(pattern[0], folder)
    config = service_config(folder, 11112, tmp_path)
    engine = open_copy(f"sqlite:///{folder / 'ledger.sqlite'}")
    with engine.connect() as connection:
        of = connection.execute(sa.select(instance).limit(1)).one()
    path = f"/studies/{pattern[1]}/series/{of.series_instance_uid}/instances/{of.sop_instance_uid}"
    with serving(config, engine, Spool(folder)):
        yield Viewed(config.dicomweb.port, path)
    engine.dispose()


@pytest.fixture
def viewed(pattern: tuple[Path, str], tmp_path: Path) -> Iterator[Viewed]:
    with service(pattern, tmp_path) as running:
        yield running


def response(opened: socket.socket) -> bytes:
    """Everything until the service closes the connection."""
    data = b""
    with suppress(ConnectionError):
        while part := opened.recv(65536):
            data += part
    return data


def test_fifty_pictures_that_are_read_slowly_leave_another_client_its_picture(
    viewed: Viewed, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []
    draw = RenderedService._drawn

    def noted(self: RenderedService, place: Any, rendering: Rendering) -> bytes:
        drawn.append(rendering.media_type)
        return draw(self, place, rendering)

    monkeypatch.setattr(RenderedService, "_drawn", noted)
    fifty = f"{viewed.image}/frames/{','.join(['1'] * 50)}/rendered?{LARGE}"
    with ExitStack() as stack, viewed.colleague() as colleague:
        several = 'multipart/related; type="image/png"'
        opened = [stack.enter_context(viewed.ask(fifty, several)) for _ in range(20)]
        single = [stack.enter_context(viewed.ask(f"{viewed.image}/rendered?{LARGE}", "image/png")) for _ in range(11)]
        assert opened[0].recv(12) == b"HTTP/1.1 200"  # drawing has begun
        for _ in range(3):
            before = len(drawn)
            answer = colleague.get(f"{viewed.image}/thumbnail")
            assert (answer.status_code, Image.open(BytesIO(answer.content)).format) == (200, "JPEG")
            between = drawn[before : drawn.index("image/jpeg", before)]
            assert len(between) < 10, "it waits for all that the other client asks for"
        single[-1].recv(1)  # whoever came last of the other client has its turn, too


def test_requests_of_one_client_beyond_the_bound_are_refused_and_those_of_another_are_not(viewed: Viewed) -> None:
    with ExitStack() as stack, viewed.colleague() as colleague:
        address = f"{viewed.image}/rendered?{LARGE}"
        opened = [stack.enter_context(viewed.ask(address, "image/png")) for _ in range(60)]
        refused = opened[-1].recv(100)
        assert refused.startswith(b"HTTP/1.1 503")
        assert re.search(rb"(?i)retry-after: [0-9]+\r\n", refused)
        assert colleague.get(f"{viewed.image}/thumbnail").status_code == 200


def test_pictures_end_without_an_error_in_the_log_when_the_service_stops(
    pattern: tuple[Path, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with ExitStack() as stack:
        with service(pattern, tmp_path) as viewed:
            several, address = 'multipart/related; type="image/png"', f"{viewed.image}/frames/{','.join(['1'] * 50)}"
            slow = stack.enter_context(viewed.ask(f"{address}/rendered?{LARGE}", several))
            sent = slow.recv(12)
            reading = stack.enter_context(viewed.ask(f"{address}/rendered?viewport=600,600", several))
            reading.recv(12)
            waiting = [
                stack.enter_context(viewed.ask(f"{viewed.image}/rendered?{LARGE}", "image/png")) for _ in range(20)
            ]
            waiting[0].recv(1)
            begun = time.monotonic()
        assert time.monotonic() - begun < 10
        answers = [response(opened) for opened in waiting[1:]]
        assert any(answer.startswith(b"HTTP/1.1 503") for answer in answers)
        assert all(answer.startswith((b"HTTP/1.1 503", b"HTTP/1.1 200")) for answer in answers)
        boundary = b"--\r\n\r\n0\r\n\r\n"
        assert not (sent + response(slow)).endswith(boundary), "it looks whole"
        assert not response(reading).endswith(boundary), "it looks whole"
    assert "Traceback" not in caplog.text
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]


def test_headers_that_come_byte_by_byte_are_cut_off(
    viewed: Viewed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(node.web.strict_http, "REQUEST_SECONDS", 1.0)
    with socket.create_connection(("127.0.0.1", viewed.port), 30.0) as opened:
        opened.sendall(f"GET {viewed.image}/rendered HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ".encode())
        deadline = time.monotonic() + 30.0
        with suppress(ConnectionError):
            while time.monotonic() < deadline:
                opened.sendall(b"x")
                time.sleep(0.1)
        assert time.monotonic() < deadline, "each byte would begin the time again"
    assert "Traceback" not in caplog.text
