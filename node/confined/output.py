"""What a confined process prints, logged with bounds: it may print anything."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection
from typing import IO

from node.log import about

logger = logging.getLogger(__name__)

LONGEST_LINE = 4096
"""Bytes of a printed line that are logged; the rest is counted."""
LOGGED_PER_TASK = 1 << 20
"""Bytes that one task may print into the log."""


class ChildOutput:
    """Log of what one process prints, line by line."""

    def __init__(self, name: str, level: int = logging.INFO) -> None:
        self._name = name
        self._level = level
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
            for _ in self.lines(stream):
                pass

    def lines(self, stream: IO[bytes]) -> Iterator[bytes]:
        """Log lines until the stream ends, and yield the beginning of each."""
        while line := stream.readline(LONGEST_LINE):
            omitted, part = 0, line
            while not part.endswith(b"\n") and (part := stream.readline(LONGEST_LINE)):
                omitted += len(part)
            self._log_line(line.decode(errors="replace").rstrip(), omitted)
            yield line

    def _log_line(self, line: str, omitted: int) -> None:
        room, self._room = self._room, max(0, self._room - len(line) - 1)
        if room == 0:
            return
        with about(**self._subject):
            logger.log(self._level, "%s: %s%s", self._name, line, f" ... ({omitted} bytes more)" if omitted else "")
            if self._room == 0:
                limit = f"{LOGGED_PER_TASK >> 20} MiB"
                logger.warning("%s: it printed %s; the rest of this task is not logged", self._name, limit)
