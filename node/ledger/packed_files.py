"""Files that verified packs hold: where each one is, and which are not packed yet."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

import sqlalchemy as sa

from node.ledger.holdings import RecordedFile, folder_of, held_elsewhere, recorded_files
from node.ledger.states import SeriesState
from node.ledger.tables import instance, packed, series

_PATHS_AT_ONCE = 500


class PackedFile(NamedTuple):
    """Place and content of one file of a pack."""

    pack: str
    position: int
    """Of its first byte in the pack."""
    size: int
    digest: str


class UnpackedSeries(NamedTuple):
    """A complete series of which images may not be packed."""

    study_instance_uid: str
    series_instance_uid: str
    generation: int
    last_at: float
    """When its last image came."""


def unpacked_series(
    connection: sa.Connection, completed_before: float, last_after: float, limit: int = 100
) -> list[UnpackedSeries]:
    """Return series that were complete before a time, in the order of their last images, from ``last_after`` on."""
    columns = series.c["study_instance_uid", "series_instance_uid", "generation", "last_at"]
    unpacked = sa.or_(series.c.packed_generation.is_(None), series.c.packed_generation < series.c.generation)
    query = (
        sa.select(*columns)
        .where(series.c.state == SeriesState.COMPLETE, series.c.last_at >= last_after, unpacked)
        .where(series.c.completed_at < completed_before, series.c.instances > 0)
        .order_by(series.c.last_at, series.c.series_instance_uid)
    )
    return [UnpackedSeries(*row) for row in connection.execute(query.limit(limit))]


def end_packing(connection: sa.Connection, of: UnpackedSeries) -> None:
    """Record that every image of this generation is packed; a later one is looked at again."""
    this = (
        series.c.study_instance_uid == of.study_instance_uid,
        series.c.series_instance_uid == of.series_instance_uid,
        series.c.generation == of.generation,
        series.c.state == SeriesState.COMPLETE,
    )
    connection.execute(sa.update(series).where(*this).values(packed_generation=of.generation))


def unpacked_files(connection: sa.Connection, study: str, series_uid: str) -> dict[str, RecordedFile]:
    """Return path, digest and size of the images of a series that no verified pack holds."""
    here = sa.exists().where(packed.c.path == instance.c.path, packed.c.digest == instance.c.digest)
    query = sa.select(instance.c.path, instance.c.digest, instance.c.size).where(
        instance.c.study_instance_uid == study, instance.c.series_instance_uid == series_uid, ~here
    )
    return {row.path: RecordedFile(row.digest, row.size) for row in connection.execute(query.order_by(instance.c.path))}


def packed_files(connection: sa.Connection, paths: Collection[str]) -> dict[str, PackedFile]:
    """Return where in a pack each of ``paths`` is; those in no pack are left out."""
    files: dict[str, PackedFile] = {}
    columns = packed.c["path", "pack", "position", "size", "digest"]
    for part in _parts(paths):
        rows = connection.execute(sa.select(*columns).where(packed.c.path.in_(part)))
        files |= {row.path: PackedFile(row.pack, row.position, row.size, row.digest) for row in rows}
    return files


def recorded_elsewhere(engine: sa.Engine, machine: str, paths: Collection[str]) -> dict[str, RecordedFile]:
    """Return digest and size of those files that a verified pack has, or that another machine than this may have."""
    with engine.connect() as connection:
        packed_ones = {path: RecordedFile(of.digest, of.size) for path, of in packed_files(connection, paths).items()}
        folders = held_elsewhere(connection, machine, {folder_of(path) for path in paths})
        return packed_ones | recorded_files(connection, [path for path in paths if folder_of(path) in folders])


def files_of_pack(connection: sa.Connection, name: str) -> dict[str, PackedFile]:
    """Return path and place of each file that the ledger says a pack holds."""
    columns = packed.c["path", "position", "size", "digest"]
    rows = connection.execute(sa.select(*columns).where(packed.c.pack == name).order_by(packed.c.position))
    return {row.path: PackedFile(name, row.position, row.size, row.digest) for row in rows}


def delete_packed(connection: sa.Connection, paths: Collection[str]) -> None:
    """Remove the places of files that are purged; a pack without any is deleted from the store later."""
    for part in _parts(paths):
        connection.execute(sa.delete(packed).where(packed.c.path.in_(part)))


def pack_again(connection: sa.Connection, study: str, series_uid: str, paths: Collection[str]) -> None:
    """Remove the places of files whose pack is lost, so that their series is packed again."""
    delete_packed(connection, paths)
    this = series.c.study_instance_uid == study, series.c.series_instance_uid == series_uid
    connection.execute(sa.update(series).where(*this).values(packed_generation=None))


def _parts(paths: Collection[str]) -> Iterator[list[str]]:
    every = sorted(paths)
    for first in range(0, len(every), _PATHS_AT_ONCE):
        yield every[first : first + _PATHS_AT_ONCE]
