"""What is sent to the process that runs pipelines, and what it sends, with bounds.

A model may send anything, and may read nothing.
"""

from __future__ import annotations

import os
import pickle
import select
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection

from node.confined.reply import receive_line, send_line
from node.errors import PipelineError
from node.inference.task import Answer, Reply, Task

LONGEST_REPLY = 1 << 20
"""Bytes. The replies of pipelines have a few thousand."""


def send_task(tasks: Connection, task: Task | Answer, seconds: float, look: Callable[[], None]) -> None:
    """Send a task, or the answer to a call.

    Calls ``look``, which may raise, about every ``seconds`` while the process does not read it.

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


def received_tasks(tasks: Connection) -> Iterator[Task | Answer]:
    """Yield the tasks and answers of the worker until it closes the pipe."""
    with os.fdopen(os.dup(tasks.fileno()), "rb") as stream, suppress(EOFError, OSError):
        while True:
            yield pickle.load(stream)  # noqa: S301 - from our own parent


def send_reply(tasks: Connection, reply: Reply) -> None:
    """Send a reply, which is one line."""
    send_line(tasks.fileno(), reply.to_bytes())


def receive_reply(tasks: Connection, seconds: float, look: Callable[[], None]) -> Reply:
    """Wait for a reply and call ``look``, which may raise, about every ``seconds``.

    Raises ``EOFError`` when the process is gone and ``PipelineError`` for what is no reply.
    """
    try:
        line = receive_line(tasks.fileno(), LONGEST_REPLY, seconds, look)
    except ValueError as error:
        raise PipelineError(f"the process of the pipeline {error}") from None
    return Reply.from_bytes(line)
