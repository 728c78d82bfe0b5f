"""The account of everything every hour, and the alerts about what is not in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

import sqlalchemy as sa

from node.actor import look_every
from node.config import Config
from node.operate.account.report import Account, account_of
from node.operate.account.rows import RECORD_SECONDS, AccountRows, read
from node.spool import Spool

ACCOUNT_SECONDS = 3600.0
"""How often everything received is balanced against what became of it."""
_ACCOUNT, _IDENTITY, _HALF_CORRECTED = ALERTS = ("account", "identity", "half corrected")
"""Names of the alerts about it."""
_LOOK_SECONDS = 30.0


class AccountWatch:
    """Makes the account in a thread of its own: with millions of images it takes minutes, and no alert waits for it."""

    def __init__(self, config: Config, engine: sa.Engine, spool: Spool, is_ours: Callable[[], bool]) -> None:
        """``is_ours``: whether this process is the one that makes it."""
        self.alerts: Mapping[str, str] | None = None
        """Sentence of each alert of the latest account, by its name; ``None`` before this process has made one."""
        self._config = config
        self._engine = engine
        self._spool = spool
        self._is_ours = is_ours
        self._began_at = time.monotonic()
        self._accounted_at = 0.0

    def run(self, stop: threading.Event) -> None:
        """Make the account when it is due until ``stop`` is set, which also ends one that is being made."""
        look_every(_LOOK_SECONDS, stop, "the account", lambda: self.step(stop))

    def step(self, stop: threading.Event) -> None:
        """Make the account if the latest one is an hour old."""
        if not self._is_ours():
            self.alerts = None
            return
        if self.alerts is not None and time.monotonic() - self._accounted_at < ACCOUNT_SECONDS:
            return
        # A node that was down has records to write first: their absence is no alert yet.
        has_caught_up = time.monotonic() - self._began_at >= RECORD_SECONDS
        reader = read(
            self._engine,
            self._spool,
            queue_minutes=self._config.notify.queue_minutes,
            with_records=self._config.records.years > 0 and has_caught_up,
        )
        current = account_of(_until(stop, reader.portions()), self._config.is_recipient)
        if not stop.is_set():
            self.alerts = dict(_alerts(current))
            self._accounted_at = time.monotonic()


def _until(stop: threading.Event, portions: Iterable[AccountRows]) -> Iterator[AccountRows]:
    for rows in portions:
        yield rows
        if stop.is_set():
            return


def _alerts(of: Account) -> Iterator[tuple[str, str]]:
    if of.differences:
        text = f"{len(of.differences)} differences in the account, the first is: {of.differences[0]}"
        yield _ACCOUNT, f"{text}; `ainode account` lists them"
    if of.outdated:
        jobs = len({delivery.job_id for delivery in of.outdated})
        text = f"destinations hold results of {jobs} jobs under an identity that their images no longer have"
        yield _IDENTITY, f"{text}; `ainode account` lists them"
    if of.half_corrected:
        text = f"{len(of.half_corrected)} analyses wait: only some images of their series were corrected"
        yield _HALF_CORRECTED, f"{text}; `ainode account` lists them"
