"""Which algorithms DICOM objects of somebody else name as those that made them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pydicom import Dataset

from node.result_parts import concept_of, is_report, is_segmentation
from pipelines.container.dicom_results import text_of

_NAME, _VERSION = "111001", "111003"
"""Algorithm Name and Algorithm Version (TID 4019)."""
_LONGEST, _MOST = 100, 5


def stated_algorithms(objects: Iterable[Dataset]) -> list[str]:
    """Names with versions of the algorithms of segmentations and reports, else of the equipment; each once."""
    named: list[str] = []
    datasets = [*objects]
    for dataset in datasets:
        if is_segmentation(dataset):
            named += _of_segments(dataset)
        elif is_report(dataset):
            named += _of_items(dataset.get("ContentSequence", ()))
    named = named or [_of_equipment(dataset) for dataset in datasets if is_segmentation(dataset) or is_report(dataset)]
    return [*dict.fromkeys(name[:_LONGEST] for name in named if name)][:_MOST]


def _of_segments(segmentation: Dataset) -> Iterator[str]:
    for segment in segmentation.get("SegmentSequence", ()):
        identified = segment.get("SegmentationAlgorithmIdentificationSequence", ())
        name = text_of(segment.get("SegmentAlgorithmName"))
        names = [
            _together(algorithm.get("AlgorithmName"), algorithm.get("AlgorithmVersion")) for algorithm in identified
        ]
        yield from filter(None, names) if any(names) else [name]


def _of_items(items: Sequence[Dataset]) -> Iterator[str]:
    """Of a content tree: a name, with the version that stands beside it."""
    texts = {concept: item.get("TextValue") for item in items if (concept := concept_of(item)) in (_NAME, _VERSION)}
    if texts.get(_NAME):
        yield _together(texts[_NAME], texts.get(_VERSION))
    for item in items:
        yield from _of_items(item.get("ContentSequence", ()))


def _of_equipment(dataset: Dataset) -> str:
    keywords = ("Manufacturer", "ManufacturerModelName", "SoftwareVersions")
    return _together(*(dataset.get(keyword) for keyword in keywords))


def _together(*parts: object) -> str:
    return " ".join(" ".join(text_of(part) for part in parts).split())
