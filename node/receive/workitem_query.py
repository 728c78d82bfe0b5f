"""UPS Query, Watch and Pull SOP Classes as SCP (PS3.4 CC.2.8): C-FIND among the workitems of the latest studies."""

from __future__ import annotations

from pydicom.dataset import Dataset
from sqlalchemy import Engine

from node.config import Config
from node.ledger.study_progress import latest_studies
from node.ledger.workitem_progress import progress_of_studies
from node.receive.normalized import NormalizedAnswer, NormalizedRequest
from node.receive.status_codes import DOES_NOT_MATCH_SOP_CLASS, OUT_OF_RESOURCES, SUCCESS
from node.workitems.attributes import attributes_of
from node.workitems.job_uid import JobUids
from node.workitems.matching import OF_IMAGES, keys_with_values, matches, returned

_MOST_STUDIES, _AT_ONCE = 5000, 50
_MOST = 1000
"""Matches of one request."""


def find_workitems(config: Config, engine: Engine, uids: JobUids, request: NormalizedRequest) -> NormalizedAnswer:
    """Search workitems, those of the study with the latest image first.

    A key with a value that cannot be compared is refused: with a condition left out, others would be found.
    """
    identifier = request.dataset
    if named := next((key for key in keys_with_values(identifier) if key.startswith(OF_IMAGES)), ""):
        return NormalizedAnswer(status=DOES_NOT_MATCH_SOP_CLASS, comment=f"{named} is not searched over DIMSE"[:64])
    workitems: list[Dataset] = []
    with engine.connect() as connection:
        studies = latest_studies(connection, _MOST_STUDIES)
        if wanted := str(identifier.get("StudyInstanceUID") or ""):
            studies = wanted.split("\\")
        for start in range(0, len(studies), _AT_ONCE):
            for of in progress_of_studies(connection, studies[start : start + _AT_ONCE]):
                uid = of.requested.uid if of.requested is not None else uids.uid(of.job.id) if of.job else ""
                step = attributes_of(uid, of, config)
                if not matches(identifier, step):
                    continue
                if len(workitems) == _MOST:
                    comment = f"more than {_MOST} workitems match; ask for fewer"
                    return NormalizedAnswer(status=OUT_OF_RESOURCES, comment=comment, matches=workitems)
                workitems.append(returned(identifier, step))
    return NormalizedAnswer(status=SUCCESS, matches=workitems)
