"""One encoding, measured in a process of its own: ``python -m node.bench.encode_task TOOL OBJECTS SEGMENTS FOLDER``.

The folder holds what ``prepare`` made. What is measured begins with the headers of the series and a label array in
memory, for reports and pictures with the masks of the findings, and ends with the bytes of the objects; for dcmqi it
is a whole run of its program on the same on disk.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from highdicom import UID, AlgorithmIdentificationSequence
from highdicom.seg import Segmentation, SegmentDescription
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian
from scipy import ndimage

from node.bench import instances
from node.pipeline import Algorithm, Findings, Lesion, Segment, Volume
from node.results.analysis import Analysis, outcome_of
from node.results.encode import encode
from node.results.identity import identity_tags
from node.studies.source import SourceSeries

Labels = NDArray[np.uint8]
LABELS = "labels.nrrd"


def prepare(folder: Path, shape: tuple[int, int, int], segments: int) -> None:
    """A CT series of ``shape`` (slices, rows, columns) and its labels for dcmqi: what is on disk before the clock."""
    import SimpleITK

    images = folder / "images"
    if not images.exists():
        images.mkdir(parents=True)
        image = dcmread(BytesIO(instances.ct().data), force=True)
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        slices, image.Rows, image.Columns = shape
        image.PixelData = image.PixelData[: shape[1] * shape[2] * 2]
        series = UID()
        image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = UID(), series, UID()
        for index in range(slices):
            image.SOPInstanceUID, image.InstanceNumber = UID(), index + 1
            image.ImagePositionPatient = [0, 0, index]
            image.save_as(images / f"{index:04d}.dcm", enforce_file_format=True)
    numbered = SimpleITK.GetImageFromArray(labels(shape, segments))
    numbered.SetSpacing((0.7, 0.7, 1.0))
    SimpleITK.WriteImage(numbered, folder / f"{segments}-{LABELS}", useCompression=False)
    code = {"CodeValue": "85756007", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Tissue"}
    described = [
        {
            "labelID": number,
            "SegmentLabel": f"Segment {number}",
            "SegmentDescription": f"Segment {number}",
            "SegmentAlgorithmType": "AUTOMATIC",
            "SegmentAlgorithmName": "bench",
            "SegmentedPropertyCategoryCodeSequence": code,
            "SegmentedPropertyTypeCodeSequence": code,
        }
        for number in range(1, segments + 1)
    ]
    (folder / f"{segments}-meta.json").write_text(json.dumps({"segmentAttributes": [described]}))


def labels(shape: tuple[int, int, int], segments: int) -> Labels:
    """Ellipsoids side by side, on nearly all slices: organs rather than lesions."""
    depth, height, width = shape
    y, x = np.ogrid[:height, :width]
    labelled = np.zeros(shape, np.uint8)
    for index, picture in enumerate(labelled):  # slice by slice: the peak of memory is to be that of the encoding
        across = 1 - ((index - depth / 2) / (0.47 * depth)) ** 2 - ((y - height / 2) / (0.39 * height)) ** 2
        for number in range(segments):
            centre, half = width * (number + 0.5) / segments, 0.45 * width / segments
            picture[((x - centre) / half) ** 2 < across] = number + 1
    return labelled


def _node(source: SourceSeries, numbered: Labels) -> int:
    return _encode(source, _masks(source, numbered), "seg")


def _encode(source: SourceSeries, masks: list[Volume], objects: str) -> int:
    """Bytes of the objects that ``encode`` makes."""
    segments = [
        Segment(label=f"Segment {number}", mask=mask, category=codes.SCT.Tissue, type=codes.SCT.Tissue)
        for number, mask in enumerate(masks, 1)
    ]
    lesions = [Lesion(segment=segment, finding=codes.SCT.Nodule, probability=0.5) for segment in segments]
    findings = Findings(segments=tuple(segments)) if objects == "seg" else Findings(lesions=tuple(lesions))
    analysis = Analysis(
        pipeline="bench",
        algorithm=Algorithm(name="bench", version="1"),
        generation=1,
        outcome=outcome_of(findings),
        findings=findings,
        analysed_at=datetime.now(UTC),
    )
    return sum(len(made.data) for made in encode(analysis, source, objects.split("+")))


def _masks(source: SourceSeries, numbered: Labels) -> list[Volume]:
    """Each label in its box, as pipelines return structures."""
    geometry = source.geometry
    masks = []
    for number, box in enumerate(ndimage.find_objects(numbered), 1):
        affine = geometry.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ [part.start for part in box]
        masks.append(Volume((numbered[box] == number).astype(np.uint8), affine, coordinate_system="PATIENT"))
    return masks


def _highdicom(source: SourceSeries, numbered: Labels) -> int:
    """The library as its documentation shows it."""
    algorithm = AlgorithmIdentificationSequence(name="bench", family=codes.DCM.ArtificialIntelligence, version="1")
    segments = [
        SegmentDescription(n, f"Segment {n}", codes.SCT.Tissue, codes.SCT.Tissue, "AUTOMATIC", algorithm)
        for n in range(1, int(numbered.max()) + 1)
    ]
    seg = Segmentation(
        list(source.datasets), numbered, "BINARY", segments, UID(), 1, UID(), 1, "bench", "bench", "1", "1"
    )
    buffer = BytesIO()
    seg.save_as(buffer, enforce_file_format=True)
    return len(buffer.getvalue())


def _dcmqi(folder: Path, segments: int) -> int:
    target = folder / "dcmqi.dcm"
    command: list[str | Path] = ["itkimage2segimage", "--inputImageList", folder / f"{segments}-{LABELS}"]
    command += ["--inputDICOMDirectory", folder / "images", "--inputMetadata", folder / f"{segments}-meta.json"]
    subprocess.run([*command, "--outputDICOM", target], check=True, capture_output=True)
    size = target.stat().st_size
    target.unlink()
    return size


_LIBRARIES: dict[str, Callable[[SourceSeries, Labels], int]] = {"node": _node, "highdicom": _highdicom}


def measure(tool: str, objects: str, segments: int, folder: Path) -> dict[str, Any]:
    """Seconds, CPU seconds, bytes, and the peak resident memory of the process that did it, in MB."""
    if tool == "dcmqi":
        who = resource.RUSAGE_CHILDREN
        begun = time.perf_counter()
        size = _dcmqi(folder, segments)
    else:
        who = resource.RUSAGE_SELF
        source = SourceSeries.read(sorted((folder / "images").iterdir()))
        numbered = labels(source.geometry.spatial_shape, segments)
        identity_tags()  # the tables of the standard are loaded once in a process, and a node's process lives on
        masks = [] if objects == "seg" else _masks(source, numbered)
        before = resource.getrusage(who)
        begun = time.perf_counter()
        size = _encode(source, masks, objects) if masks else _LIBRARIES[tool](source, numbered)
    seconds = time.perf_counter() - begun
    used = resource.getrusage(who)
    cpu = used.ru_utime + used.ru_stime
    if tool != "dcmqi":
        cpu -= before.ru_utime + before.ru_stime
    return {"seconds": seconds, "cpu_seconds": cpu, "size": size, "peak_mb": used.ru_maxrss * 1024 / 1e6}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))))
