"""Basic Study Content Notification as SCP (retired; PS3.3 2004 B.18): a sender names the images of a study.

It is a C-STORE whose data set is a list. Completeness takes the list like that of an availability notification; nothing
is stored as an image. The list is durable before the C-STORE is answered.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from pydicom.dataset import Dataset
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from node.errors import InputError
from node.ledger import ProcedureStepState
from node.ledger.engine import begin_immediate
from node.ledger.procedure_steps import NewStep, create_step, instances_of_step
from node.receive.messages import StoreRequest
from node.receive.normalized import LONGEST_DATA_SET, decoded, turn
from node.receive.policy import STUDY_CONTENT_NOTIFICATION
from node.receive.referenced_instances import referenced_instances
from node.receive.request_checks import check_request
from node.receive.status_codes import (
    CANNOT_UNDERSTAND,
    DOES_NOT_MATCH_SOP_CLASS,
    INSTANCE_MISMATCH,
    OUT_OF_RESOURCES,
    Refusal,
)
from node.spool import is_uid

LOGGER = logging.getLogger(__name__)

_LISTS = ("ReferencedImageSequence", "ReferencedSOPSequence")
"""Referenced Image Sequence (0008,1140) by PS3.3 2004; some senders use the sequence of other notifications."""


class ContentNotification:
    """One notification that is being received; it is kept in memory and never in a file."""

    def __init__(self, engine: Engine, request: StoreRequest) -> None:
        self._engine = engine
        self._request = request
        self._encoded = bytearray()
        self._refusal = check_request(request)

    def write(self, parts: Sequence[bytes | memoryview]) -> None:
        """Append parts of the data set; after a refusal none is kept."""
        if self._refusal is not None:
            return
        for part in parts:
            self._encoded += part
        if len(self._encoded) > LONGEST_DATA_SET:
            self._refusal = Refusal(CANNOT_UNDERSTAND, f"larger than {LONGEST_DATA_SET >> 20} MiB")
            self._encoded.clear()

    def finish(self) -> Refusal | None:
        """Record the list; ``None`` when it is durable, also when it was before."""
        if self._refusal is not None:
            return self._refusal
        syntax = self._request.transfer_syntax_uid
        try:
            with turn(self._encoded, syntax):
                return self._record(decoded(self._encoded, syntax))
        except InputError as error:
            return Refusal(CANNOT_UNDERSTAND, str(error))
        except SQLAlchemyError as error:
            LOGGER.error("a notification was not recorded: %s", type(error).__name__)  # noqa: TRY400 - no values
            return Refusal(OUT_OF_RESOURCES, "ledger cannot be written; send again later")

    def discard(self) -> None:
        """Discard what has come."""
        self._encoded.clear()

    def beginning(self) -> bytes:
        """Return nothing: a notification that is not taken is no image that is missing."""
        return b""

    def _record(self, content: Dataset) -> Refusal | None:
        caller, uid = self._request.association, self._request.sop_instance_uid
        if content.get("SOPClassUID", STUDY_CONTENT_NOTIFICATION) != STUDY_CONTENT_NOTIFICATION:
            return Refusal(DOES_NOT_MATCH_SOP_CLASS, "SOPClassUID of the data set differs from the request")
        if content.get("SOPInstanceUID", uid) != uid:
            return Refusal(INSTANCE_MISMATCH, "SOPInstanceUID of the data set differs from the request")
        study, named = str(content.get("StudyInstanceUID") or ""), referenced_instances(content, _LISTS)
        if not is_uid(study) or not named:
            return Refusal(CANNOT_UNDERSTAND, "StudyInstanceUID or images in ReferencedSeriesSequence missing")
        notification = NewStep(
            sop_instance_uid=uid,
            study_instance_uid=study,
            modality="",
            calling_ae=caller.calling_ae,
            equipment=caller.admission.equipment,
            made=named,
        )
        with begin_immediate(self._engine) as connection:
            created = create_step(connection, notification, ProcedureStepState.CONTENT)
            is_same = created == "exists" and instances_of_step(connection, uid) == named
        if created == "too many":
            LOGGER.warning("%s at %s has too many notifications, or images in them", *_who(self._request))
            return Refusal(OUT_OF_RESOURCES, "too many notifications of this device, or images in them")
        if created == "exists" and not is_same:
            return Refusal(CANNOT_UNDERSTAND, "another notification has this SOP Instance UID")
        return None


def _who(request: StoreRequest) -> tuple[str, str]:
    return request.association.calling_ae, request.association.peer_address
