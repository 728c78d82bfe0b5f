"""Search for workitems (PS3.18 11.9)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from node.dicomweb.authorization import Client
from node.dicomweb.search import MOST_STUDIES
from node.dicomweb.search_keys import SearchKeys
from node.dicomweb.workitem_json import OF_PATIENT, Values, WorkitemJson
from node.errors import InputError
from node.ledger.study_progress import latest_studies
from node.ledger.workitem_progress import WorkitemProgress, progress_of_studies
from node.workitems.job_uid import JobUids
from node.workitems.state import StepState, progress_of

_AT_ONCE = 50
"""Studies that are read together."""
_CODES = ("ScheduledWorkitemCodeSequence", "ScheduledStationNameCodeSequence")
_STUDY = ("StudyInstanceUID", "InputInformationSequence.StudyInstanceUID")
_OF_IMAGES = (*OF_PATIENT, "ReferencedRequestSequence.AccessionNumber")
KEYS_OF_STEP = (
    *_STUDY,
    "InputInformationSequence.SeriesInstanceUID",
    "SOPInstanceUID",
    "ProcedureStepState",
    "ProcedureStepLabel",
    "WorklistLabel",
    "ScheduledProcedureStepPriority",
    "ScheduledProcedureStepStartDateTime",
    "ScheduledProcedureStepModificationDateTime",
    "InputReadinessState",
    *(f"{sequence}.{part}" for sequence in _CODES for part in ("CodeValue", "CodingSchemeDesignator")),
)
"""Attributes that the ledger has; those of the patient and the order are in the images."""


class WorkitemSearch:
    """Answers searches: workitems of the latest studies, those of the study with the latest image first."""

    def __init__(self, engine: sa.Engine, json: WorkitemJson) -> None:
        self._engine = engine
        self._json = json
        self._uids = JobUids(engine)

    async def search(self, request: Request, _client: Client) -> Response:
        """Search workitems."""
        return await run_in_threadpool(self._search, request)

    def _search(self, request: Request) -> Response:
        try:
            keys = SearchKeys.of(request.query_params.multi_items(), (*KEYS_OF_STEP, *_OF_IMAGES))
        except InputError as error:
            raise HTTPException(400, f"{error}.") from error
        with self._engine.connect() as connection:
            if named := next((keys.wanted[key] for key in _STUDY if key in keys.wanted), None):
                studies, is_all = list(dict.fromkeys(named)), True
            else:
                studies = latest_studies(connection, MOST_STUDIES + 1)
                is_all = len(studies) <= MOST_STUDIES
            workitems = self._matching(connection, studies[:MOST_STUDIES], keys)
            page = list(islice(workitems, keys.offset, keys.offset + keys.limit + 1))
        remarks = []
        if len(page) > keys.limit:
            remarks.append("There are more results; ask for them with offset")
        elif not is_all:
            remarks.append(f"Only workitems of the latest {MOST_STUDIES} studies were searched")
        headers = {"warning": ", ".join(f'299 ainode "{text}"' for text in remarks)} if remarks else None
        if not page:
            return Response(status_code=204, headers=headers)
        return self._json.response(page[: keys.limit], 200, headers)

    def _matching(self, connection: sa.Connection, studies: Sequence[str], keys: SearchKeys) -> Iterator[Values]:
        states = [state for state in keys.wanted.get("ProcedureStepState", ()) if state in tuple(StepState)]
        named = {key: texts for key, texts in keys.wanted.items() if key in _OF_IMAGES}
        of_images = replace(keys, wanted=named)
        others = replace(keys, wanted={key: texts for key, texts in keys.wanted.items() if key not in named})
        for start in range(0, len(studies), _AT_ONCE):
            workitems = [
                (of, values)
                for of in progress_of_studies(connection, studies[start : start + _AT_ONCE])
                if not states or progress_of(of).state in states  # most are left out before they are put together
                if others.matches(values := self._json.brief(self._uid(of), of))
            ]
            read = self._json.of_images([of for of, _ in workitems])
            for (_, values), of_image in zip(workitems, read, strict=True):
                if of_images.matches(result := {**values, **of_image}):
                    yield result

    def _uid(self, of: WorkitemProgress) -> str:
        if of.requested is not None:
            return of.requested.uid
        return "" if of.job is None else self._uids.uid(of.job.id)
