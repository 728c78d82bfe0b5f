"""The deliver stage: sends a job's results to one destination and waits for proof.

Guarantee: an instance whose answer is in the ledger as stored is never sent again. A sender killed between the peer's
answer and its row sends that one instance again; its UID is derived, so the peer still holds it once.
"""

from __future__ import annotations

import logging
import time

import sqlalchemy as sa
from pydicom.uid import generate_uid
from pynetdicom import evt

from node.config import Config, Destination
from node.deliver.association import Peer, Timeouts, associate
from node.deliver.commitment import commitment_context, request_commitment
from node.deliver.store import Answer, contexts_for, store
from node.errors import DeliveryError, NodeError, NotFoundError
from node.ledger import deliveries
from node.ledger.deliveries import SCHEDULED, STORED, Owed, is_stored
from node.ledger.engine import begin_immediate, now
from node.spool import Spool

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.1


class Deliverer:
    """Handler of the deliver stage; holds no state of its own between calls."""

    def __init__(self, config: Config, engine: sa.Engine, spool: Spool, timeouts: Timeouts | None = None) -> None:
        self._config = config
        self._engine = engine
        self._spool = spool
        self._timeouts = timeouts or Timeouts()

    def deliver(self, job_id: str, destination_name: str) -> None:
        """Store what ``destination_name`` is owed of a job and, where it is wanted, have it committed.

        Returns when the delivery is STORED, CONFIRMED (with ``commitment = true``) or cancelled. Raises
        ``DeliveryError`` when it has to be tried again, ``delivery.next_at`` says when; ``NotFoundError`` for a
        destination that is not configured.
        """
        destination = self._config.destinations.get(destination_name)
        if destination is None:
            raise NotFoundError(
                f"destination {destination_name!r} of job {job_id} is not configured; "
                f"add [destinations.{destination_name}] and retry, or cancel the job"
            )
        with begin_immediate(self._engine) as connection:
            attempt = deliveries.begin_delivery(connection, job_id, destination_name)
        if attempt is None:
            return
        peer = Peer.of(destination_name, destination)
        try:
            self._store(job_id, peer)
            with begin_immediate(self._engine) as connection:
                state = deliveries.settle_delivery(connection, job_id, destination_name)
            if destination.commitment and state == STORED:
                self._commit(job_id, peer, destination)
        except NodeError as error:
            delay = min(destination.max_retry_seconds, destination.first_retry_seconds * 2.0 ** min(attempt - 1, 60))
            with begin_immediate(self._engine) as connection:
                deliveries.postpone_delivery(connection, job_id, destination_name, str(error), now() + delay)
            raise

    def _store(self, job_id: str, peer: Peer) -> None:
        with self._engine.connect() as connection:
            owed = deliveries.instances_to_store(connection, job_id, peer.name)
        if not owed:
            return
        refused: list[Answer] = []
        sent = 0
        with associate(peer, self._config.ae.title, contexts_for(owed), self._timeouts) as association:
            for one in owed:
                answer = store(association, one, self._spool.absolute(one.path), self._timeouts)
                wanted = self._record(job_id, peer, one, answer)
                sent += is_stored(answer.status)
                if not is_stored(answer.status):
                    refused.append(answer)
                if not wanted:
                    return
                if answer.lost:
                    break
        if refused:
            raise DeliveryError(f"{peer}: {sent} of {len(owed)} objects stored; {_first(refused)}")
        logger.info("job %s: %d objects stored at %s", job_id, sent, peer)

    def _record(self, job_id: str, peer: Peer, owed: Owed, answer: Answer) -> bool:
        with begin_immediate(self._engine) as connection:
            return deliveries.record_status(
                connection, job_id, peer.name, owed.sop_instance_uid, status=answer.status, comment=answer.comment
            )

    def _commit(self, job_id: str, peer: Peer, destination: Destination) -> None:
        patience = destination.commitment_timeout_seconds
        with self._engine.connect() as connection:
            owed = deliveries.instances_to_commit(connection, job_id, peer.name, now() - patience)
        if owed:
            self._ask(job_id, peer, owed)
        state = self._state(job_id, peer)
        if state == SCHEDULED:
            raise DeliveryError(f"{peer}: Storage Commitment failed for some objects; they are sent again")
        if state == STORED:
            raise DeliveryError(
                f"{peer}: stored everything, Storage Commitment not answered yet; asked again after {patience:g} s. "
                f"Check that it may call {self._config.ae.title} at port {self._config.ae.port}"
            )

    def _ask(self, job_id: str, peer: Peer, owed: list[Owed]) -> None:
        """Request commitment; the answer may arrive here, or at the receiver on an association that the peer opens."""
        transaction_uid = generate_uid(prefix=None)
        with begin_immediate(self._engine) as connection:  # before it is sent: the answer can overtake our next step
            uids = [o.sop_instance_uid for o in owed]
            deliveries.record_request(connection, job_id, peer.name, uids, transaction_uid)
        try:
            with associate(
                peer, self._config.ae.title, [commitment_context()], self._timeouts, self._on_event_report
            ) as association:
                request_commitment(association, peer, owed, transaction_uid)
                deadline = time.monotonic() + self._timeouts.report_seconds
                while self._state(job_id, peer) == STORED and time.monotonic() < deadline:
                    time.sleep(_POLL_SECONDS)
        except DeliveryError:
            with begin_immediate(self._engine) as connection:
                deliveries.withdraw_request(connection, transaction_uid)
            raise

    def _on_event_report(self, event: evt.Event) -> tuple[int, None]:
        with begin_immediate(self._engine) as connection:
            known = deliveries.record_report(connection, event.event_information)
        return (0x0000 if known else 0x0112), None  # 0112: no such SOP Instance, PS3.7 C.5.10

    def _state(self, job_id: str, peer: Peer) -> str:
        with self._engine.connect() as connection:
            states = {d.destination: d.state for d in deliveries.deliveries_of(connection, job_id)}
        return states[peer.name]


def _first(refused: list[Answer]) -> str:
    answer = refused[0]
    if answer.lost:
        return f"{answer.comment}; the node goes on where it stopped"
    status = "" if answer.status is None else f"status 0x{answer.status:04X}, "
    others = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
    return f"first refusal: {status}{answer.comment}{others}; let its administrator allow this, or look at its log"
