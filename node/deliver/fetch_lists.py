"""Fetches the studies of lists (``ainode fetch --queue``) one after another, as ``[fetch]`` allows.

An item is ended only when its images have rows here, or the archive has said that it lacks them; a process that is
killed in between looks at the same item again, and what came before is not fetched twice. An archive that cannot be
reached is asked again for as long as the list waits; what it refuses, and images that do not come, are given up after
``ATTEMPTS``. One that refuses everything is asked more and more rarely: it is hardly the fault of the items.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Engine

from node.actor import look_every, surviving
from node.config import Config, is_in_hours
from node.deliver.fetch import KEYS, Archive, OpenArchive, wanted_series
from node.deliver.reconcile import ArchivedSeries
from node.errors import DeliveryError, NotFoundError, UnreachableError
from node.ledger.engine import begin_immediate
from node.ledger.fetch_lists import (
    FetchItem,
    begin_attempt,
    due_item,
    end_item,
    mark_fetched,
    open_fetches,
    put_off_destination,
    record_failure,
    split_item,
    undo_attempt,
)
from node.ledger.leadership import Leadership
from node.ledger.states import FetchState
from node.log import about
from node.retry_delay import retry_delay
from node.spool import Spool
from node.translation import marked

logger = logging.getLogger(__name__)

ATTEMPTS = 5
"""At a study whose images do not come although the archive answers."""
_REFUSALS = 3
"""In a row, after which an archive is left alone for a while."""
_LOOK_SECONDS = 2.0
_FIRST_SECONDS, _MAX_SECONDS = 10.0, 600.0
"""Between two attempts at one study, or at an archive that does not answer."""


def local_now() -> datetime:
    """The time of this machine's time zone."""
    return datetime.now().astimezone()


def why_waiting(config: Config, connection: sa.Connection, spool: Spool, at: datetime) -> str:
    """Return why no study of a list is fetched at a local time, to be translated; empty: nothing is in the way."""
    if config.fetch.hours and not is_in_hours(config.fetch.hours, at.time()):
        return marked("it is not the time of [fetch] hours")
    if spool.space().is_below(config.storage.min_free_gib):
        return marked("there is too little free space")
    if open_fetches(connection) >= config.fetch.open_analyses:
        return marked("[fetch] open_analyses of fetched studies have not ended")
    return ""


