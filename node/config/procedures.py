"""``[procedures.NAME]``: analyses that other systems may request by a code."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from node.config.table import Name, Table


class Procedure(Table):
    """A coded procedure, and the pipeline that performs it."""

    code: Annotated[str, Field(min_length=1, max_length=16)]
    """Code Value (0008,0100) in Scheduled Workitem Code Sequence or Scheduled Station Name Code Sequence."""
    scheme: Annotated[str, Field(min_length=1, max_length=16)]
    """Coding Scheme Designator (0008,0102)."""
    meaning: Annotated[str, Field(max_length=64)] = ""
    """Code Meaning (0008,0104) in workitems; empty: the title of the pipeline."""
    pipeline: Name
    """Name of the ``[pipelines.NAME]`` that performs it."""
    destinations: tuple[Name, ...] = ()
    """Names of ``[destinations.NAME]`` that receive the results."""
    priority: Literal["low", "medium", "high"] | None = None
    """Order in the queues; absent: the priority of the request."""
