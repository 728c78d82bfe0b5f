"""What is sent to the process that runs pipelines, and what it sends and prints, with bounds.

A model may send and print anything, and may read nothing.
"""

from __future__ import annotations

import logging
import os
import pickle
import select
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection

from node.errors import PipelineError
from node.inference.task import Reply, Task
from node.log import about

logger = logging.getLogger(__name__)

LONGEST_REPLY = 1 << 20
"""Bytes. The replies of pipelines have a few thousand."""
LONGEST_LINE = 4096
"""Bytes of a printed line that are logged; the rest is counted."""
LOGGED_PER_TASK = 1 << 20
"""Bytes that one task may print into the log."""


def send_task(tasks: Connection, task: Task, seconds: float, look: Callable[[], None]) -> None:
    """Send a task and call ``look``, which may raise, about every ``seconds`` while the process does not read it.

    Raises ``OSError`` when the process is gone. After any exception the rest of the pipe is of no use.
    """
    os.set_blocking(tasks.fileno(), False)
    data = memoryview(pickle.dumps(task))
    while data:
        with suppress(BlockingIOError):
            data = data[os.write(tasks.fileno(), data) :]
        if data:
            look()
            select.select([], [tasks], [], seconds)


def received_tasks(tasks: Connection) -> Iterator[Task]:
    """Yield the tasks of the worker until it closes the pipe."""
    with os.fdopen(os.dup(tasks.fileno()), "rb") as stream, suppress(EOFError, OSError):
        while True:
            yield pickle.load(stream)  # noqa: S301 - from our own parent


def send_reply(tasks: Connection, reply: Reply) -> None:
    """Send a reply, which is one line."""
    data = reply.to_bytes()
    while data:
        data = data[os.write(tasks.fileno(), data) :]


def receive_reply(tasks: Connection, seconds: float, look: Callable[[], None]) -> Reply:
    """Wait for a reply and call ``look``, which may raise, about every ``seconds``.

    Raises ``EOFError`` when the process is gone and ``PipelineError`` for what is no reply.
    """
    received = bytearray()
    while not received.endswith(b"\n"):
        look()
        if tasks.poll(seconds):  # also when the process is gone
            part = os.read(tasks.fileno(), 1 << 16)
            if not part:
                raise EOFError
            received += part
        if len(received) > LONGEST_REPLY:
            raise PipelineError(f"the process of the pipeline sent a reply of more than {LONGEST_REPLY >> 20} MiB")
    return Reply.from_bytes(bytes(received))


class ChildOutput:
    """Log of what one process prints, line by line."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._subject: Mapping[str, str] = {}
        self._room = LOGGED_PER_TASK

    def begin(self, subject: Mapping[str, str]) -> None:
        """From now on lines are about this subject, see ``node.log``."""
        self._subject = subject
        self._room = LOGGED_PER_TASK

    def log(self, printed: Connection) -> None:
        """Log lines until every process that holds the other end of the pipe is gone."""
        with os.fdopen(os.dup(printed.fileno()), "rb") as stream:
            printed.close()
            while line := stream.readline(LONGEST_LINE):
                omitted, part = 0, line
                while not part.endswith(b"\n") and (part := stream.readline(LONGEST_LINE)):
                    omitted += len(part)
                self._log_line(line.decode(errors="replace").rstrip(), omitted)

    def _log_line(self, line: str, omitted: int) -> None:
        room, self._room = self._room, max(0, self._room - len(line) - 1)
        if room == 0:
            return
        with about(**self._subject):
            logger.info("%s: %s%s", self._device, line, f" ... ({omitted} bytes more)" if omitted else "")
            if self._room == 0:
                limit = f"{LOGGED_PER_TASK >> 20} MiB"
                logger.warning("%s: the pipeline printed %s; the rest of this job is not logged", self._device, limit)
