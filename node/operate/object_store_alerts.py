"""Alerts about the object store."""

from __future__ import annotations

import sqlalchemy as sa

from node.config import Config
from node.ledger.packs import failing_packs
from node.ledger.store_outages import store_outages
from node.operate.explain import clock
from node.translation import gettext

_OUTAGE_SECONDS = 300.0
"""After which a store that cannot be used is reported."""
_PACK_SECONDS = 3600.0
"""After which a series that cannot be packed is reported."""


def object_store_alerts(config: Config, connection: sa.Connection, at: float) -> dict[str, str]:
    """Return the alert about a store that cannot be used, or else about series that it does not take."""
    table = config.storage.object_store
    if not table.url:
        return {}
    outages = [of for of in store_outages(connection) if at - of.since >= _OUTAGE_SECONDS]
    if outages:
        first = outages[0]
        sentence = gettext(
            "the object store cannot be used since {time} by {machines}: {error}. No image is refused and no local "
            "file deleted; analyses of images that only the store has wait. `ainode doctor` tests the store",
            time=clock(first.since),
            machines=", ".join(sorted({of.host_name for of in outages})),
            error=first.error,
        )
        return {"object store": sentence}
    failing = failing_packs(connection)
    if not failing.number or at - failing.since < table.pack_after_minutes * 60 + _PACK_SECONDS:
        return {}
    sentence = gettext(
        "{series} series are not in the object store, the first was complete at {time}; their local files stay: "
        "{error}",
        series=failing.number,
        time=clock(failing.since),
        error=failing.error,
    )
    return {"object store": sentence}
