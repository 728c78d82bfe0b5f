"""DICOM objects that a container made, read as findings: Segmentation and Structured Report (TID 1500).

Their identity, UIDs and headers are not taken over: the node encodes what they say again. They only have to be about
the same study and patient.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.multival import MultiValue

from node.errors import PipelineError
from node.pipeline import Assertion, Code, Measurement, MeasurementGroup, Segment, Volume
from node.pipeline.assertion import presence_of
from node.result_parts import GROUP, LIBRARY, concept_of

_IDENTITY = ("PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex")
_FINDING, _SITE, _SIDE, _TRACKING = (
    "121071",
    ("363698007", "G-C0E3"),
    ("272741003", "G-C171"),
    "112039",
)
"""Concepts of TID 1500 and 1501 (PS3.16)."""


def text_of(value: object) -> str:
    """A text of an element; where a backslash has made several values of one, a slash stands between them."""
    return "" if value is None else "/".join(map(str, value)) if isinstance(value, MultiValue) else str(value)


def check_identity(dataset: Dataset, source: Dataset, name: str) -> None:
    """Raise ``PipelineError`` for an object about another study, patient or series than that of ``source``."""
    study = str(dataset.get("StudyInstanceUID", ""))
    if study != str(source.StudyInstanceUID):
        raise PipelineError(f"{name} is about study {study or 'none'}, the images are of {source.StudyInstanceUID}")
    for keyword in _IDENTITY:
        theirs, ours = str(dataset.get(keyword) or ""), str(source.get(keyword) or "")
        if theirs and ours and theirs != ours:
            raise PipelineError(f"{name} contradicts the images in {keyword}: it may be about another patient")
    referenced = {str(series.SeriesInstanceUID) for series in dataset.get("ReferencedSeriesSequence", ())}
    if referenced and str(source.SeriesInstanceUID) not in referenced:
        raise PipelineError(f"{name} refers to series {', '.join(sorted(referenced))}, not to the one that it got")


def segments_of(path: Path, images: Volume) -> Iterator[Segment]:
    """The segments of a Segmentation, each with the codes that it states."""
    segmentation = hd.seg.segread(path)
    frame = str(segmentation.get("FrameOfReferenceUID", ""))
    if frame != images.frame_of_reference_uid:
        raise PipelineError(f"{path.name} lies in frame of reference {frame or 'none'}, not in that of the images")
    for number in segmentation.segment_numbers:
        about = segmentation.get_segment_description(number)
        volume = segmentation.get_volume(segment_numbers=[number], combine_segments=True, relabel=True)
        category, kind = about.segmented_property_category, about.segmented_property_type
        yield Segment(
            label=text_of(about.SegmentLabel)[:64],
            mask=Volume(
                np.asarray(volume.array, np.uint8),
                volume.affine,
                coordinate_system="PATIENT",
                frame_of_reference_uid=images.frame_of_reference_uid,
            ),
            category=Code(category.value, category.scheme_designator, category.meaning),
            type=Code(kind.value, kind.scheme_designator, kind.meaning),
        )


class ReportContent:
    """Measurements and judgements of a report: of the study, and of groups."""

    def __init__(self, path: Path) -> None:
        self.measurements: list[Measurement] = []
        self.groups: list[MeasurementGroup] = []
        self.assertions: list[Assertion] = []
        self._walk(pydicom.dcmread(path).get("ContentSequence", ()), path.stem)

    def _walk(self, items: Sequence[Dataset], name: str) -> None:
        for item in items:
            if concept_of(item) == GROUP:
                self._add_group(item, f"{name} {len(self.groups) + 1}"[-64:])
            elif item.get("ValueType") == "NUM":
                self.measurements += _measurements([item])
            elif concept_of(item) != LIBRARY:
                self._walk(item.get("ContentSequence", ()), name)

    def _add_group(self, group: Dataset, name: str) -> None:
        items = [*group.get("ContentSequence", ())]
        coded = {concept_of(item): item for item in items if item.get("ValueType") == "CODE"}
        finding = coded.pop(_FINDING, None)
        site = next((coded.pop(concept) for concept in _SITE if concept in coded), None)
        side = next((coded.pop(concept) for concept in _SIDE if concept in coded), None)
        label = next((text_of(item.TextValue) for item in items if concept_of(item) == _TRACKING), name)
        judged = {_code(item.ConceptNameCodeSequence[0]): _value(item) for item in coded.values()}
        presences = {named: presence for named, value in judged.items() if (presence := presence_of(value)) is not None}
        self.assertions += [Assertion(finding=named, presence=presence) for named, presence in presences.items()]
        evaluations = {named: value for named, value in judged.items() if named not in presences}
        measurements = tuple(_measurements(items))
        if finding is not None and (measurements or evaluations):
            self.groups.append(
                MeasurementGroup(
                    label=label[:64],
                    finding=_value(finding),
                    site=None if site is None else _value(site),
                    laterality=None if side is None else _value(side),
                    measurements=measurements,
                    evaluations=evaluations,
                )
            )


def _measurements(items: Sequence[Dataset]) -> Iterator[Measurement]:
    for item in items:
        if item.get("ValueType") == "NUM" and (values := item.get("MeasuredValueSequence")):
            unit = values[0].MeasurementUnitsCodeSequence[0]
            yield Measurement(
                name=_code(item.ConceptNameCodeSequence[0]), value=float(values[0].NumericValue), unit=_code(unit)
            )


def _value(item: Dataset) -> Code:
    return _code(item.ConceptCodeSequence[0])


def _code(item: Any) -> Code:
    return Code(str(item.CodeValue), str(item.CodingSchemeDesignator), text_of(item.CodeMeaning))
