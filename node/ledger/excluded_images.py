"""Images that an operator has taken out of a held series, so that the others can be analysed. Their files stay."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from node.errors import NodeError, NotFoundError
from node.ledger.audit_events import add_notice
from node.ledger.clock import ledger_clock
from node.ledger.events import EventKind, record_study_event
from node.ledger.held_series import held
from node.ledger.instances import update_size
from node.ledger.states import NoticeKind, SeriesState
from node.ledger.tables import excluded, instance, series


@dataclass(frozen=True, kw_only=True)
class ExcludedImage:
    """An image that belongs to no series until it is included again."""

    study_instance_uid: str
    series_instance_uid: str
    """The one that it was taken out of."""
    sop_instance_uid: str
    excluded_at: float
    """Seconds since 1970 UTC."""
    who: str
    why: str


def excluded_images(connection: sa.Connection, study: str | None = None) -> list[ExcludedImage]:
    """Of one study or of all, in the order in which they were excluded."""
    query = sa.select(*excluded.c[tuple(ExcludedImage.__dataclass_fields__)]).order_by(excluded.c.excluded_at)
    if study is not None:
        query = query.where(excluded.c.study_instance_uid == study)
    return [ExcludedImage(**row) for row in connection.execute(query).mappings()]


def exclude_image(connection: sa.Connection, uid: str, *, who: str, address: str = "", why: str) -> str:
    """Take an image out of its held series, which the router then decides on again; return its study.

    ``address``: of the browser of ``who``. Raises ``NotFoundError`` for a SOP Instance UID that no received image has,
    and ``NodeError`` when its series is not held, or is nothing but this image.
    """
    row = connection.execute(sa.select(instance).where(instance.c.sop_instance_uid == uid)).mappings().first()
    if row is None:
        raise NotFoundError(f"image {uid}: no received image has this SOP Instance UID")
    study, of = row["study_instance_uid"], row["series_instance_uid"]
    if of not in {held_series.series_instance_uid for held_series in held(connection, study)}:
        raise NodeError(f"image {uid}: its series {of} is not held; only images of a held series can be excluded")
    if connection.scalar(sa.select(series.c.instances).where(_is(study, of)).with_for_update()) == 1:
        raise NodeError(f"image {uid}: it is the only image of its series {of}")
    connection.execute(sa.delete(instance).where(instance.c.sop_instance_uid == uid))
    values = {**row, "excluded_at": ledger_clock(connection), "who": who, "why": why}
    connection.execute(sa.insert(excluded).values(**values))
    _decide_again(connection, study, of, -1)
    _record(connection, EventKind.IMAGE_EXCLUDED, study, of, uid, who=who, address=address, why=why)
    return str(study)


def include_image(connection: sa.Connection, uid: str, *, who: str, address: str = "") -> str:
    """Put an excluded image back into its series; return its study.

    Raises ``NotFoundError`` when it is not excluded, and ``NodeError`` when it was received again as another file.
    """
    row = connection.execute(sa.select(excluded).where(excluded.c.sop_instance_uid == uid)).mappings().first()
    if row is None:
        raise NotFoundError(f"image {uid} is not excluded; `ainode explain` of its study lists those that are")
    if connection.scalar(sa.select(instance.c.path).where(instance.c.sop_instance_uid == uid)) is not None:
        raise NodeError(f"image {uid} was received again with other content, which is in the series now")
    study, of = row["study_instance_uid"], row["series_instance_uid"]
    connection.execute(sa.delete(excluded).where(excluded.c.sop_instance_uid == uid))
    connection.execute(sa.insert(instance).values(**{name: row[name] for name in row if name in instance.columns}))
    _decide_again(connection, study, of, 1)
    _record(connection, EventKind.IMAGE_INCLUDED, study, of, uid, who=who, address=address, why="")
    return str(study)


def _is(study: str, of: str) -> sa.ColumnElement[bool]:
    return sa.and_(series.c.study_instance_uid == study, series.c.series_instance_uid == of)


def _decide_again(connection: sa.Connection, study: str, of: str, more: int) -> None:
    values = {"instances": series.c.instances + more, "state": SeriesState.RECEIVING}
    connection.execute(sa.update(series).where(_is(study, of)).values(**values))
    update_size(connection, study, of)


def _record(
    connection: sa.Connection, kind: EventKind, study: str, of: str, uid: str, *, who: str, address: str, why: str
) -> None:
    act = "excluded" if kind == EventKind.IMAGE_EXCLUDED else "included"
    record_study_event(
        connection,
        kind,
        at=ledger_clock(connection),
        study_instance_uid=study,
        series_instance_uid=of,
        sop_instance_uid=uid,
        who=who,
        why=why,
    )
    because = f": {why}" if why else ""
    add_notice(
        connection, NoticeKind.ACT, who=who, address=address, detail=f"{act} image {uid} of series {of}{because}"
    )
