"""``ainode bench receive``: our receiver and others, same data, same senders, in alternating runs.

For each kind of instance, sender and number of associations, every receiver in turn is started fresh, warmed up, sent
to and stopped; then all of them again (A B C D A B C D), so that what else the machine does falls on all alike.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from node.bench import instances
from node.bench.instances import Kind
from node.bench.measure import Usage, warm_memory
from node.bench.sender import Script, Sent
from node.bench.servers import DCMTK_ENVIRONMENT, DCMTK_PATH, SERVERS, TITLE, NodeTls, Server, give_back_space
from node.errors import PlatformError

KINDS: dict[str, Callable[[], Kind]] = {"CT": instances.ct, "MR": instances.mr}
SENDERS = ("scripted", "dcmsend")

_ROWS_WITHIN_SECONDS = 1.0
"""Every acknowledged instance must be known to the receiver this long after the last response."""
_WARM_UP = 4
_WARM_UP_FIRST = 10**12
"""UIDs of the warm-up."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured."""

    servers: tuple[str, ...]
    kinds: tuple[str, ...] = ("CT", "MR")
    associations: tuple[int, ...] = (1, 4, 16, 64)
    senders: tuple[str, ...] = SENDERS
    rounds: int = 4
    instances: int = 512
    """In each run; shared evenly by the associations."""
    folder: Path = Path()
    """Where the receivers write: the disk that is measured."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One line of the comparison."""

    kind: str
    sender: str
    associations: int


@dataclass(frozen=True, kw_only=True)
class Run:
    """One receiver, once."""

    cell: Cell
    server: str
    round: int
    instances: int
    seconds: float
    cpu_seconds: float
    largest_mb: float
    together_mb: float
    latencies: tuple[float, ...]
    """Seconds from the first byte of a C-STORE to its response; empty for dcmsend, which does not tell."""


