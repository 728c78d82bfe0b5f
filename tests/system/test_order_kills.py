"""The role *orders* is killed between message and answer: every order is in the ledger once."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hl7.client import MLLPClient
from hl7_orders import answer_of, order
from order_throughput import OrdersProcess

pytestmark = pytest.mark.rotating

ORDERS = 200


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # python-hl7 leaves one that was refused
def test_each_order_is_in_the_ledger_once_although_the_listener_is_killed_at_any_moment(tmp_path: Path):
    node = OrdersProcess(tmp_path)
    node.start()
    acknowledged: list[str] = []
    finished = threading.Event()

    def send_all() -> None:
        for number in range(ORDERS):
            while True:
                with suppress(OSError, StopIteration), MLLPClient("127.0.0.1", node.port) as client:
                    message = order(str(number), placer=f"P{number}", filler="", accession=f"A{number}")
                    assert answer_of(client.send_message(message).decode())[0] == "AA"
                    acknowledged.append(f"A{number}")
                    break
                time.sleep(0.05)
        finished.set()

    sender = threading.Thread(target=send_all, daemon=True)
    sender.start()
    for share in (0.2, 0.5, 0.8):
        while len(acknowledged) < share * ORDERS:
            time.sleep(0.001)
        node.kill_all()
        assert set(acknowledged) <= set(node.accessions()), "what was acknowledged is durable"
        node.start()
    assert finished.wait(120)
    node.stop()
    kept = node.accessions()
    assert sorted(kept) == sorted(acknowledged)
    assert len(kept) == len(set(kept)) == ORDERS
