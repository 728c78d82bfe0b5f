"""Actions of an operator on jobs, series and images. Each is recorded with the name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from node.ledger import NoticeKind
from node.ledger.audit_events import give_notice
from node.ledger.engine import begin_immediate
from node.ledger.events import EventKind, record_event
from node.ledger.excluded_images import exclude_image, include_image
from node.ledger.held_series import refuse_held
from node.ledger.jobs import NewJob, get_job
from node.ledger.retention import refuse_purged_series
from node.ledger.series import series_of_study
from node.ledger.states import PRIORITIES
from node.translation import gettext, marked
from node.web.app_context import AppContext
from node.web.auth import UserRequest, address_of

RETRACTION_REASONS: Mapping[str, str] = MappingProxyType(
    {
        "quality": marked("poor quality"),
        "safety": marked("patient safety"),
        "worklist": marked("wrong patient or order"),
        "retention": marked("retention period over"),
    }
)
"""Why results are withdrawn: the words of ``ainode retract``, and what the page says for them."""


def retry(context: AppContext, user_request: UserRequest) -> Response:
    """Run a job again, from inference or from delivery."""
    job_id = user_request.request.path_params["job"]
    context.jobs.retry(job_id, user_request.form.get("stage") or None)
    return _recorded(context, user_request, job_id, "retried")


def cancel(context: AppContext, user_request: UserRequest) -> Response:
    """Stop a job."""
    job_id = user_request.request.path_params["job"]
    context.jobs.cancel(job_id, user_request.user.name)
    return _recorded(context, user_request, job_id, "cancelled")


def prioritize(context: AppContext, user_request: UserRequest) -> Response:
    """Change the priority of a job."""
    job_id, priority = user_request.request.path_params["job"], user_request.form.get("priority", "")
    if priority not in PRIORITIES:
        raise HTTPException(400, gettext("There is no priority {priority!r}.", priority=priority))
    context.jobs.change_priority(job_id, priority, user_request.user.name)
    return _noted(context, user_request, job_id, f"gave {priority} priority to")


def retract(context: AppContext, user_request: UserRequest) -> Response:
    """Withdraw the results of a job from the destinations that have them."""
    from node.inference.retraction import retract as withdraw  # slow to import

    job_id, reason = user_request.request.path_params["job"], user_request.form.get("reason", "")
    if reason not in RETRACTION_REASONS:
        raise HTTPException(400, gettext("Results are only retracted with a reason."))
    withdraw(context.jobs, context.engine, context.spool, job_id, reason)
    return _recorded(context, user_request, job_id, "retracted")


def run(context: AppContext, user_request: UserRequest) -> Response:
    """Run a pipeline on a series regardless of the rules."""
    uid, form = user_request.request.path_params["uid"], user_request.form
    pipeline, destination = form.get("pipeline", ""), form.get("destination", "")
    if pipeline not in context.config.pipelines:
        raise HTTPException(400, gettext("There is no pipeline {pipeline!r}.", pipeline=pipeline))
    if destination and destination not in context.config.destinations:
        raise HTTPException(400, gettext("There is no destination {destination!r}.", destination=destination))
    with begin_immediate(context.engine) as connection:
        of_study = series_of_study(connection, uid)
        series = next((series for series in of_study if series.series_instance_uid == form.get("series", "")), None)
        if series is None or series.generation < 1:
            raise HTTPException(409, gettext("The series is not complete yet."))
        refuse_held(connection, uid, series.series_instance_uid)
        refuse_purged_series(connection, uid, [series.series_instance_uid])
        new = NewJob(
            study_instance_uid=uid,
            series_instance_uid=series.series_instance_uid,
            generation=series.generation,
            pipeline=pipeline,
            rule=f"by hand, {user_request.user.name}",
            destinations=(destination,) if destination else (),
            priority=1,
            after=context.config.after(pipeline),
        )
        for needed in context.config.before(pipeline):
            before = replace(new, pipeline=needed, destinations=(), after=context.config.after(needed))
            context.jobs.enqueue(connection, before)
        if not context.jobs.enqueue(connection, new):
            raise HTTPException(
                409,
                gettext(
                    "Pipeline {pipeline!r} has run on this series already; retry its job {job}.",
                    pipeline=pipeline,
                    job=new.id,
                ),
            )
    note(context, user_request, f"ran pipeline {pipeline} on series {new.series_instance_uid}")
    return RedirectResponse(f"/study/{uid}", 303)


def exclude(context: AppContext, user_request: UserRequest) -> Response:
    """Take an image out of its held series."""
    form = user_request.form
    if not form.get("reason", "").strip():
        raise HTTPException(400, gettext("An image is only excluded with a reason."))
    who = {"who": user_request.user.name, "address": address_of(user_request.request)}
    with begin_immediate(context.engine) as connection:
        study = exclude_image(connection, form.get("image", ""), why=form["reason"].strip(), **who)
    return RedirectResponse(f"/study/{study}", 303)


def include(context: AppContext, user_request: UserRequest) -> Response:
    """Put an excluded image back into its series."""
    who = {"who": user_request.user.name, "address": address_of(user_request.request)}
    with begin_immediate(context.engine) as connection:
        study = include_image(connection, user_request.form.get("image", ""), **who)
    return RedirectResponse(f"/study/{study}", 303)


def _recorded(context: AppContext, user_request: UserRequest, job_id: str, what: str) -> Response:
    with begin_immediate(context.engine) as connection:
        record_event(connection, job_id, EventKind.OPERATOR_ACTED, operator=user_request.user.name, action=what)
    return _noted(context, user_request, job_id, what)


def _noted(context: AppContext, user_request: UserRequest, job_id: str, what: str) -> Response:
    with context.engine.connect() as connection:
        uid = get_job(connection, job_id).study_instance_uid
    note(context, user_request, f"{what} job {job_id}")
    return RedirectResponse(f"/study/{uid}", 303)


def note(context: AppContext, user_request: UserRequest, what: str) -> None:
    """For the audit trail."""
    address = address_of(user_request.request)
    give_notice(context.engine, NoticeKind.ACT, who=user_request.user.name, address=address, detail=what)
