"""The listener for HL7 messages before honest and hostile senders."""

from __future__ import annotations

import logging
import socket
import ssl
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from certificates import Authority
from click.testing import CliRunner
from hl7.client import MLLPClient
from hl7_orders import Listening, answer_of, listening, merge, order

from node.__main__ import main
from node.check.network import orders as _orders
from node.config import parse
from node.doctor.lint import lint
from node.errors import ConfigError
from node.ledger import order_messages
from node.ledger.engine import begin_immediate, snapshot
from node.ledger.order_messages import latest_messages, purge_messages
from node.ledger.orders import Order, latest_orders, purge_orders
from node.orders import framing


def orders(of: Listening) -> list[Order]:
    with snapshot(of.engine) as connection:
        return latest_orders(connection, 100)


def exchange(of: Listening, data: bytes) -> bytes:
    """Send bytes as they are, and read until the listener closes."""
    with socket.create_connection(("127.0.0.1", of.port)) as connection:
        connection.settimeout(20)
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while part := connection.recv(65536):
            received += part
        return received


def test_a_message_is_acknowledged_when_it_is_in_the_ledger_and_a_repetition_changes_nothing(tmp_path: Path):
    with listening(tmp_path) as node:
        first = node.send(order("17"))
        assert answer_of(first) == ("AA", "17", "")
        assert [row.values.priority for row in orders(node)] == ["STAT"]
        assert node.send(order("17")) == first, "the same bytes, in a later connection"
        assert answer_of(node.send(order("17", priority="R"))) == ("AA", "17", ""), "another message, same control ID"
        (row,) = orders(node)
        assert row.values.priority == "ROUTINE"
        with snapshot(node.engine) as connection:
            assert len(latest_messages(connection, 10)) == 2


def test_later_messages_change_and_cancel_an_order(tmp_path: Path):
    with listening(tmp_path) as node:
        node.send(order("1", filler=""))
        node.send(order("2", code="XO", procedure="CTABD^Abdomen^L"))
        (row,) = orders(node)
        assert (row.values.procedure_code, row.keys.filler, row.state) == ("CTABD", "F1", "active")
        node.send(order("3", code="CA", procedure="", reason=""))
        (row,) = orders(node)
        assert (row.values.procedure_code, row.state) == ("CTABD", "canceled")
        node.send(order("4", patient="PAT2^^^HOSP^MR"))
        assert len(orders(node)) == 2, "the same number of another patient is another order"


def test_orders_of_a_merged_patient_belong_to_the_one_that_remains(tmp_path: Path):
    with listening(tmp_path) as node:
        node.send(order("1"))
        assert answer_of(node.send(merge("2", "PAT7^^^HOSP^MR", "PAT1^^^HOSP^MR")))[0] == "AA"
        node.send(order("3", code="XO", priority="R"))
        (row,) = orders(node)
        assert (row.keys.patient_id, row.values.priority) == ("PAT7", "ROUTINE")


def test_what_is_rejected_is_kept_and_listed_and_the_log_names_no_patient(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with listening(tmp_path) as node, caplog.at_level(logging.INFO):
        assert answer_of(node.send(order("8", kind="SIU^S12")))[:2] == ("AR", "8")
        assert answer_of(node.send(order("9").encode("latin-1"))) == (
            "AE", "9", "its bytes are not UNICODE UTF-8, which MSH-18 states"
        )  # fmt: skip
        assert orders(node) == []
        assert "Müller" not in caplog.text
        assert "PAT1" not in caplog.text
        file = tmp_path / "config.toml"
        file.write_text(f'[storage]\nfolder = "{tmp_path}"\n')
        shown = CliRunner().invoke(main, ["orders", "--rejected", "--content", "--config", str(file)]).output
        assert "SIU^S12 8 of RIS^HOSPITAL" in shown
        assert "PID|1||PAT1" in shown
        assert "Müller" not in CliRunner().invoke(main, ["orders", "--rejected", "--config", str(file)]).output
        assert answer_of(node.send(order("10")))[0] == "AA"
        assert "CTCHEST 'CT of the chest', active" in CliRunner().invoke(main, ["orders", "--config", str(file)]).output


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"MSH|no frame", b"no start of a frame"),
        (b"\x0b" + order("1").encode()[:60] + b"\x0b" + order("2").encode() + b"\x1c\r", b"the start of another frame"),
        (b"\x0b" + order("1").encode() + b"OBX|" + b"x" * 3_000_000 + b"\x1c\r", b"MSA|AR|1|more than 1048576 bytes"),
        (b"\x0b\x1c\r", b"MSA|AR||no segment MSH"),
    ],
)
def test_broken_frames_are_answered_and_kept(tmp_path: Path, data: bytes, answer: bytes):
    with listening(tmp_path) as node:
        assert answer in exchange(node, data)
        with snapshot(node.engine) as connection:
            (kept,) = latest_messages(connection, 10, rejected=True)
        assert kept.content is not None
        assert len(kept.content) <= order_messages.LONGEST_CONTENT
        assert orders(node) == []


def test_the_next_message_of_the_connection_is_taken_after_one_that_is_too_large(tmp_path: Path):
    with listening(tmp_path, max_message_mib=0.1) as node:
        large = b"\x0b" + order("1").encode() + b"OBX|" + b"x" * 10_000_000 + b"\x1c\r"
        received = exchange(node, large + b"\x0b" + order("2").encode() + b"\x1c\r")
        assert [answer_of(answer.decode())[0] for answer in received.split(b"\x1c\r")[:2]] == ["AR", "AA"]


