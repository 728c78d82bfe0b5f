"""``[procedures.NAME]``: analyses that other systems may request by a code."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from node.config.routing import Rule
from node.config.table import Name, Table, suggest


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


def procedure_fault(
    procedures: Mapping[str, Procedure],
    pipelines: Collection[str],
    destinations: Collection[str],
    rules: Sequence[Rule],
) -> str:
    """Say what is wrong with procedures; empty: nothing."""
    codes: dict[tuple[str, str], str] = {}
    for name, procedure in procedures.items():
        for kind, wanted, known in (
            ("pipelines", (procedure.pipeline,), pipelines),
            ("destinations", procedure.destinations, destinations),
        ):
            if missing := next((other for other in wanted if other not in known), ""):
                return (
                    f"procedures.{name} names {missing!r}, which is not defined{suggest(missing, known)}; "
                    f"add [{kind}.{missing}]"
                )
        if tried := next((rule.name for rule in rules if procedure.pipeline in rule.shadow), ""):
            return f"procedures.{name} names {procedure.pipeline!r}, which rule {tried!r} tries in shadow"
        if other := codes.get((procedure.code, procedure.scheme)):
            return f"procedures.{name} and procedures.{other} have the same code and scheme; change one"
        codes[procedure.code, procedure.scheme] = name
    return ""
