"""QIDO-RS (PS3.18 10.6): studies, their series, and their objects."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import sqlalchemy as sa
from pydicom.datadict import dictionary_VR, tag_for_keyword
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from node.dicomweb.addresses import Addresses
from node.dicomweb.authorization import Client
from node.dicomweb.object_reader import ObjectReader
from node.dicomweb.search_keys import SearchKeys
from node.errors import InputError
from node.ledger.held_objects import HeldObject, objects_of_studies, objects_of_study
from node.ledger.study_progress import latest_studies

MOST_STUDIES = 5000
"""Latest studies among which is searched."""
_AT_ONCE = 50
"""Studies that are read together."""
_OF_STUDY = (
    "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "PatientName", "PatientID",
    "PatientBirthDate", "PatientSex", "StudyID", "StudyDescription",
)  # fmt: skip
_OF_SERIES = (
    "Modality", "SeriesDescription", "SeriesNumber", "BodyPartExamined", "Laterality", "SeriesDate", "SeriesTime",
    "PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime",
)  # fmt: skip
_OF_OBJECT = ("InstanceNumber", "Rows", "Columns", "BitsAllocated", "NumberOfFrames")
READ = (*_OF_STUDY, *_OF_SERIES)
"""Attributes that are read of one object of each series."""
STUDY_KEYS = ("StudyInstanceUID", "ModalitiesInStudy", *_OF_STUDY)
_SERIES_KEYS = ("StudyInstanceUID", "SeriesInstanceUID", *_OF_SERIES)
_OBJECT_KEYS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", *_OF_OBJECT)
Values = Mapping[str, Any]


class SearchService:
    """Answers searches."""

    def __init__(self, engine: sa.Engine, reader: ObjectReader, link_base: str) -> None:
        self._engine = engine
        self._reader = reader
        self._link_base = link_base

    async def studies(self, request: Request, _client: Client) -> Response:
        """Search studies, the one with the latest image first."""
        return await run_in_threadpool(self._studies, request)

    async def series(self, request: Request, _client: Client) -> Response:
        """Search the series of a study."""
        return await run_in_threadpool(self._series, request)

    async def objects(self, request: Request, _client: Client) -> Response:
        """Search the objects of a study or of a series."""
        return await run_in_threadpool(self._objects, request)

    def _studies(self, request: Request) -> Response:
        keys = _keys(request, STUDY_KEYS)
        with self._engine.connect() as connection:
            if uids := keys.wanted.get("StudyInstanceUID"):
                candidates, is_all = list(dict.fromkeys(uids)), True
            else:
                candidates = latest_studies(connection, MOST_STUDIES + 1)
                is_all = len(candidates) <= MOST_STUDIES
            addresses = Addresses.of(request, self._link_base)
            studies = self._matching(connection, candidates[:MOST_STUDIES], keys, addresses)
            page = list(islice(studies, keys.offset, keys.offset + keys.limit + 1))
        warnings = []
        if not is_all and len(page) <= keys.limit:
            warnings.append(f"Only the latest {MOST_STUDIES} studies were searched")
        return _answer(request, page, keys, warnings)

    def _matching(
        self, connection: sa.Connection, candidates: Sequence[str], keys: SearchKeys, addresses: Addresses
    ) -> Iterator[Values]:
        for start in range(0, len(candidates), _AT_ONCE):
            objects = objects_of_studies(connection, candidates[start : start + _AT_ONCE])
            firsts = {study: _first_of_series(of_study) for study, of_study in objects.items()}
            # The reader gets all series of these studies at once; a study has the attributes of its first one.
            read = iter(self._reader.chosen([instance for of_study in firsts.values() for instance in of_study], READ))
            for study, of_study in firsts.items():
                values = [next(read) for _ in of_study]
                if values:
                    result = _study(study, values, objects[study], addresses)
                    if keys.matches(result):
                        yield result

    def _series(self, request: Request) -> Response:
        keys, study = _keys(request, _SERIES_KEYS), request.path_params["study"]
        with self._engine.connect() as connection:
            objects = objects_of_study(connection, study)
        _refuse_unknown(objects)
        addresses = Addresses.of(request, self._link_base)
        firsts, counts = _first_of_series(objects), Counter(instance.series_instance_uid for instance in objects)
        results = []
        for first, read in zip(firsts, self._reader.chosen(firsts, READ), strict=True):
            uid = first.series_instance_uid
            result = {
                **_only(read, _OF_SERIES),
                **_values(StudyInstanceUID=study, SeriesInstanceUID=uid),
                **_values(NumberOfSeriesRelatedInstances=counts[uid]),
                **_values(RetrieveURL=addresses.series(study, uid)),
            }
            if keys.matches(result):
                results.append(result)
        return _answer(request, results[keys.offset :], keys)

    def _objects(self, request: Request) -> Response:
        keys, path = _keys(request, _OBJECT_KEYS), request.path_params
        with self._engine.connect() as connection:
            objects = objects_of_study(connection, path["study"], path.get("series", ""))
        _refuse_unknown(objects)
        addresses, results = Addresses.of(request, self._link_base), []
        for instance, read in zip(objects, self._reader.chosen(objects, _OF_OBJECT), strict=True):
            url = addresses.instance(
                instance.study_instance_uid, instance.series_instance_uid, instance.sop_instance_uid
            )
            result = {
                **_only(read, _OF_OBJECT),
                **_values(StudyInstanceUID=instance.study_instance_uid, SeriesInstanceUID=instance.series_instance_uid),
                **_values(SOPClassUID=instance.sop_class_uid, SOPInstanceUID=instance.sop_instance_uid),
                **_values(RetrieveURL=url, InstanceAvailability="ONLINE"),
            }
            if keys.matches(result):
                results.append(result)
        return _answer(request, results[keys.offset :], keys)


def _study(study: str, series: Sequence[Values], objects: Sequence[HeldObject], addresses: Addresses) -> Values:
    modalities = sorted({value for read in series for value in read.get("00080060", {}).get("Value", ())})
    numbers = {
        "NumberOfStudyRelatedSeries": len({instance.series_instance_uid for instance in objects}),
        "NumberOfStudyRelatedInstances": len(objects),
    }
    return {
        **_only(series[0], _OF_STUDY),
        **_values(StudyInstanceUID=study, RetrieveURL=addresses.study(study), InstanceAvailability="ONLINE", **numbers),
        f"{tag_for_keyword('ModalitiesInStudy'):08X}": {"vr": "CS", "Value": modalities},
    }


def _first_of_series(objects: Sequence[HeldObject]) -> list[HeldObject]:
    return list({instance.series_instance_uid: instance for instance in reversed(objects)}.values())[::-1]


def _only(values: Values, keywords: Sequence[str]) -> dict[str, Any]:
    """These attributes; those that the object lacks are empty."""
    tags = {f"{tag_for_keyword(keyword):08X}": dictionary_VR(keyword) for keyword in keywords}
    text = {"00080005": {"vr": "CS", "Value": ["ISO_IR 192"]}}
    return {**text, **{tag: values.get(tag, {"vr": vr}) for tag, vr in tags.items()}}


def _values(**values: str | int) -> dict[str, Any]:
    return {
        f"{tag_for_keyword(keyword):08X}": {"vr": dictionary_VR(keyword), "Value": [value]}
        for keyword, value in values.items()
    }


def _keys(request: Request, known: Sequence[str]) -> SearchKeys:
    try:
        return SearchKeys.of(request.query_params.multi_items(), known)
    except InputError as error:
        raise HTTPException(400, f"{error}.") from error


def _refuse_unknown(objects: Sequence[HeldObject]) -> None:
    if not objects:
        raise HTTPException(404, "This node holds no such objects.")


def _answer(request: Request, results: Sequence[Values], keys: SearchKeys, warnings: Sequence[str] = ()) -> Response:
    """The first ``keys.limit`` of ``results``, of which one more says that there are others."""
    remarks = list(warnings)
    if len(results) > keys.limit:
        remarks.append("There are more results; ask for them with offset")
    if request.query_params.get("fuzzymatching") == "true":
        remarks.append("The fuzzymatching parameter is not supported. Only literal matching has been performed")
    headers = {"warning": ", ".join(f'299 ainode "{text}"' for text in remarks)} if remarks else None
    return Response(json.dumps(results[: keys.limit]), 200, headers, media_type="application/dicom+json")
