"""Received instances: their rows, those of their series and of conflicts, and the paths of their files."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import sqlalchemy as sa

from node.ledger.association_endings import BROKEN
from node.ledger.associations import OpenAssociation
from node.ledger.clock import ahead_of_machine
from node.ledger.engine import begin_immediate, insert_if_new, insert_new
from node.ledger.events import EventKind, record_study_event
from node.ledger.holdings import folder_of, held_elsewhere, record_holdings, recorded_files
from node.ledger.missing_copies import record_missing_copies
from node.ledger.packed_files import packed_files
from node.ledger.states import SeriesState
from node.ledger.tables import association, conflict, excluded, instance, series


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """One received instance and the durable file that holds it."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    study_instance_uid: str
    series_instance_uid: str
    modality: str
    path: str
    digest: str
    size: int
    conflict: bool
    """The file differs from the one that is known under this SOP Instance UID."""
    association: OpenAssociation | None
    """``None``: found in the spool at start-up."""
    received_at: float
    copy_machine: str = ""
    """Id of the other machine that has exactly this file, durably, at the same path; "": none is known to."""


_TRIAL = Receipt(
    sop_instance_uid="0", sop_class_uid="0", transfer_syntax_uid="0", study_instance_uid="0", series_instance_uid="0",
    modality="", path="trial", digest="", size=0, conflict=False, received_at=0.0,
    association=OpenAssociation(id="trial", receiver="", calling_ae="", called_ae="", peer_address="", opened_at=0.0),
)  # fmt: skip


class _UndoneError(Exception):
    """Rolls back a trial write."""


def record_instances(
    connection: sa.Connection, receipts: Sequence[Receipt], machine: str = "", copies: int = 1
) -> list[Receipt]:
    """Record received files in the caller's write transaction; recording the same file again changes nothing.

    ``machine``: whose storage folder has them; "": all machines share it. ``copies``: how many machines should have
    them. Return those that are not recorded, because another machine or a pack has other bytes at the same path:
    ``Spool.set_aside`` makes a conflict of each.

    The digest of a receipt is that of the file at its path. Another digest than the row's means that the file was lost
    and was received again, from a sender whose AE title its File Meta Information names: the row follows it.

    A file that an operator has excluded stays so when it is received again; another file of its image counts.

    A new image puts its series into RECEIVING again. A file whose SOP Instance UID is already recorded with another
    file becomes a conflict, also when it names another study or series. Times are of this machine's clock; the rows
    have them by the ledger's.
    """
    if ahead := ahead_of_machine(connection):
        receipts = [_later(receipt, ahead) for receipt in receipts]
    opened = {r.association.id: r.association for r in receipts if r.association is not None}
    receipts = _without_excluded(connection, receipts)
    insert_new(connection, association, [asdict(row) for row in opened.values()])
    wanted: dict[str, Receipt] = {}
    for receipt in receipts:
        if not receipt.conflict:
            wanted.setdefault(receipt.sop_instance_uid, receipt)
    created = _insert_instances(connection, list(wanted.values()))
    _touch_series(connection, [wanted[uid] for uid in created])
    folders = {folder_of(receipt.path) for receipt in receipts}
    record_holdings(connection, machine, folders)
    for other in {receipt.copy_machine for receipt in receipts}:
        record_holdings(connection, other, {folder_of(r.path) for r in receipts if r.copy_machine == other})
    aside = _of_other_bytes(connection, [r for r in receipts if r.sop_instance_uid not in created], machine)
    receipts = [receipt for receipt in receipts if receipt not in aside]
    if copies > 1:
        record_missing_copies(connection, [receipt.path for receipt in receipts if not receipt.copy_machine])
    wanted = {uid: receipt for uid, receipt in wanted.items() if receipt not in aside}
    others = {r.sop_instance_uid for r in receipts} - created
    known = _known(connection, others)
    paths = {uid: wanted[uid].path for uid in created} | {uid: path for uid, (path, _) in known.items()}
    for uid, (path, digest) in known.items():
        if uid in wanted and wanted[uid].path == path and wanted[uid].digest != digest:
            # Without the name of its algorithm it is of an older version: nothing says that the file is another.
            _replace(connection, wanted[uid], lost=":" in digest)
    _note_repetitions(connection, [wanted[uid] for uid in known if uid in wanted and wanted[uid].path == known[uid][0]])
    # A conflict whose first file has no row yet can only come from a spool that is being recovered; one that is the
    # file that counts has taken the place of the first.
    _record_conflicts(connection, [r for r in receipts if paths.get(r.sop_instance_uid) != r.path])
    return aside


