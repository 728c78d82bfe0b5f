"""Refusals: images that were refused or cut off, and callers that were rejected, by series.

The data set of a refused image names its series where it can be read. Where it cannot, the fact belongs to every
series that its caller was sending then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa

from node.ledger.clock import ahead_of_machine
from node.ledger.engine import insert_new
from node.ledger.events import EventKind, record_study_event
from node.ledger.states import SeriesState
from node.ledger.tables import association, instance, refusal, rejection, series

SENDING_SECONDS = 60.0
"""A caller counts as sending a series from the first to the last of its associations that bring images, and this long
afterwards: some callers open an association for each image."""


MOST_REJECTIONS = 256
"""Titles of an address whose last rejection is kept: a hostile peer can use any number."""
_STILL = 1e12
"""The end of what has not ended."""
_CAME = instance.c.sop_instance_uid == refusal.c.sop_instance_uid
_TO_ITS_SERIES = sa.and_(
    instance.c.study_instance_uid == refusal.c.study_instance_uid,
    instance.c.series_instance_uid == refusal.c.series_instance_uid,
)
"""Conditions on an instance: it has the UID of a refused image, and is in the series that was named for that one."""
_OF_SERIES = sa.and_(
    instance.c.study_instance_uid == sa.bindparam("study"), instance.c.series_instance_uid == sa.bindparam("series")
)
ASSOCIATIONS_OF_SERIES = sa.union(
    sa.select(instance.c.association_id).where(_OF_SERIES, instance.c.association_id.is_not(None)),
    sa.select(instance.c.repeated_by).where(_OF_SERIES, instance.c.repeated_by.is_not(None)),
)
"""Ids of the associations that brought images of ``series`` in ``study``, or brought them again."""
_SENDING = sa.select(association).where(association.c.id.in_(ASSOCIATIONS_OF_SERIES))


def _of_caller(table: sa.Table) -> sa.ColumnElement[bool]:
    """Rows about a caller, from one time to another."""
    return sa.and_(
        table.c.calling_ae == sa.bindparam("calling_ae"),
        table.c.peer_address == sa.bindparam("peer_address"),
        table.c.at.between(sa.bindparam("begin"), sa.bindparam("end")),
    )


_REFUSED = sa.select(refusal).where(
    refusal.c.study_instance_uid == sa.bindparam("study"),
    refusal.c.series_instance_uid == sa.bindparam("series"),
    ~sa.exists().where(_CAME, _TO_ITS_SERIES),
)
_REFUSED_OF_CALLER = sa.select(refusal).where(
    _of_caller(refusal),
    sa.func.length(refusal.c.series_instance_uid) == 0,  # so that the index of callers finds the rows
    ~sa.exists().where(_CAME),
)
_REJECTIONS_OF_CALLER = sa.select(rejection).where(
    _of_caller(rejection),
    ~sa.exists().where(
        association.c.calling_ae == rejection.c.calling_ae,
        association.c.peer_address == rejection.c.peer_address,
        association.c.opened_at > rejection.c.at,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Refused:
    """An image that was not taken, or several of which nothing more is known."""

    study_instance_uid: str = ""
    """"" when the data set does not say."""
    series_instance_uid: str = ""
    sop_instance_uid: str = ""
    """"" when it is no UID, or one of too many to name each."""
    association_id: str
    calling_ae: str
    peer_address: str
    status: int | None
    """Of the C-STORE response; ``None``: the association ended in the middle of the message."""
    reason: str
    images: int = 1
    position: tuple[float, float, float] | None = None
    """Image Position (Patient), LPS mm."""
    at: float
    """Seconds since 1970 UTC."""

    def unnamed(self) -> Refused:
        """The same, without the values that distinguish it from others of its association and series."""
        return replace(self, sop_instance_uid="", position=None)


def record_refusals(connection: sa.Connection, refused: Sequence[Refused]) -> None:
    """Record images that were not taken, in the caller's write transaction; a series that was complete is open again.

    An image that was refused several times is one row; an image that is here already is not missing. Times are of this
    machine's clock; the rows have them by the ledger's.
    """
    ahead = ahead_of_machine(connection)
    refused = [replace(image, at=image.at + ahead) for image in refused] if ahead else refused
    for image in refused:
        row = {**vars(image), "position": None if image.position is None else list(image.position)}
        if image.sop_instance_uid:
            before = [refusal.c[name] == row[name] for name in _KEY[: 3 if image.series_instance_uid else 4]]
            connection.execute(sa.delete(refusal).where(*before))
        same = sa.and_(*(refusal.c[name] == row[name] for name in _KEY))
        more = sa.update(refusal).where(same).values(images=refusal.c.images + image.images, at=image.at)
        if image.sop_instance_uid or not connection.execute(more).rowcount:
            insert_new(connection, refusal, [row])
    missing: dict[tuple[str, str], float] = {}
    for image in refused:
        if image.series_instance_uid and not _is_here(connection, image):
            missing[image.study_instance_uid, image.series_instance_uid] = image.at
    for (study_uid, series_uid), at in sorted(missing.items()):
        reopen(connection, study_uid, series_uid, at)


_KEY = ("study_instance_uid", "series_instance_uid", "sop_instance_uid", "association_id")


def reopen(connection: sa.Connection, study_uid: str, series_uid: str, at: float) -> None:
    """Note that an image of a series is missing; a series that was complete is judged again."""
    this = sa.and_(series.c.study_instance_uid == study_uid, series.c.series_instance_uid == series_uid)
    state = connection.scalar(sa.select(series.c.state).where(this).with_for_update())
    connection.execute(sa.update(series).where(this).values(refused_at=at, state=SeriesState.RECEIVING))
    if state == SeriesState.COMPLETE:
        where = {"study_instance_uid": study_uid, "series_instance_uid": series_uid}
        record_study_event(connection, EventKind.LATE_REFUSAL, at=at, **where)


def record_rejection(connection: sa.Connection, calling_ae: str, peer_address: str, reason: str, at: float) -> None:
    """Keep when an association of this caller was rejected last, by this machine's clock."""
    at += ahead_of_machine(connection)
    this = sa.and_(rejection.c.calling_ae == calling_ae, rejection.c.peer_address == peer_address)
    if not connection.execute(sa.update(rejection).where(this).values(reason=reason, at=at)).rowcount:
        row = {"calling_ae": calling_ae, "peer_address": peer_address, "reason": reason, "at": at}
        insert_new(connection, rejection, [row])
        of_address = rejection.c.peer_address == peer_address
        titles = sa.select(rejection.c.calling_ae).where(of_address).order_by(rejection.c.at.desc())
        older = titles.offset(MOST_REJECTIONS).scalar_subquery()
        connection.execute(sa.delete(rejection).where(of_address, rejection.c.calling_ae.in_(older)))


