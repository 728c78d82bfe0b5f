"""An answer of a peer reaches the thread that waits for it, also on a machine where threads are held up."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import real_peers
from pynetdicom import build_context
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification

from node.config import DestinationTls
from node.deliver.association import Peer, Timeouts, associate

HELD_UP_SECONDS = 0.05


class HeldUp(threading.Event):
    """The pause of pynetdicom's own thread: a thread that has passed it goes on late."""

    def wait(self, timeout: float | None = None) -> bool:
        passed = super().wait(timeout)
        time.sleep(HELD_UP_SECONDS)
        return passed


def hold_up(association: Association) -> None:
    held, before = HeldUp(), association._reactor_checkpoint
    held.set()
    association._reactor_checkpoint = held
    before.set()
    send = association.dimse.send_msg

    def send_and_be_late(*what: Any) -> None:
        send(*what)
        time.sleep(2 * HELD_UP_SECONDS)

    association.dimse.send_msg = send_and_be_late
    time.sleep(HELD_UP_SECONDS / 2)  # pynetdicom's thread has passed the pause, and is held up behind it


def test_an_answer_is_not_taken_by_the_thread_of_pynetdicom(tmp_path: Path) -> None:
    with real_peers.storescp(tmp_path) as server:
        peer = Peer(name="pacs", title="STORESCP", host="127.0.0.1", port=server.port, tls=DestinationTls())
        with associate(peer, "AINODE", [build_context(Verification)], Timeouts(answer_seconds=3.0)) as association:
            hold_up(association)
            answers = [association.send_c_echo() for _ in range(5)]
    assert [answer.get("Status") for answer in answers] == [0] * 5
