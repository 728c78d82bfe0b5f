"""Proof of storage at a destination: Storage Commitment, or a query for every instance."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import groupby

from pydicom.uid import generate_uid
from pynetdicom import evt
from sqlalchemy import Engine

from node.config import Config, Destination
from node.deliver.association import Peer, Timeouts, associate
from node.deliver.commitment import commitment_context, request_commitment
from node.deliver.deidentified import profile_of
from node.deliver.inventory import inventory
from node.deliver.query_audit import query_recorder
from node.errors import DeliveryError
from node.ledger import DeliveryState
from node.ledger.clock import clock_of, ledger_clock
from node.ledger.deliveries import Claim
from node.ledger.delivery_proof import record_query_result, record_report, record_request, withdraw_request
from node.ledger.engine import begin_immediate
from node.ledger.pending_deliveries import PendingObject, deliveries_of, instances_to_confirm, is_unanswered

_POLL_SECONDS = 0.1


class Proof:
    """Gets proof for deliveries that are STORED, as configured for the destination."""

    def __init__(self, config: Config, engine: Engine, timeouts: Timeouts) -> None:
        self._config = config
        self._engine = engine
        self._timeouts = timeouts

    def get(self, claim: Claim, destination: Destination) -> None:
        """Return when the delivery is CONFIRMED or no proof is configured.

        Raises ``DeliveryError`` while there is no proof; objects that the destination lost become pending again.
        """
        if not destination.commitment:
            if destination.find:
                self._find(claim, destination)
            return
        asked_before = clock_of(self._engine) - destination.commitment_timeout_seconds
        with self._engine.connect() as connection:
            late = is_unanswered(connection, claim.job_id, claim.destination, asked_before)
            unconfirmed = instances_to_confirm(connection, claim.job_id, claim.destination, asked_before)
        if late and destination.find:
            self._find(claim, destination)
        elif unconfirmed:
            try:
                self._ask(claim, destination, unconfirmed)
            except DeliveryError:
                if not destination.find:
                    raise
                self._find(claim, destination)
        self._conclude(claim, destination)

    def _conclude(self, claim: Claim, destination: Destination) -> None:
        peer, patience = Peer.of(claim.destination, destination), destination.commitment_timeout_seconds
        state = self._state(claim)
        if state == DeliveryState.SCHEDULED:
            raise DeliveryError(f"{peer}: Storage Commitment failed for some objects; the node sends them again")
        if state == DeliveryState.STORED:
            raise DeliveryError(
                f"{peer}: stored all objects, no Storage Commitment report yet; the request is repeated after "
                f"{patience:g} s. Check that it can call {self._config.ae.title} at port {self._config.ae.port}"
            )

    def _ask(self, claim: Claim, destination: Destination, unconfirmed: Sequence[PendingObject]) -> None:
        """Request commitment; the report may arrive here, or at the receiver on an association of the peer."""
        peer = Peer.of(claim.destination, destination)
        transaction_uid = generate_uid(prefix=None)
        with begin_immediate(self._engine) as connection:  # before it is sent: the report may arrive immediately
            uids = [o.sop_instance_uid for o in unconfirmed]
            record_request(connection, claim.job_id, claim.destination, uids, transaction_uid)
        try:
            with associate(
                peer, self._config.ae.title, [commitment_context()], self._timeouts, self._on_event_report
            ) as association:
                request_commitment(association, peer, unconfirmed, transaction_uid)
                deadline = time.monotonic() + self._timeouts.report_seconds
                while self._state(claim) == DeliveryState.STORED and time.monotonic() < deadline:
                    time.sleep(_POLL_SECONDS)
        except DeliveryError:
            with begin_immediate(self._engine) as connection:
                withdraw_request(connection, transaction_uid)
            raise

    def _find(self, claim: Claim, destination: Destination) -> None:
        with self._engine.connect() as connection:
            pending = instances_to_confirm(connection, claim.job_id, claim.destination)
        confirmed: list[str] = []
        on_query = query_recorder(self._engine, destination)
        profile = profile_of(self._config, self._engine, claim.destination, destination)
        title = self._config.ae.title
        with inventory(claim.destination, destination, title, self._timeouts, on_query, profile=profile) as held:
            for (study, series), of_series in groupby(sorted(pending, key=_series_of), _series_of):
                there = held(study, series)
                confirmed += [instance.sop_instance_uid for instance in of_series if instance.sop_instance_uid in there]
        missing = sorted({instance.sop_instance_uid for instance in pending} - set(confirmed))
        patience = destination.commitment_timeout_seconds
        with begin_immediate(self._engine) as connection:
            record_query_result(connection, claim, confirmed, missing, ledger_clock(connection) - patience)
        if missing:
            raise DeliveryError(
                f"{claim.destination}: {len(missing)} of {len(pending)} stored objects are not found there, first "
                f"{missing[0]}; objects not found {patience:g} s after storing are sent again"
            )

    def _on_event_report(self, event: evt.Event) -> tuple[int, None]:
        with begin_immediate(self._engine) as connection:
            known = record_report(connection, event.event_information)
        return (0x0000 if known else 0x0112), None  # 0112: no such SOP Instance, PS3.7 C.5.10

    def _state(self, claim: Claim) -> str:
        with self._engine.connect() as connection:
            states = {d.destination: d.state for d in deliveries_of(connection, claim.job_id)}
        return states.get(claim.destination, DeliveryState.CANCELED)


def _series_of(instance: PendingObject) -> tuple[str, str]:
    return instance.study_instance_uid, instance.series_instance_uid
