"""UPS-RS (PS3.18 11): the analyses of this node as workitems that others watch, and requests for more.

The node performs its workitems itself: nobody else may claim, update or end one.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from node.config import Config
from node.dicomweb.addresses import Addresses
from node.dicomweb.authorization import Client
from node.dicomweb.object_reader import ObjectReader
from node.dicomweb.workitem_json import WorkitemJson
from node.errors import InputError, NodeError
from node.jobs.engine import Jobs
from node.ledger import NoticeKind
from node.ledger.audit_events import give_notice
from node.ledger.engine import begin_immediate
from node.ledger.held_objects import HeldObject
from node.ledger.workitem_progress import WorkitemProgress
from node.ledger.workitem_subscriptions import ask_subscribers_to_cancel
from node.ledger.workitems import end_workitem
from node.reasons import ReasonCode, reason
from node.workitems.job_uid import JobUids
from node.workitems.known_workitem import known_workitem, workitem_key
from node.workitems.request import analysis_request, is_uid, is_well_known
from node.workitems.requested_analysis import check_request, keep_request
from node.workitems.state import FINAL, StepState, progress_of
from node.workitems.step_json import LARGEST, Values, read_step, text_of
from node.workitems.subscribers import wants

logger = logging.getLogger(__name__)

_JSON = ("application/dicom+json", "application/json")
_OURS = "This node performs its workitems itself; they are neither claimed nor changed by others."
_ALREADY = "The UPS is already in the requested state of {state}."
_INCONSISTENT = "The submitted request is inconsistent with the current state of the Workitem."


class WorkitemService:
    """Answers requests about workitems but searches."""

    def __init__(self, config: Config, engine: sa.Engine, reader: ObjectReader, json: WorkitemJson) -> None:
        self._config = config
        self._engine = engine
        self._reader = reader
        self._json = json
        self._uids = JobUids(engine)
        self._jobs = Jobs(engine)

    async def retrieve(self, request: Request, _client: Client) -> Response:
        """Return a workitem with its inputs, its progress and its outputs."""
        return await run_in_threadpool(self._retrieve, request)

    async def create(self, request: Request, client: Client) -> Response:
        """Take a request for an analysis; it is durable when it is answered with 201."""
        return await run_in_threadpool(self._create, request, client, await _step(request))

    async def request_cancellation(self, request: Request, client: Client) -> Response:
        """Cancel an analysis."""
        return await run_in_threadpool(self._cancel, request, client, await _step(request))

    async def update(self, request: Request, _client: Client) -> Response:
        """Refuse to change a workitem."""
        await _step(request)
        uid = request.path_params["workitem"]
        await run_in_threadpool(self._progress, uid)
        return _refused(request, 409, _INCONSISTENT)

    async def change_state(self, request: Request, _client: Client) -> Response:
        """Refuse to claim or to end a workitem."""
        step = await _step(request)
        state = (await run_in_threadpool(self._progress, request.path_params["workitem"]))[1]
        if not text_of(step, "TransactionUID"):
            return _refused(request, 400, "The Transaction UID is missing.")
        if state in FINAL and text_of(step, "ProcedureStepState") == state:
            return _refused(request, 409, _ALREADY.format(state=state))
        return _refused(request, 409, "The submitted request is inconsistent with the state of the UPS Instance.")

    def _retrieve(self, request: Request) -> Response:
        uid = request.path_params["workitem"]
        of, _ = self._progress(uid)
        values = self._json.whole(uid, of, Addresses.of(request, self._config.dicomweb.link_base))
        return self._json.response(values)

    def _create(self, request: Request, client: Client, step: Values) -> Response:
        uid = _uid_of(request, step)
        try:
            wanted = analysis_request(step, self._config.procedures)
            pipeline = self._config.procedures[wanted.procedure].pipeline
            check_request(self._engine, wanted, pipeline, self._patient_of)
        except NodeError as error:
            raise HTTPException(400, f"{error}.") from error
        new = wanted.workitem(uid, client.name)
        detail = keep_request(self._engine, self._uids, new, pipeline, who=client.name, address=_address(request))
        if not detail:
            return _refused(request, 409, f"The Workitem {uid} already exists.", "Its UID is taken.")
        logger.info("DICOMweb: %s %s", client.name, detail)
        address = f"{Addresses.of(request, self._config.dicomweb.link_base).base}/workitems/{uid}"
        return Response(status_code=201, headers={"location": address, "content-location": address})

    def _patient_of(self, image: HeldObject) -> str:
        return text_of(self._reader.chosen([image], ("PatientID",))[0], "PatientID")

    def _cancel(self, request: Request, client: Client, step: Values) -> Response:
        uid = request.path_params["workitem"]
        of, state = self._progress(uid)
        if state in FINAL:
            text = _ALREADY.format(state=state) if state == StepState.CANCELED else _INCONSISTENT
            return _refused(request, 409, text, f"It is {state}.")
        with begin_immediate(self._engine) as connection:
            why = text_of(step, "ReasonForCancellation")
            is_wanted = wants(uid, of, self._config)
            ask_subscribers_to_cancel(connection, workitem_key(uid, of), client.name, why, is_wanted)
        if of.job is None:
            with begin_immediate(self._engine) as connection:
                is_ended = end_workitem(connection, uid, reason(ReasonCode.CANCELLED, operator=client.name))
            of = of if is_ended else self._progress(uid)[0]
        if of.job is not None:
            try:
                self._jobs.cancel(of.job.id, client.name)
            except NodeError as error:  # it has ended meanwhile
                return _refused(request, 409, _INCONSISTENT, f"{error}.")
        detail = f"cancelled workitem {uid} of study {of.study_instance_uid}"
        give_notice(self._engine, NoticeKind.ACT, who=client.name, address=_address(request), detail=detail)
        logger.info("DICOMweb: %s %s", client.name, detail)
        return Response(status_code=202)

    def _progress(self, uid: str) -> tuple[WorkitemProgress, StepState]:
        """Raises ``HTTPException`` when there is no such workitem."""
        of = known_workitem(self._engine, self._uids, uid)
        if of is None:
            raise HTTPException(404, "This node has no such workitem.")
        return of, progress_of(of).state


async def _step(request: Request) -> Values:
    """The data set of a request. Raises ``HTTPException``."""
    content_type = request.headers.get("content-type", _JSON[0]).partition(";")[0].strip().lower()
    if content_type not in _JSON or request.headers.get("content-encoding", "identity").lower() != "identity":
        raise HTTPException(415, "Data sets are taken as application/dicom+json.")
    content = b""
    async for piece in request.stream():
        content += piece
        if len(content) > LARGEST:
            raise HTTPException(413, f"The data set has more than {LARGEST >> 20} MiB.")
    try:
        return read_step(content)
    except InputError as error:
        raise HTTPException(400, f"{error}.") from error


def _uid_of(request: Request, step: Values) -> str:
    """The UID of a workitem that is created: of the address, else of the data set, else a new one."""
    of_address = request.query_params.get("workitem", "") or request.url.query
    of_step = text_of(step, "SOPInstanceUID")
    for uid in filter(None, (of_address, of_step)):
        if not is_uid(uid):
            raise HTTPException(400, "The UID of the workitem is no UID.")
        if is_well_known(uid):
            raise HTTPException(400, "The UID of the workitem is one that DICOM defines.")
    if of_address and of_step and of_address != of_step:
        raise HTTPException(400, "The address and SOP Instance UID name different workitems.")
    return of_address or of_step or JobUids.new()


def _refused(request: Request, status: int, warning: str, text: str = _OURS) -> Response:
    service = str(request.base_url).rstrip("/")
    headers: Mapping[str, Any] = {"warning": f"299 {service}: {warning}"}
    return Response(f"{warning} {text}\n", status, headers, media_type="text/plain")


def _address(request: Request) -> str:
    return request.client.host if request.client else ""
