"""What a decision record says of one study: everything that was received, decided, analysed, sent and judged.

It names no person: senders are AE titles and addresses, readers are keyed hashes.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from node.ledger.tables import (
    association,
    decision,
    delivery,
    delivery_instance,
    instance,
    job,
    job_fact,
    result,
    series,
    verdict,
)

Values = dict[str, Any]
_FACTS = ("version", "weights", "configuration", "device", "run_seconds", "scanner")


def study_state(connection: sa.Connection, study: str) -> Values:
    """Return the state of a study as JSON values; times are seconds since 1970 UTC, to 0.001 s.

    ``series``: each with ``images`` and ``digest``, SHA-256 of its lines ``SOPInstanceUID BLAKE3`` in their order, and
    with the decisions on its generations. ``jobs``: each with its analysis, its objects, the deliveries and the
    verdicts that count. What is not known is left out.
    """
    received = _series(connection, study)
    places = {series["uid"]: place for place, series in enumerate(received)}
    return {"study": study, "series": received, "jobs": _jobs(connection, study, places)}


def a_path(connection: sa.Connection, study: str) -> str | None:
    """Return the path of one image of a study."""
    return connection.scalar(sa.select(sa.func.min(instance.c.path)).where(instance.c.study_instance_uid == study))


def _series(connection: sa.Connection, study: str) -> list[Values]:
    of_study = instance.c.study_instance_uid == study
    images = sa.select(instance.c.series_instance_uid, instance.c.sop_instance_uid, instance.c.digest).where(of_study)
    digests: dict[str, Any] = defaultdict(hashlib.sha256)
    for uid, sop, digest in connection.execute(images.order_by(instance.c.sop_instance_uid)):
        digests[uid].update(f"{sop} {digest}\n".encode())
    sent = (
        sa.select(instance.c.series_instance_uid, association.c.calling_ae, association.c.peer_address)
        .join(association, association.c.id == instance.c.association_id)
        .where(of_study)
        .distinct()
    )
    senders = _lists(connection, sent)
    columns = decision.c["series_instance_uid", "generation", "outcome", "reason", "decided_at", "trace"]
    query = sa.select(*columns).where(decision.c.study_instance_uid == study).order_by(decision.c.generation)
    decisions: dict[str, list[Values]] = {}
    for row in connection.execute(query):
        decisions.setdefault(row.series_instance_uid, []).append(
            _known(
                generation=row.generation,
                outcome=row.outcome,
                reason=_code(row.reason),
                rules=[entry["rule"] for entry in row.trace or () if entry.get("chosen", entry["matched"])],
                at=_time(row.decided_at),
            )
        )
    rows = connection.execute(
        sa.select(series).where(series.c.study_instance_uid == study).order_by(series.c.series_instance_uid)
    )
    return [
        _known(
            uid=row.series_instance_uid,
            modality=row.modality,
            generation=row.generation,
            images=row.instances,
            purged_images=row.purged_images or None,
            digest=digests[row.series_instance_uid].hexdigest() if row.instances or not row.purged_images else None,
            first_at=_time(row.first_at),
            last_at=_time(row.last_at),
            completed_at=_time(row.completed_at),
            completed_by=row.completed_by,
            senders=sorted(map(list, senders.get(row.series_instance_uid, ()))),
            decisions=decisions.get(row.series_instance_uid),
        )
        for row in rows
    ]


def _jobs(connection: sa.Connection, study: str, places: Mapping[str, int]) -> list[Values]:
    ids = sa.select(job.c.id).where(job.c.study_instance_uid == study)
    facts = _lists(connection, sa.select(*job_fact.c[("job_id", *_FACTS)]).where(job_fact.c.job_id.in_(ids)))
    objects = _lists(
        connection,
        sa.select(*result.c["job_id", "sop_instance_uid", "kind", "digest", "quarantine"])
        .where(result.c.job_id.in_(ids))
        .order_by(result.c.created_at, result.c.sop_instance_uid),
    )
    verdicts = _lists(
        connection,
        sa.select(*verdict.c["job_id", "lesion", "verdict", "kind", "reader", "given_at"])
        .where(verdict.c.job_id.in_(ids), verdict.c.superseded_at.is_(None))
        .order_by(verdict.c.given_at, verdict.c.source, verdict.c.lesion),
    )
    sent = _deliveries(connection, ids)
    query = sa.select(job).where(job.c.study_instance_uid == study).order_by(job.c.created_at, job.c.id)
    return [
        _known(
            pipeline=row.pipeline,
            rule=row.rule,
            series=places.get(row.series_instance_uid),
            generation=row.generation,
            state=row.state,
            outcome=row.outcome,
            reason=_code(row.reason),
            shadow=row.shadow,
            runs=row.run or None,
            created_at=_time(row.created_at),
            ended_at=_time(row.updated_at),
            results_purged_at=_time(row.results_purged_at),
            analysis=_known(**dict(zip(_FACTS, facts[row.id][0], strict=True))) if row.id in facts else None,
            objects=[
                _known(uid=uid, kind=kind, digest=digest, quarantined=True if quarantine else None)
                for uid, kind, digest, quarantine in objects.get(row.id, ())
            ],
            deliveries=sent.get(row.id),
            verdicts=[
                _known(lesion=lesion, verdict=what, by=kind, reader=reader, at=_time(at))
                for lesion, what, kind, reader, at in verdicts.get(row.id, ())
            ],
        )
        for row in connection.execute(query).all()
    ]


def _deliveries(connection: sa.Connection, ids: sa.Select[tuple[str]]) -> dict[str, list[Values]]:
    """Of each job: destination, state, and of its objects how many were sent and confirmed, and when the last."""
    of = delivery_instance
    query = (
        sa.select(
            delivery.c.job_id,
            delivery.c.destination,
            delivery.c.state,
            sa.func.count(of.c.sent_at),
            sa.func.max(of.c.sent_at),
            sa.func.count(of.c.committed_at),
            sa.func.max(of.c.committed_at),
        )
        .outerjoin(of, sa.and_(of.c.job_id == delivery.c.job_id, of.c.destination == delivery.c.destination))
        .where(delivery.c.job_id.in_(ids))
        .group_by(delivery.c.job_id, delivery.c.destination, delivery.c.state)
        .order_by(delivery.c.destination)
    )
    return {
        job_id: [
            _known(to=to, state=state, sent=sent, sent_at=_time(at), confirmed=proved or None, confirmed_at=_time(when))
            for to, state, sent, at, proved, when in rows
        ]
        for job_id, rows in _lists(connection, query).items()
    }


def _lists(connection: sa.Connection, query: sa.Select[Any]) -> dict[str, list[tuple[Any, ...]]]:
    """Rows by their first column, without it."""
    lists: dict[str, list[tuple[Any, ...]]] = {}
    for first, *rest in connection.execute(query):
        lists.setdefault(first, []).append(tuple(rest))
    return lists


def _code(reason: Any) -> str | None:
    """The code of a reason: its sentence may quote a model or a peer."""
    return str(reason.get("code")) if isinstance(reason, dict) and reason.get("code") else None


def _time(at: float | None) -> float | None:
    return None if at is None else round(at, 3)


def _known(**values: Any) -> Values:
    return {name: value for name, value in values.items() if value not in (None, "", [])}