def _without_excluded(connection: sa.Connection, receipts: Sequence[Receipt]) -> list[Receipt]:
    uids = excluded.c.sop_instance_uid.in_({receipt.sop_instance_uid for receipt in receipts})
    query = sa.select(excluded.c.sop_instance_uid, excluded.c.digest).where(uids)
    digests = {row.sop_instance_uid: row.digest for row in connection.execute(query)}
    return [
        replace(receipt, conflict=False) if receipt.sop_instance_uid in digests else receipt
        for receipt in receipts
        if digests.get(receipt.sop_instance_uid) != receipt.digest
    ]


def _of_other_bytes(connection: sa.Connection, receipts: list[Receipt], machine: str) -> list[Receipt]:
    """Those whose paths the ledger knows with other bytes, from another machine than ``machine`` or in a pack."""
    paths = [receipt.path for receipt in receipts]
    elsewhere, packed = held_elsewhere(connection, machine, set(map(folder_of, paths))), packed_files(connection, paths)
    recorded = recorded_files(connection, [p for p in paths if p in packed or folder_of(p) in elsewhere])
    return [r for r in receipts if r.path in recorded and recorded[r.path].digest != r.digest]


def _later(receipt: Receipt, seconds: float) -> Receipt:
    by = receipt.association
    return replace(
        receipt,
        received_at=receipt.received_at + seconds,
        association=by and replace(by, opened_at=by.opened_at + seconds),
    )


def hold_receipts(connection: sa.Connection) -> None:
    """Let nobody else record a received file until this transaction ends.

    On SQLite every write transaction does that. On PostgreSQL a receipt begins with ``instance`` or, when it is nothing
    but conflicts, writes ``conflict`` only; locked in this order nobody waits for another in a circle.
    """
    for table in (instance, conflict) if connection.dialect.name == "postgresql" else ():
        connection.execute(sa.DDL(f"LOCK TABLE {table.name} IN SHARE ROW EXCLUSIVE MODE"))


def try_row(engine: sa.Engine) -> None:
    """Write the row of an instance that does not exist and take it back; raises what the ledger raises."""
    with suppress(_UndoneError), begin_immediate(engine) as connection:
        record_instances(connection, [_TRIAL])
        raise _UndoneError


def series_files(connection: sa.Connection, study_instance_uid: str, series_instance_uid: str) -> dict[str, str]:
    """Path of each image of a series by its SOP Instance UID, in the order of arrival."""
    this = {"study": study_instance_uid, "series": series_instance_uid}
    return {row.sop_instance_uid: row.path for row in connection.execute(_FILES, this)}


def update_size(connection: sa.Connection, study_instance_uid: str, series_instance_uid: str) -> None:
    """Sum up the size of a series again: files have taken the place of others."""
    this = {"study": study_instance_uid, "series": series_instance_uid}
    of_series = sa.and_(*(instance.c[name] == series.c[name] for name in ("study_instance_uid", "series_instance_uid")))
    size = sa.select(sa.func.coalesce(sa.func.sum(instance.c.size), 0)).where(of_series).scalar_subquery()
    connection.execute(series.update().where(_THIS_SERIES).values(size=size), this)


def _insert_instances(connection: sa.Connection, receipts: list[Receipt]) -> set[str]:
    """Insert the rows; return the SOP Instance UIDs that were new."""
    if not receipts:
        return set()
    statement = insert_if_new(connection.dialect.name, instance).returning(instance.c.sop_instance_uid)
    return set(connection.scalars(statement, [_row(r, instance) for r in receipts]))


_OF_RECEIPT = {
    table.name: [field.name for field in fields(Receipt) if field.name in table.columns]
    for table in (instance, conflict)
}
"""Columns that a receipt fills, by table."""


def _row(receipt: Receipt, table: sa.Table) -> dict[str, Any]:
    row = {name: getattr(receipt, name) for name in _OF_RECEIPT[table.name]}
    row["association_id"] = receipt.association.id if receipt.association else None
    return row


def _known(connection: sa.Connection, uids: set[str]) -> dict[str, tuple[str, str]]:
    """SOP Instance UID -> path and digest of its row."""
    if not uids:
        return {}
    query = sa.select(instance.c.sop_instance_uid, instance.c.path, instance.c.digest)
    rows = connection.execute(query.where(instance.c.sop_instance_uid.in_(uids))).all()
    return {row.sop_instance_uid: (row.path, row.digest) for row in rows}


