"""Codes of reasons. A reason is data: a code with parameters, which the ledger keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

Reason = Mapping[str, Any]
"""``{"code": ReasonCode, **parameters}``: JSON values only; a parameter may be a reason or a list of them."""
Text = str | Callable[[Mapping[str, Any]], str]
"""How a reason reads: a template over its parameters, or a function of them; reasons in them are texts already."""


class ReasonCode(StrEnum):
    """What a reason is about. Values are stored: a code may be added, but none is renamed."""

    # completeness of a series
    LISTED = "listed"
    STATED_COUNT = "stated count"
    QUIET_PERIOD = "quiet period"
    LAST_IMAGE = "last image"
    OPEN_ASSOCIATIONS = "open associations"
    PROCEDURE_STEP = "procedure step"
    COMMITMENT_REQUEST = "commitment request"
    AVAILABILITY_NOTIFICATION = "availability notification"
    CONTENT_NOTIFICATION = "content notification"
    LISTED_ABSENT = "listed absent"
    COUNT_NOT_REACHED = "count not reached"
    GAP = "gap"
    REFUSED = "refused"
    CUT_OFF = "cut off"
    COLLIDED = "collided"
    ASSOCIATION_ENDED = "association ended"
    ASSOCIATION_REJECTED = "association rejected"
    UNREAD_HEADERS = "unread headers"
    BODY_REGION_AWAITED = "body region awaited"
    STUDY_STEP = "study step"
    STUDY_ASSOCIATION = "study association"
    INCOMPLETE = "incomplete"
    INCOMPLETE_COMPANIONS = "incomplete companions"
    CAVEAT = "caveat"
    CAVEAT_COMPANIONS = "caveat companions"

    # decisions of the router
    MATCHES = "matches"
    SENT_ON_ONLY = "sent on only"
    WAITS_FOR_STUDY = "waits for study"
    ONLY_BACK = "only back"
    ANOTHER_CHOSEN = "another chosen"
    ONLY_COMPANION = "only companion"
    NO_RULE = "no rule"
    AI_RESULT = "AI result"
    OWN_RESULT = "own result"
    ASKED_FOR_VERDICTS = "asked for verdicts"
    RETURNED = "returned"
    RETURNED_LATER = "returned later"
    RETURNED_ABOUT_OTHERS = "returned about others"
    RETURNED_AWAITED = "returned awaited"
    NO_IMAGES = "no images"
    LOCALIZER = "localizer"
    SECONDARY_CAPTURE = "secondary capture"
    NO_FILES = "no files"
    IMAGES_PURGED = "images purged"
    NO_READABLE_FILE = "no readable file"
    HEADERS_REFUSED = "headers refused"
    HEADERS_NOT_UNDERSTOOD = "headers not understood"
    CONTRADICTION = "contradiction"
    OF_DISCONTINUED_STEP = "of discontinued step"
    STEP_DISCONTINUED = "step discontinued"

    # selection among the series of a study
    RULE_REMOVED = "rule removed"
    WORSE = "worse"
    CHOSEN = "chosen"
    COMPANIONS_ABSENT = "companions absent"
    PREFERRED = "preferred"
    NOT_PREFERRED = "not preferred"
    IMAGES = "images"
    SLICE_THICKNESS = "slice thickness"
    PLANE = "plane"
    SERIES_NUMBER = "series number"
    LOWER_UID = "lower UID"
    HIGHER_UID = "higher UID"
    SERIES_RECEIVING = "series receiving"
    STEP_COMPLETED = "step completed"
    STUDY_SILENT = "study silent"
    STUDY_QUIET = "study quiet"

    # orders of the worklist
    WORKLIST_AWAITED = "worklist awaited"
    WORKLIST_SILENT = "worklist silent"
    WORKLIST_EMPTY = "worklist empty"
    WORKLIST_NOT_TAKEN = "worklist not taken"

    # ends of jobs
    URGENT = "urgent"
    NOT_ANALYSED = "not analysed"
    NO_STATEMENT = "no statement"
    NO_REPORT = "no report"
    STATED = "stated"
    TOGETHER = "together"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"
    RECEIVED_AGAIN = "received again"
    ERROR = "error"
    DELIVERIES_REFUSED = "deliveries refused"
    NOTES_REFUSED = "notes refused"
    QUALITY_STOPPED = "quality stopped"
    PREREQUISITE_ENDED = "prerequisite ended"
    PREREQUISITE_ABSENT = "prerequisite absent"

    # what readers' verdicts say of a pipeline
    QUALITY_FELL = "quality fell"

    # what no acceptance test allows
    VERSION_NOT_ACCEPTED = "version not accepted"
    NO_VERSION_ACCEPTED = "no version accepted"

    # objects that hold no verdict of a reader
    OF_THIS_SOFTWARE = "of this software"
    OF_AN_ALGORITHM = "of an algorithm"
    OF_ANOTHER_PATIENT = "of another patient"
    OF_OTHER_IMAGES = "of other images"
    OF_OTHER_FINDINGS = "of other findings"
    OF_NO_READER = "of no reader"
    OF_OTHER_REASON = "of other reason"
    UNKNOWN_ASSESSMENT = "unknown assessment"
    UNREADABLE_OBJECT = "unreadable object"


def reason(code: ReasonCode, **parameters: object) -> Reason:
    """Return a reason with its parameters, which the sentence of the code names."""
    return {"code": code, **parameters}
