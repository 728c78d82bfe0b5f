"""Hostile peers by the thousand: stored sequences of PDUs are mutated, and sent to a real receiver over real sockets.

``python tests/support/fuzz_receive.py --sequences 1000000 --seed 7`` runs for long and reports what it found; a part of
it runs in the suite (``test_fuzz_receive.py``). The same seed gives the same sequences. ``--processes 4`` shares them
between four processes, each with a receiver and a seed of its own.

A finding is: an answer that is no PDU, a fault in the node's log, a peer that gets no end, a thread, descriptor, open
association or file that stays, or a sender who is no longer served.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import resource
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa
from dicom_files import ct_series
from raw_peer import COMMAND, LAST, RAW_CT, answer, c_store, connection, p_data, status
from receivers import Node, associate_rq, encode, receiving, until

from node.ledger.tables import association, conflict, instance

CORPUS = Path(__file__).with_name("corpus")
_NO_END_SECONDS = 120.0
"""The node's own limits are 5 s; with sixty other programs to run 20 s were too few once, for a sound sequence."""
_ANSWERS = {2, 3, 4, 6, 7}
"""A-ASSOCIATE-AC and -RJ, P-DATA-TF, A-RELEASE-RP, A-ABORT: all that an acceptor may send (PS3.8 9.3)."""
_LENGTHS = (0, 1, 2, 3, 5, 6, 255, 65535, 1 << 16, (1 << 24) + 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
_OCTETS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 0x7F, 0x80, 0xFE, 0xFF)


def corpus(kind: str) -> list[bytes]:
    """The stored files of a kind: ``pdu`` (what a peer sends on one connection), ``explicit``, ``implicit``, ..."""
    contents = [path.read_bytes() for path in sorted(CORPUS.glob(f"*.{kind}"))]
    assert contents, f"the corpus holds no {kind}"
    return contents


def split(stream: bytes) -> list[bytes]:
    """PDU by PDU; what is none stays at the end."""
    units = []
    while len(stream) >= 6 and len(stream) >= (size := 6 + int.from_bytes(stream[2:6], "big")):
        units.append(stream[:size])
        stream = stream[size:]
    return units + [stream] * bool(stream)