def available(names: tuple[str, ...]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Receivers that can be run here, and what the others lack."""
    lacking = {name: SERVERS[name].missing() for name in names}
    return tuple(name for name in names if not lacking[name]), {name: what for name, what in lacking.items() if what}


def cells(plan: Plan) -> list[Cell]:
    """What is measured, in its order. dcmsend is a program that opens one association: 16 of them are enough."""
    return [
        Cell(kind=kind, sender=sender, associations=associations)
        for kind, sender, associations in itertools.product(plan.kinds, plan.senders, plan.associations)
        if sender == "scripted" or associations <= 16
    ]


def servers_of(plan: Plan, cell: Cell) -> list[str]:
    """Receivers that a cell measures: dcmsend knows no TLS."""
    return [name for name in plan.servers if cell.sender == "scripted" or name != NodeTls.name]


def run(plan: Plan) -> Iterator[Run]:
    """Measure. Raises ``PlatformError`` when a receiver does not start, refuses or loses an instance."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=plan.folder) as name:
        scratch = Path(name)
        kinds = {kind: KINDS[kind]() for kind in plan.kinds}
        for kind in kinds.values():
            (scratch / kind.name).write_bytes(kind.data)
        numbers = itertools.count()
        for cell in cells(plan):
            sources = _Sources(scratch, kinds[cell.kind], cell, plan.instances)
            for round_, server in itertools.product(range(plan.rounds), servers_of(plan, cell)):
                yield _run(SERVERS[server](scratch / f"server-{next(numbers)}"), cell, round_, sources)
            sources.discard()


class _Sources:
    """What one cell sends: the same to every receiver."""

    def __init__(self, scratch: Path, kind: Kind, cell: Cell, count: int) -> None:
        self.kind = kind
        self.data = scratch / kind.name
        self.each = max(count // cell.associations, 1)
        self.firsts = [(self.each + 2) * index for index in range(cell.associations)]
        """The number of each association (``Script``)."""
        self.folders = (
            [scratch / f"{cell.kind}-{cell.associations}-{first}" for first in self.firsts]
            if cell.sender == "dcmsend"
            else []
        )
        for first, folder in zip(self.firsts, self.folders, strict=False):
            instances.write_files(kind, folder, first, self.each)

    def discard(self) -> None:
        for folder in self.folders:
            give_back_space(folder)


def _run(server: Server, cell: Cell, round_: int, sources: _Sources) -> Run:
    try:
        server.start()
        _scripted(server, sources, [_WARM_UP_FIRST], _WARM_UP)
        count = sources.each * cell.associations
        usage = Usage(server.pid)
        usage.start()
        if cell.sender == "scripted":
            seconds, latencies = _scripted(server, sources, sources.firsts, sources.each)
        else:
            warm_memory(sources.data.parent, sources.kind.data, count)
            seconds, latencies = _dcmsend(server, sources.folders), ()
        deadline = time.monotonic() + _ROWS_WITHIN_SECONDS
        while (stored_instances := server.stored_instances() - _WARM_UP) != count and time.monotonic() < deadline:
            time.sleep(0.05)
        usage.stop()
        if stored_instances != count:
            raise PlatformError(f"{server.title} has {stored_instances} of {count} instances that it acknowledged")
    finally:
        server.stop()
    return Run(
        cell=cell,
        server=server.name,
        round=round_,
        instances=count,
        seconds=seconds,
        cpu_seconds=usage.cpu_seconds,
        largest_mb=usage.largest_mb,
        together_mb=usage.together_mb,
        latencies=latencies,
    )


def _scripted(server: Server, sources: _Sources, firsts: list[int], each: int) -> tuple[float, tuple[float, ...]]:
    """Seconds from the first C-STORE to the last response, and the latency of each; two processes at most."""
    with ExitStack() as stack:
        senders = []
        for share in (firsts[::2], firsts[1::2]):
            if share:
                command = [sys.executable, "-m", "node.bench.sender"]
                sender = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                senders.append((stack.enter_context(sender), share))
        for sender, share in senders:
            script = Script(
                port=server.port,
                called=TITLE,
                sop_class_uid=sources.kind.sop_class_uid,
                data=str(sources.data),
                associations=tuple(share),
                each=each,
                ca=server.ca,
            )
            _report(sender, json.dumps(asdict(script)))
        for sender, _ in senders:
            _hear(sender, server)
        warm_memory(sources.data.parent, sources.kind.data, each * len(firsts))
        for sender, _ in senders:
            _report(sender, "go")
        sent = [Sent(**json.loads(_hear(sender, server))) for sender, _ in senders]
    if failures := sum(result.failures for result in sent):
        raise PlatformError(f"{server.title} refused {failures} instances")
    seconds = max(result.ended for result in sent) - min(result.begun for result in sent)
    return seconds, tuple(latency for result in sent for latency in result.latencies)


def _report(sender: subprocess.Popen[str], line: str) -> None:
    if sender.stdin is not None:
        sender.stdin.write(line + "\n")
        sender.stdin.flush()


def _hear(sender: subprocess.Popen[str], server: Server) -> str:
    line = sender.stdout.readline() if sender.stdout is not None else ""
    if not line:
        raise PlatformError(f"the sender to {server.title} broke off; its message stands above")
    return line


def _dcmsend(server: Server, folders: list[Path]) -> float:
    """Seconds from the start of the first dcmsend to the end of the last; each has its own association."""
    program = shutil.which("dcmsend", path=DCMTK_PATH) or "dcmsend"
    options = ["--scan-directories", "--aetitle", TITLE, "--call", TITLE, "127.0.0.1", str(server.port)]
    begun = time.monotonic()
    with ExitStack() as stack:
        senders = [
            stack.enter_context(
                subprocess.Popen(
                    [program, *options, str(folder)],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **DCMTK_ENVIRONMENT},
                )
            )
            for folder in folders
        ]
        for sender in senders:
            output, _ = sender.communicate()
            if sender.returncode:
                raise PlatformError(f"dcmsend to {server.title}: {output.decode(errors='replace')[-500:]}")
    return time.monotonic() - begun
