"""The scripted sender: a process that writes pre-encoded PDUs, so that the receiver is what is measured.

``python -m node.bench.sender`` reads one line of JSON (``Script``), associates, says ``ready``, sends when the next
line comes, one C-STORE after the other on each association, and answers with one line of JSON (``Sent``).
"""

from __future__ import annotations

import json
import socket
import ssl
import struct
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

_BASE = 10**20


def numbered(number: int) -> bytes:
    """A UID of our own; all numbers below 10^20 give the same length."""
    return b"2.25.%d" % (_BASE + number)


STUDY, SERIES, SOP_INSTANCE = (numbered(_BASE - i) for i in (1, 2, 3))
"""What stands in a template until it is sent. Even length is not needed: the writer pads."""

_EXPLICIT = b"1.2.840.10008.1.2.1"
_SUCCESS = b"\0\0\x00\x09\2\0\0\0\0\0"
"""(0000,0900) Status 0x0000."""
_HEAD = 1 << 12
"""The UIDs stand in the first bytes of the data set."""


@dataclass(frozen=True, kw_only=True)
class Script:
    """What to send. An association with the number N sends study N, series N + 1 and instances N + 2, N + 3, ..."""

    port: int
    called: str
    sop_class_uid: str
    data: str
    """File with the encoded data set."""
    associations: tuple[int, ...]
    each: int
    """Instances on each association."""
    ca: str = ""
    """PEM file; with it the sender speaks TLS and trusts this authority."""


@dataclass(frozen=True, kw_only=True)
class Sent:
    """Seconds of the monotonic clock of this machine, and of each C-STORE from its first byte to its response."""

    begun: float
    ended: float
    latencies: list[float]
    failures: int


def with_uids(data: bytes, association: int, number: int) -> tuple[bytes, memoryview]:
    """A data set for the instance: its first bytes, changed, and the rest, not copied."""
    head = data[:_HEAD].replace(STUDY, numbered(association)).replace(SERIES, numbered(association + 1))
    return head.replace(SOP_INSTANCE, numbered(association + 2 + number)), memoryview(data)[_HEAD:]


class _Association:
    """One association, sending as fast as the receiver answers."""

    def __init__(self, script: Script, first: int) -> None:
        self._script = script
        self._first = first
        self._socket = socket.create_connection(("127.0.0.1", script.port), 60.0)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if script.ca:
            context = ssl.create_default_context(cafile=script.ca)
            context.check_hostname = False
            self._socket = context.wrap_socket(self._socket)
        self._socket.sendall(_associate_rq(script.called, script.sop_class_uid))
        kind, body = self._pdu()
        if kind != 2:
            raise ConnectionError(f"no A-ASSOCIATE-AC but PDU type {kind}")
        length = int.from_bytes(body[body.index(b"\x51\0\0\4") + 4 :][:4], "big") or 1 << 17
        self._data = _p_data(Path(script.data).read_bytes(), length)
        self.latencies: list[float] = []
        self.failures = 0

    def send_all(self) -> None:
        for number in range(self._script.each):
            command = _c_store_rq(self._script.sop_class_uid, numbered(self._first + 2 + number), number % 65536)
            head, rest = with_uids(self._data, self._first, number)
            begun = time.monotonic()
            self._socket.sendall(_pdu(4, _pdv(command, 3)) + head)
            self._socket.sendall(rest)
            kind, body = self._pdu()
            self.latencies.append(time.monotonic() - begun)
            self.failures += kind != 4 or _SUCCESS not in body

    def release(self) -> None:
        self._socket.sendall(_pdu(5, bytes(4)))
        self._pdu()
        self._socket.close()

    def _pdu(self) -> tuple[int, bytes]:
        head = self._exactly(6)
        return head[0], self._exactly(int.from_bytes(head[2:], "big"))

    def _exactly(self, count: int) -> bytes:
        got = b""
        while len(got) < count:
            part = self._socket.recv(count - len(got))
            if not part:
                raise ConnectionError("the receiver closed the connection")
            got += part
        return got


def _pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxL", kind, len(body)) + body


def _pdv(fragment: bytes, control: int) -> bytes:
    return struct.pack(">LBB", len(fragment) + 2, 1, control) + fragment


def _p_data(data: bytes, length: int) -> bytes:
    """A data set in P-DATA-TF PDUs of the greatest length that the receiver takes."""
    size = min(length, 1 << 17) - 6
    parts = [data[start : start + size] for start in range(0, len(data), size)]
    return b"".join(_pdu(4, _pdv(part, 2 if part is parts[-1] else 0)) for part in parts)


def _item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


def _associate_rq(called: str, sop_class_uid: str) -> bytes:
    syntaxes = _item(0x30, sop_class_uid.encode()) + _item(0x40, _EXPLICIT)
    return _pdu(
        1,
        b"\0\1\0\0"
        + called.encode().ljust(16)
        + b"BENCH".ljust(16)
        + bytes(32)
        + _item(0x10, b"1.2.840.10008.3.1.1.1")
        + _item(0x20, b"\1\0\0\0" + syntaxes)
        + _item(0x50, _item(0x51, (1 << 17).to_bytes(4, "big")) + _item(0x52, b"2.25.1")),
    )


def _element(number: int, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHL", 0, number, len(value)) + value


def _c_store_rq(sop_class_uid: str, sop_instance_uid: bytes, message_id: int) -> bytes:
    body = (
        _element(0x0002, sop_class_uid.encode())
        + _element(0x0100, b"\1\0")
        + _element(0x0110, message_id.to_bytes(2, "little"))
        + _element(0x0700, b"\0\0")
        + _element(0x0800, b"\1\0")
        + _element(0x1000, sop_instance_uid)
    )
    return _element(0x0000, len(body).to_bytes(4, "little")) + body


def main() -> None:
    """Serve one script."""
    script = Script(**json.loads(sys.stdin.readline()))
    associations = [_Association(script, first) for first in script.associations]
    threads = [threading.Thread(target=association.send_all) for association in associations]
    print("ready", flush=True)  # noqa: T201 - the parent reads it
    sys.stdin.readline()
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ended = time.monotonic()
    for association in associations:
        association.release()
    sent = Sent(
        begun=begun,
        ended=ended,
        latencies=[seconds for association in associations for seconds in association.latencies],
        failures=sum(association.failures for association in associations),
    )
    print(json.dumps(asdict(sent)), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
