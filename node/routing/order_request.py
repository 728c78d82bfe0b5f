"""What the header of an image says of its order: the numbers by which orders are matched. Pure."""

from __future__ import annotations

from pydicom import Dataset

from node.ledger.order_keys import OrderKeys
from node.studies.attribute_values import values_of

_LONGEST = 255


def request_of(header: Dataset) -> OrderKeys:
    """Return the numbers of the order and the patient ID, each with its issuer as far as it is stated."""
    accession = "IssuerOfAccessionNumberSequence"
    patient = "IssuerOfPatientIDQualifiersSequence.UniversalEntityID"
    return OrderKeys(
        study_instance_uid=_first(header, "StudyInstanceUID"),
        accession=_first(header, "AccessionNumber") or _first(header, "RequestAttributesSequence.AccessionNumber"),
        accession_issuer=_issuer(header, f"{accession}.LocalNamespaceEntityID", f"{accession}.UniversalEntityID"),
        placer=_first(header, "PlacerOrderNumberImagingServiceRequest"),
        filler=_first(header, "FillerOrderNumberImagingServiceRequest"),
        patient_id=_first(header, "PatientID"),
        patient_issuer=_issuer(header, "IssuerOfPatientID", patient),
    )


def _issuer(header: Dataset, name: str, universal: str) -> str:
    return "&".join(_first(header, path).replace("&", " ") for path in (name, universal)).rstrip("&")


def _first(header: Dataset, path: str) -> str:
    return next((value[:_LONGEST] for value in values_of(header, path) if value), "")