class FetchLists:
    """Work of the role *sender*; of several processes one does it, and what two did would be harmless."""

    def __init__(
        self,
        config: Config,
        engine: Engine,
        spool: Spool,
        open_archive: OpenArchive,
        now: Callable[[], datetime] = local_now,
    ) -> None:
        self._config = config
        self._engine = engine
        self._spool = spool
        self._open_archive = open_archive
        self._now = now
        self._leadership = Leadership(engine, "fetch lists")
        self._outages: Counter[str] = Counter()
        """Attempts in a row that a destination did not answer, or answered with an error."""

    def run(self, stop: threading.Event) -> None:
        """Fetch until ``stop`` is set."""
        try:
            look_every(_LOOK_SECONDS, stop, "fetch lists", lambda: self.step(stop))
        finally:
            self._leadership.release()

    def step(self, stop: threading.Event) -> None:
        """Fetch what is due, until something is in the way or ``stop`` is set."""
        while not stop.is_set() and self._leadership.is_ours():
            item = self._next()
            if item is None:
                return
            try:
                with self._open_archive(item.destination) as archive:
                    self._fetch_all(archive, item, stop)
            except NotFoundError as error:  # the destination is not configured any more
                self._end(item, FetchState.FAILED, error=str(error))
            except DeliveryError as error:
                self._undo(item, error)

    def _fetch_all(self, archive: Archive, first: FetchItem, stop: threading.Event) -> None:
        """Fetch what is due of one destination, for as long as it answers."""
        item: FetchItem | None = first
        while item is not None and not stop.is_set():
            answers = True
            with surviving(f"list {item.list_id}, item {item.id}"):
                answers = self._attend(archive, item)
            if not answers:
                return
            item = self._next(item.destination)

    def _attend(self, archive: Archive, item: FetchItem) -> bool:
        """Make an attempt at one item; return whether the archive answers."""
        if item.failures >= ATTEMPTS:
            why = item.error or "internal error; see the log"
            self._end(item, FetchState.FAILED, here=item.here, there=item.there, error=why)
            return True
        with begin_immediate(self._engine) as connection:
            begin_attempt(connection, item, retry_delay(item.failures + 1, _FIRST_SECONDS, _MAX_SECONDS))
        try:
            self._fetch(archive, item)
        except NotFoundError as error:
            self._end(item, FetchState.NOT_FOUND, error=str(error))
        except UnreachableError as error:
            self._undo(item, error)
            return False
        except DeliveryError as error:
            self._fail(item, str(error))
            if self._outages[item.destination] + 1 >= _REFUSALS:
                self._put_off(item.destination)
            else:
                self._outages[item.destination] += 1
            return False
        self._outages.pop(item.destination, None)
        return True

    def _fetch(self, archive: Archive, item: FetchItem) -> None:
        study = item.value
        if item.keyword != KEYS["study"]:
            study, *others = archive.studies({item.keyword: item.value})
            if others:
                with begin_immediate(self._engine) as connection:
                    split_item(connection, item, [study, *others])
                return
        listed = archive.series(study)
        if not listed:
            raise NotFoundError(f"{item.destination} has no study {study}")
        wanted = wanted_series(listed, item.modalities, self._config.rules)
        if not wanted:
            has = ", ".join(sorted({series.modality for series in listed}))
            raise NotFoundError(f"the study has no series of a wanted modality, only {has}")
        with about(study):
            results = [series for series in wanted if series.is_complete]
            faults: list[str] = []
            for series in wanted:
                if series.is_complete:
                    continue
                with begin_immediate(self._engine) as connection:
                    mark_fetched(connection, study)
                fetched = archive.fetch(series)
                results.append(fetched.series)
                faults += filter(None, [fetched.error])
            self._conclude(item, results, "; ".join(faults))

    def _conclude(self, item: FetchItem, series: Sequence[ArchivedSeries], fault: str) -> None:
        here, there = sum(member.here for member in series), sum(member.there for member in series)
        if fault:
            self._fail(item, fault, here=here, there=there)
        else:
            self._end(item, FetchState.FETCHED, here=here, there=there)

    def _end(self, item: FetchItem, state: FetchState, *, here: int = 0, there: int = 0, error: str = "") -> None:
        with begin_immediate(self._engine) as connection:
            end_item(connection, item, state, here=here, there=there, error=error)

    def _fail(self, item: FetchItem, fault: str, *, here: int = 0, there: int = 0) -> None:
        logger.warning("list %d: %s", item.list_id, fault)
        with begin_immediate(self._engine) as connection:
            record_failure(connection, item, here=here, there=there, error=fault)

    def _undo(self, item: FetchItem, error: DeliveryError) -> None:
        """Record that a destination is away, which is no failure of the item."""
        logger.warning("list %d: %s", item.list_id, error)
        with begin_immediate(self._engine) as connection:
            undo_attempt(connection, item, str(error))
        self._put_off(item.destination)

    def _put_off(self, destination: str) -> None:
        """Ask a destination again later."""
        self._outages[destination] += 1
        seconds = retry_delay(self._outages[destination], _FIRST_SECONDS, _MAX_SECONDS)
        with begin_immediate(self._engine) as connection:
            put_off_destination(connection, destination, seconds)

    def _next(self, destination: str | None = None) -> FetchItem | None:
        """Return what to fetch next, of a destination or of any; ``None``: nothing is due, or not now."""
        with self._engine.connect() as connection:
            item = due_item(connection, destination)
            if item is None or why_waiting(self._config, connection, self._spool, self._now()):
                return None
            return item
