"""Storage Commitment reports of destinations (PS3.4 J.3.3), accepted only from the system that was asked.

Otherwise anybody who knows a Transaction UID could confirm a delivery that the destination has lost, or cause it to
be sent again forever.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping

from sqlalchemy import Engine

from node.addresses import plain_address
from node.config import Destination
from node.ledger.delivery_proof import asked_destinations, record_report
from node.ledger.engine import begin_immediate
from node.receive.normalized import NormalizedAnswer, NormalizedRequest
from node.receive.policy import Policy
from node.receive.status_codes import NO_SUCH_INSTANCE, SUCCESS

LOGGER = logging.getLogger(__name__)


class CommitmentReportScu:
    """Answers N-EVENT-REPORT requests of destinations that this node asked for commitment."""

    def __init__(self, engine: Engine, destinations: Mapping[str, Destination], policy: Policy) -> None:
        self._engine = engine
        self._destinations = destinations
        self._policy = policy

    def report(self, request: NormalizedRequest) -> NormalizedAnswer:
        """Record a report; Success when it is durable, 0112 for a transaction of another system."""
        with self._engine.connect() as connection:
            destinations = asked_destinations(connection, str(request.dataset.get("TransactionUID", "")))
        others = sorted(name for name in destinations if not self._is_destination(name, request))
        if others:
            what = f"Storage Commitment report in the name of {', '.join(others)}"
            LOGGER.warning(
                "%s from %s at %s ignored: neither address nor AE title nor group is the destination's; "
                "if it is the same system, add it to [ae] callers",
                what,
                request.calling_ae,
                request.address,
            )
            return NormalizedAnswer(status=NO_SUCH_INSTANCE, refused=what)
        if not destinations:
            LOGGER.warning("Storage Commitment report from %s for an unknown transaction", request.calling_ae)
        with begin_immediate(self._engine) as connection:
            record_report(connection, request.dataset)
        return NormalizedAnswer(status=SUCCESS)

    def _is_destination(self, name: str, request: NormalizedRequest) -> bool:
        """Return whether the caller is this destination.

        It is if it calls from the destination's address, or if ``callers`` admits it with the destination's AE title
        or with the group of that title.
        """
        destination = self._destinations.get(name)
        if destination is None:
            return False
        entries = [caller for caller in self._policy.callers if caller.title.strip() == destination.title.strip()]
        return (
            bool(entries and request.calling_ae == destination.title.strip())
            or any(caller.group and request.equipment == f"group {caller.group}" for caller in entries)
            or str(plain_address(request.address)) in _addresses(destination.host)
        )


def _addresses(host: str) -> set[str]:
    """Resolve a host name; empty when that fails."""
    try:
        return {str(plain_address(str(info[4][0]))) for info in socket.getaddrinfo(host, None)}
    except OSError:
        return set()
