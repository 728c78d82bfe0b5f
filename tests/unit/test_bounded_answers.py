"""A server that drips its answer holds nobody longer than the timeout of the request, whatever part of it drips."""

from __future__ import annotations

import time

import httpx
import pytest
from dripping_server import answering

from node.bounded_answers import bound_answers
from node.config import Destination
from node.deliver.association import Timeouts
from node.deliver.stow import ping, service
from node.errors import UnreachableError

SECONDS = 1.5
STATUS = b"HTTP/1.1 200 OK\r\n"
CHUNKED = STATUS + b"Transfer-Encoding: chunked\r\n\r\n"
FINE = STATUS + b"Content-Length: 2\r\n\r\n[]"


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("first", "drops"),
    [
        (b"", b"H"),
        (STATUS + b"X-Drip: ", b"x"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (CHUNKED + b"2;", b"x"),
        (CHUNKED, b"1\r\nx\r\n"),
        (CHUNKED + b"0\r\nX-Trailer: ", b"x"),
    ],
    ids=["status", "header", "continue", "chunk", "body", "trailer"],
)
def test_an_answer_that_drips_ends_with_the_timeout(first: bytes, drops: bytes) -> None:
    client = bound_answers(httpx.Client(timeout=SECONDS, trust_env=False))
    with answering(first, drops) as url, client, pytest.raises(httpx.ReadTimeout):
        client.get(url)


@pytest.mark.timeout(60)
def test_a_dicomweb_destination_whose_header_drips_is_tried_again() -> None:
    timeouts = Timeouts(answer_seconds=SECONDS)
    with answering(STATUS + b"X-Drip: ", b"x") as url:
        opened = service("archive", Destination(url=url), timeouts)
        with pytest.raises(UnreachableError, match="the node tries again"), opened as client:
            ping(client)


def test_a_connection_waits_for_each_answer_anew() -> None:
    """The time of answers that have come is not that of the next."""
    with answering(FINE, b"") as url, bound_answers(httpx.Client(timeout=SECONDS, trust_env=False)) as client:
        began = time.monotonic()
        while time.monotonic() < began + 2 * SECONDS:
            assert client.get(url).json() == []
            time.sleep(0.2)


def test_a_long_answer_takes_longer_than_the_timeout_while_its_bytes_come() -> None:
    block = bytes(4000)
    client = bound_answers(httpx.Client(timeout=1.0, trust_env=False))
    with answering(STATUS + b"Content-Length: 200000\r\n\r\n", block) as url, client:
        assert len(client.get(url).content) == 200_000
