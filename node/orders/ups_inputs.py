"""The images of claimed workitems: they are fetched from an archive where they are not here, or awaited."""

from __future__ import annotations

import logging
import threading

from sqlalchemy import Connection, Engine

from node.actor import look_every, surviving
from node.config import Config
from node.deliver.fetch import OpenArchive, incomplete_series
from node.errors import DeliveryError, NodeError, NotFoundError
from node.ledger.claimed_workitems import (
    ClaimedWorkitem,
    due_claims,
    patient_of_images,
    put_off_claim,
    set_claim,
)
from node.ledger.clock import clock_of
from node.ledger.engine import begin_immediate
from node.ledger.leadership import Leadership
from node.ledger.series import Series
from node.ledger.states import ClaimState, SeriesState
from node.ledger.workitems import NewWorkitem, add_workitem
from node.log import about
from node.orders.ups_performer import REQUESTER
from node.reasons import Reason, ReasonCode, reason
from node.retry_delay import retry_delay
from node.workitems.requested_series import requested_series

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 2.0
_FIRST_SECONDS, _MAX_SECONDS = 5.0, 300.0
"""Between two attempts to fetch."""


class UpsInputs:
    """Work of the role *sender*, apart from the reports: an archive may take its time."""

    def __init__(self, config: Config, engine: Engine, open_archive: OpenArchive) -> None:
        self._config = config
        self._settings = config.orders.ups
        self._engine = engine
        self._open_archive = open_archive
        self._leadership = Leadership(engine, "UPS inputs")

    def run(self, stop: threading.Event) -> None:
        """Look until ``stop`` is set."""
        if not self._settings.enabled:
            return
        try:
            look_every(_LOOK_SECONDS, stop, "UPS inputs", self.step)
        finally:
            self._leadership.release()

    def step(self) -> None:
        """See to the images of every workitem that is ours and has no job."""
        if not self._leadership.is_ours():
            return
        with self._engine.connect() as connection:
            due = [
                claim for claim in due_claims(connection, clock_of(self._engine)) if claim.state == ClaimState.CLAIMED
            ]
        for of in due:
            with about(of.study_instance_uid), surviving(f"workitem {of.uid}"):
                self._attend(of)

    def _attend(self, of: ClaimedWorkitem) -> None:
        missing = self._fetch(of) if self._settings.source else ""
        with begin_immediate(self._engine) as connection:
            try:
                if not missing and self._request(connection, of):
                    return
            except NotFoundError as error:
                missing = str(error)
            except NodeError as error:
                set_claim(connection, of.uid, ClaimState.REFUSED, _stated(str(error)))
                return
            hours = self._settings.wait_hours
            if missing and clock_of(self._engine) - of.claimed_at > hours * 3600.0:
                text = f"its images did not come within {hours:g} h: {missing}"
                set_claim(connection, of.uid, ClaimState.REFUSED, _stated(text))
                return
            delay = retry_delay(of.failures + 1, _FIRST_SECONDS, _MAX_SECONDS if missing else _FIRST_SECONDS)
            put_off_claim(connection, of, delay, failed=bool(missing))
        if missing:
            logger.warning("workitem %s: %s", of.uid, missing)

    def _fetch(self, of: ClaimedWorkitem) -> str:
        """Have the archive send what it has and the node has not; return why something of it did not come."""
        try:
            with self._open_archive(self._settings.source) as archive:
                absent = incomplete_series(archive, of.study_instance_uid, of.series_instance_uid)
                return "; ".join(filter(None, (archive.fetch(series).error for series in absent)))
        except NotFoundError:  # others send it
            return ""
        except DeliveryError as error:
            return str(error)

    def _request(self, connection: Connection, of: ClaimedWorkitem) -> bool:
        """Request the analysis from the router as soon as the series is complete; ``False``: it is not yet.

        Raises ``NotFoundError`` when no image is here, ``NodeError`` when it cannot be performed.
        """
        series = self._series(connection, of)
        if series is None or series.state != SeriesState.COMPLETE:
            return False
        patient = patient_of_images(connection, of.study_instance_uid, series.series_instance_uid)
        if of.patient_id and patient and of.patient_id != patient:
            raise NodeError("Patient ID of the workitem is not that of the images")
        pipeline = self._config.procedures[of.procedure].pipeline
        new = NewWorkitem(
            uid=of.uid,
            study_instance_uid=of.study_instance_uid,
            series_instance_uid=series.series_instance_uid,
            procedure=of.procedure,
            requester=REQUESTER,
            requested=of.requested,
        )
        add_workitem(connection, new, pipeline)
        set_claim(connection, of.uid, ClaimState.REQUESTED)
        return True

    def _series(self, connection: Connection, of: ClaimedWorkitem) -> Series | None:
        procedure = self._config.procedures.get(of.procedure)
        if procedure is None:
            raise NodeError(f"[procedures.{of.procedure}] is not configured any more")
        return requested_series(connection, of.study_instance_uid, of.series_instance_uid, procedure.pipeline)


def _stated(text: str) -> Reason:
    return reason(ReasonCode.ERROR, explanation=text)
