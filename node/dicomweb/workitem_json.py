"""Workitems as DICOM JSON, with what their images say of patient and order."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from pydicom.datadict import dictionary_VR, tag_for_keyword
from starlette.responses import Response

from node.config import Config
from node.dicomweb.addresses import Addresses
from node.dicomweb.object_reader import ObjectReader
from node.ledger.workitem_progress import WorkitemProgress, input_images, outputs_of, started_at
from node.workitems.attributes import WorkitemDetails, attributes_of

OF_PATIENT = ("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex")
_OF_ORDER = "AccessionNumber"
Values = dict[str, Any]


class WorkitemJson:
    """Makes the data sets of workitems. Names of patients are in no table of the node: they are read from the files."""

    def __init__(self, config: Config, engine: sa.Engine, reader: ObjectReader) -> None:
        self._config = config
        self._engine = engine
        self._reader = reader

    def brief(self, uid: str, of: WorkitemProgress) -> Values:
        """Return a workitem without its instances, and without patient and order."""
        return dict(attributes_of(uid, of, self._config).to_json_dict())

    def whole(self, uid: str, of: WorkitemProgress, addresses: Addresses) -> Values:
        """Return a workitem with everything that is known of it."""
        with self._engine.connect() as connection:
            details = WorkitemDetails(
                images=input_images(connection, of.study_instance_uid, of.series_instance_uid),
                outputs=[] if of.job is None else outputs_of(connection, of.job),
                started_at=None if of.job is None else started_at(connection, of.job),
                retrieve_url=addresses.series,
            )
        values = dict(attributes_of(uid, of, self._config, details).to_json_dict())
        return {**values, **self.of_images([of])[0]}

    def of_images(self, items: Sequence[WorkitemProgress]) -> list[Values]:
        """Return what the first image of each says of patient and order; empty attributes where there is none."""
        with self._engine.connect() as connection:
            firsts = [input_images(connection, of.study_instance_uid, of.series_instance_uid, 1) for of in items]
        read = iter(self._reader.chosen([image for of in firsts for image in of], (*OF_PATIENT, _OF_ORDER)))
        return [
            _of_image(of.study_instance_uid, next(read) if first else {})
            for of, first in zip(items, firsts, strict=True)
        ]

    @staticmethod
    def response(
        content: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Return data sets as they are sent."""
        return Response(json.dumps(content), status, headers, media_type="application/dicom+json")


def _of_image(study: str, read: Mapping[str, Any]) -> Values:
    values: Values = {_tag(keyword): read.get(_tag(keyword), {"vr": dictionary_VR(keyword)}) for keyword in OF_PATIENT}
    values["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    if "Value" in read.get(_tag(_OF_ORDER), {}):
        order = {_tag("StudyInstanceUID"): {"vr": "UI", "Value": [study]}, _tag(_OF_ORDER): read[_tag(_OF_ORDER)]}
        values[_tag("ReferencedRequestSequence")] = {"vr": "SQ", "Value": [order]}
    return values


def _tag(keyword: str) -> str:
    return f"{tag_for_keyword(keyword):08X}"
