"""Health of the node in one line: the current alerts, or what says that all is well."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import sqlalchemy as sa

from node.config import Config
from node.ledger.clock import ledger_clock
from node.ledger.counts import first_and_last_image
from node.operate.alerts import current_alerts
from node.operate.status import by_role
from node.spool import Spool
from node.translation import current_language

_KEPT_SECONDS = 5.0
"""The alerts read all jobs and statistics; pages ask every two seconds, each browser for itself."""


@dataclass(frozen=True, kw_only=True)
class HealthLine:
    """What the first page says first."""

    problems: tuple[str, ...]
    """Sentences of the current alerts; empty: all is well."""
    roles: dict[str, int]
    """Number of living processes by role."""
    last_image_at: float | None
    free_gib: float


class Health:
    """Computes the health line, at most every few seconds for all browsers together."""

    def __init__(self, config: Config, spool: Spool) -> None:
        self._config = config
        self._spool = spool
        self._turn = threading.Lock()
        self._lines: dict[str, tuple[float, HealthLine]] = {}
        """By language, each with the end of its time."""

    def line(self, connection: sa.Connection) -> HealthLine:
        """Return the line as of now, or of some seconds ago."""
        with self._turn:
            until, line = self._lines.get(current_language(), (0.0, None))
            if line is None or time.monotonic() > until:
                line = HealthLine(
                    problems=tuple(
                        current_alerts(self._config, connection, self._spool, ledger_clock(connection)).values()
                    ),
                    roles=by_role(connection),
                    last_image_at=first_and_last_image(connection)[1],
                    free_gib=self._spool.space().free_gib,
                )
                self._lines[current_language()] = (time.monotonic() + _KEPT_SECONDS, line)
            return line
