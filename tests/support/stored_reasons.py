"""What a ledger holds where reasons belong: codes, and where a sentence was written instead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from node.ledger.tables import candidate, decision, event, job, series
from node.reasons import ReasonCode

OF_EVENTS = ("reason", "signal", "awaited")
"""Parameters of events that are reasons; that of a retraction is the name of a code of CID 7011."""


def codes_of(engine: sa.Engine) -> set[str]:
    """Every code of a reason in the ledger. Fails where anything else is in the place of one."""
    with engine.connect() as connection:
        stored = list(_stored(connection))
    sentences = [(where, what) for where, what in stored if not isinstance(what, dict) or "code" not in what]
    assert sentences == []
    codes = {code for _, what in stored for code in _codes(what)}
    assert codes <= set(ReasonCode)
    return codes


def _stored(connection: sa.Connection) -> Iterator[tuple[str, Any]]:
    for table in (decision, job):
        for row in connection.execute(sa.select(table.c.reason, table.c.incomplete, table.c.caveat)):
            yield from ((table.name, value) for value in row if value is not None)
    for trace in connection.scalars(sa.select(decision.c.trace)):
        yield from (("trace", entry["note"]) for entry in trace if entry.get("note"))
    for marks in connection.scalars(sa.select(candidate.c.marks)):
        yield from (("marks", what) for _, what in marks)
    for deferrals in connection.scalars(sa.select(series.c.doubts)):
        yield from (("doubts", deferral["about"]) for deferral in deferrals or ())
    for row in connection.execute(sa.select(event.c.kind, event.c.parameters)):
        values = [row.parameters[name] for name in OF_EVENTS if row.parameters.get(name) is not None]
        yield from ((row.kind, value) for value in values if row.kind != "job retracted")


def _codes(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("code"), str):
            yield value["code"]
        for entry in value.values():
            yield from _codes(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _codes(entry)
