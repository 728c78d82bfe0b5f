"""Alerts about the object store."""

from __future__ import annotations

import sqlalchemy as sa

from node.config import Config
from node.ledger.packs import failing_packs
from node.operate.explain import clock
from node.translation import gettext

_PACK_SECONDS = 3600.0
"""After which a series that cannot be packed is reported."""


def object_store_alerts(config: Config, connection: sa.Connection, at: float) -> dict[str, str]:
    """Return the alert about series that cannot be packed."""
    table = config.storage.object_store
    failing = failing_packs(connection) if table.url else None
    if failing is None or not failing.number or at - failing.since < table.pack_after_minutes * 60 + _PACK_SECONDS:
        return {}
    return {
        "object store": gettext(
            "{series} series are not in the object store, the first was complete at {time}; their local files stay: "
            "{error}",
            series=failing.number,
            time=clock(failing.since),
            error=failing.error,
        )
    }
