"""Audit messages (PS3.15 A.5) as XML. Pure."""

from __future__ import annotations

import socket
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal
from xml.etree import ElementTree as ET

from node.peer_text import escaped

Coded = tuple[str, str, str]
"""Code value, coding scheme, meaning."""

APPLICATION_ACTIVITY: Coded = ("110100", "DCM", "Application Activity")
BEGIN_TRANSFERRING: Coded = ("110102", "DCM", "Begin Transferring DICOM Instances")
INSTANCES_TRANSFERRED: Coded = ("110104", "DCM", "DICOM Instances Transferred")
QUERY: Coded = ("110112", "DCM", "Query")
SECURITY_ALERT: Coded = ("110113", "DCM", "Security Alert")
USER_AUTHENTICATION: Coded = ("110114", "DCM", "User Authentication")
APPLICATION_START: Coded = ("110120", "DCM", "Application Start")
APPLICATION_STOP: Coded = ("110121", "DCM", "Application Stop")
LOGIN: Coded = ("110122", "DCM", "Login")
LOGOUT: Coded = ("110123", "DCM", "Logout")
NODE_AUTHENTICATION: Coded = ("110126", "DCM", "Node Authentication")
APPLICATION: Coded = ("110150", "DCM", "Application")
LAUNCHER: Coded = ("110151", "DCM", "Application Launcher")
DESTINATION: Coded = ("110152", "DCM", "Destination Role ID")
SOURCE: Coded = ("110153", "DCM", "Source Role ID")
SOP_CLASS: Coded = ("110181", "DCM", "SOP Class UID")
URI: Coded = ("12", "RFC-3881", "URI")
STUDY: Coded = ("110180", "DCM", "Study Instance UID")
_PATIENT: Coded = ("2", "RFC-3881", "Patient Number")
_NODE: Coded = ("110182", "DCM", "Node ID")

SUCCESS, MINOR_FAILURE, SERIOUS_FAILURE = 0, 4, 8
"""Event Outcome Indicator (PS3.15 A.5.1)."""
_LONGEST = 1024
"""Characters of a text that a peer or an image gives."""


@dataclass(frozen=True, kw_only=True)
class Participant:
    """A person or process that takes part."""

    user: str
    """AE title, login name or process."""
    roles: Sequence[Coded] = ()
    address: str = ""
    requestor: bool = False


@dataclass(frozen=True, kw_only=True)
class Study:
    """One study in a transfer."""

    study_instance_uid: str
    patient_id: str
    """Patient ID (0010,0020): the standard wants it in the message; ``""`` when the source has none."""
    classes: Mapping[str, int]
    """Instances by SOP Class UID."""


@dataclass(frozen=True, kw_only=True)
class Query:
    """A query (PS3.15 A.5.3.10)."""

    about: str
    """SOP Class UID, or the address of a QIDO-RS request."""
    type: Coded
    """``SOP_CLASS`` or ``URI``."""
    identifier: str
    """Base64: the data set of the query, or the whole request."""
    transfer_syntax_uid: str = ""
    """Of the data set."""


@dataclass(frozen=True, kw_only=True)
class AuditEvent:
    """An auditable event."""

    event: Coded
    at: float
    """Seconds since 1970 UTC."""
    action: Literal["C", "R", "U", "D", "E"] = "E"
    outcome: int = SUCCESS
    type: Coded | None = None
    detail: str = ""
    participants: Sequence[Participant]
    studies: Sequence[Study] = ()
    query: Query | None = None
    node: str = field(default_factory=socket.getfqdn)


def message(happening: AuditEvent, source: str) -> str:
    """One line of XML after the schema of PS3.15 A.5.1; ``source`` is the Audit Source ID."""
    root = ET.Element("AuditMessage")
    at = datetime.fromtimestamp(happening.at, UTC).isoformat(timespec="milliseconds")
    event = ET.SubElement(
        root,
        "EventIdentification",
        EventActionCode=happening.action,
        EventDateTime=at,
        EventOutcomeIndicator=str(happening.outcome),
    )
    _code(event, "EventID", happening.event)
    if happening.type is not None:
        _code(event, "EventTypeCode", happening.type)
    if happening.detail:
        ET.SubElement(event, "EventOutcomeDescription").text = _line(happening.detail)
    for participant in happening.participants:
        _participant(root, participant)
    origin = ET.SubElement(root, "AuditSourceIdentification", AuditSourceID=source)
    ET.SubElement(origin, "AuditSourceTypeCode", {"csd-code": "4"})
    for study in happening.studies:
        thing = _thing(root, study.study_instance_uid, STUDY, kind="2", role="3")
        described = _named(thing, "study")
        for sop_class, count in sorted(study.classes.items()):
            ET.SubElement(described, "SOPClass", UID=sop_class, NumberOfInstances=str(count))
    for patient_id in sorted({study.patient_id for study in happening.studies}):
        _named(_thing(root, patient_id or "unknown", _PATIENT, kind="1", role="1"), "")
    if happening.event == SECURITY_ALERT:
        _named(_thing(root, happening.node, _NODE, kind="2", role="13"), "node")
    if happening.query is not None:
        _asked(root, happening.query)
    return ET.tostring(root, encoding="unicode")


def _participant(root: ET.Element, participant: Participant) -> None:
    attributes = {"UserID": _line(participant.user), "UserIsRequestor": str(participant.requestor).lower()}
    if participant.address:
        attributes |= {"NetworkAccessPointID": participant.address, "NetworkAccessPointTypeCode": "2"}
    element = ET.SubElement(root, "ActiveParticipant", attributes)
    for role in participant.roles:
        _code(element, "RoleIDCode", role)


def _asked(root: ET.Element, query: Query) -> None:
    thing = _thing(root, query.about, query.type, kind="2", role="3")
    ET.SubElement(thing, "ParticipantObjectQuery").text = query.identifier
    if query.transfer_syntax_uid:
        value = b64encode(query.transfer_syntax_uid.encode()).decode("ascii")
        ET.SubElement(thing, "ParticipantObjectDetail", type="TransferSyntax", value=value)


def _thing(root: ET.Element, identifier: str, code: Coded, *, kind: str, role: str) -> ET.Element:
    """A participant object."""
    element = ET.SubElement(
        root,
        "ParticipantObjectIdentification",
        ParticipantObjectID=_line(identifier),
        ParticipantObjectTypeCode=kind,
        ParticipantObjectTypeCodeRole=role,
    )
    _code(element, "ParticipantObjectIDTypeCode", code)
    return element


def _named(thing: ET.Element, name: str) -> ET.Element:
    """Give a participant object its name; returns the element that describes it."""
    ET.SubElement(thing, "ParticipantObjectName").text = name
    return ET.SubElement(thing, "ParticipantObjectDescription")


def _code(parent: ET.Element, name: str, code: Coded) -> None:
    ET.SubElement(parent, name, {"csd-code": code[0], "codeSystemName": code[1], "originalText": code[2]})


def _line(text: str) -> str:
    """Without what XML 1.0 cannot hold, without line ends, and bounded."""
    return escaped(text, _LONGEST)
