"""Storage Commitment reports on associations that this node opens, for requestors that did not wait.

Role selection proposes this node as SCP (PS3.4 J.3.3); the report is also sent to peers that do not answer it.
"""

from __future__ import annotations

import logging
import threading

from pydicom import Dataset
from pynetdicom import build_role
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance
from sqlalchemy import Engine

from node.actor import look_every
from node.config import Config, DestinationTls
from node.deliver.association import Peer, Timeouts, associate
from node.deliver.commitment import commitment_context
from node.errors import DeliveryError
from node.ledger.clock import clock_of
from node.ledger.commitments import (
    Transaction,
    claim_transaction,
    due_transactions,
    end_transaction,
    postpone_transaction,
    report,
)
from node.ledger.engine import begin_immediate
from node.retry_delay import retry_delay

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
FIRST_RETRY_SECONDS = 5.0
LAST_RETRY_SECONDS = 3600.0
GIVE_UP_SECONDS = 3 * 86400.0
"""After three days the report is dropped; a scanner that still needs it asks again."""
_CLAIM_SECONDS = 300.0
"""A sender that dies while it sends a report leaves it to another one after this long; every timeout is shorter."""


class Reports:
    """Sends pending reports and retries until the requestors accept them. Of several senders one sends each report."""

    def __init__(self, config: Config, engine: Engine, timeouts: Timeouts | None = None) -> None:
        self._config = config
        self._engine = engine
        self._timeouts = timeouts or Timeouts()
        self._callers = {caller.title: caller for caller in config.ae.callers if caller.host}

    def run(self, stop: threading.Event) -> None:
        """Check every second until ``stop`` is set."""
        look_every(POLL_SECONDS, stop, "commitment reports", lambda: self.step(clock_of(self._engine)))

    def step(self, at: float) -> int:
        """Send all reports that are due at ``at``; return how many were accepted."""
        with self._engine.connect() as connection:
            due = due_transactions(connection, at)
        return sum(self._try(transaction, at) for transaction in due)

    def _try(self, of: Transaction, at: float) -> bool:
        key = (of.calling_ae, of.transaction_uid)
        with begin_immediate(self._engine) as connection:
            if not claim_transaction(connection, *key, at, _CLAIM_SECONDS):
                return False
            event_type, information = report(connection, *key)
        try:
            self._send_report(of.calling_ae, event_type, information)
        except DeliveryError as error:
            logger.warning("Storage Commitment report: %s", error)
            with begin_immediate(self._engine) as connection:
                if at - of.asked_at > GIVE_UP_SECONDS:
                    end_transaction(connection, *key, error=str(error))
                else:
                    delay = retry_delay(of.attempt + 1, FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS)
                    postpone_transaction(connection, *key, str(error), at + delay)
            return False
        with begin_immediate(self._engine) as connection:
            end_transaction(connection, *key)
        return True

    def _send_report(self, title: str, event_type: int, information: Dataset) -> None:
        caller = self._callers.get(title)
        if caller is None:
            raise DeliveryError(
                f"{title} released its association before the report was ready and its address is not known; "
                f'add host and port to {{ title = "{title}" }} in [ae] callers'
            )
        tls = DestinationTls.towards_callers(self._config.ae.tls)
        peer = Peer(name=title, title=title, host=caller.host, port=caller.port, tls=tls)
        roles = [build_role(StorageCommitmentPushModel, scp_role=True)]
        with associate(peer, self._config.ae.title, [commitment_context()], self._timeouts, roles=roles) as association:
            try:
                answer, _ = association.send_n_event_report(
                    information, event_type, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
                )
            except (RuntimeError, ValueError) as error:
                raise DeliveryError(f"{peer}: the report could not be sent ({error})") from error
        status = answer.get("Status")
        if status != 0x0000:
            words = "no response" if status is None else f"status 0x{status:04X}"
            raise DeliveryError(f"{peer}: {words} to the Storage Commitment report; the node tries again")
