"""How large the studies are that were received."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from node.ledger.tables import series


@dataclass(frozen=True, kw_only=True)
class StudySizes:
    """Of the studies that are not purged yet."""

    studies: int
    images: int
    size: int
    """Bytes."""


def study_sizes(connection: sa.Connection) -> StudySizes:
    """Return the sums over all studies."""
    query = sa.select(
        sa.func.count(sa.distinct(series.c.study_instance_uid)),
        sa.func.sum(series.c.instances),
        sa.func.sum(series.c.size),
    )
    studies, images, size = connection.execute(query).one()
    return StudySizes(studies=studies, images=int(images or 0), size=int(size or 0))
