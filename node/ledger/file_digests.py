"""Recorded files and their digests, for who compares them with the files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import sqlalchemy as sa

from node.ledger.tables import conflict, excluded, instance, result

_RECEIVED = (instance, conflict, excluded)


def studies_with_files(connection: sa.Connection) -> dict[str, int]:
    """Study Instance UIDs of all received files, with the number of files of each."""
    counts = Counter[str]()
    for of in _RECEIVED:
        query = sa.select(of.c.study_instance_uid, sa.func.count().label("files")).group_by(of.c.study_instance_uid)
        counts.update({row.study_instance_uid: row.files for row in connection.execute(query)})
    return counts


def jobs_with_files(connection: sa.Connection) -> dict[str, int]:
    """Jobs that have results, with the number of results of each."""
    query = sa.select(result.c.job_id, sa.func.count().label("files")).group_by(result.c.job_id)
    return {row.job_id: row.files for row in connection.execute(query)}


def digests_of_studies(connection: sa.Connection, studies: Collection[str]) -> dict[str, str]:
    """Path -> digest of every received file of these studies."""
    rows = (sa.select(t.c.path, t.c.digest).where(t.c.study_instance_uid.in_(studies)) for t in _RECEIVED)
    return {row.path: row.digest for row in connection.execute(sa.union_all(*rows))}


def digests_of_jobs(connection: sa.Connection, jobs: Collection[str]) -> dict[str, str]:
    """Path -> digest of every result of these jobs."""
    query = sa.select(result.c.path, result.c.digest).where(result.c.job_id.in_(jobs))
    return {row.path: row.digest for row in connection.execute(query)}


def all_paths(connection: sa.Connection) -> list[str]:
    """Paths of the images of all series; without those of conflicts."""
    return list(connection.scalars(sa.select(instance.c.path)))


def known_paths(connection: sa.Connection, study_instance_uid: str) -> set[str]:
    """Paths of all files of a study that have a row."""
    paths = [sa.select(table.c.path).where(table.c.study_instance_uid == study_instance_uid) for table in _RECEIVED]
    return set(connection.scalars(sa.union_all(*paths)))
