"""Reads results back from the archive: draws every one of them and compares them with what the phantoms contain."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import highdicom
import numpy as np
from PIL.Image import Image
from pydicom.dataset import Dataset
from scipy import ndimage

from node.demo.images import TrueLesion, Truth
from node.demo.pacs import HeldSeries, Pacs
from node.demo.pictures import comparison, overlay
from node.demo.report import measurements
from node.demo.shapes import Point


@dataclass(frozen=True)
class Region:
    """One connected region of a SEG: ``centre`` of mass in LPS mm."""

    label: str
    centre: Point
    volume_ml: float


@dataclass(frozen=True)
class Comparison:
    """A lesion of a phantom and the region of a SEG that lies on it, if any."""

    lesion: TrueLesion
    found: Region | None
    distance_mm: float
    """Between the centres; infinite when nothing was found."""


def draw_all(pacs: Pacs, folder: Path) -> list[Path]:
    """One PNG for every SEG and every derived series that the archive holds together with its source images."""
    folder.mkdir(parents=True, exist_ok=True)
    studies: dict[str, list[HeldSeries]] = defaultdict(list)
    for held in pacs.series():
        studies[held.study_instance_uid].append(held)
    written = []
    for number, study in enumerate(studies.values(), start=1):
        lines = measurements(
            pacs.fetch(uid) for held in study if held.modality == "SR" for uid in held.sop_instance_uids
        )
        for held in study:
            if held.modality == "SEG":
                for uid in held.sop_instance_uids:
                    seg = pacs.fetch(uid)
                    source = _series(study, str(seg.ReferencedSeriesSequence[0].SeriesInstanceUID))
                    if source is not None:
                        image = overlay(seg, _fetch(pacs, source), lines)
                        written.append(_save(image, folder, number, held))
            elif (source := _derived_from(pacs, study, held)) is not None:
                image = comparison(_fetch(pacs, source), _fetch(pacs, held))
                written.append(_save(image, folder, number, held))
    return written


def compare(pacs: Pacs, truth: Truth) -> tuple[list[Comparison], list[Region]]:
    """For each lesion of a phantom the nearest region of the SEGs of its study, when it lies within its diameter.

    The second part are the regions that lie on no lesion.
    """
    regions = [
        region
        for held in pacs.series()
        if held.study_instance_uid == truth.study_instance_uid and held.modality == "SEG"
        for uid in held.sop_instance_uids
        for region in regions_of(pacs.fetch(uid))
    ]
    others = list(regions)
    matches = []
    for lesion in truth.lesions:
        near = sorted(((math.dist(r.centre, lesion.centre), r) for r in regions), key=lambda pair: pair[0])
        hits = [pair for pair in near if pair[0] < max(lesion.diameter_mm, 10.0)]
        distance, region = hits[0] if hits else (math.inf, None)
        others = [other for other in others if all(other is not hit for _, hit in hits)]
        matches.append(Comparison(lesion, region, distance))
    return matches, others


def regions_of(seg: Dataset) -> Iterator[Region]:
    """Each segment of a SEG in its connected parts; masks in the SEG's own grid."""
    segmentation = highdicom.seg.Segmentation.from_dataset(seg)
    for entry in segmentation.SegmentSequence:
        number = int(entry.SegmentNumber)
        if number == 0:  # background of a LABELMAP
            continue
        volume = segmentation.get_volume(segment_numbers=[number], combine_segments=True, dtype=np.uint8)
        labels, count = ndimage.label(volume.array > 0)
        centres = ndimage.center_of_mass(labels > 0, labels, range(1, count + 1))
        sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        for centre, size in zip(centres, sizes, strict=True):
            x, y, z = volume.map_indices_to_reference(np.array([centre]))[0]
            volume_ml = float(size) * float(volume.voxel_volume) / 1000
            yield Region(str(entry.SegmentLabel), (float(x), float(y), float(z)), volume_ml)


def _fetch(pacs: Pacs, held: HeldSeries) -> list[Dataset]:
    return [pacs.fetch(uid) for uid in held.sop_instance_uids]


def _series(study: Iterable[HeldSeries], uid: str) -> HeldSeries | None:
    return next((held for held in study if held.series_instance_uid == uid), None)


def _derived_from(pacs: Pacs, study: Sequence[HeldSeries], held: HeldSeries) -> HeldSeries | None:
    """The series of the study that a derived series was made of; ``None`` for an acquired one."""
    if held.modality in ("SEG", "SR") or len(held.sop_instance_uids) < 2:
        return None
    first = pacs.fetch(held.sop_instance_uids[0])
    if "ImagePositionPatient" not in first:  # a picture, not a volume
        return None
    sources = {str(item.ReferencedSOPInstanceUID) for item in first.get("SourceImageSequence", [])}
    return next((other for other in study if other is not held and sources & set(other.sop_instance_uids)), None)


def _save(image: Image, folder: Path, number: int, held: HeldSeries) -> Path:
    words = re.sub(r"[^a-z0-9]+", "-", f"{held.modality} {held.description}".lower()).strip("-")
    path = folder / f"study{number}-{words}.png"
    image.save(path)
    return path
