"""A report (TID 1500) as FHIR R4 or R5: one transaction that creates what a server does not have yet.

Every resource has an identifier that follows from the report, and is created only where none has it (``ifNoneExist``):
a repetition changes nothing. Patient, study and order are named by their identifiers, never created. Everything is
preliminary, because nobody has verified it. R5 knows where a finding is: its ImagingSelection names segment and image.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from node.config import FhirVersion, Language
from node.results.impression.sentences import impression_of
from node.results.report_statement import MeasuredValue, StatedFinding, StatedRegion, read_statement
from node.wording import NOTICE

Resource = dict[str, Any]
DICOM_UID = "urn:dicom:uid"
"""Identifier system of UIDs (FHIR R4, ImagingStudy)."""
_NAMESPACE = uuid.UUID("0f4d7cf8-6f0b-5a6b-8f53-6f7d2b1f7f0a")
_SYSTEMS = {
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "SCT": "http://snomed.info/sct",
    "LN": "http://loinc.org",
    "UCUM": "http://unitsofmeasure.org",
    "RADLEX": "http://www.radlex.org",
    "NCIt": "http://ncicb.nci.nih.gov/xml/owl/EVS/Thesaurus.owl",
    "UMLS": "http://www.nlm.nih.gov/research/umls",
}
"""Of coding schemes; a private one has a URN that names it."""
_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"
_IMAGING_STUDY = Code("18748-4", "LN", "Diagnostic imaging study")


@dataclass(frozen=True, kw_only=True)
class _Context:
    """What all resources of one report share."""

    report: Dataset
    version: FhirVersion
    shared: Resource
    """Subject, device and time of an observation."""

    @property
    def report_uid(self) -> str:
        return str(self.report.SOPInstanceUID)


def report_bundle(report: Dataset, language: Language = "en", version: FhirVersion = "R4") -> Resource:
    """Return a report as a transaction Bundle. Raises ``InputError`` when it is not one of this node."""
    statement, uid = read_statement(report), str(report.SOPInstanceUID)
    name, algorithm_version = statement.algorithm
    called: Resource = {"deviceName": [{"name": name or "unknown", "type": "model-name"}]}
    if version == "R5":
        called = {"name": [{"value": name or "unknown", "type": "registered-name"}]}
    device = _entry(
        {
            "resourceType": "Device",
            "identifier": [_own("device", name, algorithm_version, str(report.get("DeviceSerialNumber", "")))],
            "manufacturer": str(report.get("Manufacturer", "")) or None,
            **called,
            "version": [{"value": algorithm_version}] if algorithm_version else None,
            "note": [{"text": NOTICE}],
        }
    )
    context = _Context(
        report=report,
        version=version,
        shared=_given(
            {
                "status": "preliminary",
                "category": [_concept_of(f"{_TERMINOLOGY}/observation-category", "imaging")],
                "subject": _patient(report),
                "effectiveDateTime": _time(report, "Study"),
                "device": {"reference": device["fullUrl"]},
                "derivedFrom": [_study(report)],
            }
        ),
    )
    outcome = _observation(
        context,
        "outcome",
        code=_concept(codes.DCM.CADProcessingAndFindingsSummary),
        valueCodeableConcept=_concept(statement.summary),
        component=_components(statement.evaluations),
    )
    entries, results = [device], [outcome]
    for stated in statement.findings:
        *members, finding = _finding(stated, context)
        entries += members
        results.append(finding)
    whole = _entry(
        _given(
            {
                "resourceType": "DiagnosticReport",
                "language": language,
                "identifier": [_uid(uid), _uid(str(report.SeriesInstanceUID))],
                "basedOn": _orders(report),
                "status": "preliminary",
                "category": [_concept_of(f"{_TERMINOLOGY}/v2-0074", "RAD")],
                "code": _concept(statement.procedure or _IMAGING_STUDY),
                "subject": context.shared.get("subject"),
                "effectiveDateTime": context.shared.get("effectiveDateTime"),
                "result": [{"reference": result["fullUrl"]} for result in results],
                "study" if version == "R5" else "imagingStudy": [_study(report)],
                "conclusion": f"{impression_of(report, language)}\n{NOTICE}".strip(),
                "conclusionCode": [_concept(statement.summary)],
            }
        )
    )
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [*entries, *results, whole, _provenance(report, whole["fullUrl"], device["fullUrl"])],
    }


def _finding(stated: StatedFinding, context: _Context) -> Iterator[Resource]:
    """The measurements of a finding and where it is, then the finding, which names them."""
    members = [
        _observation(
            context,
            stated.tracking_uid,
            "measurement",
            m.name.scheme_designator,
            m.name.value,
            m.derivation.value if m.derivation else "",
            code=_concept(m.name),
            method=_concept(m.derivation) if m.derivation else None,
            valueQuantity=_quantity(m),
        )
        for m in stated.measurements
    ]
    yield from members
    places = [_selection(place, stated, context) for place in stated.regions] if context.version == "R5" else []
    yield from places
    asserted = stated.asserted
    value = asserted[1] if asserted else stated.finding
    site = _concept(stated.site) if stated.site else None
    sides = {codes.SCT.Laterality: stated.laterality} if stated.laterality else {}
    others = {name: value for name, value in stated.evaluations.items() if (name, value) != asserted}
    yield _observation(
        context,
        stated.tracking_uid,
        code=_concept(asserted[0] if asserted else codes.DCM.Finding),
        valueCodeableConcept=_concept(value) if value else None,
        bodySite=site,
        component=_components(sides | others),
        hasMember=[{"reference": member["fullUrl"]} for member in members] or None,
        derivedFrom=[*context.shared["derivedFrom"], *({"reference": place["fullUrl"]} for place in places)],
        note=[{"text": stated.label}] if stated.label else None,
    )


def _observation(context: _Context, *parts: str, **values: Any) -> Resource:
    identifiers = [_own(context.report_uid, *parts), _uid(context.report_uid)]
    resource = {"resourceType": "Observation", "identifier": identifiers, **context.shared, **values}
    return _entry(_given(resource))


def _selection(place: StatedRegion, stated: StatedFinding, context: _Context) -> Resource:
    """An ImagingSelection (R5) of a segment, or of an image."""
    report, segment = context.report, place.segment
    instance = {
        "uid": place.sop_instance_uid,
        "sopClass": {"system": "urn:ietf:rfc:3986", "code": f"urn:oid:{place.sop_class_uid}"},
        "subset": None if segment is None else [str(segment)],
    }
    return _entry(
        {
            "resourceType": "ImagingSelection",
            "identifier": [
                _own(context.report_uid, stated.tracking_uid, "place", place.sop_instance_uid, str(segment)),
                _uid(context.report_uid),
            ],
            "status": "available",
            "subject": context.shared.get("subject"),
            "code": _concept(codes.DCM.OfInterest),
            "studyUid": str(report.StudyInstanceUID),
            "derivedFrom": context.shared["derivedFrom"],
            "seriesUid": _series_of(report, place.sop_instance_uid),
            "instance": [_given(instance)],
        }
    )


def _series_of(report: Dataset, sop_instance_uid: str) -> str | None:
    """Return the series of an object that the report has as evidence."""
    return next(
        (
            str(series.SeriesInstanceUID)
            for study in report.get("CurrentRequestedProcedureEvidenceSequence", ())
            for series in study.ReferencedSeriesSequence
            for reference in series.ReferencedSOPSequence
            if str(reference.ReferencedSOPInstanceUID) == sop_instance_uid
        ),
        None,
    )


def _entry(resource: Resource) -> Resource:
    """Create a resource where none has its first identifier."""
    identifier = resource["identifier"][0]
    token = quote(f"{identifier['system']}|{identifier['value']}", safe="")
    kind = resource["resourceType"]
    return {
        "fullUrl": f"urn:uuid:{uuid.uuid5(_NAMESPACE, token)}",
        "resource": _given(resource),
        "request": {"method": "POST", "url": kind, "ifNoneExist": f"identifier={token}"},
    }


def _provenance(report: Dataset, target: str, device: str) -> Resource:
    """Provenance has no identifier, so its id follows from the report."""
    key = str(uuid.uuid5(_NAMESPACE, f"provenance {report.SOPInstanceUID}"))
    resource = {
        "resourceType": "Provenance",
        "id": key,
        "target": [{"reference": target}],
        "recorded": _time(report, "Content"),
        "agent": [{"who": {"reference": device}}],
        "entity": [
            {"role": "source", "what": _study(report)},
            {"role": "source", "what": {"identifier": _uid(str(report.SOPInstanceUID)), "display": "DICOM SR"}},
        ],
    }
    request = {"method": "PUT", "url": f"Provenance/{key}"}
    return {"fullUrl": f"urn:uuid:{key}", "resource": resource, "request": request}


def _patient(report: Dataset) -> Resource | None:
    number, issuer = str(report.get("PatientID") or ""), str(report.get("IssuerOfPatientID") or "")
    identifier = _given({"value": number, "assigner": {"display": issuer} if issuer else None})
    return {"type": "Patient", "identifier": identifier} if number else None


def _study(report: Dataset) -> Resource:
    return {"type": "ImagingStudy", "identifier": _uid(str(report.StudyInstanceUID))}


def _orders(report: Dataset) -> list[Resource] | None:
    accession = str(report.get("AccessionNumber") or "")
    kind = _concept_of(f"{_TERMINOLOGY}/v2-0203", "ACSN")
    return [{"type": "ServiceRequest", "identifier": {"type": kind, "value": accession}}] if accession else None


def _own(*parts: str) -> Resource:
    """An identifier of this resource alone."""
    return {"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{uuid.uuid5(_NAMESPACE, repr(parts))}"}


def _uid(uid: str) -> Resource:
    return {"system": DICOM_UID, "value": f"urn:oid:{uid}"}


def _components(judged: dict[Code, Code]) -> list[Resource] | None:
    return [{"code": _concept(k), "valueCodeableConcept": _concept(v)} for k, v in judged.items()] or None


def _quantity(measured: MeasuredValue) -> Resource:
    unit, number = measured.unit, measured.number
    value = float(number) if "." in number else int(number)
    return {"value": value, "unit": unit.meaning, "system": _SYSTEMS["UCUM"], "code": unit.value}


def _concept(code: Code) -> Resource:
    scheme = code.scheme_designator
    system = _SYSTEMS.get(scheme, f"urn:dicom:coding-scheme:{scheme}")
    return {"coding": [{"system": system, "code": code.value, "display": code.meaning}], "text": code.meaning}


def _concept_of(system: str, code: str) -> Resource:
    return {"coding": [{"system": system, "code": code}]}


def _time(report: Dataset, which: str) -> str | None:
    """A moment with its zone: that of the report, or of this machine where the report has local times."""
    date, time = str(report.get(f"{which}Date") or ""), str(report.get(f"{which}Time") or "").partition(".")[0]
    zone = str(report.get("TimezoneOffsetFromUTC") or "")
    try:
        if not time:
            return datetime.strptime(date, "%Y%m%d").date().isoformat()  # noqa: DTZ007 - a day has no zone
        moment = datetime.strptime(f"{date}{time:0<6}{zone}", f"%Y%m%d%H%M%S{'%z' if zone else ''}")  # noqa: DTZ007
    except ValueError:
        return None
    return (moment if zone else moment.astimezone()).isoformat()


def _given(resource: Resource) -> Resource:
    return {key: value for key, value in resource.items() if value is not None}
