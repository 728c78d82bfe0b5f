"""Which series the parts of a result are about: a SEG as a whole, a report by its measurement groups.

A part is about one series, the first that it names, so that nobody reads it twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

from pydicom import Dataset

_SEGMENTATIONS = {"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"}
"""Segmentation and Label Map Segmentation Storage."""
GROUP = "125007"
"""Measurement Group (PS3.16 TID 1500)."""
LIBRARY = "111028"
"""Image Library: the measurements in it are those of images (PS3.16 TID 1600)."""
_EVIDENCE = ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")


def is_segmentation(dataset: Dataset) -> bool:
    """Whether it is one of the two kinds."""
    return str(dataset.get("SOPClassUID", "")) in _SEGMENTATIONS


def is_report(dataset: Dataset) -> bool:
    """Whether it has a content tree."""
    return str(dataset.get("Modality", "")) == "SR" and "ContentSequence" in dataset


def concept_of(item: Dataset) -> str:
    """Code value of the name of a content item."""
    names = item.get("ConceptNameCodeSequence")
    return str(names[0].get("CodeValue", "")) if names else ""


@dataclass(frozen=True, kw_only=True)
class ResultReferences:
    """What one object names, by the UIDs that it states."""

    series: tuple[str, ...]
    """Series, in the order in which it names them."""
    parts: tuple[tuple[str, ...], ...]
    """The same of each part of it; parts that name the same are one here."""
    frame_of_reference: str = ""
    """Of a SEG, which lies in one."""

    def series_of(self, part: tuple[str, ...], sent: Mapping[str, str]) -> str:
        """Return the series that a part is about, empty when that cannot be known.

        ``sent``: the series that were sent, each with its frame of reference. A part that names none of them is about
        the first that the object names. Where a SEG names several, it is about the first in whose frame of reference it
        lies.
        """
        named = [uid for uid in part if uid in sent] or [uid for uid in self.series if uid in sent]
        if len(named) > 1 and self.frame_of_reference:
            named = [uid for uid in named if sent[uid] == self.frame_of_reference]
        return named[0] if named else ""


def references_of(dataset: Dataset) -> ResultReferences:
    """Return what an object names. Raises what pydicom raises for values of another form."""
    held, series = _named(dataset)
    if is_segmentation(dataset):
        source = _resolved(_source_images(dataset), held, series)
        frame = str(dataset.get("FrameOfReferenceUID") or "")
        return ResultReferences(series=series, parts=(source,), frame_of_reference=frame)
    parts = dict.fromkeys(_resolved(_uids(item), held, series) for _, item in _report_parts(dataset))
    return ResultReferences(series=series, parts=tuple(parts) or ((),))


def keep_parts(report: Dataset, is_kept: Callable[[tuple[str, ...]], bool]) -> None:
    """Remove the parts of a report that are about other series; ``is_kept``: of the series that a part names."""
    held, series = _named(report)
    every = list(_report_parts(report))
    removed = {id(item) for _, item in every if not is_kept(_resolved(_uids(item), held, series))}
    for holder in {id(holder): holder for holder, _ in every}.values():
        holder.ContentSequence = [item for item in holder.ContentSequence if id(item) not in removed]


def _resolved(uids: Iterable[str], held: Mapping[str, str], series: Iterable[str]) -> tuple[str, ...]:
    known = {**held, **{uid: uid for uid in series}}
    return tuple(dict.fromkeys(known[uid] for uid in uids if uid in known))


def _report_parts(holder: Dataset) -> Iterator[tuple[Dataset, Dataset]]:
    """Measurement groups, and measurements outside of them, each with the item that holds it."""
    for item in holder.get("ContentSequence") or ():
        if concept_of(item) == GROUP or item.get("ValueType") == "NUM":
            yield holder, item
        elif concept_of(item) != LIBRARY:
            yield from _report_parts(item)


def _uids(item: Dataset) -> Iterator[str]:
    """UIDs of images, and of other objects, that a content item and those below it name."""
    for reference in item.get("ReferencedSOPSequence") or ():
        yield str(reference.get("ReferencedSOPInstanceUID") or "")
    if uid := str(item.get("UID") or ""):
        yield uid
    for below in item.get("ContentSequence") or ():
        yield from _uids(below)


def _source_images(segmentation: Dataset) -> Iterator[str]:
    frames = segmentation.get("PerFrameFunctionalGroupsSequence") or ()
    shared = segmentation.get("SharedFunctionalGroupsSequence") or ()
    for groups in chain(frames, shared):
        for derivation in groups.get("DerivationImageSequence") or ():
            for source in derivation.get("SourceImageSequence") or ():
                yield str(source.get("ReferencedSOPInstanceUID") or "")


def _named(dataset: Dataset) -> tuple[dict[str, str], tuple[str, ...]]:
    """The series of each instance that an object names, and all series that it names, in their order."""
    named = list(_named_instances(dataset))
    held = {instance: series for series, instance in named if instance}
    return held, tuple(dict.fromkeys(series for series, _ in named))


def _named_instances(dataset: Dataset) -> Iterator[tuple[str, str]]:
    """Series and instances of Referenced Series Sequence (SEG) and of the evidence of reports (PS3.3 C.17.2).

    The instance is empty for a series of which none is named.
    """
    evidence = chain.from_iterable(dataset.get(keyword) or () for keyword in _EVIDENCE)
    for holder in chain((dataset,), evidence):
        for series in holder.get("ReferencedSeriesSequence") or ():
            if uid := str(series.get("SeriesInstanceUID") or ""):
                yield uid, ""
                of_series = (series.get(name) or () for name in ("ReferencedInstanceSequence", "ReferencedSOPSequence"))
                for reference in chain.from_iterable(of_series):
                    yield uid, str(reference.get("ReferencedSOPInstanceUID") or "")
