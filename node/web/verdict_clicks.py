"""Clicks of readers: what they say of a lesion, and of what the analysis missed."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from node.ledger.clicked_verdicts import WHOLE, record_click, withdraw_click
from node.ledger.engine import begin_immediate
from node.ledger.jobs import get_job
from node.ledger.results import Result, results_of_job
from node.ledger.verdict import LesionVerdict, Verdict
from node.outcome import ANALYSED, Outcome
from node.studies.attributes import SEGMENTATIONS, STRUCTURED_REPORTS
from node.translation import gettext
from node.web.actions import note
from node.web.app_context import AppContext
from node.web.auth import UserRequest
from node.web.report_table import findings_in

WITHDRAWN = "withdrawn"
_OF_LESIONS = (Verdict.ACCEPTED, Verdict.REJECTED)
_MOST_SLICES = 100_000


def can_be_judged(outcome: str | None, results: Sequence[Result]) -> bool:
    """Whether a job has looked for something: who only makes images reports nothing that a reader could judge."""
    only_images = any((result.kind or "").startswith("derived") for result in results) and not any(
        result.sop_class_uid in SEGMENTATIONS for result in results
    )
    return outcome in ANALYSED - {Outcome.DERIVED} and not only_images


def give_verdict(context: AppContext, user_request: UserRequest) -> Response:
    """Record a verdict on a lesion (``lesion``), on the whole analysis, or on a slice (``slice``, from 1)."""
    job_id, form, user = user_request.request.path_params["job"], user_request.form, user_request.user
    with context.engine.connect() as connection:
        job = get_job(connection, job_id)
        results = results_of_job(connection, job_id)
        reports = [result.path for result in results if result.sop_class_uid.startswith(STRUCTURED_REPORTS)]
    if not can_be_judged(job.outcome, results):
        raise HTTPException(409, gettext("This job has no result that a reader could judge."))
    verdict, lesion = form.get("verdict", ""), form.get("lesion", WHOLE)
    if verdict == Verdict.ADDED:
        lesion = f"slice {_slice(form.get('slice', ''))}"
    elif verdict in _OF_LESIONS:
        paths = context.spool.all_readable(reports)
        rows = (row for path in paths for row in context.reader.call(f"job {job_id}", findings_in, path))
        if lesion not in {row.tracking_uid for row in rows}:
            raise HTTPException(400, gettext("The report of this analysis has no such lesion."))
    elif verdict not in (WITHDRAWN, Verdict.NOTHING_MISSED) or (verdict != WITHDRAWN and lesion != WHOLE):
        raise HTTPException(400, gettext("{said!r} is no verdict.", said=verdict))
    with begin_immediate(context.engine) as connection:
        if verdict != WITHDRAWN:
            record_click(connection, LesionVerdict(job_id=job_id, lesion=lesion, verdict=Verdict(verdict)), user.name)
        elif not withdraw_click(connection, job_id, lesion, user.name):
            raise HTTPException(409, gettext("A verdict is withdrawn by the reader who clicked it, once."))
    note(context, user_request, f"gave the verdict {verdict!r} on {lesion or 'the analysis'} of job {job_id}")
    return RedirectResponse(f"/study/{job.study_instance_uid}#view-{job_id}", 303)


def _slice(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 0
    if not 0 < number <= _MOST_SLICES:
        raise HTTPException(400, gettext("Give the number of the slice on which the lesion is missing."))
    return number
