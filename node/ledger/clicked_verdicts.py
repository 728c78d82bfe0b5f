"""Verdicts that readers click on the dashboard, and those that count for a study."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from node.ledger.clock import ledger_clock
from node.ledger.events import EventKind, record_event
from node.ledger.reader_hash import reader_hash
from node.ledger.tables import verdict
from node.ledger.verdict import LesionVerdict, SourceKind, Verdict
from node.ledger.verdict_recording import counted

WHOLE = ""
"""The lesion of a verdict on the whole analysis."""


@dataclass(frozen=True, kw_only=True)
class CurrentVerdict:
    """A verdict that counts."""

    job_id: str
    lesion: str
    kind: str
    verdict: str
    given_at: float
    dice: float | None


def record_click(connection: sa.Connection, of: LesionVerdict, user: str) -> None:
    """Record a click in place of what was said of the lesion before; the last click of a reader counts.

    A lesion that was missed contradicts that nothing was.
    """
    at, key = ledger_clock(connection), _key(connection, of.job_id, of.lesion, user)
    _withdraw(connection, key)
    same = [of.lesion, *((WHOLE,) if of.verdict == Verdict.ADDED else ())]
    connection.execute(
        sa.update(verdict)
        .where(verdict.c.job_id == of.job_id, verdict.c.lesion.in_(same), verdict.c.superseded_at.is_(None))
        .values(superseded_at=at)
    )
    values = {"kind": SourceKind.CLICK, "verdict": of.verdict, "reader": key["source"].split()[1], "given_at": at}
    connection.execute(sa.insert(verdict).values(**key, **values))
    record_event(connection, of.job_id, EventKind.VERDICTS, source=SourceKind.CLICK, verdicts=counted([of]))


def withdraw_click(connection: sa.Connection, job_id: str, lesion: str, user: str) -> bool:
    """Take back a click of this reader, so that what it took the place of counts again; whether there was one."""
    if not _withdraw(connection, _key(connection, job_id, lesion, user)):
        return False
    record_event(connection, job_id, EventKind.VERDICTS, source=SourceKind.CLICK, verdicts={"withdrawn": 1})
    return True


def _withdraw(connection: sa.Connection, key: Mapping[str, str]) -> bool:
    this = [verdict.c[name] == value for name, value in key.items()]
    given = connection.execute(sa.select(verdict.c.given_at, verdict.c.superseded_at).where(*this)).one_or_none()
    if given is None:
        return False
    connection.execute(sa.delete(verdict).where(*this))
    replaced = verdict.c.job_id == key["job_id"], verdict.c.superseded_at == given.given_at
    connection.execute(sa.update(verdict).where(*replaced).values(superseded_at=given.superseded_at))
    return given.superseded_at is None


def _key(connection: sa.Connection, job_id: str, lesion: str, user: str) -> dict[str, str]:
    return {"source": f"click {reader_hash(connection, user)}", "job_id": job_id, "lesion": lesion}


def current_verdicts(connection: sa.Connection, jobs: Collection[str]) -> dict[str, dict[str, CurrentVerdict]]:
    """The verdicts that count, by job and lesion."""
    columns = (verdict.c[name] for name in CurrentVerdict.__dataclass_fields__)
    query = sa.select(*columns).where(verdict.c.job_id.in_(jobs), verdict.c.superseded_at.is_(None))
    verdicts: dict[str, dict[str, CurrentVerdict]] = {}
    for row in connection.execute(query.order_by(verdict.c.lesion)).mappings():
        current = CurrentVerdict(**row)
        verdicts.setdefault(current.job_id, {})[current.lesion] = current
    return verdicts
