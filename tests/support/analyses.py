"""Analyses of generated series: masks, findings, every outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from dicom_files import ct_series, write
from pydicom import Dataset, FileDataset

from node.pipeline import Algorithm, Assertion, Code, DerivedSeries, Findings, Lesion, Segment, Volume, codes
from node.results.analysis import Analysis, EncodedObject, outcome_of, reason_of
from node.results.encode import encode
from node.studies.source import SourceSeries

Change = Callable[[FileDataset], None]
ALGORITHM = Algorithm(
    name="Nodule detector",
    version="1.2",
    weights_sha256="ab" * 32,
    parameters={"threshold": "0.5", "precision": "fp32"},
)
MOMENT = datetime(2026, 3, 4, 5, 6, 7, 89, tzinfo=UTC)


def source_of(
    folder: Path, datasets: Sequence[FileDataset], change: Callable[[FileDataset], None] | None = None
) -> SourceSeries:
    """The series as received: written and read again; ``change`` mends or spoils each header first."""
    for dataset in datasets:
        if change is not None:
            change(dataset)
    return SourceSeries.read(write(datasets, folder))


def box(volume: Volume, low: Sequence[int], high: Sequence[int]) -> Volume:
    """A mask on the grid of ``volume``: the box from ``low`` to before ``high``."""
    mask = np.zeros(volume.spatial_shape, np.uint8)
    mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = 1
    return volume.with_array(mask)


def segment(mask: Volume, label: str = "Nodule 1") -> Segment:
    return Segment(label=label, mask=mask, category=codes.SCT.MorphologicallyAbnormalStructure, type=codes.SCT.Nodule)


def two_lesions(source: SourceSeries) -> Findings:
    grid = source.volume("HPL")
    first = segment(box(grid, (1, 10, 8), (4, 16, 20)), "Nodule 1")
    second = segment(box(grid, (0, 3, 3), (2, 8, 5)), "Nodule 2")
    return Findings(
        lesions=(
            Lesion(
                segment=first,
                finding=codes.SCT.Nodule,
                site=codes.SCT.Lung,
                laterality=codes.SCT.Left,
                probability=0.83,
            ),
            Lesion(segment=second, finding=codes.SCT.Nodule, laterality=codes.SCT.Right),
        ),
        remarks=("Research use only.",),
    )


def halved(source: SourceSeries) -> Findings:
    """A derived series: every value half as far from -1000."""
    grid = source.volume("HPL")
    series = DerivedSeries(
        volume=grid.with_array((grid.array + 1000) / 2 - 1000), description="Halved", derivation=codes.DCM.Smoothing
    )
    return Findings(derived=(series,))


NOTHING = Findings(looked_for=(codes.SCT.Nodule,))
"""The explicit negative."""
UNCLEAR = Findings(assertions=(Assertion(finding=codes.SCT.Hemorrhage, presence="indeterminate", probability=0.4),))
JUDGED = Findings(evaluations={Code("C0006141", "UMLS", "Breast density"): Code("C1268728", "UMLS", "Heterogeneous")})


def analysis(findings: Findings | None = None, **changes: object) -> Analysis:
    """Given findings: their outcome; else what ``changes`` say."""
    values: dict[str, object] = {
        "pipeline": "nodule",
        "algorithm": ALGORITHM,
        "generation": 1,
        "outcome": outcome_of(findings or NOTHING),
        "reason": reason_of(findings or NOTHING),
        "findings": findings,
        "analysed_at": MOMENT,
        "timings": {"infer": 1.5},
    }
    return Analysis(**(values | changes))  # type: ignore[arg-type]


OUTCOMES: dict[str, dict[str, object]] = {
    "no findings": {"outcome": "no findings", "findings": NOTHING},
    "indeterminate": {"outcome": "indeterminate", "findings": UNCLEAR},
    "measured": {"outcome": "measured", "findings": JUDGED},
    "not applicable": {"outcome": "not applicable", "reason": "slice spacing 10 mm is more than 5 mm"},
    "failed": {"outcome": "failed", "reason": "the pipeline ran out of memory"},
}


def encoded(folder: Path) -> tuple[SourceSeries, tuple[EncodedObject, ...]]:
    """A CT series with two lesions and a derived series, encoded: derived images, SEG, SR."""
    source = source_of(folder, ct_series(5, 32))
    both = two_lesions(source)
    findings = Findings(lesions=both.lesions, derived=halved(source).derived, remarks=both.remarks)
    return source, encode(analysis(findings), source)


def one(objects: Sequence[EncodedObject], kind: str) -> FileDataset:
    """The only object of its kind."""
    (result,) = [o for o in objects if o.kind == kind]
    return result.dataset


def saved(dataset: FileDataset) -> bytes:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def spoiled(objects: tuple[EncodedObject, ...], kind: str, change: Change) -> tuple[EncodedObject, ...]:
    """The objects with the first of its kind changed."""
    place = next(i for i, o in enumerate(objects) if o.kind == kind)
    dataset = objects[place].dataset
    change(dataset)
    return (*objects[:place], replace(objects[place], data=saved(dataset)), *objects[place + 1 :])


def put(**values: Any) -> Change:
    def change(dataset: FileDataset) -> None:
        for keyword, value in values.items():
            setattr(dataset, keyword, value)

    return change


def walked(item: Dataset) -> Iterator[Dataset]:
    yield item
    for child in item.get("ContentSequence", []):
        yield from walked(child)
