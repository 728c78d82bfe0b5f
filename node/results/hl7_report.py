"""A report (TID 1500) as an HL7 version 2 message: ORU^R01 of version 2.5.1, with the codes and numbers of the SR.

Fields are those of IHE RAD-128 where it has them. Every result is preliminary (OBR-25, OBX-11 = P): nobody has verified
it. The same report always gives the same message, so that a receiver can tell a repetition by its control ID (MSH-10).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from pydicom import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import KeyObjectSelectionDocumentStorage
from pydicom.valuerep import PersonName

from node.config import Hl7Message, Language
from node.results.hl7_template import adapted
from node.results.report_items import MEASUREMENT_GROUP, concept_value, measurement_groups
from node.studies.attributes import STRUCTURED_REPORTS

_PRELIMINARY, _CANCELLED, _WRONG = "P", "X", "W"
"""Result status (tables 0123 and 0085)."""
_ESCAPES = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"}
_SCHEMES = {"UMLS": "UML"}
"""Coding schemes with another name in table 0396."""
_LONGEST_ID = 20
"""Characters of a control ID."""
_TRACKING_ID, _FINDING, _DERIVATION, _SUMMARY = "112039", "121071", "121401", "111017"
_LIBRARY, _SUPPLEMENT = "111028", "111414"
_ALGORITHM = ("111001", "111003")
"""Name and version: said once, before the groups."""
_IMPRESSION = "121073"
_TECHNICAL = {"111000", "111002", "111065", "122405", "112040", _IMPRESSION, *_ALGORITHM}
"""Of an algorithm, UIDs, and the impression in other languages: in the SR only."""
_OBSERVED = {"NUM": "NM", "CODE": "CWE", "TEXT": "TX"}
_PROCEDURE, _ANY_PROCEDURE = "121058", "18748-4^Diagnostic imaging study^LN"
_STAT = "TQ1|1||||||||S^Stat^HL70485"
_STUDY = "113014^DICOM Study^DCM"


@dataclass(frozen=True, kw_only=True)
class Addressee:
    """Who sends the message and who receives it (MSH-3, 5 and 6)."""

    sender: str
    """AE title of this node."""
    application: str = ""
    facility: str = ""
    language: Language = "en"
    """Of the impression."""
    urgent: bool = False
    """Whether the result is urgent (TQ1-9)."""
    message: Hl7Message = field(default_factory=Hl7Message)
    """How the messages of the site differ."""


@dataclass(frozen=True, kw_only=True)
class _Observation:
    """One OBX segment, its fields encoded."""

    type: str
    concept: str
    value: str
    unit: str = ""
    group: str = ""
    """Number of the measurement group; empty for what is said of the whole series."""
    method: str = ""


def report_message(report: Dataset, to: Addressee) -> str:
    """Return a report as ORU^R01, segments ended by carriage returns.

    Raises ``EncodeError`` when the character set of the receiver lacks a character.
    """
    body = [_study(report), *_impression(report, to.language), *_observations(report)]
    segments = [_head(report, to), _patient(report), _request(report, report.SOPInstanceUID, _PRELIMINARY, to)]
    if to.urgent:
        segments.append(_STAT)
    return _joined([*segments, *(_result(n, observation, _PRELIMINARY) for n, observation in enumerate(body, 1))], to)


def withdrawn_reports(note: Dataset) -> tuple[str, ...]:
    """Return the SOP Instance UIDs of the reports that a rejection note withdraws."""
    return tuple(
        str(instance.ReferencedSOPInstanceUID)
        for study in note.get("CurrentRequestedProcedureEvidenceSequence", ())
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
        if instance.ReferencedSOPClassUID.startswith(STRUCTURED_REPORTS)
        and instance.ReferencedSOPClassUID != KeyObjectSelectionDocumentStorage
    )


def withdrawal_message(note: Dataset, report_uid: str, to: Addressee) -> str:
    """Return the message that a report, which ``report_message`` has sent, is wrong or replaced."""
    texts = (item.TextValue for item in note.get("ContentSequence", ()) if item.ValueType == "TEXT")
    why = _Observation(type="TX", concept=_concept(note), value=_lines(str(note.SeriesDescription), *texts))
    head = _head(note, to, also=report_uid)
    return _joined([head, _patient(note), _request(note, report_uid, _CANCELLED, to), _result(1, why, _WRONG)], to)


def _head(dataset: Dataset, to: Addressee, also: str = "") -> str:
    control = hashlib.sha256(f"{dataset.SOPInstanceUID}{also}".encode()).hexdigest()[:_LONGEST_ID]
    parties = f"{_text(to.sender)}||{_text(to.application)}|{_text(to.facility)}"
    return rf"MSH|^~\&|{parties}|{_time(dataset, 'Content')}||ORU^R01^ORU_R01|{control}|P|2.5.1||||||"


def _patient(dataset: Dataset) -> str:
    number = f"{_string(dataset, 'PatientID')}^^^{_string(dataset, 'IssuerOfPatientID')}".rstrip("^")
    born = _digits(dataset.get("PatientBirthDate"))
    return f"PID|1||{number}||{_name(dataset.get('PatientName'))}||{born}|{_string(dataset, 'PatientSex')}"


def _request(dataset: Dataset, report_uid: str, status: str, to: Addressee) -> str:
    request = next(iter(dataset.get("ReferencedRequestSequence", ())), Dataset())
    placer = _string(request, "PlacerOrderNumberImagingServiceRequest")
    procedure = next(iter(request.get("RequestedProcedureCodeSequence", ())), None)
    service = _code(procedure) if procedure is not None else _reported(dataset)
    accession = _string(dataset, "AccessionNumber")
    fields = dict.fromkeys(range(1, 26), "")
    fields |= {1: "1", 2: placer, 3: f"{report_uid}^{_text(to.sender)}", 4: service, 7: _time(dataset, "Study")}
    fields |= {18: accession, 22: _time(dataset, "Content"), 24: "RAD", 25: status}
    return "|".join(["OBR", *fields.values()])


def _result(number: int, observation: _Observation, status: str) -> str:
    fields = [
        str(number),
        observation.type,
        observation.concept,
        observation.group,
        observation.value,
        observation.unit,
        "",
        "",
        "",
        "",
        status,
    ]
    return "|".join(["OBX", *fields, *(["", "", "", "", "", observation.method] if observation.method else [])])


def _study(report: Dataset) -> _Observation:
    return _Observation(type="ST", concept=_STUDY, value=str(report.StudyInstanceUID))


def _impression(report: Dataset, language: Language) -> Iterator[_Observation]:
    from node.results.impression.sentences import impression_of  # the confined process alone needs what that imports

    if report.get("ContentSequence") and (text := _lines(impression_of(report, language))):
        yield _Observation(type="TX", concept=f"{_IMPRESSION}^Impression^DCM", value=text)


def _observations(report: Dataset) -> Iterator[_Observation]:
    """First what is said of the whole series, then group after group; nothing twice."""
    whole = [observation for item in _outside_groups(report) for observation in _of_item(item)]
    groups = [group.ContentSequence for group in measurement_groups(report)]
    algorithm = [
        observation
        for item in (groups[0] if groups else ())
        if concept_value(item) in _ALGORITHM
        for observation in _plain(item)
    ]
    yield from dict.fromkeys([*whole, *algorithm])
    known, outcome = (
        set(whole),
        {observation.value for observation in whole if observation.concept.startswith(f"{_SUMMARY}^")},
    )
    number = 0
    for group in groups:
        observations = [
            observation for item in group if concept_value(item) not in _TECHNICAL for observation in _of_item(item)
        ]
        news = [
            observation
            for observation in observations
            if observation not in known and not (_is_finding(observation) and observation.value in outcome)
        ]
        if any(not observation.concept.startswith(f"{_TRACKING_ID}^") for observation in news):
            number += 1
            yield from (replace(observation, group=str(number)) for observation in news)


def _is_finding(observation: _Observation) -> bool:
    return observation.concept.startswith(f"{_FINDING}^")


def _outside_groups(item: Dataset) -> Iterator[Dataset]:
    """Items of what the report contains, other than measurement groups and lists of objects."""
    for child in item.get("ContentSequence", ()):
        if child.ValueType == "CONTAINER" and concept_value(child) not in (MEASUREMENT_GROUP, _LIBRARY, _SUPPLEMENT):
            yield from _outside_groups(child)
        elif (
            child.ValueType in _OBSERVED
            and child.RelationshipType == "CONTAINS"
            and concept_value(child) not in _TECHNICAL
        ):
            yield child


def _of_item(item: Dataset) -> Iterator[_Observation]:
    """An item, then what modifies it; a derivation such as the mean is the method of its number."""
    inner = list(item.get("ContentSequence", ()))
    method = next((_code(child.ConceptCodeSequence[0]) for child in inner if concept_value(child) == _DERIVATION), "")
    for observation in _plain(item):
        yield replace(observation, method=method)
    for child in inner:
        if child.ValueType in _OBSERVED and concept_value(child) != _DERIVATION:
            yield from _of_item(child)


def _plain(item: Dataset) -> Iterator[_Observation]:
    kind = _OBSERVED.get(item.ValueType)
    if kind == "NM" and item.get("MeasuredValueSequence"):
        measured = item.MeasuredValueSequence[0]
        unit = _code(measured.MeasurementUnitsCodeSequence[0])
        yield _Observation(type=kind, concept=_concept(item), value=str(measured.NumericValue), unit=unit)
    elif kind == "CWE":
        yield _Observation(type=kind, concept=_concept(item), value=_code(item.ConceptCodeSequence[0]))
    elif kind == "TX":
        yield _Observation(type=kind, concept=_concept(item), value=_lines(str(item.TextValue)))


def _reported(report: Dataset) -> str:
    """The procedure that the report is about; a rejection note names none."""
    procedures = (item for item in report.get("ContentSequence", ()) if concept_value(item) == _PROCEDURE)
    procedure = next(procedures, None)
    return _ANY_PROCEDURE if procedure is None else _code(procedure.ConceptCodeSequence[0])


def _concept(item: Dataset) -> str:
    return _code(item.ConceptNameCodeSequence[0])


def _code(item: Dataset) -> str:
    scheme = str(item.get("CodingSchemeDesignator", ""))
    value = item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue") or ""
    return "^".join(map(_text, (str(value), str(item.get("CodeMeaning", "")), _SCHEMES.get(scheme, scheme))))


def _name(value: PersonName | None) -> str:
    """XPN with one repetition for each representation; DICOM has prefix and suffix the other way round."""
    names = []
    groups = () if value is None else (value.alphabetic, value.ideographic, value.phonetic)
    for representation, group in zip("AIP", groups, strict=False):
        if group:
            family, given, middle, prefix, suffix = (group.split("^") + [""] * 5)[:5]
            names.append("^".join([*map(_text, (family, given, middle, suffix, prefix)), "", "L", representation]))
    return "~".join(names)


def _time(dataset: Dataset, which: str) -> str:
    date, time = dataset.get(f"{which}Date"), dataset.get(f"{which}Time")
    zone = str(dataset.get("TimezoneOffsetFromUTC") or "") if date and time else ""
    return (_digits(date) + _digits(time)[:6] if date else "") + zone


def _digits(value: object) -> str:
    return "".join(re.findall(r"\d+", str(value or "").partition(".")[0]))


def _string(dataset: Dataset, keyword: str) -> str:
    """A value of one line; a backslash in it looks like several values."""
    value = dataset.get(keyword)
    return _text("\\".join(map(str, value)) if isinstance(value, MultiValue) else str(value or ""))


def _lines(*texts: str) -> str:
    """Lines as repetitions of a field."""
    return "~".join(_text(line) for text in texts for line in text.splitlines() if line.strip())


def _text(value: str) -> str:
    """Escape delimiters; control characters become spaces."""
    return "".join(_ESCAPES.get(c, c if c.isprintable() else " ") for c in value).strip()


def _joined(segments: Sequence[str], to: Addressee) -> str:
    whole = [segment.encode("utf-8", "replace").decode("utf-8") for segment in segments]  # no half of a surrogate pair
    return "".join(f"{segment}\r" for segment in adapted(whole, to.message))
