"""Tensors that processes of a pipeline send one another, such as the workers of a ``DataLoader``.

PyTorch shares the memory of a tensor by a file descriptor, which multiprocessing passes through a listening socket. A
pipeline may open none: the send fails in a thread, and whoever waits for the tensor waits for ever.
"""

from __future__ import annotations

import os
import stat
from multiprocessing import context, reduction
from typing import Any

_of_socket = reduction.DupFd


class _SentFile:
    """The content of a file of shared memory; the receiver makes a file of its own."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def detach(self) -> int:
        """Return the descriptor of a new file in memory with the content."""
        with os.fdopen(os.memfd_create("sent"), "wb", closefd=False) as file:
            file.write(self._content)
            return file.fileno()


def send_tensors_by_value() -> None:
    """From now on send shared memory as its bytes through the pipe, in this process and in all that it forks."""
    reduction.DupFd = _duplicate  # type: ignore[assignment]


def _duplicate(descriptor: int) -> Any:
    state = os.fstat(descriptor)
    if context.get_spawning_popen() is not None or not stat.S_ISREG(state.st_mode):
        return _of_socket(descriptor)
    with os.fdopen(os.dup(descriptor), "rb") as file:
        file.seek(0)
        return _SentFile(file.read())
