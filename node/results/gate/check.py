"""The gate: validates every object before it may leave the node, and reports every fault."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from io import BytesIO
from itertools import chain
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag
from pydicom.uid import (
    Comprehensive3DSRStorage,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    GrayscaleSoftcopyPresentationStateStorage,
    JPEG2000Lossless,
    KeyObjectSelectionDocumentStorage,
    ParametricMapStorage,
    RLELossless,
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from node.errors import GateError
from node.results.analysis import EncodedObject, Source
from node.results.gate.codes import code_faults
from node.results.gate.coordinates import coordinate_faults
from node.results.gate.derived import derived_faults
from node.results.gate.key_image import key_image_faults
from node.results.gate.parametric_map import map_faults
from node.results.gate.pdf import pdf_faults
from node.results.gate.presentation import graphic_faults
from node.results.gate.references import received, reference_faults
from node.results.gate.rejection import rejection_faults
from node.results.gate.rtstruct import contour_faults
from node.results.gate.seg import label_faults, seg_faults
from node.results.gate.sr import report_faults
from node.results.headers import by_instance
from node.results.identity import IDENTITY_MODULES, identity_tags
from node.results.iod import iod_faults
from node.results.predecessor import Predecessor
from node.spool import LARGEST_OBJECT
from node.studies.pydicom_errors import UNREADABLE

_UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))*")


def check(
    objects: Sequence[EncodedObject],
    source: Source,
    predecessor: Predecessor | None = None,
    files: Mapping[Path, Dataset] | None = None,
) -> None:
    """Raise ``GateError`` with every fault of the objects of one analysis, and their kinds; return when there is none.

    Checked: identity byte for byte as in the source's file; UIDs; attributes of type 1 and 2 of the mandatory modules;
    codes are whole and mean what the standard says; references resolve to an image that was received, to another of
    the objects or to the report of ``predecessor``, of the right class, series and study; size; SEG and derived images
    lie where the source's pixels lie; TID 1500 and its coordinates.

    ``files``: what ``received`` returned for all files of the source, if it was asked before there were objects.
    """
    files = received(source.paths) if files is None else files
    images = by_instance([files[path] for path in dict.fromkeys(source.paths)])
    predecessors = by_instance([*predecessor.reports.values()]) if predecessor is not None else {}
    headers = [dcmread(BytesIO(o.data), stop_before_pixels=True) for o in objects]
    results = by_instance(headers)
    known = {**images, **results}
    stated = dcmread(source.paths[0], stop_before_pixels=True)
    # what the scanner left out is not invented; read apart, because looking decodes
    header = dcmread(source.paths[0], stop_before_pixels=True)
    inherited = _inherited(header)
    faults: list[str] = []
    faulty: set[str] = set()
    cause: Exception | None = None
    for uid, count in Counter(str(d.get("SOPInstanceUID", "")) for d in headers).items():
        if count > 1 or uid in images:
            faults.append(f"SOPInstanceUID {uid} is used twice")
            faulty |= {o.kind for o, d in zip(objects, headers, strict=True) if d.get("SOPInstanceUID", "") == uid}
    for encoded in objects:
        dataset = encoded.dataset
        is_copy = encoded.kind.startswith("derived")
        copied = inherited if is_copy else {f for f in inherited if f.startswith(IDENTITY_MODULES)}
        own_faults = [*object_faults(encoded, dataset, stated, known=known, predecessors=predecessors, copied=copied)]
        if str(dataset.get("SeriesInstanceUID", "")) == source.series_instance_uid:
            own_faults.append("SeriesInstanceUID is the source's; a result is a series of its own")
        if not own_faults:  # the deeper checks rely on these
            try:
                own_faults += _kind_faults(encoded.kind, dataset, source, results)
            except UNREADABLE as error:
                own_faults.append(f"lacks what the checks need: {error}")
                cause = error
        name = f"{encoded.kind} {dataset.get('SOPInstanceUID', '')}"
        faults += [f"{name}: {fault}" for fault in own_faults]
        faulty |= {encoded.kind} if own_faults else set()
    _refuse(faults, faulty, cause)


def check_rejection(note: EncodedObject, results: Sequence[Path]) -> None:
    """Raise ``GateError`` with every fault of a rejection note on ``results``; return when there is none.

    It is of the patient and study of the results, has a title that archives act upon, and names each of them.
    """
    dataset = note.dataset
    named = by_instance([dcmread(path, stop_before_pixels=True) for path in results])
    copied = {f for f in iod_faults(next(iter(named.values()))) if f.startswith(IDENTITY_MODULES)}
    stated = dcmread(results[0], stop_before_pixels=True)
    faults = [
        *object_faults(note, dataset, stated, known=named, predecessors={}, copied=copied),
        *rejection_faults(dataset, named.keys()),
    ]
    _refuse([f"{note.kind} {dataset.get('SOPInstanceUID', '')}: {fault}" for fault in faults], {note.kind})


def _inherited(header: Dataset) -> set[str]:
    """Return the faults that the source's own header has, as far as it can be read."""
    inherited: set[str] = set()
    for faults in (iod_faults(header), code_faults(item for _, item in _nested(header))):
        with suppress(*UNREADABLE, RecursionError):
            for fault in faults:
                inherited.add(fault)
    return inherited


def _refuse(faults: Sequence[str], kinds: Collection[str], cause: Exception | None = None) -> None:
    if faults:
        shown = "; ".join(faults[:20]) + (f"; and {len(faults) - 20} more" if len(faults) > 20 else "")
        raise GateError(f"{len(faults)} faults, not sent: {shown}", kinds) from cause


