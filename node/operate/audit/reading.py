"""Reads the audit file backwards, a page at a time: what the dashboard shows of it. No Patient ID is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO
from xml.etree import ElementTree as ET

from node.config.rule_condition import folded
from node.errors import LedgerError
from node.operate.audit.message import STUDY, SUCCESS

_CHUNK = 1 << 16
_MOST = 1 << 24
"""Bytes that one page looks at: a search for what is rare goes on with the next page."""


@dataclass(frozen=True, kw_only=True)
class AuditEntry:
    """One message of the audit trail."""

    at: float
    """Seconds since 1970 UTC."""
    what: str
    who: str
    addresses: str
    detail: str
    studies: tuple[str, ...]
    """Study Instance UIDs."""
    failed: bool

    def holds(self, text: str) -> bool:
        """Return whether a search for ``text`` matches, regardless of case and width."""
        values = (self.what, self.who, self.addresses, self.detail, *self.studies)
        return any(folded(text) in folded(value) for value in values)


@dataclass(frozen=True, kw_only=True)
class AuditPage:
    """A part of the audit trail."""

    entries: tuple[AuditEntry, ...]
    """Newest first."""
    unreadable: int
    """Lines of this part that hold no message."""
    older: int | None
    """Where the next page ends, in bytes from the beginning of the file; ``None``: this was the beginning."""


def read_page(path: Path, text: str, end: int | None, count: int) -> AuditPage:
    """Return up to ``count`` messages that hold ``text`` and stand before byte ``end``, the newest first.

    Raises ``LedgerError`` when the file cannot be read.
    """
    entries: list[AuditEntry] = []
    unreadable, position = 0, 0
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            begin = position = size if end is None else min(max(end, 0), size)
            for position, line in _lines_before(file, begin):
                try:
                    entry = _entry(line)
                except (ET.ParseError, AttributeError, KeyError, ValueError):
                    unreadable += 1
                    continue
                entries += [entry] if entry.holds(text) else []
                if len(entries) == count or begin - position > _MOST:
                    break
    except FileNotFoundError:
        return AuditPage(entries=(), unreadable=0, older=None)
    except OSError as error:
        raise LedgerError(f"{path}: cannot be read ({error.strerror})") from error
    return AuditPage(entries=tuple(entries), unreadable=unreadable, older=position or None)


def _lines_before(file: BinaryIO, end: int) -> Iterator[tuple[int, bytes]]:
    """Where each whole line begins, and the line; backwards from ``end``, which is the end of one or of the file."""
    rest = b""
    while end > 0:
        start = max(end - _CHUNK, 0)
        file.seek(start)
        rest = file.read(end - start) + rest
        first, *lines = rest.split(b"\n")
        place = start + len(rest)
        for line in reversed(lines):
            place -= len(line)
            if line:
                yield place, line
            place -= 1
        rest, end = first, start
    if rest:
        yield 0, rest


def _entry(line: bytes) -> AuditEntry:
    root = ET.fromstring(line.partition(b" ")[2])  # noqa: S314 - this node's own file
    event = _element(root, "EventIdentification")
    people = root.findall("ActiveParticipant")
    addresses = (person.get("NetworkAccessPointID", "") for person in people)
    things = root.findall("ParticipantObjectIdentification")
    kinds = [_element(event, "EventID"), *event.findall("EventTypeCode")]
    return AuditEntry(
        at=datetime.fromisoformat(event.attrib["EventDateTime"]).timestamp(),
        what=": ".join(kind.attrib["originalText"] for kind in kinds),
        who=", ".join(dict.fromkeys(person.attrib["UserID"] for person in people)),
        addresses=", ".join(dict.fromkeys(filter(None, addresses))),
        detail=event.findtext("EventOutcomeDescription", ""),
        studies=tuple(
            element.attrib["ParticipantObjectID"]
            for element in things
            if _element(element, "ParticipantObjectIDTypeCode").get("csd-code") == STUDY[0]
        ),
        failed=int(event.attrib["EventOutcomeIndicator"]) != SUCCESS,
    )


def _element(parent: ET.Element, name: str) -> ET.Element:
    element = parent.find(name)
    if element is None:
        raise ValueError(f"{name} is missing")
    return element
