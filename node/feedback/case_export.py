"""A verified case as NIfTI: the volume and a map of its lesions, without a header of anybody. Runs confined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from node.errors import InputError
from node.feedback.truth import TruthPart
from node.studies.pydicom_errors import UNREADABLE

if TYPE_CHECKING:  # decoders are imported in the confined process only
    import numpy as np
    from numpy.typing import NDArray
    from pydicom import Dataset

    from node.feedback.truth_masks import TruthMasks
    from node.studies.source import SourceSeries

_INT16 = 32767


@dataclass(frozen=True, kw_only=True)
class ExportFiles:
    """A case, and where it is written."""

    images: tuple[Path, ...]
    parts: tuple[TruthPart, ...]
    labels: Mapping[str, int]
    """Value of the map by property type ("code scheme"); lesions of another type count as this one where it is one."""
    image: Path
    map: Path
    """Names of the files, ``.nii.gz``."""


@dataclass(frozen=True, kw_only=True)
class ExportedCase:
    """What was written."""

    patient: str
    """Digest of the Patient ID."""
    modality: str
    scanner: str
    volumes_mm3: tuple[float, ...]
    """Of the lesions."""
    overlapping: int
    """Voxels of several lesions: the last one has them."""


def segment_types(paths: Sequence[Path]) -> dict[str, str]:
    """Property types of the lesions in segmentations of the node: "code scheme" -> meaning."""
    from node.feedback.segmentation_reader import is_anatomy, type_code
    from node.studies.header import read_header

    types = {}
    for path in paths:
        for item in read_header(path).get("SegmentSequence") or ():
            codes = item.get("SegmentedPropertyTypeCodeSequence")
            if codes and not is_anatomy(item):
                types[" ".join(type_code(item))] = str(codes[0].get("CodeMeaning") or "lesion")[:64]
    return types


def export_case(files: ExportFiles) -> ExportedCase:
    """Write both files.

    Raises ``InputError`` when the case cannot be read, has no regular grid, or may show text of its patient.
    """
    import nibabel
    import numpy as np

    from node.feedback.truth_masks import patient_digest, truth_masks
    from node.pipeline import Unsuitable
    from node.studies.segment_masks import voxel_mm3
    from node.studies.source import SourceSeries

    try:
        source = SourceSeries.read(files.images)
        _refuse_text(source.datasets)
        truth = truth_masks(files.parts, source)
        volume = source.volume()
        labelled, overlapping = _label_map(source, truth, volume.spatial_shape, files.labels)
        affine = _nifti_affine(np.asarray(volume.affine, float))
        values = np.asarray(volume.array)
        whole = bool((values == np.rint(values)).all()) and float(np.abs(values).max(initial=0.0)) <= _INT16
        for array, path in ((values.astype(np.int16 if whole else np.float32), files.image), (labelled, files.map)):
            picture = nibabel.Nifti1Image(array.transpose(2, 1, 0), affine)
            picture.header.set_xyzt_units("mm")
            nibabel.save(picture, path)
        voxel = voxel_mm3(source)
        return ExportedCase(
            patient=patient_digest(source.datasets[0]),
            modality=source.modality,
            scanner=source.scanner,
            volumes_mm3=tuple(mask.voxels * voxel for mask in truth.masks.values()),
            overlapping=overlapping,
        )
    except Unsuitable as unsuitable:
        raise InputError(str(unsuitable)) from unsuitable
    except UNREADABLE as error:
        raise InputError(f"the case cannot be understood ({type(error).__name__}: {error})") from error


def _refuse_text(headers: Sequence[Dataset]) -> None:
    """Raise ``InputError`` where pixels may show text (PS3.3 C.7.6.1.1.1, C.8.6.1)."""
    for header in headers:
        if str(header.get("BurnedInAnnotation") or "NO").upper() != "NO":
            raise InputError("Burned In Annotation is YES: its pixels may name the patient")
        if header.get("ConversionType") or "SECONDARY" in list(header.get("ImageType") or ())[1:2]:
            raise InputError("its images are secondary: their pixels may name the patient")


def _label_map(
    source: SourceSeries, truth: TruthMasks, shape: tuple[int, ...], labels: Mapping[str, int]
) -> tuple[NDArray[np.uint8], int]:
    import numpy as np

    from node.feedback.segmentation_reader import type_code
    from node.studies.segment_masks import place_in_grid

    labelled, overlapping = np.zeros(shape, np.uint8), 0
    for number, mask in truth.masks.items():
        code = " ".join(type_code(truth.items[number]))
        if code not in labels and len(labels) > 1:
            raise InputError(f"{truth.label(number)!r} is of a type that the pipeline does not report")
        value = labels.get(code, next(iter(labels.values())))
        for place, pixels in place_in_grid(mask, source):
            part = labelled[place]
            overlapping += int(np.count_nonzero(part[pixels]))
            part[pixels] = value
    return labelled, overlapping


def _nifti_affine(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """From (slice, row, column) -> LPS to (column, row, slice) -> RAS."""
    import numpy as np

    turned = affine[:, [2, 1, 0, 3]]
    return np.asarray(np.diag([-1.0, -1.0, 1.0, 1.0]) @ turned)
