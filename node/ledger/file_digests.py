"""Recorded files and their digests, for who compares them with the files."""

from __future__ import annotations

import sqlalchemy as sa

from node.ledger.tables import conflict, excluded, instance, result

_RECEIVED = (instance, conflict, excluded)


def studies_with_files(connection: sa.Connection) -> set[str]:
    """Study Instance UIDs of all received files."""
    return set(connection.scalars(sa.union(*(sa.select(table.c.study_instance_uid) for table in _RECEIVED))))


def jobs_with_files(connection: sa.Connection) -> set[str]:
    """Jobs that have results."""
    return set(connection.scalars(sa.select(result.c.job_id).distinct()))


def digests_of_study(connection: sa.Connection, study: str) -> dict[str, str]:
    """Path -> digest of every received file of a study."""
    rows = (sa.select(t.c.path, t.c.digest).where(t.c.study_instance_uid == study) for t in _RECEIVED)
    return {row.path: row.digest for row in connection.execute(sa.union_all(*rows))}


def digests_of_job(connection: sa.Connection, job_id: str) -> dict[str, str]:
    """Path -> digest of every result of a job."""
    query = sa.select(result.c.path, result.c.digest).where(result.c.job_id == job_id)
    return {row.path: row.digest for row in connection.execute(query)}


def all_paths(connection: sa.Connection) -> list[str]:
    """Paths of the images of all series; without those of conflicts."""
    return list(connection.scalars(sa.select(instance.c.path)))


def known_paths(connection: sa.Connection, study_instance_uid: str) -> set[str]:
    """Paths of all files of a study that have a row."""
    paths = [sa.select(table.c.path).where(table.c.study_instance_uid == study_instance_uid) for table in _RECEIVED]
    return set(connection.scalars(sa.union_all(*paths)))
