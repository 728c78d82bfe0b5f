"""The deliver stage: sends a job's objects to one destination and waits for proof.

Guarantee: an instance that the ledger records as stored is never sent again. A sender that is killed between the
peer's answers and their rows sends those instances again; their UIDs are derived, so the peer still holds each once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Protocol

from sqlalchemy import Engine

from node.config import Config, Destination
from node.deidentify.source_images import source_images
from node.deliver.answer_record import AnswerRecord
from node.deliver.association import Peer, Timeouts
from node.deliver.deidentified import deidentified_store, needs_series, profile_of, reopened
from node.deliver.fhir import fhir_store
from node.deliver.folder import folder_store
from node.deliver.mllp import mllp_store
from node.deliver.object_result import Answer, Store
from node.deliver.proof import Proof
from node.deliver.store import SLOWEST_BYTES_PER_SECOND, cstore_store
from node.deliver.stow import stow_store
from node.errors import DeliveryError, NodeError, NotFoundError, TimeLimitError, UnreachableError
from node.ledger import DeliveryState, deliveries, destination_circuits
from node.ledger.clock import ledger_clock
from node.ledger.deliveries import Claim
from node.ledger.engine import begin_immediate
from node.ledger.jobs import REJECTION, Retries, get_job, source_paths
from node.ledger.pending_deliveries import PendingObject, instances_to_store, is_held, is_stored
from node.ledger.replaced_results import note_kind
from node.reasons import Reason, ReasonCode, reason
from node.retry_delay import retry_delay
from node.spool import LARGEST_OBJECT, Spool

logger = logging.getLogger(__name__)

RETRIES = Retries(max_attempts=None, first_seconds=5.0, max_seconds=900.0)
"""Delays after failures that are not a destination's, which has its own delays."""
REFUSED_SECONDS = 86400.0
"""Longest delay while a destination refuses these objects, which lasts until its configuration changes."""


class Notes(Protocol):
    """Rejection notes on results that a job has replaced at a destination."""

    def add_note(self, job_id: str, destination: str) -> None:
        """Create the note for the destination, if one is needed."""

    def drop_note(self, job_id: str, destination: str, why: Reason) -> None:
        """Cancel the note for the destination."""


class _RefusedObjectsError(DeliveryError):
    """Some objects were refused."""

    def __init__(self, message: str, refused: list[Answer]) -> None:
        super().__init__(message)
        self.for_good = all(answer.for_good for answer in refused)
        self.class_refused = all(answer.for_good or answer.not_negotiated for answer in refused)


