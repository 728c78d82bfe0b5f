"""References: each must resolve to a received image, a result of this analysis, or its predecessor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread

from node.results.analysis import Source
from node.results.headers import by_frame, frame_key

_FOREIGN = frozenset({
    "RequestAttributesSequence", "ReferencedRequestSequence", "RelatedSeriesSequence", "ContributingSourcesSequence",
})  # fmt: skip
_PREDECESSORS = "PredecessorDocumentsSequence"
_IDENTIFYING = ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "NumberOfFrames"]
_INSTANCES = ("ReferencedSOPSequence", "ReferencedInstanceSequence", "ReferencedImageSequence", "ContourImageSequence")
"""Lists of instances, of a report, of an object with frames, of a presentation state and of a structure set."""


def received(paths: Sequence[Path]) -> dict[Path, Dataset]:
    """Return UID, class, study and series of each file, read from the file itself."""
    return {path: dcmread(path, specific_tags=_IDENTIFYING, stop_before_pixels=True) for path in dict.fromkeys(paths)}


def reference_faults(
    items: Iterable[tuple[str, Dataset]], known: Mapping[str, Dataset], predecessors: Mapping[str, Dataset]
) -> Iterator[str]:
    """Each referenced instance was received or is a result, and is of the class, study and series it is said to be of.

    ``items``: with the keyword of the sequence at their top. References to requests and to other series of the source
    came with its header: they are its business.
    """
    for keyword, item in items:
        if keyword in _FOREIGN:
            continue
        targets = predecessors if keyword == _PREDECESSORS else known
        yield from _instance_faults(keyword, item, targets)
        yield from _place_faults(keyword, item, targets)


def _instance_faults(keyword: str, item: Dataset, targets: Mapping[str, Dataset]) -> Iterator[str]:
    uid = item.get("ReferencedSOPInstanceUID")
    if uid is None:
        return
    if "RTReferencedSeriesSequence" in item:  # it names the study of its series (PS3.3 C.8.8.5)
        if uid not in {target.get("StudyInstanceUID") for target in targets.values()}:
            yield f"{keyword} refers to another study, {uid}"
        return
    target = targets.get(str(uid))
    if target is None:
        wanted = "no predecessor" if keyword == _PREDECESSORS else "neither source nor result"
        yield f"{keyword} refers to {uid}, which is {wanted}"
        return
    if item.get("ReferencedSOPClassUID") != target.SOPClassUID:
        yield f"{keyword} gives {uid} another SOP Class"
    frames = np.atleast_1d(item.get("ReferencedFrameNumber") or [])
    if any(not 1 <= int(frame) <= int(target.get("NumberOfFrames") or 1) for frame in frames):
        yield f"{keyword} refers to a frame that {uid} has not"


def _place_faults(keyword: str, item: Dataset, targets: Mapping[str, Dataset]) -> Iterator[str]:
    """``item`` may be a series that lists its instances, or a study that lists its series."""
    for place, below in (("SeriesInstanceUID", [item]), ("StudyInstanceUID", item.get("ReferencedSeriesSequence"))):
        if not (stated := item.get(place)):
            continue
        listed = [item for part in below or [] for name in _INSTANCES for item in part.get(name) or []]
        for uid in {str(item.get("ReferencedSOPInstanceUID", "")) for item in listed}:
            if uid in targets and targets[uid].get(place) != stated:
                yield f"{keyword} gives {uid} another {place}"


def original_of(image: Dataset, source: Source) -> Dataset | None:
    """Return the source image that ``image`` says it was made from."""
    sources = image.get("SourceImageSequence") or []
    return by_frame(source.datasets).get(frame_key(sources[0])) if sources else None
