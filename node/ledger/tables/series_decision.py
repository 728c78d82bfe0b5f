"""The decision on the latest generation of a series, as several queries join it."""

from __future__ import annotations

import sqlalchemy as sa

from node.ledger.tables.jobs import decision
from node.ledger.tables.received import series

LATEST_DECISION = sa.and_(
    decision.c.study_instance_uid == series.c.study_instance_uid,
    decision.c.series_instance_uid == series.c.series_instance_uid,
    decision.c.generation == series.c.generation,
)
"""Of a series and the decision on its latest generation."""
