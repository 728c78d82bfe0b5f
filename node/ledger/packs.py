"""Packs: each is claimed before it is uploaded, verified before a file counts as packed, and deleted in two steps.

A row is written before the object, so the ledger knows every upload that was cut off. While a row is in the state
``deleting`` nobody writes a pack of its name, which is made of the content: the deletion cannot meet a new upload.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from node.ledger.clock import ledger_clock
from node.ledger.engine import insert_new
from node.ledger.missing_copies import end_missing_copies
from node.ledger.packed_files import PackedFile, delete_packed
from node.ledger.states import MemberState, PackState
from node.ledger.tables import member, pack, packed, series


class PackRow(NamedTuple):
    """A pack as the ledger knows it."""

    name: str
    state: PackState
    size: int
    at: float
    """When it was claimed, or verified."""


class FailingPacks(NamedTuple):
    """Series whose last attempt failed."""

    number: int
    since: float
    """When the first of their series was complete."""
    error: str


class PackCounts(NamedTuple):
    """What the object store holds, and what could not be written there."""

    packs: int
    files: int
    size: int
    """Bytes."""
    failing: int
    error: str


@dataclass(frozen=True, kw_only=True)
class NewPack:
    """A pack that is to be written."""

    name: str
    claim: str
    """Who writes it: ``MEMBER/RANDOM``."""
    study_instance_uid: str
    series_instance_uid: str
    size: int


def claim_pack(connection: sa.Connection, new: NewPack, stale_seconds: float) -> bool:
    """Claim a pack; ``False``: another process writes or deletes it.

    A claim that failed, is older than ``stale_seconds`` or is of a process that has died is taken over. A pack that
    exists already is no obstacle.
    """
    at, name, claim = ledger_clock(connection), new.name, new.claim
    if insert_new(connection, pack, [{**asdict(new), "state": PackState.WRITING, "at": at}]):
        return True
    row = _locked(connection, name)
    if row is None or row.state == PackState.DELETING:
        return False
    if row.state == PackState.WRITING:
        if row.at > at - stale_seconds and row.error is None and _may_live(connection, row.claim):
            return False
        connection.execute(sa.update(pack).where(pack.c.name == name).values(claim=claim, at=at, error=None))
    return True


def fail_pack(connection: sa.Connection, name: str, claim: str, error: str) -> None:
    """Record why an attempt to write a pack failed; the next one may begin."""
    this = pack.c.name == name, pack.c.claim == claim, pack.c.state == PackState.WRITING
    connection.execute(sa.update(pack).where(*this).values(error=error))


def lose_packs(connection: sa.Connection, names: Collection[str], error: str) -> None:
    """Let packs be written again that the store does not have as they were verified, and of which no file counts."""
    empty = pack.c.name.in_(names), pack.c.state == PackState.VERIFIED, ~sa.exists().where(packed.c.pack == pack.c.name)
    values = {"state": PackState.WRITING, "at": ledger_clock(connection), "error": error}
    connection.execute(sa.update(pack).where(*empty).values(**values))


def renew_claim(connection: sa.Connection, name: str, claim: str) -> bool:
    """Make a claim new; ``False``: it was lost, or the pack was verified and others count on it."""
    this = pack.c.name == name, pack.c.claim == claim, pack.c.state == PackState.WRITING
    return bool(connection.execute(sa.update(pack).where(*this).values(at=ledger_clock(connection))).rowcount)


def record_pack(connection: sa.Connection, name: str, claim: str, files: Mapping[str, PackedFile]) -> bool:
    """Record the files of a pack that was read back and is right; ``False``: the claim was lost, nothing changes."""
    row = _locked(connection, name)
    if row is None or row.state == PackState.DELETING or (row.state == PackState.WRITING and row.claim != claim):
        return False
    values = {"state": PackState.VERIFIED, "at": ledger_clock(connection), "error": None}
    connection.execute(sa.update(pack).where(pack.c.name == name).values(**values))
    delete_packed(connection, files)  # of other content, in an older pack
    insert_new(connection, packed, [{"path": path, **place._asdict()} for path, place in files.items()])
    end_missing_copies(connection, files)
    return True


def unneeded_packs(connection: sa.Connection, limit: int = 100) -> list[PackRow]:
    """Return verified packs whose files are all purged, and those whose deletion has begun."""
    empty = sa.and_(pack.c.state == PackState.VERIFIED, ~sa.exists().where(packed.c.pack == pack.c.name))
    query = sa.select(*_ROW).where(sa.or_(empty, pack.c.state == PackState.DELETING))
    return _rows(connection, query.order_by(pack.c.at).limit(limit))


def stale_packs(connection: sa.Connection, before: float, limit: int = 100) -> list[PackRow]:
    """Return packs that were claimed before a time and never verified."""
    query = sa.select(*_ROW).where(pack.c.state == PackState.WRITING, pack.c.at < before)
    return _rows(connection, query.order_by(pack.c.at).limit(limit))


def begin_deletion(connection: sa.Connection, of: PackRow) -> bool:
    """Keep everyone from writing a pack until it is gone; ``False``: it is needed after all, or claimed again."""
    row = _locked(connection, of.name)
    if row is None or (row.state == PackState.WRITING and row.at != of.at):
        return False
    # After the row is locked, so that this sees what another process has recorded meanwhile.
    if connection.scalar(sa.select(sa.func.count()).where(packed.c.pack == of.name)):
        return False
    connection.execute(sa.update(pack).where(pack.c.name == of.name).values(state=PackState.DELETING))
    return True


def end_deletion(connection: sa.Connection, name: str) -> None:
    """Remove the row of a pack that is no longer in the store."""
    connection.execute(sa.delete(pack).where(pack.c.name == name, pack.c.state == PackState.DELETING))


def verified_packs(connection: sa.Connection, after: str = "", limit: int = 500) -> list[PackRow]:
    """Return verified packs in the order of their names, from the one that follows ``after``."""
    query = sa.select(*_ROW).where(pack.c.state == PackState.VERIFIED, pack.c.name > after)
    return _rows(connection, query.order_by(pack.c.name).limit(limit))


def known_packs(connection: sa.Connection, names: list[str], stale_seconds: float) -> set[str]:
    """Return those of ``names`` that have a row; one that was claimed before that and never verified does not count."""
    fresh = sa.or_(pack.c.state != PackState.WRITING, pack.c.at > ledger_clock(connection) - stale_seconds)
    return set(connection.scalars(sa.select(pack.c.name).where(pack.c.name.in_(names), fresh)))


def pack_sizes(connection: sa.Connection, names: Collection[str]) -> dict[str, int]:
    """Return the size of each verified pack of ``names``."""
    query = sa.select(pack.c.name, pack.c.size).where(pack.c.name.in_(names), pack.c.state == PackState.VERIFIED)
    return {row.name: row.size for row in connection.execute(query)}


def delete_pack_row(connection: sa.Connection, name: str) -> None:
    """Remove the row of a pack without files, which stays in the store: `ainode packs` names it."""
    connection.execute(sa.delete(pack).where(pack.c.name == name, ~sa.exists().where(packed.c.pack == name)))


def count_packs(connection: sa.Connection) -> PackCounts:
    """Count packs and files, and what could not be written."""
    verified = pack.c.state == PackState.VERIFIED
    packs, size = connection.execute(
        sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(pack.c.size), 0)).where(verified)
    ).one()
    files = connection.scalar(sa.select(sa.func.count()).select_from(packed)) or 0
    failing = failing_packs(connection)
    return PackCounts(packs, files, int(size), failing.number, failing.error)


def failing_packs(connection: sa.Connection) -> FailingPacks:
    """Return the series that could not be written to the store, and still are not there."""
    unpacked = sa.or_(series.c.packed_generation.is_(None), series.c.packed_generation < series.c.generation)
    of_series = sa.and_(*(pack.c[name] == series.c[name] for name in ("study_instance_uid", "series_instance_uid")))
    columns = (
        sa.func.count(series.c.series_instance_uid.distinct()),
        sa.func.min(series.c.completed_at),
        sa.func.max(pack.c.error),
    )
    failing = pack.c.state == PackState.WRITING, pack.c.error.is_not(None), unpacked
    query = sa.select(*columns).select_from(pack.join(series, of_series)).where(*failing)
    number, since, error = connection.execute(query).one()
    return FailingPacks(number, since or 0.0, error or "")


def _may_live(connection: sa.Connection, claim: str) -> bool:
    """Whether the process that made a claim may be alive."""
    writer = claim.rpartition("/")[0]
    living = sa.select(sa.func.count()).where(member.c.id == writer, member.c.state != MemberState.LOST)
    return connection.scalar(living) != 0


_ROW = pack.c["name", "state", "size", "at"]


def _rows(connection: sa.Connection, query: sa.Select[tuple[str, str, int, float]]) -> list[PackRow]:
    return [PackRow(row.name, PackState(row.state), row.size, row.at) for row in connection.execute(query)]


def _locked(connection: sa.Connection, name: str) -> sa.Row[Any, Any, Any, Any] | None:
    query = sa.select(pack.c.state, pack.c.claim, pack.c.at, pack.c.error).where(pack.c.name == name)
    return connection.execute(query.with_for_update()).one_or_none()
