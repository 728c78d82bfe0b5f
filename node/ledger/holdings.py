"""Holdings: which machine has files in which folder, where each machine has a storage folder of its own.

A row may say too much, never too little: it is written before the first file of a folder is known to the others, and a
machine that is asked for a file answers for itself. There are no rows where all machines share a folder, or where there
is only one.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import sqlalchemy as sa

from node.ledger.engine import insert_new
from node.ledger.states import MemberState
from node.ledger.tables import conflict, excluded, holding, instance, member, result

_PATHS_AT_ONCE = 500


class RecordedFile(NamedTuple):
    """What the ledger knows of the content of a file."""

    digest: str
    size: int


class CopyAddress(NamedTuple):
    """The copy service of a machine."""

    machine: str
    address: str
    """Host and port."""
    is_draining: bool


def folder_of(path: str) -> str:
    """Return the folder of a file, both relative to the storage folder."""
    return path.rpartition("/")[0]


def record_holdings(connection: sa.Connection, machine: str, folders: Collection[str]) -> None:
    """Record that a machine has files in ``folders``; nothing when ``machine`` is "": every machine sees every file."""
    if machine:
        rows = [{"folder": of, "machine": machine, "purged": False} for of in sorted(set(folders))]
        insert_new(connection, holding, rows)


def record_handover(connection: sa.Connection, machine: str, folder: str) -> None:
    """Record that ``machine`` has the handover in ``folder``; what others have there is outdated."""
    if not machine:
        return
    record_holdings(connection, machine, [folder])
    own = holding.c.machine == machine
    connection.execute(sa.update(holding).where(holding.c.folder == folder).values(purged=sa.not_(own)))


def handover_holder(connection: sa.Connection, folder: str) -> str | None:
    """Return the id of the machine that has the handover in ``folder``; ``None``: it was not recorded."""
    query = sa.select(holding.c.machine).where(holding.c.folder == folder, ~holding.c.purged)
    return connection.scalar(query)


def holders(connection: sa.Connection, folders: Collection[str]) -> dict[str, set[str]]:
    """Return for each of ``folders`` the ids of the machines, living or not, that have files in it."""
    machines: dict[str, set[str]] = {folder: set() for folder in folders}
    query = sa.select(holding.c.folder, holding.c.machine).where(holding.c.folder.in_(folders))
    for row in connection.execute(query):
        machines[row.folder].add(row.machine)
    return machines


def held_elsewhere(connection: sa.Connection, machine: str, folders: Collection[str]) -> set[str]:
    """Return those of ``folders`` in which another machine than ``machine`` has files."""
    if not machine:
        return set()
    of = holding.c.folder.in_(folders), holding.c.machine != machine
    return set(connection.scalars(sa.select(holding.c.folder).where(*of).distinct()))


def file_services(connection: sa.Connection) -> dict[str, str]:
    """Return machine -> URL of each file service that is alive."""
    living = member.c.files_url != "", member.c.state != MemberState.LOST
    query = sa.select(member.c.machine, member.c.files_url).where(*living).order_by(member.c.beat_at)
    return {row.machine: row.files_url for row in connection.execute(query)}


def copy_services(connection: sa.Connection) -> list[CopyAddress]:
    """Return the copy services that are alive, the one that has beaten last for each machine."""
    living = member.c.copies_address != "", member.c.state != MemberState.LOST
    query = sa.select(member.c.machine, member.c.copies_address, member.c.state).where(*living)
    rows = connection.execute(query.order_by(member.c.beat_at))
    latest = {
        row.machine: CopyAddress(row.machine, row.copies_address, row.state == MemberState.DRAINING) for row in rows
    }
    return list(latest.values())


def recorded_files(connection: sa.Connection, paths: Collection[str]) -> dict[str, RecordedFile]:
    """Return digest and size of each of ``paths`` that is a received file or a result."""
    recorded: dict[str, RecordedFile] = {}
    every = sorted(paths)
    for first in range(0, len(every), _PATHS_AT_ONCE):
        part = every[first : first + _PATHS_AT_ONCE]
        uids = {_uid(path) for path in part}
        for query in (
            *(
                sa.select(t.c.path, t.c.digest, t.c.size).where(t.c.sop_instance_uid.in_(uids), t.c.path.in_(part))
                for t in (instance, excluded, result)
            ),
            sa.select(conflict.c.path, conflict.c.digest, conflict.c.size).where(conflict.c.path.in_(part)),
        ):
            recorded |= {row.path: RecordedFile(row.digest, row.size) for row in connection.execute(query)}
    return recorded


def _uid(path: str) -> str:
    """Return the SOP Instance UID by which a file is named; its index is that of the tables."""
    name = path.rpartition("/")[2].removesuffix(".dcm")
    return name.rpartition(".")[0] if path.startswith("conflicts/") else name


def purge_holdings(connection: sa.Connection, folders: Collection[str]) -> None:
    """Have every machine delete what it has in these folders and is not needed any more."""
    if folders:
        connection.execute(sa.update(holding).where(holding.c.folder.in_(folders)).values(purged=True))


def purged_holdings(connection: sa.Connection, machine: str) -> set[str]:
    """Return the folders in which a machine is still to delete files."""
    return set(connection.scalars(sa.select(holding.c.folder).where(holding.c.machine == machine, holding.c.purged)))


def end_purge(connection: sa.Connection, machine: str, folder: str, *, is_empty: bool) -> None:
    """Record that a machine has deleted what was to be deleted in a folder; it may have other files there."""
    this = holding.c.machine == machine, holding.c.folder == folder
    if is_empty:
        connection.execute(sa.delete(holding).where(*this))
    else:
        connection.execute(sa.update(holding).where(*this).values(purged=False))
