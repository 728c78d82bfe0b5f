"""Asks an archive for objects of readers in studies that this node has analysed, so that verdicts are read in them.

A query finds series of readers (C-FIND, QIDO-RS), and a retrieval brings them to the node's receiver (C-MOVE,
WADO-RS); ``node.feedback.collector`` reads them like those that the archive forwards. The router neither analyses them
nor sends them on.
"""

from __future__ import annotations

import logging
import threading

from sqlalchemy import Engine

from node.actor import look_every
from node.config import Config
from node.deliver.fetch import Archive, OpenArchive, incomplete_series
from node.errors import DeliveryError, NotFoundError
from node.ledger.clock import clock_of
from node.ledger.engine import begin_immediate
from node.ledger.leadership import Leadership
from node.ledger.reader_queries import due_studies, record_query
from node.log import about

logger = logging.getLogger(__name__)

POLL_SECONDS = 60.0
_MODALITIES = ("SEG", "RTSTRUCT", "SR", "KO")
_DAY_SECONDS = 86400.0


class ReaderQueries:
    """Asks about each study again and again, more rarely as it grows older; of several processes one does."""

    def __init__(self, config: Config, engine: Engine, open_archive: OpenArchive) -> None:
        self._config = config
        self._engine = engine
        self._open_archive = open_archive
        self._leadership = Leadership(engine, "reader queries")

    def run(self, stop: threading.Event) -> None:
        """Look every minute until ``stop`` is set."""
        if not self._config.feedback.source:
            return
        try:
            look_every(POLL_SECONDS, stop, "queries for objects of readers", lambda: self.step(stop))
        finally:
            self._leadership.release()

    def step(self, stop: threading.Event | None = None) -> int:
        """Ask about every study that is due; return how many series were asked for."""
        if not self._leadership.is_ours():
            return 0
        wanted = self._config.feedback
        since = clock_of(self._engine) - wanted.query_days * _DAY_SECONDS
        with self._engine.connect() as connection:
            studies = due_studies(connection, since=since, interval_seconds=wanted.query_minutes * 60.0)
        if not studies:
            return 0
        sent = 0
        try:
            with self._open_archive(wanted.source) as archive:
                for study in studies:
                    if stop is not None and stop.is_set():
                        break
                    with about(study):
                        sent += self._ask(archive, study)
        except DeliveryError as error:
            logger.warning("objects of readers: %s; asking again later", error)
        return sent

    def _ask(self, archive: Archive, study: str) -> int:
        with begin_immediate(self._engine) as connection:
            record_query(connection, study)
        try:
            incomplete = [series for series in incomplete_series(archive, study) if series.modality in _MODALITIES]
        except NotFoundError:  # it may hold results of the node elsewhere
            return 0
        for series in incomplete:
            with begin_immediate(self._engine) as connection:
                record_query(connection, study, series.series_instance_uid)
            fetched = archive.fetch(series)
            if fetched.error:
                logger.warning("series %s: %s", series.series_instance_uid, fetched.error)
            else:
                logger.info("series %s of a reader came from the archive", series.series_instance_uid)
        return len(incomplete)
