"""``[feedback]``: whether the node asks an archive for objects of readers."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from node.config.table import Table


class Feedback(Table):
    """Queries for segmentations, structure sets, reports and rejection notes in studies that the node has analysed."""

    source: str = ""
    """Destination that is queried (C-FIND, or QIDO-RS where it has a ``url``) and whose objects are retrieved (C-MOVE,
    WADO-RS); empty: the archive forwards them itself."""
    query_minutes: Annotated[float, Field(gt=0)] = 60.0
    """Between the delivery of results and the first query, and between two at least; older studies more rarely."""
    query_days: Annotated[float, Field(gt=0)] = 14.0
    """Ask about a study this long after its results were sent."""
