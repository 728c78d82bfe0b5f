"""Storage Commitment reports of destinations (PS3.4 J.3.3): believed only from the system that was asked.

Who knows the Transaction UID of a request could otherwise have a delivery confirmed that the destination has lost, or
sent again for ever.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping

from sqlalchemy import Engine

from node.config import Destination
from node.ledger.delivery_proof import asked_destinations, record_report
from node.ledger.engine import begin_immediate
from node.receive.normalized import NormalizedAnswer, NormalizedRequest
from node.receive.policy import Policy, plain_address
from node.receive.status import NO_SUCH_INSTANCE, SUCCESS

LOGGER = logging.getLogger(__name__)


class CommitmentReportScu:
    """Takes the N-EVENT-REPORTs of destinations that this node asked for commitment."""

    def __init__(self, engine: Engine, destinations: Mapping[str, Destination], policy: Policy) -> None:
        self._engine = engine
        self._destinations = destinations
        self._policy = policy

    def report(self, request: NormalizedRequest) -> NormalizedAnswer:
        """Success once it is durable, also for a transaction that is over; 0112 for that of another system."""
        with self._engine.connect() as connection:
            asked = asked_destinations(connection, str(request.dataset.get("TransactionUID", "")))
        others = sorted(name for name in asked if not self._is(name, request))
        if others:
            what = f"Storage Commitment report in the name of {', '.join(others)}"
            LOGGER.warning(
                "%s from %s at %s does not count: this is neither its address nor a caller of its title or group; "
                "if it is the same system, name it in [ae] callers",
                what,
                request.calling_ae,
                request.address,
            )
            return NormalizedAnswer(status=NO_SUCH_INSTANCE, refused=what)
        if not asked:
            LOGGER.warning("Storage Commitment report from %s for a transaction we do not know", request.calling_ae)
        with begin_immediate(self._engine) as connection:
            record_report(connection, request.dataset)
        return NormalizedAnswer(status=SUCCESS)

    def _is(self, name: str, request: NormalizedRequest) -> bool:
        """Whether who calls is this destination.

        It calls from the address of its host, or is let in by ``callers`` under its title, or in the group of that.
        """
        destination = self._destinations.get(name)
        if destination is None:
            return False
        entries = [one for one in self._policy.callers if one.title.strip() == destination.title.strip()]
        return (
            bool(entries and request.calling_ae == destination.title.strip())
            or any(one.group and request.equipment == f"group {one.group}" for one in entries)
            or str(plain_address(request.address)) in _addresses(destination.host)
        )


def _addresses(host: str) -> set[str]:
    """Of a host name; none while it cannot be resolved."""
    try:
        return {str(plain_address(str(found[4][0]))) for found in socket.getaddrinfo(host, None)}
    except OSError:
        return set()
