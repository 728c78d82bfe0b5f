"""Missing copies: files that are, or may be, on fewer machines than ``[storage] copies`` says.

Normally there are none, because an image is acknowledged when both machines have it. A row may say too much, never too
little: it is written in the transaction that records the file, and removed when two machines were seen to have it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import sqlalchemy as sa

from node.ledger.clock import ledger_clock
from node.ledger.engine import insert_new
from node.ledger.holdings import folder_of, record_holdings
from node.ledger.packed_files import packed_files
from node.ledger.tables import conflict, excluded, holding, instance, member, missing_copy, result

_PATHS_AT_ONCE = 500


class MissingCopies(NamedTuple):
    """How many files lack a copy, and since when the first of them does."""

    files: int
    since: float
    """Seconds since 1970 UTC, by the ledger's clock; 0 when there is none."""


def record_missing_copies(connection: sa.Connection, paths: Collection[str]) -> None:
    """Record files that may have one copy only."""
    at = ledger_clock(connection)
    insert_new(connection, missing_copy, [{"path": path, "missing_at": at} for path in sorted(set(paths))])


def record_results_held(connection: sa.Connection, machine: str, copies: int, paths: Collection[str]) -> None:
    """Record that ``machine`` has these results. Where two copies are wanted, the second one follows."""
    record_holdings(connection, machine, {folder_of(path) for path in paths})
    if copies > 1:
        record_missing_copies(connection, paths)


def missing_copies(connection: sa.Connection, after: str = "", limit: int = _PATHS_AT_ONCE) -> list[str]:
    """Return the paths of such files, in order, from the one that follows ``after``."""
    path = missing_copy.c.path
    return list(connection.scalars(sa.select(path).where(path > after).order_by(path).limit(limit)))


def count_missing_copies(connection: sa.Connection) -> MissingCopies:
    """Return how many there are."""
    query = sa.select(sa.func.count(), sa.func.min(missing_copy.c.missing_at)).select_from(missing_copy)
    files, since = connection.execute(query).one()
    return MissingCopies(files, since or 0.0)


def among_missing_copies(connection: sa.Connection, paths: Collection[str]) -> set[str]:
    """Return those of ``paths`` that are known to lack a copy."""
    every, missing = sorted(paths), set[str]()
    for first in range(0, len(every), _PATHS_AT_ONCE):
        part = every[first : first + _PATHS_AT_ONCE]
        missing |= set(connection.scalars(sa.select(missing_copy.c.path).where(missing_copy.c.path.in_(part))))
    return missing


def end_missing_copies(connection: sa.Connection, paths: Collection[str]) -> None:
    """Remove rows of files that have both copies, or do not exist any more."""
    every = sorted(paths)
    for first in range(0, len(every), _PATHS_AT_ONCE):
        part = every[first : first + _PATHS_AT_ONCE]
        connection.execute(sa.delete(missing_copy).where(missing_copy.c.path.in_(part)))


def end_missing_copies_below(connection: sa.Connection, folder: str) -> None:
    """Remove the rows of all files in a folder."""
    connection.execute(sa.delete(missing_copy).where(missing_copy.c.path.startswith(f"{folder}/", autoescape=True)))


def lose_machine(connection: sa.Connection, machine: str) -> list[str]:
    """Remove what the ledger says of the files of a machine that is gone for good.

    Every file in its folders that is not in a pack may have lost a copy. Return the folders with files that no other
    machine and no pack has.
    """
    folders = set(connection.scalars(sa.select(holding.c.folder).where(holding.c.machine == machine)))
    packed = set()
    for folder in folders:
        files = set(_files_in(connection, folder))
        lacking = files - packed_files(connection, files).keys()
        record_missing_copies(connection, lacking)
        if files and not lacking:
            packed.add(folder)
    connection.execute(sa.delete(holding).where(holding.c.machine == machine))
    others = set(connection.scalars(sa.select(holding.c.folder).distinct()))
    return sorted(folders - others - packed)


def machines_with_files(connection: sa.Connection) -> set[str]:
    """Return the ids of all machines, living or not, that the ledger says have files."""
    return set(connection.scalars(sa.select(holding.c.machine).distinct()))


def is_machine_alive(connection: sa.Connection, machine: str, lost: str) -> bool:
    """Return whether any process of a machine is a member that is not in the state ``lost``."""
    living = member.c.machine == machine, member.c.state != lost
    return connection.scalar(sa.select(sa.func.count()).where(*living)) != 0


def _files_in(connection: sa.Connection, folder: str) -> list[str]:
    root, _, rest = folder.partition("/")
    if root == "results":
        return list(connection.scalars(sa.select(result.c.path).where(result.c.job_id == rest)))
    study, _, series = rest.partition("/")
    queries = (
        sa.select(table.c.path).where(table.c.study_instance_uid == study, table.c.series_instance_uid == series)
        for table in (instance, conflict, excluded)
    )
    return [path for path in connection.scalars(sa.union_all(*queries)) if path.startswith(f"{folder}/")]
