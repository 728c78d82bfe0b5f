"""What a model that runs elsewhere returned, as ``Findings``."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path
from typing import Any

import pydicom
from pydicom import Dataset

from node.errors import PipelineError
from node.pipeline import (
    Assertion,
    Code,
    Findings,
    Measurement,
    MeasurementGroup,
    Picture,
    Segment,
    Unsuitable,
    Volume,
    sentence,
)
from node.pipeline.picture import MOST_PICTURES
from node.result_parts import is_report, is_segmentation
from pipelines.container.captures import is_capture, picture_of
from pipelines.container.dicom_results import ReportContent, check_identity, segments_of
from pipelines.container.nifti import misplaced, read_labels
from pipelines.container.options import ResultOptions, code
from pipelines.container.stated_algorithms import stated_algorithms
from pipelines.structures import findings_of, segment_of

RESULT = "result.json"
_MOST_JSON, _MOST_FILE, _MOST_FILES = 1 << 24, 8 << 30, 10_000
_LONGEST_TEXT = 400


@dataclass(frozen=True, kw_only=True)
class Results:
    """Files that a container left, read with bounds."""

    folder: Path
    options: ResultOptions
    images: Volume
    """Whose voxels masks lie on."""
    source: Dataset | None
    """Header of the first image, for objects of DICOM."""
    pictures: bool = False
    """Whether secondary captures are taken over."""

    def findings(self) -> Findings:
        """Raises ``PipelineError`` when there is nothing, or something about other images, ``Unsuitable`` as told."""
        files = plain_files(self.folder)
        document = self._json(files)
        maps = [path for path in files if path.name.endswith((".nii", ".nii.gz"))]
        objects = [(path, header) for path in files if (header := _header(path)) is not None]
        if not maps and not objects and document is None:
            names = ", ".join(path.name for path in files[:5]) or "nothing"
            raise PipelineError(f"the container wrote {names}; wanted is a label map, DICOM SEG, SR or {RESULT}")
        findings = self._outlined(maps, objects)
        findings = self._reported(findings, objects)
        findings = with_values(findings, self.options, document or {})
        if named := stated_algorithms(header for _, header in objects):
            remark = sentence("Algorithm as the result itself states it: {names}.", names=", ".join(named))
            findings = replace(findings, remarks=(*findings.remarks, remark))
        others = [(path, header) for path, header in objects if not is_segmentation(header) and not is_report(header)]
        captures = [path for path, header in others if self.pictures and is_capture(header)][:MOST_PICTURES]
        if captures:
            remark = sentence("The container made the pictures of this result; what they show was not checked.")
            remarks = (*findings.remarks, remark)
            findings = replace(findings, pictures=self._pictures(captures), remarks=remarks)
        left = [header for path, header in others if path not in captures]
        if left:
            kinds = ", ".join(sorted({pydicom.uid.UID(str(header.get("SOPClassUID", ""))).name for header in left}))
            remark = sentence(
                "The container also made {number} objects of {kinds}, which are not part of this result.",
                number=len(left),
                kinds=kinds,
            )
            findings = replace(findings, remarks=(*findings.remarks, remark))
        return findings

    def _pictures(self, captures: list[Path]) -> tuple[Picture, ...]:
        pictures = []
        for number, path in enumerate(captures, 1):
            check_identity(self._header_of(path), self._source, path.name)
            try:
                pictures.append(picture_of(path, number))
            except Exception as error:  # the reader meets whatever a stranger wrote
                raise PipelineError(f"{path.name} cannot be decoded: {type(error).__name__}: {error}") from error
        return tuple(pictures)

    def _json(self, files: list[Path]) -> Mapping[str, Any] | None:
        path = next((path for path in files if path.name == RESULT), None)
        if path is None:
            return None
        if path.stat().st_size > _MOST_JSON:
            raise PipelineError(f"{RESULT} has {path.stat().st_size} bytes, at most {_MOST_JSON} are read")
        try:
            document = json.loads(path.read_bytes())
        except ValueError as error:
            raise PipelineError(f"{RESULT} cannot be read: {error}") from error
        return document if isinstance(document, Mapping) else {}

    def _outlined(self, maps: list[Path], objects: list[tuple[Path, Dataset]]) -> Findings:
        segmentations = [path for path, header in objects if is_segmentation(header)]
        if not maps and not segmentations:
            if self.options.labels and not objects:
                raise PipelineError("the container wrote no label map (*.nii, *.nii.gz) although labels are configured")
            return Findings(looked_for=())
        if maps:
            if len(maps) > 1 or segmentations:
                names = ", ".join(path.name for path in (*maps, *segmentations))
                raise PipelineError(f"the container wrote several masks ({names}); return one label map or one SEG")
            labels = read_labels(maps[0], self.images, any_grid=self.options.grid == "any")
            return labelled(labels, self.options)
        outlined: dict[str, Segment] = {}
        for path in segmentations:
            check_identity(self._header_of(path), self._source, path.name)
            try:
                segments = [*segments_of(path, self.images)]
            except PipelineError:
                raise
            except Exception as error:  # the reader meets whatever a stranger wrote
                raise PipelineError(f"{path.name} cannot be read as a SEG: {type(error).__name__}: {error}") from error
            for segment in segments:
                if fault := misplaced(segment.mask, self.images, any_grid=True):
                    raise PipelineError(f"{path.name}: {segment.label} {fault}")
                outlined[segment.label] = self._coded(segment)
        return findings_of(outlined, [name for name in self.options.looked_for if name in outlined])

    def _coded(self, segment: Segment) -> Segment:
        other = self.options.structures.get(segment.label)
        return segment if other is None else replace(segment, type=Code(*other))

    def _reported(self, findings: Findings, objects: list[tuple[Path, Dataset]]) -> Findings:
        for path, header in objects:
            if not is_report(header):
                continue
            check_identity(header, self._source, path.name)
            try:
                content = ReportContent(path)
            except Exception as error:  # the reader meets whatever a stranger wrote
                raise PipelineError(
                    f"{path.name} cannot be read as a report: {type(error).__name__}: {error}"
                ) from error
            findings = _merged(findings, content)
        return findings

    @property
    def _source(self) -> Dataset:
        if self.source is None:
            raise PipelineError("the container returned DICOM objects although it got none")
        return self.source

    def _header_of(self, path: Path) -> Dataset:
        return pydicom.dcmread(path, stop_before_pixels=True)


def _merged(findings: Findings, content: ReportContent) -> Findings:
    """With what a report says. A group that is tracked by the label of a segment is about that segment."""
    groups: list[MeasurementGroup] = []
    measured: dict[str, list[Measurement]] = {segment.label: [] for segment in findings.all_segments}
    taken = {*measured, *(group.label for group in findings.groups)}
    for group in content.groups:
        if group.label in measured:
            measured[group.label] += group.measurements
            continue
        label = next(name for name in _numbered(group.label) if name not in taken)
        taken.add(label)
        groups.append(replace(group, label=label))
    return replace(
        findings,
        lesions=tuple(
            replace(lesion, measurements=_once(lesion.measurements, measured[lesion.segment.label]))
            for lesion in findings.lesions
        ),
        segments=tuple(
            replace(segment, measurements=_once(segment.measurements, measured[segment.label]))
            for segment in findings.segments
        ),
        measurements=_once(findings.measurements, content.measurements),
        groups=(*findings.groups, *groups),
        assertions=tuple(dict.fromkeys((*findings.assertions, *content.assertions))),
    )


def _once(*measurements: Iterable[Measurement]) -> tuple[Measurement, ...]:
    """Each quantity once, as it was stated first."""
    first: dict[tuple[Code, Code | None], Measurement] = {}
    for measurement in chain(*measurements):
        first.setdefault((measurement.name, measurement.derivation), measurement)
    return tuple(first.values())


def _numbered(label: str) -> Iterator[str]:
    yield label
    yield from (f"{label[:59]} {number}" for number in count(2))


def labelled(labels: Volume, options: ResultOptions) -> Findings:
    """Structures and lesions of a label map."""
    named = options.classes_of_labels
    outlined = {
        name: segment_of(labels, name, number, options.structures, value)
        for number, (value, name) in enumerate(named.items())
    }
    return findings_of(outlined, options.looked_for) if outlined else Findings()


def with_values(findings: Findings, options: ResultOptions, told: Mapping[str, Any]) -> Findings:
    """``findings`` with what ``result.json`` says. Raises ``PipelineError`` for what is missing, ``Unsuitable``."""
    if reason := _text(told, "unsuitable"):
        raise Unsuitable(reason)
    measurements = tuple(
        Measurement(
            name=code(measurement.name),
            value=_number(told, measurement.key),
            unit=Code(measurement.unit, "UCUM", measurement.unit),
        )
        for measurement in options.measurements
    )
    assertions = tuple(
        Assertion.at(
            code(class_value.finding),
            _number(told, class_value.key),
            present_from=class_value.present_from,
            absent_below=class_value.absent_below,
        )
        for class_value in options.classes
    )
    return replace(
        findings,
        measurements=(*findings.measurements, *measurements),
        assertions=(*findings.assertions, *assertions),
        partial=_text(told, "partial"),
    )


def plain_files(folder: Path) -> list[Path]:
    """Files below ``folder``, no links and nothing else that a stranger may have laid there."""
    paths: list[Path] = []
    for path in _walk(folder):
        status = path.lstat()
        if stat.S_ISREG(status.st_mode) and status.st_size <= _MOST_FILE:
            paths.append(path)
        if len(paths) > _MOST_FILES:
            raise PipelineError(f"the container wrote more than {_MOST_FILES} files")
    return sorted(paths)


def _walk(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder, followlinks=False):
        yield from (Path(place, name) for name in names)


def _header(path: Path) -> Dataset | None:
    try:
        with path.open("rb") as file:
            if file.read(132)[128:] != b"DICM":
                return None
        return pydicom.dcmread(path, stop_before_pixels=True)
    except Exception as error:  # the reader meets whatever a stranger wrote
        raise PipelineError(f"{path.name} cannot be read as DICOM: {type(error).__name__}: {error}") from error


def _at(told: Mapping[str, Any], key: str) -> Any:
    value: Any = told
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _number(told: Mapping[str, Any], key: str) -> float:
    value = _at(told, key)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise PipelineError(f"{RESULT} has no number {key!r}; the container has to state it for every series")
    return float(value)


def _text(told: Mapping[str, Any], key: str) -> str:
    value = told.get(key)
    return value[:_LONGEST_TEXT] if isinstance(value, str) else ""
