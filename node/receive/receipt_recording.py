"""Records received files; an image that another machine has with other bytes becomes a conflict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection

from node.ledger.instances import Receipt, record_instances
from node.spool import Spool


def record_receipts(connection: Connection, spool: Spool, receipts: Sequence[Receipt]) -> None:
    """Record received files in the caller's write transaction.

    Machines with storage folders of their own may each receive an image under the same SOP Instance UID. The one that
    was recorded first counts; the other becomes a conflict, as it does at once where both come to one folder.
    """
    aside = record_instances(connection, receipts, spool.machine, spool.copies)
    conflicts = [replace(of, path=spool.set_aside(of.path, of.digest), conflict=True, copy_machine="") for of in aside]
    if conflicts:
        record_instances(connection, conflicts, spool.machine, spool.copies)