class Deliverer:
    """Handler of the deliver stage; stateless between calls."""

    def __init__(
        self,
        config: Config,
        engine: Engine,
        spool: Spool,
        timeouts: Timeouts | None = None,
        notes: Notes | None = None,
    ) -> None:
        self._config = config
        self._engine = engine
        self._spool = spool
        self._timeouts = timeouts or Timeouts()
        self._notes = notes
        self._proof = Proof(config, engine, self._timeouts)

    @property
    def longest_seconds(self) -> float:
        """Longest attempt: the configured limit, which is looked at between objects, and the largest object."""
        return self._config.jobs.deliver_timeout_seconds + LARGEST_OBJECT / SLOWEST_BYTES_PER_SECOND

    def deliver(self, job_id: str, destination_name: str) -> None:
        """Store the pending objects of a job at a destination and, where configured, get proof of storage.

        Returns when the delivery is STORED, CONFIRMED (with proof) or cancelled. Raises ``DeliveryError`` when it
        must be retried, ``UnreachableError`` if the destination cannot be reached, both with ``retry_seconds``, and
        ``NotFoundError`` if it is not configured.
        """
        destination = self._config.destinations.get(destination_name)
        if destination is None:
            raise NotFoundError(
                f"destination {destination_name!r} of job {job_id} is not configured; "
                f"add [destinations.{destination_name}] and retry, or cancel the job"
            )
        with begin_immediate(self._engine) as connection:
            down = destination_circuits.open_circuit(connection, destination_name)
            claim = None if down else deliveries.begin_delivery(connection, job_id, destination_name)
        if down is not None:
            since = datetime.fromtimestamp(down.opened_at or 0.0).astimezone()
            how = "paused" if down.paused else "down"
            error = UnreachableError(f"{destination_name} is {how} since {since:%Y-%m-%d %H:%M:%S}: {down.error}")
            error.retry_seconds, error.until_reached = destination.max_retry_seconds, True
            raise error
        if claim is not None:
            self._attempt(claim, destination)

    def _attempt(self, claim: Claim, destination: Destination) -> None:
        deadline = time.monotonic() + self._config.jobs.deliver_timeout_seconds
        try:
            self._store(claim, destination, lambda instance: not instance.kind.startswith(REJECTION), deadline)
            self._withdraw_replaced(claim, destination, deadline)
            self._store(claim, destination, lambda instance: instance.kind == REJECTION, deadline)
            with begin_immediate(self._engine) as connection:
                state = deliveries.settle_delivery(connection, claim.job_id, claim.destination)
            if state == DeliveryState.STORED:
                self._proof.get(claim, destination)
        except NodeError as error:
            longest = destination.max_retry_seconds
            if isinstance(error, _RefusedObjectsError) and error.for_good:
                longest = max(longest, REFUSED_SECONDS)
            error.retry_seconds = retry_delay(claim.attempt, destination.first_retry_seconds, longest)
            if isinstance(error, UnreachableError):
                error.until_reached = self._record_failure(claim.destination, destination, str(error))
            raise

    def _record_failure(self, name: str, destination: Destination, error: str) -> bool:
        """Count the failure; return whether the circuit of the destination is open now."""
        with begin_immediate(self._engine) as connection:
            at = ledger_clock(connection)
            opened = destination_circuits.record_failure(
                connection, name, error, at, at + destination.first_retry_seconds
            )
            is_open = destination_circuits.open_circuit(connection, name) is not None
        if opened:
            logger.error("%s is down; its deliveries wait until it answers C-ECHO: %s", name, error)
        return is_open

    def _withdraw_replaced(self, claim: Claim, destination: Destination, deadline: float) -> None:
        """Send the rejection note on the results that the new ones, which are stored, replace."""
        wanted = destination.withdraw_replaced
        if self._notes is None or wanted is False or (wanted == "auto" and destination.folder):
            return
        self._notes.add_note(claim.job_id, claim.destination)
        try:
            self._store(claim, destination, lambda instance: instance.kind == note_kind(claim.destination), deadline)
        except UnreachableError:
            raise
        except DeliveryError as error:
            if wanted != "auto" or (isinstance(error, _RefusedObjectsError) and not error.class_refused):
                raise
            why = reason(ReasonCode.NOTES_REFUSED, error_code=error.code, explanation=str(error))
            self._notes.drop_note(claim.job_id, claim.destination, why)

    def _store(
        self, claim: Claim, destination: Destination, which: Callable[[PendingObject], bool], deadline: float
    ) -> None:
        profile = profile_of(self._config, self._engine, claim.destination, destination)
        with self._engine.connect() as connection:
            pending = [o for o in instances_to_store(connection, claim.job_id, claim.destination) if which(o)]
            job = get_job(connection, claim.job_id)
            images = source_paths(connection, job) if needs_series(profile) else []
        if not pending:
            return
        self._spool.all_readable(instance.path for instance in pending)  # fetched before the destination waits for them
        refused: list[Answer] = []
        stored = 0
        series = source_images(self._spool.all_readable(images))
        open_store = partial(self._open, claim.destination, destination, pending, urgent=job.urgent is not None)
        record = AnswerRecord(self._engine, claim, one_by_one=destination.takes_reports_only)
        with open_store() if profile is None else reopened(open_store) as opened, record:
            store = opened if profile is None else deidentified_store(opened, self._spool, profile, series)
            for instance in pending:
                answer = store(instance)
                record.add(instance, answer)
                stored += is_stored(answer.status)
                if not is_stored(answer.status):
                    refused.append(answer)
                if not record.is_wanted or answer.lost or time.monotonic() > deadline:
                    break
        if not record.is_wanted:
            return
        where = f"{claim.destination} ({destination.place})"
        if refused:
            raise _RefusedObjectsError(
                f"{where}: {stored} of {len(pending)} objects stored; {_first_refusal(refused)}", refused
            )
        if stored < len(pending):
            limit = f"[jobs] deliver_timeout_seconds = {self._config.jobs.deliver_timeout_seconds:g}"
            raise TimeLimitError(
                f"{where}: {stored} of {len(pending)} objects stored within {limit}; it continues there"
            )
        logger.info("job %s: %d objects stored at %s", claim.job_id, stored, where)

    def _open(
        self, name: str, destination: Destination, pending: list[PendingObject], *, urgent: bool
    ) -> AbstractContextManager[Store]:
        if destination.folder:
            return folder_store(name, Path(destination.folder), self._spool)
        if destination.hl7:
            return mllp_store(
                name,
                destination,
                self._config.ae.title,
                self._spool,
                timeouts=self._timeouts,
                is_held=partial(self._is_held, name),
                urgent=urgent,
            )
        if destination.fhir:
            return fhir_store(name, destination, self._spool, self._timeouts, is_held=partial(self._is_held, name))
        if destination.url:
            return stow_store(name, destination, self._spool, self._timeouts)
        return cstore_store(Peer.of(name, destination), self._config.ae.title, pending, self._spool, self._timeouts)

    def _is_held(self, destination: str, sop_instance_uid: str) -> bool:
        with self._engine.connect() as connection:
            return is_held(connection, destination, sop_instance_uid)


def _first_refusal(refused: list[Answer]) -> str:
    answer = refused[0]
    if answer.lost:
        return f"{answer.comment}; the node continues where it stopped"
    status = "" if answer.status is None else f"status 0x{answer.status:04X}, "
    others = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
    if answer.withheld:
        return f"first that is withheld: {answer.comment}{others}; nothing of it was sent (docs/deidentify.md)"
    return f"first refusal: {status}{answer.comment}{others}; ask its administrator to allow it, or check its log"
