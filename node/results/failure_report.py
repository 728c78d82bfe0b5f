"""Failure report that needs only UIDs and identity, so that no content of the images can prevent it.

Identity is copied from the bytes of a file (``node.studies.element_bytes``): texts of the Patient and Study modules.
Their sequences are left out, because their content would have to be understood. What it says is in ``node.errors``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from pydicom import Dataset
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag
from pydicom.valuerep import STR_VR

from node.errors import GateError, IdentityError, InputError
from node.results.analysis import Analysis, EncodedObject, Kind
from node.results.gate.check import object_faults
from node.results.gate.sr import report_faults
from node.results.headers import by_instance, headers_for_highdicom, restore_references
from node.results.identity import Identity, identity_tags
from node.results.part10 import finish
from node.results.sr import encode_sr
from node.results.uids import analysis_key
from node.studies.element_bytes import top_elements
from node.studies.identity import contradictions
from node.studies.minimal_series import MinimalSeries

_KINDS: tuple[Kind, ...] = ("sr", "sr on labelmap", "sr alone")


def stated_identity(paths: Collection[Path]) -> Dataset:
    """Return the undecoded identity texts of the first file that can be parsed.

    Raises ``InputError`` when there is none, ``IdentityError`` when the files contradict one another.
    """
    tags = frozenset(tag for tag in identity_tags() if dictionary_VR(tag) in STR_VR)
    headers: list[Dataset] = []
    faults: list[str] = []
    for path in paths:
        try:
            values = top_elements(path, tags)
        except InputError as error:
            faults.append(str(error))
        else:
            headers.append(Dataset({BaseTag(tag): _raw(BaseTag(tag), value) for tag, value in values.items()}))
    if not headers:
        raise InputError(f"no file says whose images they are: {faults[0] if faults else 'there is none'}")
    if keywords := contradictions([_copy(header) for header in headers]):
        raise IdentityError(f"{', '.join(keywords)}: the images contradict one another; send them under one identity")
    return headers[0]


def identity_of(stated: Dataset) -> Identity:
    """Return the result of ``stated_identity`` as an ``Identity`` to stamp on objects."""
    return Identity.from_elements(tuple(stated.elements()))


def encode_failure_reports(
    analysis: Analysis, source: MinimalSeries, kinds: Collection[str], stated: Dataset
) -> tuple[EncodedObject, ...]:
    """Encode a failure report of each report kind in ``kinds``, at least one, validated like every object.

    ``analysis``: one that failed; ``stated``: as ``stated_identity`` reads it. Raises ``GateError``.
    """
    identity = identity_of(stated)
    key = analysis_key(analysis, source, identity)
    headers = headers_for_highdicom(source)
    objects: list[EncodedObject] = []
    for kind in [kind for kind in _KINDS if kind in kinds] or [_KINDS[0]]:
        report = encode_sr(analysis, source, headers, findings=(), regions=(), seg=None, others=(), key=key, kind=kind)
        restore_references(report, source)
        data = finish(report, analysis, identity)
        objects.append(EncodedObject(data=data, kind=kind, description=str(report.SeriesDescription)))
    faults = [f"{encoded.kind}: {fault}" for encoded in objects for fault in _faults(encoded, source, stated)]
    if faults:
        raise GateError(
            f"{len(faults)} faults, not sent: {'; '.join(faults[:20])}", {encoded.kind for encoded in objects}
        )
    return tuple(objects)


def _faults(encoded: EncodedObject, source: MinimalSeries, stated: Dataset) -> Iterator[str]:
    dataset, images = encoded.dataset, by_instance(source.datasets)
    if dataset.SOPInstanceUID in images:
        yield f"SOPInstanceUID {dataset.SOPInstanceUID} is used twice"
    if dataset.SeriesInstanceUID == source.series_instance_uid:
        yield "SeriesInstanceUID is the source's; a result is a series of its own"
    theirs = _copy(stated)
    theirs.get("SpecificCharacterSet")  # decoded, as in everything that pydicom has read
    yield from object_faults(encoded, dataset, theirs, known=images, predecessors={}, copied=())
    yield from report_faults(dataset, {})


def _raw(tag: BaseTag, value: bytes) -> RawDataElement:
    vr = dictionary_VR(tag)
    if len(value) % 2:
        value += b"\0" if vr == "UI" else b" "
    return RawDataElement(tag, vr, len(value), value, 0, is_implicit_VR=False, is_little_endian=True)


def _copy(dataset: Dataset) -> Dataset:
    """Looking at an element decodes it where it is."""
    return Dataset({element.tag: element for element in dataset.elements()})
