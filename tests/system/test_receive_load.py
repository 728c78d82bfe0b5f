"""Many senders, long series, large instances: memory stays as it is, and nobody waits for the others.

``AINODE_HEAVY=1 pytest -s tests/system/test_receive_load.py`` sends what takes minutes, too, and says what it measured.
"""

from __future__ import annotations

import os
import socket
import statistics
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from dicom_files import ct_series
from raw_peer import COMMAND, LAST, MORE, answer, associated, c_store, p_data, status
from receivers import encode, receiving, until
from supervised import Supervised

from node.ledger.tables import instance

HEAVY = pytest.mark.skipif("AINODE_HEAVY" not in os.environ, reason="takes minutes; AINODE_HEAVY is not set")
FRAGMENT = (1 << 17) - 12
MOST_MB = 120.0
"""Resident memory of one receiver process, whatever is sent."""
BIG = 4
"""Senders of large instances beside the small one."""


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    running = Supervised(tmp_path)
    yield running
    running.kill()


class Image:
    """A CT that is encoded once, under ever new SOP Instance UIDs."""

    def __init__(self, size: int) -> None:
        dataset = ct_series(1, size)[0]
        dataset.SOPInstanceUID = self.uid(0)
        self._encoded = encode(dataset)

    @staticmethod
    def uid(number: int) -> str:
        return f"2.25.{10**9 + number}"

    def numbered(self, number: int) -> bytes:
        return self._encoded.replace(self.uid(0).encode(), self.uid(number).encode())


def store(opened: socket.socket, uid: str, data: bytes) -> float:
    """Send one CT; the seconds until its Success."""
    begun = time.monotonic()
    opened.sendall(p_data(COMMAND, c_store(uid)))
    send_fragments(opened, (data[start : start + FRAGMENT] for start in range(0, len(data), FRAGMENT)))
    assert status(answer(opened)) == 0x0000
    return time.monotonic() - begun


def send_fragments(opened: socket.socket, fragments: Iterable[bytes]) -> None:
    """Of one data set, the last one empty."""
    for fragment in fragments:
        opened.sendall(p_data(MORE, fragment))
    opened.sendall(p_data(LAST, b""))


def large(uid: str, pixel_bytes: int) -> Iterator[bytes]:
    """A CT with so much Pixel Data, in fragments."""
    dataset = ct_series(1, 16)[0]
    dataset.SOPInstanceUID = uid
    del dataset.PixelData
    yield encode(dataset) + b"\xe0\x7f\x10\x00OW\0\0" + pixel_bytes.to_bytes(4, "little")
    for start in range(0, pixel_bytes, FRAGMENT):
        yield bytes(min(FRAGMENT, pixel_bytes - start))


def test_one_process_stays_small_with_64_associations(supervised: Supervised) -> None:
    callers = 'callers = [{ title = "RAW", max_associations = 64 }]'
    supervised.start(f"processes = 1\nmax_associations = 64\nconnections_per_address = 0\n{callers}")
    images = Image(512)
    with ExitStack() as stack:
        opened = [stack.enter_context(associated(supervised)) for _ in range(64)]
        for number, association in enumerate(opened, 1):
            store(association, images.uid(number), images.numbered(number))
        peak = supervised.peak_mb()
    print(f"64 associations in one process: {peak:.0f} MB")
    assert peak < MOST_MB
    assert len(supervised.node().rows(instance)) == 64


def test_small_images_do_not_wait_for_large_ones(tmp_path: Path) -> None:
    """Large instances keep coming in on other associations, and none of them ends before the small ones did."""
    images, ended, sent = Image(16), threading.Event(), [0] * BIG

    def keep_sending(index: int) -> None:
        with associated(node) as opened:
            opened.sendall(p_data(COMMAND, c_store(f"1.2.{index}")))
            while not ended.is_set():
                opened.sendall(p_data(MORE, bytes(FRAGMENT)))
                sent[index] += FRAGMENT

    with receiving(tmp_path / "node") as node, associated(node) as opened:
        alone = [store(opened, images.uid(number), images.numbered(number)) for number in range(1, 21)]
        senders = [threading.Thread(target=keep_sending, args=(index,)) for index in range(BIG)]
        for sender in senders:
            sender.start()
        until(lambda: min(sent) > 0)
        beside = [store(opened, images.uid(number), images.numbered(number)) for number in range(21, 41)]
        during = list(sent)
        ended.set()
        for sender in senders:
            sender.join()
        until(lambda: len(node.files()) == 40)  # what was not complete has left nothing
        assert len(node.rows(instance)) == 40
    print(
        f"small images, alone: median {statistics.median(alone) * 1000:.1f} ms, longest {max(alone) * 1000:.1f} ms; "
        f"beside {sum(during) / 1e6:.0f} MB of {BIG} large ones: median {statistics.median(beside) * 1000:.1f} ms, "
        f"longest {max(beside) * 1000:.1f} ms"
    )
    assert min(during) > 0
    assert statistics.median(beside) < 2.0


@HEAVY
def test_an_instance_of_a_gigabyte_leaves_memory_as_it_is(supervised: Supervised) -> None:
    supervised.start("processes = 1")
    with associated(supervised) as opened:
        store(opened, Image.uid(1), Image(512).numbered(1))
        before, begun = supervised.peak_mb(), time.monotonic()
        opened.settimeout(600.0)
        opened.sendall(p_data(COMMAND, c_store(Image.uid(2))))
        send_fragments(opened, large(Image.uid(2), 1 << 30))
        assert status(answer(opened)) == 0x0000
        seconds = time.monotonic() - begun
    print(f"1 GiB in {seconds:.1f} s: {before:.0f} MB before, {supervised.peak_mb():.0f} MB at most")
    assert supervised.peak_mb() < min(before + 5.0, MOST_MB)
    assert max(row.size for row in supervised.node().rows(instance)) > 1 << 30


@HEAVY
def test_a_series_of_5000_images_leaves_memory_as_it_is_and_its_rows_follow(supervised: Supervised) -> None:
    supervised.start("processes = 1")
    images, peaks = Image(256), []
    begun = time.monotonic()
    with associated(supervised) as opened:
        for number in range(1, 5001):
            store(opened, images.uid(number), images.numbered(number))
            if number % 1000 == 0:
                peaks.append(supervised.peak_mb())
    seconds = time.monotonic() - begun
    until(lambda: len(supervised.node().rows(instance)) == 5000)
    print(f"5000 images in {seconds:.0f} s; MB at most after each 1000: {', '.join(f'{peak:.0f}' for peak in peaks)}")
    assert peaks[-1] < min(peaks[0] + 5.0, MOST_MB)
