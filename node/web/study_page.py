"""The page of a study: progress, decisions and results, with pictures."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from starlette.exceptions import HTTPException
from starlette.responses import Response

from node.errors import InputError
from node.ledger.jobs import Job, get_job, source_paths
from node.ledger.progress import OPEN
from node.ledger.results import Result, results_of_job
from node.log import about, study_lines
from node.operate.explain import describe_deferrals, explain
from node.results.analysis import ANALYSED
from node.results.finding import image_name
from node.results.prior.report import SEGMENTATIONS
from node.web import slices
from node.web.app_context import AppContext
from node.web.auth import UserRequest
from node.web.evidence import bundle
from node.web.report_table import Row, comments_in, findings_in

logger = logging.getLogger(__name__)

_SR = "1.2.840.10008.5.1.4.1.1.88."
_LINES = 200
"""Of the log, the newest."""
_NO_PICTURE = tuple(f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("66", "88.", "11", "104", "7", "30"))
"""Beginnings of SOP classes that are no images: masks, reports, presentation states, documents, captures, maps."""


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key slice."""

    label: str
    index: int
    image: str
    """As the report calls it, for example ``"image 57"``."""
    colour: str


@dataclass(frozen=True, kw_only=True)
class View:
    """What the viewer of one job shows."""

    job_id: str
    count: int
    start: int
    keys: tuple[Key, ...]
    derived: str
    """Description of the derived series to compare with; empty when there is none."""
    windows: tuple[str, ...]
    rows: tuple[Row, ...]
    columns: tuple[str, ...]
    """Names of the measurements, in the order of the report."""
    remarks: tuple[str, ...] = ()

    def key_of(self, row: Row) -> Key | None:
        """The slice of a finding."""
        return next((key for key in self.keys if key.label == row.label), None)


def study(context: AppContext, user_request: UserRequest) -> Response:
    """The page; ``part=1&results=N`` for the changing part alone, and for the whole when results have come since."""
    uid, query = user_request.request.path_params["uid"], user_request.request.query_params
    explanation = explain(context.engine, uid)
    jobs = [job for one in explanation["series"] for job in one["jobs"]]
    result_count = sum(len(job["results"]) for job in jobs)
    active = any(one["progress"] in OPEN for one in explanation["series"])
    with context.engine.connect() as connection:
        label = context.label(connection, uid)
    values = {
        "uid": uid,
        "lines": study_lines(context.spool.logs, uid, _LINES),
        "found": explanation,
        "waits_for": describe_deferrals,
        "jobs": jobs,
        "label": label,
        "active": active,
        "made": result_count,
        "pipelines": sorted(context.config.pipelines),
        "destinations": sorted(context.config.destinations),
    }
    if "part" in query:
        response = context.page("_study.html", user_request, **values)
        if query.get("results") != str(result_count):
            response.headers["HX-Refresh"] = "true"
        return response
    views = {}
    for job in jobs:
        if job["outcome"] in ANALYSED:
            try:
                views[job["id"]] = _view(context, job["id"])
            except InputError as error:
                with about(uid, job=job["id"]):
                    logger.warning("job %s: no picture: %s", job["id"], error)
                job["picture_error"] = error.for_radiologist
    return context.page("study.html", user_request, views=views, **values)


def picture(context: AppContext, user_request: UserRequest) -> Response:
    """One slice of the series that a job analysed, or of what it derived (``derived=1``)."""
    query = user_request.request.query_params
    shown, segments, derived = _opened(context, user_request.request.path_params["job"])
    base = derived if "derived" in query and derived else shown
    index = user_request.request.path_params["index"]
    if index >= len(base.places):
        raise HTTPException(404, f"The series has {len(base.places)} images.")
    window = slices.window_of(shown, query.get("window", ""), segments[0] if segments else None)
    overlays = segments if query.get("outlines") == "1" else ()
    return Response(slices.picture(base, index, window, overlays), media_type="image/jpeg")


def evidence(context: AppContext, user_request: UserRequest) -> Response:
    """Return the evidence bundle as a file to download."""
    uid = user_request.request.path_params["uid"]
    data = bundle(context.engine, context.spool, uid)
    return Response(
        data,
        media_type="application/zip",
        headers={"content-disposition": f'attachment; filename="evidence-{uid}.zip"'},
    )


def _opened(context: AppContext, job_id: str) -> tuple[slices.Shown, tuple[slices.Segments, ...], slices.Shown | None]:
    with context.engine.connect() as connection:
        job = get_job(connection, job_id)
        shown = slices.open_series(_source(context, connection, job))
        results = results_of_job(connection, job_id)
    segments = tuple(
        slices.open_segments(context.spool.absolute(one.path)) for one in results if one.sop_class_uid in SEGMENTATIONS
    )
    files = _derived(context, results)
    return shown, segments, slices.open_series(files) if len(files) == len(shown.places) else None


def _source(context: AppContext, connection: sa.Connection, job: Job) -> tuple[Path, ...]:
    return tuple(context.spool.absolute(path) for path in source_paths(connection, job))


def _derived(context: AppContext, results: Sequence[Result]) -> tuple[Path, ...]:
    """Files of the first derived series of a job."""
    images = [one for one in results if not one.sop_class_uid.startswith(_NO_PICTURE)]
    first = next((image.series_instance_uid for image in images), None)
    return tuple(context.spool.absolute(image.path) for image in images if image.series_instance_uid == first)


def _view(context: AppContext, job_id: str) -> View:
    shown, segments, derived = _opened(context, job_id)
    places = {place: index for index, place in enumerate(shown.places)}
    keys = tuple(_keys(segments, places, shown))
    with context.engine.connect() as connection:
        results = results_of_job(connection, job_id)
    reports = [context.spool.absolute(one.path) for one in results if one.sop_class_uid.startswith(_SR)]
    table = tuple(row for report in reports for row in findings_in(report))
    columns = tuple(dict.fromkeys(name for row in table for name in row.measurements))
    names = [one.description for one in results if not one.sop_class_uid.startswith(_NO_PICTURE)]
    return View(
        job_id=job_id,
        count=len(shown.places),
        start=keys[0].index if keys else len(shown.places) // 2,
        keys=keys,
        derived=names[0] if derived else "",
        windows=tuple(slices.WINDOWS) if shown.modality == "CT" else (),
        rows=table,
        columns=columns,
        remarks=comments_in(reports[0]) if reports else (),
    )


def _keys(
    segments: tuple[slices.Segments, ...], places: Mapping[tuple[str, int], int], shown: slices.Shown
) -> list[Key]:
    keys = []
    for seg in segments:
        for number, label in seg.labels.items():
            place = seg.largest(number)
            if place is not None and place in places:
                colour = "#{:02x}{:02x}{:02x}".format(*seg.colours[number])
                image = image_name(shown.series, places[place]).lower()
                keys.append(Key(label=label, index=places[place], image=image, colour=colour))
    return keys