def mutate_bytes(rng: random.Random, data: bytes) -> bytes:
    """Change a few bytes, or cut, repeat or insert some."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at = rng.randrange(len(changed) + 1)
        match rng.randrange(7):
            case 0:
                changed[at : at + 1] = bytes([rng.choice(_OCTETS)])
            case 1:
                changed[at : at + 1] = rng.randbytes(1)
            case 2:
                changed[at : at + 4] = struct.pack(rng.choice("<>") + "L", rng.choice(_LENGTHS))
            case 3:
                changed[at : at + 2] = struct.pack(rng.choice("<>") + "H", rng.choice(_LENGTHS) & 0xFFFF)
            case 4:
                del changed[at : at + rng.randrange(1, 9)]
            case 5:
                changed[at:at] = changed[max(at - rng.randrange(1, 40), 0) : at]
            case 6:
                changed[at:at] = rng.randbytes(rng.randrange(1, 9))
    return bytes(changed)


def _mutate_p_data(rng: random.Random, pdu: bytes) -> bytes:
    """Change what a P-DATA-TF says of itself: lengths, context, control header (PS3.8 9.3.5, E.2)."""
    if len(pdu) < 12 or pdu[0] != 4:
        return mutate_bytes(rng, pdu)
    changed = bytearray(pdu)
    match rng.randrange(4):
        case 0:
            changed[2:6] = struct.pack(">L", rng.choice((*_LENGTHS, len(pdu) - 7, len(pdu) - 5)))
        case 1:
            changed[6:10] = struct.pack(">L", rng.choice((*_LENGTHS, len(pdu) - 11, len(pdu) - 9)))
        case 2:
            changed[10] = rng.choice(_OCTETS)
        case 3:
            changed[11] = rng.choice(_OCTETS)
    return bytes(changed)


def mutated(rng: random.Random, sequences: list[bytes]) -> bytes:
    """A new sequence; most keep their A-ASSOCIATE-RQ, or nothing behind it would ever be reached."""
    pdus = split(rng.choice(sequences))
    keep = 1 if len(pdus) > 1 and rng.random() < 0.75 else 0
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(keep, len(pdus)) if keep < len(pdus) else len(pdus)
        match rng.randrange(8):
            case 0 | 1:
                pdus[at : at + 1] = [_mutate_p_data(rng, pdu) for pdu in pdus[at : at + 1]]
            case 2 | 3:
                pdus[at : at + 1] = [mutate_bytes(rng, pdu) for pdu in pdus[at : at + 1]]
            case 4:
                del pdus[at : at + 1]
            case 5:
                pdus[at:at] = pdus[at : at + 1]
            case 6:
                pdus[at:at] = [rng.choice(split(rng.choice(sequences)))]
            case 7:
                pdus[at:] = [part[: rng.randrange(len(part) + 1)] for part in pdus[at : at + 1]]
    return b"".join(pdus)


@dataclass
class Target:
    """A receiver and what was found wrong with it."""

    node: Node
    findings: dict[str, str] = field(default_factory=dict)
    """What was wrong -> the first time in full."""
    _served: int = 0

    def send(self, sequence: bytes) -> None:
        """One connection: everything is sent, then the peer says no more and reads to the end."""
        got = b""
        with connection(self.node) as opened:
            opened.settimeout(_NO_END_SECONDS)
            try:
                opened.sendall(sequence)
                opened.shutdown(socket.SHUT_WR)
                while part := opened.recv(1 << 16):
                    got += part
            except TimeoutError:
                self.found("a peer gets no end", sequence.hex())
            except OSError:
                pass  # the node may close at any time
        if any(len(pdu) < 6 or pdu[0] not in _ANSWERS for pdu in split(got)):
            self.found("an answer is no PDU", f"{got.hex()} to {sequence.hex()}")

    def found(self, what: str, first: str) -> None:
        """Keep the first of a kind."""
        if what not in self.findings:
            self.findings[what] = first
            print(f"{what}\n{first[:4000]}\n", flush=True)

    def check(self) -> None:
        """Others are served, and nothing of the hostile ones is left."""
        self._served += 1
        uid = f"1.2.3.{self._served}"
        dataset = ct_series(1, 8)[0]
        dataset.SOPInstanceUID = uid
        with connection(self.node) as opened:
            opened.sendall(associate_rq(RAW_CT))
            accepted = answer(opened)[:1] == b"\2"
            opened.sendall(p_data(COMMAND, c_store(uid)) + p_data(LAST, encode(dataset)))
            if not accepted or status(answer(opened)) != 0x0000:
                self.found("an honest sender is not served", "")
        until(lambda: not any(thread.name.startswith("association-") for thread in threading.enumerate()))
        until(lambda: self._count(association, association.c.closed_at.is_(None)) == 0, 60.0)
        there = len(self.node.files())  # waits for the rows
        if (known := self._count(instance) + self._count(conflict)) != there:
            self.found("files and rows differ", f"{known} rows, {there} files")

    def _count(self, table: sa.Table, *where: sa.ColumnElement[bool]) -> int:
        with self.node.engine.connect() as opened:
            return int(opened.execute(sa.select(sa.func.count()).select_from(table).where(*where)).scalar_one())


class _Faults(logging.Handler):
    """What the node itself calls a fault."""

    def __init__(self, target: Target) -> None:
        super().__init__(logging.ERROR)
        self._target = target

    def emit(self, record: logging.LogRecord) -> None:
        lines = self.format(record).splitlines()
        self._target.found(lines[-1], "\n".join(lines))


@contextmanager
def target(folder: Path) -> Iterator[Target]:
    """A receiver in this process."""
    limits = "association_timeout_seconds = 5.0\nnetwork_timeout_seconds = 5.0\nassociations_per_minute = 0"
    with receiving(folder, ae=limits) as node:
        fuzzed = Target(node)
        handler = _Faults(fuzzed)
        logger = logging.getLogger("node.receive")
        logger.addHandler(handler)
        try:
            yield fuzzed
        finally:
            logger.removeHandler(handler)


def usage() -> tuple[float, int]:
    """Resident memory of this process in MiB, and its open descriptors."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20, len(list(Path("/proc/self/fd").iterdir()))


def _say(node: Target, number: int) -> None:
    node.check()
    memory, descriptors = usage()
    said = f"{number} sequences, {len(node.findings)} findings, {memory:.0f} MiB, {descriptors} descriptors"
    print(f"process {os.getpid()}: {said}", flush=True)


def _shared(each: int, seed: int, minutes: float, processes: int) -> int:
    """The same in several processes; the worst of their exit statuses."""
    command = [sys.executable, __file__, "--sequences", str(each), "--minutes", str(minutes)]
    running = [subprocess.Popen([*command, "--seed", str(seed + index)]) for index in range(processes)]
    return max(process.wait() for process in running)


def main() -> int:
    """Fuzz for long."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--sequences", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=1e9, help="stop earlier when they are over")
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    if options.processes > 1:
        return _shared(options.sequences // options.processes, options.seed, options.minutes, options.processes)
    logging.getLogger("node").propagate = False
    rng, sequences = random.Random(options.seed), corpus("pdu")
    end = time.monotonic() + options.minutes * 60
    with tempfile.TemporaryDirectory() as folder, target(Path(folder) / "node") as node:
        number = 0
        while number < options.sequences and time.monotonic() < end:
            node.send(mutated(rng, sequences))
            number += 1
            if number % 5000 == 0:
                _say(node, number)
        _say(node, number)
    return 1 if node.findings else 0


if __name__ == "__main__":
    sys.exit(main())