def object_faults(
    encoded: EncodedObject,
    dataset: Dataset,
    stated: Dataset,
    *,
    known: Mapping[str, Dataset],
    predecessors: Mapping[str, Dataset],
    copied: Collection[str],
) -> Iterator[str]:
    """Return the faults of one object; ``copied``: faults of the IOD that the source's own header has."""
    yield from identity_faults(dataset, stated)  # first of all: it compares what nobody has decoded yet
    yield from uid_faults(dataset)
    items = [*_nested(dataset)]
    own = chain(iod_faults(dataset), code_faults(item for _, item in items))
    yield from (fault for fault in own if fault not in copied)
    yield from reference_faults(items, known, predecessors)
    if len(encoded.data) > LARGEST_OBJECT:
        yield f"it has {len(encoded.data)} bytes; archives take at most {LARGEST_OBJECT}"


SOP_CLASSES = {
    "seg": SegmentationStorage,
    "image seg": SegmentationStorage,
    "sr": Comprehensive3DSRStorage,
    "sr on labelmap": Comprehensive3DSRStorage,
    "sr alone": Comprehensive3DSRStorage,
    "key images": SecondaryCaptureImageStorage,
    "pdf": EncapsulatedPDFStorage,
    "presentation state": GrayscaleSoftcopyPresentationStateStorage,
    "key object selection": KeyObjectSelectionDocumentStorage,
    "parametric map": ParametricMapStorage,
    "rtstruct": RTStructureSetStorage,
    "rejection": KeyObjectSelectionDocumentStorage,
}
"""Of each kind of object; derived images are of the source's class, a label map may have to be a BINARY SEG."""


def _kind_faults(kind: str, dataset: Dataset, source: Source, results: Mapping[str, Dataset]) -> Iterator[str]:
    expected = SOP_CLASSES.get(kind, dataset.SOPClassUID)
    if dataset.SOPClassUID != expected:
        yield f"SOPClassUID is {dataset.SOPClassUID}, not {expected}"
    elif kind == "labelmap" and dataset.SegmentationType == "LABELMAP":
        yield from label_faults(dataset, source)
    elif kind in ("seg", "labelmap", "image seg"):
        yield from seg_faults(dataset, source)
    elif kind.startswith("sr"):
        yield from report_faults(dataset, results)
        yield from coordinate_faults(dataset, source)
    elif kind == "pdf":
        yield from pdf_faults(dataset)
    elif kind in _IMAGE_FAULTS:
        yield from _IMAGE_FAULTS[kind](dataset, source)


_IMAGE_FAULTS = {
    "derived": derived_faults,
    "derived j2k": derived_faults,
    "key images": key_image_faults,
    "parametric map": map_faults,
    "presentation state": graphic_faults,
    "rtstruct": contour_faults,
}


def identity_faults(dataset: Dataset, stated: Dataset) -> Iterator[str]:
    """Compare patient and study with the source's file, undecoded; empty equals absent."""
    for tag in sorted(identity_tags()):
        ours, theirs = _raw(dataset, tag), _raw(stated, tag)
        if ours != theirs:
            yield f"{keyword_for_tag(tag)} is not the source's"


def _raw(dataset: Dataset, tag: BaseTag) -> object:
    element = dataset.get_item(tag) if tag in dataset else None
    if element is None:
        return None
    is_text = dictionary_VR(tag) not in ("SQ", "US")
    if is_text and isinstance(element, RawDataElement) and element.value is not None:
        return element.value.rstrip(b" \0") or None
    return dataset[tag].value or None


def uid_faults(dataset: Dataset) -> Iterator[str]:
    """Every UID is well-formed (PS3.5 9.1), and the file meta agrees with the data set."""
    for item in walk(dataset):
        for element in list(item.values()):
            if element.VR == "UI" and element.value:
                value = item[element.tag].value
                for uid in [value] if isinstance(value, str) else value:
                    if len(uid) > 64 or not _UID.fullmatch(uid):
                        yield f"{keyword_for_tag(element.tag)} {str(uid)[:70]!r} is no UID"
    meta = dataset.file_meta
    if meta.MediaStorageSOPInstanceUID != dataset.get("SOPInstanceUID"):
        yield "MediaStorageSOPInstanceUID differs from SOPInstanceUID"
    if meta.MediaStorageSOPClassUID != dataset.get("SOPClassUID"):
        yield "MediaStorageSOPClassUID differs from SOPClassUID"
    if meta.TransferSyntaxUID not in (ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless):
        yield f"TransferSyntaxUID is {meta.TransferSyntaxUID}, not Explicit VR Little Endian or a lossless one"


def _nested(dataset: Dataset) -> Iterator[tuple[str, Dataset]]:
    """Yield every nested item with the keyword of its top-level sequence, except copied identity."""
    identity = identity_tags()
    for raw in list(dataset.values()):
        if raw.tag in identity or (isinstance(raw, RawDataElement) and raw.VR not in (None, "SQ", "UN")):
            continue  # no sequence: decoding it may fail, and pixels are not read
        element = dataset[raw.tag]
        if element.VR == "SQ":
            yield from ((element.keyword, item) for top in element.value for item in walk(top))


def walk(dataset: Dataset) -> Iterator[Dataset]:
    """The data set and every item nested in it."""
    yield dataset
    for element in list(dataset.values()):
        if element.VR == "SQ":
            for item in dataset[element.tag].value:
                yield from walk(item)
