"""Takeover: attempts of executors that have died go back into their queues, where any living one takes them."""

from __future__ import annotations

import logging

from dbos import DBOS, DBOSClient

from node.membership import Membership

logger = logging.getLogger(__name__)


def take_over_dead(client: DBOSClient, membership: Membership) -> None:
    """Put back the attempts of executors that are no living members (``node.membership`` says when one has died)."""
    # In this order: an executor that starts in between must not look like one that is gone.
    pending = client.list_workflows(status="PENDING", load_input=False, load_output=False)
    alive = membership.alive()
    dead = sorted({w.executor_id for w in pending if w.executor_id} - alive)
    if dead:
        logger.warning("jobs: putting back the work of %s", ", ".join(dead))
        DBOS._recover_pending_workflows(dead)  # noqa: SLF001 - no public call; contract-tested, version pinned
