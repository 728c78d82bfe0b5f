"""A flood of connections from one address stops nobody at another one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from certificates import Authority, tls
from dicom_files import ct_series, write
from raw_peer import RAW_CT, answer, associate_rq, from_address, is_closed
from real_peers import dcmtk
from receivers import until
from supervised import Supervised
from tls_peers import as_peer

from node.ledger.tables import instance

HONEST = 44
"""Associations of storescu, as many as were tried when 10 silent connections were enough to lock everybody out."""
EVERYTHING = ("silent", "trickle", "idle", "stalled", "aborted", "reset")


@contextmanager
def flooded(port: int, *kinds: str, addresses: str = "127.0.0.2") -> Iterator[None]:
    program = Path(__file__).parents[1] / "support" / "flood.py"
    command = [sys.executable, str(program), str(port), addresses, *kinds]
    environment = {"PYTHONPATH": f"{program.parent}:{program.parents[2]}"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "flooding\n"
            yield
        finally:
            process.kill()


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    running = Supervised(tmp_path)
    yield running
    running.kill()


def stored(port: int, images: list[Path], *options: str) -> int:
    """How many of the images one storescu each has stored, four at a time."""

    def send(image: Path) -> bool:
        arguments = ["-aet", "CT1", "-aec", "AINODE", *options, "127.0.0.1", port, image]
        return dcmtk("storescu", *arguments, check=False).returncode == 0

    with ThreadPoolExecutor(4) as pool:
        return sum(pool.map(send, images))


@pytest.mark.parametrize("kinds", [*((kind,) for kind in EVERYTHING), EVERYTHING], ids="-".join)
def test_every_honest_send_passes_a_flood_from_one_address(
    supervised: Supervised, tmp_path: Path, kinds: tuple[str, ...]
) -> None:
    count = HONEST if kinds == EVERYTHING else 12
    images = write(ct_series(count, 64), tmp_path / "images")
    supervised.start("processes = 2")
    with flooded(supervised.port, *kinds):
        assert stored(supervised.port, images) == count
    assert len(supervised.node().rows(instance)) == count


def test_every_honest_send_passes_a_flood_of_unfinished_tls_handshakes(
    supervised: Supervised, tmp_path: Path, authority: Authority
) -> None:
    images = write(ct_series(12, 64), tmp_path / "images")
    supervised.start(tls(authority, more="processes = 2"))
    with flooded(supervised.port, "silent", "hello", "reset"):
        assert stored(supervised.port, images, *as_peer(authority, "ct1")) == 12


def test_addresses_of_no_caller_get_a_reason_but_few_connections(supervised: Supervised, tmp_path: Path) -> None:
    images = write(ct_series(8, 16), tmp_path / "images")
    supervised.start('processes = 2\ncallers = [{ title = "CT1", address = "127.0.0.1" }]')
    with ExitStack() as stack:
        stranger = stack.enter_context(from_address(supervised.port, "127.0.0.3"))
        stranger.sendall(associate_rq(RAW_CT, calling=b"CT1"))
        assert answer(stranger)[7:10] == bytes((1, 1, 3))  # calling AE title not recognised
        addresses = ",".join(f"127.0.0.{number}" for number in range(2, 12))
        stack.enter_context(flooded(supervised.port, "silent", addresses=addresses))
        assert stored(supervised.port, images) == 8


def test_connections_of_one_address_are_counted_over_all_processes(supervised: Supervised) -> None:
    supervised.start("processes = 2\nconnections_per_address = 5")
    with ExitStack() as stack:
        opened = [stack.enter_context(from_address(supervised.port, "127.0.0.2")) for _ in range(30)]
        until(lambda: sum(map(is_closed, opened)) == 25)
        other = stack.enter_context(from_address(supervised.port, "127.0.0.3"))
        other.sendall(associate_rq(RAW_CT))
        assert answer(other)[:1] == b"\2"
        for connection in opened:
            connection.close()
        until(lambda: accepted(supervised.port, "127.0.0.2"))


def accepted(port: int, address: str) -> bool:
    with from_address(port, address) as opened:
        opened.sendall(associate_rq(RAW_CT))
        return answer(opened)[:1] == b"\2"


def test_no_caller_holds_every_association_and_a_reserved_one_is_free(supervised: Supervised) -> None:
    callers = '[{ title = "A" }, { title = "B" }, { title = "C", reserved_associations = 2 }]'
    supervised.start(f"processes = 2\nmax_associations = 10\ncallers = {callers}")
    with ExitStack() as stack:

        def associations(title: bytes, count: int) -> int:
            opened = [stack.enter_context(from_address(supervised.port, "127.0.0.1")) for _ in range(count)]
            for connection in opened:
                connection.sendall(associate_rq(RAW_CT, calling=title))
            return sum(answer(connection)[:1] == b"\2" for connection in opened)

        assert associations(b"A", 12) == 6  # three quarters of the 8 that are reserved for nobody
        assert associations(b"B", 6) == 2
        assert associations(b"C", 4) == 2