def refused_of(connection: sa.Connection, study_uid: str, series_uid: str) -> list[Refused]:
    """Images that were not taken, may belong to a series and have not come since, in the order of their refusal."""
    refused = [*connection.execute(_REFUSED, {"study": study_uid, "series": series_uid})]
    for sending in _sending(connection, study_uid, series_uid):
        rows = connection.execute(_REFUSED_OF_CALLER, sending.caller_and_time)
        refused += [row for row in rows if sending.includes(row.at)]
    return [_refused(row) for row in sorted(refused, key=lambda row: row.at)]


def rejections_of(connection: sa.Connection, study_uid: str, series_uid: str) -> list[tuple[str, str, float]]:
    """Callers that were rejected while they were sending a series and have sent nothing since: title, reason, when."""
    rejected = []
    for sending in _sending(connection, study_uid, series_uid):
        rows = connection.execute(_REJECTIONS_OF_CALLER, sending.caller_and_time)
        rejected += [row for row in rows if sending.includes(row.at)]
    return [(row.calling_ae, row.reason, row.at) for row in sorted(rejected, key=lambda row: row.at)]


@dataclass(frozen=True, kw_only=True)
class _Sending:
    """When one caller was sending a series."""

    calling_ae: str
    peer_address: str
    times: list[tuple[float, float]]
    """From when to when, for each of its associations."""

    @property
    def caller_and_time(self) -> dict[str, str | float]:
        """Parameters of ``_of_caller``: from its first association to its last."""
        begin, end = min(begin for begin, _ in self.times), max(end for _, end in self.times)
        return {"calling_ae": self.calling_ae, "peer_address": self.peer_address, "begin": begin, "end": end}

    def includes(self, at: float) -> bool:
        return any(begin <= at <= end for begin, end in self.times)


def _sending(connection: sa.Connection, study_uid: str, series_uid: str) -> list[_Sending]:
    times: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in connection.execute(_SENDING, {"study": study_uid, "series": series_uid}):
        end = _STILL if row.closed_at is None else row.closed_at + SENDING_SECONDS
        times.setdefault((row.calling_ae, row.peer_address), []).append((row.opened_at, end))
    return [_Sending(calling_ae=title, peer_address=address, times=of) for (title, address), of in times.items()]


def refused_in(connection: sa.Connection, study_uid: str | None = None) -> list[tuple[Refused, bool]]:
    """Every refusal of a study, or of all; whether the image has come since."""
    came = sa.exists().where(_CAME, sa.or_(refusal.c.series_instance_uid == "", _TO_ITS_SERIES))
    query = sa.select(refusal, came.label("came")).order_by(refusal.c.at)
    if study_uid is not None:
        query = query.where(refusal.c.study_instance_uid == study_uid)
    return [(_refused(row), bool(row.came)) for row in connection.execute(query)]


def purge_refusals(connection: sa.Connection, before: float) -> None:
    """Forget what belongs to no study that is kept, and is older than that."""
    has_series = sa.exists().where(
        series.c.study_instance_uid == refusal.c.study_instance_uid,
        series.c.series_instance_uid == refusal.c.series_instance_uid,
    )
    connection.execute(sa.delete(refusal).where(refusal.c.at < before, ~has_series))
    connection.execute(sa.delete(rejection).where(rejection.c.at < before))


def _is_here(connection: sa.Connection, image: Refused) -> bool:
    query = sa.select(instance.c.sop_instance_uid).where(
        instance.c.sop_instance_uid == image.sop_instance_uid,
        instance.c.study_instance_uid == image.study_instance_uid,
        instance.c.series_instance_uid == image.series_instance_uid,
    )
    return connection.scalar(query) is not None


def _refused(row: sa.Row[tuple[object, ...]]) -> Refused:
    values = {name: getattr(row, name) for name in Refused.__dataclass_fields__}
    return Refused(**{**values, "position": tuple(row.position) if row.position else None})
