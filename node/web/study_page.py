"""The page of a study: progress, decisions and results, with pictures."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from starlette.responses import Response

from node.errors import InputError, InternalError, PlatformError
from node.ledger.clicked_verdicts import current_verdicts
from node.ledger.jobs import REJECTION, get_job, source_paths
from node.ledger.progress import OPEN
from node.ledger.results import Result, results_of_job
from node.ledger.states import ACTIVE, PRIORITIES, DecisionOutcome, priority_word
from node.log import about, study_lines
from node.operate.characteristics import characteristic_lines
from node.operate.explain import describe_deferrals, explain
from node.operate.stage_text import stage_text, wait_text
from node.outcome import ANALYSED
from node.studies.attributes import SEGMENTATIONS, STRUCTURED_REPORTS
from node.web.actions import RETRACTION_REASONS
from node.web.app_context import AppContext
from node.web.auth import UserRequest
from node.web.evidence import bundle
from node.web.study_view import JobFiles, slice_picture, view_of
from node.web.verdict_clicks import can_be_judged

logger = logging.getLogger(__name__)

_LINES = 200
"""Of the log, the newest."""
_NO_PICTURE = tuple(f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("66", "88.", "11", "104", "7", "30"))
"""Beginnings of SOP classes that are no images: masks, reports, presentation states, documents, captures, maps."""
_INSTEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 720" width="720" height="720"><rect width="720" '
    'height="720"/><text x="360" y="360" fill="#fff" font-family="sans-serif" font-size="28" text-anchor="middle">'
    "This image cannot be shown.</text></svg>"
)
"""The picture of an image that cannot be read, or not within the bounds."""


def study(context: AppContext, user_request: UserRequest) -> Response:
    """The page; ``part=1&results=N`` for the changing part alone, and for the whole when results have come since."""
    uid, query = user_request.request.path_params["uid"], user_request.request.query_params
    explanation = explain(context.engine, uid)
    jobs = [job for series in explanation["series"] for job in series["jobs"]]
    result_count = sum(len(job["results"]) for job in jobs)
    active = any(series["progress"] in OPEN for series in explanation["series"])
    with context.engine.connect() as connection:
        label = context.label(connection, uid)
    values = {
        "uid": uid,
        "viewer": context.config.web.viewer_url.replace("{study}", quote(uid, safe="")),
        "lines": study_lines(context.spool.logs, uid, _LINES),
        "found": explanation,
        "waits_for": describe_deferrals,
        "characteristic_lines": characteristic_lines,
        "stage_text": stage_text,
        "wait_text": wait_text,
        "jobs": jobs,
        "label": label,
        "active": active,
        "working": ACTIVE,
        "priority_word": priority_word,
        "priorities": tuple(PRIORITIES),
        "retraction_reasons": RETRACTION_REASONS,
        "rejection": REJECTION,
        "ignored": DecisionOutcome.IGNORED,
        "made": result_count,
        "pipelines": sorted(context.config.pipelines),
        "destinations": sorted(context.config.destinations),
    }
    if "part" in query:
        response = context.page("_study.html", user_request, **values)
        if query.get("results") != str(result_count):
            response.headers["HX-Refresh"] = "true"
        return response
    views, names = {}, {}
    purged = {series["series_instance_uid"] for series in explanation["series"] if series["purged_images"]}
    languages = context.config.languages(context.config.destinations)
    for job in jobs:
        if job["outcome"] in ANALYSED and job["series_instance_uid"] not in purged and not job["results_purged_at"]:
            try:
                files, names[job["id"]] = _files(context, job["id"])
                views[job["id"]] = context.reader.call(f"job {job['id']}", view_of, files, languages)
            except (InputError, PlatformError, InternalError) as error:
                with about(uid, job=job["id"]):
                    logger.warning("job %s: no picture: %s", job["id"], error)
                job["picture_error"] = error.for_radiologist
    with context.engine.connect() as connection:
        given = current_verdicts(connection, list(views))
        judged = {job["id"] for job in jobs if can_be_judged(job["outcome"], results_of_job(connection, job["id"]))}
        shows_similar = {name for name, table in context.config.pipelines.items() if table.similar_findings}
        similar = {
            job["id"]: similar_findings
            for job in jobs
            if job["id"] in views
            and job["pipeline"] in shows_similar
            and (similar_findings := context.similar.of_job(connection, job["id"])) is not None
        }
    of_results = {"views": views, "derived": names, "given": given, "judged": judged, "similar": similar}
    return context.page("study.html", user_request, **of_results, **values)


def picture(context: AppContext, user_request: UserRequest) -> Response:
    """One slice of the series that a job analysed, or of what it derived (``derived=1``)."""
    query, parameters = user_request.request.query_params, user_request.request.path_params
    job_id = parameters["job"]
    try:
        data = context.reader.call(
            f"job {job_id}",
            slice_picture,
            _files(context, job_id)[0],
            parameters["index"],
            query.get("window", ""),
            outlined=query.get("outlines") == "1",
            derived="derived" in query,
        )
    except (InputError, PlatformError, InternalError) as error:
        logger.warning("job %s: no picture: %s", job_id, error)
        return Response(_INSTEAD, media_type="image/svg+xml")
    return Response(data, media_type="image/jpeg")


def evidence(context: AppContext, user_request: UserRequest) -> Response:
    """Return the evidence bundle as a file to download."""
    uid = user_request.request.path_params["uid"]
    data = bundle(context.engine, context.spool, context.reader, uid)
    return Response(
        data,
        media_type="application/zip",
        headers={"content-disposition": f'attachment; filename="evidence-{uid}.zip"'},
    )


def _files(context: AppContext, job_id: str) -> tuple[JobFiles, str]:
    """Return the files of a job, and the description of the derived series."""
    with context.engine.connect() as connection:
        source = source_paths(connection, get_job(connection, job_id))
        results = results_of_job(connection, job_id)
    images = [result for result in results if not result.sop_class_uid.startswith(_NO_PICTURE)]
    first = images[0] if images else None
    files = JobFiles(
        source=context.spool.all_readable(source),
        segmentations=_paths(context, (result for result in results if result.sop_class_uid in SEGMENTATIONS)),
        derived=_paths(
            context, (result for result in images if first and result.series_instance_uid == first.series_instance_uid)
        ),
        reports=_paths(context, (result for result in results if result.sop_class_uid.startswith(STRUCTURED_REPORTS))),
    )
    return files, first.description if first else ""


def _paths(context: AppContext, results: Iterable[Result]) -> tuple[Path, ...]:
    return context.spool.all_readable(result.path for result in results)
