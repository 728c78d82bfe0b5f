"""Acceptance: reports of tests of a version on this site's studies, and which of them allow it to send results."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from node.errors import NodeError, NotFoundError
from node.ledger.clock import ledger_clock
from node.ledger.states import ShadowCause
from node.ledger.tables import acceptance, job_fact

_ID_LENGTH = 12


@dataclass(frozen=True, kw_only=True)
class PipelineVersion:
    """What decides on the results of a pipeline: another version, other weights or options are another one."""

    version: str
    """Of the algorithm."""
    weights: str | None
    """SHA-256; ``None``: it has none."""
    options: str
    """Digest of factory and options."""


@dataclass(frozen=True, kw_only=True)
class Acceptance:
    """A test of one version of a pipeline; its report is read with ``acceptance_report``."""

    id: str
    pipeline: str
    """As it was configured."""
    version: str
    weights: str | None
    options: str
    configuration: str
    data: str
    """SHA-256 of the digests of the files that were tested."""
    who: str
    tested_at: float
    approved_by: str | None
    approved_at: float | None
    reason: str | None
    withdrawn_at: float | None

    @property
    def is_approved(self) -> bool:
        """Whether it allows its version to send results."""
        return self.approved_at is not None and self.withdrawn_at is None


_COLUMNS = [acceptance.c[name] for name in Acceptance.__dataclass_fields__]
_APPROVED = sa.and_(acceptance.c.approved_at.is_not(None), acceptance.c.withdrawn_at.is_(None))


def record_acceptance(
    connection: sa.Connection,
    pipeline: str,
    of: PipelineVersion,
    report: Mapping[str, Any],
    *,
    configuration: str,
    data: str,
    who: str,
) -> Acceptance:
    """Record a test that nobody has approved yet."""
    name = uuid.uuid4().hex[:_ID_LENGTH]
    values = {"version": of.version, "weights": of.weights, "options": of.options, "pipeline": pipeline}
    tested = {"configuration": configuration, "data": data, "who": who, "tested_at": ledger_clock(connection)}
    connection.execute(sa.insert(acceptance).values(id=name, **values, **tested, report=dict(report)))
    return get_acceptance(connection, name)


def acceptances(connection: sa.Connection) -> list[Acceptance]:
    """All tests, the latest first."""
    rows = connection.execute(sa.select(*_COLUMNS).order_by(acceptance.c.tested_at.desc(), acceptance.c.id)).mappings()
    return [Acceptance(**row) for row in rows]


def get_acceptance(connection: sa.Connection, name: str) -> Acceptance:
    """Return the test whose id begins like this. Raises ``NotFoundError`` unless there is exactly one."""
    query = sa.select(*_COLUMNS).where(acceptance.c.id.startswith(name, autoescape=True))
    rows = connection.execute(query.limit(2)).mappings().all() if name else []
    if len(rows) != 1:
        raise NotFoundError(
            f"{'several reports begin' if rows else 'no report begins'} with {name!r}; `ainode acceptance list` "
            "shows them"
        )
    return Acceptance(**rows[0])


def acceptance_report(connection: sa.Connection, name: str) -> dict[str, Any]:
    """Return the report of a test, as it was recorded."""
    report = get_acceptance(connection, name)
    return dict(connection.scalars(sa.select(acceptance.c.report).where(acceptance.c.id == report.id)).one())


def approve_acceptance(connection: sa.Connection, name: str, *, who: str, reason: str) -> Acceptance:
    """Let the version of a test send results from now on. Raises ``NodeError`` when it is allowed to already."""
    report = get_acceptance(connection, name)
    if report.is_approved:
        raise NodeError(f"report {report.id} was approved by {report.approved_by} already")
    values = {"approved_by": who, "approved_at": ledger_clock(connection), "reason": reason, "withdrawn_at": None}
    connection.execute(sa.update(acceptance).where(acceptance.c.id == report.id).values(**values))
    return get_acceptance(connection, report.id)


def withdraw_acceptance(connection: sa.Connection, name: str, *, reason: str) -> Acceptance:
    """Take back an approval, for analyses from now on. Raises ``NodeError`` when there is none."""
    report = get_acceptance(connection, name)
    if not report.is_approved:
        raise NodeError(f"report {report.id} is not approved")
    values = {"withdrawn_at": ledger_clock(connection), "reason": reason}
    connection.execute(sa.update(acceptance).where(acceptance.c.id == report.id).values(**values))
    return get_acceptance(connection, report.id)


def is_accepted(connection: sa.Connection, of: PipelineVersion) -> bool:
    """Whether a report allows this version to send results."""
    weights = acceptance.c.weights.is_(None) if of.weights is None else acceptance.c.weights == of.weights
    same = (acceptance.c.options == of.options, acceptance.c.version == of.version, weights, _APPROVED)
    return connection.scalar(sa.select(sa.exists().where(*same))) is True


def accepted_with(connection: sa.Connection, options: str) -> list[Acceptance]:
    """Approved reports on any version with these options, the latest first."""
    query = sa.select(*_COLUMNS).where(acceptance.c.options == options, _APPROVED)
    return [Acceptance(**row) for row in connection.execute(query.order_by(acceptance.c.approved_at.desc())).mappings()]


@dataclass(frozen=True, kw_only=True)
class UnacceptedVersion:
    """A version whose results were kept in shadow because no report allows it to send them."""

    pipeline: str
    version: str
    weights: str | None
    analyses: int
    since: float
    """When the first of them was analysed."""


def unaccepted_versions(connection: sa.Connection, since: float) -> list[UnacceptedVersion]:
    """Versions whose results were kept in shadow since then and since the last approval on their pipeline."""
    approved = sa.select(sa.func.max(acceptance.c.approved_at)).where(
        acceptance.c.pipeline == job_fact.c.pipeline, acceptance.c.withdrawn_at.is_(None)
    )
    of = (job_fact.c.pipeline, job_fact.c.version, job_fact.c.weights)
    query = (
        sa.select(*of, sa.func.count(), sa.func.min(job_fact.c.at))
        .where(job_fact.c.at >= since, job_fact.c.shadow == ShadowCause.NOT_ACCEPTED)
        .where(job_fact.c.at > sa.func.coalesce(approved.scalar_subquery(), 0.0))
        .group_by(*of)
        .order_by(*of)
    )
    return [
        UnacceptedVersion(pipeline=name, version=version or "", weights=weights, analyses=number, since=first)
        for name, version, weights, number, first in connection.execute(query)
    ]
