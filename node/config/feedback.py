"""``[feedback]``: objects of readers, which the node asks an archive for, and what codes in them mean."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from node.config.table import Table


class AssessmentCode(Table):
    """What a code in a reader's assessment of a result means."""

    code: Annotated[str, Field(min_length=1, max_length=64)]
    """Code Value (0008,0100)."""
    scheme: Annotated[str, Field(min_length=1, max_length=16)]
    """Coding Scheme Designator (0008,0102)."""
    verdict: Literal["accepted", "edited", "rejected"]
    """The verdict on the lesion, or on the result, that it is said of."""


class Feedback(Table):
    """Queries for segmentations, structure sets, reports and rejection notes in studies that the node has analysed."""

    source: str = ""
    """Destination that is queried (C-FIND, or QIDO-RS where it has a ``url``) and whose objects are retrieved (C-MOVE,
    WADO-RS); empty: the archive forwards them itself."""
    query_minutes: Annotated[float, Field(gt=0)] = 60.0
    """Between the delivery of results and the first query, and between two at least; older studies more rarely."""
    query_days: Annotated[float, Field(gt=0)] = 14.0
    """Ask about a study this long after its results were sent."""
    assessment_codes: tuple[AssessmentCode, ...] = ()
    """Codes by which readers' assessments say what they think of a result; all others are no verdict."""

    @model_validator(mode="after")
    def _each_code_once(self) -> Feedback:
        codes = [(code.code, code.scheme) for code in self.assessment_codes]
        if twice := [code for code in codes if codes.count(code) > 1]:
            raise ValueError(f"assessment_codes has {' '.join(twice[0])} twice; state one verdict for it")
        return self