_THIS_SERIES = (series.c.study_instance_uid == sa.bindparam("study")) & (
    series.c.series_instance_uid == sa.bindparam("series")
)
_FILES = (
    sa.select(instance.c.sop_instance_uid, instance.c.path)
    .filter_by(study_instance_uid=sa.bindparam("study"), series_instance_uid=sa.bindparam("series"))
    .order_by(instance.c.received_at)
)
# Two receivers may bring images of one series: its row is locked before its state is read.
_STATE = sa.select(series.c.state).where(_THIS_SERIES).with_for_update()
_TOUCH = (
    series.update()
    .where(_THIS_SERIES)
    .values(
        instances=series.c.instances + sa.bindparam("more", type_=sa.Integer),
        size=series.c.size + sa.bindparam("bytes", type_=sa.BigInteger),
        last_at=sa.case(
            (series.c.last_at > sa.bindparam("at", type_=sa.Double), series.c.last_at),
            else_=sa.bindparam("at", type_=sa.Double),
        ),
        modality=sa.case(
            (series.c.modality == "", sa.bindparam("said", type_=sa.Text)),
            else_=series.c.modality,
        ),
        state=SeriesState.RECEIVING,
    )
)


def _touch_series(connection: sa.Connection, receipts: list[Receipt]) -> None:
    groups: dict[tuple[str, str], list[Receipt]] = {}
    for receipt in receipts:
        groups.setdefault((receipt.study_instance_uid, receipt.series_instance_uid), []).append(receipt)
    for (study_uid, series_uid), group in sorted(groups.items()):
        this = {"study": study_uid, "series": series_uid}
        last_at = max(r.received_at for r in group)
        modality = next((r.modality for r in group if r.modality), "")
        state = connection.scalar(_STATE, this)
        if state is None:
            new = {
                "study_instance_uid": study_uid,
                "series_instance_uid": series_uid,
                "modality": modality,
                "instances": 0,
                "first_at": min(r.received_at for r in group),
                "last_at": last_at,
                "state": SeriesState.RECEIVING,
                "generation": 0,
            }
            if insert_new(connection, series, [new]):
                _record(connection, group[0], EventKind.RECEIVING, sender=_sender(group[0]))
            else:  # another receiver was faster
                state = connection.scalar(_STATE, this)
        if state not in {None, SeriesState.RECEIVING}:
            _record(connection, group[0], EventKind.LATE_IMAGES, images=len(group), sender=_sender(group[0]))
        more = {"more": len(group), "bytes": sum(r.size for r in group)}
        connection.execute(_TOUCH, {**this, **more, "at": last_at, "said": modality})


def _note_repetitions(connection: sa.Connection, receipts: list[Receipt]) -> None:
    """A sender that had broken off came back, if it sends the same images again."""
    broken = sa.select(association.c.id).where(association.c.ending.in_(BROKEN))
    by: dict[str, list[str]] = {}
    for receipt in receipts:
        if receipt.association is not None:
            by.setdefault(receipt.association.id, []).append(receipt.sop_instance_uid)
    for association_id, uids in sorted(by.items()):
        repeated = instance.c.sop_instance_uid.in_(uids), instance.c.association_id.in_(broken)
        connection.execute(instance.update().where(*repeated).values(repeated_by=association_id))


def _replace(connection: sa.Connection, receipt: Receipt, *, lost: bool) -> None:
    file = {"digest": receipt.digest, "size": receipt.size, "transfer_syntax_uid": receipt.transfer_syntax_uid}
    this = instance.c.sop_instance_uid == receipt.sop_instance_uid
    connection.execute(instance.update().where(this).values(**file))
    update_size(connection, receipt.study_instance_uid, receipt.series_instance_uid)
    if not lost:
        return
    uid = receipt.sop_instance_uid
    _record(connection, receipt, EventKind.FILE_REPLACED, sop_instance_uid=uid, sender=_sender(receipt))


def _record_conflicts(connection: sa.Connection, receipts: list[Receipt]) -> None:
    for receipt in receipts:
        if insert_new(connection, conflict, [_row(receipt, conflict)]):
            uid = receipt.sop_instance_uid
            _record(connection, receipt, EventKind.CONFLICT, sop_instance_uid=uid, path=receipt.path)


def _sender(receipt: Receipt) -> str:
    """AE title of the sender; "": the file was found in the spool."""
    return receipt.association.calling_ae if receipt.association else ""


def _record(connection: sa.Connection, receipt: Receipt, kind: EventKind, **parameters: object) -> None:
    record_study_event(
        connection,
        kind,
        at=receipt.received_at,
        study_instance_uid=receipt.study_instance_uid,
        series_instance_uid=receipt.series_instance_uid,
        **parameters,
    )