def test_a_message_that_is_too_large_is_never_in_memory():
    sender, receiver = socket.socketpair()
    with sender, receiver, ThreadPoolExecutor(1) as pool:
        sent = pool.submit(sender.sendall, b"\x0b" + b"x" * 10_000_000 + b"\x1c")
        tracemalloc.start()
        frame = framing.FrameReader(receiver, 100_000, 1000).next()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        sent.result()
    assert frame is not None
    assert frame.fault == "more than 100000 bytes"
    assert len(frame.content) <= 1000
    assert peak < 1_000_000


def test_a_message_that_is_cut_off_is_no_message(tmp_path: Path):
    with listening(tmp_path) as node:
        assert exchange(node, b"\x0b" + order("1").encode()) == b""
        with snapshot(node.engine) as connection:
            assert latest_messages(connection, 10) == []


def test_a_slow_sender_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(framing, "MESSAGE_SECONDS", 0.3)
    with listening(tmp_path) as node, socket.create_connection(("127.0.0.1", node.port)) as connection:
        connection.settimeout(20)
        connection.sendall(b"\x0bMSH")
        assert connection.recv(1) == b""


def test_only_senders_are_served_and_each_has_a_bounded_number_of_connections(tmp_path: Path):
    with listening(tmp_path / "closed", senders=["10.0.0.0/8"]) as node:
        with suppress(OSError):
            assert exchange(node, b"\x0b" + order("1").encode() + b"\x1c\r") == b""
        assert orders(node) == []
    with listening(tmp_path) as node:
        connections = [socket.create_connection(("127.0.0.1", node.port)) for _ in range(17)]
        connections[-1].settimeout(20)
        assert connections[-1].recv(1) == b""
        for connection in connections:
            connection.close()


def test_messages_come_over_tls_from_whom_the_authority_knows(tmp_path: Path, authority: Authority, other: Authority):
    files = {"certificate": authority.pem("ainode"), "key": authority.key("ainode"), "ca": authority.pem("ca")}
    with listening(tmp_path / "node", tls={"enabled": True, **files}) as node:
        context = ssl.create_default_context(cafile=files["ca"])
        context.check_hostname = False
        context.load_cert_chain(authority.pem("ct1"), authority.key("ct1"))
        with MLLPClient("127.0.0.1", node.port) as client:
            client.socket = context.wrap_socket(client.socket)
            assert answer_of(client.send_message(order("1")).decode())[0] == "AA"
        for stranger in (None, other):
            unknown = ssl.create_default_context(cafile=files["ca"])
            unknown.check_hostname = False
            if stranger is not None:
                unknown.load_cert_chain(stranger.pem("ct1"), stranger.key("ct1"))
            with MLLPClient("127.0.0.1", node.port) as client, pytest.raises(OSError):  # noqa: PT011, PT012
                client.socket = unknown.wrap_socket(client.socket)
                answer = client.send_message(order("2"))
                raise ConnectionResetError(answer)
        assert len(orders(node)) == 1


def test_many_connections_share_transactions_and_no_message_is_lost(tmp_path: Path):
    with listening(tmp_path) as node:

        def send(connection: int) -> None:
            with MLLPClient("127.0.0.1", node.port) as client:
                for number in range(10):
                    name = f"{connection}-{number}"
                    message = order(name, placer=f"P{name}", filler="", accession=f"A{name}")
                    assert answer_of(client.send_message(message).decode()) == ("AA", name, "")

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(send, range(8)))
        assert len(orders(node)) == 80


def test_a_message_without_room_in_the_ledger_gets_no_answer(tmp_path: Path):
    with listening(tmp_path) as node:
        with node.engine.begin() as connection:
            connection.exec_driver_sql("DROP TABLE order_message")
        assert exchange(node, b"\x0b" + order("1").encode() + b"\x1c\r") == b""


def test_rejected_messages_are_bounded_in_number_and_old_rows_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(order_messages, "MOST_REJECTED", 3)
    with listening(tmp_path) as node:
        for number in range(6):
            node.send(order(str(number), kind="SIU^S12"))
        node.send(order("7"))
        with begin_immediate(node.engine) as connection:
            assert len(latest_messages(connection, 10, rejected=True)) == 3
            (at, *_) = (message.received_at for message in latest_messages(connection, 1))
            purge_orders(connection, at + 1)
            purge_messages(connection, at + 8 * 86400, at + 1)
            assert latest_messages(connection, 10) == []
        assert orders(node) == []


def test_check_sees_the_port_and_lint_a_rule_without_orders(tmp_path: Path):
    with listening(tmp_path) as node:
        assert _orders(node.config).found.endswith("the listener for orders of this node")
    assert _orders(node.config).found.endswith("is free")
    with socket.create_server(("127.0.0.1", node.port)):
        taken = _orders(node.config)
    assert not taken.good
    assert "change [orders] address and port" in taken.remedy
    rule = '[[rules]]\nname = "r"\nsend = ["a"]\nmatch = { "order.priority" = "STAT" }\n'
    config = parse(f'[destinations.a]\nfolder = "/f"\n{rule}')
    assert any("asks for orders, and [orders] is not enabled" in result.found for result in lint(config, ()))


def test_a_listener_names_its_senders():
    with pytest.raises(ConfigError, match="senders is empty; list the addresses"):
        parse("[orders]\nenabled = true\n")
