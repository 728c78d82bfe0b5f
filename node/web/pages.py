"""Pages of the whole node."""

from __future__ import annotations

from collections import Counter
from datetime import date, datetime

import sqlalchemy as sa
from starlette.exceptions import HTTPException
from starlette.responses import Response

from node.ledger.clock import clock_of, ledger_clock
from node.ledger.conflicts import latest_conflicts
from node.ledger.counts import files_received_since, first_and_last_image, received_files, result_files
from node.ledger.results import quarantined_results
from node.ledger.study_progress import latest_studies
from node.operate.account import report
from node.operate.account.description import attention
from node.operate.account.rows import read
from node.operate.purge_plan import current_plan, describe_purge
from node.operate.retention_rules import PlannedPurge, RetentionRules
from node.operate.study_labels import Label
from node.translation import gettext, marked
from node.web.app_context import AppContext
from node.web.auth import UserRequest
from node.web.study_list import LOOKED_AT, STAGES, Study, latest, listed

SHOWN = 100
"""Studies on the first page."""
EVERYTHING = "everything"
"""In place of a day."""


def stream(context: AppContext, user_request: UserRequest) -> Response:
    """The studies, newest first; ``part=1`` for the table alone."""
    query = user_request.request.query_params
    text, stage = query.get("q", "").strip(), query.get("stage", "")
    with context.engine.connect() as connection:
        studies = _named(context, connection, text) if text else latest(connection)
        counts = Counter(study.stage for study in studies)
        chosen = [study for study in studies if not stage or study.stage == stage]
        labels = context.labels.of(connection, [study.uid for study in chosen[:SHOWN]])
        health = context.health.line(connection)
    values = {
        "studies": chosen[:SHOWN],
        "more": max(len(chosen) - SHOWN, 0),
        "labels": labels,
        "counts": counts,
        "stages": STAGES,
        "text": text,
        "stage": stage,
        "health": health,
        "looked_at": LOOKED_AT,
    }
    return context.page("_studies.html" if "part" in query else "studies.html", user_request, **values)


def _named(context: AppContext, connection: sa.Connection, text: str) -> list[Study]:
    """The studies that a search finds: by UID or job, then, where names may be shown, by patient and order."""
    by_uid = latest(connection, text)
    if not context.config.web.show_patient:
        return by_uid
    known = {study.uid for study in by_uid}
    labels = context.labels.of(connection, latest_studies(connection, LOOKED_AT))
    return by_uid + listed(connection, [uid for uid, label in labels.items() if uid not in known and label.holds(text)])


def storage(context: AppContext, user_request: UserRequest) -> Response:
    """Show disk space, retention, conflicts and quarantined results."""
    folder = context.config.storage.folder
    disk = context.spool.space()
    since = clock_of(context.engine) - 86400
    with context.engine.connect() as connection:
        received, results = received_files(connection), result_files(connection)
        last_day = files_received_since(connection, since).size
        oldest, _ = first_and_last_image(connection)
        conflicts = latest_conflicts(connection, SHOWN)
        quarantined = quarantined_results(connection)
    usable = disk.free - context.config.storage.min_free_gib * 2**30
    return context.page(
        "storage.html",
        user_request,
        disk=disk,
        folder=folder,
        received=received,
        results=results,
        last_day=last_day,
        days_left=usable / last_day if last_day else None,
        oldest=oldest,
        conflicts=conflicts,
        quarantined=quarantined,
        config=context.config,
    )


def retention(context: AppContext, user_request: UserRequest) -> Response:
    """Show what will be purged when, and what holds studies back."""
    rules = RetentionRules(context.config)
    with context.engine.connect() as connection:
        plan = current_plan(connection, rules, ledger_clock(connection))
        shown = [purge.study_instance_uid for purge in (*plan.held[:SHOWN], *plan.due[:SHOWN])]
        labels = context.labels.of(connection, shown)
    return context.page("retention.html", user_request, plan=plan, rules=rules, labels=labels, shown=SHOWN, what=_what)


def _what(purge: PlannedPurge, label: Label) -> str:
    return describe_purge(purge, label.series.get(purge.series_instance_uid, ""))


def account(context: AppContext, user_request: UserRequest) -> Response:
    """Show the account of a day, by default of today, or of everything."""
    today = datetime.fromtimestamp(clock_of(context.engine)).astimezone().date()
    chosen = user_request.request.query_params.get("day") or today.isoformat()
    try:
        day = None if chosen == EVERYTHING else date.fromisoformat(chosen)
    except ValueError:
        raise HTTPException(400, gettext("{chosen!r} is no day; write it as 2026-01-31.", chosen=chosen)) from None
    report = _account(context, day)
    sums = (
        (marked("Sent"), marked("entries"), marked("images"), report.sent),
        (marked("Received"), marked("series"), marked("images"), report.received),
        (marked("Jobs"), marked("jobs"), marked("objects"), report.jobs),
        (marked("Deliveries"), marked("deliveries"), marked("objects"), report.deliveries),
    )
    return context.page(
        "account.html", user_request, account=report, attention=attention(report), sums=sums, day=day or ""
    )


def _account(context: AppContext, day: date | None) -> report.Account:
    rows = read(context.engine, context.spool, queue_minutes=context.config.notify.queue_minutes)
    return report.account(rows, context.config.is_recipient, day)
